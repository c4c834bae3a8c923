//! `JoinGroup`: a member enters a classic group, or its next generation. Answered when all have.

use std::sync::Arc;

use bytes::Bytes;
use conveyor_group::{JoinReply, JoinRequest, Joined, Protocol, Reply};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};

use super::group_call::{check_size, new_member_id, owned, text};
use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

/// The first version whose members tell how long others may wait for them.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// The first version whose members get an id before they join (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// The first version that can say that there is no protocol.
const NULL_PROTOCOL_SINCE: i16 = 7;
/// The first version whose leaders can be told to leave the assignment as it is (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

pub(super) async fn join_group(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let member_id = request.member_id.as_str().to_owned();
    let reply = match join(service, call, request).await {
        Ok(reply) => reply,
        Err(refusal) => {
            let error_code = call.refused(&refusal);
            return refused(call, member_id, error_code);
        }
    };
    match reply.outcome {
        Ok(joined) => accepted(call, reply.member_id, joined),
        Err(error) => {
            let error_code = call.refused(&Refusal::from(error));
            refused(call, reply.member_id, error_code)
        }
    }
}

async fn join(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: JoinGroupRequest,
) -> Result<JoinReply, Refusal> {
    call.allow_group(Operation::Read, &request.group_id)?;
    let metadata = request.protocols.iter().map(|one| one.metadata.len());
    check_size(service, metadata.sum())?;
    let join = translate(call, &request);
    // The wait may be long, and the request keeps its frame.
    drop(request);
    let group_id = join.group_id.clone();
    let answer = service
        .groups
        .change_later(&group_id, move |coordinator, cluster, now_ms, ticket| {
            coordinator.join_group(now_ms, ticket, &join, cluster)
        })
        .await?;
    match answer {
        Reply::Join(reply) => Ok(reply),
        Reply::Sync(_) => Err(Refusal::new(
            ErrorCode::UnknownServerError,
            "a join was answered as a sync",
        )),
    }
}

fn translate(call: &KafkaCall, request: &JoinGroupRequest) -> JoinRequest {
    let instance_id = owned(request.group_instance_id.as_ref());
    let rebalance_timeout_ms = if call.version >= REBALANCE_TIMEOUT_SINCE {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let protocols = request.protocols.iter().map(|protocol| Protocol {
        name: protocol.name.as_str().to_owned(),
        // Kept as long as the member is: a slice would keep the whole frame.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    JoinRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        new_member_id: new_member_id(call.client_id(), instance_id.as_deref()),
        instance_id,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.as_str().to_owned(),
        protocols: protocols.collect(),
        requires_known_member: call.version >= MEMBER_ID_REQUIRED_SINCE,
        supports_skipping_assignment: call.version >= SKIP_ASSIGNMENT_SINCE,
        client_id: call.client_id().to_string(),
        client_host: call.client_host(),
    }
}

fn accepted(call: &KafkaCall, member_id: String, joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id.into(),
            group_instance_id: text(member.instance_id),
            metadata: member.metadata,
        });
    JoinGroupResponse {
        error_code: call.code(ErrorCode::None),
        generation_id: joined.generation,
        protocol_type: text(joined.protocol_type),
        protocol_name: protocol_name(call, joined.protocol),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: member_id.into(),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

fn refused(call: &KafkaCall, member_id: String, error_code: i16) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        protocol_name: protocol_name(call, None),
        member_id: member_id.into(),
        ..JoinGroupResponse::default()
    }
}

fn protocol_name(call: &KafkaCall, name: Option<String>) -> Option<Text> {
    match name {
        None if call.version < NULL_PROTOCOL_SINCE => Some(Text::default()),
        name => text(name),
    }
}
