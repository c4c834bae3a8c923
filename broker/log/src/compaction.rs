//! Compaction by key: of every key only the newest record stays, with its offset.
//!
//! Three steps, so that appends never wait for a long cleaning:
//! 1. [`crate::Log::plan_compaction`] (owner, quick): which closed segments may be cleaned.
//! 2. [`Cleaner::clean`] (any thread): reads the dirty part into a map of bounded memory from key to
//!    newest offset, then rewrites the segments beside the old ones, small neighbours merged.
//! 3. [`crate::Log::install_compaction`] (owner, a few renames): swaps the files.
//!
//! The rules are Kafka's. Tombstones and the markers of emptied transactions get a delete horizon the
//! first time they are cleaned and go once it has passed (`delete.retention.ms`). Records of aborted
//! transactions go at once, their markers when nothing of the transaction is left. The last batch of
//! a producer stays, if only as a header, because its sequence number lies in it; so does the last
//! batch of each new segment, so that segments join without a gap. Records without a key vanish.
//! Nothing above the last stable offset, the recovery point or `min.compaction.lag.ms` is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_record::{BatchError, Offset, ProducerEpoch, ProducerId};
use thiserror::Error;

use crate::data_dir::DirShared;
use crate::error::{Damage, DirectoryFull, DirectoryOffline, ReadError};
use crate::folder::{CLEANED, SWAP, swap_log_name};
use crate::health::WriteFailure;
use crate::index::AbortedEntry;
use crate::partition::TopicPartition;
use crate::segment::{SUFFIXES, Segment, SegmentHome, file_name};

mod cleaner;
mod key_map;
mod transactions;
mod writer;

pub use cleaner::{Cleaner, CleanerConfig, Progress};

/// What is to be cleaned.
#[derive(Debug)]
pub struct CompactionPlan {
    pub(crate) dir: Arc<DirShared>,
    pub(crate) home: Arc<SegmentHome>,
    /// Closed segments from the first of the log on.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Aborted transactions that have records or their marker there, wherever their entries lie.
    pub(crate) aborted: Vec<AbortedEntry>,
    /// Base offset of the segment behind the last of them.
    pub(crate) end: Offset,
    /// Below it, the log holds each key once.
    pub(crate) first_dirty: Offset,
    /// The last data batch of each producer (by its last offset) and its epoch.
    pub(crate) producers: BTreeMap<ProducerId, LastOfProducer>,
    pub(crate) now_ms: i64,
    pub(crate) delete_retention_ms: i64,
    pub(crate) segment_bytes: u64,
    pub(crate) index_interval_bytes: u64,
}

/// What must stay of a producer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastOfProducer {
    pub(crate) last_offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

impl CompactionPlan {
    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.home.partition
    }

    /// Whether the log was deleted meanwhile, and its files may be anywhere.
    pub(crate) fn is_gone(&self) -> bool {
        self.segments.iter().all(|segment| segment.is_removed())
    }

    /// Bytes that will be read for the key map.
    pub fn dirty_bytes(&self) -> u64 {
        let dirty = self
            .segments
            .iter()
            .filter(|segment| segment.base() >= self.first_dirty);
        dirty.map(|segment| segment.size()).sum()
    }

    /// Bytes that will be rewritten at most.
    pub fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size()).sum()
    }
}

/// What has been cleaned and waits to be installed.
#[derive(Debug)]
pub struct Cleaned {
    pub(crate) groups: Vec<CleanedGroup>,
    /// Up to here each key is in the log once.
    pub(crate) clean_to: Offset,
    pub(crate) stats: CompactionStats,
}

/// Old segments and the new one that replaces them.
#[derive(Debug)]
pub(crate) struct CleanedGroup {
    pub(crate) old: Vec<Arc<Segment>>,
    pub(crate) new: Segment,
    pub(crate) end: Offset,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Bytes of the old segments.
    pub bytes_before: u64,
    /// Bytes of the new ones.
    pub bytes_after: u64,
    /// Records looked at.
    pub records_before: u64,
    /// Records that stayed.
    pub records_after: u64,
    /// Records without a key, which a compacted topic does not take; they were dropped.
    pub records_without_key: u64,
    /// Segments before.
    pub segments_before: u64,
    /// Segments after.
    pub segments_after: u64,
    /// The key map was too small for all of the dirty part: the next compaction goes on.
    pub map_was_full: bool,
}

/// Why a compaction came to nothing. The log is as it was.
#[derive(Debug, Error)]
pub enum CompactionError {
    /// A batch is damaged. The partition must not be compacted until it is mended: what lies in the
    /// damage might be the newest record of a key.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A read failed.
    #[error(transparent)]
    Read(ReadError),
    /// The directory is offline.
    #[error(transparent)]
    Offline(#[from] DirectoryOffline),
    /// There is no room for the new segments.
    #[error(transparent)]
    Full(#[from] DirectoryFull),
    /// A batch cannot be opened or rebuilt.
    #[error("{partition}: batch at offset {offset} cannot be compacted: {source}")]
    Batch {
        /// Which partition.
        partition: TopicPartition,
        /// Base offset of the batch.
        offset: Offset,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The caller asked to stop, or the log was deleted meanwhile.
    #[error("compaction was stopped")]
    Stopped,
}

impl CompactionError {
    /// Whether the same log can be tried again later: nothing is wrong with its records.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Batch { .. } => false,
            Self::Read(_) | Self::Offline(_) | Self::Full(_) | Self::Stopped => true,
        }
    }
}

/// Removes the files of a cleaned segment, finished or not, that will not be installed.
pub(crate) fn remove_cleaned(home: &SegmentHome, base: Offset, end: Offset) {
    let mut names = vec![swap_log_name(base, end, CLEANED)];
    names.extend(
        SUFFIXES[1..]
            .iter()
            .map(|suffix| file_name(base, &format!("{suffix}{SWAP}"))),
    );
    for name in names {
        if let Err(error) = home.disk.remove_file(&home.folder.join(name))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(partition = %home.partition, %error, "cannot remove cleaned file");
        }
    }
}

impl From<ReadError> for CompactionError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(damage) => Self::Damaged(damage),
            other => Self::Read(other),
        }
    }
}

impl From<WriteFailure> for CompactionError {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Offline(offline) => Self::Offline(offline),
            WriteFailure::Full(full) => Self::Full(full),
        }
    }
}
