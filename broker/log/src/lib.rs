//! The log engine: one partition on disk, many partitions in a data directory.
//!
//! Owns segments, indexes, append, read, producer state, leader epochs, recovery, retention,
//! compaction and group commit. It is synchronous and knows no network, no protocol and no cluster;
//! files and time come through [`disk::Disk`] and [`clock::Clock`].
//!
//! How the parts hang together:
//! - [`DataDir`] is one log directory: its lock, identity, checkpoints, pool of zero-filled segment
//!   files, and its health. The first failed write or sync takes it offline for good.
//! - [`Log`] is the owner's handle of one partition; every change goes through `&mut Log`.
//! - [`LogReader`] is what everybody else holds: cheap to clone, reads without a lock while the
//!   owner appends, knows how far the log reaches, is synced and is committed.
//! - [`Flusher`] is the group commit of one data directory: it syncs what was appended and calls back.
//! - [`compaction`] cleans by key beside the owner; only the swap of files needs `&mut Log`.
//! - [`tools`] reads a partition folder offline, for `log dump` and `log verify`.
//!
//! Invariants: offsets only grow; a segment that is not the last one has been synced whole before
//! its successor came to be; so only the last segment, above the recovery point, can hold a torn tail.

pub mod checkpoint;
pub mod clock;
pub mod compaction;
pub mod config;
pub mod data_dir;
pub mod disk;
mod epochs;
pub mod error;
pub mod flusher;
mod folder;
mod health;
mod index;
pub mod log;
pub mod partition;
mod producers;
pub mod reader;
pub mod recovery;
mod scan;
mod segment;
mod shared;
pub mod tools;
mod transactions;

pub use clock::{Clock, SimClock, SystemClock};
pub use compaction::{
    Cleaned, Cleaner, CleanerConfig, CompactionError, CompactionPlan, CompactionStats,
};
pub use config::{CleanupPolicy, DataDirConfig, Durability, LogConfig, MessageTimestampType};
pub use data_dir::{DataDir, LogLocation};
pub use error::{
    AppendError, Damage, DirectoryFull, DirectoryOffline, DiskError, LogError, OpenError,
    ReadError, SyncError,
};
pub use flusher::{CommitStats, Flusher, GroupCommit, SyncDone};
pub use log::{AppendBatch, AppendInfo, Log};
pub use partition::TopicPartition;
pub use producers::ActiveProducer;
pub use reader::{AbortedTransaction, EpochEndOffset, LogReader, ReadChunk, TimestampOffset};
pub use recovery::RecoveryReport;
