//! The names of keys. All keys of a projection have its name in braces, so that a cluster keeps them
//! together: `conveyor:{atp}:atp:SKU-1`.
//!
//! Names that begin with `@` are ours: `@positions`, `@declaration`, `@versions`, and for each table
//! the set of its rows, `@atp`.

use conveyor_processors::record::TopicPartition;

/// The keys of one projection.
#[derive(Clone, Debug)]
pub(super) struct Names {
    base: String,
}

impl Names {
    pub(super) fn new(prefix: &str, projection: &str) -> Self {
        Self {
            base: format!("{prefix}:{{{projection}}}"),
        }
    }

    /// A hash: of each partition the offset (`-` for none) and the owner's epoch.
    pub(super) fn positions(&self) -> String {
        format!("{}:@positions", self.base)
    }

    /// A number that grows with each transaction: the versions of rows.
    pub(super) fn versions(&self) -> String {
        format!("{}:@versions", self.base)
    }

    /// A hash: layout, version and text of the declaration.
    pub(super) fn declaration(&self) -> String {
        format!("{}:@declaration", self.base)
    }

    /// A set: the names of a table's rows.
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
        let names = Names::new("paklog", "atp");
        assert_eq!(names.row("atp", "SKU-1"), "paklog:{atp}:atp:SKU-1");
    }

    #[test]
    fn partitions_come_back() {
        let partition = TopicPartition::new("order-events", 3);
        assert_eq!(partition_of(&field_of(&partition)), Some(partition));
        assert_eq!(partition_of("nothing"), None);
    }
}
