//! The plain fold: events one after the other into rows in memory.
//!
//! This is what every store must equal. Tests of projections use it directly; tests of the runtime
//! compare with it. [`ParkingFold`] takes whole records and parks keys as the runtime does.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_record::Offset;

use crate::parked::KeyName;
use crate::projection::{ApplyError, Declaration, Projection};
use crate::record::{Decoder, Source, SourceRecord, TopicPartition};
use crate::rows::Rows;
use crate::table::{Row, RowKey};
use crate::timers::{Timer, fire_all};

/// The rows of a projection, held in memory.
#[derive(Debug)]
pub struct Fold<'p, P: Projection> {
    projection: &'p P,
    declaration: Arc<Declaration>,
    rows: Rows,
}

impl<'p, P: Projection> Fold<'p, P> {
    /// No rows yet.
    pub fn new(projection: &'p P) -> Self {
        let declaration = Arc::new(projection.declaration());
        let rows = Rows::new(&declaration);
        Self {
            projection,
            declaration,
            rows,
        }
    }

    /// The projection's declaration.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// Applies one event. After an error the rows are as before.
    pub fn apply(&mut self, event: &P::Event, source: &Source) -> Result<(), ApplyError> {
        let keys = self.projection.touches(event, source);
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            self.rows.load_absent(key);
        }
        loop {
            match apply_one(self.projection, event, source, &mut self.rows) {
                Err(ApplyError::NotNamed { keys }) if self.declaration.declares(&keys) => {
                    for key in keys {
                        self.rows.load_absent(key);
                    }
                }
                settled => return settled,
            }
        }
    }

    /// Fires every timer that is due when all clocks stand at `clock_ms`, and those that are set by
    /// that; how many.
    pub fn fire_until(&mut self, clock_ms: i64) -> usize {
        let Some(rules) = self.declaration.timer_rules().copied() else {
            return 0;
        };
        let past_ms = clock_ms.saturating_sub(rules.lateness_ms);
        let mut fired = 0;
        loop {
            let rows = self.rows.all().into_iter();
            let timers = rows.filter(|(key, _)| key.table == rules.timers);
            let mut due: Vec<_> = timers
                .filter_map(|(_, row)| Timer::of(row))
                .filter(|timer| timer.due_ms <= past_ms)
                .collect();
            due.sort_unstable();
            if due.is_empty() {
                return fired;
            }
            for timer in &due {
                fired += 1;
                let one = std::slice::from_ref(timer);
                loop {
                    let asked = fire_all(self.projection, &rules, one, &mut self.rows).asked;
                    if asked.is_empty() {
                        break;
                    }
                    for key in asked {
                        self.rows.load_absent(key);
                    }
                }
            }
        }
    }

    /// A row, if there is one.
    pub fn row(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key).ok().flatten()
    }

    /// All rows, in key order.
    pub fn rows(&self) -> Vec<(&RowKey, &Row)> {
        self.rows.all()
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the rows, or matters to none.
    Applied,
    /// It could not be applied and parks its key.
    Parked,
    /// It waits behind a parked one.
    Queued,
}

/// The plain fold of whole records: one that cannot be decoded or applied parks its key, those of its
/// key wait behind it, and are applied only when the key is redriven.
#[derive(Debug)]
pub struct ParkingFold<'p, P: Projection, D> {
    fold: Fold<'p, P>,
    decoder: &'p D,
    parked: BTreeMap<(TopicPartition, KeyName), Vec<SourceRecord>>,
}

impl<'p, P: Projection, D: Decoder<Event = P::Event>> ParkingFold<'p, P, D> {
    /// No rows yet, and nothing parked.
    pub fn new(projection: &'p P, decoder: &'p D) -> Self {
        Self {
            fold: Fold::new(projection),
            decoder,
            parked: BTreeMap::new(),
        }
    }

    /// Takes the next record of its partition.
    pub fn take(&mut self, record: &SourceRecord) -> Taken {
        let name = (record.topic_partition(), KeyName::of(record));
        if let Some(queue) = self.parked.get_mut(&name) {
            queue.push(record.clone());
            return Taken::Queued;
        }
        if self.apply(record) {
            return Taken::Applied;
        }
        self.parked.insert(name, vec![record.clone()]);
        Taken::Parked
    }

    /// Applies what waits of the key whose head is at that place, in order, up to the first that
    /// fails or to `records_max`.
    pub fn redrive(&mut self, partition: &TopicPartition, head: Offset, records_max: usize) {
        let Some((name, mut queue)) = self.unpark(partition, head) else {
            return;
        };
        let some = &queue[..records_max.min(queue.len())];
        let failed = some.iter().position(|record| !self.apply(record));
        queue.drain(..failed.unwrap_or(some.len()));
        self.park(name, queue);
    }

    /// Gives up the first `count` of what waits of the key whose head is at that place.
    pub fn discard(&mut self, partition: &TopicPartition, head: Offset, count: usize) {
        if let Some((name, mut queue)) = self.unpark(partition, head) {
            queue.drain(..count.min(queue.len()));
            self.park(name, queue);
        }
    }

    /// The rows.
    pub const fn fold(&self) -> &Fold<'p, P> {
        &self.fold
    }

    /// What waits: the queue of each parked key.
    pub const fn parked(&self) -> &BTreeMap<(TopicPartition, KeyName), Vec<SourceRecord>> {
        &self.parked
    }

    fn apply(&mut self, record: &SourceRecord) -> bool {
        match self.decoder.decode(record) {
            Ok(Some(event)) => self.fold.apply(&event, &record.source).is_ok(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn unpark(
        &mut self,
        partition: &TopicPartition,
        head: Offset,
    ) -> Option<((TopicPartition, KeyName), Vec<SourceRecord>)> {
        let is_wanted = |queue: &Vec<SourceRecord>| {
            let first = queue.first();
            first.is_some_and(|r| r.source.offset == head && r.topic_partition() == *partition)
        };
        let found = self.parked.iter().find(|(_, queue)| is_wanted(queue));
        let name = found?.0.clone();
        let queue = self.parked.remove(&name)?;
        Some((name, queue))
    }

    fn park(&mut self, name: (TopicPartition, KeyName), queue: Vec<SourceRecord>) {
        if !queue.is_empty() {
            self.parked.insert(name, queue);
        }
    }
}

/// One event on a working set: all of it or, on an error, nothing.
pub(crate) fn apply_one<P: Projection>(
    projection: &P,
    event: &P::Event,
    source: &Source,
    rows: &mut Rows,
) -> Result<(), ApplyError> {
    let result = projection.apply(event, source, rows);
    match result {
        Ok(()) => rows.accept(),
        Err(_) => rows.roll_back(),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::value::ColumnType;

    /// Counts what happens in each room; an event names a person, and the person's row the room.
    struct Rooms;

    struct Moved(&'static str, Option<&'static str>);

    impl Projection for Rooms {
        type Event = Moved;

        fn declaration(&self) -> Declaration {
            let people = Table::new("person", &[("name", ColumnType::Text)])
                .column("room", ColumnType::Text)
                .column("events", ColumnType::Integer);
            let rooms = Table::new("room", &[("name", ColumnType::Text)])
                .column("events", ColumnType::Integer);
            Declaration::new("rooms", 1).table(people).table(rooms)
        }

        fn touches(&self, event: &Moved, _source: &Source) -> Vec<RowKey> {
            vec![RowKey::new("person", event.0)]
        }

        fn apply(
            &self,
            event: &Moved,
            _source: &Source,
            rows: &mut Rows,
        ) -> Result<(), ApplyError> {
            let person = rows.edit(&RowKey::new("person", event.0))?;
            person.increment("events", 1);
            if let Some(room) = event.1 {
                person.set("room", room);
            }
            let room = person.text("room").unwrap_or("hall").to_owned();
            let table = if room == "nowhere" {
                "undeclared"
            } else {
                "room"
            };
            rows.edit(&RowKey::new(table, room))?.increment("events", 1);
            Ok(())
        }
    }

    fn source() -> Source {
        Source {
            topic: "t".into(),
            partition: 0,
            offset: 0.into(),
            timestamp_ms: 0,
        }
    }

    #[test]
    fn a_row_that_another_row_names_is_loaded_and_the_event_is_applied_once() {
        let mut fold = Fold::new(&Rooms);
        for event in [
            Moved("ada", None),
            Moved("ada", Some("lab")),
            Moved("ada", None),
        ] {
            fold.apply(&event, &source()).unwrap();
        }
        let events = |table, name| {
            fold.row(&RowKey::new(table, name))
                .unwrap()
                .integer("events")
        };
        assert_eq!(events("person", "ada"), 3);
        assert_eq!((events("room", "hall"), events("room", "lab")), (1, 2));
    }

    #[test]
    fn a_row_of_a_table_that_is_not_declared_is_refused() {
        let mut fold = Fold::new(&Rooms);
        let refused = fold.apply(&Moved("ada", Some("nowhere")), &source());
        assert!(
            matches!(refused, Err(ApplyError::NotNamed { .. })),
            "{refused:?}"
        );
        assert!(fold.rows().is_empty());
    }
}
