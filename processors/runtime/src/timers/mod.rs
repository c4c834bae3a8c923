//! Timers of event time: "this order is late" is said by no event.
//!
//! A projection sets a timer while it applies an event, and is called when the *clock* of the event's
//! partition has passed the timer's due time by an allowed lateness. The clock of a partition is the
//! highest record time seen in it; it never goes back. A partition in which nothing comes any more is
//! moved on by wall time less a bound ([`IdleRule`]), and that step is stored like any other.
//!
//! Timers and clocks are rows of two hidden tables of the projection, written in the store transaction
//! that applies the events: a crash neither loses a timer nor fires one twice, and whoever claims a
//! partition reads its timers and its clock from the store ([`TimerHeap::restore`]).
//!
//! **What is promised.** A firing is a transaction of its own, fenced by the source positions as any
//! other: it removes the timer and does what the projection says. Timers of a partition fire in order
//! of due time, then name. A timer fires after every record of its partition that was read before its
//! clock passed; records of other partitions may be read before or after, so what a firing writes must
//! be set right by a late event. Which record lets a timer fire depends on where batches were cut: the
//! clock is looked at between batches.
//!
//! Names are unique within a projection: setting a name anew replaces the timer, whoever set it. A
//! timer may be cleared from any partition.

mod firing;
mod heap;
mod idle;
mod known;

use std::sync::Arc;

pub(crate) use firing::{Fired, fire_all};
pub use heap::TimerHeap;
pub use idle::IdleRule;
pub use known::KnownTimers;

use crate::record::TopicPartition;
use crate::rows::Change;
use crate::table::{Row, RowKey, Table};
use crate::value::{ColumnType, KeyPart, Value};

/// How a projection uses timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerRules {
    /// Name of the hidden table of timers.
    pub timers: &'static str,
    /// Name of the hidden table of clocks.
    pub clocks: &'static str,
    /// The topics whose events set timers; only their partitions have clocks.
    pub topics: &'static [&'static str],
    /// How far the clock must be past a timer's due time, in ms: how much later than others a record
    /// of the same partition may be.
    pub lateness_ms: i64,
}

/// A timer that has been set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due, ms since the epoch.
    pub due_ms: i64,
    /// Its name, unique within the projection.
    pub name: String,
    /// The partition that it was set from, and by whose clock it fires.
    pub topic_partition: TopicPartition,
}

const PLACE: [(&str, ColumnType); 2] = [
    ("source_topic", ColumnType::Text),
    ("source_partition", ColumnType::Integer),
];

impl TimerRules {
    pub(crate) fn timer_table(&self) -> Table {
        let [topic, partition] = PLACE;
        Table::new(self.timers, &[("name", ColumnType::Text)])
            .column(topic.0, topic.1)
            .column(partition.0, partition.1)
            .column("due_at", ColumnType::Timestamp)
    }

    pub(crate) fn clock_table(&self) -> Table {
        Table::new(self.clocks, &PLACE).column("clock_at", ColumnType::Timestamp)
    }

    /// The row of a timer.
    pub fn timer_key(&self, name: &str) -> RowKey {
        RowKey::new(self.timers, name)
    }

    /// The row of a partition's clock.
    pub fn clock_key(&self, of: &TopicPartition) -> RowKey {
        let parts = [
            KeyPart::from(of.topic.as_ref()),
            KeyPart::from(of.partition),
        ];
        RowKey::of(self.clocks, parts)
    }

    /// Whether a change is one of timers or clocks.
    pub(crate) fn concerns(&self, change: &Change) -> bool {
        let table = match change {
            Change::Put(row) => row.table().name(),
            Change::Delete(key) => key.table,
        };
        table == self.timers || table == self.clocks
    }

    /// Whether a partition has a clock.
    pub(crate) fn has_clock(&self, of: &TopicPartition) -> bool {
        self.topics.contains(&of.topic.as_ref())
    }
}

impl Timer {
    /// The timer of a row of the timers' table; `None` if it is not one.
    pub(crate) fn of(row: &Row) -> Option<Self> {
        Some(Self {
            due_ms: row.timestamp_ms("due_at")?,
            name: row.text("name")?.to_owned(),
            topic_partition: place_of(row)?,
        })
    }

    pub(crate) fn write(row: &mut Row, due_ms: i64, of: &TopicPartition) {
        row.set("source_topic", of.topic.as_ref())
            .set("source_partition", of.partition)
            .set("due_at", Value::timestamp_ms(due_ms));
    }
}

/// The clock of a row of the clocks' table; `None` if it is not one.
pub(crate) fn clock_of(row: &Row) -> Option<(TopicPartition, i64)> {
    Some((place_of(row)?, row.timestamp_ms("clock_at")?))
}

fn place_of(row: &Row) -> Option<TopicPartition> {
    let topic: Arc<str> = row.text("source_topic")?.into();
    let partition = i32::try_from(row.integer("source_partition")).ok()?;
    Some(TopicPartition::new(topic, partition))
}
