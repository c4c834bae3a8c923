//! Why a request about a transaction was refused.

use crate::{Producer, TransactionState};

/// A refusal. Each variant is one of Kafka's error codes, whose name it bears.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// `INVALID_REQUEST`: the request contradicts itself or the protocol.
    #[error("{0}")]
    InvalidRequest(String),
    /// `INVALID_TRANSACTION_TIMEOUT`.
    #[error(
        "transaction.timeout.ms {timeout_ms} must be between 1 and {max_ms} (transaction.max.timeout.ms)"
    )]
    InvalidTransactionTimeout {
        /// What was asked for.
        timeout_ms: i32,
        /// The setting.
        max_ms: i32,
    },
    /// `INVALID_PRODUCER_ID_MAPPING`: the id has another producer, or none.
    #[error(
        "transactional id `{transactional_id}` does not belong to {producer}: initialise the producer"
    )]
    InvalidProducerIdMapping {
        /// The transactional id.
        transactional_id: String,
        /// Who asked.
        producer: Producer,
    },
    /// `PRODUCER_FENCED`: a newer producer has the id, or the transaction timed out.
    #[error(
        "{producer} of transactional id `{transactional_id}` is fenced, {current} holds it now: a newer producer has started, or the transaction timed out"
    )]
    ProducerFenced {
        /// The transactional id.
        transactional_id: String,
        /// Who asked.
        producer: Producer,
        /// Who holds it.
        current: Producer,
    },
    /// `CONCURRENT_TRANSACTIONS`: try again in a moment.
    #[error(
        "the last transaction of `{transactional_id}` is still being completed ({state}): try again"
    )]
    ConcurrentTransactions {
        /// The transactional id.
        transactional_id: String,
        /// Its state.
        state: TransactionState,
    },
    /// `INVALID_TXN_STATE`.
    #[error("cannot {action} the transaction of `{transactional_id}`: it is in state {state}")]
    InvalidTxnState {
        /// The transactional id.
        transactional_id: String,
        /// `commit` or `abort`.
        action: &'static str,
        /// Its state.
        state: TransactionState,
    },
    /// `TRANSACTION_ABORTABLE`: the partition is not part of the transaction.
    #[error(
        "{partition} is not part of the transaction of `{transactional_id}`: abort the transaction"
    )]
    TransactionAbortable {
        /// The transactional id.
        transactional_id: String,
        /// The partition.
        partition: crate::TopicPartition,
    },
    /// `TRANSACTIONAL_ID_NOT_FOUND`.
    #[error("transactional id `{transactional_id}` is not known")]
    TransactionalIdNotFound {
        /// The transactional id.
        transactional_id: String,
    },
    /// Not for clients: the decision needs a fresh producer id. Ask again with one.
    #[error("a fresh producer id is needed")]
    NeedsProducerId,
}

impl TransactionError {
    /// Whether the same request can succeed later without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::ConcurrentTransactions { .. } | Self::NeedsProducerId => true,
            Self::InvalidRequest(_)
            | Self::InvalidTransactionTimeout { .. }
            | Self::InvalidProducerIdMapping { .. }
            | Self::ProducerFenced { .. }
            | Self::InvalidTxnState { .. }
            | Self::TransactionAbortable { .. }
            | Self::TransactionalIdNotFound { .. } => false,
        }
    }
}
