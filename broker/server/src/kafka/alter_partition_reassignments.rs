//! `AlterPartitionReassignments`: other nodes for partitions. On a single node the only replicas that
//! can be asked for are those that there are; every other wish is refused.

use std::sync::Arc;

use conveyor_controller::MetadataImage;
use conveyor_controller::assignment::check_partition;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use conveyor_record::NodeId;

use super::{KafkaCall, KafkaService};
use crate::node::{Refusal, authorize_cluster};
use crate::request::Operation;

pub(super) async fn alter_partition_reassignments(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    if let Err(refusal) = authorize_cluster(call, Operation::Alter) {
        return AlterPartitionReassignmentsResponse {
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
            ..AlterPartitionReassignmentsResponse::default()
        };
    }
    let image = service.node().metadata.image();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let index = partition.partition_index;
            let refusal = reassign(&image, &topic.name, index, partition.replicas).err();
            let code = refusal.as_ref().map_or(ErrorCode::None, |it| it.code);
            ReassignablePartitionResponse {
                partition_index: index,
                error_code: call.code(code),
                error_message: refusal.map(|refusal| refusal.message.into()),
            }
        });
        ReassignableTopicResponse {
            partitions: partitions.collect(),
            name: topic.name,
        }
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        error_code: call.code(ErrorCode::None),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

fn reassign(
    image: &MetadataImage,
    topic: &str,
    index: i32,
    replicas: Option<Vec<i32>>,
) -> Result<(), Refusal> {
    let found = image.topic(topic).and_then(|topic| {
        let index = usize::try_from(index).ok()?;
        topic.partitions.get(index)
    });
    if found.is_none() {
        let message = format!("there is no partition {topic}-{index}");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    }
    let Some(replicas) = replicas else {
        let message = format!("no reassignment of {topic}-{index} is in progress");
        return Err(Refusal::new(ErrorCode::NoReassignmentInProgress, message));
    };
    let replicas: Vec<NodeId> = replicas.into_iter().map(NodeId).collect();
    let nodes: Vec<NodeId> = image.brokers().map(|broker| broker.node_id).collect();
    check_partition(&replicas, &nodes).map_err(|error| {
        let message = format!("{topic}-{index}: {error}");
        Refusal::new(ErrorCode::InvalidReplicaAssignment, message)
    })
}
