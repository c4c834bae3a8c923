//! `ListOffsets`: offsets by position or by time.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsResult,
};
use conveyor_log::{ReadError, TimestampOffset};

use super::no_error;
use super::partition_read::{Isolation, check_epoch};
use crate::node::{Node, Refusal};
use crate::partition::Partition;
use crate::request::{Call, Operation};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

pub(super) async fn list_offsets(
    node: &Arc<Node>,
    call: &Call,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = Isolation::from_number(request.isolation_level);
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in request.partitions {
        let found = if let Some(isolation) = isolation {
            look_up(node, call, &wanted, isolation).await
        } else {
            let message = format!("isolation level {} is not known", request.isolation_level);
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        };
        partitions.push(result(call, wanted, found));
    }
    ListOffsetsResponse { partitions }
}

/// Offset, timestamp and leader epoch; -1 where there is none.
type Found = (i64, i64, i32);

async fn look_up(
    node: &Node,
    call: &Call,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Found, Refusal> {
    let partition =
        node.partition_for(call, Operation::Describe, &wanted.topic, wanted.partition)?;
    check_epoch(&partition, wanted.current_leader_epoch)?;
    let reader = partition.reader();
    let epoch = partition.leader_epoch().value();
    match wanted.timestamp_ms {
        LATEST => Ok((isolation.bound(&partition).value(), -1, epoch)),
        EARLIEST => Ok((reader.log_start_offset().value(), -1, epoch)),
        time if time >= MAX_TIMESTAMP => by_time(partition, time, isolation).await,
        time => {
            let message = format!("{}: timestamp {time} stands for nothing", partition.name());
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// Looks into index and log, on a thread that may wait for the disk.
async fn by_time(
    partition: Arc<Partition>,
    timestamp_ms: i64,
    isolation: Isolation,
) -> Result<Found, Refusal> {
    let search = move || -> Result<Option<TimestampOffset>, ReadError> {
        let bound = isolation.bound(&partition);
        if timestamp_ms == MAX_TIMESTAMP {
            partition.reader().offset_of_max_timestamp(bound)
        } else {
            partition.reader().offset_for_timestamp(timestamp_ms, bound)
        }
    };
    let found = tokio::task::spawn_blocking(search)
        .await
        .map_err(|error| {
            Refusal::new(
                ErrorCode::UnknownServerError,
                format!("the search was given up: {error}"),
            )
        })??;
    Ok(found.map_or((-1, -1, -1), |found| {
        (
            found.offset.value(),
            found.timestamp_ms,
            found.leader_epoch.value(),
        )
    }))
}

fn result(
    call: &Call,
    wanted: ListOffsetsPartition,
    found: Result<Found, Refusal>,
) -> ListOffsetsResult {
    let (code, message, (offset, timestamp_ms, leader_epoch)) = match found {
        Ok(found) => (no_error(), String::new(), found),
        Err(refusal) => (refusal.code.code(), refusal.message, (-1, -1, -1)),
    };
    call.outcome(ErrorCode::from_code(code));
    ListOffsetsResult {
        topic: wanted.topic,
        partition: wanted.partition,
        error_code: code,
        error_message: message,
        offset,
        timestamp_ms,
        leader_epoch,
    }
}
