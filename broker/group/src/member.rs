//! One member of a group: what it asked for and how far it has come.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{HeldPartitions, Protocol, TopicPattern};

/// Where a member stands on its way to the target assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what its epoch gives it.
    #[default]
    Stable,
    /// It must give up partitions before it can go to the next epoch.
    UnrevokedPartitions,
    /// It is in the target's epoch and waits for partitions that others have not given up yet.
    UnreleasedPartitions,
    /// Written by a newer version: the member is made to join again.
    Unknown(i8),
}

impl MemberState {
    /// The number that Kafka stores.
    pub fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown(code) => code,
        }
    }

    /// The state of a stored number.
    pub fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            other => Self::Unknown(other),
        }
    }
}

/// What a member told about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Set for static members.
    pub instance_id: Option<String>,
    /// Where the member runs.
    pub rack_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The address it comes from.
    pub client_host: String,
    /// The topics it wants.
    pub subscribed_topic_names: BTreeSet<String>,
    /// A pattern of further topics that it wants.
    pub subscribed_topic_regex: Option<TopicPattern>,
    /// How long it may take to give up partitions.
    pub rebalance_timeout_ms: i32,
    /// The assignor it prefers.
    pub server_assignor: Option<String>,
    /// Set for a member by the classic protocol, while members by both are in the group.
    pub classic: Option<ClassicMemberMetadata>,
}

/// What a member by the classic protocol has told beside that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it speaks, the best first.
    pub protocols: Vec<Protocol>,
}

impl MemberMetadata {
    /// How long it may be silent; `default_ms` for members that do not choose.
    pub(crate) fn session_timeout_ms(&self, default_ms: i64) -> i64 {
        let own = self.classic.as_ref();
        own.map_or(default_ms, |own| i64::from(own.session_timeout_ms))
    }

    /// Whether it wants a topic, by name or by its pattern.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        let pattern = self.subscribed_topic_regex.as_ref();
        self.subscribed_topic_names.contains(topic)
            || pattern.is_some_and(|pattern| pattern.matches(topic))
    }
}

/// How far a member has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentAssignment {
    /// The epoch the member must come with; 0 before it has any, -2 for a static member that left
    /// for a while.
    pub epoch: i32,
    /// The epoch before, with which a member comes that missed an answer.
    pub previous_epoch: i32,
    /// Its state.
    pub state: MemberState,
    /// What it may own.
    pub assigned: HeldPartitions,
    /// What it must give up, and nobody else may have until it has.
    pub pending_revocation: HeldPartitions,
}

impl CurrentAssignment {
    /// Whether the member has all of the target of `epoch`.
    pub(crate) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// Whether a partition is, or may still be, in this member's hands.
    pub(crate) fn holds(&self, topic: Uuid, partition: i32) -> bool {
        self.held_since(topic, partition).is_some()
    }

    /// The epoch since which it is without a break; `None` when it is not.
    pub(crate) fn held_since(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let assigned = self.assigned.since(topic, partition);
        assigned.or_else(|| self.pending_revocation.since(topic, partition))
    }

    /// Goes to `epoch`, remembering the one before.
    pub(crate) fn set_epoch(&mut self, epoch: i32) {
        if epoch != self.epoch {
            self.previous_epoch = self.epoch;
            self.epoch = epoch;
        }
    }
}

/// A member, as its records tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) metadata: MemberMetadata,
    pub(crate) current: CurrentAssignment,
}
