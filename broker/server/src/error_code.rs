//! Kafka's error code for each of our errors: one exhaustive match an error type, so that a new
//! variant does not compile until somebody has decided what clients are told.

use conveyor_controller::brokers::BrokerEpochError;
use conveyor_controller::brokers::draining::LeaveError;
use conveyor_controller::cluster_config::ClusterConfigError;
use conveyor_controller::partitions::election::ElectionError;
use conveyor_controller::{
    AlterConfigError, AlterQuotaError, ChangeError, CreatePartitionsError, CreateTopicError,
    DeleteTopicError, RegisterError,
};
use conveyor_grpc::ErrorCode;
use conveyor_log::{AppendError, LogError, ReadError, SyncError};
use conveyor_record::BatchError;

use crate::metadata_host::{MetadataError, SubmitError};
use crate::node::Refusal;
use crate::partition::{AppendFailure, PartitionLookupError};

/// What clients are told of an error.
pub(crate) trait ToErrorCode: std::fmt::Display {
    /// The code.
    fn error_code(&self) -> ErrorCode;
}

impl<E: ToErrorCode> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self {
            code: error.error_code(),
            message: error.to_string(),
        }
    }
}

impl ToErrorCode for BatchError {
    fn error_code(&self) -> ErrorCode {
        match self {
            // Lengths that do not fit the message mean bytes that are not what was sent.
            Self::Truncated(_) | Self::TrailingBytes(_) | Self::CorruptCrc(_) => {
                ErrorCode::CorruptMessage
            }
            Self::UnsupportedMagic(_) => ErrorCode::UnsupportedForMessageFormat,
            Self::UnsupportedCodec(_) => ErrorCode::UnsupportedCompressionType,
            Self::TooLarge(_) => ErrorCode::MessageTooLarge,
            Self::InvalidHeader(_) | Self::InvalidRecord(_) | Self::Empty => {
                ErrorCode::InvalidRecord
            }
            Self::InvalidTimestamp(_) => ErrorCode::InvalidTimestamp,
            Self::OffsetOutOfOrder(_) => ErrorCode::InvalidRecord,
            Self::Decompression(_) => ErrorCode::CorruptMessage,
            Self::DecompressedTooLarge(_) => ErrorCode::InvalidRecord,
            Self::Compression(_) => ErrorCode::UnknownServerError,
        }
    }
}

impl ToErrorCode for AppendError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Offline(_) | Self::Full(_) => ErrorCode::KafkaStorageError,
            Self::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::FencedCoordinator { .. } => ErrorCode::TransactionCoordinatorFenced,
            Self::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
            Self::OffsetGap { .. } => ErrorCode::OffsetOutOfRange,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::InvalidBatch { source, .. } => source.error_code(),
        }
    }
}

impl ToErrorCode for SyncError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Offline(_) => ErrorCode::KafkaStorageError,
            Self::Abandoned { .. } | Self::Stopped => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl ToErrorCode for AppendFailure {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.error_code(),
            Self::NotDurable(error) => error.error_code(),
            Self::Closed { .. } => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl ToErrorCode for ReadError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Damaged(_) => ErrorCode::CorruptMessage,
            Self::Disk { .. } => ErrorCode::KafkaStorageError,
            Self::SegmentRemoved { .. } => ErrorCode::OffsetNotAvailable,
        }
    }
}

impl ToErrorCode for LogError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Offline(_) | Self::Full(_) | Self::NotRemoved { .. } => {
                ErrorCode::KafkaStorageError
            }
            Self::Read(error) => error.error_code(),
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        }
    }
}

impl ToErrorCode for PartitionLookupError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::Offline { .. } => ErrorCode::KafkaStorageError,
        }
    }
}

impl ToErrorCode for MetadataError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::NotWritten(_) => ErrorCode::KafkaStorageError,
            Self::Stopping => ErrorCode::NotLeaderOrFollower,
            Self::OtherAnswer => ErrorCode::UnknownServerError,
        }
    }
}

impl ToErrorCode for SubmitError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.error_code(),
            Self::Metadata(error) => error.error_code(),
        }
    }
}

impl ToErrorCode for ChangeError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::DeleteTopic(error) => error.error_code(),
            Self::CreatePartitions(error) => error.error_code(),
            Self::AlterConfig(error) => error.error_code(),
            Self::ClusterConfig(error) => match error {
                ClusterConfigError::NotClusterWide { .. } | ClusterConfigError::Setting(_) => {
                    ErrorCode::InvalidConfig
                }
                ClusterConfigError::LoneNode => ErrorCode::InvalidRequest,
            },
            Self::AlterQuota(error) => error.error_code(),
            Self::MetadataVersion(_) => ErrorCode::InvalidUpdateVersion,
            Self::Register(error) => error.error_code(),
            Self::BrokerEpoch(error) => match error {
                BrokerEpochError::NotRegistered { .. } => ErrorCode::BrokerIdNotRegistered,
                BrokerEpochError::Stale { .. } => ErrorCode::StaleBrokerEpoch,
            },
            Self::Election(error) => error.error_code(),
            Self::Leave(error) => match error {
                LeaveError::Unknown { .. } => ErrorCode::BrokerIdNotRegistered,
                LeaveError::Running { .. } | LeaveError::HasReplicas { .. } => {
                    ErrorCode::InvalidRequest
                }
            },
        }
    }
}

impl ToErrorCode for RegisterError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::InvalidNodeId { .. }
            | Self::NoAddress { .. }
            | Self::TooLong { .. }
            | Self::NoIncarnation { .. }
            | Self::NoCluster { .. }
            | Self::OldDisk { .. } => ErrorCode::InvalidRegistration,
            Self::OtherCluster { .. } => ErrorCode::InconsistentClusterId,
            Self::NodeIdInUse { .. } => ErrorCode::DuplicateBrokerRegistration,
            Self::MetadataVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::OtherDefault { .. } | Self::Setting(_) => ErrorCode::InvalidConfig,
        }
    }
}

impl ToErrorCode for ElectionError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
            Self::NotNeeded { .. } => ErrorCode::ElectionNotNeeded,
            Self::PreferredNotAvailable { .. } => ErrorCode::PreferredLeaderNotAvailable,
            Self::NoReplicaAvailable { .. } | Self::NotAReplica { .. } => {
                ErrorCode::EligibleLeadersNotAvailable
            }
        }
    }
}

impl ToErrorCode for CreateTopicError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::InvalidName(_) | Self::Internal { .. } | Self::Collides { .. } => {
                ErrorCode::InvalidTopic
            }
            Self::Exists { .. } => ErrorCode::TopicAlreadyExists,
            Self::InvalidPartitions { .. } => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::AssignmentAndCount { .. } => ErrorCode::InvalidRequest,
            Self::InvalidAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::Setting { .. } => ErrorCode::InvalidConfig,
        }
    }
}

impl ToErrorCode for DeleteTopicError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::Internal { .. } => ErrorCode::InvalidTopic,
        }
    }
}

impl ToErrorCode for CreatePartitionsError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::Internal { .. } => ErrorCode::InvalidTopic,
            Self::InvalidCount { .. } => ErrorCode::InvalidPartitions,
            Self::TooFewNodes { .. } => ErrorCode::InvalidReplicationFactor,
            Self::InvalidAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
        }
    }
}

impl ToErrorCode for AlterConfigError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::Repeated { .. } => ErrorCode::InvalidRequest,
            Self::InternalFixed { .. } | Self::Setting { .. } => ErrorCode::InvalidConfig,
        }
    }
}

impl ToErrorCode for AlterQuotaError {
    fn error_code(&self) -> ErrorCode {
        ErrorCode::InvalidRequest
    }
}
