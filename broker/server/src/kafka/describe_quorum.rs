//! `DescribeQuorum`: who keeps the metadata, and how far they have come. Here that is this node alone.

use std::sync::Arc;

use conveyor_controller::METADATA_TOPIC;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node as QuorumNode,
    PartitionDataResult, ReplicaState, TopicDataResult,
};
use uuid::Uuid;

use super::{KafkaCall, KafkaService};
use crate::node::{Node, authorize_cluster};
use crate::request::Operation;

/// The first version that tells directories and endpoints.
const NODES_SINCE: i16 = 2;

pub(super) async fn describe_quorum(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if let Err(refusal) = authorize_cluster(call, Operation::Describe) {
        return DescribeQuorumResponse {
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
            ..DescribeQuorumResponse::default()
        };
    }
    let node = service.node();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            if topic.topic_name == METADATA_TOPIC && index == 0 {
                metadata_partition(node, call)
            } else {
                PartitionDataResult {
                    partition_index: index,
                    error_code: call.code(ErrorCode::UnknownTopicOrPartition),
                    ..PartitionDataResult::default()
                }
            }
        });
        TopicDataResult {
            partitions: partitions.collect(),
            topic_name: topic.topic_name,
        }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        error_code: call.code(ErrorCode::None),
        nodes: if call.version >= NODES_SINCE {
            vec![this_node(node, call)]
        } else {
            Vec::new()
        },
        ..DescribeQuorumResponse::default()
    }
}

fn metadata_partition(node: &Node, call: &KafkaCall) -> PartitionDataResult {
    let log = node.metadata.log();
    let reader = log.reader();
    let now = node.now_ms();
    PartitionDataResult {
        partition_index: 0,
        leader_id: node.node_id.value(),
        leader_epoch: log.leader_epoch().value(),
        high_watermark: reader.high_watermark().value(),
        current_voters: vec![ReplicaState {
            replica_id: node.node_id.value(),
            replica_directory_id: if call.version >= NODES_SINCE {
                log.directory().data_dir().directory_id()
            } else {
                Uuid::nil()
            },
            log_end_offset: reader.log_end_offset().value(),
            // A leader has always just heard from itself.
            last_fetch_timestamp: now,
            last_caught_up_timestamp: now,
        }],
        ..PartitionDataResult::default()
    }
}

/// Every listener leads to the one that keeps the metadata: the one that the client came by is told.
fn this_node(node: &Node, call: &KafkaCall) -> QuorumNode {
    let (host, port) = call.endpoint();
    QuorumNode {
        node_id: node.node_id.value(),
        listeners: vec![Listener {
            name: Text::from(&call.listener.name),
            host: host.into(),
            port,
        }],
    }
}
