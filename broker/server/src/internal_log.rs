//! Records that the broker itself keeps in a partition: metadata, groups, transactions.
//!
//! Written as one batch, so that a change is there whole or not at all, and answered only once it is
//! durable; read from the first offset to the high watermark at start. Writers use
//! [`append`], which is ordered like any other append to the partition.

use std::sync::Arc;

use bytes::Bytes;
use conveyor_log::{AppendBatch, ReadError};
use conveyor_record::{
    AppendOrigin, Batch, BatchBuilder, BatchError, BatchHeader, BatchOptions, Compressor,
    ControlRecord, Decompressor, NewRecord, OwnedBatches, ProduceRules, Record,
    build_end_txn_marker, read_control_record, validate_produce,
};
use thiserror::Error;

use crate::coordinator::TransactionalProducer;
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
    build_with(BatchOptions::default(), records, now_ms)
}

/// The same for records that belong to a producer's transaction. They carry no sequence numbers: the
/// coordinator, not the producer, writes them.
pub(crate) fn build_transactional(
    producer: TransactionalProducer,
    records: &[NewRecord<'_>],
    now_ms: i64,
) -> Result<AppendBatch, BatchError> {
    let options = BatchOptions {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        is_transactional: true,
        ..BatchOptions::default()
    };
    build_with(options, records, now_ms)
}

/// The control batch that ends a producer's transaction, ready to be appended.
pub(crate) fn build_marker(
    producer: TransactionalProducer,
    marker: ControlRecord,
    now_ms: i64,
) -> Result<AppendBatch, BatchError> {
    let bytes = build_end_txn_marker(marker, producer.id, producer.epoch, now_ms)?;
    validated(bytes, now_ms)
}

fn build_with(
    options: BatchOptions,
    records: &[NewRecord<'_>],
    now_ms: i64,
) -> Result<AppendBatch, BatchError> {
    let mut builder = BatchBuilder::new(BatchOptions {
        size_limit: i32::MAX as usize,
        ..options
    });
    for record in records {
        builder.append(record)?;
    }
    validated(builder.build(&mut Compressor::new())?, now_ms)
}

fn validated(bytes: Bytes, now_ms: i64) -> Result<AppendBatch, BatchError> {
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

/// What lies in an internal log.
pub(crate) enum Entry {
    /// A record; with a producer if it belongs to a transaction.
    Record(Record, Option<TransactionalProducer>),
    /// The end of a producer's transaction.
    Marker(TransactionalProducer, ControlRecord),
}

/// Reads every record below the high watermark, in order, whatever became of its transaction.
/// Markers are left out. Blocks on the disk; `take` may end it early with an error of its own.
pub(crate) fn read_all<E: From<InternalReadError>>(
    partition: &Partition,
    mut take: impl FnMut(Record) -> Result<(), E>,
) -> Result<(), E> {
    read_entries(partition, |entry| match entry {
        Entry::Record(record, _) => take(record),
        Entry::Marker(..) => Ok(()),
    })
}

/// Reads every record and marker below the high watermark, in order. Blocks on the disk; `take` may
/// end it early with an error of its own.
pub(crate) fn read_entries<E: From<InternalReadError>>(
    partition: &Partition,
    mut take: impl FnMut(Entry) -> Result<(), E>,
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
            if let Some(marker) = marker(&batch, &mut decompressor)? {
                take(Entry::Marker(producer(batch.header()), marker))?;
            }
            if batch.header().attributes.is_control() {
                continue;
            }
            let attributes = batch.header().attributes;
            let producer = attributes
                .is_transactional()
                .then(|| producer(batch.header()));
            let records = batch
                .records(&mut decompressor, DECOMPRESSED_BYTES_MAX)
                .map_err(InternalReadError::from)?;
            for record in records {
                take(Entry::Record(
                    record.map_err(InternalReadError::from)?,
                    producer,
                ))?;
            }
        }
        offset = chunk.next_offset;
    }
    Ok(())
}

fn producer(header: &BatchHeader) -> TransactionalProducer {
    TransactionalProducer {
        id: header.producer_id,
        epoch: header.producer_epoch,
    }
}

/// The marker in a control batch; compaction may have emptied the batch.
fn marker(
    batch: &Batch,
    decompressor: &mut Decompressor,
) -> Result<Option<ControlRecord>, InternalReadError> {
    if !batch.header().attributes.is_control() {
        return Ok(None);
    }
    let view = batch.view();
    let first = view.records(decompressor, DECOMPRESSED_BYTES_MAX)?.next();
    let Some(record) = first else {
        return Ok(None);
    };
    Ok(Some(read_control_record(&record?)?))
}
