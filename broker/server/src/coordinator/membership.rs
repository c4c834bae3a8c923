//! `ConsumerGroupHeartbeat`.

use bytes::Bytes;
use conveyor_group::{Assignment, ClusterView, HeartbeatRequest, HeartbeatResponse, Transition};
use conveyor_grpc::{ErrorCode, v1};
use uuid::Uuid;

use super::cluster::ClusterSnapshot;
use super::hosted::decision;
use super::refusal::{authorize_group, told};
use super::{Decision, GroupHost};
use crate::node::{Refusal, authorize_topic};
use crate::request::{Call, Operation};

pub(super) async fn heartbeat(
    host: &GroupHost,
    call: &Call,
    request: v1::ConsumerGroupHeartbeatRequest,
) -> v1::ConsumerGroupHeartbeatResponse {
    let (member_id, member_epoch) = (request.member_id.clone(), request.member_epoch);
    let outcome = beat(host, call, request).await;
    let (error_code, error_message) = told(call, &outcome);
    match outcome {
        Ok((response, assignment)) => v1::ConsumerGroupHeartbeatResponse {
            error_code,
            error_message,
            member_id: response.member_id,
            member_epoch: response.member_epoch,
            heartbeat_interval_ms: response.heartbeat_interval_ms,
            assignment,
        },
        Err(_) => v1::ConsumerGroupHeartbeatResponse {
            error_code,
            error_message,
            member_id,
            member_epoch,
            ..Default::default()
        },
    }
}

type Beat = (HeartbeatResponse, Option<v1::Assignment>);

async fn beat(
    host: &GroupHost,
    call: &Call,
    request: v1::ConsumerGroupHeartbeatRequest,
) -> Result<Beat, Refusal> {
    authorize_group(call, Operation::Read, &request.group_id)?;
    for topic in request
        .subscribed_topics
        .iter()
        .flat_map(|topics| &topics.names)
    {
        authorize_topic(call, Operation::Describe, topic)?;
    }
    let owned = request.owned.clone();
    let mut heartbeat = translate(call, request);
    let group_id = heartbeat.group_id.clone();
    let decided = host
        .change(&group_id, move |coordinator, cluster, now_ms| {
            heartbeat.owned = match owned
                .map(|owned| read_assignment(&owned, cluster))
                .transpose()
            {
                Ok(owned) => owned,
                Err(refusal) => return Decision::nothing(Err(refusal)),
            };
            match coordinator.heartbeat(now_ms, &heartbeat, cluster) {
                Ok(Transition {
                    records,
                    replies,
                    response,
                }) => {
                    let assignment = response.assignment.as_ref();
                    let assignment = assignment.map(|own| write_assignment(own, cluster));
                    decision(Transition {
                        records,
                        replies,
                        response: Ok((response, assignment)),
                    })
                }
                Err(error) => Decision::nothing(Err(Refusal::from(error))),
            }
        })
        .await?;
    if let Err(refusal) = &decided {
        tracing::debug!(group_id, reason = refusal.message, "heartbeat refused");
    }
    decided
}

fn translate(call: &Call, request: v1::ConsumerGroupHeartbeatRequest) -> HeartbeatRequest {
    let set = |text: String| (!text.is_empty()).then_some(text);
    HeartbeatRequest {
        group_id: request.group_id,
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        instance_id: set(request.instance_id),
        rack_id: set(request.rack_id),
        rebalance_timeout_ms: (request.rebalance_timeout_ms > 0)
            .then_some(request.rebalance_timeout_ms),
        subscribed_topic_names: request
            .subscribed_topics
            .map(|topics| topics.names.into_iter().collect()),
        subscribed_topic_regex: None,
        server_assignor: set(request.server_assignor),
        owned: None,
        client_id: call.client_id().to_string(),
        client_host: call
            .peer()
            .map(|peer| peer.ip().to_string())
            .unwrap_or_default(),
    }
}

/// Partitions by topic id, or by name where no id is given. Topics that are gone cannot be owned.
fn read_assignment(
    assignment: &v1::Assignment,
    cluster: &ClusterSnapshot,
) -> Result<Assignment, Refusal> {
    let mut read = Assignment::new();
    for topic in &assignment.topics {
        let id = if topic.topic_id.is_empty() {
            cluster.topic(&topic.topic).map(|topic| topic.id)
        } else {
            let id = Uuid::from_slice(&topic.topic_id).map_err(|_| {
                let message = format!("a topic id has {} bytes, not 16", topic.topic_id.len());
                Refusal::new(ErrorCode::InvalidRequest, message)
            })?;
            Some(id)
        };
        if let Some(id) = id {
            read.extend(topic.partitions.iter().map(|partition| (id, *partition)));
        }
    }
    Ok(read)
}

/// The same for clients. Topics that are gone are left out: nothing of them can be consumed.
pub(super) fn write_assignment(
    assignment: &Assignment,
    cluster: &ClusterSnapshot,
) -> v1::Assignment {
    let topics = assignment.topics().filter_map(|(id, partitions)| {
        Some(v1::AssignedTopic {
            topic_id: Bytes::copy_from_slice(id.as_bytes()),
            topic: cluster.name_of(id)?.to_owned(),
            partitions: partitions.iter().copied().collect(),
        })
    });
    v1::Assignment {
        topics: topics.collect(),
    }
}
