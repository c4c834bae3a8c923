//! Transaction index: the aborted transactions whose marker lies in the segment.
//!
//! ```text
//! entry: version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64
//! ```
//! The last stable offset is the one right after the abort: a reader that has everything up to it
//! needs no later entry. Unlike the other indexes it is small (one entry an aborted transaction) and
//! is kept in memory once it was needed.

use std::io;
use std::sync::Arc;

use conveyor_record::{Offset, ProducerId};

use super::entries::Entries;

pub(crate) const ENTRY_SIZE: usize = 34;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedEntry {
    pub(crate) producer_id: ProducerId,
    /// First offset of the transaction in this partition.
    pub(crate) first_offset: Offset,
    /// Offset of the abort marker.
    pub(crate) last_offset: Offset,
    /// Last stable offset once the marker was there.
    pub(crate) last_stable_offset: Offset,
}

#[derive(Debug, Clone)]
pub(crate) struct TransactionIndex {
    entries: Arc<Entries<ENTRY_SIZE>>,
}

impl TransactionIndex {
    pub(crate) fn new(entries: Arc<Entries<ENTRY_SIZE>>) -> Self {
        Self { entries }
    }

    pub(crate) fn entries(&self) -> &Entries<ENTRY_SIZE> {
        &self.entries
    }

    pub(crate) fn append(&self, entry: AbortedEntry) -> io::Result<()> {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[2..10].copy_from_slice(&entry.producer_id.value().to_be_bytes());
        bytes[10..18].copy_from_slice(&entry.first_offset.value().to_be_bytes());
        bytes[18..26].copy_from_slice(&entry.last_offset.value().to_be_bytes());
        bytes[26..34].copy_from_slice(&entry.last_stable_offset.value().to_be_bytes());
        self.entries.append(bytes)
    }

    pub(crate) fn all(&self) -> io::Result<Vec<AbortedEntry>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.entries.get(all.len())? {
            all.push(Self::decode(&bytes));
        }
        Ok(all)
    }

    /// Drops the entries whose marker lies at or beyond `offset`.
    pub(crate) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let count = self
            .entries
            .partition_point(|entry| Self::decode(entry).last_offset < offset)?;
        self.entries.truncate(count)
    }

    /// Keeps the entries from the front whose markers follow one another below `offset`: after a
    /// crash, zeros or old entries may stand where later ones were never synced.
    pub(crate) fn keep_sound_below(&self, offset: Offset) -> io::Result<()> {
        self.entries.truncate_to_prefix(|before, entry| {
            let entry = Self::decode(entry);
            let floor = before.map_or(Offset(-1), |before| Self::decode(before).last_offset);
            floor < entry.last_offset
                && entry.first_offset < entry.last_offset
                && entry.last_offset < offset
        })
    }

    fn decode(bytes: &[u8; ENTRY_SIZE]) -> AbortedEntry {
        let field = |start: usize| {
            let mut raw = [0; 8];
            raw.copy_from_slice(&bytes[start..start + 8]);
            i64::from_be_bytes(raw)
        };
        AbortedEntry {
            producer_id: ProducerId(field(2)),
            first_offset: Offset(field(10)),
            last_offset: Offset(field(18)),
            last_stable_offset: Offset(field(26)),
        }
    }
}
