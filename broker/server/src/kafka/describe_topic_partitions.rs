//! `DescribeTopicPartitions`: topics by name, their partitions in pages (KIP-966).
//!
//! A page holds at most as many partitions as the client and this node allow; the cursor names the
//! partition with which the next one begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use conveyor_controller::{
    MetadataImage, PartitionImage, TopicImage, is_internal_topic, validate_topic_name,
};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use conveyor_record::NodeId;

use super::{KafkaCall, KafkaService, authorized_operations};
use crate::node::{Node, Refusal, authorize_topic};
use crate::partition::Slot;
use crate::request::{Operation, Resource};

/// The most partitions in one response; Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2_000;

pub(super) async fn describe_topic_partitions(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let node = service.node();
    let image = node.metadata.image();
    let mut names: BTreeSet<Text> = if request.topics.is_empty() {
        let visible =
            |topic: &&Arc<TopicImage>| call.may(Operation::Describe, Resource::Topic(&topic.name));
        let visible = image.topics().filter(visible);
        visible.map(|topic| Text::from(&topic.name)).collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    let mut first_partition = 0;
    if let Some(cursor) = request.cursor {
        names = names.split_off(&cursor.topic_name);
        if names.first() == Some(&cursor.topic_name) {
            first_partition = usize::try_from(cursor.partition_index).unwrap_or(0);
        }
    }
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut page = Page {
        node,
        call,
        image: &image,
        room: limit.clamp(1, PARTITIONS_MAX),
        topics: Vec::new(),
    };
    let mut next_cursor = None;
    for name in names {
        next_cursor = page.add(&name, first_partition);
        first_partition = 0;
        if next_cursor.is_some() {
            break;
        }
    }
    call.outcome(ErrorCode::None);
    DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor,
        ..DescribeTopicPartitionsResponse::default()
    }
}

/// A response on its way.
struct Page<'a> {
    node: &'a Node,
    call: &'a KafkaCall,
    image: &'a MetadataImage,
    /// Partitions that still fit.
    room: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page<'_> {
    /// Adds a topic from this partition on; where the next page begins when the topic does not fit.
    fn add(&mut self, name: &Text, first_partition: usize) -> Option<Cursor> {
        let cursor = |partition: usize| {
            Some(Cursor {
                topic_name: name.clone(),
                partition_index: partition as i32,
            })
        };
        if self.room == 0 {
            return cursor(first_partition);
        }
        let found = match self.find(name) {
            Ok(found) => Arc::clone(found),
            Err(refusal) => {
                self.topics.push(DescribeTopicPartitionsResponseTopic {
                    error_code: self.call.code(refusal.code),
                    name: Some(name.clone()),
                    is_internal: is_internal_topic(name),
                    ..DescribeTopicPartitionsResponseTopic::default()
                });
                return None;
            }
        };
        let end = found.partitions.len().min(first_partition + self.room);
        let shown = first_partition.min(end)..end;
        self.room -= shown.len();
        let partitions = shown.map(|index| self.partition(&found, index));
        let topic = DescribeTopicPartitionsResponseTopic {
            error_code: self.call.code(ErrorCode::None),
            name: Some(name.clone()),
            topic_id: found.id,
            is_internal: is_internal_topic(name),
            partitions: partitions.collect(),
            topic_authorized_operations: authorized_operations::of_topic(self.call, name),
        };
        self.topics.push(topic);
        if end < found.partitions.len() {
            return cursor(end);
        }
        None
    }

    fn find(&self, name: &str) -> Result<&Arc<TopicImage>, Refusal> {
        authorize_topic(self.call, Operation::Describe, name)?;
        validate_topic_name(name)
            .map_err(|invalid| Refusal::new(ErrorCode::InvalidTopic, invalid.to_string()))?;
        self.image.topic(name).ok_or_else(|| {
            let message = format!("topic {name:?} does not exist");
            Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
        })
    }

    fn partition(
        &self,
        topic: &TopicImage,
        index: usize,
    ) -> DescribeTopicPartitionsResponsePartition {
        let partition: &PartitionImage = &topic.partitions[index];
        let local = self.node.partitions().topic(&topic.name).ok();
        let slot = local.as_ref().and_then(|local| local.slots().get(index));
        let offline = matches!(slot, Some(Slot::Offline(_)));
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.value()).collect();
        DescribeTopicPartitionsResponsePartition {
            error_code: if offline {
                ErrorCode::KafkaStorageError.code() as i16
            } else {
                ErrorCode::None.code() as i16
            },
            partition_index: index as i32,
            leader_id: partition.leader.value(),
            leader_epoch: partition.leader_epoch.value(),
            replica_nodes: numbers(&partition.replicas),
            isr_nodes: numbers(&partition.isr),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: if offline {
                vec![self.node.node_id.value()]
            } else {
                Vec::new()
            },
        }
    }
}
