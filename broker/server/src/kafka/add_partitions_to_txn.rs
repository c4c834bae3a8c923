//! `AddPartitionsToTxn`: partitions join a producer's transaction.
//!
//! Up to version 3 it is for clients and about one transaction, all of whose partitions join or none.
//! From version 4 on it is for brokers: many transactions, and partitions may only be looked up.

use std::sync::Arc;

use conveyor_controller::is_internal_topic;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
};
use conveyor_transaction::{Producer, TopicPartition, TransactionVersion};

use super::{KafkaCall, KafkaService};
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;

/// The first version whose clients know that they are fenced.
const FENCED_SINCE: i16 = 2;
/// The first version for brokers.
const BROKERS_SINCE: i16 = 4;
/// The first version for producers whose epoch grows with every transaction.
const SECOND_PROTOCOL_SINCE: i16 = 5;

type Results = Vec<Result<(), Refusal>>;

pub(super) async fn add_partitions_to_txn(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if call.version < BROKERS_SINCE {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: one(service, call, &transaction).await,
            ..AddPartitionsToTxnResponse::default()
        };
    }
    if let Err(refusal) = call.allow_cluster_action() {
        return AddPartitionsToTxnResponse {
            error_code: call.refused(&refusal),
            ..AddPartitionsToTxnResponse::default()
        };
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let topic_results = one(service, call, &transaction).await;
        results.push(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id,
            topic_results,
        });
    }
    AddPartitionsToTxnResponse {
        error_code: call.code(ErrorCode::None),
        results_by_transaction: results,
        ..AddPartitionsToTxnResponse::default()
    }
}

async fn one(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let places: Vec<TopicPartition> = places(&transaction.topics).collect();
    let count = places.len();
    let results = match call.allow_transactional_id(Operation::Write, &transaction.transactional_id)
    {
        Ok(()) => decide(service, call, transaction, places).await,
        Err(refusal) => Err(refusal),
    };
    let results = results.unwrap_or_else(|refusal| {
        let refusal = call.fenced_since(FENCED_SINCE, refusal);
        vec![Err(refusal); count]
    });
    written(call, &transaction.topics, results)
}

async fn decide(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    transaction: &AddPartitionsToTxnTransaction,
    places: Vec<TopicPartition>,
) -> Result<Results, Refusal> {
    let (id, host) = (&transaction.transactional_id, &service.transactions);
    let producer = Producer::new(transaction.producer_id, transaction.producer_epoch);
    if transaction.verify_only {
        return host.verify_partitions(id, producer, places).await;
    }
    let checked: Results = places
        .iter()
        .map(|place| check(service, call, place))
        .collect();
    if checked.iter().any(Result::is_err) {
        return Ok(not_attempted(checked));
    }
    let version = if call.version >= SECOND_PROTOCOL_SINCE {
        TransactionVersion::V2
    } else {
        TransactionVersion::V0
    };
    host.add_partitions(id, producer, places, version).await?;
    Ok(checked)
}

/// Whether a partition is there and the caller may write to it.
fn check(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    place: &TopicPartition,
) -> Result<(), Refusal> {
    if call.version < BROKERS_SINCE {
        authorize_topic(call, Operation::Write, &place.topic)?;
        if is_internal_topic(&place.topic) {
            let message = format!(
                "topic {} is internal: only the broker writes it",
                place.topic
            );
            return Err(Refusal::new(ErrorCode::TopicAuthorizationFailed, message));
        }
    }
    let partitions = service.node.partitions();
    partitions.get(&place.topic, place.partition)?;
    Ok(())
}

/// None joins when one cannot.
fn not_attempted(checked: Results) -> Results {
    let results = checked.into_iter().map(|result| {
        result.and_then(|()| {
            let message = "another partition of the request cannot be added";
            Err(Refusal::new(ErrorCode::OperationNotAttempted, message))
        })
    });
    results.collect()
}

fn places(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| TopicPartition::new(topic.name.as_str(), *partition))
    })
}

/// The results in the order of the request.
fn written(
    call: &KafkaCall,
    topics: &[AddPartitionsToTxnTopic],
    results: Results,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut results = results.into_iter();
    let topics = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(results.by_ref());
        let partitions = partitions.map(|(partition, result)| AddPartitionsToTxnPartitionResult {
            partition_index: *partition,
            partition_error_code: call.outcome_code(&result),
        });
        AddPartitionsToTxnTopicResult {
            results_by_partition: partitions.collect(),
            name: topic.name.clone(),
        }
    });
    topics.collect()
}
