//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`: translate, let [`crate::admin`] do it, answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_controller::{CreatedTopic, NewTopic};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;

use super::{item_error, no_error};
use crate::admin::topics::{self, Growth};
use crate::node::{Node, Refusal, authorize_topic};
use crate::request::{Call, Operation};

pub(super) async fn create_topics(
    node: &Arc<Node>,
    call: &Call,
    request: v1::CreateTopicsRequest,
) -> v1::CreateTopicsResponse {
    let wanted: Vec<NewTopic> = request.topics.into_iter().map(new_topic).collect();
    let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let results = topics::create_topics(node, call, wanted, request.validate_only).await;
    let topics = names
        .into_iter()
        .zip(results)
        .map(|(name, result)| created(call, name, result));
    v1::CreateTopicsResponse {
        topics: topics.collect(),
    }
}

fn new_topic(topic: v1::NewTopic) -> NewTopic {
    NewTopic {
        name: topic.name,
        partitions: (topic.partitions != -1).then_some(topic.partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
        configs: topic.configs.into_iter().collect::<BTreeMap<_, _>>(),
        ..NewTopic::default()
    }
}

fn created(call: &Call, name: String, result: Result<CreatedTopic, Refusal>) -> v1::CreatedTopic {
    match result {
        Ok(topic) => {
            call.outcome(ErrorCode::None);
            v1::CreatedTopic {
                name,
                error_code: no_error(),
                error_message: String::new(),
                topic_id: Bytes::copy_from_slice(topic.id.as_bytes()),
                partitions: topic.partitions as i32,
                replication_factor: topic.replication_factor as i32,
            }
        }
        Err(refusal) => {
            call.outcome(refusal.code);
            v1::CreatedTopic {
                name,
                error_code: refusal.code.code(),
                error_message: refusal.message,
                topic_id: Bytes::from_static(&[0; 16]),
                partitions: -1,
                replication_factor: -1,
            }
        }
    }
}

pub(super) async fn delete_topics(
    node: &Arc<Node>,
    call: &Call,
    request: v1::DeleteTopicsRequest,
) -> v1::DeleteTopicsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for name in request.topics {
        let refusal = topics::delete_topic(node, call, &name).await.err();
        call.outcome(
            refusal
                .as_ref()
                .map_or(ErrorCode::None, |refusal| refusal.code),
        );
        topics.push(v1::TopicResult {
            name,
            error_code: refusal
                .as_ref()
                .map_or_else(no_error, |refusal| refusal.code.code()),
            error_message: refusal.map_or_else(String::new, |refusal| refusal.message),
        });
    }
    v1::DeleteTopicsResponse { topics }
}

pub(super) async fn create_partitions(
    node: &Arc<Node>,
    call: &Call,
    request: v1::CreatePartitionsRequest,
) -> v1::CreatePartitionsResponse {
    let refusal = grow(node, call, request).await.err();
    call.outcome(
        refusal
            .as_ref()
            .map_or(ErrorCode::None, |refusal| refusal.code),
    );
    v1::CreatePartitionsResponse {
        error: refusal.as_ref().map(item_error),
    }
}

async fn grow(
    node: &Node,
    call: &Call,
    request: v1::CreatePartitionsRequest,
) -> Result<(), Refusal> {
    authorize_topic(call, Operation::Alter, &request.topic)?;
    if !request.force && topics::holds_records(node, &request.topic) {
        let message = format!(
            "topic {} holds records: with more partitions keys would map to others; use force \
             to add them all the same",
            request.topic
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let growth = Growth {
        topic: request.topic,
        total_count: request.total_count,
        assignments: None,
        validate_only: request.validate_only,
    };
    topics::add_partitions(node, call, growth).await
}
