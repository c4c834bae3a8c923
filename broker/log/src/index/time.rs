//! Time index: from which offset on a timestamp can be found.
//!
//! ```text
//! entry: greatest timestamp so far, i64 ms | last offset of the batch that has it − base offset, i32
//! ```
//! Timestamps grow from entry to entry: every record up to the entry's offset has at most its
//! timestamp.

use std::io;
use std::sync::Arc;

use conveyor_record::Offset;

use super::entries::Entries;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// Greatest timestamp so far, in ms.
    pub(crate) timestamp_ms: i64,
    /// Last offset of the first batch that has it.
    pub(crate) offset: Offset,
}

#[derive(Debug, Clone)]
pub(crate) struct TimeIndex {
    base: Offset,
    entries: Arc<Entries<12>>,
}

impl TimeIndex {
    pub(crate) fn new(base: Offset, entries: Arc<Entries<12>>) -> Self {
        Self { base, entries }
    }

    pub(crate) fn entries(&self) -> &Entries<12> {
        &self.entries
    }

    /// Adds an entry unless its timestamp is not beyond that of the last one.
    pub(crate) fn append_if_later(&self, entry: TimeEntry) -> io::Result<()> {
        if entry.timestamp_ms < 0
            || self
                .last()?
                .is_some_and(|last| last.timestamp_ms >= entry.timestamp_ms)
        {
            return Ok(());
        }
        let relative = entry.offset - self.base;
        assert!(
            (0..=i64::from(i32::MAX)).contains(&relative),
            "time index entry {entry:?} does not fit a segment of base {}",
            self.base
        );
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&entry.timestamp_ms.to_be_bytes());
        bytes[8..].copy_from_slice(&(relative as i32).to_be_bytes());
        self.entries.append(bytes)
    }

    /// The last entry whose timestamp is at most `timestamp_ms`.
    pub(crate) fn lookup(&self, timestamp_ms: i64) -> io::Result<Option<TimeEntry>> {
        let count = self
            .entries
            .partition_point(|entry| self.decode(entry).timestamp_ms <= timestamp_ms)?;
        if count == 0 {
            return Ok(None);
        }
        Ok(self
            .entries
            .get(count - 1)?
            .map(|bytes| self.decode(&bytes)))
    }

    pub(crate) fn last(&self) -> io::Result<Option<TimeEntry>> {
        Ok(self.entries.last()?.map(|bytes| self.decode(&bytes)))
    }

    /// Drops the entries at or beyond `offset`.
    pub(crate) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let count = self
            .entries
            .partition_point(|entry| self.decode(entry).offset < offset)?;
        self.entries.truncate(count)
    }

    /// Keeps the entries from the front that grow in both columns and lie below `offset`: after a
    /// crash, zeros or old entries may stand where later ones were never synced.
    pub(crate) fn keep_sound_below(&self, offset: Offset) -> io::Result<()> {
        self.entries.truncate_to_prefix(|before, entry| {
            let entry = self.decode(entry);
            // A first entry of zeros could be one of the epoch's first millisecond; it is not missed.
            let (floor, timestamp_ms) = before.map_or((self.base - 1, 0), |before| {
                let before = self.decode(before);
                (before.offset, before.timestamp_ms)
            });
            floor < entry.offset && timestamp_ms < entry.timestamp_ms && entry.offset < offset
        })
    }

    fn decode(&self, bytes: &[u8; 12]) -> TimeEntry {
        let (timestamp, relative) = bytes.split_at(8);
        let mut timestamp_ms = [0; 8];
        timestamp_ms.copy_from_slice(timestamp);
        let mut delta = [0; 4];
        delta.copy_from_slice(relative);
        TimeEntry {
            timestamp_ms: i64::from_be_bytes(timestamp_ms),
            offset: self.base + i64::from(i32::from_be_bytes(delta)),
        }
    }
}
