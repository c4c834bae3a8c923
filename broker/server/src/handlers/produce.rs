//! `Produce`: some batches in one call; and the checks that it shares with the stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, ProduceRequest, ProduceResponse, ProduceResult, RecordError};
use conveyor_log::AppendBatch;
use conveyor_record::{AppendOrigin, BatchError, Decompressor, validate_produce};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::no_error;
use crate::node::{Node, Refusal};
use crate::partition::{Acks, AppendResult, Appended, Partition, Permits, Reply};
use crate::request::{Call, Operation, Quota};

/// How long durability may take when the client does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Batches in one call.
const BATCHES_MAX: usize = 10_000;

/// A batch that is not taken.
#[derive(Debug)]
pub(super) struct RefusedBatch {
    pub(super) refusal: Refusal,
    pub(super) record_errors: Vec<RecordError>,
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
pub(super) struct CheckedBatch {
    pub(super) partition: Arc<Partition>,
    pub(super) batch: AppendBatch,
}

/// Checks all that can be checked before the batch's turn in its partition: the place, the
/// principal, and every byte of the batch. Runs on the network's side, so that the writer only writes.
pub(super) fn check(
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
    let validated = validate_produce(&bytes, &rules, decompressor)
        .map_err(|error| refused_batch(partition, &error))?;
    if validated.meta.is_transactional {
        let message = format!("{}: transactions are not served yet", partition.name());
        return Err(Refusal::new(ErrorCode::InvalidTxnState, message).into());
    }
    Ok(AppendBatch { bytes, validated })
}

fn refused_batch(partition: &Partition, error: &BatchError) -> RefusedBatch {
    let record_errors = match error {
        BatchError::InvalidRecord(invalid) => {
            vec![RecordError {
                batch_index: invalid.index,
                message: invalid.reason.to_owned(),
            }]
        }
        _ => Vec::new(),
    };
    let mut refusal = Refusal::from(error.clone());
    refusal.message = format!("{}: {}", partition.name(), refusal.message);
    RefusedBatch {
        refusal,
        record_errors,
    }
}

/// The acknowledgement level of a request; `None` for a number that stands for none.
pub(super) fn acks(number: i32) -> Option<Acks> {
    Some(match v1::Acks::try_from(number).ok()? {
        v1::Acks::Unspecified | v1::Acks::All => Acks::All,
        v1::Acks::Leader => Acks::Leader,
        v1::Acks::None => Acks::None,
    })
}

/// How long a batch may take to become durable.
pub(super) fn time_limit(timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(millis) if millis > 0 => Duration::from_millis(millis),
        _ => TIMEOUT_DEFAULT,
    }
}

/// What becomes of one batch of the call.
enum Pending {
    Done(Result<Appended, RefusedBatch>),
    Waiting(oneshot::Receiver<AppendResult>),
}

pub(super) async fn produce(
    node: &Arc<Node>,
    call: Call,
    request: ProduceRequest,
) -> Result<ProduceResponse, Status> {
    let Some(acks) = acks(request.acks) else {
        return Err(Status::invalid_argument(format!(
            "acks {} is not known",
            request.acks
        )));
    };
    if request.batches.len() > BATCHES_MAX {
        return Err(Status::invalid_argument(format!(
            "more than {BATCHES_MAX} batches in one call"
        )));
    }
    let deadline = Instant::now() + time_limit(request.timeout_ms);
    let mut decompressor = Decompressor::new();
    let mut total = 0;
    let mut pending = Vec::with_capacity(request.batches.len());
    for item in request.batches {
        total += item.batch.len();
        let place = (item.topic.as_str(), item.partition);
        let checked = check(node, &call, place, item.batch, acks, &mut decompressor);
        let state = match checked {
            Err(refused) => Pending::Done(Err(refused)),
            Ok(checked) => queue(checked, acks, deadline).await,
        };
        pending.push((item.topic, item.partition, state));
    }
    let mut results = Vec::with_capacity(pending.len());
    for (topic, partition, state) in pending {
        let outcome = match state {
            Pending::Done(outcome) => outcome,
            Pending::Waiting(receiver) => wait(receiver, deadline, &topic, partition).await,
        };
        results.push(result(&call, topic, partition, outcome));
    }
    let throttle = call.charge(Quota::Produce, total);
    tokio::time::sleep(throttle).await;
    Ok(ProduceResponse {
        results,
        throttle_time_ms: throttle.as_millis() as i32,
    })
}

async fn queue(checked: CheckedBatch, acks: Acks, deadline: Instant) -> Pending {
    let CheckedBatch { partition, batch } = checked;
    let room = timeout_at(deadline, partition.permit(batch.bytes.len())).await;
    let Ok(room) = room else {
        return Pending::Done(Err(timed_out(partition.name()).into()));
    };
    let permits = Permits::new(room, None);
    if acks == Acks::None {
        partition.append(batch, acks, Reply::Nobody, permits);
        return Pending::Done(Ok(Appended::UNKNOWN));
    }
    let (sender, receiver) = oneshot::channel();
    partition.append(batch, acks, Reply::Once(sender), permits);
    Pending::Waiting(receiver)
}

async fn wait(
    receiver: oneshot::Receiver<AppendResult>,
    deadline: Instant,
    topic: &str,
    partition: i32,
) -> Result<Appended, RefusedBatch> {
    match timeout_at(deadline, receiver).await {
        Ok(Ok(appended)) => Ok(appended?),
        // The writer drops a reply only when the node goes down.
        Ok(Err(_)) => {
            let message = format!("{topic}-{partition}: the node is stopping");
            Err(Refusal::new(ErrorCode::NotLeaderOrFollower, message).into())
        }
        Err(_) => Err(timed_out(&format!("{topic}-{partition}")).into()),
    }
}

pub(super) fn timed_out(partition: &str) -> Refusal {
    let message = format!("{partition}: not acknowledged in time; it may be in the log or not");
    Refusal::new(ErrorCode::RequestTimedOut, message)
}

fn result(
    call: &Call,
    topic: String,
    partition: i32,
    outcome: Result<Appended, RefusedBatch>,
) -> ProduceResult {
    match outcome {
        Ok(appended) => {
            call.outcome(ErrorCode::None);
            ProduceResult {
                topic,
                partition,
                error_code: no_error(),
                error_message: String::new(),
                base_offset: appended.base_offset.value(),
                log_append_timestamp_ms: appended.log_append_timestamp_ms,
                log_start_offset: appended.log_start_offset.value(),
                record_errors: Vec::new(),
            }
        }
        Err(RefusedBatch {
            refusal,
            record_errors,
        }) => {
            call.outcome(refusal.code);
            ProduceResult {
                topic,
                partition,
                error_code: refusal.code.code(),
                error_message: refusal.message,
                base_offset: -1,
                log_append_timestamp_ms: -1,
                log_start_offset: -1,
                record_errors,
            }
        }
    }
}
