//! Compresses a produced batch anew, for topics that say how their batches are compressed
//! (`compression.type` other than `producer`). The records stay as they are, byte for byte, and so
//! does everything that the header says of them.

use bytes::Bytes;

use crate::builder::finish;
use crate::compression::{Codec, Compressor, Decompressor};
use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_SIZE};
use crate::meta::BatchMeta;
use crate::validate::ValidatedBatch;

/// The same batch with its records compressed by `codec`, at `level` or the codec's default one, and
/// what is known of it then. `validated` is what checking `batch` gave, with the records looked at
/// (`deep_check`), which they are trusted to have passed.
///
/// # Errors
/// What decompressing finds, [`DecompressedTooLarge`](crate::error::DecompressedTooLarge) beyond
/// `max_decompressed_bytes`, and what the codec finds.
pub fn recompress(
    batch: &[u8],
    validated: &ValidatedBatch,
    codec: Codec,
    level: Option<i32>,
    max_decompressed_bytes: usize,
    decompressor: &mut Decompressor,
    compressor: &mut Compressor,
) -> Result<(Bytes, ValidatedBatch), BatchError> {
    let header = BatchHeader::parse(validated.header(batch))?;
    let payload = batch.get(HEADER_SIZE..).unwrap_or_default();
    let records = match validated.meta.codec {
        Codec::None => payload,
        present => decompressor.decompress(present, payload, max_decompressed_bytes)?,
    };
    let payload = match codec {
        Codec::None => records,
        codec => compressor.compress(codec, level, records)?,
    };
    let mut bytes = Vec::with_capacity(HEADER_SIZE + payload.len());
    bytes.resize(HEADER_SIZE, 0);
    bytes.extend_from_slice(payload);
    let attributes = header.attributes.with_codec(codec);
    finish(
        &mut bytes,
        BatchHeader {
            attributes,
            ..header
        },
    )?;
    let meta = BatchMeta {
        size: bytes.len(),
        codec,
        ..validated.meta
    };
    let validated = ValidatedBatch {
        meta,
        restamped: None,
    };
    Ok((bytes.into(), validated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{BatchBuilder, BatchOptions, NewRecord};
    use crate::header::TimestampType;
    use crate::validate::{ProduceRules, validate_produce};
    use crate::{Batch, Offset};

    const LIMIT: usize = 1 << 20;

    fn produced(codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            ..BatchOptions::default()
        });
        for value in ["one", "two", "three"] {
            let record = NewRecord {
                timestamp_ms: 1_000,
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                headers: &[("header", Some(b"x"))],
            };
            builder.append(&record).expect("it fits");
        }
        builder.build(&mut Compressor::new()).expect("builds")
    }

    #[test]
    fn records_and_facts_stay_whatever_the_codecs() {
        let (mut decompressor, mut compressor) = (Decompressor::new(), Compressor::new());
        for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
            for (from, to) in Codec::ALL
                .into_iter()
                .flat_map(|from| Codec::ALL.map(|to| (from, to)))
            {
                let rules = ProduceRules {
                    timestamp_type,
                    now_ms: 5_000,
                    deep_check: true,
                    ..ProduceRules::default()
                };
                let batch = produced(from);
                let validated = validate_produce(&batch, &rules, &mut decompressor).expect("valid");
                let (again, facts) = recompress(
                    &batch,
                    &validated,
                    to,
                    None,
                    LIMIT,
                    &mut decompressor,
                    &mut compressor,
                )
                .expect("recompressed");
                assert_eq!(facts.meta.size, again.len());
                assert_eq!((facts.meta.codec, facts.restamped), (to, None));
                let stored = crate::validate_stored(&again, Offset::ZERO).expect("whole");
                assert_eq!(stored.max_timestamp_ms, validated.meta.max_timestamp_ms);
                assert_eq!(stored.timestamp_type, timestamp_type);
                let values = |bytes: Bytes| -> Vec<Bytes> {
                    let batch = Batch::parse(bytes).expect("a batch");
                    let records = batch
                        .records(&mut Decompressor::new(), LIMIT)
                        .expect("records");
                    records
                        .map(|record| record.expect("a record").value.expect("a value"))
                        .collect()
                };
                assert_eq!(values(again), values(batch));
            }
        }
    }
}
