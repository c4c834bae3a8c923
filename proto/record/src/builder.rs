//! Builds a batch, record by record, into its final form.
//!
//! Records are encoded at once behind room for the header, so an uncompressed batch is finished by
//! writing 61 bytes into its own buffer; a compressed one is copied once, out of the compressor's
//! buffer, into bytes of exactly its size. Timestamps are relative to the first record's.
//!
//! Invariant: what [`BatchBuilder::build`] returns passes [`validate_produce`](crate::validate_produce)
//! and is not larger than the size limit, unless its one record alone is or compression made it grow.

use bytes::Bytes;

use crate::checksum::crc32c;
use crate::compression::{Codec, Compressor};
use crate::error::{BatchError, InvalidRecord, TooLarge};
use crate::header::{Attributes, BatchHeader, CRC_START, HEADER_SIZE, LOG_OVERHEAD, TimestampType};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::varint::{varint_size, varlong_size, write_varint, write_varlong};
use crate::{NO_SEQUENCE, NO_TIMESTAMP};

/// What a batch is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Codec of the records.
    pub codec: Codec,
    /// Level on the codec's own scale; its default if none.
    pub level: Option<i32>,
    /// The most bytes a batch may have before compression (`batch.size`).
    pub size_limit: usize,
    /// Offset of the first record; 0 in what a client sends.
    pub base_offset: Offset,
    /// Epoch of the leader; -1 in what a client sends.
    pub leader_epoch: LeaderEpoch,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub is_transactional: bool,
    /// Whether the batch holds a control record; brokers only.
    pub is_control: bool,
}

impl Default for BatchOptions {
    /// No compression, Kafka's `max.message.bytes` as limit, no producer id.
    fn default() -> Self {
        Self {
            codec: Codec::None,
            level: None,
            size_limit: 1_048_588,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: NO_SEQUENCE,
            is_transactional: false,
            is_control: false,
        }
    }
}

/// A record to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Its timestamp in ms since the epoch.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; keys may repeat.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl NewRecord<'_> {
    /// The most bytes this record adds to any batch.
    pub fn size_upper_bound(&self) -> usize {
        let body = self.body_size(i64::MAX, i32::MAX);
        body + varint_size(i32::try_from(body).unwrap_or(i32::MAX))
    }

    fn body_size(&self, timestamp_delta: i64, offset_delta: i32) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(key, value)| nullable_size(Some(key.as_bytes())) + nullable_size(*value))
            .sum::<usize>();
        1 + varlong_size(timestamp_delta)
            + varint_size(offset_delta)
            + nullable_size(self.key)
            + nullable_size(self.value)
            + varint_size(self.headers.len() as i32)
            + headers
    }
}

/// Builds one batch after another with the same options.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the encoded records; empty before the first record.
    buffer: Vec<u8>,
    record_count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// A builder without records and without memory for them yet.
    pub const fn new(options: BatchOptions) -> Self {
        Self {
            options,
            buffer: Vec::new(),
            record_count: 0,
            base_timestamp_ms: NO_TIMESTAMP,
            max_timestamp_ms: NO_TIMESTAMP,
        }
    }

    /// The options, producer and sequence as last set.
    pub const fn options(&self) -> &BatchOptions {
        &self.options
    }

    /// Sets who produces the batch; may be called until it is built.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        self.options.producer_id = id;
        self.options.producer_epoch = epoch;
        self.options.base_sequence = base_sequence;
    }

    /// Records added so far.
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether there is no record yet.
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch as it is now, before compression.
    pub fn size(&self) -> usize {
        self.buffer.len().max(HEADER_SIZE)
    }

    /// Whether `record` fits below the size limit. The first record always does, so that one larger
    /// than the limit gets a batch of its own.
    pub fn has_room_for(&self, record: &NewRecord<'_>) -> bool {
        self.is_empty() || self.size() + record.size_upper_bound() <= self.options.size_limit
    }

    /// Adds a record and returns its offset delta.
    ///
    /// # Errors
    /// [`TooLarge`] when [`Self::has_room_for`] says no, or a length exceeds 2^31 - 1. The batch is
    /// unchanged then.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<i32, BatchError> {
        let size = self.size().saturating_add(record.size_upper_bound());
        if size > i32::MAX as usize || self.record_count == i32::MAX {
            return Err(TooLarge {
                size,
                limit: i32::MAX as usize,
            }
            .into());
        }
        if !self.has_room_for(record) {
            return Err(TooLarge {
                size,
                limit: self.options.size_limit,
            }
            .into());
        }
        if self.is_empty() {
            self.base_timestamp_ms = record.timestamp_ms;
            self.buffer.resize(HEADER_SIZE, 0);
        }
        let timestamp_delta = record
            .timestamp_ms
            .checked_sub(self.base_timestamp_ms)
            .ok_or(InvalidRecord {
                index: self.record_count,
                reason: "timestamp is too far from the first record's",
            })?;
        let offset_delta = self.record_count;
        encode_record(&mut self.buffer, record, timestamp_delta, offset_delta);
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        self.record_count += 1;
        Ok(offset_delta)
    }

    /// Finishes the batch and leaves the builder empty, with the same options.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without records, or what the codec finds; the records are kept then.
    pub fn build(&mut self, compressor: &mut Compressor) -> Result<Bytes, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let mut batch = match self.options.codec {
            Codec::None => std::mem::take(&mut self.buffer),
            codec => {
                let records = &self.buffer[HEADER_SIZE..];
                let payload = compressor.compress(codec, self.options.level, records)?;
                let mut batch = Vec::with_capacity(HEADER_SIZE + payload.len());
                batch.resize(HEADER_SIZE, 0);
                batch.extend_from_slice(payload);
                self.buffer.clear();
                batch
            }
        };
        finish(&mut batch, self.header())?;
        self.clear();
        Ok(batch.into())
    }

    /// Drops the records.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.record_count = 0;
        self.base_timestamp_ms = NO_TIMESTAMP;
        self.max_timestamp_ms = NO_TIMESTAMP;
    }

    fn header(&self) -> BatchHeader {
        let options = &self.options;
        BatchHeader {
            base_offset: options.base_offset,
            batch_length: 0,
            leader_epoch: options.leader_epoch,
            crc: 0,
            attributes: Attributes::new(options.codec)
                .with_timestamp_type(TimestampType::CreateTime)
                .with_transactional(options.is_transactional)
                .with_control(options.is_control),
            last_offset_delta: self.record_count - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.record_count,
        }
    }
}

/// Writes `header` before the payload in `batch`, with length and CRC of what is there.
pub(crate) fn finish(batch: &mut [u8], mut header: BatchHeader) -> Result<(), BatchError> {
    header.batch_length = i32::try_from(batch.len() - LOG_OVERHEAD).map_err(|_| TooLarge {
        size: batch.len(),
        limit: i32::MAX as usize,
    })?;
    batch[..HEADER_SIZE].copy_from_slice(&header.encode());
    let crc = crc32c(&batch[CRC_START..]);
    batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

fn encode_record(
    out: &mut Vec<u8>,
    record: &NewRecord<'_>,
    timestamp_delta: i64,
    offset_delta: i32,
) {
    let body_size = record.body_size(timestamp_delta, offset_delta);
    out.reserve(body_size + varint_size(body_size as i32));
    write_varint(out, body_size as i32);
    out.push(0); // attributes: no bit of them is in use
    write_varlong(out, timestamp_delta);
    write_varint(out, offset_delta);
    write_nullable(out, record.key);
    write_nullable(out, record.value);
    write_varint(out, record.headers.len() as i32);
    for (key, value) in record.headers {
        write_nullable(out, Some(key.as_bytes()));
        write_nullable(out, *value);
    }
}

/// Writes a length and the bytes; -1 for null.
pub(crate) fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_varint(out, -1),
        Some(bytes) => {
            write_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

pub(crate) fn nullable_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => {
            varint_size(i32::try_from(bytes.len()).unwrap_or(i32::MAX)).saturating_add(bytes.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::compression::Decompressor;

    fn record(value: &[u8]) -> NewRecord<'_> {
        NewRecord {
            timestamp_ms: 1000,
            key: Some(b"key"),
            value: Some(value),
            headers: &[],
        }
    }

    fn values(batch: Bytes) -> Vec<Bytes> {
        Batch::parse(batch)
            .unwrap()
            .records(&mut Decompressor::new(), 1 << 20)
            .unwrap()
            .map(|record| record.unwrap().value.unwrap())
            .collect()
    }

    #[test]
    fn a_builder_is_used_again() {
        let mut compressor = Compressor::new();
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(BatchOptions {
                codec,
                ..BatchOptions::default()
            });
            assert_eq!(builder.build(&mut compressor), Err(BatchError::Empty));
            for round in [&b"one"[..], b"two"] {
                assert_eq!(builder.append(&record(round)), Ok(0));
                assert_eq!(builder.append(&record(b"more")), Ok(1));
                let batch = builder.build(&mut compressor).unwrap();
                assert_eq!(values(batch), [round, b"more"], "{codec}");
                assert!(builder.is_empty());
                assert_eq!(builder.size(), HEADER_SIZE);
            }
        }
    }

    #[test]
    fn the_size_is_exact_and_the_bound_holds() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for size in [0, 1, 63, 64, 8191, 8192, 100_000] {
            let value = vec![b'v'; size];
            let record = NewRecord {
                headers: &[("header", Some(b"x"))],
                ..record(&value)
            };
            let before = builder.size();
            builder.append(&record).unwrap();
            assert!(builder.size() - before <= record.size_upper_bound());
        }
        let size = builder.size();
        assert_eq!(builder.build(&mut Compressor::new()).unwrap().len(), size);
    }

    #[test]
    fn a_full_batch_takes_no_more_but_a_large_record_gets_its_own() {
        let mut builder = BatchBuilder::new(BatchOptions {
            size_limit: 200,
            ..BatchOptions::default()
        });
        assert_eq!(
            builder.append(&record(&[0; 500])),
            Ok(0),
            "alone, whatever its size"
        );
        assert!(!builder.has_room_for(&record(b"")));
        assert!(matches!(
            builder.append(&record(b"")),
            Err(BatchError::TooLarge(_))
        ));
        assert_eq!(builder.record_count(), 1);

        builder.clear();
        while builder.has_room_for(&record(b"0123456789")) {
            builder.append(&record(b"0123456789")).unwrap();
        }
        assert!(builder.record_count() > 1);
        assert!(builder.build(&mut Compressor::new()).unwrap().len() <= 200);
    }

    #[test]
    fn the_producer_may_be_set_late() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(&record(b"x")).unwrap();
        builder.set_producer(ProducerId(7), ProducerEpoch(1), 41);
        let batch = Batch::parse(builder.build(&mut Compressor::new()).unwrap()).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.header().producer_id, ProducerId(7));
        assert_eq!(batch.header().producer_epoch, ProducerEpoch(1));
        assert_eq!(batch.header().last_sequence(), 41);
    }

    #[test]
    fn timestamps_may_go_back_but_not_overflow() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let at = |timestamp_ms| NewRecord {
            timestamp_ms,
            ..record(b"x")
        };
        builder.append(&at(5000)).unwrap();
        builder.append(&at(4000)).unwrap();
        assert!(matches!(
            builder.append(&at(i64::MIN)),
            Err(BatchError::InvalidRecord(_))
        ));
        let batch = Batch::parse(builder.build(&mut Compressor::new()).unwrap()).unwrap();
        assert_eq!(batch.header().record_count, 2);
        assert_eq!(batch.header().base_timestamp_ms, 5000);
        assert_eq!(batch.header().max_timestamp_ms, 5000);
        let read: Vec<_> = batch
            .records(&mut Decompressor::new(), 100)
            .unwrap()
            .map(|record| record.unwrap().timestamp_ms)
            .collect();
        assert_eq!(read, [5000, 4000]);
    }
}
