//! What clients are told when a request about a transaction is refused.

use conveyor_grpc::ErrorCode;
use conveyor_transaction::TransactionError;

use crate::error_code::ToErrorCode;
use crate::node::Refusal;
use crate::request::{Call, Operation, Resource};

/// Refuses what the authorizer does not allow on a transactional id.
pub(crate) fn authorize_transactional_id(
    call: &Call,
    operation: Operation,
    transactional_id: &str,
) -> Result<(), Refusal> {
    if call.may(operation, Resource::TransactionalId(transactional_id)) {
        return Ok(());
    }
    let message = format!(
        "{} may not {operation:?} transactional id {transactional_id}",
        call.principal()
    );
    Err(Refusal::new(
        ErrorCode::TransactionalIdAuthorizationFailed,
        message,
    ))
}

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
