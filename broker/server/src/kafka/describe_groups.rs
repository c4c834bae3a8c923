//! `DescribeGroups`: state and members of classic groups. Those by the consumer protocol have
//! [`super::consumer_group_describe`].

use std::sync::Arc;

use conveyor_group::{ClassicDescription, GroupState};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::distinct::distinct;
use super::group_call::text;
use super::{KafkaCall, KafkaService, authorized_operations};
use crate::node::Refusal;
use crate::request::Operation;

/// The first version that can say that a group is not there; older ones tell it as dead.
const NOT_FOUND_SINCE: i16 = 6;

pub(super) async fn describe_groups(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in distinct(request.groups) {
        let mut group = match describe(service, call, &group_id).await {
            Ok(description) => described(call, description),
            Err(refusal) => refused(call, group_id.clone(), &refusal),
        };
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = authorized_operations::of_group(call, &group_id);
        }
        groups.push(group);
    }
    DescribeGroupsResponse {
        groups,
        ..DescribeGroupsResponse::default()
    }
}

async fn describe(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    group_id: &str,
) -> Result<ClassicDescription, Refusal> {
    call.allow_group(Operation::Describe, group_id)?;
    service.groups.describe_classic(group_id).await
}

fn described(call: &KafkaCall, group: ClassicDescription) -> DescribedGroup {
    let members = group
        .members
        .into_iter()
        .map(|member| DescribedGroupMember {
            member_id: member.member_id.into(),
            group_instance_id: text(member.instance_id),
            client_id: member.client_id.into(),
            client_host: member.client_host.into(),
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        });
    DescribedGroup {
        error_code: call.code(ErrorCode::None),
        group_id: group.group_id.into(),
        group_state: Text::from_static(group.state.name()),
        protocol_type: group.protocol_type.into(),
        protocol_data: group.protocol.into(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

fn refused(call: &KafkaCall, group_id: Text, refusal: &Refusal) -> DescribedGroup {
    let is_missing = refusal.code == ErrorCode::GroupIdNotFound;
    let has_message = call.version >= NOT_FOUND_SINCE;
    let error_code = if is_missing && !has_message {
        call.code(ErrorCode::None)
    } else {
        call.refused(refusal)
    };
    let group_state = if is_missing {
        Text::from_static(GroupState::Dead.name())
    } else {
        Text::default()
    };
    DescribedGroup {
        error_code,
        error_message: has_message.then(|| refusal.message.as_str().into()),
        group_id,
        group_state,
        ..DescribedGroup::default()
    }
}
