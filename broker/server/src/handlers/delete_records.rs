//! `DeleteRecords`: raises the log start offset.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsResult,
};
use conveyor_record::Offset;

use super::no_error;
use crate::node::{Node, Refusal};
use crate::records::delete::delete_before;
use crate::request::Call;

pub(super) async fn delete_records(
    node: &Arc<Node>,
    call: &Call,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in request.partitions {
        let place = (wanted.topic.as_str(), wanted.partition);
        let deleted = delete_before(node, call, place, wanted.before_offset).await;
        partitions.push(result(call, wanted, deleted));
    }
    DeleteRecordsResponse { partitions }
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
