//! `DescribeProducers`: who writes to partitions, and which of their transactions are open there.

use std::collections::HashSet;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use conveyor_log::ActiveProducer;
use conveyor_record::Offset;

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

pub(super) async fn describe_producers(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut seen = HashSet::new();
    for mut topic in request.topics {
        let name = topic.name.clone();
        let is_new = |index: &i32| seen.insert((name.clone(), *index));
        topic.partition_indexes.retain(is_new);
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let outcome = producers(service, call, &topic.name, index).await;
            let error_code = call.outcome_code(&outcome);
            let (active_producers, error_message) = match outcome {
                Ok(producers) => (producers.iter().map(state).collect(), None),
                Err(refusal) => (Vec::new(), Some(refusal.message.into())),
            };
            partitions.push(PartitionResponse {
                partition_index: index,
                error_code,
                error_message,
                active_producers,
            });
        }
        topics.push(TopicResponse {
            name: topic.name,
            partitions,
        });
    }
    DescribeProducersResponse {
        topics,
        ..DescribeProducersResponse::default()
    }
}

async fn producers(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    topic: &str,
    index: i32,
) -> Result<Vec<ActiveProducer>, Refusal> {
    let node = &service.node;
    let partition = node.partition_for(call, Operation::Read, topic, index)?;
    let look = tokio::task::spawn_blocking(move || partition.active_producers());
    look.await.map_err(|error| {
        let message = format!("{topic}-{index}: the look was given up: {error}");
        Refusal::new(ErrorCode::UnknownServerError, message)
    })
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.value(),
        producer_epoch: i32::from(producer.epoch.value()),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_seen_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(-1, Offset::value),
    }
}
