//! Producer snapshots: `<offset>.snapshot`, the state after everything below that offset.
//!
//! ```text
//! version i16 = 1 | CRC-32C u32 of what follows | count i32 | count entries:
//!     producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32
//!     | timestamp i64 | coordinator epoch i32 | first offset of the open transaction i64 or -1
//! then, ours: magic "CVPB" | for each producer: batch count u8, and for each batch
//!     first sequence i32 | last sequence i32 | base offset i64 | last offset i64 | timestamp i64
//! ```
//! The first part is Kafka's. Kafka keeps only the last batch of a producer, so that after a restart
//! it refuses the retry of an earlier one; the second part, which Kafka's reader passes over, keeps
//! all five. A snapshot that is cut, damaged or of another version is as good as none.

use std::path::{Path, PathBuf};

use conveyor_record::checksum::crc32c;
use conveyor_record::{Offset, ProducerEpoch, ProducerId};

use super::{BATCHES_KEPT, Producer, ProducerBatch, Producers};
use crate::disk::{Disk, read_small};
use crate::error::DiskError;

const VERSION: i16 = 1;
const CRC_END: usize = 6;
const EXTENSION_MAGIC: &[u8; 4] = b"CVPB";
/// 100 million producers; a larger file is not one of ours.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// The path of the snapshot at `offset`.
pub(crate) fn path(folder: &Path, offset: Offset) -> PathBuf {
    folder.join(format!("{:020}.snapshot", offset.value()))
}

pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + producers.len() * 256);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(producers.len() as i32).to_be_bytes());
    for (id, producer) in producers.iter() {
        let last = producer.batches.back();
        let delta = last.map_or(0, |batch| (batch.last_offset - batch.base_offset) as i32);
        out.extend_from_slice(&id.value().to_be_bytes());
        out.extend_from_slice(&producer.epoch.value().to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |batch| batch.last_sequence).to_be_bytes());
        out.extend_from_slice(
            &last
                .map_or(-1, |batch| batch.last_offset.value())
                .to_be_bytes(),
        );
        out.extend_from_slice(&delta.to_be_bytes());
        out.extend_from_slice(&producer.last_seen_ms.to_be_bytes());
        out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(
            &producer
                .transaction_start
                .map_or(-1, Offset::value)
                .to_be_bytes(),
        );
    }
    out.extend_from_slice(EXTENSION_MAGIC);
    for (_, producer) in producers.iter() {
        out.push(producer.batches.len() as u8);
        for batch in &producer.batches {
            out.extend_from_slice(&batch.first_sequence.to_be_bytes());
            out.extend_from_slice(&batch.last_sequence.to_be_bytes());
            out.extend_from_slice(&batch.base_offset.value().to_be_bytes());
            out.extend_from_slice(&batch.last_offset.value().to_be_bytes());
            out.extend_from_slice(&batch.timestamp_ms.to_be_bytes());
        }
    }
    let crc = crc32c(&out[CRC_END..]);
    out[2..CRC_END].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The state that a snapshot holds; `None` if it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Producers> {
    let mut input = Input(bytes);
    if i16::from_be_bytes(input.take()?) != VERSION {
        return None;
    }
    let crc = u32::from_be_bytes(input.take()?);
    if crc32c(input.0) != crc {
        return None;
    }
    let count = i32::from_be_bytes(input.take()?);
    let mut producers = Vec::new();
    for _ in 0..count {
        producers.push(decode_producer(&mut input)?);
    }
    if input.take::<4>() == Some(*EXTENSION_MAGIC) {
        for (_, producer) in &mut producers {
            producer.batches.clear();
            let [kept] = input.take()?;
            for _ in 0..kept {
                producer.remember(decode_batch(&mut input)?);
            }
        }
    }
    let mut state = Producers::default();
    for (id, producer) in producers {
        state.insert(id, producer);
    }
    Some(state)
}

fn decode_producer(input: &mut Input<'_>) -> Option<(ProducerId, Producer)> {
    let id = ProducerId(i64::from_be_bytes(input.take()?));
    let mut producer = Producer::new(ProducerEpoch(i16::from_be_bytes(input.take()?)));
    let last_sequence = i32::from_be_bytes(input.take()?);
    let last_offset = Offset(i64::from_be_bytes(input.take()?));
    let delta = i32::from_be_bytes(input.take()?);
    producer.last_seen_ms = i64::from_be_bytes(input.take()?);
    producer.coordinator_epoch = i32::from_be_bytes(input.take()?);
    let transaction_start = i64::from_be_bytes(input.take()?);
    producer.transaction_start = (transaction_start >= 0).then_some(Offset(transaction_start));
    if last_sequence >= 0 {
        producer.remember(ProducerBatch {
            first_sequence: last_sequence.wrapping_sub(delta) & i32::MAX,
            last_sequence,
            base_offset: last_offset - i64::from(delta),
            last_offset,
            timestamp_ms: producer.last_seen_ms,
        });
    }
    Some((id, producer))
}

fn decode_batch(input: &mut Input<'_>) -> Option<ProducerBatch> {
    Some(ProducerBatch {
        first_sequence: i32::from_be_bytes(input.take()?),
        last_sequence: i32::from_be_bytes(input.take()?),
        base_offset: Offset(i64::from_be_bytes(input.take()?)),
        last_offset: Offset(i64::from_be_bytes(input.take()?)),
        timestamp_ms: i64::from_be_bytes(input.take()?),
    })
}

/// Reads a snapshot; `None` if it is missing or damaged.
pub(crate) fn read(
    disk: &dyn Disk,
    folder: &Path,
    offset: Offset,
) -> Result<Option<Producers>, DiskError> {
    let path = path(folder, offset);
    let bytes = read_small(disk, &path, SNAPSHOT_BYTES_MAX)
        .map_err(|error| DiskError::new("read", &path, error))?;
    Ok(bytes.and_then(|bytes| decode(&bytes)))
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

const _: () = assert!(BATCHES_KEPT <= u8::MAX as usize);
