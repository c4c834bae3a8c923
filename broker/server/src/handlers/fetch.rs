//! `Fetch`: one long poll over some partitions.

use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{FetchPartition, FetchRequest, FetchResponse, PartitionRecords};
use conveyor_record::Offset;
use tonic::Status;

use super::{isolation, partition_records};
use crate::node::{Node, Refusal};
use crate::partition::Partition;
use crate::records::poll::{Batches, Limits, Target, poll};
use crate::records::read::check_epoch;
use crate::request::{Call, Operation, Quota};

/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Partitions in one call.
const PARTITIONS_MAX: usize = 10_000;

pub(super) async fn fetch(
    node: &Arc<Node>,
    call: Call,
    request: FetchRequest,
) -> Result<FetchResponse, Status> {
    let Some(isolation) = isolation(request.isolation_level) else {
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
        .iter()
        .map(|wanted| Target {
            partition: target(node, &call, wanted),
            from: Offset(wanted.fetch_offset),
            bytes_max: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        })
        .collect();

    let stopping = node.stopping.clone();
    let pass = tokio::select! {
        pass = poll(node, &targets, limits, wait) => pass,
        () = stopping.cancelled() => return Err(Status::unavailable("the node is stopping")),
    };
    let throttle = call.charge(Quota::Fetch, pass.bytes);
    let answers = request.partitions.iter().zip(&targets).zip(pass.partitions);
    let partitions = answers
        .map(|((wanted, target), read)| answer(&call, wanted, target, read))
        .collect();
    tokio::time::sleep(throttle).await;
    Ok(FetchResponse {
        partitions,
        throttle_time_ms: throttle.as_millis() as i32,
    })
}

fn target(node: &Node, call: &Call, wanted: &FetchPartition) -> Result<Arc<Partition>, Refusal> {
    let partition = node.partition_for(call, Operation::Read, &wanted.topic, wanted.partition)?;
    check_epoch(&partition, wanted.current_leader_epoch)?;
    Ok(partition)
}

/// The answer for one partition, counted.
fn answer(
    call: &Call,
    wanted: &FetchPartition,
    target: &Target,
    read: Result<Batches, Refusal>,
) -> PartitionRecords {
    let partition = target.partition.as_ref().ok();
    if let Some(partition) = partition {
        call.count_fetch(
            partition,
            read.as_ref().map(|read| read.chunk.bytes.len()).ok(),
        );
    }
    match (read, partition) {
        (Ok(read), Some(partition)) => {
            call.outcome(ErrorCode::None);
            partition_records::records(partition, read.chunk, read.aborted, 0)
        }
        (Ok(_), None) => unreachable!("only partitions that are there are read"),
        (Err(refusal), partition) => {
            call.outcome(refusal.code);
            let place = (wanted.topic.as_str(), wanted.partition);
            let partition = partition.filter(|partition| !partition.is_closed());
            let partition = partition.map(Arc::as_ref);
            partition_records::failure(place, partition, refusal, 0, wanted.fetch_offset)
        }
    }
}
