//! `Fetch`: one long poll over some partitions.
//!
//! Everything is read once; if that is not enough, the call watches its partitions and sleeps until
//! one of them moves or its time is over. An error in a partition, or a partition that has filled its
//! own limit or that of the response, ends the wait (Kafka's rules). The first batch found always comes
//! whole. While a call waits it holds no records: what a pass found too little of is read again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{FetchPartition, FetchRequest, FetchResponse, PartitionRecords};
use conveyor_record::Offset;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::partition_read::{self as partition_read, Isolation, ReadRequest};
use crate::fetch_memory::Room;
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

/// What the whole response is to keep to.
#[derive(Clone, Copy)]
struct Limits {
    isolation: Isolation,
    /// Most bytes of records; the first batch comes whole all the same.
    bytes: usize,
    /// The wait ends when this many bytes are there.
    min_bytes: usize,
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
    }
    .min(node.fetch_memory.total());
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let limits = Limits {
        isolation,
        bytes: limit,
        // More than the response can hold is not waited for.
        min_bytes: usize::try_from(request.min_bytes)
            .unwrap_or(0)
            .clamp(1, limit),
    };
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
        pass = poll(node, &targets, limits, wait) => pass,
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

async fn poll(node: &Node, targets: &[Target], limits: Limits, wait: Duration) -> Pass {
    let deadline = Instant::now() + wait;
    let pass = read_all(node, targets, limits).await;
    if pass.complete || wait.is_zero() {
        return pass;
    }
    drop(pass);
    let wake = Arc::new(WakeSet::default());
    let _watches = watch_each_once(targets, &wake);
    loop {
        // Read again after the watches are set: what came in between has woken nobody.
        let pass = read_all(node, targets, limits).await;
        if pass.complete || Instant::now() >= deadline {
            return pass;
        }
        // Its records would hold memory that others could use meanwhile.
        drop(pass);
        // Woken or out of time: either way the next pass tells what is there.
        drop(timeout_at(deadline, wake.moved()).await);
    }
}

/// Watches the partitions, each once however often the request names it.
fn watch_each_once(targets: &[Target], wake: &Arc<WakeSet>) -> Vec<Watch> {
    let mut seen = HashSet::new();
    let partitions = targets
        .iter()
        .filter_map(|target| target.partition.as_ref().ok());
    partitions
        .filter(|partition| seen.insert(Arc::as_ptr(partition)))
        .map(|partition| partition.watch(wake, 0))
        .collect()
}

async fn read_all(node: &Node, targets: &[Target], limits: Limits) -> Pass {
    let mut pass = Pass {
        partitions: Vec::with_capacity(targets.len()),
        bytes: 0,
        complete: targets.is_empty(),
    };
    // Taken once for the whole response, when the first partition has something to read.
    let mut room: Option<Room> = None;
    for target in targets {
        if room.is_none() && has_records(target, limits.isolation) {
            room = Some(node.fetch_memory.room(limits.bytes).await);
        }
        let left = match &room {
            Some(_) => limits.bytes.saturating_sub(pass.bytes),
            None => 0,
        };
        let first = room.is_some() && pass.bytes == 0;
        let (mut records, filled) = read_one(target, limits.isolation, left, first).await;
        if let Some(room) = &mut room {
            records.records = room.hold(records.records);
        }
        pass.bytes += records.records.len();
        pass.complete |= (filled && pass.bytes > 0) || records.error_code != 0;
        pass.partitions.push(records);
    }
    pass.complete |= pass.bytes >= limits.min_bytes;
    pass
}

/// Whether there is something that the consumer may see.
fn has_records(target: &Target, isolation: Isolation) -> bool {
    let partition = target.partition.as_ref();
    partition.is_ok_and(|partition| isolation.bound(partition).value() > target.wanted.fetch_offset)
}

/// Reads one partition; tells whether a limit cut it short, so that waiting would bring no more.
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
            let filled = chunk.next_offset < isolation.bound(partition);
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
