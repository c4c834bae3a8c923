//! Checks batches where they lie.
//!
//! [`validate_produce`] is what stands between a client and the log; it follows Kafka's checks
//! (`UnifiedLog.analyzeAndValidateRecords`, `LogValidator`) and never changes or copies the bytes.
//! Uncompressed records are walked in place, without allocating; compressed ones are opened only
//! when a rule needs to see them. [`validate_stored`] is for bytes that were accepted before:
//! recovery and followers.
//!
//! What a client may leave wrong and the broker sets right, the max timestamp and the timestamp
//! type, comes back as a new header with a new CRC, computed without a second pass.

use bytes::Bytes;

use crate::NO_TIMESTAMP;
use crate::batch::BatchView;
use crate::checksum::{crc32c, replace_prefix};
use crate::compression::{Codec, Decompressor};
use crate::error::{
    BatchError, InvalidHeader, InvalidRecord, InvalidTimestamp, OffsetOutOfOrder, TooLarge,
    TrailingBytes,
};
use crate::header::{BatchHeader, CRC_START, HEADER_SIZE, TimestampType};
use crate::ids::Offset;
use crate::meta::BatchMeta;
use crate::record::read_layout;

/// Who appends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendOrigin {
    /// A client: everything is checked.
    #[default]
    Client,
    /// A coordinator or controller of this broker: control batches are allowed, and batches of a
    /// producer's transaction without sequence numbers.
    Coordinator,
}

/// What a topic asks of the batches that are produced to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceRules {
    /// Who appends.
    pub origin: AppendOrigin,
    /// The most bytes a batch may have (`max.message.bytes`).
    pub max_message_bytes: usize,
    /// Whose clock the timestamps come from (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// How old a record may be, in ms (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
    /// How far in the future a record may be, in ms (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    /// The time now, in ms since the epoch.
    pub now_ms: i64,
    /// Whether every record needs a key: the topic is compacted.
    pub require_keys: bool,
    /// Whether compressed records are opened and walked too.
    pub deep_check: bool,
    /// The most bytes the records may decompress to, if they must be opened.
    pub max_decompressed_bytes: usize,
}

impl Default for ProduceRules {
    /// Kafka's defaults for a topic, at the epoch.
    fn default() -> Self {
        Self {
            origin: AppendOrigin::Client,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            now_ms: 0,
            require_keys: false,
            deep_check: false,
            max_decompressed_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A batch that may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// The facts of it, timestamps as they will be in the log.
    pub meta: BatchMeta,
    /// The header to append instead of the batch's first 61 bytes, if the broker had to set the
    /// max timestamp or the timestamp type. The CRC in it is right for the records as sent.
    pub restamped: Option<[u8; HEADER_SIZE]>,
}

impl ValidatedBatch {
    /// The header to be stamped and appended: the corrected one, or that of `batch`, the bytes
    /// that were validated.
    pub fn header<'a>(&'a self, batch: &'a [u8]) -> &'a [u8] {
        match &self.restamped {
            Some(header) => header,
            None => &batch[..HEADER_SIZE],
        }
    }
}

/// Checks a batch that is to be appended.
///
/// `bytes` must be exactly one batch. The decompressor is only used when a rule needs to see
/// compressed records: keys (`require_keys`), `deep_check`, or a max timestamp left unset.
///
/// # Errors
/// The first fault found, in the order: size, magic, length, codec, CRC, header fields, records.
pub fn validate_produce(
    bytes: &Bytes,
    rules: &ProduceRules,
    decompressor: &mut Decompressor,
) -> Result<ValidatedBatch, BatchError> {
    if bytes.len() > rules.max_message_bytes {
        return Err(TooLarge {
            size: bytes.len(),
            limit: rules.max_message_bytes,
        }
        .into());
    }
    let batch = parse_only(bytes)?;
    let header = batch.header();
    let codec = header.codec()?;
    batch.verify_crc()?;
    check_produced_header(header, rules)?;

    let mut meta = BatchMeta::of(header, codec);
    let must_look = rules.require_keys || rules.deep_check;
    if codec == Codec::None {
        let walked = walk_records(header, batch.payload(), rules)?;
        walked.apply_to(&mut meta);
    } else if must_look || header.max_timestamp_ms == NO_TIMESTAMP {
        let limit = rules.max_decompressed_bytes;
        let payload = decompressor.decompress(codec, batch.payload(), limit)?;
        let walked = walk_records(header, payload, rules)?;
        walked.apply_to(&mut meta);
    } else {
        let limits = TimestampLimits::of(rules);
        limits.check(0, header.base_timestamp_ms)?;
        limits.check(header.last_offset_delta, header.max_timestamp_ms)?;
    }
    if rules.timestamp_type == TimestampType::LogAppendTime {
        meta.timestamp_type = TimestampType::LogAppendTime;
        meta.max_timestamp_ms = rules.now_ms;
        meta.max_timestamp_offset_delta = 0;
    }
    let restamped = restamp(header, bytes, &meta);
    Ok(ValidatedBatch { meta, restamped })
}

/// Checks a batch that was accepted before, when a log is recovered or a follower appends: that it
/// is one whole batch, unharmed, and follows what is there (`min_base_offset`). Deltas may have
/// gaps and there may be no records at all, since compaction leaves that.
///
/// # Errors
/// The first fault found.
pub fn validate_stored(bytes: &[u8], min_base_offset: Offset) -> Result<BatchMeta, BatchError> {
    let batch = parse_only(bytes)?;
    let header = batch.header();
    let codec = header.codec()?;
    batch.verify_crc()?;
    check_stored_header(header)?;
    if header.base_offset < min_base_offset {
        let base_offset = header.base_offset;
        return Err(OffsetOutOfOrder {
            base_offset,
            expected: min_base_offset,
        }
        .into());
    }
    Ok(BatchMeta::of(header, codec))
}

/// As [`validate_stored`], and opens the records: real count, ascending offset deltas within the
/// batch, offset of the greatest timestamp. For compaction, verification tools and rebuilding a
/// time index.
///
/// # Errors
/// The first fault found; [`DecompressedTooLarge`](crate::error::DecompressedTooLarge) beyond
/// `max_decompressed_bytes`.
pub fn validate_stored_deep(
    bytes: &[u8],
    min_base_offset: Offset,
    decompressor: &mut Decompressor,
    max_decompressed_bytes: usize,
) -> Result<BatchMeta, BatchError> {
    let mut meta = validate_stored(bytes, min_base_offset)?;
    let batch = BatchView::parse(bytes)?;
    if batch.payload().is_empty() && meta.record_count == 0 {
        return Ok(meta);
    }
    let mut previous_delta = -1;
    let mut max_timestamp = MaxTimestamp::default();
    for (index, record) in (0..).zip(batch.records(decompressor, max_decompressed_bytes)?) {
        let record = record?;
        if record.offset_delta <= previous_delta || record.offset_delta > meta.last_offset_delta {
            let reason = "offset delta is not ascending within the batch";
            return Err(InvalidRecord { index, reason }.into());
        }
        previous_delta = record.offset_delta;
        max_timestamp.see(record.timestamp_ms, record.offset_delta);
    }
    if meta.record_count > 0 {
        meta.max_timestamp_offset_delta = max_timestamp.offset_delta;
    }
    Ok(meta)
}

/// The one batch that `bytes` must be.
fn parse_only(bytes: &[u8]) -> Result<BatchView<'_>, BatchError> {
    let batch = BatchView::parse(bytes)?;
    let size = batch.bytes().len();
    if size < bytes.len() {
        return Err(TrailingBytes {
            size,
            trailing: bytes.len() - size,
        }
        .into());
    }
    Ok(batch)
}

fn check_stored_header(header: &BatchHeader) -> Result<(), InvalidHeader> {
    if header.base_offset < Offset::ZERO
        || header.base_offset.0 > i64::MAX - 1 - i64::from(header.last_offset_delta)
    {
        return Err(fault("base offset", header.base_offset.0, "out of range"));
    }
    if i64::from(header.record_count) > i64::from(header.last_offset_delta) + 1 {
        let count = i64::from(header.record_count);
        return Err(fault(
            "record count",
            count,
            "greater than last offset delta + 1",
        ));
    }
    Ok(())
}

fn check_produced_header(header: &BatchHeader, rules: &ProduceRules) -> Result<(), BatchError> {
    let attributes = header.attributes;
    if header.base_offset != Offset::ZERO {
        return Err(fault(
            "base offset",
            header.base_offset.0,
            "must be 0 when produced",
        )
        .into());
    }
    if header.record_count == 0 {
        return Err(fault("record count", 0, "must not be 0 when produced").into());
    }
    if header.record_count - 1 != header.last_offset_delta {
        let count = i64::from(header.record_count);
        return Err(fault("record count", count, "is not last offset delta + 1").into());
    }
    let bits = i64::from(attributes.0);
    if attributes.is_control() && rules.origin == AppendOrigin::Client {
        return Err(fault("attributes", bits, "clients must not send control batches").into());
    }
    if attributes.has_delete_horizon() {
        return Err(fault("attributes", bits, "only compaction sets a delete horizon").into());
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(fault("attributes", bits, "only the broker sets LogAppendTime").into());
    }
    check_producer(header, rules.origin)?;
    Ok(())
}

fn check_producer(header: &BatchHeader, origin: AppendOrigin) -> Result<(), InvalidHeader> {
    let sequence = i64::from(header.base_sequence);
    let epoch = i64::from(header.producer_epoch.0);
    if header.producer_id.is_some() {
        if header.producer_epoch.0 < 0 {
            return Err(fault(
                "producer epoch",
                epoch,
                "negative with a producer id",
            ));
        }
        // Coordinators write for producers, whose sequences they do not take part in.
        let is_by_coordinator = origin == AppendOrigin::Coordinator;
        if header.base_sequence < 0 && !header.attributes.is_control() && !is_by_coordinator {
            return Err(fault(
                "base sequence",
                sequence,
                "negative with a producer id",
            ));
        }
        return Ok(());
    }
    if header.producer_id.0 < -1 {
        return Err(fault("producer id", header.producer_id.0, "less than -1"));
    }
    if header.attributes.is_transactional() {
        let bits = i64::from(header.attributes.0);
        return Err(fault(
            "attributes",
            bits,
            "transactional without a producer id",
        ));
    }
    Ok(())
}

const fn fault(field: &'static str, value: i64, reason: &'static str) -> InvalidHeader {
    InvalidHeader {
        field,
        value,
        reason,
    }
}

/// What a look at the records of a produced batch found.
struct Walked {
    max_timestamp: MaxTimestamp,
}

impl Walked {
    fn apply_to(&self, meta: &mut BatchMeta) {
        meta.max_timestamp_ms = self.max_timestamp.timestamp_ms;
        meta.max_timestamp_offset_delta = self.max_timestamp.offset_delta;
    }
}

/// Walks the records of a produced batch without copying: each fills its length, offset deltas are
/// 0 to n - 1, timestamps lie within the limits, keys are there if they must be.
fn walk_records(
    header: &BatchHeader,
    payload: &[u8],
    rules: &ProduceRules,
) -> Result<Walked, BatchError> {
    let limits = TimestampLimits::of(rules);
    let mut max_timestamp = MaxTimestamp::default();
    let mut position = 0;
    for index in 0..header.record_count {
        let layout =
            read_layout(payload, position).map_err(|reason| InvalidRecord { index, reason })?;
        if layout.offset_delta != index {
            let reason = "offset delta is not the record's place in the batch";
            return Err(InvalidRecord { index, reason }.into());
        }
        if rules.require_keys && !layout.has_key() {
            let reason = "has no key, which a compacted topic needs";
            return Err(InvalidRecord { index, reason }.into());
        }
        let timestamp_ms = header
            .base_timestamp_ms
            .saturating_add(layout.timestamp_delta);
        limits.check(index, timestamp_ms)?;
        max_timestamp.see(timestamp_ms, index);
        position = layout.end;
    }
    if position != payload.len() {
        let index = header.record_count;
        return Err(InvalidRecord {
            index,
            reason: "bytes follow the last record",
        }
        .into());
    }
    Ok(Walked { max_timestamp })
}

/// The greatest timestamp seen and the first record that has it.
struct MaxTimestamp {
    timestamp_ms: i64,
    offset_delta: i32,
}

impl Default for MaxTimestamp {
    fn default() -> Self {
        Self {
            timestamp_ms: NO_TIMESTAMP,
            offset_delta: 0,
        }
    }
}

impl MaxTimestamp {
    #[inline]
    fn see(&mut self, timestamp_ms: i64, offset_delta: i32) {
        if timestamp_ms > self.timestamp_ms {
            self.timestamp_ms = timestamp_ms;
            self.offset_delta = offset_delta;
        }
    }
}

/// From when to when a record's timestamp may be.
struct TimestampLimits {
    min_ms: i64,
    max_ms: i64,
}

impl TimestampLimits {
    /// With `LogAppendTime` the producer's timestamps do not count.
    fn of(rules: &ProduceRules) -> Self {
        match rules.timestamp_type {
            TimestampType::LogAppendTime => Self {
                min_ms: i64::MIN,
                max_ms: i64::MAX,
            },
            TimestampType::CreateTime => Self {
                min_ms: rules
                    .now_ms
                    .saturating_sub(rules.timestamp_before_max_ms)
                    .max(0),
                max_ms: rules.now_ms.saturating_add(rules.timestamp_after_max_ms),
            },
        }
    }

    /// "No timestamp" passes, as in Kafka; other negative ones do not.
    #[inline]
    fn check(&self, index: i32, timestamp_ms: i64) -> Result<(), InvalidTimestamp> {
        let within = self.min_ms <= timestamp_ms && timestamp_ms <= self.max_ms;
        if within || timestamp_ms == NO_TIMESTAMP {
            return Ok(());
        }
        Err(InvalidTimestamp {
            index,
            timestamp_ms,
            min_ms: self.min_ms,
            max_ms: self.max_ms,
        })
    }
}

/// A header that says what `meta` says, if the batch's own does not.
fn restamp(header: &BatchHeader, batch: &[u8], meta: &BatchMeta) -> Option<[u8; HEADER_SIZE]> {
    let attributes = header.attributes.with_timestamp_type(meta.timestamp_type);
    if attributes == header.attributes && meta.max_timestamp_ms == header.max_timestamp_ms {
        return None;
    }
    let mut new = BatchHeader {
        attributes,
        max_timestamp_ms: meta.max_timestamp_ms,
        ..*header
    };
    new.crc = replace_prefix(
        header.crc,
        crc32c(&batch[CRC_START..HEADER_SIZE]),
        crc32c(&new.encode()[CRC_START..]),
        batch.len() - HEADER_SIZE,
    );
    Some(new.encode())
}
