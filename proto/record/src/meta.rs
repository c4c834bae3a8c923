//! What the rest of the broker needs to know of a batch, in a few words.
//!
//! Bytes stay with the log; pure parts (producer state, replication, groups) see a [`BatchMeta`].

use crate::compression::Codec;
use crate::header::{BatchHeader, TimestampType};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// The facts of one validated batch. For a batch of a client, offset and leader epoch are those it
/// sent, not yet those of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMeta {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// Bytes, header included.
    pub size: usize,
    /// Records in it; in a compacted log fewer than `last_offset_delta + 1`.
    pub record_count: i32,
    /// Offset of the last record less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in ms since the epoch.
    pub base_timestamp_ms: i64,
    /// Greatest timestamp in it, in ms since the epoch, or -1.
    pub max_timestamp_ms: i64,
    /// Offset delta of the first record with the greatest timestamp. For batches whose records
    /// were not looked at: the last offset delta, as Kafka does.
    pub max_timestamp_offset_delta: i32,
    /// Whose clock the timestamps come from.
    pub timestamp_type: TimestampType,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Codec of the records.
    pub codec: Codec,
    /// Whether it belongs to a transaction.
    pub is_transactional: bool,
    /// Whether it holds a control record.
    pub is_control: bool,
}

impl BatchMeta {
    /// The facts that the header alone tells.
    pub(crate) fn of(header: &BatchHeader, codec: Codec) -> Self {
        Self {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            size: header.size(),
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            base_timestamp_ms: header.base_timestamp_ms,
            max_timestamp_ms: header.max_timestamp_ms,
            max_timestamp_offset_delta: header.last_offset_delta,
            timestamp_type: header.attributes.timestamp_type(),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            codec,
            is_transactional: header.attributes.is_transactional(),
            is_control: header.attributes.is_control(),
        }
    }

    /// Whether it comes from an idempotent or transactional producer.
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id.is_some()
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset that follows the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Offset of the first record with the greatest timestamp.
    pub fn max_timestamp_offset(&self) -> Offset {
        self.base_offset + i64::from(self.max_timestamp_offset_delta)
    }

    /// Sequence number of the last record, or -1; wraps to 0 after 2^31 - 1.
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return crate::NO_SEQUENCE;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The same facts at another place in the log.
    #[must_use]
    pub const fn at(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        Self {
            base_offset,
            leader_epoch,
            ..self
        }
    }
}
