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
    /// The fetch size is not possible.
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", false;
    /// There is no leader right now.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true;
    /// This node does not lead the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true;
    /// Not done within the time given; the outcome is unknown.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true;
    /// The broker is not there.
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", false;
    /// The replica is not there.
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", true;
    /// The batch is larger than `max.message.bytes`.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false;
    /// A newer controller is at work.
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", false;
    /// The metadata text of an offset is too long.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false;
    /// The connection broke before the answer.
    NetworkException = 13, "NETWORK_EXCEPTION", true;
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
    /// The batch is in the log, but too few replicas were in sync.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true;
    /// `acks` is neither -1, 0 nor 1.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false;
    /// The group generation is over.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false;
    /// The member's protocols and those of its group have nothing in common.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false;
    /// The group id is empty or not legal.
    InvalidGroupId = 24, "INVALID_GROUP_ID", false;
    /// The group does not know this member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false;
    /// The session time-out is outside the limits.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false;
    /// The group is being rebalanced.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false;
    /// The committed offset does not fit its record.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false;
    /// The principal may not use this topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false;
    /// The principal may not use this group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false;
    /// The principal may not do this to the cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false;
    /// A timestamp is outside the limits of the topic.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false;
    /// The SASL mechanism is not served.
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", false;
    /// The request does not fit the state of authentication.
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", false;
    /// The version of the API is not served.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false;
    /// The topic is there already.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false;
    /// The number of partitions is not possible.
    InvalidPartitions = 37, "INVALID_PARTITIONS", false;
    /// The replication factor is not possible with the nodes there are.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false;
    /// The replicas asked for are not possible.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false;
    /// A setting is unknown or its value is not possible.
    InvalidConfig = 40, "INVALID_CONFIG", false;
    /// Another node is the controller.
    NotController = 41, "NOT_CONTROLLER", true;
    /// The request contradicts itself.
    InvalidRequest = 42, "INVALID_REQUEST", false;
    /// The message format is not supported (magic other than 2).
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false;
    /// A policy of the cluster forbids it.
    PolicyViolation = 44, "POLICY_VIOLATION", false;
    /// A producer's sequence number is not the next one.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false;
    /// A producer's sequence was seen before, too long ago to answer with its offset.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false;
    /// A newer producer with this id is at work.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false;
    /// The transaction is not in a state that allows this.
    InvalidTxnState = 48, "INVALID_TXN_STATE", false;
    /// The producer id is not that of the transactional id.
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", false;
    /// The transaction time-out is longer than `transaction.max.timeout.ms`, or not positive.
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", false;
    /// The last transaction of this id is still being completed.
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", true;
    /// A newer transaction coordinator is at work.
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", false;
    /// The principal may not use this transactional id.
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false;
    /// The node has no authorizer whose rules could be asked or changed.
    SecurityDisabled = 54, "SECURITY_DISABLED", false;
    /// Another part of the request failed, so this one was not tried.
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", false;
    /// The data directory is offline.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true;
    /// There is no such data directory.
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", false;
    /// The credentials are not right.
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", false;
    /// The producer id is not known to this partition any more.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false;
    /// The partition is being moved.
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", false;
    /// Delegation tokens are not served.
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", false;
    /// There is no such delegation token.
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", false;
    /// The delegation token belongs to somebody else.
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", false;
    /// Delegation tokens cannot be asked for on this connection.
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false;
    /// The principal may not use this delegation token.
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false;
    /// The delegation token has expired.
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", false;
    /// Principals of this kind are not known.
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", false;
    /// The group still has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false;
    /// There is no such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false;
    /// The fetch session is not (any more) there.
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", true;
    /// The fetch session is at another epoch.
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", true;
    /// The leader has no listener of this name.
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", true;
    /// Topics may not be deleted here (`delete.topic.enable`).
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", false;
    /// The client's leader epoch is older than the broker's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true;
    /// The client's leader epoch is newer than the broker's.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true;
    /// The codec is not supported.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false;
    /// The broker has registered again since.
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false;
    /// The offset is above the high watermark for now.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true;
    /// Join again with the member id given.
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", false;
    /// The preferred leader is not there.
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true;
    /// The group is full.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false;
    /// Another member with this instance id has taken over.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false;
    /// No replica may lead.
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true;
    /// The leader is already the right one.
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true;
    /// The partition is not being moved.
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false;
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
    /// There is no such resource.
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", false;
    /// The request names a resource twice.
    DuplicateResource = 92, "DUPLICATE_RESOURCE", false;
    /// The credential is not possible.
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", false;
    /// The voters are not those of the quorum.
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", false;
    /// The version to update to is not possible.
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false;
    /// The features could not be changed.
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", false;
    /// The forwarded principal cannot be read.
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", false;
    /// There is no such snapshot.
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", false;
    /// The position lies outside the snapshot.
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", false;
    /// The topic id is not known here.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true;
    /// Another node has this `node.id`.
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false;
    /// The broker is not registered.
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", false;
    /// The topic id is not that of the log.
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", true;
    /// The request is for another cluster.
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", false;
    /// There is no such transactional id.
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", false;
    /// The fetch session mixes topic names and topic ids.
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", true;
    /// The replica may not be in sync.
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false;
    /// Another leader has been elected meanwhile.
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", false;
    /// The offset is in tiered storage.
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", false;
    /// The member's epoch was fenced: join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false;
    /// The instance id is still used by another member.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false;
    /// The assignor is not known.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false;
    /// The member's epoch is old: heartbeat, then try again.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false;
    /// The request is for endpoints of another type.
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", false;
    /// Endpoints of this type are not served.
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", false;
    /// There is no such controller.
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", false;
    /// There is no such subscription of telemetry.
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", false;
    /// The telemetry is too large.
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", false;
    /// The registration is not possible.
    InvalidRegistration = 119, "INVALID_REGISTRATION", false;
    /// The transaction can only be aborted; then the producer may go on.
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", false;
    /// The record is not in a state that allows this.
    InvalidRecordState = 121, "INVALID_RECORD_STATE", false;
    /// The share session is not there.
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", true;
    /// The share session is at another epoch.
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", true;
    /// The state has a newer epoch.
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", false;
    /// The voter is not known by this key.
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", false;
    /// The voter is there already.
    DuplicateVoter = 126, "DUPLICATE_VOTER", false;
    /// There is no such voter.
    VoterNotFound = 127, "VOTER_NOT_FOUND", false;
    /// The regular expression is not possible.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false;
    /// The client's metadata is too old: start again from the bootstrap addresses.
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", false;
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
