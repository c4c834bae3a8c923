//! Offset index: where in the `.log` file to start looking for an offset.
//!
//! ```text
//! entry: last offset of a batch − base offset of the segment, i32 | position of that batch, i32
//! ```
//! Both columns grow from entry to entry.

use std::io;
use std::sync::Arc;

use conveyor_record::Offset;

use super::entries::Entries;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Last offset of the batch.
    pub(crate) offset: Offset,
    /// Where the batch starts, in bytes.
    pub(crate) position: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct OffsetIndex {
    base: Offset,
    entries: Arc<Entries<8>>,
}

impl OffsetIndex {
    pub(crate) fn new(base: Offset, entries: Arc<Entries<8>>) -> Self {
        Self { base, entries }
    }

    pub(crate) fn entries(&self) -> &Entries<8> {
        &self.entries
    }

    pub(crate) fn append(&self, entry: OffsetEntry) -> io::Result<()> {
        let relative = entry.offset - self.base;
        assert!(
            (0..=i64::from(i32::MAX)).contains(&relative) && i32::try_from(entry.position).is_ok(),
            "index entry {entry:?} does not fit a segment of base {}",
            self.base
        );
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&(relative as i32).to_be_bytes());
        bytes[4..].copy_from_slice(&(entry.position as i32).to_be_bytes());
        self.entries.append(bytes)
    }

    /// The last entry at or below `target`, and the number of entries up to it.
    pub(crate) fn lookup(&self, target: Offset) -> io::Result<Option<(usize, OffsetEntry)>> {
        let count = self
            .entries
            .partition_point(|entry| self.decode(*entry).offset <= target)?;
        if count == 0 {
            return Ok(None);
        }
        Ok(self.get(count - 1)?.map(|entry| (count, entry)))
    }

    pub(crate) fn get(&self, number: usize) -> io::Result<Option<OffsetEntry>> {
        Ok(self.entries.get(number)?.map(|bytes| self.decode(bytes)))
    }

    pub(crate) fn last(&self) -> io::Result<Option<OffsetEntry>> {
        Ok(self.entries.last()?.map(|bytes| self.decode(bytes)))
    }

    /// Drops the entries of batches that reach `offset` or start at or beyond `position`.
    pub(crate) fn truncate_to(&self, offset: Offset, position: u64) -> io::Result<()> {
        let count = self.entries.partition_point(|entry| {
            let entry = self.decode(*entry);
            entry.offset < offset && entry.position < position
        })?;
        self.entries.truncate(count)
    }

    /// Keeps the entries from the front that grow in both columns and lie below `offset`: after a
    /// crash, zeros or old entries may stand where later ones were never synced.
    pub(crate) fn keep_sound_below(&self, offset: Offset) -> io::Result<()> {
        self.entries.truncate_to_prefix(|before, entry| {
            let entry = self.decode(*entry);
            let (floor, position) = before.map_or((self.base - 1, 0), |before| {
                let before = self.decode(*before);
                (before.offset, before.position)
            });
            // The first batch never has an entry, so position 0 is none either.
            floor < entry.offset && position < entry.position && entry.offset < offset
        })
    }

    fn decode(&self, bytes: [u8; 8]) -> OffsetEntry {
        let both = u64::from_be_bytes(bytes);
        OffsetEntry {
            offset: self.base + i64::from((both >> 32) as i32),
            position: both & u64::from(u32::MAX),
        }
    }
}
