//! What clients are told when a request about a transaction is refused.

use conveyor_grpc::ErrorCode;
use conveyor_transaction::TransactionError;

use crate::error_code::ToErrorCode;

impl ToErrorCode for TransactionError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::InvalidTransactionTimeout { .. } => ErrorCode::InvalidTransactionTimeout,
            Self::InvalidProducerIdMapping { .. } => ErrorCode::InvalidProducerIdMapping,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::ConcurrentTransactions { .. } => ErrorCode::ConcurrentTransactions,
            Self::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
            Self::TransactionAbortable { .. } => ErrorCode::TransactionAbortable,
            Self::TransactionalIdNotFound { .. } => ErrorCode::TransactionalIdNotFound,
            // The host asks again with an id before anybody is told.
            Self::NeedsProducerId => ErrorCode::CoordinatorNotAvailable,
        }
    }
}
