//! Read-only views of a partition folder, for `log dump` and `log verify`.
//!
//! Work on a folder that no broker has open, or on a copy; nothing is ever written, repaired or
//! rebuilt here. [`PartitionFolder`] shows what the files hold, [`verify`](PartitionFolder::verify)
//! judges it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use conveyor_record::{
    Batch, BatchError, BatchHeader, LeaderEpoch, Offset, ProducerEpoch, ProducerId,
};
use uuid::Uuid;

use crate::checkpoint::parse_epochs;
use crate::data_dir::read_topic_id;
use crate::disk::{Disk, DiskFile, OpenMode, read_small};
use crate::epochs;
use crate::error::{DiskError, OpenError};
use crate::folder::{SNAPSHOT, offset_of};
use crate::producers::snapshot;
use crate::scan::{BatchScanner, ScanError};
use crate::segment::{LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, file_name};

mod verify;

pub use verify::{Finding, Severity, VerifyOptions, VerifyReport};

/// Larger index files are not ours: 2 GiB of log have at most so many bytes of index.
const INDEX_BYTES_MAX: usize = 1 << 30;

/// The folder of one partition.
#[derive(Debug)]
pub struct PartitionFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    segments: Vec<Offset>,
    snapshots: Vec<Offset>,
}

/// A batch, as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSummary {
    /// Where it starts in the file, in bytes.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// Whether the CRC is right.
    pub crc_is_right: bool,
}

/// An entry of an offset index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetIndexEntry {
    /// Last offset of the batch.
    pub offset: Offset,
    /// Where the batch starts, in bytes.
    pub position: u64,
}

/// An entry of a time index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeIndexEntry {
    /// Greatest timestamp so far, in ms.
    pub timestamp_ms: i64,
    /// Last offset of the first batch that has it.
    pub offset: Offset,
}

/// An entry of a transaction index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionIndexEntry {
    /// Whose transaction was aborted.
    pub producer_id: ProducerId,
    /// Its first offset in the partition.
    pub first_offset: Offset,
    /// Offset of the abort marker.
    pub last_offset: Offset,
    /// Last stable offset once the marker was there.
    pub last_stable_offset: Offset,
}

/// A producer in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Producer id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of its last record, or -1.
    pub last_sequence: i32,
    /// Offset of its last record, if it has one.
    pub last_offset: Option<Offset>,
    /// When it was last heard of, in ms.
    pub last_seen_ms: i64,
    /// Epoch of the transaction coordinator, or -1.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// How a walk over the batches of a segment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanEnd {
    /// At the end of the file.
    Complete,
    /// At zeros up to the end of the file: the tail of an active segment.
    ZeroTail {
        /// Where the zeros start.
        position: u64,
    },
    /// At something that is no batch.
    Invalid {
        /// Where it starts.
        position: u64,
        /// Why it is none.
        error: BatchError,
    },
}

impl PartitionFolder {
    /// Looks at the folder at `path`.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, OpenError> {
        let entries = disk
            .list(path)
            .map_err(|error| DiskError::new("list", path, error))?;
        let offsets = |suffix| {
            let mut found: Vec<Offset> = entries
                .iter()
                .filter_map(|entry| offset_of(&entry.name, suffix))
                .collect();
            found.sort_unstable();
            found
        };
        let (segments, snapshots) = (offsets(LOG), offsets(SNAPSHOT));
        Ok(Self {
            disk,
            path: path.to_path_buf(),
            segments,
            snapshots,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Base offsets of the segments, ascending.
    pub fn segments(&self) -> &[Offset] {
        &self.segments
    }

    /// Offsets of the producer snapshots, ascending.
    pub fn snapshots(&self) -> &[Offset] {
        &self.snapshots
    }

    /// The `.log` file of a segment.
    pub fn log_path(&self, segment: Offset) -> PathBuf {
        self.path.join(file_name(segment, LOG))
    }

    /// The topic's id from `partition.metadata`.
    pub fn topic_id(&self) -> Result<Option<Uuid>, OpenError> {
        read_topic_id(&*self.disk, &self.path)
    }

    /// Leader epochs and where they start.
    pub fn leader_epochs(&self) -> Result<Vec<(LeaderEpoch, Offset)>, OpenError> {
        let path = self.path.join(epochs::FILE_NAME);
        let Some(text) = crate::checkpoint::read_text(&*self.disk, &path)? else {
            return Ok(Vec::new());
        };
        parse_epochs(&text).map_err(|what| OpenError::InvalidFile { path, what })
    }

    /// Shows each batch of a segment to `see`, until it says `false`, and tells how the walk ended.
    pub fn scan(
        &self,
        segment: Offset,
        mut see: impl FnMut(BatchSummary, &[u8]) -> bool,
    ) -> Result<ScanEnd, DiskError> {
        let path = self.log_path(segment);
        let failed = |error| DiskError::new("read", &path, error);
        let file = self.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let end = file.size().map_err(failed)?;
        let mut scanner = BatchScanner::new(&*file, 0, end);
        loop {
            let position = scanner.position();
            match scanner.next() {
                Ok(None) => return Ok(ScanEnd::Complete),
                Ok(Some((position, batch))) => {
                    let summary = BatchSummary {
                        position,
                        header: *batch.header(),
                        crc_is_right: batch.verify_crc().is_ok(),
                    };
                    if !see(summary, batch.bytes()) {
                        return Ok(ScanEnd::Complete);
                    }
                }
                Err(ScanError::Disk(error)) => return Err(failed(error)),
                Err(ScanError::Invalid(error)) => {
                    let zeros = only_zeros(&*file, position, end).map_err(failed)?;
                    return Ok(if zeros {
                        ScanEnd::ZeroTail { position }
                    } else {
                        ScanEnd::Invalid { position, error }
                    });
                }
            }
        }
    }

    /// The batch at a position, to look into its records. Outer error: the disk; inner: no batch.
    pub fn batch_at(
        &self,
        segment: Offset,
        position: u64,
    ) -> Result<Result<Batch, BatchError>, DiskError> {
        let path = self.log_path(segment);
        let failed = |error| DiskError::new("read", &path, error);
        let file = self.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let end = file.size().map_err(failed)?;
        let header = match crate::segment::read_header(&*file, position, end).map_err(failed)? {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let mut bytes = Vec::new();
        let len = header.size().min(end.saturating_sub(position) as usize);
        file.read_at(position, &mut bytes, len).map_err(failed)?;
        Ok(Batch::parse(Bytes::from(bytes)))
    }

    /// The offset index of a segment; `None` without a file.
    pub fn offset_index(
        &self,
        segment: Offset,
    ) -> Result<Option<Vec<OffsetIndexEntry>>, DiskError> {
        self.rows(segment, OFFSET_INDEX, |row: &[u8; 8]| OffsetIndexEntry {
            offset: segment + i64::from(int(row, 0)),
            position: u64::from(int(row, 4) as u32),
        })
    }

    /// The time index of a segment; `None` without a file.
    pub fn time_index(&self, segment: Offset) -> Result<Option<Vec<TimeIndexEntry>>, DiskError> {
        self.rows(segment, TIME_INDEX, |row: &[u8; 12]| TimeIndexEntry {
            timestamp_ms: long(row, 0),
            offset: segment + i64::from(int(row, 8)),
        })
    }

    /// The transaction index of a segment; `None` without a file.
    pub fn transaction_index(
        &self,
        segment: Offset,
    ) -> Result<Option<Vec<TransactionIndexEntry>>, DiskError> {
        self.rows(segment, TRANSACTION_INDEX, |row: &[u8; 34]| {
            TransactionIndexEntry {
                producer_id: ProducerId(long(row, 2)),
                first_offset: Offset(long(row, 10)),
                last_offset: Offset(long(row, 18)),
                last_stable_offset: Offset(long(row, 26)),
            }
        })
    }

    /// The producers of a snapshot; `None` if it is damaged.
    pub fn producers(&self, offset: Offset) -> Result<Option<Vec<ProducerEntry>>, DiskError> {
        let Some(producers) = snapshot::read(&*self.disk, &self.path, offset)? else {
            return Ok(None);
        };
        let entries = producers.iter().map(|(id, producer)| {
            let last = producer.batches.back();
            ProducerEntry {
                producer_id: *id,
                epoch: producer.epoch,
                last_sequence: last.map_or(-1, |batch| batch.last_sequence),
                last_offset: last.map(|batch| batch.last_offset),
                last_seen_ms: producer.last_seen_ms,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: producer.transaction_start,
            }
        });
        Ok(Some(entries.collect()))
    }

    fn rows<const N: usize, T>(
        &self,
        segment: Offset,
        suffix: &str,
        decode: impl Fn(&[u8; N]) -> T,
    ) -> Result<Option<Vec<T>>, DiskError> {
        let path = self.path.join(file_name(segment, suffix));
        let bytes = read_small(&*self.disk, &path, INDEX_BYTES_MAX)
            .map_err(|error| DiskError::new("read", &path, error))?;
        Ok(bytes.map(|bytes| bytes.as_chunks::<N>().0.iter().map(decode).collect()))
    }
}

fn int<const N: usize>(row: &[u8; N], start: usize) -> i32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&row[start..start + 4]);
    i32::from_be_bytes(bytes)
}

fn long<const N: usize>(row: &[u8; N], start: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&row[start..start + 8]);
    i64::from_be_bytes(bytes)
}

fn only_zeros(file: &dyn DiskFile, from: u64, end: u64) -> std::io::Result<bool> {
    let mut position = from;
    let mut piece = Vec::new();
    while position < end {
        piece.clear();
        let read = file.read_at(position, &mut piece, (1 << 20).min(end - position) as usize)?;
        if read == 0 || piece.iter().any(|byte| *byte != 0) {
            return Ok(read == 0);
        }
        position += read as u64;
    }
    Ok(true)
}
