//! One log directory: lock, identity, checkpoints, pool of zero-filled segments, health.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::clock::Clock;
use crate::config::{DataDirConfig, LogConfig};
use crate::disk::Disk;
use crate::error::{DirectoryOffline, LogError, OpenError};
use crate::log::Log;
use crate::partition::TopicPartition;
use crate::recovery::RecoveryReport;

/// The file whose lock a process holds while it owns the directory.
pub(crate) const LOCK_FILE: &str = ".lock";

/// A partition's folder, found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLocation {
    /// The partition.
    pub partition: TopicPartition,
    /// The topic's id, if `partition.metadata` is there.
    pub topic_id: Option<Uuid>,
}

/// One log directory; a cheap handle, all clones mean the same directory.
#[derive(Debug, Clone)]
pub struct DataDir {}

impl DataDir {
    /// Opens (or founds) a data directory: takes its lock, checks whose it is, reads the checkpoints.
    /// Opens no partition.
    pub fn open(
        _disk: Arc<dyn Disk>,
        _clock: Arc<dyn Clock>,
        _path: &Path,
        _config: DataDirConfig,
    ) -> Result<Self, OpenError> {
        unimplemented!()
    }
    /// Its path.
    pub fn path(&self) -> &Path {
        unimplemented!()
    }
    /// `cluster.id` as in `meta.properties`.
    pub fn cluster_id(&self) -> &str {
        unimplemented!()
    }
    /// Whether the last process closed it in order.
    pub fn was_clean(&self) -> bool {
        unimplemented!()
    }
    /// Why it is offline, if it is.
    pub fn offline(&self) -> Option<DirectoryOffline> {
        unimplemented!()
    }
    /// The partitions that have a folder here, sorted.
    pub fn list(&self) -> Result<Vec<LogLocation>, OpenError> {
        unimplemented!()
    }
    /// Creates a partition and opens it.
    pub fn create_log(
        &self,
        _partition: &TopicPartition,
        _topic_id: Uuid,
        _config: LogConfig,
    ) -> Result<Log, OpenError> {
        unimplemented!()
    }
    /// Opens a partition; after an unclean stop, recovers it first.
    pub fn open_log(
        &self,
        _partition: &TopicPartition,
        _config: LogConfig,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        unimplemented!()
    }
    /// Removes a partition. Readers that still hold it see retriable errors or its last bytes.
    pub fn delete_log(&self, _log: Log) -> Result<(), LogError> {
        unimplemented!()
    }
    /// Fills the pool of zero-filled files up and writes zeros ahead of busy active segments. To be
    /// called from a background thread; returns whether anything was done.
    pub fn refill_pool(&self) -> Result<bool, DirectoryOffline> {
        unimplemented!()
    }
    /// Waits until there is something for [`Self::refill_pool`] to do, or a second has passed.
    pub fn wait_for_refill(&self) {
        unimplemented!()
    }
    /// Writes the checkpoints if they have changed; to be called about once a second.
    pub fn write_checkpoints(&self) -> Result<(), DirectoryOffline> {
        unimplemented!()
    }
    /// Clean shutdown, after every log was closed: checkpoints, marker, lock.
    pub fn close(self) -> Result<(), LogError> {
        unimplemented!()
    }
}
