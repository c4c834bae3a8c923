//! The gRPC service of transactions: their ends for producers, all else for administrators.

use std::sync::Arc;

use conveyor_group::{OffsetResult, OffsetToCommit, TransactionProducer, TransactionalCommit};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::transaction_service_server::{TransactionService, TransactionServiceServer};
use conveyor_grpc::v1::{self, ItemError};
use conveyor_record::{LeaderEpoch, Offset};
use conveyor_transaction::{
    EndTxn, Producer, TopicPartition, TransactionMetadata, TransactionState, TransactionVersion,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::refusal::authorize_transactional_id as allow;
use super::{Asked, OpenTransaction, TransactionHost};
use crate::node::{Refusal, authorize_topic};
use crate::request::{Api, Call, Operation, Resource};

/// Largest request about transactions, in bytes.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// Adds the service to others.
pub(crate) fn add_routes(routes: Routes, host: &Arc<TransactionHost>) -> Routes {
    let service = TransactionServices {
        host: Arc::clone(host),
    };
    routes.add_service(
        TransactionServiceServer::new(service)
            .max_decoding_message_size(REQUEST_BYTES)
            .max_encoding_message_size(usize::MAX),
    )
}

#[derive(Debug, Clone)]
struct TransactionServices {
    host: Arc<TransactionHost>,
}

#[tonic::async_trait]
impl TransactionService for TransactionServices {
    async fn end_txn(
        &self,
        request: Request<v1::EndTxnRequest>,
    ) -> Result<Response<v1::EndTxnResponse>, Status> {
        let call = self.admit(Api::EndTxn, &request)?;
        let outcome = end(&self.host, &call, request.into_inner()).await;
        let (error_code, error_message) = told(&call, &outcome);
        let producer = outcome.unwrap_or(Producer::new(-1, -1));
        Ok(Response::new(v1::EndTxnResponse {
            error_code,
            error_message,
            producer_id: producer.id.value(),
            producer_epoch: i32::from(producer.epoch.value()),
        }))
    }

    async fn txn_offset_commit(
        &self,
        request: Request<v1::TxnOffsetCommitRequest>,
    ) -> Result<Response<v1::TxnOffsetCommitResponse>, Status> {
        let call = self.admit(Api::TxnOffsetCommit, &request)?;
        let results = commit_offsets(&self.host, &call, request.into_inner()).await;
        Ok(Response::new(v1::TxnOffsetCommitResponse { results }))
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        let call = self.admit(Api::ListTransactions, &request)?;
        let outcome = list(&self.host, &call, &request.into_inner()).await;
        let error = item_error(&call, &outcome);
        let transactions = outcome.unwrap_or_default();
        Ok(Response::new(v1::ListTransactionsResponse {
            transactions,
            error,
        }))
    }

    async fn describe_transactions(
        &self,
        request: Request<v1::DescribeTransactionsRequest>,
    ) -> Result<Response<v1::DescribeTransactionsResponse>, Status> {
        let call = self.admit(Api::DescribeTransactions, &request)?;
        let ids = request.into_inner().transactional_ids;
        let mut transactions = Vec::with_capacity(ids.len());
        for id in ids {
            let outcome = describe(&self.host, &call, &id).await;
            let (error_code, error_message) = told(&call, &outcome);
            transactions.push(v1::DescribedTransaction {
                transactional_id: id,
                error_code,
                error_message,
                ..outcome.unwrap_or_default()
            });
        }
        Ok(Response::new(v1::DescribeTransactionsResponse {
            transactions,
        }))
    }

    async fn abort_transactions(
        &self,
        request: Request<v1::AbortTransactionsRequest>,
    ) -> Result<Response<v1::AbortTransactionsResponse>, Status> {
        let call = self.admit(Api::AbortTransactions, &request)?;
        let ids = request.into_inner().transactional_ids;
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let outcome = match allow(&call, Operation::Alter, &id) {
                Ok(()) => self.host.abort_by_force(&id).await,
                Err(refusal) => Err(refusal),
            };
            let (error_code, error_message) = told(&call, &outcome);
            results.push(v1::AbortedTransactionResult {
                transactional_id: id,
                error_code,
                error_message,
            });
        }
        Ok(Response::new(v1::AbortTransactionsResponse { results }))
    }

    async fn find_hanging_transactions(
        &self,
        request: Request<v1::FindHangingTransactionsRequest>,
    ) -> Result<Response<v1::FindHangingTransactionsResponse>, Status> {
        let call = self.admit(Api::FindHangingTransactions, &request)?;
        let outcome = self.host.hanging(request.into_inner().silent_for_ms).await;
        let error = item_error(&call, &outcome);
        let found = outcome.unwrap_or_default().into_iter().map(hanging);
        Ok(Response::new(v1::FindHangingTransactionsResponse {
            transactions: found.collect(),
            error,
        }))
    }

    async fn abort_hanging_transaction(
        &self,
        request: Request<v1::AbortHangingTransactionRequest>,
    ) -> Result<Response<v1::AbortHangingTransactionResponse>, Status> {
        let call = self.admit(Api::AbortHangingTransaction, &request)?;
        let request = request.into_inner();
        let outcome = match authorize_topic(&call, Operation::Write, &request.topic) {
            Ok(()) => {
                let place = TopicPartition::new(request.topic, request.partition);
                let start = Offset(request.start_offset);
                self.host.abort_hanging(&place, start).await
            }
            Err(refusal) => Err(refusal),
        };
        let (error_code, error_message) = told(&call, &outcome);
        Ok(Response::new(v1::AbortHangingTransactionResponse {
            error_code,
            error_message,
        }))
    }
}

impl TransactionServices {
    fn admit<T>(&self, api: Api, request: &Request<T>) -> Result<Call, Status> {
        Ok(self.host.node.gate.admit(api, request)?)
    }
}

async fn end(
    host: &TransactionHost,
    call: &Call,
    request: v1::EndTxnRequest,
) -> Result<Producer, Refusal> {
    allow(call, Operation::Write, &request.transactional_id)?;
    let end = EndTxn {
        producer: producer(request.producer_id, request.producer_epoch)?,
        transactional_id: request.transactional_id,
        commit: request.commit,
        version: TransactionVersion::V2,
    };
    host.end_txn(end).await
}

/// One result for each offset of the request, in its order.
async fn commit_offsets(
    host: &TransactionHost,
    call: &Call,
    request: v1::TxnOffsetCommitRequest,
) -> Vec<v1::OffsetResult> {
    let offsets = request.offsets.iter();
    let allowed: Vec<(TopicPartition, Result<(), Refusal>)> = offsets
        .map(|offset| {
            let allowed = authorize_topic(call, Operation::Read, &offset.topic);
            let place = TopicPartition::new(offset.topic.as_str(), offset.partition);
            (place, allowed)
        })
        .collect();
    let (mut decided, refused) = match commit_allowed(host, call, request, &allowed).await {
        Ok(decided) => (decided.into_iter(), None),
        Err(refusal) => (Vec::new().into_iter(), Some(refusal)),
    };
    let result = |(place, allowed): (TopicPartition, Result<(), Refusal>)| {
        let outcome = match (refused.clone(), allowed) {
            (Some(refusal), _) | (None, Err(refusal)) => Err(refusal),
            // The coordinator was given the allowed offsets, and answers in their order.
            (None, Ok(())) => decided
                .next()
                .map_or(Ok(()), |decided| decided.result.map_err(Refusal::from)),
        };
        let (error_code, error_message) = told(call, &outcome);
        v1::OffsetResult {
            topic: place.topic,
            partition: place.partition,
            error_code,
            error_message,
        }
    };
    allowed.into_iter().map(result).collect()
}

async fn commit_allowed(
    host: &TransactionHost,
    call: &Call,
    request: v1::TxnOffsetCommitRequest,
    allowed: &[(TopicPartition, Result<(), Refusal>)],
) -> Result<Vec<OffsetResult>, Refusal> {
    let offsets = request.offsets.into_iter().zip(allowed);
    let offsets = offsets.filter(|(_, (_, allowed))| allowed.is_ok());
    let offsets = offsets.map(|(offset, _)| OffsetToCommit {
        topic: offset.topic,
        partition: offset.partition,
        offset: Offset(offset.offset),
        leader_epoch: LeaderEpoch(offset.leader_epoch),
        metadata: offset.metadata,
    });
    let producer = producer(request.producer_id, request.producer_epoch)?;
    let commit = TransactionalCommit {
        group_id: request.group_id,
        producer: TransactionProducer {
            id: producer.id,
            epoch: producer.epoch,
        },
        member_id: request.member_id,
        instance_id: None,
        generation: request.member_epoch,
        offsets: offsets.collect(),
    };
    host.commit_offsets(call, &request.transactional_id, Asked::Add, commit)
        .await
}

/// The producer that a request names.
fn producer(id: i64, epoch: i32) -> Result<Producer, Refusal> {
    let epoch = i16::try_from(epoch).map_err(|_| {
        let message = format!("producer epoch {epoch} is not possible");
        Refusal::new(ErrorCode::InvalidProducerEpoch, message)
    })?;
    Ok(Producer::new(id, epoch))
}

async fn list(
    host: &TransactionHost,
    call: &Call,
    request: &v1::ListTransactionsRequest,
) -> Result<Vec<v1::ListedTransaction>, Refusal> {
    let states = request.states.iter().map(|name| {
        TransactionState::named(name).ok_or_else(|| {
            let names = TransactionState::ALL.map(TransactionState::name).join(", ");
            let message = format!("`{name}` is no state of a transaction, those are {names}");
            Refusal::new(ErrorCode::InvalidRequest, message)
        })
    });
    let states: Vec<_> = states.collect::<Result<_, _>>()?;
    let opened_before = host.node.now_ms().saturating_sub(request.open_for_ms);
    let mut listed = host.list().await?;
    listed.retain(|listed| {
        let id = Resource::TransactionalId(&listed.transactional_id);
        (states.is_empty() || states.contains(&listed.state))
            && (request.producer_ids.is_empty()
                || request.producer_ids.contains(&listed.producer_id.value()))
            && (request.open_for_ms <= 0 || (0..=opened_before).contains(&listed.start_ms))
            && call.may(Operation::Describe, id)
    });
    listed.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
    let listed = listed.into_iter().map(|listed| v1::ListedTransaction {
        transactional_id: listed.transactional_id,
        producer_id: listed.producer_id.value(),
        state: listed.state.name().to_owned(),
        start_ms: listed.start_ms,
    });
    Ok(listed.collect())
}

async fn describe(
    host: &TransactionHost,
    call: &Call,
    transactional_id: &str,
) -> Result<v1::DescribedTransaction, Refusal> {
    allow(call, Operation::Describe, transactional_id)?;
    let found = host.describe(transactional_id).await?;
    let coordinator_partition = host.coordinator_partition(transactional_id);
    Ok(described(call, found, coordinator_partition))
}

/// All but the id and the outcome; topics that the caller may not see are left out.
fn described(
    call: &Call,
    found: TransactionMetadata,
    coordinator_partition: i32,
) -> v1::DescribedTransaction {
    let partitions = found.partitions.into_iter();
    let partitions = partitions
        .filter(|place| call.may(Operation::Describe, Resource::Topic(&place.topic)))
        .map(|place| v1::TransactionPartition {
            topic: place.topic,
            partition: place.partition,
        });
    v1::DescribedTransaction {
        state: found.state.name().to_owned(),
        producer_id: found.producer.id.value(),
        producer_epoch: i32::from(found.producer.epoch.value()),
        timeout_ms: found.timeout_ms,
        start_ms: found.start_ms,
        last_update_ms: found.last_update_ms,
        partitions: partitions.collect(),
        coordinator_partition,
        ..v1::DescribedTransaction::default()
    }
}

fn hanging(found: OpenTransaction) -> v1::HangingTransaction {
    v1::HangingTransaction {
        topic: found.place.topic,
        partition: found.place.partition,
        producer_id: found.producer.id.value(),
        producer_epoch: i32::from(found.producer.epoch.value()),
        coordinator_epoch: found.coordinator_epoch,
        start_offset: found.start.value(),
        last_seen_ms: found.last_seen_ms,
    }
}

/// Code and message of an outcome, counted.
fn told<T>(call: &Call, outcome: &Result<T, Refusal>) -> (i32, String) {
    let (code, message) = match outcome {
        Ok(_) => (ErrorCode::None, String::new()),
        Err(refusal) => (refusal.code, refusal.message.clone()),
    };
    call.outcome(code);
    (code.code(), message)
}

fn item_error<T>(call: &Call, outcome: &Result<T, Refusal>) -> Option<ItemError> {
    let (error_code, error_message) = told(call, outcome);
    outcome.is_err().then_some(ItemError {
        error_code,
        error_message,
    })
}
