//! `DeleteRecords`: raises the log start offset.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsResult,
};
use conveyor_record::Offset;

use super::no_error;
use crate::node::{Node, Refusal};
use crate::partition::Partition;
use crate::request::{Call, Operation};

/// Stands for the high watermark in a request.
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn delete_records(
    node: &Arc<Node>,
    call: &Call,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in request.partitions {
        let deleted = delete(node, call, &wanted).await;
        partitions.push(result(call, wanted, deleted));
    }
    DeleteRecordsResponse { partitions }
}

async fn delete(
    node: &Node,
    call: &Call,
    wanted: &DeleteRecordsPartition,
) -> Result<Offset, Refusal> {
    let partition = node.partition_for(call, Operation::Delete, &wanted.topic, wanted.partition)?;
    if !partition.config().cleanup_policy.delete {
        let message = format!("{}: cleanup.policy has no \"delete\"", partition.name());
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let before = wanted.before_offset;
    let change = tokio::task::spawn_blocking(move || raise_start(&partition, before)).await;
    change.unwrap_or_else(|error| {
        Err(Refusal::new(
            ErrorCode::UnknownServerError,
            format!("given up: {error}"),
        ))
    })
}

fn raise_start(partition: &Partition, before: i64) -> Result<Offset, Refusal> {
    let high_watermark = partition.reader().high_watermark();
    let before = if before == HIGH_WATERMARK {
        high_watermark
    } else {
        Offset(before)
    };
    if !before.is_some() || before > high_watermark {
        let message = format!(
            "{}: offset {before} is outside 0 to {high_watermark}",
            partition.name()
        );
        return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
    }
    match partition.with_log(|log| log.delete_records_before(before)) {
        Some(start) => Ok(start?),
        None => Err(super::partition_read::closed(partition)),
    }
}

fn result(
    call: &Call,
    wanted: DeleteRecordsPartition,
    deleted: Result<Offset, Refusal>,
) -> DeleteRecordsResult {
    let (error_code, error_message, low_watermark) = match deleted {
        Ok(start) => (no_error(), String::new(), start.value()),
        Err(refusal) => (refusal.code.code(), refusal.message, -1),
    };
    call.outcome(ErrorCode::from_code(error_code));
    DeleteRecordsResult {
        topic: wanted.topic,
        partition: wanted.partition,
        error_code,
        error_message,
        low_watermark,
    }
}
