//! The 61 bytes before the records of a batch.
//!
//! Owns their layout (table in the crate's head comment) and the attribute bits:
//!
//! ```text
//! bit 0-2 codec | 3 LogAppendTime | 4 transactional | 5 control | 6 delete horizon | 7-15 unused
//! ```
//! Invariant: a [`BatchHeader`] that [`BatchHeader::parse`] returned has magic 2, a length of at
//! least the header's, and no negative count or delta. It says nothing about the records or the CRC.

use crate::compression::Codec;
use crate::error::{BatchError, InvalidHeader, Truncated, UnsupportedCodec, UnsupportedMagic};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes of a batch header.
pub const HEADER_SIZE: usize = 61;
/// Bytes before those that the length field counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// The only format version there is here.
pub const MAGIC: i8 = 2;
/// Where the bytes begin that the CRC covers.
pub const CRC_START: usize = 21;

const MAGIC_POSITION: usize = 16;
const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Which clock the timestamps of a batch come from (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    #[default]
    CreateTime,
    /// The broker's: every record has the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    /// Attributes that name a codec and nothing else.
    pub const fn new(codec: Codec) -> Self {
        Self(codec.id() as i16)
    }

    /// The codec of the records.
    pub fn codec(self) -> Result<Codec, UnsupportedCodec> {
        let codec_id = (self.0 & CODEC_MASK) as u8;
        Codec::from_id(codec_id).ok_or(UnsupportedCodec { codec_id })
    }

    /// Whose clock the timestamps come from.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds a control record, which no application sees.
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL_BIT != 0
    }

    /// Whether the base timestamp field holds the delete horizon instead.
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON_BIT != 0
    }

    /// The same with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with_bit(
            LOG_APPEND_TIME_BIT,
            matches!(timestamp_type, TimestampType::LogAppendTime),
        )
    }

    /// The same, with or without the transactional bit.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with_bit(TRANSACTIONAL_BIT, transactional)
    }

    /// The same, with or without the control bit.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with_bit(CONTROL_BIT, control)
    }

    /// The same, with or without the delete horizon bit.
    #[must_use]
    pub const fn with_delete_horizon(self, horizon: bool) -> Self {
        self.with_bit(DELETE_HORIZON_BIT, horizon)
    }

    /// The same with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !CODEC_MASK) | codec.id() as i16)
    }

    const fn with_bit(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// A batch header, field by field, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; a client sends 0, the leader sets it.
    pub base_offset: Offset,
    /// Bytes that follow byte 12.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; the leader sets it.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from byte 21 on.
    pub crc: u32,
    /// Codec, timestamp type and kind of the batch.
    pub attributes: Attributes,
    /// Offset of the last record the batch ever had, less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in ms; the delete horizon if that bit is set.
    pub base_timestamp_ms: i64,
    /// Greatest timestamp of the records, in ms; the append time if that is the timestamp type.
    pub max_timestamp_ms: i64,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records there are; compaction may leave fewer than `last_offset_delta + 1`, even none.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header from the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// [`Truncated`] when there are fewer than 61 bytes, [`UnsupportedMagic`], or [`InvalidHeader`]
    /// for a length, count or delta that no batch has.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_POSITION)
            && magic as i8 != MAGIC
        {
            return Err(UnsupportedMagic { magic: magic as i8 }.into());
        }
        let Some(raw) = bytes.first_chunk::<HEADER_SIZE>() else {
            return Err(Truncated {
                position: 0,
                needed: HEADER_SIZE,
                available: bytes.len(),
            }
            .into());
        };
        let header = Self::decode(raw);
        header.check_structure()?;
        Ok(header)
    }

    fn decode(raw: &[u8; HEADER_SIZE]) -> Self {
        Self {
            base_offset: Offset(i64::from_be_bytes(field(raw, 0))),
            batch_length: i32::from_be_bytes(field(raw, 8)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(raw, 12))),
            crc: u32::from_be_bytes(field(raw, 17)),
            attributes: Attributes(i16::from_be_bytes(field(raw, 21))),
            last_offset_delta: i32::from_be_bytes(field(raw, 23)),
            base_timestamp_ms: i64::from_be_bytes(field(raw, 27)),
            max_timestamp_ms: i64::from_be_bytes(field(raw, 35)),
            producer_id: ProducerId(i64::from_be_bytes(field(raw, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(raw, 51))),
            base_sequence: i32::from_be_bytes(field(raw, 53)),
            record_count: i32::from_be_bytes(field(raw, 57)),
        }
    }

    fn check_structure(&self) -> Result<(), InvalidHeader> {
        let fault = |field, value: i32, reason| InvalidHeader {
            field,
            value: i64::from(value),
            reason,
        };
        if self.batch_length < (HEADER_SIZE - LOG_OVERHEAD) as i32 {
            return Err(fault(
                "batch length",
                self.batch_length,
                "shorter than its header",
            ));
        }
        if self.last_offset_delta < 0 {
            return Err(fault(
                "last offset delta",
                self.last_offset_delta,
                "negative",
            ));
        }
        if self.record_count < 0 {
            return Err(fault("record count", self.record_count, "negative"));
        }
        Ok(())
    }

    /// Writes the 61 bytes, the CRC as it stands in the field.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut raw = [0; HEADER_SIZE];
        raw[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        raw[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        raw[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        raw[16] = MAGIC as u8;
        raw[17..21].copy_from_slice(&self.crc.to_be_bytes());
        raw[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        raw[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        raw[27..35].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        raw[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        raw[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        raw[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        raw[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        raw[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        raw
    }

    /// Bytes of the whole batch, header included.
    pub const fn size(&self) -> usize {
        LOG_OVERHEAD + self.batch_length as usize
    }

    /// Offset of the last record the batch ever had.
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset that follows the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Sequence number of the last record the batch ever had, or -1; wraps to 0 after 2^31 - 1.
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return crate::NO_SEQUENCE;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The codec of the records.
    pub fn codec(&self) -> Result<Codec, UnsupportedCodec> {
        self.attributes.codec()
    }

    /// From when on tombstones and markers of this batch may go, in ms since the epoch, if
    /// compaction has set it.
    pub const fn delete_horizon_ms(&self) -> Option<i64> {
        if self.attributes.has_delete_horizon() {
            Some(self.base_timestamp_ms)
        } else {
            None
        }
    }
}

/// A copy of the header of `batch` with base offset and leader epoch set: all that an append
/// changes. Both lie outside the CRC.
///
/// # Panics
/// If `batch` is shorter than a header: only validated batches are stamped.
pub fn stamp_header(
    batch: &[u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> [u8; HEADER_SIZE] {
    let header = batch.first_chunk::<HEADER_SIZE>();
    assert!(
        header.is_some(),
        "stamped batch of {} bytes has no header",
        batch.len()
    );
    let mut stamped = header.copied().unwrap_or([0; HEADER_SIZE]);
    stamped[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    stamped[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
    stamped
}

/// The `N` bytes of a header from `position` on.
fn field<const N: usize>(raw: &[u8; HEADER_SIZE], position: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[position..position + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(70_000_000_001),
            batch_length: 300,
            leader_epoch: LeaderEpoch(9),
            crc: 0xdead_beef,
            attributes: Attributes::new(Codec::Zstd).with_transactional(true),
            last_offset_delta: 4,
            base_timestamp_ms: 1_700_000_000_000,
            max_timestamp_ms: 1_700_000_000_400,
            producer_id: ProducerId(12),
            producer_epoch: ProducerEpoch(3),
            base_sequence: 77,
            record_count: 5,
        }
    }

    #[test]
    fn fields_lie_where_kafka_puts_them() {
        let raw = header().encode();
        assert_eq!(raw[0..8], 70_000_000_001_i64.to_be_bytes());
        assert_eq!(raw[8..12], 300_i32.to_be_bytes());
        assert_eq!(raw[12..16], 9_i32.to_be_bytes());
        assert_eq!(raw[16], 2);
        assert_eq!(raw[17..21], 0xdead_beef_u32.to_be_bytes());
        assert_eq!(raw[21..23], [0, 0b1_0100]);
        assert_eq!(raw[23..27], 4_i32.to_be_bytes());
        assert_eq!(raw[27..35], 1_700_000_000_000_i64.to_be_bytes());
        assert_eq!(raw[35..43], 1_700_000_000_400_i64.to_be_bytes());
        assert_eq!(raw[43..51], 12_i64.to_be_bytes());
        assert_eq!(raw[51..53], 3_i16.to_be_bytes());
        assert_eq!(raw[53..57], 77_i32.to_be_bytes());
        assert_eq!(raw[57..61], 5_i32.to_be_bytes());
        assert_eq!(BatchHeader::parse(&raw).unwrap(), header());
    }

    #[test]
    fn a_stamp_changes_offset_and_epoch_only() {
        let raw = header().encode();
        let stamped = stamp_header(&raw, Offset(5), LeaderEpoch(2));
        let expected = BatchHeader {
            base_offset: Offset(5),
            leader_epoch: LeaderEpoch(2),
            ..header()
        };
        assert_eq!(BatchHeader::parse(&stamped).unwrap(), expected);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let at = |base_sequence| {
            BatchHeader {
                base_sequence,
                ..header()
            }
            .last_sequence()
        };
        assert_eq!(at(77), 81);
        assert_eq!(at(i32::MAX), 3);
        assert_eq!(at(-1), -1);
    }

    #[test]
    fn impossible_headers_are_refused() {
        let cut = BatchHeader::parse(&header().encode()[..60]);
        assert!(matches!(cut, Err(BatchError::Truncated(_))));

        let mut old = header().encode();
        old[16] = 1;
        let error = BatchHeader::parse(&old).unwrap_err();
        assert_eq!(error, UnsupportedMagic { magic: 1 }.into());
        assert_eq!(
            error.to_string(),
            "batch has magic 1, only magic 2 is supported"
        );
        assert_eq!(
            BatchHeader::parse(&old[..17]),
            Err(UnsupportedMagic { magic: 1 }.into())
        );

        for broken in [
            BatchHeader {
                batch_length: 48,
                ..header()
            },
            BatchHeader {
                batch_length: -1,
                ..header()
            },
            BatchHeader {
                last_offset_delta: -1,
                ..header()
            },
            BatchHeader {
                record_count: -1,
                ..header()
            },
        ] {
            let result = BatchHeader::parse(&broken.encode());
            assert!(
                matches!(result, Err(BatchError::InvalidHeader(_))),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn attribute_bits_stand_alone() {
        let plain = Attributes::new(Codec::Lz4);
        assert_eq!(plain.with_control(true).0, 0b10_0011);
        assert_eq!(plain.with_delete_horizon(true).0, 0b100_0011);
        assert_eq!(
            plain.with_timestamp_type(TimestampType::LogAppendTime).0,
            0b1011
        );
        assert_eq!(plain.with_codec(Codec::None).0, 0);
        assert_eq!(plain.with_control(true).with_control(false), plain);
        assert_eq!(Attributes(7).codec(), Err(UnsupportedCodec { codec_id: 7 }));
    }
}
