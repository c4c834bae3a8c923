//! `ConsumerGroupDescribe`: state and members of groups by the consumer protocol (KIP-848).

use std::sync::Arc;

use conveyor_controller::MetadataImage;
use conveyor_group::{Assignment, GroupDescription};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::consumer_group_describe::{
    self, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member,
    TopicPartitions,
};

use super::distinct::distinct;
use super::group_call::text;
use super::{KafkaCall, KafkaService, authorized_operations};
use crate::node::Refusal;
use crate::request::Operation;

/// Members that speak the consumer protocol, by Kafka's number; there are no others here.
const CONSUMER_MEMBER: i8 = 1;
/// And of one by the classic protocol, in a group of both.
const CLASSIC_MEMBER: i8 = 0;

pub(super) async fn consumer_group_describe(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let image = service.node.metadata.image();
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in distinct(request.group_ids) {
        let mut group = match describe(service, call, &group_id).await {
            Ok(description) => described(call, description, &image),
            Err(refusal) => DescribedGroup {
                error_code: call.refused(&refusal),
                error_message: Some(refusal.message.into()),
                group_id: group_id.clone(),
                ..DescribedGroup::default()
            },
        };
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = authorized_operations::of_group(call, &group_id);
        }
        groups.push(group);
    }
    ConsumerGroupDescribeResponse {
        groups,
        ..ConsumerGroupDescribeResponse::default()
    }
}

async fn describe(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    group_id: &str,
) -> Result<GroupDescription, Refusal> {
    call.allow_group(Operation::Describe, group_id)?;
    service.groups.describe(group_id).await
}

fn described(call: &KafkaCall, group: GroupDescription, image: &MetadataImage) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| Member {
        member_id: member.member_id.into(),
        instance_id: text(member.instance_id),
        rack_id: text(member.rack_id),
        member_epoch: member.epoch,
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        subscribed_topic_names: member
            .subscribed_topic_names
            .into_iter()
            .map(Text::from)
            .collect(),
        subscribed_topic_regex: text(member.subscribed_topic_regex),
        assignment: write(&member.assignment, image),
        target_assignment: write(&member.target_assignment, image),
        member_type: if member.is_classic {
            CLASSIC_MEMBER
        } else {
            CONSUMER_MEMBER
        },
    });
    DescribedGroup {
        error_code: call.code(ErrorCode::None),
        group_id: group.group_id.into(),
        group_state: Text::from_static(group.state.name()),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: Text::from_static(group.assignor.name()),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

/// Topics that are gone are left out, since they have no name any more.
fn write(assignment: &Assignment, image: &MetadataImage) -> consumer_group_describe::Assignment {
    let topics = assignment.topics().filter_map(|(topic_id, partitions)| {
        Some(TopicPartitions {
            topic_id,
            topic_name: image.topic_by_id(topic_id)?.name.as_str().into(),
            partitions: partitions.iter().copied().collect(),
        })
    });
    consumer_group_describe::Assignment {
        topic_partitions: topics.collect(),
    }
}
