//! The rows that a batch of events works on: loaded from the store, changed in memory, written back
//! in the same transaction.
//!
//! What one event does can be taken back ([`Rows::roll_back`]) without touching what the events
//! before it did, so that one bad record does not cost the batch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::projection::{ApplyError, Declaration};
use crate::record::{Source, TopicPartition};
use crate::table::{Row, RowKey, Table};
use crate::timers::{Timer, TimerRules};

/// What a transaction writes to one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The row is to be as given, whether it is there or not.
    Put(Row),
    /// The row is to be gone.
    Delete(RowKey),
}

/// The working set of one transaction.
#[derive(Debug)]
pub struct Rows {
    tables: HashMap<&'static str, Arc<Table>>,
    slots: HashMap<RowKey, Slot>,
    timers: Option<TimerRules>,
    /// What the present event has changed so far, as it was before; the latest last.
    undo: Vec<(RowKey, Slot)>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    row: Option<Row>,
    /// Whether it differs from what the store holds.
    changed: bool,
    /// Whether the present event is in `undo` with it.
    saved: bool,
}

impl Rows {
    /// An empty working set.
    pub fn new(declaration: &Declaration) -> Self {
        let tables = declaration
            .tables()
            .iter()
            .map(|t| (t.name(), Arc::clone(t)))
            .collect();
        Self {
            tables,
            slots: HashMap::new(),
            timers: declaration.timer_rules().copied(),
            undo: Vec::new(),
        }
    }

    /// Tells what the store holds under a key. Called by the store's transaction before the fold.
    ///
    /// # Panics
    /// If the table is not declared.
    pub fn load(&mut self, key: RowKey, row: Option<Row>) {
        assert!(
            self.tables.contains_key(key.table),
            "table {} is not declared",
            key.table
        );
        self.slots.insert(
            key,
            Slot {
                row,
                ..Slot::default()
            },
        );
    }

    /// Asks for rows that another row has named: fine if all of them are loaded, else an error to
    /// hand on, which has them loaded at once.
    pub fn ask(&self, keys: impl IntoIterator<Item = RowKey>) -> Result<(), ApplyError> {
        let missing = keys.into_iter().filter(|key| !self.slots.contains_key(key));
        let keys: Vec<_> = missing.collect();
        if keys.is_empty() {
            return Ok(());
        }
        Err(ApplyError::NotNamed { keys })
    }

    /// The row as it is now, if there is one.
    pub fn get(&self, key: &RowKey) -> Result<Option<&Row>, ApplyError> {
        match self.slots.get(key) {
            Some(slot) => Ok(slot.row.as_ref()),
            None => Err(not_named(key)),
        }
    }

    /// The row to change; a new one ([`Row::new`]) if there is none.
    pub fn edit(&mut self, key: &RowKey) -> Result<&mut Row, ApplyError> {
        let table = self.tables.get(key.table).ok_or_else(|| not_named(key))?;
        let slot = self.slots.get_mut(key).ok_or_else(|| not_named(key))?;
        save(&mut self.undo, key, slot);
        Ok(slot.row.get_or_insert_with(|| Row::new(table, key)))
    }

    /// Removes the row, if there is one.
    pub fn delete(&mut self, key: &RowKey) -> Result<(), ApplyError> {
        let Some(slot) = self.slots.get_mut(key) else {
            return Err(not_named(key));
        };
        if slot.row.is_some() {
            save(&mut self.undo, key, slot);
            slot.row = None;
        }
        Ok(())
    }

    /// Sets a timer, or sets it anew: it fires when the clock of the event's partition has passed
    /// `due_ms` by the allowed lateness. Its row is named like others, in the table of the
    /// [`TimerRules`].
    ///
    /// # Panics
    /// If the projection does not declare timers, or not for the event's topic.
    pub fn set_timer(
        &mut self,
        name: &str,
        due_ms: i64,
        source: &Source,
    ) -> Result<(), ApplyError> {
        let of = TopicPartition::new(Arc::clone(&source.topic), source.partition);
        self.set_timer_of(name, due_ms, &of)
    }

    /// Sets a timer by the clock of a partition: for a timer that sets another one.
    ///
    /// # Panics
    /// If the projection does not declare timers, or not for the partition's topic.
    pub fn set_timer_of(
        &mut self,
        name: &str,
        due_ms: i64,
        of: &TopicPartition,
    ) -> Result<(), ApplyError> {
        let rules = self.timer_rules();
        assert!(rules.has_clock(of), "timers are not declared for {of}");
        Timer::write(self.edit(&rules.timer_key(name))?, due_ms, of);
        Ok(())
    }

    /// Clears a timer, if it is set, whoever has set it.
    ///
    /// # Panics
    /// If the projection does not declare timers.
    pub fn clear_timer(&mut self, name: &str) -> Result<(), ApplyError> {
        let rules = self.timer_rules();
        self.delete(&rules.timer_key(name))
    }

    fn timer_rules(&self) -> TimerRules {
        let rules = self.timers;
        rules.unwrap_or_else(|| panic!("the projection does not declare timers"))
    }

    /// The present event is done: what it did stays.
    pub(crate) fn accept(&mut self) {
        for (key, _) in self.undo.drain(..) {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.saved = false;
            }
        }
    }

    /// The present event failed: everything is as before it.
    pub(crate) fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            self.slots.insert(key, before);
        }
    }

    /// A row that the store is known not to hold, unless it is known already.
    pub(crate) fn load_absent(&mut self, key: RowKey) {
        if let Entry::Vacant(vacant) = self.slots.entry(key) {
            vacant.insert(Slot::default());
        }
    }

    /// What is to be written, in key order, so that stores lock rows in one order.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        debug_assert!(
            self.undo.is_empty(),
            "an event is neither accepted nor rolled back"
        );
        let mut changed: Vec<_> = self.slots.into_iter().filter(|(_, s)| s.changed).collect();
        changed.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let change =
            |(key, slot): (RowKey, Slot)| slot.row.map_or(Change::Delete(key), Change::Put);
        changed.into_iter().map(change).collect()
    }

    /// All rows that there are, in key order.
    pub(crate) fn all(&self) -> Vec<(&RowKey, &Row)> {
        let mut rows: Vec<_> = self
            .slots
            .iter()
            .filter_map(|(key, slot)| Some((key, slot.row.as_ref()?)))
            .collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }
}

fn not_named(key: &RowKey) -> ApplyError {
    ApplyError::NotNamed {
        keys: vec![key.clone()],
    }
}

/// Keeps a row as it was before the present event, once, and marks it changed.
fn save(undo: &mut Vec<(RowKey, Slot)>, key: &RowKey, slot: &mut Slot) {
    if !slot.saved {
        undo.push((key.clone(), slot.clone()));
        slot.saved = true;
    }
    slot.changed = true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::ColumnType;

    fn rows() -> Rows {
        let stock =
            Table::new("stock", &[("sku", ColumnType::Text)]).column("units", ColumnType::Integer);
        Rows::new(&Declaration::new("stock", 1).table(stock))
    }

    fn key(sku: &str) -> RowKey {
        RowKey::new("stock", sku)
    }

    #[test]
    fn a_failed_event_leaves_what_the_events_before_it_did() {
        let mut rows = rows();
        rows.load(key("a"), None);
        rows.load(key("b"), None);
        rows.edit(&key("a")).unwrap().increment("units", 5);
        rows.accept();

        rows.edit(&key("a")).unwrap().increment("units", 1);
        rows.edit(&key("a")).unwrap().increment("units", 1);
        rows.edit(&key("b")).unwrap();
        rows.delete(&key("a")).unwrap();
        rows.roll_back();

        assert_eq!(rows.get(&key("a")).unwrap().unwrap().integer("units"), 5);
        assert_eq!(rows.get(&key("b")).unwrap(), None);
        assert_eq!(
            rows.into_changes().len(),
            1,
            "b was rolled back to unchanged"
        );
    }

    #[test]
    fn only_what_differs_is_written_in_key_order() {
        let mut rows = rows();
        for sku in ["c", "b", "a"] {
            rows.load(key(sku), None);
        }
        rows.edit(&key("c")).unwrap();
        rows.edit(&key("a")).unwrap();
        rows.delete(&key("b")).unwrap();
        rows.accept();
        let written: Vec<_> = rows
            .into_changes()
            .into_iter()
            .map(|change| match change {
                Change::Put(row) => row.text("sku").unwrap().to_owned(),
                Change::Delete(key) => panic!("{key} was not there"),
            })
            .collect();
        assert_eq!(written, ["a", "c"]);
    }

    #[test]
    fn a_row_that_was_not_named_is_refused() {
        let mut rows = rows();
        let refused = ApplyError::NotNamed {
            keys: vec![key("a")],
        };
        assert_eq!(rows.ask([key("a")]), Err(refused.clone()));
        assert_eq!(rows.get(&key("a")), Err(refused.clone()));
        assert_eq!(rows.edit(&key("a")).map(|_| ()), Err(refused));
    }
}
