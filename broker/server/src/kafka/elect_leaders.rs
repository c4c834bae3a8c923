//! `ElectLeaders`: makes the preferred replica lead. A partition that it leads already, as every one
//! does on a single node, needs no election.

use std::sync::Arc;

use conveyor_controller::MetadataImage;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

use super::{KafkaCall, KafkaService};
use crate::node::{Refusal, authorize_cluster};
use crate::request::Operation;

pub(super) async fn elect_leaders(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    if let Err(refusal) = authorize_cluster(call, Operation::Alter) {
        return ElectLeadersResponse {
            error_code: call.code(refusal.code),
            ..ElectLeadersResponse::default()
        };
    }
    let image = service.node().metadata.image();
    // Asked about all partitions, Kafka tells of those only that had an election.
    let asked = request.topic_partitions.unwrap_or_default();
    let results = asked.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            let refusal = elect(&image, &topic.topic, index);
            PartitionResult {
                partition_id: index,
                error_code: call.code(refusal.code),
                error_message: Some(refusal.message.into()),
            }
        });
        ReplicaElectionResult {
            partition_result: partitions.collect(),
            topic: topic.topic,
        }
    });
    ElectLeadersResponse {
        replica_election_results: results.collect(),
        error_code: call.code(ErrorCode::None),
        ..ElectLeadersResponse::default()
    }
}

/// Why there is no election.
fn elect(image: &MetadataImage, topic: &str, index: i32) -> Refusal {
    let found = image.topic(topic).and_then(|topic| {
        let index = usize::try_from(index).ok()?;
        topic.partitions.get(index)
    });
    match found {
        None => Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("there is no partition {topic}-{index}"),
        ),
        Some(_) => Refusal::new(
            ErrorCode::ElectionNotNeeded,
            format!("the only replica of {topic}-{index} leads it already"),
        ),
    }
}
