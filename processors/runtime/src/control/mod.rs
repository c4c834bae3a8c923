//! What people and running projections tell each other, through one small compacted topic. Sinks and
//! rebuilds take part as projections do, each by its own name ([`Kind`]).
//!
//! | key | written by | value |
//! |---|---|---|
//! | `desired/<projection>` | a person | [`Desired`]: whether it shall pause |
//! | `command/<projection>/<id>` | a person; removed by whoever carried it out | [`Command`] |
//! | `answer/<projection>/<id>/<instance>` | the instance that carried it out | [`Answer`] |
//! | `report/<projection>/<instance>` | each instance, every second while something changes | [`Report`] |
//!
//! A command about a parked key is carried out by the owner of its partition. It stays in the topic
//! until then: an owner that dies half-way leaves it to its heir. Doing one twice does nothing more.
//!
//! This module decides and encodes; `driver` reads and writes the topic.

mod board;
mod message;
mod watchdog;

pub use board::{Board, GONE_AFTER_MS};
pub use message::{
    Action, Answer, Command, Desired, Key, Kind, Outcome, ParkedSummary, PartitionReport, Place,
    RebuildReport, Report,
};
pub use watchdog::{Observation, Verdict, Watchdog};

/// The topic; one partition, compacted.
pub const TOPIC: &str = "conveyor-projections";

/// Its settings: small segments, so that compaction finds something to do.
pub const TOPIC_CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "4194304"),
    ("min.cleanable.dirty.ratio", "0.2"),
];
