//! The group coordinator of one `__consumer_offsets` partition, as a pure state machine.
//!
//! It owns the membership of groups, by the consumer protocol that the broker drives (KIP-848) and
//! by the classic one whose members assign for themselves, and their committed offsets, those of
//! open transactions included, with the formats of the records that keep them. A group is of one
//! kind at a time; one without members becomes what the next member is, and keeps its offsets, and
//! one of classic consumers goes over to the consumer protocol, and back, with its members. It
//! knows no log, no socket, no clock and no chance: the caller passes the time and a view of the
//! topics, writes the records that come back, and answers clients when those are durable.
//!
//! The one rule of the crate: **handlers decide, only [`GroupCoordinator::replay`] changes durable
//! state.** A handler returns a [`Transition`], the caller replays its records, live as well as at
//! start-up, so that a restart can only give the state there was:
//!
//! ```
//! use conveyor_group::{ClusterTopics, GroupConfig, GroupCoordinator, HeartbeatRequest, Record};
//! use uuid::Uuid;
//!
//! let cluster = ClusterTopics::new(1).with("orders", Uuid::from_u128(7), 3);
//! let mut coordinator = GroupCoordinator::new(GroupConfig::default());
//! let join = HeartbeatRequest::join("billing", "member-1", &["orders"]);
//!
//! let transition = coordinator.heartbeat(1_000, &join, &cluster)?;
//! let mut restarted = GroupCoordinator::new(GroupConfig::default());
//! for record in &transition.records {
//!     coordinator.replay(record, 1_000);
//!     let stored = record.encode(); // what lies in the log
//!     let read = Record::decode(&stored.key, stored.value.as_deref()).expect("our own bytes");
//!     restarted.replay(&read.expect("a kind we know"), 1_000);
//! }
//! assert!(restarted.has_same_state_as(&coordinator));
//! assert_eq!(transition.response.assignment.expect("all of the topic").count(), 3);
//! # Ok::<(), conveyor_group::GroupError>(())
//! ```
//!
//! Where things are: [`coordinator`] dispatches and replays, `heartbeat` decides about members
//! that `admission` has let in,
//! `reconcile` moves one member towards its target, [`assignor`] computes targets, [`classic`] is the
//! other protocol, `migration` the way from one to the other, `offsets` (from whom `committer` says), `transactions` and `admin` are the other
//! requests, [`record`] and
//! `codec` are the stored formats.
#![forbid(unsafe_code)]

mod admin;
mod admission;
pub mod assignment;
pub mod assignor;
pub mod classic;
pub mod cluster;
mod codec;
mod codec_classic;
mod committer;
pub mod config;
pub mod coordinator;
pub mod error;
mod group;
mod heartbeat;
mod held;
mod member;
mod migration;
mod offsets;
mod pattern;
mod placement;
mod reconcile;
pub mod record;
mod timers;
mod transactions;

#[cfg(test)]
mod simulation;

pub use admin::{
    ClassicDescription, ClassicMemberDescription, GroupDescription, GroupKind, GroupState,
    ListedGroup, MemberDescription,
};
pub use assignment::Assignment;
pub use assignor::Assignor;
pub use classic::{
    ClassicHeartbeat, ClassicState, GroupMember, GroupMetadata, JoinReply, JoinRequest, Joined,
    JoinedMember, LeaveRequest, LeavingMember, LeftMember, Protocol, Reply, SyncRequest, Synced,
    Ticket,
};
pub use cluster::{ClusterTopics, ClusterView, TopicInfo};
pub use config::GroupConfig;
pub use conveyor_record::fields::{DecodeError, EncodedRecord};
pub use coordinator::{Expired, GroupCoordinator, Transition};
pub use error::GroupError;
pub use heartbeat::{
    HeartbeatRequest, HeartbeatResponse, JOIN_EPOCH, LEAVE_EPOCH, STATIC_LEAVE_EPOCH,
};
pub use held::HeldPartitions;
pub use member::{ClassicMemberMetadata, CurrentAssignment, MemberMetadata, MemberState};
pub use offsets::{
    CommitRequest, CommittedOffset, DeleteOffsetsRequest, FetchOffsetsRequest, FetchedOffset,
    OffsetResult, OffsetToCommit,
};
pub use pattern::TopicPattern;
pub use placement::partition_for_group;
pub use record::Record;
pub use transactions::{TransactionProducer, TransactionalCommit};
