//! `OffsetDelete`: forgets committed offsets of a group.

use std::sync::Arc;

use conveyor_group::{DeleteOffsetsRequest, OffsetResult};
use conveyor_kafka::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::{KafkaCall, KafkaService};
use crate::coordinator::decided;
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;

pub(super) async fn offset_delete(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let allowed: Vec<Result<(), Refusal>> = request
        .topics
        .iter()
        .map(|topic| check_topic(service, call, &topic.name))
        .collect();
    let results = match delete(service, call, &request, &allowed).await {
        Ok(results) => results,
        Err(refusal) => {
            return OffsetDeleteResponse {
                error_code: call.refused(&refusal),
                ..OffsetDeleteResponse::default()
            };
        }
    };
    let mut results = results.into_iter();
    let topics = request
        .topics
        .into_iter()
        .zip(allowed)
        .map(|(topic, allowed)| {
            let partitions = topic.partitions.iter().map(|partition| {
                let result = match &allowed {
                    Err(refusal) => Err(refusal.clone()),
                    // The coordinator was given the allowed topics, and answers in their order.
                    Ok(()) => results
                        .next()
                        .map_or(Ok(()), |result| result.result.map_err(Refusal::from)),
                };
                OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: call.outcome_code(&result),
                }
            });
            OffsetDeleteResponseTopic {
                partitions: partitions.collect(),
                name: topic.name,
            }
        });
    OffsetDeleteResponse {
        topics: topics.collect(),
        ..OffsetDeleteResponse::default()
    }
}

fn check_topic(service: &Arc<KafkaService>, call: &KafkaCall, topic: &str) -> Result<(), Refusal> {
    authorize_topic(call, Operation::Read, topic)?;
    service.node.partitions().topic(topic)?;
    Ok(())
}

async fn delete(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &OffsetDeleteRequest,
    allowed: &[Result<(), Refusal>],
) -> Result<Vec<OffsetResult>, Refusal> {
    call.allow_group(Operation::Delete, &request.group_id)?;
    let topics = request.topics.iter().zip(allowed);
    let places = topics
        .filter(|(_, allowed)| allowed.is_ok())
        .flat_map(|(topic, _)| {
            let partitions = topic.partitions.iter();
            partitions.map(|one| (topic.name.as_str().to_owned(), one.partition_index))
        });
    let delete = DeleteOffsetsRequest {
        group_id: request.group_id.as_str().to_owned(),
        partitions: places.collect(),
    };
    service
        .groups
        .change(&request.group_id, move |coordinator, _, _| {
            decided(coordinator.delete_offsets(&delete))
        })
        .await?
}
