//! What can be wrong with a batch: small structs with the facts, one enum around them.
//!
//! Which topic and partition it was for is known to the caller, who also maps the variants to wire
//! codes. Nothing here is our own mistake: each value describes bytes that came from outside.

use thiserror::Error;

use crate::compression::Codec;
use crate::ids::Offset;

/// Why a batch cannot be taken or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The bytes go on behind the one batch that was expected.
    #[error(transparent)]
    TrailingBytes(#[from] TrailingBytes),
    /// The format version is not 2.
    #[error(transparent)]
    UnsupportedMagic(#[from] UnsupportedMagic),
    /// The attributes name a codec that does not exist.
    #[error(transparent)]
    UnsupportedCodec(#[from] UnsupportedCodec),
    /// The checksum does not match.
    #[error(transparent)]
    CorruptCrc(#[from] CorruptCrc),
    /// The batch, or the record to be added, is larger than the limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A header field has a value that it must not have.
    #[error(transparent)]
    InvalidHeader(#[from] InvalidHeader),
    /// A record does not hold what the format or the topic asks for.
    #[error(transparent)]
    InvalidRecord(#[from] InvalidRecord),
    /// A timestamp lies outside the topic's limits.
    #[error(transparent)]
    InvalidTimestamp(#[from] InvalidTimestamp),
    /// The batch starts before the log's end, so it would repeat or reorder offsets.
    #[error(transparent)]
    OffsetOutOfOrder(#[from] OffsetOutOfOrder),
    /// The records do not decompress.
    #[error(transparent)]
    Decompression(#[from] Decompression),
    /// The records decompress to more than the caller allows.
    #[error(transparent)]
    DecompressedTooLarge(#[from] DecompressedTooLarge),
    /// The codec refused to compress.
    #[error(transparent)]
    Compression(#[from] Compression),
    /// There is no record to build a batch of.
    #[error("batch has no records")]
    Empty,
}

impl BatchError {
    /// Whether sending the same bytes again may help, because they may have been damaged on the
    /// way. Every other fault lies in the batch itself.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Truncated(_) | Self::CorruptCrc(_))
    }
}

/// The bytes end before the batch does: a torn tail, or more is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch at byte {position} needs {needed} bytes, {available} are there")]
pub struct Truncated {
    /// Where the batch starts in the buffer that was given.
    pub position: usize,
    /// Bytes the batch needs; a lower bound while the header itself is incomplete.
    pub needed: usize,
    /// Bytes there are from `position` on.
    pub available: usize,
}

/// Bytes follow the one batch that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch of {size} bytes is followed by {trailing} more, expected exactly one batch")]
pub struct TrailingBytes {
    /// Size of the batch by its header.
    pub size: usize,
    /// Bytes behind it.
    pub trailing: usize,
}

/// A format version other than 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch has magic {magic}, only magic 2 is supported")]
pub struct UnsupportedMagic {
    /// The magic byte found.
    pub magic: i8,
}

/// A codec id without a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch names codec {codec_id}, known are 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd")]
pub struct UnsupportedCodec {
    /// The id found in the attributes.
    pub codec_id: u8,
}

/// A checksum that does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch has crc {stored:#010x}, its bytes give {computed:#010x}")]
pub struct CorruptCrc {
    /// What the header says.
    pub stored: u32,
    /// What the bytes give.
    pub computed: u32,
}

/// More bytes than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{size} bytes are more than the limit of {limit}")]
pub struct TooLarge {
    /// Bytes of the batch or record.
    pub size: usize,
    /// The limit, such as `max.message.bytes` or `batch.size`.
    pub limit: usize,
}

/// A header field with an impossible or forbidden value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch header has {field} {value}: {reason}")]
pub struct InvalidHeader {
    /// Kafka's name of the field.
    pub field: &'static str,
    /// The value found.
    pub value: i64,
    /// The rule it breaks.
    pub reason: &'static str,
}

/// A record with an impossible or forbidden content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("record {index} of the batch: {reason}")]
pub struct InvalidRecord {
    /// Which record, counted from 0 in the batch.
    pub index: i32,
    /// The rule it breaks.
    pub reason: &'static str,
}

/// A timestamp outside the topic's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "record {index} of the batch has timestamp {timestamp_ms}, allowed are {min_ms} to {max_ms}"
)]
pub struct InvalidTimestamp {
    /// Which record, counted from 0 in the batch.
    pub index: i32,
    /// The timestamp found, in ms since the epoch.
    pub timestamp_ms: i64,
    /// The earliest allowed (`message.timestamp.before.max.ms`).
    pub min_ms: i64,
    /// The latest allowed (`message.timestamp.after.max.ms`).
    pub max_ms: i64,
}

/// A stored batch that does not follow the batch before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("batch has base offset {base_offset}, expected {expected} or more")]
pub struct OffsetOutOfOrder {
    /// The base offset found.
    pub base_offset: Offset,
    /// The least that may come here.
    pub expected: Offset,
}

/// Records that do not decompress.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("records do not decompress as {codec}: {reason}")]
pub struct Decompression {
    /// The codec of the batch.
    pub codec: Codec,
    /// What the codec said.
    pub reason: String,
}

/// Records that decompress to too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("records decompress by {codec} to more than the limit of {limit} bytes")]
pub struct DecompressedTooLarge {
    /// The codec of the batch.
    pub codec: Codec,
    /// The most that the caller allows.
    pub limit: usize,
}

/// A codec that refused to compress, as it does for a level it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("records do not compress as {codec}: {reason}")]
pub struct Compression {
    /// The codec asked for.
    pub codec: Codec,
    /// What the codec said.
    pub reason: String,
}
