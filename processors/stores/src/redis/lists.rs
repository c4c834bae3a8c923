//! Lists of rows: which of them a row is in, and what a changed row changes in them.
//!
//! A list is a set of the members' values, or a set in order of their scores. What a row was listed
//! as follows from the row as it was read, which the writing script finds unchanged or writes nothing.

use std::collections::BTreeMap;

use conveyor_processors::{Row, Value};

use super::names::list_name;

/// Where a row is listed: by name of the list and member, its score (none: a plain set).
pub(super) type Entries = BTreeMap<(String, String), Option<i64>>;

/// Where a row is listed.
pub(super) fn entries_of(row: Option<&Row>) -> Entries {
    let Some(row) = row else {
        return Entries::new();
    };
    let lists = row.table().lists().iter();
    let listed = lists.filter(|list| list.lists(row.values()));
    listed
        .map(|list| {
            let member = match &row.values()[list.member] {
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => text.clone(),
                other => unreachable!("{other:?} cannot be a member"),
            };
            let score = list.score.map(|column| match &row.values()[column] {
                Value::Integer(number) | Value::Timestamp(number) => *number,
                other => unreachable!("{other:?} cannot be a score"),
            });
            ((list_name(list, row), member), score)
        })
        .collect()
}

/// What is to be done to the lists of one batch. Removals come first, as a row may take another's
/// place.
#[derive(Debug, Default)]
pub(super) struct ListChanges {
    /// Names of the lists, and whether each is in order.
    pub(super) lists: Vec<(String, bool)>,
    pub(super) steps: Vec<Step>,
}

/// One member in or out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Number of the list, from 0.
    pub(super) list: usize,
    pub(super) member: String,
    pub(super) what: What,
}

/// What is done to a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Remove,
    Add,
    AddAt(i64),
}

impl ListChanges {
    /// From what rows were listed as to what they are listed as, a pair for each row.
    pub(super) fn between(rows: &[(Entries, Entries)]) -> Self {
        let mut changes = Self::default();
        for (before, after) in rows {
            for ((list, member), score) in before {
                if !after.contains_key(&(list.clone(), member.clone())) {
                    changes.add(list, member, score.is_some(), What::Remove);
                }
            }
        }
        for (before, after) in rows {
            for (place, score) in after {
                if before.get(place) != Some(score) {
                    let what = score.map_or(What::Add, What::AddAt);
                    changes.add(&place.0, &place.1, score.is_some(), what);
                }
            }
        }
        changes
    }

    fn add(&mut self, name: &str, member: &str, in_order: bool, what: What) {
        let known = self.lists.iter().position(|(known, _)| known == name);
        let list = known.unwrap_or_else(|| {
            self.lists.push((name.to_owned(), in_order));
            self.lists.len() - 1
        });
        let member = member.to_owned();
        self.steps.push(Step { list, member, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(of: &[(&str, &str, Option<i64>)]) -> Entries {
        let entry = |(list, member, score): &(&str, &str, Option<i64>)| {
            (((*list).to_owned(), (*member).to_owned()), *score)
        };
        of.iter().map(entry).collect()
    }

    #[test]
    fn only_what_differs_is_done_and_removals_first() {
        let moved = (
            entries(&[("tq:A", "T-1", Some(5)), ("all", "T-1", None)]),
            entries(&[("tq:B", "T-1", Some(5)), ("all", "T-1", None)]),
        );
        let later = (
            entries(&[("tq:A", "T-2", Some(5))]),
            entries(&[("tq:A", "T-2", Some(6))]),
        );
        let gone = (entries(&[("tq:B", "T-3", Some(1))]), Entries::new());
        let changes = ListChanges::between(&[moved, later, gone]);
        assert_eq!(
            changes.lists,
            [("tq:A".to_owned(), true), ("tq:B".to_owned(), true)]
        );
        let step = |list, member: &str, what| Step {
            list,
            member: member.to_owned(),
            what,
        };
        assert_eq!(
            changes.steps,
            [
                step(0, "T-1", What::Remove),
                step(1, "T-3", What::Remove),
                step(1, "T-1", What::AddAt(5)),
                step(0, "T-2", What::AddAt(6)),
            ]
        );
    }
}
