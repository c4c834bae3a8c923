//! Sparse indexes of a segment, in Kafka's formats: by offset, by time, by aborted transaction.
//!
//! All are rows of fixed-size entries in a file of their own, and all can be rebuilt from the log, so
//! nothing depends on them being right: a look-up gives a position to start from, and the reader
//! checks what it finds there.

mod entries;
mod offset;
mod time;
mod transaction;

pub(crate) use entries::{Entries, MapBudget};
pub(crate) use offset::{OffsetEntry, OffsetIndex};
pub(crate) use time::{TimeEntry, TimeIndex};
pub(crate) use transaction::{AbortedEntry, TransactionIndex};
