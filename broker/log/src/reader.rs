//! What everybody but the owner holds of a partition: reads, positions, look-ups by time.
//!
//! A reader takes no lock that an append takes: it loads the list of segments that the owner
//! published last and reads by position below the published sizes. Every batch that leaves has been
//! checked against its CRC; damage is reported with its place and never skipped in silence.

use std::sync::Arc;

use bytes::Bytes;
use conveyor_record::{LeaderEpoch, Offset, ProducerId};
use uuid::Uuid;

use crate::error::ReadError;
use crate::partition::TopicPartition;
use crate::segment::{ReadLimits, Segment, SegmentError};
use crate::shared::LogShared;

mod time;

/// Whole batches, as they lie on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadChunk {
    /// The batches; empty if there is nothing to read yet.
    pub bytes: Bytes,
    /// Base offset of the first batch; may be lower than the offset asked for. The offset asked for
    /// if `bytes` is empty.
    pub first_offset: Offset,
    /// Where to read on: the offset after the last batch. Without batches it is the offset asked for,
    /// or the upper bound if compaction has left nothing up to there.
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
pub struct LogReader {
    pub(crate) shared: Arc<LogShared>,
}

impl LogReader {
    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        self.shared.partition()
    }

    /// The topic's id, from `partition.metadata`.
    pub fn topic_id(&self) -> Uuid {
        self.shared.topic_id
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.log_end()
    }

    /// Everything below is on disk, in the sense of a successful `fdatasync`.
    pub fn synced_offset(&self) -> Offset {
        self.shared.synced()
    }

    /// Recovery after a crash starts here; everything below is on disk and indexed.
    pub fn recovery_point(&self) -> Offset {
        self.shared.recovery_point()
    }

    /// Everything below is committed: consumers may see it. After opening it stands at the log start
    /// until [`Self::advance_high_watermark`] moves it: only the server knows what is committed.
    pub fn high_watermark(&self) -> Offset {
        self.shared.high_watermark()
    }

    /// Everything below is decided: no open transaction reaches there. At most the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        self.shared.last_stable_offset()
    }

    /// Moves the high watermark forward to `to`, at most to the log end; a smaller value changes
    /// nothing. Returns the high watermark.
    pub fn advance_high_watermark(&self, to: Offset) -> Offset {
        self.shared.advance_high_watermark(to)
    }

    /// Bytes of all segments, without indexes and zero-filled tails.
    pub fn size_bytes(&self) -> u64 {
        self.shared
            .segments()
            .iter()
            .map(|segment| segment.size())
            .sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// Epoch of the last batch, if there is one.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.epochs.read().latest()
    }

    /// Epoch of the leader that appended the batch at `offset`, if it is known.
    pub fn leader_epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.epochs.read().epoch_at(offset)
    }

    /// Where `leader_epoch` ends here; `None` if the epoch is newer than the log's or none is known.
    pub fn end_offset_for_epoch(&self, leader_epoch: LeaderEpoch) -> Option<EpochEndOffset> {
        let epochs = self.shared.epochs.read();
        let (leader_epoch, end_offset) = epochs.end_offset(leader_epoch, self.shared.log_end())?;
        Some(EpochEndOffset {
            leader_epoch,
            end_offset,
        })
    }

    /// Reads whole batches from the one that contains `from` up to `upper_bound` (exclusive, a batch
    /// boundary such as the high watermark), at most `max_bytes`. With `min_one_batch` the first
    /// batch comes whole even if it is larger. Every batch returned has a right CRC. One read stays
    /// within one segment.
    ///
    /// `from == upper_bound` gives an empty chunk; beyond it, or below the log start, is
    /// [`ReadError::OutOfRange`].
    pub fn read(
        &self,
        from: Offset,
        upper_bound: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<ReadChunk, ReadError> {
        let upper_bound = upper_bound.min(self.shared.log_end());
        let empty = ReadChunk {
            bytes: Bytes::new(),
            first_offset: from,
            next_offset: from,
            batch_count: 0,
        };
        self.check_range(from, upper_bound)?;
        if from == upper_bound {
            return Ok(empty);
        }
        let limits = ReadLimits {
            upper_bound,
            max_bytes,
            min_one_batch,
        };
        let found = self.first_in_segments(from, |segment| segment.read(from, limits))?;
        Ok(found.map_or(empty, |read| ReadChunk {
            bytes: read.bytes,
            first_offset: read.first_offset,
            next_offset: read.next_offset,
            batch_count: read.batch_count,
        }))
    }

    /// How many bytes a read from `from` up to `upper_bound` would find, without reading any: never
    /// too few, at times some more. `None` if only reading can tell: `from` does not lie in the active
    /// segment, or is out of range.
    pub fn bytes_between(&self, from: Offset, upper_bound: Offset) -> Option<u64> {
        let active = self.shared.active();
        if from < active.base() || from < self.shared.log_start() || from > self.shared.log_end() {
            return None;
        }
        if from >= upper_bound {
            return Some(0);
        }
        active.bytes_between(from, upper_bound).ok()
    }

    /// Transactions that were aborted and have records in `from..to`, by their first offset.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let segments = self.shared.segments();
        let first = first_segment(&segments, from);
        let mut aborted = Vec::new();
        for segment in &segments[first..] {
            let entries = segment
                .indexes()
                .and_then(|indexes| {
                    indexes
                        .transaction
                        .all()
                        .map_err(|error| segment.disk_error("read index of", error))
                })
                .map_err(|error| segment.read_error(error))?;
            for entry in &entries {
                if entry.last_offset >= from && entry.first_offset < to {
                    aborted.push(AbortedTransaction {
                        producer_id: entry.producer_id,
                        first_offset: entry.first_offset,
                    });
                }
            }
            // With everything below `to` decided, no later marker aborts something in the range.
            if entries
                .last()
                .is_some_and(|entry| entry.last_stable_offset >= to)
            {
                break;
            }
        }
        aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
        Ok(aborted)
    }

    fn check_range(&self, from: Offset, upper_bound: Offset) -> Result<(), ReadError> {
        let start = self.shared.log_start();
        if from < start || from > upper_bound {
            return Err(ReadError::OutOfRange {
                partition: self.partition().clone(),
                offset: from,
                start,
                end: upper_bound,
            });
        }
        Ok(())
    }

    /// The first answer of the segments from the one that holds `from` on. A closed segment that ends
    /// before its successor begins has lost its tail: that is reported, not passed over.
    fn first_in_segments<T>(
        &self,
        from: Offset,
        mut ask: impl FnMut(&Segment) -> Result<Option<T>, SegmentError>,
    ) -> Result<Option<T>, ReadError> {
        let segments = self.shared.segments();
        let first = first_segment(&segments, from);
        for (index, segment) in segments.iter().enumerate().skip(first) {
            if let Some(answer) = ask(segment).map_err(|error| segment.read_error(error))? {
                return Ok(Some(answer));
            }
            if let Some(next) = segments.get(index + 1)
                && from < next.base()
            {
                let what = format!("segment ends before its successor {} begins", next.base());
                let error = segment.damaged(segment.size(), from, what);
                return Err(segment.read_error(error));
            }
        }
        Ok(None)
    }
}

/// Index of the segment that holds `offset`.
fn first_segment(segments: &[Arc<Segment>], offset: Offset) -> usize {
    segments
        .partition_point(|segment| segment.base() <= offset)
        .saturating_sub(1)
}
