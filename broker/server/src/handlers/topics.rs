//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`: translate, let the controller decide, answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_controller::{
    self as controller, CreatedTopic, MetadataImage, NewTopic, is_internal_topic,
};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;
use conveyor_record::Offset;
use uuid::Uuid;

use super::{item_error, no_error};
use crate::node::{Node, Refusal, authorize_topic};
use crate::request::{Call, Operation};

pub(super) async fn create_topics(
    node: &Arc<Node>,
    call: &Call,
    request: v1::CreateTopicsRequest,
) -> v1::CreateTopicsResponse {
    let wanted: Vec<(NewTopic, Result<(), Refusal>)> = request
        .topics
        .into_iter()
        .map(|topic| {
            let allowed = authorize_topic(call, Operation::Create, &topic.name);
            (new_topic(topic), allowed)
        })
        .collect();
    let names: Vec<String> = wanted.iter().map(|(topic, _)| topic.name.clone()).collect();
    let defaults = node.config.topic_defaults();
    let validate_only = request.validate_only;
    let outcome = node
        .metadata
        .change(move |image| {
            let mut working = image.clone();
            let mut records = Vec::new();
            let results: Vec<Result<CreatedTopic, Refusal>> = wanted
                .into_iter()
                .map(|(topic, allowed)| {
                    allowed?;
                    let made =
                        controller::create_topic(&working, &topic, Uuid::new_v4(), &defaults)?;
                    working.replay_all(&made.records);
                    records.extend(made.records);
                    Ok(made.response)
                })
                .collect();
            (if validate_only { Vec::new() } else { records }, results)
        })
        .await;
    let results = outcome.unwrap_or_else(|error| {
        names
            .iter()
            .map(|_| Err(Refusal::from(error.clone())))
            .collect()
    });
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
        internal: false,
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

/// Creates a topic that a client asked about, with the node's defaults.
pub(crate) async fn auto_create(node: &Arc<Node>, name: &str) -> Result<(), Refusal> {
    ensure_topic(
        node,
        NewTopic {
            name: name.to_owned(),
            ..NewTopic::default()
        },
    )
    .await
}

/// Creates a topic for the broker itself or on a client's behalf; an error if it is there.
pub(crate) async fn ensure_topic(node: &Arc<Node>, topic: NewTopic) -> Result<(), Refusal> {
    let defaults = node.config.topic_defaults();
    node.metadata
        .change(move |image| {
            match controller::create_topic(image, &topic, Uuid::new_v4(), &defaults) {
                Ok(made) => (made.records, Ok(())),
                Err(error) => (Vec::new(), Err(Refusal::from(error))),
            }
        })
        .await?
}

pub(super) async fn delete_topics(
    node: &Arc<Node>,
    call: &Call,
    request: v1::DeleteTopicsRequest,
) -> v1::DeleteTopicsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for name in request.topics {
        let refusal = delete_topic(node, call, &name).await.err();
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

async fn delete_topic(node: &Node, call: &Call, name: &str) -> Result<(), Refusal> {
    authorize_topic(call, Operation::Delete, name)?;
    if !node.config.delete_topics {
        let message = "topics cannot be deleted on this node (delete.topic.enable)";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let topic = name.to_owned();
    let decide = move |image: &MetadataImage| match controller::delete_topic(image, &topic) {
        Ok(gone) => (gone.records, Ok(())),
        Err(error) => (Vec::new(), Err(Refusal::from(error))),
    };
    node.metadata.change(decide).await??;
    node.metrics.forget_topic(name);
    Ok(())
}

pub(super) async fn create_partitions(
    node: &Arc<Node>,
    call: &Call,
    request: v1::CreatePartitionsRequest,
) -> v1::CreatePartitionsResponse {
    let refusal = add_partitions(node, call, request).await.err();
    call.outcome(
        refusal
            .as_ref()
            .map_or(ErrorCode::None, |refusal| refusal.code),
    );
    v1::CreatePartitionsResponse {
        error: refusal.as_ref().map(item_error),
    }
}

async fn add_partitions(
    node: &Node,
    call: &Call,
    request: v1::CreatePartitionsRequest,
) -> Result<(), Refusal> {
    let topic = request.topic;
    authorize_topic(call, Operation::Alter, &topic)?;
    if !request.force && !is_internal_topic(&topic) && holds_records(node, &topic) {
        let message = format!(
            "topic {topic} holds records: with more partitions keys would map to others; use force \
             to add them all the same"
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let defaults = node.config.topic_defaults();
    let (count, validate_only) = (request.total_count, request.validate_only);
    node.metadata
        .change(
            move |image| match controller::create_partitions(image, &topic, count, &defaults) {
                Ok(_) if validate_only => (Vec::new(), Ok(())),
                Ok(grown) => (grown.records, Ok(())),
                Err(error) => (Vec::new(), Err(Refusal::from(error))),
            },
        )
        .await?
}

fn holds_records(node: &Node, topic: &str) -> bool {
    let Ok(topic) = node.partitions().topic(topic) else {
        return false;
    };
    topic
        .online()
        .any(|partition| partition.reader().log_end_offset() > Offset::ZERO)
}
