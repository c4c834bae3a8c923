//! The classic group protocol: members agree on an assignment that one of them, the leader, makes.
//!
//! A generation begins when all members have joined ([`rebalance`]): each votes for one of the
//! protocols that all know, one becomes the leader and gets everybody's metadata, and the group waits
//! for the leader's assignment (`sync`), which the coordinator passes on without looking into it.
//! Members show by heartbeats that they live (`liveness`), and leave or are put out (`leave`).
//!
//! Two kinds of state meet here. **Durable** is what one `GroupMetadata` record tells
//! ([`GroupMetadata`]): the members of the last settled generation and their assignments; it changes
//! in replay alone. **Live** is where the group stands now ([`group::ClassicGroup`]): who waits for
//! what; handlers change it, and after a restart it begins anew from the record, as with Apache
//! Kafka: a rebalance that was under way is forgotten, and members that do not know that join again.
//! A group is settled (`Empty` or `Stable`) only in states that a record tells, so that what members
//! of a settled generation were told survives.
//!
//! A join is answered when all have joined, a sync when the leader has assigned. Requests therefore
//! bear a [`Ticket`], and any [`crate::Transition`] may hold answers to tickets that came before.
//!
//! Invariants: a ticket is answered once; one leader a generation; in `Stable` each member has the
//! assignment that the leader of this generation made for it, perhaps an empty one.

pub(crate) mod group;
pub(crate) mod join;
mod leave;
mod liveness;
pub(crate) mod metadata;
pub(crate) mod rebalance;
pub mod subscription;
pub(crate) mod sync;

#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod simulation;

use bytes::Bytes;

pub use self::group::ClassicState;
pub use self::join::{JoinRequest, Protocol};
pub use self::leave::{LeaveRequest, LeavingMember, LeftMember};
pub use self::liveness::ClassicHeartbeat;
pub use self::metadata::{GroupMember, GroupMetadata};
pub use self::sync::SyncRequest;
use crate::{GroupError, Record, Transition};

/// The protocol type of consumers, whose metadata the coordinator can read.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The number of a request whose answer may come later. The caller chooses it and uses none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An answer that waited, or that could be given at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a join.
    Join(JoinReply),
    /// To a sync.
    Sync(Result<Synced, GroupError>),
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// The member's id; empty where the member is to forget the one it has.
    pub member_id: String,
    /// The generation it is in, or why it is in none.
    pub outcome: Result<Joined, GroupError>,
}

/// A generation, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub generation: i32,
    /// Type of the protocols.
    pub protocol_type: Option<String>,
    /// The protocol that was voted for.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// Whether a leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader; nothing for the others.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// What it told for the chosen protocol.
    pub metadata: Bytes,
}

/// What a member has been assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Type of the protocols.
    pub protocol_type: Option<String>,
    /// The protocol that was voted for.
    pub protocol: Option<String>,
    /// What the leader made for it.
    pub assignment: Bytes,
}

/// What a step leaves to be written and to be told.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) records: Vec<Record>,
    pub(crate) replies: Vec<(Ticket, Reply)>,
}

impl Effects {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.replies.is_empty()
    }

    pub(crate) fn answer<R>(self, response: R) -> Transition<R> {
        Transition {
            records: self.records,
            replies: self.replies,
            response,
        }
    }

    pub(crate) fn join(&mut self, ticket: Ticket, reply: JoinReply) {
        self.replies.push((ticket, Reply::Join(reply)));
    }

    pub(crate) fn sync(&mut self, ticket: Ticket, outcome: Result<Synced, GroupError>) {
        self.replies.push((ticket, Reply::Sync(outcome)));
    }
}
