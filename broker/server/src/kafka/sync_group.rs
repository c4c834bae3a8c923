//! `SyncGroup`: the leader hands in assignments, every member gets its own. Answered when it has.

use std::sync::Arc;

use bytes::Bytes;
use conveyor_group::{Reply, SyncRequest, Synced};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::group_call::{check_size, owned, text};
use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

/// From this version on a member must say which protocol it takes the group to use.
const PROTOCOL_SINCE: i16 = 5;

pub(super) async fn sync_group(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let outcome = sync(service, call, request).await;
    let error_code = call.outcome_code(&outcome);
    match outcome {
        Ok(synced) => SyncGroupResponse {
            error_code,
            protocol_type: text(synced.protocol_type),
            protocol_name: text(synced.protocol),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(_) => SyncGroupResponse {
            error_code,
            ..SyncGroupResponse::default()
        },
    }
}

async fn sync(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: SyncGroupRequest,
) -> Result<Synced, Refusal> {
    call.allow_group(Operation::Read, &request.group_id)?;
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= PROTOCOL_SINCE && !names_protocol {
        let message = "a sync must name the protocol and its type";
        return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
    }
    let sizes = request.assignments.iter().map(|one| one.assignment.len());
    check_size(service, sizes.sum())?;
    let assignments = request.assignments.iter().map(|one| {
        let assignment = Bytes::copy_from_slice(&one.assignment);
        (one.member_id.as_str().to_owned(), assignment)
    });
    let sync = SyncRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol: owned(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    };
    // The wait may be long, and the request keeps its frame.
    drop(request);
    let group_id = sync.group_id.clone();
    let answer = service
        .groups
        .change_later(&group_id, move |coordinator, _, now_ms, ticket| {
            coordinator.sync_group(now_ms, ticket, &sync)
        })
        .await?;
    match answer {
        Reply::Sync(outcome) => Ok(outcome?),
        Reply::Join(_) => Err(Refusal::new(
            ErrorCode::UnknownServerError,
            "a sync was answered as a join",
        )),
    }
}
