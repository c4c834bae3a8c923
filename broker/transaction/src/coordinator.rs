//! [`TransactionCoordinator`]: the transactional ids of one `__transaction_state` partition.
//!
//! Invariants:
//! - Durable state changes in [`TransactionCoordinator::replay`] alone, and the same records in the
//!   same order give the same state.
//! - The records of one transition are written and replayed together, before the next request is
//!   handled. If they cannot be written, the coordinator is thrown away and loaded again.
//! - A decided transaction (`PrepareCommit`, `PrepareAbort`) stays decided the same way until all
//!   of its markers are written, and its id takes no other transaction before that.
//! - The epoch of a producer id only grows; an id whose epochs are used up is replaced.

use std::collections::BTreeMap;

use conveyor_record::ProducerId;

use crate::end::WriteMarkers;
use crate::{
    Producer, Record, TopicPartition, TransactionConfig, TransactionError, TransactionMetadata,
    TransactionState,
};

/// The longest transactional id, in bytes: what Kafka's formats can hold.
const ID_BYTES_MAX: usize = i16::MAX as usize;

/// What a handler decided: the records to write and replay, and the answer to give when they are
/// durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the records must be replayed and written"]
pub struct Transition<R> {
    /// To be replayed and written in this order, as one batch. Empty when nothing changes.
    pub records: Vec<Record>,
    /// The answer.
    pub response: R,
}

impl<R> Transition<R> {
    pub(crate) fn unchanged(response: R) -> Self {
        Self {
            records: Vec::new(),
            response,
        }
    }

    pub(crate) fn to(transactional_id: &str, next: TransactionMetadata, response: R) -> Self {
        Self {
            records: vec![Record::new(transactional_id, next)],
            response,
        }
    }
}

/// A transactional id in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The id.
    pub transactional_id: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its state.
    pub state: TransactionState,
    /// When its transaction was opened, in ms since the epoch; -1 without one.
    pub start_ms: i64,
}

/// The transactional ids of one shard. See the [crate] for how to drive it.
#[derive(Clone, Debug)]
pub struct TransactionCoordinator {
    pub(crate) config: TransactionConfig,
    pub(crate) transactions: BTreeMap<String, TransactionMetadata>,
}

impl TransactionCoordinator {
    /// A coordinator without transactions, to be filled by [`Self::replay`].
    pub fn new(config: TransactionConfig) -> Self {
        Self {
            config,
            transactions: BTreeMap::new(),
        }
    }

    /// Applies a record: the only way in which durable state changes.
    pub fn replay(&mut self, record: &Record) {
        match &record.value {
            // Kafka writes a dead id before its tombstone; nothing is left to be known of it.
            Some(value) if value.state != TransactionState::Dead => {
                let id = record.transactional_id.clone();
                self.transactions.insert(id, value.clone());
            }
            _ => {
                self.transactions.remove(&record.transactional_id);
            }
        }
    }

    /// Applies the records of a transition.
    pub fn replay_all(&mut self, records: &[Record]) {
        for record in records {
            self.replay(record);
        }
    }

    /// Whether both have the same durable state.
    pub fn has_same_state_as(&self, other: &Self) -> bool {
        self.transactions == other.transactions
    }

    /// All ids, in order.
    pub fn list(&self) -> impl Iterator<Item = ListedTransaction> {
        self.transactions
            .iter()
            .map(|(id, transaction)| ListedTransaction {
                transactional_id: id.clone(),
                producer_id: transaction.producer.id,
                state: transaction.state,
                start_ms: transaction.start_ms,
            })
    }

    /// All that is known of an id.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`, `INVALID_REQUEST` for an empty id.
    pub fn describe(
        &self,
        transactional_id: &str,
    ) -> Result<&TransactionMetadata, TransactionError> {
        check_id(transactional_id)?;
        self.transactions.get(transactional_id).ok_or_else(|| {
            TransactionError::TransactionalIdNotFound {
                transactional_id: transactional_id.to_owned(),
            }
        })
    }

    /// The markers of all transactions that are decided and not completed: after a restart they
    /// have to be written again, since nobody knows which of them were.
    pub fn unfinished(&self) -> impl Iterator<Item = WriteMarkers> {
        self.transactions
            .iter()
            .filter(|(_, transaction)| transaction.state.is_completing())
            .map(|(id, transaction)| WriteMarkers::of(id, transaction))
    }

    /// The partitions of all transactions that are not completed, with the producer id of each.
    pub fn open_partitions(&self) -> impl Iterator<Item = (ProducerId, TopicPartition)> {
        let open = self.transactions.values().filter(|t| !t.state.is_idle());
        open.flat_map(|transaction| {
            let places = transaction.partitions.iter();
            places.map(|place| (transaction.producer.id, place.clone()))
        })
    }

    /// The id's transaction, if it belongs to that producer id.
    pub(crate) fn mapped(
        &self,
        transactional_id: &str,
        producer: Producer,
    ) -> Result<&TransactionMetadata, TransactionError> {
        check_id(transactional_id)?;
        self.transactions
            .get(transactional_id)
            .filter(|transaction| transaction.producer.id == producer.id)
            .ok_or_else(|| TransactionError::InvalidProducerIdMapping {
                transactional_id: transactional_id.to_owned(),
                producer,
            })
    }
}

/// Checks a transactional id that comes from outside.
pub(crate) fn check_id(transactional_id: &str) -> Result<(), TransactionError> {
    if (1..=ID_BYTES_MAX).contains(&transactional_id.len()) {
        Ok(())
    } else {
        Err(TransactionError::InvalidRequest(format!(
            "transactional id is {} bytes long, it must have between 1 and {ID_BYTES_MAX}",
            transactional_id.len()
        )))
    }
}

pub(crate) fn fenced(
    transactional_id: &str,
    producer: Producer,
    current: Producer,
) -> TransactionError {
    TransactionError::ProducerFenced {
        transactional_id: transactional_id.to_owned(),
        producer,
        current,
    }
}

pub(crate) fn concurrent(transactional_id: &str, state: TransactionState) -> TransactionError {
    TransactionError::ConcurrentTransactions {
        transactional_id: transactional_id.to_owned(),
        state,
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
