//! Transactions of producers: what is open, and an end to what hangs.

use std::future::Future;

use conveyor_grpc::v1;
use conveyor_record::Offset;
use tonic::{Response, Status};

use super::{AdminClient, Answers, only};
use crate::client::services;
use crate::consumer::TopicPartition;
use crate::error::{Error, Result};

/// Which transactions to list; all of them by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// States by Kafka's names; any when empty.
    pub states: Vec<String>,
    /// Producer ids; any when empty.
    pub producer_ids: Vec<i64>,
    /// Only those that have been open for at least so long, in ms; 0 for all.
    pub open_for_ms: i64,
}

/// A transactional id by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionListing {
    /// The id.
    pub transactional_id: String,
    /// The producer that has it.
    pub producer_id: i64,
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: String,
    /// When its transaction was opened, in ms since the epoch.
    pub start_ms: Option<i64>,
}

/// A transactional id and its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The id.
    pub transactional_id: String,
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: String,
    /// The producer that has it.
    pub producer_id: i64,
    /// Its incarnation.
    pub producer_epoch: i32,
    /// How long its transactions may be open, in ms.
    pub timeout_ms: i32,
    /// When its transaction was opened, in ms since the epoch.
    pub start_ms: Option<i64>,
    /// When anything of this was last changed, in ms since the epoch.
    pub last_update_ms: i64,
    /// The partitions of the transaction.
    pub partitions: Vec<TopicPartition>,
    /// The partition of `__transaction_state` that keeps it.
    pub coordinator_partition: i32,
}

/// A transaction that is open in a partition and that its coordinator does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HangingTransaction {
    /// Where.
    pub partition: TopicPartition,
    /// Whose.
    pub producer_id: i64,
    /// Its incarnation.
    pub producer_epoch: i32,
    /// The term of the coordinator that wrote the producer's last marker there, or -1.
    pub coordinator_epoch: i32,
    /// Readers of committed records stop here.
    pub start_offset: Offset,
    /// When the producer was last heard of there, in ms since the epoch.
    pub last_seen_ms: i64,
}

impl AdminClient {
    /// Transactional ids, by name.
    pub async fn list_transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionListing>> {
        const OPERATION: &str = "list transactions";
        let request = v1::ListTransactionsRequest {
            states: filter.states.clone(),
            producer_ids: filter.producer_ids.clone(),
            open_for_ms: filter.open_for_ms,
        };
        let attempt = || async {
            let answers = self
                .ask_all(OPERATION, |channel| {
                    let request = request.clone();
                    async move {
                        let mut transactions = services::transaction(channel);
                        transactions.list_transactions(request).await
                    }
                })
                .await?;
            let mut listed = Vec::new();
            for answer in answers {
                check(OPERATION, answer.error)?;
                listed.extend(answer.transactions.into_iter().map(listing));
            }
            Ok(listed)
        };
        let mut listed = self.client.retry(attempt).await?;
        listed.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(listed)
    }

    /// One transactional id.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionDescription> {
        let answers = self.describe_transactions(&[transactional_id]).await?;
        only("describe transaction", answers)
    }

    /// Some transactional ids: state, producer, partitions.
    pub async fn describe_transactions(
        &self,
        transactional_ids: &[&str],
    ) -> Result<Answers<String, TransactionDescription>> {
        const OPERATION: &str = "describe transactions";
        let request = v1::DescribeTransactionsRequest {
            transactional_ids: owned(transactional_ids),
        };
        let answer = self
            .ask_transactions(OPERATION, |mut transactions| {
                let request = request.clone();
                async move { transactions.describe_transactions(request).await }
            })
            .await?;
        let read = |one: v1::DescribedTransaction| {
            let id = one.transactional_id.clone();
            let place = || id.clone();
            let result = Error::check(OPERATION, place, one.error_code, &one.error_message);
            (id.clone(), result.map(|()| description(one)))
        };
        Ok(answer.transactions.into_iter().map(read).collect())
    }

    /// Aborts the open transactions of some ids; their producers are fenced and have to start again.
    pub async fn abort_transactions(
        &self,
        transactional_ids: &[&str],
    ) -> Result<Answers<String, ()>> {
        const OPERATION: &str = "abort transaction";
        let request = v1::AbortTransactionsRequest {
            transactional_ids: owned(transactional_ids),
        };
        let answer = self
            .ask_transactions(OPERATION, |mut transactions| {
                let request = request.clone();
                async move { transactions.abort_transactions(request).await }
            })
            .await?;
        let read = |one: v1::AbortedTransactionResult| {
            let id = one.transactional_id;
            let place = || id.clone();
            let result = Error::check(OPERATION, place, one.error_code, &one.error_message);
            (id.clone(), result)
        };
        Ok(answer.results.into_iter().map(read).collect())
    }

    /// Transactions that nobody will end, whose producers have been silent for `silent_for_ms`.
    pub async fn hanging_transactions(
        &self,
        silent_for_ms: i64,
    ) -> Result<Vec<HangingTransaction>> {
        const OPERATION: &str = "find hanging transactions";
        let request = v1::FindHangingTransactionsRequest { silent_for_ms };
        let attempt = || async {
            let answers = self
                .ask_all(OPERATION, |channel| async move {
                    let mut transactions = services::transaction(channel);
                    transactions.find_hanging_transactions(request).await
                })
                .await?;
            let mut found = Vec::new();
            for answer in answers {
                check(OPERATION, answer.error)?;
                found.extend(answer.transactions.into_iter().map(hanging));
            }
            Ok(found)
        };
        self.client.retry(attempt).await
    }

    /// Ends a hanging transaction by an abort marker.
    pub async fn abort_hanging_transaction(
        &self,
        partition: &TopicPartition,
        start_offset: Offset,
    ) -> Result<()> {
        const OPERATION: &str = "abort hanging transaction";
        let request = v1::AbortHangingTransactionRequest {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            start_offset: start_offset.value(),
        };
        let answer = self
            .ask_transactions(OPERATION, |mut transactions| {
                let request = request.clone();
                async move { transactions.abort_hanging_transaction(request).await }
            })
            .await?;
        let place = || partition.to_string();
        Error::check(OPERATION, place, answer.error_code, &answer.error_message)
    }

    /// Asks a node that is likely to answer, another one after a failure.
    async fn ask_transactions<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn(services::Transaction) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let attempt = || async {
            let (address, channel) = self.client.any_channel()?;
            let answer = call(services::transaction(channel));
            let answer = self.client.call(operation, &address, answer).await;
            self.avoid_if_failed(&address, answer)
        };
        self.client.retry(attempt).await
    }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

fn check(operation: &'static str, error: Option<v1::ItemError>) -> Result<()> {
    let error = error.unwrap_or_default();
    let (code, message) = (error.error_code, &error.error_message);
    Error::check(operation, String::new, code, message)
}

fn listing(one: v1::ListedTransaction) -> TransactionListing {
    TransactionListing {
        transactional_id: one.transactional_id,
        producer_id: one.producer_id,
        state: one.state,
        start_ms: (one.start_ms >= 0).then_some(one.start_ms),
    }
}

fn description(one: v1::DescribedTransaction) -> TransactionDescription {
    let partitions = one.partitions.into_iter();
    TransactionDescription {
        transactional_id: one.transactional_id,
        state: one.state,
        producer_id: one.producer_id,
        producer_epoch: one.producer_epoch,
        timeout_ms: one.timeout_ms,
        start_ms: (one.start_ms >= 0).then_some(one.start_ms),
        last_update_ms: one.last_update_ms,
        partitions: partitions
            .map(|place| TopicPartition::new(place.topic, place.partition))
            .collect(),
        coordinator_partition: one.coordinator_partition,
    }
}

fn hanging(one: v1::HangingTransaction) -> HangingTransaction {
    HangingTransaction {
        partition: TopicPartition::new(one.topic, one.partition),
        producer_id: one.producer_id,
        producer_epoch: one.producer_epoch,
        coordinator_epoch: one.coordinator_epoch,
        start_offset: Offset(one.start_offset),
        last_seen_ms: one.last_seen_ms,
    }
}
