//! What clients are told when a request about a group is refused.

use conveyor_group::GroupError;
use conveyor_grpc::ErrorCode;

use crate::error_code::ToErrorCode;
use crate::node::Refusal;
use crate::request::{Call, Operation, Resource};

impl ToErrorCode for GroupError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::InvalidRequest { .. } => ErrorCode::InvalidRequest,
            Self::InvalidGroupId { .. } => ErrorCode::InvalidGroupId,
            Self::GroupIdNotFound { .. } | Self::NotAConsumerGroup { .. } => {
                ErrorCode::GroupIdNotFound
            }
            Self::InconsistentGroupProtocol { .. } => ErrorCode::InconsistentGroupProtocol,
            Self::InvalidSessionTimeout { .. } => ErrorCode::InvalidSessionTimeout,
            Self::MemberIdRequired { .. } => ErrorCode::MemberIdRequired,
            Self::IllegalGeneration { .. } => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress { .. } => ErrorCode::RebalanceInProgress,
            // Kafka has no code of its own for it either.
            Self::GroupMetadataTooLarge { .. } => ErrorCode::UnknownServerError,
            Self::UnstableOffsetCommit { .. } => ErrorCode::UnstableOffsetCommit,
            Self::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::TransactionCoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            Self::UnknownMemberId { .. } => ErrorCode::UnknownMemberId,
            Self::FencedMemberEpoch { .. } => ErrorCode::FencedMemberEpoch,
            Self::StaleMemberEpoch { .. } => ErrorCode::StaleMemberEpoch,
            Self::UnreleasedInstanceId { .. } => ErrorCode::UnreleasedInstanceId,
            Self::FencedInstanceId { .. } => ErrorCode::FencedInstanceId,
            Self::UnsupportedAssignor { .. } => ErrorCode::UnsupportedAssignor,
            Self::InvalidRegularExpression { .. } => ErrorCode::InvalidRegularExpression,
            Self::GroupMaxSizeReached { .. } => ErrorCode::GroupMaxSizeReached,
            Self::NonEmptyGroup { .. } => ErrorCode::NonEmptyGroup,
            Self::GroupSubscribedToTopic { .. } => ErrorCode::GroupSubscribedToTopic,
            Self::OffsetMetadataTooLarge { .. } => ErrorCode::OffsetMetadataTooLarge,
            Self::TooManyOffsets { .. } => ErrorCode::InvalidCommitOffsetSize,
            Self::UnknownTopicOrPartition { .. } => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

/// Refuses what the authorizer does not allow on a group.
pub(crate) fn authorize_group(
    call: &Call,
    operation: Operation,
    group_id: &str,
) -> Result<(), Refusal> {
    if call.may(operation, Resource::Group(group_id)) {
        return Ok(());
    }
    let message = format!(
        "{} may not {operation:?} group {group_id}",
        call.principal()
    );
    Err(Refusal::new(ErrorCode::GroupAuthorizationFailed, message))
}

/// Code and message of an outcome, counted.
pub(super) fn told<T>(call: &Call, outcome: &Result<T, Refusal>) -> (i32, String) {
    let (code, message) = match outcome {
        Ok(_) => (ErrorCode::None, String::new()),
        Err(refusal) => (refusal.code, refusal.message.clone()),
    };
    call.outcome(code);
    (code.code(), message)
}
