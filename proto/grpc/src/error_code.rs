//! Apache Kafka's numeric error codes, the ones Conveyor answers with.
//!
//! Names, numbers and the retriable flag are those of Kafka's `Errors` enum, so that an operator who
//! knows one knows the other, and the Kafka listener and gRPC say the same.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $kafka:literal, $retriable:literal;)+) => {
        /// One of Kafka's error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $code,)+ }

        impl ErrorCode {
            /// Every code known here, in numeric order of declaration.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)+];

            /// The number on the wire.
            pub const fn code(self) -> i32 { self as i16 as i32 }

            /// The code with this number; codes unknown here become [`ErrorCode::UnknownServerError`].
            pub const fn from_code(code: i32) -> ErrorCode {
                match code { $($code => ErrorCode::$name,)+ _ => ErrorCode::UnknownServerError }
            }

            /// Kafka's name, such as `NOT_LEADER_OR_FOLLOWER`.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => $kafka,)+ }
            }

            /// Whether the same request may succeed later without change.
            pub const fn is_retriable(self) -> bool {
                match self { $(ErrorCode::$name => $retriable,)+ }
            }
        }
    };
}

error_codes! {
    /// The broker met something it has no name for.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false;
    /// No error.
    None = 0, "NONE", false;
    /// The offset lies outside the log.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false;
    /// CRC or length of a batch is wrong.
    CorruptMessage = 2, "CORRUPT_MESSAGE", true;
    /// No such topic or partition here.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true;
    /// There is no leader right now.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true;
    /// This node does not lead the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true;
    /// Not done within the time given; the outcome is unknown.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true;
    /// The batch is larger than `max.message.bytes`.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false;
    /// The metadata text of an offset is too long.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false;
    /// The coordinator is still reading its log.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true;
    /// There is no coordinator right now.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true;
    /// Another node coordinates this group.
    NotCoordinator = 16, "NOT_COORDINATOR", true;
    /// The name is not a legal topic name, or the topic is internal.
    InvalidTopic = 17, "INVALID_TOPIC_EXCEPTION", false;
    /// The batch is larger than a segment.
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", false;
    /// Too few replicas are in sync.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true;
    /// The group generation is over.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false;
    /// The group id is empty or not legal.
    InvalidGroupId = 24, "INVALID_GROUP_ID", false;
    /// The group does not know this member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false;
    /// The session time-out is outside the limits.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false;
    /// The group is being rebalanced.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false;
    /// The principal may not use this topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false;
    /// The principal may not use this group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false;
    /// The principal may not do this to the cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false;
    /// A timestamp is outside the limits of the topic.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false;
    /// The topic is there already.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false;
    /// The number of partitions is not possible.
    InvalidPartitions = 37, "INVALID_PARTITIONS", false;
    /// The replication factor is not possible with the nodes there are.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false;
    /// A setting is unknown or its value is not possible.
    InvalidConfig = 40, "INVALID_CONFIG", false;
    /// The request contradicts itself.
    InvalidRequest = 42, "INVALID_REQUEST", false;
    /// A producer's sequence number is not the next one.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false;
    /// A producer's sequence was seen before, too long ago to answer with its offset.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false;
    /// A newer producer with this id is at work.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false;
    /// The transaction is not in a state that allows this.
    InvalidTxnState = 48, "INVALID_TXN_STATE", false;
    /// The data directory is offline.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true;
    /// The producer id is not known to this partition any more.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false;
    /// The group still has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false;
    /// There is no such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false;
    /// The client's leader epoch is older than the broker's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true;
    /// The client's leader epoch is newer than the broker's.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true;
    /// The codec is not supported.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false;
    /// The offset is above the high watermark for now.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true;
    /// The group is full.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false;
    /// Another member with this instance id has taken over.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false;
    /// The group is still subscribed to the topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false;
    /// Records of the batch were refused.
    InvalidRecord = 87, "INVALID_RECORD", false;
    /// Some offsets are still in an open transaction.
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true;
    /// The quota is used up.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true;
    /// The producer has been fenced by a newer one.
    ProducerFenced = 90, "PRODUCER_FENCED", false;
    /// The message format is not supported (magic other than 2).
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false;
    /// The topic id is not known here.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true;
    /// The member's epoch was fenced: join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false;
    /// The instance id is still used by another member.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false;
    /// The assignor is not known.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false;
    /// The member's epoch is old: heartbeat, then try again.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn every_code_survives_the_wire() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), code);
        }
    }

    #[test]
    fn a_code_from_a_newer_broker_is_an_unknown_error() {
        assert_eq!(ErrorCode::from_code(32_000), ErrorCode::UnknownServerError);
    }
}
