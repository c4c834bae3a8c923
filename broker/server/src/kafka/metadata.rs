//! `Metadata`: this node, the topics asked about, their partitions and leaders.
//!
//! Clients are told the address of the listener they have come by. A missing topic is created if the
//! node allows that and the client asks for it, and is there, with its leaders, when the answer leaves.

use std::collections::HashMap;
use std::sync::Arc;

use conveyor_controller::{MetadataImage, TopicImage, is_internal_topic};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use conveyor_record::NodeId;
use uuid::Uuid;

use super::distinct::distinct_by;
use super::{KafkaCall, KafkaService, authorized_operations};
use crate::handlers::{create_missing, missing_topic};
use crate::node::{Node, Refusal, authorize_topic};
use crate::partition::Slot;
use crate::request::{Operation, Resource};

/// Before it, an empty list of topics means all.
const EMPTY_MEANS_NONE_SINCE: i16 = 1;
/// Before it, topics are asked about by name only.
const IDS_SINCE: i16 = 12;

pub(super) async fn metadata(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: MetadataRequest,
) -> MetadataResponse {
    let node = &service.node;
    let wanted = request
        .topics
        .filter(|topics| !topics.is_empty() || call.version >= EMPTY_MEANS_NONE_SINCE)
        .map(|topics| distinct_by(topics, |topic| (topic.name.clone(), topic.topic_id)));
    let mut refused = HashMap::new();
    if let Some(wanted) = &wanted
        && request.allow_auto_topic_creation
        && node.config.auto_create_topics
    {
        let names = wanted.iter().filter_map(|topic| topic.name.as_deref());
        let names = names.filter(|name| !is_internal_topic(name));
        refused = create_missing(node, call, names).await;
    }
    let image = node.metadata.image();
    let answering = Answering {
        node,
        call,
        image: &image,
        refused,
        tell_operations: request.include_topic_authorized_operations,
    };
    let topics = match wanted {
        None => answering.all(),
        Some(wanted) => wanted
            .into_iter()
            .map(|topic| answering.topic(topic))
            .collect(),
    };
    let (host, port) = call.endpoint();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: node.node_id.value(),
            host: host.into(),
            port: i32::from(port),
            rack: (!node.config.rack.is_empty()).then(|| node.config.rack.as_str().into()),
        }],
        cluster_id: image.cluster_id().map(Text::from),
        controller_id: node.node_id.value(),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            authorized_operations::of_cluster(call)
        } else {
            authorized_operations::NOT_ASKED
        },
        ..MetadataResponse::default()
    }
}

struct Answering<'a> {
    node: &'a Node,
    call: &'a KafkaCall,
    image: &'a MetadataImage,
    /// Topics that could not be created, and why.
    refused: HashMap<String, Refusal>,
    tell_operations: bool,
}

impl Answering<'_> {
    /// Every topic that the principal may see.
    fn all(&self) -> Vec<MetadataResponseTopic> {
        let visible = |topic: &&Arc<TopicImage>| {
            self.call
                .may(Operation::Describe, Resource::Topic(&topic.name))
        };
        let topics = self.image.topics().filter(visible);
        topics.map(|topic| self.described(topic)).collect()
    }

    fn topic(&self, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
        match (wanted.name, wanted.topic_id) {
            // A client that asks by id may leave the name empty instead of null.
            (_, id) if !id.is_nil() && self.call.version >= IDS_SINCE => self.by_id(id),
            (Some(name), id) if id.is_nil() => self.by_name(name),
            (name, id) => MetadataResponseTopic {
                error_code: self.call.code(ErrorCode::InvalidRequest),
                name: Some(name.unwrap_or_default()),
                topic_id: id,
                ..MetadataResponseTopic::default()
            },
        }
    }

    fn by_name(&self, name: Text) -> MetadataResponseTopic {
        let found = authorize_topic(self.call, Operation::Describe, &name).and_then(|()| {
            if let Some(refusal) = self.refused.get(name.as_str()) {
                return Err(refusal.clone());
            }
            self.image.topic(&name).ok_or_else(|| missing_topic(&name))
        });
        match found {
            Ok(topic) => self.described(topic),
            Err(refusal) => MetadataResponseTopic {
                error_code: self.call.code(refusal.code),
                is_internal: is_internal_topic(&name),
                name: Some(name),
                ..MetadataResponseTopic::default()
            },
        }
    }

    /// A topic that may not be seen keeps its name.
    fn by_id(&self, id: Uuid) -> MetadataResponseTopic {
        let error = match self.image.topic_by_id(id) {
            None => ErrorCode::UnknownTopicId,
            Some(topic) => match authorize_topic(self.call, Operation::Describe, &topic.name) {
                Ok(()) => return self.described(topic),
                Err(refusal) => refusal.code,
            },
        };
        MetadataResponseTopic {
            error_code: self.call.code(error),
            name: None,
            topic_id: id,
            ..MetadataResponseTopic::default()
        }
    }

    fn described(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let local = self.node.partitions().topic(&topic.name).ok();
        let offline = |index: usize| {
            let slot = local.as_ref().and_then(|local| local.slots().get(index));
            !matches!(slot, Some(Slot::Online(_)))
        };
        let partitions = topic
            .partitions
            .iter()
            .enumerate()
            .map(|(index, partition)| {
                let replicas = numbers(&partition.replicas);
                let is_offline = offline(index);
                MetadataResponsePartition {
                    error_code: if is_offline {
                        ErrorCode::LeaderNotAvailable.code() as i16
                    } else {
                        0
                    },
                    partition_index: index as i32,
                    leader_id: if is_offline {
                        -1
                    } else {
                        partition.leader.value()
                    },
                    leader_epoch: partition.leader_epoch.value(),
                    isr_nodes: numbers(&partition.isr),
                    offline_replicas: if is_offline {
                        replicas.clone()
                    } else {
                        Vec::new()
                    },
                    replica_nodes: replicas,
                }
            });
        MetadataResponseTopic {
            error_code: self.call.code(ErrorCode::None),
            name: Some(topic.name.as_str().into()),
            topic_id: topic.id,
            is_internal: is_internal_topic(&topic.name),
            partitions: partitions.collect(),
            topic_authorized_operations: if self.tell_operations {
                authorized_operations::of_topic(self.call, &topic.name)
            } else {
                authorized_operations::NOT_ASKED
            },
        }
    }
}

fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.value()).collect()
}
