//! `LeaveGroup`: members leave a classic group, one by itself or several by an operator's word.

use std::sync::Arc;

use conveyor_group::{LeaveRequest, LeavingMember, LeftMember};
use conveyor_kafka::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};

use super::group_call::{owned, text};
use super::{KafkaCall, KafkaService};
use crate::coordinator::decided;
use crate::node::Refusal;
use crate::request::Operation;

/// The first version with several members.
const MEMBERS_SINCE: i16 = 3;

pub(super) async fn leave_group(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let outcome = leave(service, call, request).await;
    let left = match outcome {
        Ok(left) => left,
        Err(refusal) => {
            return LeaveGroupResponse {
                error_code: call.refused(&refusal),
                ..LeaveGroupResponse::default()
            };
        }
    };
    let members = left.into_iter().map(|left| MemberResponse {
        error_code: call.outcome_code(&left.result.map_err(Refusal::from)),
        member_id: left.member.member_id.into(),
        group_instance_id: text(left.member.instance_id),
    });
    let members: Vec<MemberResponse> = members.collect();
    if call.version >= MEMBERS_SINCE {
        return LeaveGroupResponse {
            members,
            ..LeaveGroupResponse::default()
        };
    }
    LeaveGroupResponse {
        error_code: members.first().map_or(0, |only| only.error_code),
        ..LeaveGroupResponse::default()
    }
}

async fn leave(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: LeaveGroupRequest,
) -> Result<Vec<LeftMember>, Refusal> {
    call.allow_group(Operation::Read, &request.group_id)?;
    let members = if call.version >= MEMBERS_SINCE {
        let members = request.members.iter().map(|member| LeavingMember {
            member_id: member.member_id.as_str().to_owned(),
            instance_id: owned(member.group_instance_id.as_ref()),
        });
        members.collect()
    } else {
        vec![LeavingMember {
            member_id: request.member_id.as_str().to_owned(),
            instance_id: None,
        }]
    };
    let leave = LeaveRequest {
        group_id: request.group_id.as_str().to_owned(),
        members,
    };
    service
        .groups
        .change(&request.group_id, move |coordinator, _, now_ms| {
            decided(coordinator.leave_group(now_ms, &leave))
        })
        .await?
}
