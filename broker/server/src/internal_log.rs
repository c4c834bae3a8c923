//! Records that the broker itself keeps in a partition: metadata, group state.
//!
//! Written as one batch, so that a change is there whole or not at all, and answered only once it is
//! durable; read from the first offset to the high watermark at start. Writers use
//! [`append`], which is ordered like any other append to the partition.

use std::sync::Arc;

use conveyor_log::{AppendBatch, ReadError};
use conveyor_record::{
    AppendOrigin, BatchBuilder, BatchError, BatchOptions, Compressor, Decompressor, NewRecord,
    OwnedBatches, ProduceRules, Record, validate_produce,
};
use thiserror::Error;

use crate::partition::{AppendFailure, Appended, Partition};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// The most that one compressed batch of ours may hold; we write none compressed.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// Why records are not (known to be) written.
#[derive(Debug, Clone, Error)]
pub(crate) enum InternalAppendError {
    /// They make no batch.
    #[error("records make no batch: {0}")]
    Batch(#[from] BatchError),
    /// The log did not take or not sync it.
    #[error(transparent)]
    Append(#[from] AppendFailure),
}

/// Why records cannot be read.
#[derive(Debug, Error)]
pub(crate) enum InternalReadError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch cannot be understood.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Appends records as one batch and waits until it is durable. Appends of one partition are done in
/// the order in which these futures are first polled.
pub(crate) async fn append(
    partition: &Arc<Partition>,
    records: &[NewRecord<'_>],
    now_ms: i64,
) -> Result<Appended, InternalAppendError> {
    let batch = build(records, now_ms)?;
    Ok(partition.append_durably(batch).await?)
}

/// The batch of some records, ready to be appended.
pub(crate) fn build(records: &[NewRecord<'_>], now_ms: i64) -> Result<AppendBatch, BatchError> {
    let options = BatchOptions {
        size_limit: i32::MAX as usize,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    for record in records {
        builder.append(record)?;
    }
    let bytes = builder.build(&mut Compressor::new())?;
    let rules = ProduceRules {
        origin: AppendOrigin::Coordinator,
        max_message_bytes: i32::MAX as usize,
        timestamp_after_max_ms: i64::MAX,
        now_ms,
        ..ProduceRules::default()
    };
    let validated = validate_produce(&bytes, &rules, &mut Decompressor::new())?;
    Ok(AppendBatch { bytes, validated })
}

/// Reads every record below the high watermark, in order. Control batches are left out. Blocks on
/// the disk; `take` may end it early with an error of its own.
pub(crate) fn read_all<E: From<InternalReadError>>(
    partition: &Partition,
    mut take: impl FnMut(Record) -> Result<(), E>,
) -> Result<(), E> {
    let mut decompressor = Decompressor::new();
    let reader = partition.reader();
    let mut offset = reader.log_start_offset();
    let end = reader.high_watermark();
    while offset < end {
        let chunk = reader
            .read(offset, end, READ_BYTES, true)
            .map_err(InternalReadError::from)?;
        if chunk.bytes.is_empty() {
            break;
        }
        for batch in OwnedBatches::new(chunk.bytes) {
            let batch = batch.map_err(InternalReadError::from)?;
            if batch.header().attributes.is_control() {
                continue;
            }
            let records = batch
                .records(&mut decompressor, DECOMPRESSED_BYTES_MAX)
                .map_err(InternalReadError::from)?;
            for record in records {
                take(record.map_err(InternalReadError::from)?)?;
            }
        }
        offset = chunk.next_offset;
    }
    Ok(())
}
