//! The Raft quorum of the controllers: it replicates opaque entries, and keeps them.
//!
//! [`QuorumNode`] is one member: [`Consensus`] (raft-rs, without I/O) and a [`store::Store`] on
//! [`conveyor_log::disk::Disk`], put together so that nothing leaves the node that is not synced. It
//! is driven from outside: time and messages come in, messages and committed entries go out. It knows
//! no network, no clock and no thread, draws nothing by chance that its seed does not decide, and
//! does not know what the entries mean.
//!
//! - [`message`]: what members say to each other, and its bounded bytes.
//! - [`membership`]: voters and learners; a voter id is never given out twice.
//! - [`formation`]: what a node without any state does: found a cluster, join one, or wait.
//! - [`node`]: proposals and what comes of them, linearizable reads, snapshots, leaving in order.
//!
//! What the host has to do, beside driving the node:
//! - Open the store ([`store::open`]); with an empty folder, ask around until [`Formation`] says what
//!   to do. Answers count only in the life of the process that asked.
//! - To join, draw a directory id for the empty folder and ask the leader with it, again and again. The
//!   leader proposes [`MembershipRequest::Join`]; once that is resolved as committed, the same request
//!   is refused with the voter id it was given ([`MembershipError::AlreadyMember`]), which is the
//!   answer. The joiner takes it only if the directory id is the one it holds now.
//! - Send each message to its receiver by the endpoint in [`Membership`], or back where that voter was
//!   last heard from: a learner that has no snapshot yet knows no members.
//! - Take a snapshot whenever [`QuorumNode::wants_snapshot`] says so: without it, nobody can join.
//! - Before a stop, [`QuorumNode::hand_over`] and wait for the new leader.
//! - Compare the settings with the members once caught up ([`formation::check_voters`]). A node that
//!   was removed is not told so for certain, since its messages are no longer sent; the operator
//!   switches it off and empties its folder.
//!
//! The whole is played through in `tests/simulation` on simulated disks and a simulated network.
#![forbid(unsafe_code)]

pub mod consensus;
pub mod entry;
pub mod formation;
pub mod membership;
pub mod message;
pub mod mutant;
pub mod node;
pub mod raft;
pub mod store;

pub use consensus::{Consensus, ConsensusError, Progress, Refused, Role, Status, StepError};
pub use entry::{Entry, EntryKind, HardState, LogPosition, Snapshot};
pub use formation::{Formation, FormationError, NextStep, Probe};
pub use membership::{
    Member, Membership, MembershipChange, MembershipError, MembershipRequest, VoterId,
};
pub use message::{Body, Message, MessageError};
pub use node::{NodeConfig, NodeError, Output, QuorumNode, Round};
pub use store::{EmptyStore, Expected, Identity, OpenError, Opened, Recovered, Store, StoreError};
