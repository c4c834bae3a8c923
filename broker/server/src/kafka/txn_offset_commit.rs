//! `TxnOffsetCommit`: commits a group's offsets with a producer's transaction.

use std::sync::Arc;

use conveyor_group::{OffsetResult, OffsetToCommit, TransactionalCommit};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use conveyor_record::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::group_call::owned;
use super::{KafkaCall, KafkaService};
use crate::coordinator::TransactionalProducer;
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;
use crate::transaction::Asked;

/// The first version whose clients survive a coordinator that is loading (KAFKA-9656).
const LOADING_SINCE: i16 = 2;
/// The first version for producers whose epoch grows with every transaction: the broker adds the
/// group's offsets to the transaction.
const SECOND_PROTOCOL_SINCE: i16 = 5;

pub(super) async fn txn_offset_commit(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let allowed: Vec<Result<(), Refusal>> = request
        .topics
        .iter()
        .map(|topic| authorize_topic(call, Operation::Read, &topic.name))
        .collect();
    let outcome = commit(service, call, &request, &allowed).await;
    let (mut decided, refused) = match outcome {
        Ok(results) => (results.into_iter(), None),
        Err(refusal) => (
            Vec::new().into_iter(),
            Some(for_offsets(call.version, refusal)),
        ),
    };
    let topics = request
        .topics
        .into_iter()
        .zip(allowed)
        .map(|(topic, allowed)| {
            let partitions = topic.partitions.iter().map(|partition| {
                let result = match (&allowed, &refused) {
                    (_, Some(refusal)) | (Err(refusal), None) => Err(refusal.clone()),
                    // The coordinator was given the allowed topics, and answers in their order.
                    (Ok(()), None) => decided
                        .next()
                        .map_or(Ok(()), |decided| decided.result.map_err(Refusal::from)),
                };
                TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: call.outcome_code(&result),
                }
            });
            TxnOffsetCommitResponseTopic {
                partitions: partitions.collect(),
                name: topic.name,
            }
        });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..TxnOffsetCommitResponse::default()
    }
}

async fn commit(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &TxnOffsetCommitRequest,
    allowed: &[Result<(), Refusal>],
) -> Result<Vec<OffsetResult>, Refusal> {
    let (id, group_id) = (request.transactional_id.as_str(), request.group_id.as_str());
    let producer = TransactionalProducer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let asked = if call.version >= SECOND_PROTOCOL_SINCE {
        Asked::Add
    } else {
        Asked::Verify {
            knows_abortable: false,
        }
    };
    let mut offsets = Vec::new();
    for (topic, _) in request
        .topics
        .iter()
        .zip(allowed)
        .filter(|(_, a)| a.is_ok())
    {
        offsets.extend(topic.partitions.iter().map(|partition| OffsetToCommit {
            topic: topic.name.as_str().to_owned(),
            partition: partition.partition_index,
            offset: Offset(partition.committed_offset),
            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
            metadata: owned(partition.committed_metadata.as_ref()).unwrap_or_default(),
        }));
    }
    let commit = TransactionalCommit {
        group_id: group_id.to_owned(),
        producer: producer.into(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        offsets,
    };
    service
        .transactions
        .commit_offsets(call, id, asked, commit)
        .await
}

/// Clients of this API know these errors by the names of a group's coordinator.
fn for_offsets(version: i16, refusal: Refusal) -> Refusal {
    let code = match refusal.code {
        ErrorCode::NotEnoughReplicas => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::CoordinatorLoadInProgress if version < LOADING_SINCE => {
            ErrorCode::CoordinatorNotAvailable
        }
        code => code,
    };
    Refusal { code, ..refusal }
}
