//! Why a request about a group was refused.

/// A refusal. Each variant is one of Kafka's error codes, whose name it bears.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// `INVALID_REQUEST`: the request contradicts itself or the protocol.
    #[error("request for group `{group_id}` is invalid: {reason}")]
    InvalidRequest {
        /// The group.
        group_id: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// `INVALID_GROUP_ID`: no group has this name.
    #[error("group id is {length} bytes long, it must have between 1 and {max}")]
    InvalidGroupId {
        /// Length of the id, in bytes.
        length: usize,
        /// The most it may have.
        max: usize,
    },
    /// `GROUP_ID_NOT_FOUND`.
    #[error("group `{group_id}` does not exist")]
    GroupIdNotFound {
        /// The group.
        group_id: String,
    },
    /// `GROUP_ID_NOT_FOUND`: it is a classic group with members, which cannot become one of the consumer
    /// protocol.
    #[error(
        "group `{group_id}` is a classic group with {members} members and cannot be joined with group.protocol=consumer: {reason}"
    )]
    NotAConsumerGroup {
        /// The group.
        group_id: String,
        /// How many members it has.
        members: usize,
        /// Why not.
        reason: String,
    },
    /// `INCONSISTENT_GROUP_PROTOCOL`: the members of the group are of another kind.
    #[error("group `{group_id}` cannot be joined: {reason}")]
    InconsistentGroupProtocol {
        /// The group.
        group_id: String,
        /// In what they differ.
        reason: String,
    },
    /// `INVALID_SESSION_TIMEOUT`.
    #[error(
        "session time-out of {received} ms for group `{group_id}` is not between {min} (group.min.session.timeout.ms) and {max} (group.max.session.timeout.ms)"
    )]
    InvalidSessionTimeout {
        /// The group.
        group_id: String,
        /// What the member asks for.
        received: i32,
        /// The setting.
        min: i32,
        /// The setting.
        max: i32,
    },
    /// `INVALID_REGULAR_EXPRESSION`.
    #[error("`{pattern}` is no pattern of topic names: {reason}")]
    InvalidRegularExpression {
        /// The member's pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `MEMBER_ID_REQUIRED`: the member must join again with the id it has now been given.
    #[error("join group `{group_id}` again with member id `{member_id}`")]
    MemberIdRequired {
        /// The group.
        group_id: String,
        /// The new id.
        member_id: String,
    },
    /// `ILLEGAL_GENERATION`: the member must join again.
    #[error("group `{group_id}` is in generation {expected}, not {received}: join again")]
    IllegalGeneration {
        /// The group.
        group_id: String,
        /// The generation it came with.
        received: i32,
        /// The generation of the group.
        expected: i32,
    },
    /// `REBALANCE_IN_PROGRESS`: the member must join again.
    #[error("group `{group_id}` is rebalancing: join again")]
    RebalanceInProgress {
        /// The group.
        group_id: String,
    },
    /// `UNKNOWN_SERVER_ERROR`, as with Kafka: members tell and are assigned more than can be kept.
    #[error(
        "what members of group `{group_id}` tell and are assigned takes {size} bytes, more than {max}: use fewer members or shorter metadata"
    )]
    GroupMetadataTooLarge {
        /// The group.
        group_id: String,
        /// Its size, in bytes.
        size: usize,
        /// The most it may have.
        max: usize,
    },
    /// `UNSTABLE_OFFSET_COMMIT`: a transaction that is not ended yet may change the offset.
    #[error("the offset of group `{group_id}` is being changed by a transaction: try again")]
    UnstableOffsetCommit {
        /// The group.
        group_id: String,
    },
    /// `INVALID_PRODUCER_EPOCH`: a newer incarnation of the producer has taken over.
    #[error("producer {producer_id} has epoch {expected}, not {received}: it was fenced")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// The epoch it came with.
        received: i16,
        /// The newest epoch seen.
        expected: i16,
    },
    /// `TRANSACTION_COORDINATOR_FENCED`: a newer transaction coordinator has taken over.
    #[error(
        "transaction coordinator of producer {producer_id} has epoch {expected}, not {received}: it was fenced"
    )]
    TransactionCoordinatorFenced {
        /// The producer.
        producer_id: i64,
        /// The epoch of the coordinator that asks.
        received: i32,
        /// The newest epoch seen.
        expected: i32,
    },
    /// `UNKNOWN_MEMBER_ID`: the member must give up all partitions and join again.
    #[error("member `{member_id}` is not in group `{group_id}`: join again with epoch 0")]
    UnknownMemberId {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
    },
    /// `FENCED_MEMBER_EPOCH`: the member must give up all partitions and join again.
    #[error(
        "member `{member_id}` of group `{group_id}` has epoch {expected}, not {received}: give up all partitions and join again with epoch 0"
    )]
    FencedMemberEpoch {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
        /// The epoch it came with.
        received: i32,
        /// The epoch it has.
        expected: i32,
    },
    /// `STALE_MEMBER_EPOCH`: the member learns its new epoch by a heartbeat and may then try again.
    #[error(
        "member `{member_id}` of group `{group_id}` has epoch {expected}, not {received}: try again after the next heartbeat"
    )]
    StaleMemberEpoch {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
        /// The epoch it came with.
        received: i32,
        /// The epoch it has.
        expected: i32,
    },
    /// `UNRELEASED_INSTANCE_ID`: another member holds the instance id and has not left.
    #[error(
        "instance `{instance_id}` of group `{group_id}` is held by member `{member_id}`: stop that one first, or wait for its session to end"
    )]
    UnreleasedInstanceId {
        /// The group.
        group_id: String,
        /// The instance id.
        instance_id: String,
        /// Who holds it.
        member_id: String,
    },
    /// `FENCED_INSTANCE_ID`: another member has taken the instance id over; this one must stop.
    #[error("instance `{instance_id}` of group `{group_id}` now belongs to member `{member_id}`")]
    FencedInstanceId {
        /// The group.
        group_id: String,
        /// The instance id.
        instance_id: String,
        /// Who holds it.
        member_id: String,
    },
    /// `UNSUPPORTED_ASSIGNOR`.
    #[error("assignor `{name}` is not known, there are `uniform` and `range`")]
    UnsupportedAssignor {
        /// The name asked for.
        name: String,
    },
    /// `GROUP_MAX_SIZE_REACHED`.
    #[error(
        "group `{group_id}` has its maximum of {max} members (group.consumer.max.size, group.max.size)"
    )]
    GroupMaxSizeReached {
        /// The group.
        group_id: String,
        /// The setting.
        max: usize,
    },
    /// `NON_EMPTY_GROUP`: only groups without members can be deleted.
    #[error(
        "group `{group_id}` has {members} members and is {state}: stop them before deleting it"
    )]
    NonEmptyGroup {
        /// The group.
        group_id: String,
        /// How many members it has.
        members: usize,
        /// Its state, by Kafka's name.
        state: &'static str,
    },
    /// `GROUP_SUBSCRIBED_TO_TOPIC`: offsets in use cannot be deleted.
    #[error("group `{group_id}` subscribes to topic `{topic}`: its offsets are in use")]
    GroupSubscribedToTopic {
        /// The group.
        group_id: String,
        /// The topic.
        topic: String,
    },
    /// `OFFSET_METADATA_TOO_LARGE`.
    #[error(
        "metadata of the offset for `{topic}` partition {partition} has {size} bytes, more than {max} (offset.metadata.max.bytes)"
    )]
    OffsetMetadataTooLarge {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its size, in bytes.
        size: usize,
        /// The setting.
        max: usize,
    },
    /// `INVALID_COMMIT_OFFSET_SIZE`.
    #[error("the request commits {count} offsets, more than {max}: commit in parts")]
    TooManyOffsets {
        /// Offsets in the request.
        count: usize,
        /// The most that are taken.
        max: usize,
    },
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("`{topic}` partition {partition} does not exist")]
    UnknownTopicOrPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
}

impl GroupError {
    /// Whether the same request can succeed later without anybody changing anything.
    ///
    /// A fenced or unknown member is not retriable: it has to join again first.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::StaleMemberEpoch { .. }
            | Self::UnreleasedInstanceId { .. }
            | Self::UnstableOffsetCommit { .. }
            | Self::UnknownTopicOrPartition { .. } => true,
            Self::InvalidRequest { .. }
            | Self::InvalidGroupId { .. }
            | Self::GroupIdNotFound { .. }
            | Self::NotAConsumerGroup { .. }
            | Self::InconsistentGroupProtocol { .. }
            | Self::InvalidSessionTimeout { .. }
            | Self::MemberIdRequired { .. }
            | Self::IllegalGeneration { .. }
            | Self::RebalanceInProgress { .. }
            | Self::GroupMetadataTooLarge { .. }
            | Self::InvalidProducerEpoch { .. }
            | Self::TransactionCoordinatorFenced { .. }
            | Self::UnknownMemberId { .. }
            | Self::FencedMemberEpoch { .. }
            | Self::FencedInstanceId { .. }
            | Self::UnsupportedAssignor { .. }
            | Self::InvalidRegularExpression { .. }
            | Self::GroupMaxSizeReached { .. }
            | Self::NonEmptyGroup { .. }
            | Self::GroupSubscribedToTopic { .. }
            | Self::OffsetMetadataTooLarge { .. }
            | Self::TooManyOffsets { .. } => false,
        }
    }
}
