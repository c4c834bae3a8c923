//! `Heartbeat`: a classic member says that it is alive.

use std::sync::Arc;

use conveyor_group::ClassicHeartbeat;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::group_call::owned;
use super::{KafkaCall, KafkaService};
use crate::coordinator::decided;
use crate::node::Refusal;
use crate::request::Operation;

pub(super) async fn heartbeat(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let outcome = match beat(service, call, request).await {
        // The sessions begin anew when the coordinator has loaded: nothing to worry a member with.
        Err(refusal) if refusal.code == ErrorCode::CoordinatorLoadInProgress => Ok(()),
        outcome => outcome,
    };
    HeartbeatResponse {
        error_code: call.outcome_code(&outcome),
        ..HeartbeatResponse::default()
    }
}

async fn beat(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: HeartbeatRequest,
) -> Result<(), Refusal> {
    call.allow_group(Operation::Read, &request.group_id)?;
    let heartbeat = ClassicHeartbeat {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    service
        .groups
        .change(&request.group_id, move |coordinator, _, now_ms| {
            decided(coordinator.classic_heartbeat(now_ms, &heartbeat))
        })
        .await?
}
