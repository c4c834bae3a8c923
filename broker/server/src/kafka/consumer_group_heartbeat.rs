//! `ConsumerGroupHeartbeat`: the one call of a member of a group by the consumer protocol (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use conveyor_group::{Assignment, HeartbeatRequest, HeartbeatResponse, JOIN_EPOCH};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::consumer_group_heartbeat::{
    self, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use uuid::Uuid;

use super::group_call::owned;
use super::{KafkaCall, KafkaService};
use crate::coordinator::decided;
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;

/// The first version whose members choose their ids themselves (KIP-1082).
const OWN_MEMBER_ID_SINCE: i16 = 1;

pub(super) async fn consumer_group_heartbeat(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    match beat(service, call, &request).await {
        Ok(response) => ConsumerGroupHeartbeatResponse {
            error_code: call.code(ErrorCode::None),
            member_id: Some(response.member_id.into()),
            member_epoch: response.member_epoch,
            heartbeat_interval_ms: response.heartbeat_interval_ms,
            assignment: response.assignment.as_ref().map(write),
            ..ConsumerGroupHeartbeatResponse::default()
        },
        Err(refusal) => ConsumerGroupHeartbeatResponse {
            error_code: call.refused(&refusal),
            error_message: Some(refusal.message.into()),
            ..ConsumerGroupHeartbeatResponse::default()
        },
    }
}

async fn beat(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<HeartbeatResponse, Refusal> {
    call.allow_group(Operation::Read, &request.group_id)?;
    for topic in request.subscribed_topic_names.iter().flatten() {
        authorize_topic(call, Operation::Describe, topic)?;
    }
    refuse_malformed(request)?;
    let heartbeat = translate(call, request);
    service
        .groups
        .change(&request.group_id, move |coordinator, cluster, now_ms| {
            decided(coordinator.heartbeat(now_ms, &heartbeat, cluster))
        })
        .await?
}

fn translate(call: &KafkaCall, request: &ConsumerGroupHeartbeatRequest) -> HeartbeatRequest {
    let chooses_id = request.member_id.is_empty() && request.member_epoch == JOIN_EPOCH;
    let member_id = if chooses_id && call.version < OWN_MEMBER_ID_SINCE {
        Uuid::new_v4().to_string()
    } else {
        request.member_id.as_str().to_owned()
    };
    let names = request.subscribed_topic_names.as_ref().map(|names| {
        let names = names.iter().map(|name| name.as_str().to_owned());
        names.collect::<BTreeSet<_>>()
    });
    HeartbeatRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id,
        member_epoch: request.member_epoch,
        instance_id: owned(request.instance_id.as_ref()),
        rack_id: owned(request.rack_id.as_ref()),
        rebalance_timeout_ms: (request.rebalance_timeout_ms != -1)
            .then_some(request.rebalance_timeout_ms),
        subscribed_topic_names: names,
        subscribed_topic_regex: owned(request.subscribed_topic_regex.as_ref()),
        server_assignor: owned(request.server_assignor.as_ref()),
        owned: request.topic_partitions.as_deref().map(read),
        client_id: call.client_id().to_string(),
        client_host: call.client_host(),
    }
}

/// What Kafka refuses before it looks at the group.
fn refuse_malformed(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let joins = request.member_epoch == JOIN_EPOCH;
    let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
    let message = if request.group_id.is_empty() {
        "a group id must not be empty"
    } else if request.rack_id.as_ref().is_some_and(|rack| rack.is_empty()) {
        "a rack id must not be empty; leave it out"
    } else if joins && !owns_nothing {
        "a member that joins owns no partitions yet and has to say so"
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn read(topics: &[TopicPartitions]) -> Assignment {
    let mut assignment = Assignment::new();
    for topic in topics {
        assignment.extend(topic.partitions.iter().map(|p| (topic.topic_id, *p)));
    }
    assignment
}

fn write(assignment: &Assignment) -> consumer_group_heartbeat::Assignment {
    let topics = assignment
        .topics()
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        });
    consumer_group_heartbeat::Assignment {
        topic_partitions: topics.collect(),
    }
}
