//! Lets records and offsets into a producer's transaction: the partition's side of KIP-890.
//!
//! A producer of the first protocol version has told the coordinator of the partition, which is
//! checked here; one of the second has not, and the partition is added here. Either is asked only for
//! the first record of a transaction in a partition. What clients are told differs from what the
//! coordinator says, since they know these errors from Produce by other names: a coordinator that
//! cannot answer now is `NOT_ENOUGH_REPLICAS`, a fenced producer `INVALID_PRODUCER_EPOCH`.

use std::sync::Arc;
use std::time::Duration;

use conveyor_group::{OffsetResult, TransactionalCommit};
use conveyor_grpc::ErrorCode;
use conveyor_transaction::{Producer, TopicPartition, TransactionVersion};

use super::TransactionHost;
use super::refusal::authorize_transactional_id;
use crate::coordinator::{TransactionalProducer, authorize_group};
use crate::node::Refusal;
use crate::partition::{Admission, Partition};
use crate::records::produce::CheckedBatch;
use crate::request::{Call, Operation};

/// How often and for how long to wait for the transaction before, which is being completed: mostly a
/// matter of one sync.
const PATIENCE: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// How the coordinator is asked, by the version of the client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Whether the partition is part of the transaction.
    Verify {
        /// Whether the client knows `TRANSACTION_ABORTABLE`.
        knows_abortable: bool,
    },
    /// To add it.
    Add,
}

impl TransactionHost {
    /// Leave for a batch that a producer with this id has sent; `None` for one outside transactions.
    pub(crate) async fn admit_batch(
        &self,
        call: &Call,
        checked: &CheckedBatch,
        transactional_id: Option<&str>,
        asked: Asked,
    ) -> Result<Option<Admission>, Refusal> {
        let Some(producer) = checked.transaction() else {
            return Ok(None);
        };
        let Some(id) = transactional_id else {
            let message = "a transactional batch needs its producer's transactional id";
            return Err(Refusal::new(
                ErrorCode::TransactionalIdAuthorizationFailed,
                message,
            ));
        };
        authorize_transactional_id(call, Operation::Write, id)?;
        let admitted = self.admit(&checked.partition, id, producer, asked);
        admitted.await.map(Some)
    }

    /// Commits a group's offsets with the transaction of the producer that they name.
    pub(crate) async fn commit_offsets(
        &self,
        call: &Call,
        transactional_id: &str,
        asked: Asked,
        commit: TransactionalCommit,
    ) -> Result<Vec<OffsetResult>, Refusal> {
        authorize_transactional_id(call, Operation::Write, transactional_id)?;
        authorize_group(call, Operation::Read, &commit.group_id)?;
        let producer = TransactionalProducer {
            id: commit.producer.id,
            epoch: commit.producer.epoch,
        };
        let place = self.offsets_of(&commit.group_id).await?;
        let partition = self.node.partitions().get(&place.topic, place.partition)?;
        let admission = self.admit(&partition, transactional_id, producer, asked);
        let admission = admission.await?;
        self.groups.commit_transactional(commit, admission).await
    }

    /// Leave to append to a partition in a producer's transaction.
    async fn admit(
        &self,
        partition: &Arc<Partition>,
        transactional_id: &str,
        producer: TransactionalProducer,
        asked: Asked,
    ) -> Result<Admission, Refusal> {
        let place = TopicPartition::new(&**partition.topic(), partition.index());
        let asking = Producer {
            id: producer.id,
            epoch: producer.epoch,
        };
        let mut patience = PATIENCE;
        loop {
            // A question of its own for every try: the marker of the transaction before, while it is
            // on its way, has those forgotten that were asked too early.
            let admission = partition.admission(producer);
            if !admission.must_ask {
                return Ok(admission);
            }
            let answer = self.ask(transactional_id, asking, place.clone(), asked);
            match answer.await {
                Ok(()) if patience == 0 || admission.is_remembered() => return Ok(admission),
                Ok(()) => {}
                Err(refusal)
                    if refusal.code == ErrorCode::ConcurrentTransactions && patience > 0 =>
                {
                    drop(admission);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(refusal) => return Err(as_produce_tells(refusal, asked)),
            }
            patience -= 1;
        }
    }

    async fn ask(
        &self,
        transactional_id: &str,
        producer: Producer,
        place: TopicPartition,
        asked: Asked,
    ) -> Result<(), Refusal> {
        let places = vec![place];
        match asked {
            Asked::Verify { .. } => {
                let verified = self.verify_partitions(transactional_id, producer, places);
                verified
                    .await
                    .and_then(|results| results.into_iter().collect())
            }
            Asked::Add => {
                let version = TransactionVersion::V2;
                self.add_partitions(transactional_id, producer, places, version)
                    .await
            }
        }
    }
}

fn as_produce_tells(refusal: Refusal, asked: Asked) -> Refusal {
    let Refusal { code, message } = refusal;
    let code = match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable
            if asked
                == (Asked::Verify {
                    knows_abortable: false,
                }) =>
        {
            ErrorCode::InvalidTxnState
        }
        ErrorCode::ConcurrentTransactions if asked != Asked::Add => ErrorCode::NotEnoughReplicas,
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        other => other,
    };
    let message =
        format!("cannot tell whether the partition is part of the transaction: {message}");
    Refusal::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_by_the_names_they_know() {
        use ErrorCode::{
            ConcurrentTransactions, InvalidProducerEpoch, InvalidTxnState, NotCoordinator,
            NotEnoughReplicas, ProducerFenced, TransactionAbortable,
        };
        let old = Asked::Verify {
            knows_abortable: false,
        };
        let new = Asked::Verify {
            knows_abortable: true,
        };
        for (asked, code, told) in [
            (old, ProducerFenced, InvalidProducerEpoch),
            (old, TransactionAbortable, InvalidTxnState),
            (new, TransactionAbortable, TransactionAbortable),
            (new, ConcurrentTransactions, NotEnoughReplicas),
            (Asked::Add, ConcurrentTransactions, ConcurrentTransactions),
            (Asked::Add, NotCoordinator, NotEnoughReplicas),
        ] {
            let refusal = as_produce_tells(Refusal::new(code, "why"), asked);
            assert_eq!(refusal.code, told, "{asked:?} {code:?}");
        }
    }
}
