//! The names of keys: `paklog:atp:SKU-1`, a row as its table names it; `paklog:atp@2:SKU-1`, the same
//! of another build; `paklog:atp:out`, a list of rows. What begins with `@` is ours:
//! `paklog:@atp:positions`.
//!
//! A cluster keeps together what has the same word in braces, so there all keys of a projection begin
//! with its name in them: `{atp}paklog:atp:SKU-1`.
//!
//! Tables say what a row is called after the prefix ([`NamePattern`]); that is its *name* here. Parts
//! that hold `:` or `%` have them as in addresses, and so has a row that would otherwise be called
//! like a list: sku `out` is `paklog:atp:%6Fut`.

use conveyor_processors::build::BuildName;
use conveyor_processors::record::TopicPartition;
use conveyor_processors::table::{List, NamePart, NamePattern};
use conveyor_processors::{Declaration, KeyPart, Row, RowKey, Table, Value};

use super::link::Address;
use crate::key_order::escaped;

/// What all keys of a store begin with.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) prefix: String,
    /// What keys of layout 1 begin with.
    pub(super) prefix_of_layout_1: String,
    /// Whether the servers are a cluster.
    pub(super) is_cluster: bool,
}

impl Space {
    pub(super) fn of(address: &Address) -> Self {
        Self {
            prefix: address.prefix.clone(),
            prefix_of_layout_1: address.prefix_of_layout_1.clone(),
            is_cluster: address.is_cluster(),
        }
    }

    /// A set: the names of all projections of a store.
    pub(super) fn projections(&self) -> String {
        format!("{}:@projections", self.prefix)
    }

    /// A hash: the first words of names, and whose each is.
    pub(super) fn stems(&self) -> String {
        format!("{}:@stems", self.prefix)
    }

    pub(super) fn names(&self, declaration: &Declaration) -> Names {
        match declaration.build() {
            Some(build) => self.of_build(build),
            None => self.live(declaration.name()),
        }
    }

    /// Those of the live build.
    pub(super) fn live(&self, projection: &str) -> Names {
        let tag = if self.is_cluster {
            format!("{{{projection}}}")
        } else {
            String::new()
        };
        let space = format!("{tag}{}:", self.prefix);
        Names {
            own: format!("{space}@{projection}:"),
            of_layout_1: format!("{}:{{{projection}}}:@declaration", self.prefix_of_layout_1),
            space,
            build: String::new(),
        }
    }

    /// Those of a build that is not live.
    pub(super) fn of_build(&self, build: &BuildName) -> Names {
        Names {
            build: format!("@{}", build.tag()),
            ..self.live(build.projection())
        }
    }
}

/// The keys of one build of a projection.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Begins all keys of the projection.
    space: String,
    /// Begins our own.
    own: String,
    /// What follows the first word of a name: nothing for the live build, `@2` for another.
    build: String,
    of_layout_1: String,
}

impl Names {
    /// What all keys of the projection begin with.
    pub(super) fn space(&self) -> &str {
        &self.space
    }

    /// What our own keys begin with.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// A set: the names of the projection's builds.
    pub(super) fn builds(&self) -> String {
        format!("{}builds", self.own)
    }

    /// A hash: of each partition the offset (`-` for none) and the owner's epoch.
    pub(super) fn positions(&self) -> String {
        format!("{}positions{}", self.own, self.build)
    }

    /// A number that grows with each transaction: the versions of rows.
    pub(super) fn versions(&self) -> String {
        format!("{}versions{}", self.own, self.build)
    }

    /// A hash: layout, version, text and tag of the declaration.
    pub(super) fn declaration(&self) -> String {
        format!("{}declaration{}", self.own, self.build)
    }

    /// The same as layout 1 named it, for the live build.
    pub(super) fn declaration_of_layout_1(&self) -> &str {
        &self.of_layout_1
    }

    /// A set: the names of a table's rows.
    pub(super) fn rows(&self, table: &str) -> String {
        format!("{}rows:{table}{}", self.own, self.build)
    }

    /// A set: the names of the lists that are not empty.
    pub(super) fn lists(&self) -> String {
        format!("{}lists{}", self.own, self.build)
    }

    /// The key of what has that name: a row's hash, a list's set.
    pub(super) fn key(&self, name: &str) -> String {
        let (stem, rest) = name.split_at(name.find(':').unwrap_or(name.len()));
        format!("{}{stem}{}{rest}", self.space, self.build)
    }
}

/// Names the rows of one table of a declaration.
pub(super) struct RowNames {
    pattern: NamePattern,
    /// The lists that a row could be taken for.
    lists: Vec<String>,
}

impl RowNames {
    pub(super) fn of(declaration: &Declaration, table: &Table) -> Self {
        let lists = declaration.tables().iter().flat_map(|table| table.lists());
        let constant = lists.filter(|list| list.pattern.is_constant());
        Self {
            pattern: table.row_name(),
            lists: constant
                .map(|list| list.pattern.text().to_owned())
                .collect(),
        }
    }

    /// The name of a row. Never the same for two.
    pub(super) fn name(&self, key: &RowKey) -> String {
        let name = joined(&self.pattern, |index| match &key.parts[index] {
            KeyPart::Text(text) => escaped(text),
            KeyPart::Integer(number) => number.to_string(),
        });
        if !self.lists.contains(&name) {
            return name;
        }
        // A list's last part is a plain word.
        let (before, last) = name.split_at(name.rfind(':').map_or(0, |colon| colon + 1));
        let (first, rest) = last.split_at(1);
        format!("{before}%{:02X}{rest}", first.as_bytes()[0])
    }
}

/// The name of the list that a row is in.
pub(super) fn list_name(list: &List, row: &Row) -> String {
    joined(&list.pattern, |index| text_of(&row.values()[index]))
}

/// A text or a number as a part of a name.
fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => escaped(text),
        Value::Integer(number) => number.to_string(),
        Value::Timestamp(ms) => ms.to_string(),
        Value::Boolean(truth) => i32::from(*truth).to_string(),
        Value::Real(number) => escaped(&format!("{number:?}")),
        Value::Json(json) => escaped(&json.to_string()),
        Value::Null => String::new(),
    }
}

fn joined(pattern: &NamePattern, value: impl Fn(usize) -> String) -> String {
    let parts = pattern.parts().iter().map(|part| match part {
        NamePart::Word(word) => word.clone(),
        NamePart::Column(index) => value(*index),
    });
    parts.collect::<Vec<_>>().join(":")
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
    use conveyor_processors::{ColumnType, Listing};

    use super::*;

    fn space(is_cluster: bool) -> Space {
        Space {
            prefix: "paklog".to_owned(),
            prefix_of_layout_1: "conveyor".to_owned(),
            is_cluster,
        }
    }

    #[test]
    fn keys_are_readable() {
        let names = space(false).live("atp");
        assert_eq!(names.key("atp:SKU-1"), "paklog:atp:SKU-1");
        assert_eq!(names.positions(), "paklog:@atp:positions");
        assert_eq!(
            names.declaration_of_layout_1(),
            "conveyor:{atp}:@declaration"
        );
        let build = BuildName::new("atp", "2").unwrap();
        let names = space(false).of_build(&build);
        assert_eq!(names.key("atp:SKU-1"), "paklog:atp@2:SKU-1");
        assert_eq!(names.rows("atp"), "paklog:@atp:rows:atp@2");
        assert_eq!(
            space(true).of_build(&build).key("atp:out"),
            "{atp}paklog:atp@2:out"
        );
        assert_eq!(space(true).live("atp").lists(), "{atp}paklog:@atp:lists");
    }

    #[test]
    fn rows_are_called_as_their_table_says_and_never_like_a_list() {
        let table = Table::new("atp", &[("sku", ColumnType::Text)])
            .column("atp", ColumnType::Integer)
            .listed(&Listing::set("atp:out", "sku").at_most("atp", 0));
        let places = [("wh", ColumnType::Text), ("type", ColumnType::Text)];
        let queue = Table::new("queue", &places).named("tq:{wh}:{type}:stats");
        let declaration = Declaration::new("atp", 1).table(table).table(queue);
        let name = |table: usize, parts: &[&str]| {
            let table = &declaration.tables()[table];
            let parts = parts.iter().map(|part| KeyPart::from(*part));
            let key = RowKey::of(table.name(), parts);
            RowNames::of(&declaration, table).name(&key)
        };
        assert_eq!(name(0, &["SKU-1"]), "atp:SKU-1");
        assert_eq!(name(0, &["out"]), "atp:%6Fut");
        assert_eq!(name(0, &["%6Fut"]), "atp:%256Fut");
        assert_eq!(name(1, &["WH:1", "PICK"]), "tq:WH%3A1:PICK:stats");
    }

    #[test]
    fn partitions_come_back() {
        let partition = TopicPartition::new("order-events", 3);
        assert_eq!(partition_of(&field_of(&partition)), Some(partition));
        assert_eq!(partition_of("nothing"), None);
    }
}
