//! `Produce`: some batches in one call.

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, ProduceRequest, ProduceResponse, ProduceResult};
use conveyor_record::Decompressor;
use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{Services, no_error};
use crate::node::Refusal;
use crate::partition::{Acks, Admission, AppendResult, Appended, Permits, Reply};
use crate::records::produce::{
    CheckedBatch, RecordError, RefusedBatch, check, time_limit, timed_out,
};
use crate::request::{Call, Quota};

/// Batches in one call.
const BATCHES_MAX: usize = 10_000;

/// The acknowledgement level of a request; `None` for a number that stands for none.
pub(super) fn acks(number: i32) -> Option<Acks> {
    Some(match v1::Acks::try_from(number).ok()? {
        v1::Acks::Unspecified | v1::Acks::All => Acks::All,
        v1::Acks::Leader => Acks::Leader,
        v1::Acks::None => Acks::None,
    })
}

/// What becomes of one batch of the call.
enum Pending {
    Done(Result<Appended, RefusedBatch>),
    Waiting(oneshot::Receiver<AppendResult>),
}

pub(super) async fn produce(
    services: &Services,
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
    let mut checked = Vec::with_capacity(request.batches.len());
    for item in request.batches {
        total += item.batch.len();
        let place = (item.topic.as_str(), item.partition);
        let node = &services.node;
        let batch = check(node, &call, place, item.batch, acks, &mut decompressor);
        checked.push((item.topic, item.partition, batch));
    }
    let id = Some(request.transactional_id.as_str()).filter(|id| !id.is_empty());
    // The transaction's leaves are asked for together, so that they share a sync.
    let asked = checked.iter().map(|(_, _, batch)| async {
        match batch {
            Ok(batch) => services.admit(&call, batch, id).await,
            Err(_) => Ok(None),
        }
    });
    let admissions = join_all(asked).await;
    let mut pending = Vec::with_capacity(checked.len());
    for ((topic, partition, batch), admission) in checked.into_iter().zip(admissions) {
        let state = match (batch, admission) {
            (Err(refused), _) => Pending::Done(Err(refused)),
            (Ok(_), Err(refusal)) => Pending::Done(Err(refusal.into())),
            (Ok(batch), Ok(admission)) => queue(batch, admission, acks, deadline).await,
        };
        pending.push((topic, partition, state));
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

async fn queue(
    checked: CheckedBatch,
    admission: Option<Admission>,
    acks: Acks,
    deadline: Instant,
) -> Pending {
    let partition = &checked.partition;
    let batch = &checked.batch;
    let room = timeout_at(deadline, partition.permit(batch.bytes.len())).await;
    let Ok(room) = room else {
        return Pending::Done(Err(timed_out(partition.name()).into()));
    };
    let permits = Permits::new(room, None);
    if acks == Acks::None {
        append(checked, admission, acks, Reply::Nobody, permits);
        return Pending::Done(Ok(Appended::UNKNOWN));
    }
    let (sender, receiver) = oneshot::channel();
    append(checked, admission, acks, Reply::Once(sender), permits);
    Pending::Waiting(receiver)
}

/// Queues a batch, in its transaction if it is of one.
pub(super) fn append(
    checked: CheckedBatch,
    admission: Option<Admission>,
    acks: Acks,
    reply: Reply,
    permits: Permits,
) {
    let CheckedBatch { partition, batch } = checked;
    match admission {
        Some(admission) => admission.append(batch, acks, reply, permits),
        None => partition.append(batch, acks, reply, permits),
    }
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
                record_errors: record_errors.into_iter().map(record_error).collect(),
            }
        }
    }
}

/// A record for which its batch is refused, as the contract has it.
pub(super) fn record_error(error: RecordError) -> v1::RecordError {
    v1::RecordError {
        batch_index: error.index,
        message: error.message.to_owned(),
    }
}
