//! The records that keep groups and offsets, as values.
//!
//! Each kind is one of Kafka's, named after it; a missing value is a tombstone. Their bytes are
//! described in `codec`. Compaction keeps the last record of each key, so each record says all
//! there is to say about its key.

use std::collections::BTreeMap;

use conveyor_record::fields::{DecodeError, EncodedRecord};

use crate::classic::GroupMetadata;
use crate::offsets::CommittedOffset;
use crate::{Assignment, CurrentAssignment, MemberMetadata, TopicInfo, codec};

/// One record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Key version 0 or 1: the offset a group has committed.
    OffsetCommit {
        /// The group.
        group_id: String,
        /// The topic, by name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        value: Option<CommittedOffset>,
    },
    /// Key version 2: a settled generation of a classic group.
    GroupMetadata {
        /// The group.
        group_id: String,
        /// The generation.
        value: Option<GroupMetadata>,
    },
    /// Key version 3: the group's epoch.
    ConsumerGroupMetadata {
        /// The group.
        group_id: String,
        /// The epoch.
        epoch: Option<i32>,
    },
    /// Key version 4: the topics that members subscribe to, as the last assignment saw them.
    ConsumerGroupPartitionMetadata {
        /// The group.
        group_id: String,
        /// Topics by name.
        topics: Option<BTreeMap<String, TopicInfo>>,
    },
    /// Key version 5: what a member told about itself.
    ConsumerGroupMemberMetadata {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
        /// What it told.
        value: Option<MemberMetadata>,
    },
    /// Key version 6: the epoch of the target assignment.
    ConsumerGroupTargetAssignmentMetadata {
        /// The group.
        group_id: String,
        /// The epoch.
        epoch: Option<i32>,
    },
    /// Key version 7: a member's part of the target assignment.
    ConsumerGroupTargetAssignmentMember {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
        /// Its part.
        assignment: Option<Assignment>,
    },
    /// Key version 8: how far a member has come.
    ConsumerGroupCurrentMemberAssignment {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
        /// Where it stands.
        value: Option<CurrentAssignment>,
    },
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> EncodedRecord {
        EncodedRecord {
            key: codec::encode_key(self),
            value: codec::encode_value(self),
        }
    }

    /// Reads a stored record. `Ok(None)` is a kind that this version does not know and passes over,
    /// as Kafka does: share groups, streams groups.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, DecodeError> {
        codec::decode(key, value)
    }

    /// The group it is about.
    pub fn group_id(&self) -> &str {
        match self {
            Self::OffsetCommit { group_id, .. }
            | Self::GroupMetadata { group_id, .. }
            | Self::ConsumerGroupMetadata { group_id, .. }
            | Self::ConsumerGroupPartitionMetadata { group_id, .. }
            | Self::ConsumerGroupMemberMetadata { group_id, .. }
            | Self::ConsumerGroupTargetAssignmentMetadata { group_id, .. }
            | Self::ConsumerGroupTargetAssignmentMember { group_id, .. }
            | Self::ConsumerGroupCurrentMemberAssignment { group_id, .. } => group_id,
        }
    }
}
