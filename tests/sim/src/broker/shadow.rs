//! What lies in a log, as the oracle knows it: one entry a batch, with its place in the files.
//!
//! It outlives the process, because the disk does: what was synced must be on the platter whether
//! somebody runs or not.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use conveyor_log::LogReader;
use conveyor_log::disk::SimDisk;
use conveyor_record::{BatchHeader, Batches, Offset};

use super::{DIRECTORY, TOPIC};
use crate::message::PartitionId;

/// One batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Offset of its first record.
    pub base: i64,
    /// Offset behind its last record.
    pub next: i64,
    /// Epoch of the leader that appended it.
    pub epoch: i32,
    /// Its checksum: no two batches of a run have the same content.
    pub crc: u32,
    /// Who produced it.
    pub producer: i64,
    /// Sequence of its first record.
    pub sequence: i32,
    /// Its size in bytes.
    pub size: u64,
}

impl Entry {
    /// Of a batch in a log.
    pub fn of(header: &BatchHeader) -> Self {
        Self {
            base: header.base_offset.value(),
            next: header.next_offset().value(),
            epoch: header.leader_epoch.value(),
            crc: header.crc,
            producer: header.producer_id.value(),
            sequence: header.base_sequence,
            size: header.size() as u64,
        }
    }
}

/// The batches of some bytes.
pub fn entries_of(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    Batches::new(bytes)
        .map(|batch| {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.verify_crc().map_err(|error| error.to_string())?;
            Ok(Entry::of(batch.header()))
        })
        .collect()
}

/// The batches of a log, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shadow {
    /// One a batch.
    pub entries: Vec<Entry>,
    /// Everything below was reported as synced.
    pub synced: i64,
    /// The segments that were there when somebody last looked.
    segments: RefCell<Vec<i64>>,
}

impl Shadow {
    /// Reads a log from its start.
    pub fn read(reader: &LogReader) -> Result<Self, String> {
        let mut from = reader.log_start_offset();
        let end = reader.log_end_offset();
        let mut entries = Vec::new();
        while from < end {
            let chunk = reader
                .read(from, end, 1 << 20, true)
                .map_err(|error| error.to_string())?;
            entries.extend(entries_of(&chunk.bytes)?);
            from = chunk.next_offset;
        }
        Ok(Self {
            entries,
            synced: reader.synced_offset().value(),
            segments: RefCell::default(),
        })
    }

    /// Takes over from an earlier shadow of the same log what lies below the log start and cannot be
    /// read any more: it still takes room in its segment.
    pub fn keep_deleted(&mut self, before: &Self, log_start: Offset) {
        let first = self.entries.first().map_or(i64::MAX, |entry| entry.base);
        let deleted = before.entries.iter().copied();
        let deleted = deleted.filter(|entry| entry.next <= log_start.value().min(first));
        self.entries.splice(0..0, deleted.collect::<Vec<_>>());
    }

    /// Offset behind the last batch; 0 if there is none.
    pub fn end(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.next)
    }

    /// The batch that begins at `base`.
    pub fn at(&self, base: i64) -> Option<&Entry> {
        let index = self
            .entries
            .binary_search_by_key(&base, |entry| entry.base)
            .ok()?;
        self.entries.get(index)
    }

    /// The batches that begin in `from..to`.
    pub fn between(&self, from: i64, to: i64) -> &[Entry] {
        let first = self.entries.partition_point(|entry| entry.base < from);
        let end = self.entries.partition_point(|entry| entry.base < to);
        &self.entries[first..end.max(first)]
    }

    /// Forgets what does not end at or below `to`, and returns it.
    pub fn cut(&mut self, to: Offset) -> Vec<Entry> {
        let keep = self
            .entries
            .partition_point(|entry| entry.next <= to.value());
        self.synced = self.synced.min(to.value());
        self.entries.split_off(keep)
    }

    /// Whether the platter of `disk` holds the batches in `wanted`, which are a part of this log:
    /// what would be there if the power went now and nothing unsynced had reached it.
    pub fn is_durable(
        &self,
        disk: &SimDisk,
        partition: PartitionId,
        wanted: &[Entry],
    ) -> Result<(), String> {
        let folder = Path::new(DIRECTORY).join(format!("{TOPIC}-{partition}"));
        if self.platter_has(disk, &folder, wanted).is_ok() {
            return Ok(());
        }
        // Segments come and go; looking for them is slow.
        let files = disk.files();
        let logs = files
            .iter()
            .filter(|path| path.parent() == Some(&folder))
            .filter_map(|path| segment_base(path));
        self.segments.replace(logs.collect());
        self.platter_has(disk, &folder, wanted)
    }

    fn platter_has(&self, disk: &SimDisk, folder: &Path, wanted: &[Entry]) -> Result<(), String> {
        for entry in wanted {
            let segments = self.segments.borrow();
            let candidates = segments.iter().filter(|base| **base <= entry.base);
            let Some(segment) = candidates.copied().max() else {
                return Err(format!("no segment holds offset {}", entry.base));
            };
            let before = self.between(segment, entry.base);
            let position: u64 = before.iter().map(|entry| entry.size).sum();
            let path = folder.join(format!("{segment:020}.log"));
            let bytes = disk.durable_content(&path, position, entry.size as usize);
            let found = bytes.as_deref().map(entries_of);
            if !matches!(&found, Some(Ok(found)) if found[..] == [*entry]) {
                return Err(format!(
                    "offset {} is not on the platter of segment {segment} at {position}: {found:?}",
                    entry.base
                ));
            }
        }
        Ok(())
    }
}

fn segment_base(path: &Path) -> Option<i64> {
    let is_log = path.extension().is_some_and(|kind| kind == "log");
    let path: PathBuf = path.with_extension("");
    let name = path.file_name()?.to_str()?;
    is_log.then(|| name.parse().ok()).flatten()
}
