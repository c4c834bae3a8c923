//! Adopts the partition folders of a stopped Kafka broker (3.x or 4.x, `KRaft`) into data directories of
//! ours: topic ids, offsets, leader epochs, producer state, group offsets and transactions stay as they
//! are.
//!
//! The way: [`source`] looks into Kafka's log directories, [`kraft`] reads Kafka's metadata, [`plan`]
//! decides what becomes of each folder and what stands in the way, [`verify`] reads every batch,
//! [`transfer`] brings the folders over, [`adopt`] opens each and writes our metadata. Nothing is
//! changed before everything has been verified; nothing in the source is changed at all unless the
//! folders are moved.
//!
//! An import may be interrupted at any point and run again: a folder gets its final name once it is
//! whole and durable, and until the end a file keeps brokers away from the data directory
//! ([`conveyor_log::data_dir::IMPORT_FILE`]).
#![forbid(unsafe_code)]

pub mod adopt;
pub mod kraft;
pub mod plan;
pub mod source;
pub mod transfer;
pub mod verify;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use plan::{Mode, Options, Plan, Problem};

/// How an import gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A stage begins that will work through so many bytes.
    Begin {
        /// What is done: `verifying`, `copying`, `adopting`.
        stage: &'static str,
        /// How much there is to do.
        bytes: u64,
    },
    /// Work has begun on a partition.
    Partition(&'a str),
    /// So many more bytes are done.
    Bytes(u64),
}

/// Is told of every step; says `false` to stop.
pub type Progress<'a> = &'a mut dyn FnMut(Step<'_>) -> bool;

/// Why an import cannot go on. What was brought over so far stays; the import can be run again.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file or folder cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log engine refuses.
    #[error(transparent)]
    Open(#[from] conveyor_log::OpenError),
    /// A log or a data directory is not closed in order.
    #[error(transparent)]
    Log(#[from] conveyor_log::LogError),
    /// Our metadata cannot be written.
    #[error("cannot write the metadata log: {what}")]
    Metadata {
        /// Why.
        what: String,
    },
    /// A folder that was verified cannot be opened whole.
    #[error("{partition} is damaged: {what}")]
    Damaged {
        /// The partition.
        partition: String,
        /// What and where.
        what: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted; run the same command again to go on")]
    Interrupted,
}

impl ImportError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
