//! Lists of a table's rows that readers ask for by name: what can be sold no more, what is due next.
//!
//! A store of keys keeps each list beside the rows, as a set or a set in order, and changes it with
//! them in one step. A store that can search keeps an index over just the rows listed.

use super::{NamePattern, Table};
use crate::value::{ColumnType, Value};

/// A list of rows, as a projection declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pattern: &'static str,
    member: &'static str,
    score: Option<&'static str>,
    at_most: Option<(&'static str, i64)>,
}

impl Listing {
    /// A set of the values of a column. `pattern` names the list; columns in it make many lists of it.
    pub const fn set(pattern: &'static str, member: &'static str) -> Self {
        Self {
            pattern,
            member,
            score: None,
            at_most: None,
        }
    }

    /// The same in the order of another column, a whole number or a moment. A row in which it is empty
    /// is not listed.
    pub const fn sorted(pattern: &'static str, member: &'static str, score: &'static str) -> Self {
        Self {
            score: Some(score),
            ..Self::set(pattern, member)
        }
    }

    /// Lists only rows in which that column, a whole number, is at most so large.
    #[must_use]
    pub const fn at_most(mut self, column: &'static str, bound: i64) -> Self {
        self.at_most = Some((column, bound));
        self
    }

    /// Finds its columns in a table.
    ///
    /// # Panics
    /// If the table lacks one or it is of the wrong type, or two rows could be the same member of one
    /// list.
    pub(super) fn resolve(&self, table: &Table) -> List {
        let column = |name: &str, types: &[ColumnType]| {
            let position = table.position(name);
            let position = position.filter(|at| types.contains(&table.columns[*at].column_type));
            position.unwrap_or_else(|| {
                panic!(
                    "list {} of table {}: no column {name} of type {types:?}",
                    self.pattern, table.name
                )
            })
        };
        let numbers = [ColumnType::Integer, ColumnType::Timestamp];
        let list = List {
            pattern: NamePattern::parse(table, self.pattern),
            member: column(self.member, &[ColumnType::Text, ColumnType::Integer]),
            score: self.score.map(|score| column(score, &numbers)),
            at_most: self
                .at_most
                .map(|(name, bound)| (column(name, &[ColumnType::Integer]), bound)),
        };
        let told = |key: &usize| *key == list.member || list.pattern.columns().any(|c| c == *key);
        assert!(
            (0..table.key_len).all(|key| told(&key)),
            "list {} of table {} does not name the whole key: rows would be mixed up",
            self.pattern,
            table.name
        );
        list
    }
}

/// A [`Listing`] of a table, with its columns by their places in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name.
    pub pattern: NamePattern,
    /// What is listed of a row: text or a whole number.
    pub member: usize,
    /// What orders it: a whole number or a moment.
    pub score: Option<usize>,
    /// The column that must hold at most so much.
    pub at_most: Option<(usize, i64)>,
}

impl List {
    /// Whether a row with these values is listed.
    pub fn lists(&self, values: &[Value]) -> bool {
        let mut needed = self
            .pattern
            .columns()
            .chain([self.member])
            .chain(self.score);
        let within = |(column, bound): (usize, i64)| match &values[column] {
            Value::Integer(number) => *number <= bound,
            _ => false,
        };
        needed.all(|column| values[column] != Value::Null) && self.at_most.is_none_or(within)
    }

    /// The columns that an index of it needs, in their order.
    pub fn index_columns(&self) -> Vec<usize> {
        let last = self.score.unwrap_or(self.member);
        self.pattern.columns().chain([last]).collect()
    }

    /// The list as text, to notice a change.
    pub fn describe(&self, table: &Table) -> String {
        let name = |column: usize| table.columns[column].name;
        let score = self.score.map(|score| format!(" by {}", name(score)));
        let only = self
            .at_most
            .map(|(column, bound)| format!(" where {} <= {bound}", name(column)));
        format!(
            "{} in {}{}{}",
            name(self.member),
            self.pattern.text(),
            score.unwrap_or_default(),
            only.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new("task", &[("id", ColumnType::Text)])
            .column("zone", ColumnType::Text)
            .column("depth", ColumnType::Integer)
            .column("since", ColumnType::Timestamp)
    }

    #[test]
    fn a_row_is_listed_when_all_that_the_list_needs_is_there() {
        let table = table();
        let sorted = Listing::sorted("tq:{zone}", "id", "since").resolve(&table);
        let row = |zone: Value, since: Value| vec!["T-1".into(), zone, Value::Integer(0), since];
        assert!(sorted.lists(&row("A".into(), Value::Timestamp(5))));
        assert!(!sorted.lists(&row(Value::Null, Value::Timestamp(5))));
        assert!(!sorted.lists(&row("A".into(), Value::Null)));
        assert_eq!(sorted.index_columns(), [1, 3]);
        assert_eq!(sorted.describe(&table), "id in tq:{zone} by since");

        let out = Listing::set("task:out", "id")
            .at_most("depth", 0)
            .resolve(&table);
        let row = |depth| vec!["T-1".into(), Value::Null, depth, Value::Null];
        assert!(out.lists(&row(Value::Integer(-1))) && out.lists(&row(Value::Integer(0))));
        assert!(!out.lists(&row(Value::Integer(1))) && !out.lists(&row(Value::Null)));
        assert!(out.pattern.is_constant());
    }

    #[test]
    #[should_panic(expected = "does not name the whole key")]
    fn members_must_tell_rows_apart() {
        Listing::set("task:zones", "zone").resolve(&table());
    }

    #[test]
    #[should_panic(expected = "no column depth of type")]
    fn members_are_texts_or_numbers_and_scores_numbers() {
        Listing::sorted("task:all", "id", "zone")
            .at_most("depth", 1)
            .resolve(
                &Table::new("task", &[("id", ColumnType::Text)])
                    .column("zone", ColumnType::Timestamp)
                    .column("depth", ColumnType::Text),
            );
    }
}
