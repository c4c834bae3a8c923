//! `Fetch`: one long poll over some partitions.
//!
//! Everything is read once; if that is not enough, the call watches its partitions and sleeps until
//! one of them moves or its time is over. An error in a partition, or a partition that has filled its
//! own limit, ends the wait (Kafka's rules). The first batch found always comes whole.

use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{FetchPartition, FetchRequest, FetchResponse, PartitionRecords};
use conveyor_record::Offset;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::partition_read::{self as partition_read, Isolation, ReadRequest};
use crate::node::{Node, Refusal};
use crate::partition::{Partition, WakeSet, Watch};
use crate::request::{Call, Operation, Quota};

/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Partitions in one call.
const PARTITIONS_MAX: usize = 10_000;

/// A partition of the request, looked up.
struct Target {
    wanted: FetchPartition,
    partition: Result<Arc<Partition>, Refusal>,
}

/// What one pass over all partitions gave.
struct Pass {
    partitions: Vec<PartitionRecords>,
    bytes: usize,
    /// Waiting longer would not help.
    complete: bool,
}

pub(super) async fn fetch(
    node: &Arc<Node>,
    call: Call,
    request: FetchRequest,
) -> Result<FetchResponse, Status> {
    let Some(isolation) = Isolation::from_number(request.isolation_level) else {
        return Err(Status::invalid_argument(format!(
            "isolation level {} is not known",
            request.isolation_level
        )));
    };
    if request.partitions.len() > PARTITIONS_MAX {
        return Err(Status::invalid_argument(format!(
            "more than {PARTITIONS_MAX} partitions in one call"
        )));
    }
    let limit = match usize::try_from(request.max_bytes) {
        Ok(bytes) if bytes > 0 => bytes.min(node.config.fetch_max_bytes),
        _ => node.config.fetch_max_bytes,
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).max(1);
    let targets: Vec<Target> = request
        .partitions
        .into_iter()
        .map(|wanted| Target {
            partition: target(node, &call, &wanted),
            wanted,
        })
        .collect();

    let stopping = node.stopping.clone();
    let pass = tokio::select! {
        pass = poll(&targets, isolation, limit, min_bytes, wait) => pass,
        () = stopping.cancelled() => return Err(Status::unavailable("the node is stopping")),
    };
    for (target, records) in targets.iter().zip(&pass.partitions) {
        count(&call, target, records);
    }
    let throttle = call.charge(Quota::Fetch, pass.bytes);
    tokio::time::sleep(throttle).await;
    Ok(FetchResponse {
        partitions: pass.partitions,
        throttle_time_ms: throttle.as_millis() as i32,
    })
}

fn target(node: &Node, call: &Call, wanted: &FetchPartition) -> Result<Arc<Partition>, Refusal> {
    let partition = node.partition_for(call, Operation::Read, &wanted.topic, wanted.partition)?;
    partition_read::check_epoch(&partition, wanted.current_leader_epoch)?;
    Ok(partition)
}

fn count(call: &Call, target: &Target, records: &PartitionRecords) {
    call.outcome(ErrorCode::from_code(records.error_code));
    if let Ok(partition) = &target.partition {
        let metrics = call.node_metrics().topic(partition.topic());
        metrics.fetch_requests.increment();
        metrics.bytes_out.add(records.records.len() as u64);
        if records.error_code != 0 {
            metrics.failed_fetch_requests.increment();
        }
    }
}

async fn poll(
    targets: &[Target],
    isolation: Isolation,
    limit: usize,
    min_bytes: usize,
    wait: Duration,
) -> Pass {
    let deadline = Instant::now() + wait;
    let pass = read_all(targets, isolation, limit, min_bytes).await;
    if pass.complete || wait.is_zero() {
        return pass;
    }
    let wake = Arc::new(WakeSet::default());
    let _watches: Vec<Watch> = targets
        .iter()
        .filter_map(|target| target.partition.as_ref().ok())
        .map(|partition| partition.watch(&wake, 0))
        .collect();
    loop {
        // Read again after the watches are set: what came in between has woken nobody.
        let pass = read_all(targets, isolation, limit, min_bytes).await;
        if pass.complete || timeout_at(deadline, wake.moved()).await.is_err() {
            return pass;
        }
    }
}

async fn read_all(
    targets: &[Target],
    isolation: Isolation,
    limit: usize,
    min_bytes: usize,
) -> Pass {
    let mut pass = Pass {
        partitions: Vec::with_capacity(targets.len()),
        bytes: 0,
        complete: targets.is_empty(),
    };
    for target in targets {
        let left = limit.saturating_sub(pass.bytes);
        let (records, filled) = read_one(target, isolation, left, pass.bytes == 0).await;
        pass.bytes += records.records.len();
        pass.complete |= filled || records.error_code != 0;
        pass.partitions.push(records);
    }
    pass.complete |= pass.bytes >= min_bytes;
    pass
}

/// Reads one partition; tells whether it has filled its own limit.
async fn read_one(
    target: &Target,
    isolation: Isolation,
    left: usize,
    nothing_yet: bool,
) -> (PartitionRecords, bool) {
    let wanted = &target.wanted;
    let place = (wanted.topic.as_str(), wanted.partition);
    let partition = match &target.partition {
        Ok(partition) if partition.is_closed() => {
            let refusal = partition_read::closed(partition);
            return (
                partition_read::failure(place, None, refusal, 0, wanted.fetch_offset),
                false,
            );
        }
        Ok(partition) => partition,
        Err(refusal) => {
            let failure =
                partition_read::failure(place, None, refusal.clone(), 0, wanted.fetch_offset);
            return (failure, false);
        }
    };
    let own_limit = match usize::try_from(wanted.partition_max_bytes) {
        Ok(bytes) if bytes > 0 => bytes,
        _ => usize::MAX,
    };
    let request = ReadRequest {
        from: Offset(wanted.fetch_offset),
        bytes_max: own_limit.min(left),
        min_one_batch: nothing_yet,
        isolation,
    };
    match partition_read::read(partition, request).await {
        Ok(chunk) => {
            let filled = !chunk.bytes.is_empty()
                && chunk.next_offset < isolation.bound(partition)
                && own_limit <= left;
            (
                partition_read::records(partition, chunk, isolation, 0),
                filled,
            )
        }
        Err(refusal) => {
            let offset = wanted.fetch_offset;
            (
                partition_read::failure(place, Some(partition), refusal, 0, offset),
                false,
            )
        }
    }
}
