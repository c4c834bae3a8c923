//! `DeleteTopics`: by name, and from version 6 on by id as well.

use std::collections::HashMap;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use uuid::Uuid;

use super::{KafkaCall, KafkaService};
use crate::admin::{topics, within};
use crate::node::{Node, Refusal};
use crate::request::{Operation, Resource};

/// The first version that names topics by id.
const IDS_SINCE: i16 = 6;
/// The first version whose clients know that deletion can be switched off.
const DISABLED_SINCE: i16 = 3;

pub(super) async fn delete_topics(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let wanted = if call.version < IDS_SINCE {
        let by_name = |name| DeleteTopicState {
            name: Some(name),
            ..DeleteTopicState::default()
        };
        request.topic_names.into_iter().map(by_name).collect()
    } else {
        request.topics
    };
    let node = service.node();
    // Topics that are named by id as well as by name count as named twice.
    let found: Vec<_> = wanted
        .into_iter()
        .map(|topic| {
            let found = find(node, call, &topic);
            (topic, found)
        })
        .collect();
    let mut counts: HashMap<Text, usize> = HashMap::new();
    for name in found.iter().filter_map(|(_, found)| found.as_ref().ok()) {
        *counts.entry(name.clone()).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(found.len());
    for (topic, found) in found {
        let deleted = match found {
            Ok(name) if counts[&name] > 1 => {
                let message = format!("topic {name} comes more than once in the request");
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
            Ok(name) => delete(node, call, &name, request.timeout_ms).await,
            Err(refusal) => Err(refusal),
        };
        responses.push(answered(call, topic, deleted));
    }
    DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    }
}

/// The name of the topic that is meant. It need not be there if it is meant by name.
fn find(node: &Node, call: &KafkaCall, topic: &DeleteTopicState) -> Result<Text, Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match (&topic.name, topic.topic_id.is_nil()) {
        (Some(name), true) => Ok(name.clone()),
        (Some(_), false) => invalid("a topic is named by name and by id: give one of them"),
        (None, true) => invalid("a topic is named neither by name nor by id"),
        (None, false) => {
            let image = node.metadata.image();
            let found = image.topic_by_id(topic.topic_id).ok_or_else(|| {
                let message = format!("no topic has the id {}", topic.topic_id);
                Refusal::new(ErrorCode::UnknownTopicId, message)
            })?;
            if !call.may(Operation::Describe, Resource::Topic(&found.name)) {
                // The name stays unknown to who may not see it.
                let message = format!("{} may not see this topic", call.principal());
                return Err(Refusal::new(ErrorCode::TopicAuthorizationFailed, message));
            }
            Ok(Text::from(&found.name))
        }
    }
}

/// Deletes the topic and gives the id that it had.
async fn delete(
    node: &Node,
    call: &KafkaCall,
    name: &Text,
    timeout_ms: i32,
) -> Result<(Text, Uuid), Refusal> {
    let id = node.metadata.image().topic(name).map(|topic| topic.id);
    match within(timeout_ms, topics::delete_topic(node, call, name)).await {
        Ok(()) => Ok((name.clone(), id.unwrap_or_default())),
        Err(refusal)
            if refusal.code == ErrorCode::TopicDeletionDisabled
                && call.version < DISABLED_SINCE =>
        {
            Err(Refusal::new(ErrorCode::InvalidRequest, refusal.message))
        }
        Err(refusal) => Err(refusal),
    }
}

fn answered(
    call: &KafkaCall,
    topic: DeleteTopicState,
    deleted: Result<(Text, Uuid), Refusal>,
) -> DeletableTopicResult {
    match deleted {
        Ok((name, topic_id)) => DeletableTopicResult {
            name: Some(name),
            topic_id,
            error_code: call.code(ErrorCode::None),
            error_message: None,
        },
        Err(refusal) => DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
        },
    }
}
