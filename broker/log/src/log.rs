//! The owner's handle of one partition: every change of the log.

use bytes::Bytes;
use conveyor_record::{BatchMeta, LeaderEpoch, Offset, ValidatedBatch};

use crate::config::LogConfig;
use crate::error::{AppendError, LogError, SyncError};
use crate::partition::TopicPartition;
use crate::reader::LogReader;

/// A batch on its way into the log: the bytes as the client sent them, and what
/// [`conveyor_record::validate_produce`] said of them.
#[derive(Debug, Clone)]
pub struct AppendBatch {
    /// Exactly one batch.
    pub bytes: Bytes,
    /// The facts of it, and a new header if the broker had to set something in it.
    pub validated: ValidatedBatch,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record; wait until the synced offset (exclusive) is beyond it.
    pub last_offset: Offset,
    /// Greatest timestamp of the batch in ms, as stored.
    pub max_timestamp_ms: i64,
    /// Log start offset at that moment.
    pub log_start_offset: Offset,
    /// The batch was in the log already (one of the producer's last five): nothing was written, and
    /// the offsets are those of the first time.
    pub duplicate: bool,
}

/// One partition, as its only writer sees it. Readers hold a [`LogReader`].
#[derive(Debug)]
pub struct Log {
    reader: LogReader,
}

impl Log {
    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        unimplemented!()
    }

    /// A handle for reading, for positions and for waiting; cheap to clone.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Appends validated batches in order, as the leader of `leader_epoch`: gives them offsets and
    /// writes those that are accepted by one vectored write (one for each segment touched). The
    /// result has one entry a batch, in order; a refused batch does not keep the next from being
    /// appended. Batches are visible to readers when this returns, and durable when the synced
    /// offset has passed them.
    pub fn append_as_leader(
        &mut self,
        _batches: &[AppendBatch],
        _leader_epoch: LeaderEpoch,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        unimplemented!()
    }

    /// Appends batches that a leader has given offsets and epochs to, byte for byte. They must
    /// continue the log in order (gaps that compaction left are allowed).
    pub fn append_as_follower(
        &mut self,
        _batches: &[(Bytes, BatchMeta)],
    ) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// Cuts everything from `offset` on. A batch that contains `offset` goes as a whole.
    pub fn truncate_to(&mut self, _offset: Offset) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Drops everything and goes on at `offset` (a follower whose leader's log starts beyond ours).
    pub fn truncate_fully_and_start_at(&mut self, _offset: Offset) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Raises the log start offset to `offset` (`DeleteRecords`); segments wholly below are removed.
    /// `offset` may be at most the high watermark. Returns the log start offset.
    pub fn delete_records_before(&mut self, _offset: Offset) -> Result<Offset, LogError> {
        unimplemented!()
    }

    /// Removes segments that `retention.ms` and `retention.bytes` no longer want. Only below the high
    /// watermark, and only if `cleanup.policy` has `delete`. Returns the number of bytes removed.
    pub fn apply_retention(&mut self, _now_ms: i64) -> Result<u64, LogError> {
        unimplemented!()
    }

    /// Rolls the active segment if its first record is older than `segment.ms`; forgets producers
    /// that have been silent too long. Returns whether it rolled.
    pub fn roll_if_due(&mut self, _now_ms: i64) -> Result<bool, LogError> {
        unimplemented!()
    }

    /// Closes the active segment and starts a new one, unless it is empty.
    pub fn roll(&mut self) -> Result<bool, LogError> {
        unimplemented!()
    }

    /// Takes new settings; they hold from the next append on.
    pub fn update_config(&mut self, _config: LogConfig) {
        unimplemented!()
    }

    /// The settings.
    pub fn config(&self) -> &LogConfig {
        unimplemented!()
    }

    /// Syncs what has been appended, from this thread, and publishes the synced offset. For shutdown
    /// and tools; the broker's appends go through the [`crate::Flusher`].
    pub fn sync(&mut self) -> Result<Offset, SyncError> {
        unimplemented!()
    }

    /// Clean shutdown: sync, trim the zero-filled tail, write the producer snapshot. The next open
    /// scans nothing (once [`crate::DataDir::close`] has written its marker).
    pub fn close(self) -> Result<(), LogError> {
        unimplemented!()
    }
}
