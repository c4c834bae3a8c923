//! `GetMetadata`: nodes, topics, partitions and their leaders.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_controller::{MetadataImage, TopicImage, is_internal_topic, validate_topic_name};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    GetMetadataRequest, GetMetadataResponse, Node as NodeMessage, PartitionMetadata, TopicMetadata,
};
use tonic::Status;

use super::no_error;
use crate::admin::topics::auto_create;
use crate::node::{Node, Refusal, authorize_topic};
use crate::partition::Slot;
use crate::request::{Call, Operation, Resource};

/// Topics that one call may name.
const NAMES_MAX: usize = 10_000;

pub(super) async fn get_metadata(
    node: &Arc<Node>,
    call: &Call,
    request: GetMetadataRequest,
) -> Result<GetMetadataResponse, Status> {
    if request.topics.len() > NAMES_MAX {
        return Err(Status::invalid_argument(format!(
            "{} topics in one call, more than {NAMES_MAX}: ask in several calls, or for all topics",
            request.topics.len()
        )));
    }
    let mut refused = HashMap::new();
    if request.allow_auto_topic_creation && node.config.auto_create_topics && !request.all_topics {
        let names = request.topics.iter().map(String::as_str);
        refused = create_missing(node, call, names).await;
    }
    let image = node.metadata.image();
    let topics = if request.all_topics {
        let visible =
            |topic: &&Arc<TopicImage>| call.may(Operation::Describe, Resource::Topic(&topic.name));
        image
            .topics()
            .filter(visible)
            .map(|topic| describe(node, topic))
            .collect()
    } else {
        let one = |name: String| {
            let reason = refused.get(&name);
            topic(node, call, &image, name, reason)
        };
        request.topics.into_iter().map(one).collect()
    };
    call.outcome(ErrorCode::None);
    Ok(GetMetadataResponse {
        cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
        controller_id: node.node_id.value(),
        nodes: image.brokers().map(node_message).collect(),
        topics,
    })
}

/// Creates what is missing; the names that could not be, and why.
pub(crate) async fn create_missing(
    node: &Arc<Node>,
    call: &Call,
    names: impl Iterator<Item = &str>,
) -> HashMap<String, Refusal> {
    let mut refused = HashMap::new();
    for name in names {
        if refused.contains_key(name) || node.metadata.image().topic(name).is_some() {
            continue;
        }
        // A name that cannot be is refused here, without a turn of the metadata's one writer.
        let allowed = authorize_topic(call, Operation::Create, name).and_then(|()| valid(name));
        let created = match allowed {
            Ok(()) => auto_create(node, name).await,
            Err(refusal) => Err(refusal),
        };
        match created {
            Ok(()) => {}
            // Somebody else was quicker.
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
            Err(refusal) => {
                refused.insert(name.to_owned(), refusal);
            }
        }
    }
    refused
}

fn topic(
    node: &Node,
    call: &Call,
    image: &MetadataImage,
    name: String,
    not_created: Option<&Refusal>,
) -> TopicMetadata {
    let found = authorize_topic(call, Operation::Describe, &name).and_then(|()| {
        if let Some(refusal) = not_created {
            return Err(refusal.clone());
        }
        image.topic(&name).ok_or_else(|| missing_topic(&name))
    });
    match found {
        Ok(topic) => describe(node, topic),
        Err(refusal) => TopicMetadata {
            name,
            topic_id: Bytes::from_static(&[0; 16]),
            error_code: refusal.code.code(),
            error_message: refusal.message,
            is_internal: false,
            partitions: Vec::new(),
        },
    }
}

/// What is said of a name that no topic has.
pub(crate) fn missing_topic(name: &str) -> Refusal {
    valid(name).err().unwrap_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {name:?} does not exist"),
        )
    })
}

fn valid(name: &str) -> Result<(), Refusal> {
    validate_topic_name(name)
        .map_err(|invalid| Refusal::new(ErrorCode::InvalidTopic, invalid.to_string()))
}

fn describe(node: &Node, topic: &TopicImage) -> TopicMetadata {
    let local = node.partitions().topic(&topic.name).ok();
    let offline = |index: usize| {
        let slot = local.as_ref().and_then(|local| local.slots().get(index));
        matches!(slot, Some(Slot::Offline(_)))
    };
    let numbers =
        |nodes: &[conveyor_record::NodeId]| nodes.iter().map(|node| node.value()).collect();
    let partitions = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(index, partition)| PartitionMetadata {
            partition: index as i32,
            error_code: if offline(index) {
                ErrorCode::KafkaStorageError.code()
            } else {
                no_error()
            },
            leader_id: partition.leader.value(),
            leader_epoch: partition.leader_epoch.value(),
            replicas: numbers(&partition.replicas),
            in_sync_replicas: numbers(&partition.isr),
        });
    TopicMetadata {
        name: topic.name.clone(),
        topic_id: Bytes::copy_from_slice(topic.id.as_bytes()),
        error_code: no_error(),
        error_message: String::new(),
        is_internal: is_internal_topic(&topic.name),
        partitions: partitions.collect(),
    }
}

fn node_message(broker: &conveyor_controller::BrokerRegistration) -> NodeMessage {
    NodeMessage {
        node_id: broker.node_id.value(),
        host: broker.host.clone(),
        port: i32::from(broker.port),
        rack: broker.rack.clone(),
    }
}
