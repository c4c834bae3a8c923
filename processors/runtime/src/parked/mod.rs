//! Parked keys: what happens to records that cannot be applied, and to those behind them.
//!
//! A record that cannot be decoded or applied *parks its key*. It goes to `error-events`, and it and
//! all later records of the same key wait, in order, in two hidden tables of the projection, while
//! all other keys go on. The tables are written in the same transaction as the positions, so that a
//! rebalance, a restart or a kill neither loses nor doubles what waits. A person redrives the key
//! once the cause is mended, or discards the record.
//!
//! | term | meaning |
//! |---|---|
//! | key | topic, partition and record key; a record without a key is a key of its own |
//! | head | the first record that waits: the one that could not be applied |
//! | queue | the head and all records of its key since, in offset order |
//! | parked at | the offset that parked the key; with topic and partition it names the parked key |
//!
//! Invariants: the queue of a parked key is never empty; an offset waits in one queue at most; what
//! is before a partition's position is either in the rows, or waits, or was discarded by a person.
//!
//! What waits is bounded ([`Limits`]), for each partition: one that is full stands still before the
//! record that finds no room, and the others go on.
//!
//! This module decides and encodes; it knows no store and no clock.

mod encoding;
mod key;
mod plan;
mod tables;

pub use encoding::{DamagedRecord, shown};
pub use key::{Failure, KeyName, ParkedKey, ParkedKeys, PartitionKeys};
pub(crate) use plan::{Fate, Input, Plan, Planned};
pub use tables::ParkedTables;

/// How much may wait in one partition. Default: 1,000 keys, 10,000 records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Parked keys.
    pub keys_max: usize,
    /// Records of all queues together.
    pub records_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys_max: 1_000,
            records_max: 10_000,
        }
    }
}
