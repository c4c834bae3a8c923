//! What can go wrong, by operation. Facts are fields; partition and path are always among them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_record::{BatchError, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use rustix::io::Errno;
use thiserror::Error;

use crate::partition::TopicPartition;

/// A file operation that failed.
#[derive(Debug, Clone, Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb: "write", "sync", "open".
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the disk said; shared, because every waiter of a group commit gets the same answer.
    pub source: Arc<io::Error>,
}

impl DiskError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }

    /// Whether the volume (or the user's quota on it) is full. Nothing is broken then: appends are
    /// refused until there is room again.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }

    /// Whether the process or the machine has no descriptor or memory left, which says nothing of the
    /// disk.
    pub fn is_exhausted(&self) -> bool {
        let code = self.source.raw_os_error().map(Errno::from_raw_os_error);
        matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
    }

    /// Whether nothing is broken and the same may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_full() || self.is_exhausted()
    }
}

/// The data directory was taken offline by its first failed write or sync. Appends are refused until
/// the process is restarted and recovery has looked at the files; reads go on.
#[derive(Debug, Clone, Error)]
#[error("data directory {} is offline since an earlier failure: {reason}", directory.display())]
pub struct DirectoryOffline {
    /// The data directory.
    pub directory: PathBuf,
    /// The failure that took it offline.
    pub reason: DiskError,
}

/// The volume of a data directory is full, or the process has no descriptor or memory left to write
/// to it ([`DiskError::is_exhausted`]): nothing was appended, nothing was lost.
#[derive(Debug, Clone, Error)]
#[error("data directory {} cannot take more now: {source}; {}", directory.display(), self.advice())]
pub struct DirectoryFull {
    /// The data directory.
    pub directory: PathBuf,
    /// What the disk said.
    pub source: DiskError,
}

impl DirectoryFull {
    fn advice(&self) -> &'static str {
        if self.source.is_exhausted() {
            "raise the limit of open files (ulimit -n) or of memory"
        } else {
            "free space or add retention"
        }
    }
}

/// Bytes on disk that are not what was written. They are never served and never cut away.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{partition} is damaged in segment {segment} at position {position}, offset {offset}: {what}"
)]
pub struct Damage {
    /// Which partition.
    pub partition: TopicPartition,
    /// Base offset of the segment, the name of its file.
    pub segment: Offset,
    /// Byte position in the `.log` file where the damaged batch starts.
    pub position: u64,
    /// First offset that cannot be read; what lies before is good.
    pub offset: Offset,
    /// What is wrong there.
    pub what: String,
}

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// See [`DirectoryOffline`].
    #[error(transparent)]
    Offline(#[from] DirectoryOffline),
    /// See [`DirectoryFull`].
    #[error(transparent)]
    Full(#[from] DirectoryFull),
    /// Larger than a segment may be.
    #[error(
        "{partition}: batch of {size} bytes is larger than a segment of {max} bytes (segment.bytes)"
    )]
    LargerThanSegment {
        /// Which partition.
        partition: TopicPartition,
        /// Size of the batch in bytes.
        size: usize,
        /// `segment.bytes`.
        max: u64,
    },
    /// The producer skipped or reordered sequence numbers.
    #[error("{partition}: producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// Which partition.
        partition: TopicPartition,
        /// Which producer.
        producer_id: ProducerId,
        /// First sequence of the refused batch.
        found: i32,
        /// Sequence that would have followed the last batch.
        expected: i32,
    },
    /// A newer incarnation of the producer has written.
    #[error("{partition}: producer {producer_id} has epoch {found}, the log has seen {current}")]
    InvalidProducerEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// Which producer.
        producer_id: ProducerId,
        /// Epoch of the refused batch.
        found: ProducerEpoch,
        /// Newest epoch in this log.
        current: ProducerEpoch,
    },
    /// A transaction marker from a coordinator that is no longer in charge.
    #[error(
        "{partition}: marker of producer {producer_id} comes from coordinator epoch {found}, the log has seen {current}"
    )]
    FencedCoordinator {
        /// Which partition.
        partition: TopicPartition,
        /// Which producer's transaction.
        producer_id: ProducerId,
        /// Coordinator epoch of the refused marker.
        found: i32,
        /// Newest coordinator epoch in this log.
        current: i32,
    },
    /// A batch outside a transaction came while the producer has one open, or the other way round.
    #[error("{partition}: producer {producer_id} mixes transactional and other batches")]
    InvalidTransactionState {
        /// Which partition.
        partition: TopicPartition,
        /// Which producer.
        producer_id: ProducerId,
    },
    /// The batch of a follower does not continue the log.
    #[error("{partition}: batch starts at offset {found}, the log ends at {expected}")]
    OffsetGap {
        /// Which partition.
        partition: TopicPartition,
        /// Base offset of the refused batch.
        found: Offset,
        /// Log end offset.
        expected: Offset,
    },
    /// The batch carries an older leader epoch than the log.
    #[error("{partition}: batch of leader epoch {found} is older than epoch {current} of the log")]
    FencedLeaderEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// Epoch of the refused batch.
        found: LeaderEpoch,
        /// Latest epoch in the log.
        current: LeaderEpoch,
    },
    /// The batch cannot be stamped or understood (control records only; produced batches are
    /// validated before they come here).
    #[error("{partition}: {source}")]
    InvalidBatch {
        /// Which partition.
        partition: TopicPartition,
        /// What is wrong with it.
        source: BatchError,
    },
}

impl AppendError {
    /// Whether the same append may succeed later without the caller changing anything.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Offline(_) | Self::Full(_))
    }
}

/// Why nothing could be read.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
    /// Below the log start or beyond the upper bound.
    #[error("{partition}: offset {offset} is outside {start} to {end}")]
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The offset that was asked for.
        offset: Offset,
        /// Log start offset, the first that can be read.
        start: Offset,
        /// The upper bound of the read, exclusive.
        end: Offset,
    },
    /// See [`Damage`].
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk failed to read. Other positions may still be readable.
    #[error("{partition}: {source}")]
    Disk {
        /// Which partition.
        partition: TopicPartition,
        /// What failed.
        source: DiskError,
    },
    /// Retention, compaction or truncation removed the segment while it was being read: ask again.
    #[error("{partition}: segment {segment} was removed while being read; retry")]
    SegmentRemoved {
        /// Which partition.
        partition: TopicPartition,
        /// Base offset of the segment.
        segment: Offset,
    },
}

impl ReadError {
    /// Whether the same read may succeed at once.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::SegmentRemoved { .. })
    }
}

/// Why a change of the log that is not an append failed: truncation, retention, roll, compaction.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    /// See [`DirectoryOffline`].
    #[error(transparent)]
    Offline(#[from] DirectoryOffline),
    /// See [`DirectoryFull`].
    #[error(transparent)]
    Full(#[from] DirectoryFull),
    /// A read that the change needed failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log cannot be moved there.
    #[error("{partition}: offset {offset} is outside {start} to {end}")]
    OffsetOutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The offset that was asked for.
        offset: Offset,
        /// Smallest offset allowed.
        start: Offset,
        /// Largest offset allowed.
        end: Offset,
    },
    /// The folder of a deleted partition is still there under its name. The log is closed.
    #[error("{partition}: {source}; its folder stays until it can be moved aside")]
    NotRemoved {
        /// Which partition.
        partition: TopicPartition,
        /// What the disk said.
        source: DiskError,
    },
}

/// Why a log or a data directory cannot be opened or created.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// An import into the directory was begun and not finished.
    #[error(
        "an import into {} is not finished: run `conveyor migrate import` again, or empty it",
        directory.display()
    )]
    ImportUnfinished {
        /// The directory.
        directory: PathBuf,
    },
    /// Another process owns the data directory.
    #[error("data directory {} is in use by another process (it holds {lock})", directory.display(), lock = crate::data_dir::LOCK_FILE)]
    Locked {
        /// The data directory.
        directory: PathBuf,
    },
    /// The directory belongs to another node or cluster.
    #[error("data directory {} belongs to {field} {found}, this node has {expected}", directory.display())]
    WrongIdentity {
        /// The data directory.
        directory: PathBuf,
        /// `node.id` or `cluster.id`.
        field: &'static str,
        /// What `meta.properties` says.
        found: String,
        /// What this process was started with.
        expected: String,
    },
    /// A file that must be understood is not.
    #[error("cannot understand {}: {what}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// The partition's folder is there already.
    #[error("{partition} exists already")]
    Exists {
        /// Which partition.
        partition: TopicPartition,
    },
    /// There is no such partition here.
    #[error("{partition} has no folder in {}", directory.display())]
    NotFound {
        /// Which partition.
        partition: TopicPartition,
        /// The data directory.
        directory: PathBuf,
    },
    /// The name cannot be a folder.
    #[error("{name:?} is not a valid topic name")]
    InvalidTopicName {
        /// The name.
        name: String,
    },
    /// See [`DirectoryOffline`].
    #[error(transparent)]
    Offline(#[from] DirectoryOffline),
    /// See [`DirectoryFull`].
    #[error(transparent)]
    Full(#[from] DirectoryFull),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a wait for durability ended without it: the records may or may not survive.
#[derive(Debug, Clone, Error)]
pub enum SyncError {
    /// See [`DirectoryOffline`].
    #[error(transparent)]
    Offline(#[from] DirectoryOffline),
    /// The log was truncated below the offset, closed or deleted.
    #[error("{partition} was closed or cut before offset {offset} was synced")]
    Abandoned {
        /// Which partition.
        partition: TopicPartition,
        /// End offset that was waited for.
        offset: Offset,
    },
    /// The flusher was stopped before the sync.
    #[error("the flusher was stopped")]
    Stopped,
}
