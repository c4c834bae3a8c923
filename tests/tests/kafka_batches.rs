//! Batches go both ways between Apache Kafka's own code and ours, with every codec.

use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use conveyor_record::batch::{Batches, OwnedBatches};
use conveyor_record::{
    BatchBuilder, BatchOptions, Codec, Compressor, ControlType, Decompressor, NewRecord,
    ProduceRules, ProducerEpoch, ProducerId, read_control_record, stamp_header, validate_produce,
    validate_stored_deep,
};
use conveyor_record::{HEADER_SIZE, LeaderEpoch, Offset};
use conveyor_tests::kafka_jars::{KafkaRecord, interop, read_records};

const CODECS: [(&str, Codec); 5] = [
    ("none", Codec::None),
    ("gzip", Codec::Gzip),
    ("snappy", Codec::Snappy),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];
const OPENED_BYTES_MAX: usize = 16 << 20;

/// What our code reads in a file, in the shape in which Kafka's code prints it.
fn read_ours(file: &Path) -> Result<Vec<KafkaRecord>> {
    let mut records = Vec::new();
    let mut decompressor = Decompressor::new();
    for batch in OwnedBatches::new(Bytes::from(std::fs::read(file)?)) {
        let batch = batch?;
        batch.verify_crc()?;
        let header = *batch.header();
        let kind = if header.attributes.is_control() {
            "control"
        } else {
            "data"
        };
        let description = format!(
            "{}/{}/{}/{}/{}/{kind}/{}",
            header.codec()?,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.leader_epoch,
            header.max_timestamp_ms
        );
        for record in batch.records(&mut decompressor, OPENED_BYTES_MAX)? {
            let record = record?;
            records.push(KafkaRecord {
                offset: record.offset.value(),
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
                headers: record
                    .headers
                    .iter()
                    .map(|h| {
                        (
                            h.key_str().into_owned(),
                            h.value.as_ref().map(|v| v.to_vec()),
                        )
                    })
                    .collect(),
                batch: description.clone(),
            });
        }
    }
    Ok(records)
}

#[test]
fn batches_written_by_kafka_read_the_same_here() -> Result<()> {
    let folder = tempfile::tempdir()?;
    interop(&["write", folder.path().to_str().context("UTF-8")?], b"")?;
    for (name, _) in CODECS {
        let file = folder.path().join(format!("{name}.batches"));
        let ours = read_ours(&file)?;
        assert_eq!(
            ours.len(),
            (0..8).map(|batch| 1 + batch * 37).sum::<usize>()
        );
        assert_eq!(ours, read_records(&file)?, "{name}");
    }
    Ok(())
}

#[test]
fn batches_written_by_kafka_pass_the_checks_of_an_append() -> Result<()> {
    let folder = tempfile::tempdir()?;
    interop(&["write", folder.path().to_str().context("UTF-8")?], b"")?;
    let mut decompressor = Decompressor::new();
    for (name, codec) in CODECS {
        let file = std::fs::read(folder.path().join(format!("{name}.batches")))?;
        for batch in OwnedBatches::new(Bytes::from(file)) {
            // On the wire a batch begins at offset 0; in this file they follow each other.
            let batch = batch?.into_bytes();
            let mut sent = stamp_header(&batch, Offset(0), LeaderEpoch(-1)).to_vec();
            sent.extend_from_slice(&batch[HEADER_SIZE..]);
            let rules = ProduceRules {
                deep_check: true,
                now_ms: 1_700_000_100_000,
                ..Default::default()
            };
            let valid = validate_produce(&Bytes::from(sent), &rules, &mut decompressor)
                .with_context(|| name.to_owned())?;
            assert_eq!(valid.meta.codec, codec);
            assert!(
                valid.restamped.is_none(),
                "{name}: Kafka's own max timestamp is right"
            );
        }
    }
    Ok(())
}

#[test]
fn a_commit_marker_written_by_kafka_is_understood() -> Result<()> {
    let folder = tempfile::tempdir()?;
    interop(&["write", folder.path().to_str().context("UTF-8")?], b"")?;
    let file = std::fs::read(folder.path().join("commit.batches"))?;
    let batch = Batches::new(&file).next().context("one batch")??;
    assert!(batch.header().attributes.is_control());
    assert_eq!(batch.header().producer_id, ProducerId(4711));
    let mut decompressor = Decompressor::new();
    let record = batch
        .records(&mut decompressor, 1 << 10)?
        .next()
        .context("one record")??;
    let control = read_control_record(&record)?;
    assert_eq!(control.control_type, ControlType::Commit);
    assert_eq!(control.coordinator_epoch, 9);
    Ok(())
}

#[test]
fn batches_written_here_read_the_same_in_kafka() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, codec) in CODECS {
        let mut file = Vec::new();
        let mut next = Offset(1000);
        for batch in 0..6_usize {
            let bytes = build(codec, batch, 1 + batch * 41)?;
            let mut stored = stamp_header(&bytes, next, LeaderEpoch(7)).to_vec();
            stored.extend_from_slice(&bytes[HEADER_SIZE..]);
            let stored = Bytes::from(stored);
            validate_stored_deep(&stored, next, &mut Decompressor::new(), OPENED_BYTES_MAX)?;
            file.extend_from_slice(&stored);
            next += 1 + batch as i64 * 41;
        }
        let path = folder.path().join(format!("{name}.log"));
        std::fs::write(&path, file)?;
        let kafka = read_records(&path)?;
        assert_eq!(
            kafka.len(),
            (0..6).map(|batch| 1 + batch * 41).sum::<usize>()
        );
        assert_eq!(kafka, read_ours(&path)?, "{name}");
    }
    Ok(())
}

fn build(codec: Codec, batch: usize, records: usize) -> Result<Bytes> {
    let mut builder = BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    });
    builder.set_producer(
        ProducerId(900 + batch as i64),
        ProducerEpoch(2),
        batch as i32 * 100,
    );
    for i in 0..records {
        let key = format!("key-{i}");
        let value = format!("value-{batch}-{i}-{}", "ÿ".repeat(i % 200));
        builder.append(&NewRecord {
            timestamp_ms: 1_700_000_000_000 + (i as i64 * 37) % 501,
            key: (i % 5 != 1).then_some(key.as_bytes()),
            value: (i % 9 != 4).then_some(value.as_bytes()),
            headers: if i % 2 == 0 {
                &[]
            } else {
                &[
                    ("ce_type", Some(b"a")),
                    ("ce_type", Some(b"")),
                    ("none", None),
                ]
            },
        })?;
    }
    Ok(builder.build(&mut Compressor::new())?)
}
