//! Checks of a produced batch before its turn in its partition, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_log::AppendBatch;
use conveyor_record::error::InvalidRecord;
use conveyor_record::{
    AppendOrigin, BatchError, BatchView, Compressor, Decompressor, ProduceRules, recompress,
    validate_produce,
};

use crate::coordinator::TransactionalProducer;
use crate::node::{Node, Refusal};
use crate::partition::{Acks, Partition};
use crate::request::{Call, Operation};

/// How long durability may take when the client does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// A record for which its batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordError {
    /// Its place in the batch.
    pub(crate) index: i32,
    /// What is wrong with it.
    pub(crate) message: &'static str,
}

impl RecordError {
    fn of(invalid: &InvalidRecord) -> Self {
        Self {
            index: invalid.index,
            message: invalid.reason,
        }
    }
}

/// A batch that is not taken.
#[derive(Debug)]
pub(crate) struct RefusedBatch {
    pub(crate) refusal: Refusal,
    pub(crate) record_errors: Vec<RecordError>,
}

impl<E: Into<Refusal>> From<E> for RefusedBatch {
    fn from(error: E) -> Self {
        Self {
            refusal: error.into(),
            record_errors: Vec::new(),
        }
    }
}

/// A batch that may be appended, and where.
#[derive(Debug)]
pub(crate) struct CheckedBatch {
    pub(crate) partition: Arc<Partition>,
    pub(crate) batch: AppendBatch,
}

/// Checks all that can be checked before the batch's turn in its partition: the place, the
/// principal, and every byte of the batch. Runs on the network's side, so that the writer only writes.
pub(crate) fn check(
    node: &Node,
    call: &Call,
    place: (&str, i32),
    bytes: Bytes,
    acks: Acks,
    decompressor: &mut Decompressor,
) -> Result<CheckedBatch, RefusedBatch> {
    let (topic, index) = place;
    let partition = node.partition_for(call, Operation::Write, topic, index)?;
    let metrics = call.node_metrics().topic(partition.topic());
    metrics.produce_requests.increment();
    let size = bytes.len();
    match check_batch(node, &partition, bytes, acks, decompressor) {
        Ok(batch) => {
            metrics.bytes_in.add(size as u64);
            metrics
                .messages_in
                .add(batch.validated.meta.record_count.unsigned_abs().into());
            Ok(CheckedBatch { partition, batch })
        }
        Err(refused) => {
            metrics.failed_produce_requests.increment();
            metrics.bytes_rejected.add(size as u64);
            Err(refused)
        }
    }
}

fn check_batch(
    node: &Node,
    partition: &Partition,
    bytes: Bytes,
    acks: Acks,
    decompressor: &mut Decompressor,
) -> Result<AppendBatch, RefusedBatch> {
    if conveyor_controller::is_internal_topic(partition.topic()) {
        let message = format!(
            "topic {} is internal: only the broker writes it",
            partition.topic()
        );
        return Err(Refusal::new(ErrorCode::InvalidTopic, message).into());
    }
    let needed = partition.config().min_insync_replicas;
    if acks == Acks::All && needed > 1 {
        let message = format!(
            "{} has 1 replica in sync, min.insync.replicas is {needed}",
            partition.name()
        );
        return Err(Refusal::new(ErrorCode::NotEnoughReplicas, message).into());
    }
    let rules = partition.produce_rules(AppendOrigin::Client, node.now_ms());
    let validated = match validate_produce(&bytes, &rules, decompressor) {
        Ok(validated) => validated,
        Err(error) => {
            return Err(refused_batch(
                partition,
                &bytes,
                &rules,
                decompressor,
                error,
            ));
        }
    };
    let batch = AppendBatch { bytes, validated };
    compressed_as_set(partition, batch, &rules, decompressor)
}

/// The batch compressed as the topic's `compression.type` says.
fn compressed_as_set(
    partition: &Partition,
    batch: AppendBatch,
    rules: &ProduceRules,
    decompressor: &mut Decompressor,
) -> Result<AppendBatch, RefusedBatch> {
    let present = batch.validated.meta.codec;
    let Some(wanted) = partition
        .config()
        .compression
        .filter(|wanted| wanted.codec != present)
    else {
        return Ok(batch);
    };
    let (bytes, validated) = recompress(
        &batch.bytes,
        &batch.validated,
        wanted.codec,
        wanted.level,
        rules.max_decompressed_bytes,
        decompressor,
        &mut Compressor::new(),
    )?;
    if bytes.len() > rules.max_message_bytes {
        let message = format!(
            "{}: the batch takes {} bytes as compression.type has it, {} are allowed",
            partition.name(),
            bytes.len(),
            rules.max_message_bytes
        );
        return Err(Refusal::new(ErrorCode::MessageTooLarge, message).into());
    }
    Ok(AppendBatch { bytes, validated })
}

impl CheckedBatch {
    /// Whose transaction it belongs to, if it belongs to one.
    pub(crate) fn transaction(&self) -> Option<TransactionalProducer> {
        let meta = &self.batch.validated.meta;
        meta.is_transactional.then_some(TransactionalProducer {
            id: meta.producer_id,
            epoch: meta.producer_epoch,
        })
    }
}

fn refused_batch(
    partition: &Partition,
    bytes: &[u8],
    rules: &ProduceRules,
    decompressor: &mut Decompressor,
    error: BatchError,
) -> RefusedBatch {
    let record_errors = match &error {
        BatchError::InvalidRecord(invalid) if rules.require_keys => {
            let errors = keyless(bytes, rules, decompressor);
            if errors.is_empty() {
                vec![RecordError::of(invalid)]
            } else {
                errors
            }
        }
        BatchError::InvalidRecord(invalid) => vec![RecordError::of(invalid)],
        _ => Vec::new(),
    };
    let mut refusal = Refusal::from(error);
    refusal.message = format!("{}: {}", partition.name(), refusal.message);
    RefusedBatch {
        refusal,
        record_errors,
    }
}

/// Every record without a key: a producer that is told all of them can send the others again.
fn keyless(
    bytes: &[u8],
    rules: &ProduceRules,
    decompressor: &mut Decompressor,
) -> Vec<RecordError> {
    let batch = BatchView::parse(bytes);
    let Ok(records) =
        batch.and_then(|batch| batch.records(decompressor, rules.max_decompressed_bytes))
    else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    for (index, record) in (0..).zip(records) {
        match record {
            Ok(record) if record.key.is_none() => errors.push(RecordError {
                index,
                message: "has no key, which a compacted topic needs",
            }),
            Ok(_) => {}
            // Whatever else is wrong comes first.
            Err(_) => return Vec::new(),
        }
    }
    errors
}

/// How long a batch may take to become durable.
pub(crate) fn time_limit(timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(millis) if millis > 0 => Duration::from_millis(millis),
        _ => TIMEOUT_DEFAULT,
    }
}

/// What a batch is refused with that is not durable in time.
pub(crate) fn timed_out(partition: &str) -> Refusal {
    let message = format!("{partition}: not acknowledged in time; it may be in the log or not");
    Refusal::new(ErrorCode::RequestTimedOut, message)
}
