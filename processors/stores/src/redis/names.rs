//! The names of keys. All keys of a projection have its name in braces, so that a cluster keeps them
//! together: `conveyor:{atp}:atp:SKU-1`.
//!
//! Names that begin with `@` are ours: `@positions`, `@declaration`, `@versions`, and for each table
//! the set of its rows, `@atp`.

use conveyor_processors::Declaration;
use conveyor_processors::build::BuildName;
use conveyor_processors::record::TopicPartition;

/// The keys of one build of a projection.
#[derive(Clone, Debug)]
pub(super) struct Names {
    base: String,
    /// What follows our own names: nothing for the live build, `@2` for another.
    suffix: String,
}

impl Names {
    pub(super) fn new(prefix: &str, declaration: &Declaration) -> Self {
        match declaration.build() {
            Some(build) => Self::of_build(prefix, build),
            None => Self::live(prefix, declaration.name()),
        }
    }

    /// Those of the live build.
    pub(super) fn live(prefix: &str, projection: &str) -> Self {
        Self {
            base: format!("{prefix}:{{{projection}}}"),
            suffix: String::new(),
        }
    }

    /// Those of a build that is not live.
    pub(super) fn of_build(prefix: &str, build: &BuildName) -> Self {
        Self {
            suffix: format!("@{}", build.tag()),
            ..Self::live(prefix, build.projection())
        }
    }

    /// What all keys of the projection begin with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A set: the names of all projections of a store.
    pub(super) fn projections(prefix: &str) -> String {
        format!("{prefix}:@projections")
    }

    /// A set: the names of the projection's builds.
    pub(super) fn builds(&self) -> String {
        format!("{}:@builds", self.base)
    }

    /// A hash: of each partition the offset (`-` for none) and the owner's epoch.
    pub(super) fn positions(&self) -> String {
        format!("{}:@positions{}", self.base, self.suffix)
    }

    /// A number that grows with each transaction: the versions of rows.
    pub(super) fn versions(&self) -> String {
        format!("{}:@versions{}", self.base, self.suffix)
    }

    /// A hash: layout, version, text and tag of the declaration.
    pub(super) fn declaration(&self) -> String {
        format!("{}:@declaration{}", self.base, self.suffix)
    }

    /// A set: the names of the rows of a table, which is named as in the store.
    pub(super) fn table(&self, table: &str) -> String {
        format!("{}:@{table}", self.base)
    }

    /// A hash: a row. `name` is what [`name_of`](crate::key_order::name_of) makes of its key.
    pub(super) fn row(&self, table: &str, name: &str) -> String {
        format!("{}:{table}:{name}", self.base)
    }
}

/// A partition as a field: `order-events/3`.
pub(super) fn field_of(partition: &TopicPartition) -> String {
    format!("{}/{}", partition.topic, partition.partition)
}

/// The partition of a field, if it is one.
pub(super) fn partition_of(field: &str) -> Option<TopicPartition> {
    let (topic, number) = field.rsplit_once('/')?;
    Some(TopicPartition::new(topic, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_rows_are_readable() {
        let names = Names::live("paklog", "atp");
        assert_eq!(names.row("atp", "SKU-1"), "paklog:{atp}:atp:SKU-1");
        let build = BuildName::new("atp", "2").unwrap();
        let names = Names::of_build("paklog", &build);
        assert_eq!(names.positions(), "paklog:{atp}:@positions@2");
    }

    #[test]
    fn partitions_come_back() {
        let partition = TopicPartition::new("order-events", 3);
        assert_eq!(partition_of(&field_of(&partition)), Some(partition));
        assert_eq!(partition_of("nothing"), None);
    }
}
