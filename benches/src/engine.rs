//! The cases of the engine: append, group commit, read, look-up, recovery.
//!
//! Each engine run starts from a data directory of its own with one pool file, zero-filled and
//! synced beforehand, as the broker's pool has them; the raw run beside it writes into a file made
//! the same way. Opening, preparing and removing lie outside what is measured.

pub mod append;
pub mod group_commit;
pub mod read;
pub mod recovery;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use conveyor_log::disk::OsDisk;
use conveyor_log::{
    AppendBatch, DataDir, DataDirConfig, Log, LogConfig, SystemClock, TopicPartition,
};
use conveyor_record::{Codec, Decompressor, LeaderEpoch, validate_produce};
use tempfile::TempDir;
use uuid::Uuid;

use crate::events::{self, produce_rules};

/// The epoch under which the benches append.
const EPOCH: LeaderEpoch = LeaderEpoch(0);

/// Different batches of one size that runs take in turn, so that no run writes one hot buffer.
const BATCH_VARIETY: u64 = 16;

/// Batches of at most `size` bytes for a run.
///
/// # Errors
/// If `size` has no room for an event.
pub fn batches(size: usize) -> Result<Vec<Bytes>> {
    (0..BATCH_VARIETY)
        .map(|n| Ok(events::batch(size, Codec::None, n)?))
        .collect()
}

/// Bytes that `count` batches have, taken in turn.
pub fn total_size(batches: &[Bytes], count: usize) -> u64 {
    let sizes = batches.iter().cycle().take(count);
    sizes.map(|batch| batch.len() as u64).sum()
}

/// A data directory in a folder of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct Rig {
    dir: DataDir,
    folder: TempDir,
}

impl Rig {
    /// Founds a data directory in `parent` and fills its pool.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(parent: &Path, config: DataDirConfig) -> Result<Self> {
        let folder = TempDir::with_prefix_in("engine-", parent)?;
        let dir = open_dir(folder.path(), config)?;
        while dir.refill_pool()? {}
        Ok(Self { dir, folder })
    }

    /// The directory.
    pub const fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Creates the partition that the benches write to.
    ///
    /// # Errors
    /// Of the engine.
    pub fn create_log(&self) -> Result<Log> {
        let config = log_config();
        Ok(self.dir.create_log(&partition(), Uuid::new_v4(), config)?)
    }

    /// The file of the partition's first segment.
    pub fn first_segment(&self) -> PathBuf {
        let partition = self.folder.path().join(partition().folder_name());
        partition.join("00000000000000000000.log")
    }

    /// Lets go of the directory as a killed process does: nothing is closed in order. The caller has
    /// dropped the log.
    pub fn kill(self) -> TempDir {
        self.folder
    }
}

/// Opens a data directory that is there.
///
/// # Errors
/// Of the engine.
pub fn open_dir(path: &Path, config: DataDirConfig) -> Result<DataDir> {
    let clock = Arc::new(SystemClock::default());
    DataDir::open(OsDisk::shared(), clock, path, config).context("open the data directory")
}

/// The broker's settings, but with one zero-filled file of `prepared` bytes in the pool, for the
/// first segment.
pub fn data_dir_config(prepared: u64) -> DataDirConfig {
    DataDirConfig {
        pool_files: usize::from(prepared > 0),
        pool_file_bytes: prepared,
        pool_bytes_max: prepared,
        ..DataDirConfig::default()
    }
}

/// The same without the syncs that move the recovery point, for cases that run without a flusher.
pub fn without_flusher(prepared: u64) -> DataDirConfig {
    DataDirConfig {
        recovery_bytes_max: u64::MAX,
        ..data_dir_config(prepared)
    }
}

/// Settings of the log: defaults, except that the largest batch here is allowed.
pub fn log_config() -> LogConfig {
    LogConfig {
        max_message_bytes: produce_rules().max_message_bytes,
        ..LogConfig::default()
    }
}

/// The partition that the benches write to.
pub fn partition() -> TopicPartition {
    TopicPartition::new("bench", 0)
}

/// Validates a batch as the broker does when a producer sends it.
///
/// # Errors
/// None for the batches of this crate.
pub fn validated(batch: &Bytes, decompressor: &mut Decompressor) -> Result<AppendBatch> {
    Ok(AppendBatch {
        bytes: batch.clone(),
        validated: validate_produce(batch, &produce_rules(), decompressor)?,
    })
}

/// Appends `count` batches, taken in turn, one at a time, and says how many bytes that were.
///
/// # Errors
/// Of the engine.
pub fn append_all(log: &mut Log, batches: &[Bytes], count: usize) -> Result<u64> {
    let mut decompressor = Decompressor::new();
    let mut bytes = 0;
    for batch in batches.iter().cycle().take(count) {
        let append = validated(batch, &mut decompressor)?;
        for result in log.append_as_leader(&[append], EPOCH) {
            result?;
        }
        bytes += batch.len() as u64;
    }
    Ok(bytes)
}
