//! Replication of one partition, as rules: what its leader may acknowledge, what its followers fetch
//! and cut, who is in sync.
//!
//! A [`Replica`] is what one broker knows of one partition. The controller's word ([`PartitionState`])
//! makes it a [`Leader`], a [`Follower`] or neither. It owns positions and epochs and knows no bytes,
//! files, sockets, clocks and no controller: events and the time come in, verdicts and commands go
//! out, and a shell (the broker, or the simulator) carries them out.
//!
//! The model is Kafka's: followers fetch from the leader, the controller keeps the in-sync set, a
//! record is committed once every in-sync replica has it. What it adds: two positions. A follower
//! fetches what the leader has not synced yet, so that their disks work at the same time, and tells
//! both how far it has fetched and how far it has synced. With `conveyor.durability=fsync` only the
//! synced position counts.
//!
//! The rules that everything hangs on, and where they stand:
//! - The high watermark is the least counted position of the *maximal* in-sync set, the present one
//!   united with the one proposed, and moves only while `min.insync.replicas` are in sync
//!   ([`leader`]; KIP-497, KIP-966).
//! - A position counts only if its broker sent it in this leader epoch and under the broker epoch
//!   that the controller knows (KIP-903), and only as far as the leader has seen the follower's log
//!   agree with its own.
//! - A follower is cut back by looking up epochs, never to its own high watermark (KIP-101, KIP-279,
//!   KIP-595); on becoming leader nothing is cut.
//! - An answer is taken only if it belongs to the one fetch that is out and the log still ends where
//!   it ended then ([`follower`]).
//! - A replica is proposed for the in-sync set once it has fetched in this epoch and its counted
//!   position has reached the high watermark and the start of the epoch (KIP-207, KIP-497).
//! - Metadata older than what is known, or than one's own registration, is ignored ([`replica`]).
#![forbid(unsafe_code)]

pub mod config;
pub mod epochs;
pub mod fetch;
pub mod follower;
pub mod leader;
pub mod replica;

pub use config::{Durability, ReplicationConfig};
pub use epochs::EpochHistory;
pub use fetch::{FetchAnswer, FetchRequest, FetchVerdict, RecordSpan, SyncReport};
pub use follower::{Follower, FollowerStep, InconsistentLog};
pub use leader::{
    Acknowledgement, InSyncDecision, Leader, LeaderCommand, NotEnoughReplicas, Proposal,
    ProposalAnswer, Refusal,
};
pub use replica::{
    BrokerState, Brokers, Incarnation, LogState, PartitionState, Replica, Role, RoleChange,
};
