//! Partitions join a transaction: by the client (`AddPartitionsToTxn`, `AddOffsetsToTxn`), by the
//! broker that gets the first record for one (KIP-890's second version), or are only looked up, when
//! a broker asks whether a record belongs to a transaction (its first version).

use crate::coordinator::{concurrent, fenced};
use crate::{
    Producer, TopicPartition, TransactionCoordinator, TransactionError, TransactionMetadata,
    TransactionState, TransactionVersion, Transition,
};

impl TransactionCoordinator {
    /// Adds partitions to the producer's transaction; opens it with the first ones.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`,
    /// `CONCURRENT_TRANSACTIONS`.
    pub fn add_partitions(
        &self,
        now_ms: i64,
        transactional_id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
        version: TransactionVersion,
    ) -> Result<Transition<()>, TransactionError> {
        let current = self.writable(transactional_id, producer)?;
        let is_open = current.state == TransactionState::Ongoing;
        if is_open && partitions.iter().all(|p| current.partitions.contains(p)) {
            return Ok(Transition::unchanged(()));
        }
        let mut next = TransactionMetadata {
            state: TransactionState::Ongoing,
            last_update_ms: now_ms,
            client_version: version,
            ..current.clone()
        };
        if !is_open {
            next.start_ms = now_ms;
            next.partitions.clear();
        }
        next.partitions.extend(partitions.iter().cloned());
        Ok(Transition::to(transactional_id, next, ()))
    }

    /// Whether each partition is part of the producer's open transaction.
    ///
    /// # Errors
    /// Those of [`Self::add_partitions`] for all; `TRANSACTION_ABORTABLE` for one.
    pub fn verify_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), TransactionError>>, TransactionError> {
        let current = self.writable(transactional_id, producer)?;
        let is_open = current.state == TransactionState::Ongoing;
        let results = partitions.iter().map(|partition| {
            if is_open && current.partitions.contains(partition) {
                return Ok(());
            }
            Err(TransactionError::TransactionAbortable {
                transactional_id: transactional_id.to_owned(),
                partition: partition.clone(),
            })
        });
        Ok(results.collect())
    }

    /// The id's state, if the producer may write to its transaction now.
    fn writable(
        &self,
        transactional_id: &str,
        producer: Producer,
    ) -> Result<&TransactionMetadata, TransactionError> {
        let current = self.mapped(transactional_id, producer)?;
        if current.producer.epoch != producer.epoch {
            return Err(fenced(transactional_id, producer, current.producer));
        }
        if current.state.is_completing() {
            return Err(concurrent(transactional_id, current.state));
        }
        Ok(current)
    }
}
