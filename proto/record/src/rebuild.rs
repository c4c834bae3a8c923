//! Rebuilds a stored batch with a subset of its records: what compaction writes.
//!
//! Offsets, first and last offset, sequence, producer and leader epoch stay as they were, so that
//! fetches by offset and the producer state replayed from the log do not change. A batch may be left
//! without records, as a bare header, while it is the last of its producer. A delete horizon goes
//! into the base timestamp field (attribute bit 6), and the records' timestamps become relative to
//! it.

use bytes::Bytes;

use crate::NO_TIMESTAMP;
use crate::batch::BatchView;
use crate::builder::{finish, nullable_size, write_nullable};
use crate::compression::{Codec, Compressor, Decompressor};
use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_SIZE, TimestampType};
use crate::record::RecordView;
use crate::varint::{varint_size, varlong_size, write_varint, write_varlong};

/// How a batch is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// The most bytes the records may decompress to.
    pub max_decompressed_bytes: usize,
    /// From when on tombstones and markers in it may go, in ms since the epoch; none leaves what
    /// the batch has.
    pub delete_horizon_ms: Option<i64>,
    /// Whether a batch without records stays as a bare header.
    pub keep_empty: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuilt {
    /// Every record stays and nothing else changes: copy the batch as it is.
    Unchanged,
    /// The new batch, not larger than a record more than the old one.
    Changed(Bytes),
    /// No record stays, and the header need not.
    Removed,
}

/// Rebuilds `batch` with the records for which `keep` says yes, compressed by the same codec.
///
/// # Errors
/// What decompressing and reading the records finds. The batch should have passed its CRC.
pub fn rebuild_batch(
    batch: &BatchView<'_>,
    options: &RebuildOptions,
    decompressor: &mut Decompressor,
    compressor: &mut Compressor,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Rebuilt, BatchError> {
    let old = batch.header();
    let codec = old.codec()?;
    let horizon_ms = options
        .delete_horizon_ms
        .or_else(|| old.delete_horizon_ms());
    let base_timestamp_ms = horizon_ms.unwrap_or(old.base_timestamp_ms);

    let mut records = Vec::new();
    let mut kept = Kept::default();
    for record in batch.records(decompressor, options.max_decompressed_bytes)? {
        let record = record?;
        if keep(&record) {
            kept.add(&record);
            encode(&mut records, &record, base_timestamp_ms);
        }
    }

    if kept.count == 0 && !options.keep_empty {
        return Ok(Rebuilt::Removed);
    }
    if kept.count == old.record_count && horizon_ms == old.delete_horizon_ms() {
        return Ok(Rebuilt::Unchanged);
    }
    let header = BatchHeader {
        attributes: old.attributes.with_delete_horizon(horizon_ms.is_some()),
        base_timestamp_ms,
        max_timestamp_ms: kept.max_timestamp_ms(old),
        record_count: kept.count,
        ..*old
    };
    assemble(header, codec, &records, compressor).map(Rebuilt::Changed)
}

/// The records that stay, counted.
#[derive(Debug)]
struct Kept {
    count: i32,
    max_timestamp_ms: i64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            count: 0,
            max_timestamp_ms: NO_TIMESTAMP,
        }
    }
}

impl Kept {
    fn add(&mut self, record: &RecordView<'_>) {
        self.count += 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
    }

    /// The append time, and the time of a batch without records, are facts of the batch.
    fn max_timestamp_ms(&self, old: &BatchHeader) -> i64 {
        let of_batch = old.attributes.timestamp_type() == TimestampType::LogAppendTime;
        if of_batch || self.count == 0 {
            old.max_timestamp_ms
        } else {
            self.max_timestamp_ms
        }
    }
}

fn assemble(
    header: BatchHeader,
    codec: Codec,
    records: &[u8],
    compressor: &mut Compressor,
) -> Result<Bytes, BatchError> {
    // Kafka writes a bare header without a codec: there is nothing that it could apply to.
    let (header, payload) = if records.is_empty() {
        let attributes = header.attributes.with_codec(Codec::None);
        (
            BatchHeader {
                attributes,
                ..header
            },
            records,
        )
    } else if codec == Codec::None {
        (header, records)
    } else {
        (header, compressor.compress(codec, None, records)?)
    };
    let mut batch = Vec::with_capacity(HEADER_SIZE + payload.len());
    batch.resize(HEADER_SIZE, 0);
    batch.extend_from_slice(payload);
    finish(&mut batch, header)?;
    Ok(batch.into())
}

/// Encodes a record again with its offset delta, its timestamp relative to `base_timestamp_ms`.
fn encode(out: &mut Vec<u8>, record: &RecordView<'_>, base_timestamp_ms: i64) {
    let timestamp_delta = record.timestamp_ms.saturating_sub(base_timestamp_ms);
    let body_size = 1
        + varlong_size(timestamp_delta)
        + varint_size(record.offset_delta)
        + nullable_size(record.key)
        + nullable_size(record.value)
        + varint_size(record.header_count())
        + record.encoded_headers().len();
    write_varint(out, body_size as i32);
    out.push(0); // attributes: no bit of them is in use
    write_varlong(out, timestamp_delta);
    write_varint(out, record.offset_delta);
    write_nullable(out, record.key);
    write_nullable(out, record.value);
    write_varint(out, record.header_count());
    out.extend_from_slice(record.encoded_headers());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{BatchBuilder, BatchOptions, NewRecord};
    use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
    use crate::validate::validate_stored_deep;

    const LIMIT: usize = 1 << 20;
    const OPTIONS: RebuildOptions = RebuildOptions {
        max_decompressed_bytes: LIMIT,
        delete_horizon_ms: None,
        keep_empty: false,
    };

    /// Offsets 100 to 104, keys `0` to `4`, the latest timestamp on the fourth.
    fn batch(codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            base_offset: Offset(100),
            leader_epoch: LeaderEpoch(6),
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(2),
            base_sequence: 40,
            ..BatchOptions::default()
        });
        for (key, timestamp_ms) in [("0", 10), ("1", 20), ("2", 30), ("3", 90), ("4", 40)] {
            let record = NewRecord {
                timestamp_ms,
                key: Some(key.as_bytes()),
                value: Some(b"some value"),
                headers: &[("h", Some(b"1")), ("h", None)],
            };
            builder.append(&record).unwrap();
        }
        builder.build(&mut Compressor::new()).unwrap()
    }

    fn rebuild(batch: &[u8], options: RebuildOptions, keys: &str) -> Rebuilt {
        let view = BatchView::parse(batch).unwrap();
        let keep = |record: &RecordView<'_>| {
            let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
            key.is_some_and(|key| keys.contains(key))
        };
        let (mut decompressor, mut compressor) = (Decompressor::new(), Compressor::new());
        rebuild_batch(&view, &options, &mut decompressor, &mut compressor, keep).unwrap()
    }

    fn changed(rebuilt: Rebuilt) -> Bytes {
        match rebuilt {
            Rebuilt::Changed(batch) => batch,
            other => panic!("expected a new batch, got {other:?}"),
        }
    }

    fn records(batch: &Bytes) -> Vec<(i64, i64, usize)> {
        let mut decompressor = Decompressor::new();
        validate_stored_deep(batch, Offset(100), &mut decompressor, LIMIT).unwrap();
        BatchView::parse(batch)
            .unwrap()
            .records(&mut decompressor, LIMIT)
            .unwrap()
            .map(Result::unwrap)
            .map(|record| {
                (
                    record.offset.0,
                    record.timestamp_ms,
                    record.headers().count(),
                )
            })
            .collect()
    }

    #[test]
    fn kept_records_keep_offset_time_and_headers() {
        for codec in Codec::ALL {
            let old = batch(codec);
            let new = changed(rebuild(&old, OPTIONS, "024"));
            assert_eq!(
                records(&new),
                [(100, 10, 2), (102, 30, 2), (104, 40, 2)],
                "{codec}"
            );
            let expected = BatchHeader {
                record_count: 3,
                max_timestamp_ms: 40,
                batch_length: new.len() as i32 - 12,
                crc: BatchHeader::parse(&new).unwrap().crc,
                ..BatchHeader::parse(&old).unwrap()
            };
            assert_eq!(
                BatchHeader::parse(&new).unwrap(),
                expected,
                "the rest stays"
            );
            assert_eq!(rebuild(&new, OPTIONS, "024"), Rebuilt::Unchanged, "{codec}");
        }
    }

    #[test]
    fn a_batch_that_loses_nothing_is_left_alone() {
        assert_eq!(
            rebuild(&batch(Codec::Lz4), OPTIONS, "01234"),
            Rebuilt::Unchanged
        );
    }

    #[test]
    fn a_batch_that_loses_all_goes_unless_its_header_is_wanted() {
        for codec in Codec::ALL {
            let old = batch(codec);
            assert_eq!(rebuild(&old, OPTIONS, ""), Rebuilt::Removed);
            let keep_empty = RebuildOptions {
                keep_empty: true,
                ..OPTIONS
            };
            let bare = changed(rebuild(&old, keep_empty, ""));
            assert_eq!(bare.len(), HEADER_SIZE);
            assert!(records(&bare).is_empty());
            let header = BatchHeader::parse(&bare).unwrap();
            assert_eq!(header.last_offset(), Offset(104));
            assert_eq!(header.last_sequence(), 44);
            assert_eq!(header.producer_epoch, ProducerEpoch(2));
            assert_eq!(
                rebuild(&bare, keep_empty, ""),
                Rebuilt::Unchanged,
                "once is enough"
            );
            assert_eq!(rebuild(&bare, OPTIONS, ""), Rebuilt::Removed);
        }
    }

    #[test]
    fn the_delete_horizon_leaves_timestamps_as_they_are() {
        for codec in Codec::ALL {
            let with_horizon = RebuildOptions {
                delete_horizon_ms: Some(5000),
                ..OPTIONS
            };
            let new = changed(rebuild(&batch(codec), with_horizon, "01234"));
            let header = BatchHeader::parse(&new).unwrap();
            assert_eq!(header.delete_horizon_ms(), Some(5000));
            assert_eq!(header.max_timestamp_ms, 90);
            assert_eq!(records(&new)[3], (103, 90, 2), "{codec}");
            // A later pass without a new horizon keeps it.
            let later = changed(rebuild(&new, OPTIONS, "1"));
            assert_eq!(
                BatchHeader::parse(&later).unwrap().delete_horizon_ms(),
                Some(5000)
            );
            assert_eq!(records(&later), [(101, 20, 2)]);
        }
    }
}
