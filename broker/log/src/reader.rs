//! What everybody but the owner holds of a partition: reads, positions, look-ups by time.

use bytes::Bytes;
use conveyor_record::{LeaderEpoch, Offset, ProducerId};

use crate::error::ReadError;
use crate::partition::TopicPartition;

/// Whole batches, as they lie on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadChunk {
    /// The batches; empty if there is nothing to read yet.
    pub bytes: Bytes,
    /// Base offset of the first batch; may be lower than the offset asked for. The offset asked for
    /// if `bytes` is empty.
    pub first_offset: Offset,
    /// Where to read on: the offset after the last batch.
    pub next_offset: Offset,
    /// Number of batches.
    pub batch_count: usize,
}

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Timestamp of the record in ms.
    pub timestamp_ms: i64,
    /// Its offset.
    pub offset: Offset,
    /// Leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// An aborted transaction that overlaps a range that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// Its first offset in this partition.
    pub first_offset: Offset,
}

/// Answer to `OffsetForLeaderEpoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest epoch in the log that is not greater than the one asked for.
    pub leader_epoch: LeaderEpoch,
    /// Where it ends: start of the next epoch, or the log end.
    pub end_offset: Offset,
}

/// A partition for readers: cheap to clone, safe to share between threads.
#[derive(Debug, Clone)]
pub struct LogReader {}

impl LogReader {
    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        unimplemented!()
    }
    /// The topic's id, from `partition.metadata`.
    pub fn topic_id(&self) -> uuid::Uuid {
        unimplemented!()
    }
    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        unimplemented!()
    }
    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> Offset {
        unimplemented!()
    }
    /// Everything below is on disk, in the sense of a successful `fdatasync`.
    pub fn synced_offset(&self) -> Offset {
        unimplemented!()
    }
    /// Everything below is committed: consumers may see it.
    pub fn high_watermark(&self) -> Offset {
        unimplemented!()
    }
    /// Everything below is decided: no open transaction reaches there. At most the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        unimplemented!()
    }
    /// Moves the high watermark forward to `to`, at most to the log end; a smaller value changes
    /// nothing. Returns the high watermark.
    pub fn advance_high_watermark(&self, _to: Offset) -> Offset {
        unimplemented!()
    }
    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Epoch of the last batch, if there is one.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        unimplemented!()
    }

    /// Reads whole batches from the one that contains `from` up to `upper_bound` (exclusive, a batch
    /// boundary such as the high watermark), at most `max_bytes`. With `min_one_batch` the first
    /// batch comes whole even if it is larger. Every batch returned has a right CRC.
    ///
    /// `from == upper_bound` gives an empty chunk; beyond it, or below the log start, is
    /// [`ReadError::OutOfRange`].
    pub fn read(
        &self,
        _from: Offset,
        _upper_bound: Offset,
        _max_bytes: usize,
        _min_one_batch: bool,
    ) -> Result<ReadChunk, ReadError> {
        unimplemented!()
    }

    /// The first record with a timestamp of at least `timestamp_ms`, below `upper_bound`.
    pub fn offset_for_timestamp(
        &self,
        _timestamp_ms: i64,
        _upper_bound: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        unimplemented!()
    }

    /// The first record with the greatest timestamp, below `upper_bound`.
    pub fn offset_of_max_timestamp(
        &self,
        _upper_bound: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        unimplemented!()
    }

    /// Timestamp of the first record at or after `offset`, `None` at the log end. For lag in seconds.
    pub fn timestamp_at(&self, _offset: Offset) -> Result<Option<TimestampOffset>, ReadError> {
        unimplemented!()
    }

    /// Transactions that were aborted and have records in `from..to`.
    pub fn aborted_transactions(
        &self,
        _from: Offset,
        _to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        unimplemented!()
    }

    /// Where `leader_epoch` ends here; `None` if the epoch is newer than the log's or none is known.
    pub fn end_offset_for_epoch(&self, _leader_epoch: LeaderEpoch) -> Option<EpochEndOffset> {
        unimplemented!()
    }
}
