//! `ListOffsets`: offsets by position or by time.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsResult,
};

use super::{isolation, no_error};
use crate::node::{Node, Refusal};
use crate::records::offsets::{FoundOffset, look_up};
use crate::request::Call;

pub(super) async fn list_offsets(
    node: &Arc<Node>,
    call: &Call,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = isolation(request.isolation_level);
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in request.partitions {
        let found = if let Some(isolation) = isolation {
            let place = (wanted.topic.as_str(), wanted.partition);
            let (epoch, time) = (wanted.current_leader_epoch, wanted.timestamp_ms);
            look_up(node, call, place, epoch, time, isolation).await
        } else {
            let message = format!("isolation level {} is not known", request.isolation_level);
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        };
        partitions.push(result(call, wanted, found));
    }
    ListOffsetsResponse { partitions }
}

fn result(
    call: &Call,
    wanted: ListOffsetsPartition,
    found: Result<FoundOffset, Refusal>,
) -> ListOffsetsResult {
    let (code, message, found) = match found {
        Ok(found) => (no_error(), String::new(), found),
        Err(refusal) => (refusal.code.code(), refusal.message, FoundOffset::NONE),
    };
    call.outcome(ErrorCode::from_code(code));
    ListOffsetsResult {
        topic: wanted.topic,
        partition: wanted.partition,
        error_code: code,
        error_message: message,
        offset: found.offset.value(),
        timestamp_ms: found.timestamp_ms,
        leader_epoch: found.leader_epoch.value(),
    }
}
