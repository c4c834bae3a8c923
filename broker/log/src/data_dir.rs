//! One log directory: lock, identity, checkpoints, pool of zero-filled segments, health.
//!
//! ```text
//! .lock                               held by the process that owns the directory
//! meta.properties                     node id, cluster id
//! .kafka_cleanshutdown                the last process closed every log; removed at start
//! recovery-point-offset-checkpoint    below it, recovery does not look
//! log-start-offset-checkpoint         delete-records and retention
//! cleaner-offset-checkpoint           how far compaction has come
//! conveyor-gap-offset-checkpoint      below it, offsets may have gaps
//! conveyor-import                     an import is not finished: nobody else opens the directory
//! .pool-<n>                           zero-filled files that become segments
//! <topic>-<partition>/                one folder a partition
//! ```
//! Opens no partition by itself and reads no segment: a start with many partitions costs a few
//! system calls each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::checkpoint::{
    decode_uuid, encode_partition_metadata, encode_properties, encode_uuid,
    parse_partition_metadata, parse_properties, read_text,
};
use crate::clock::Clock;
use crate::config::{DataDirConfig, LogConfig};
use crate::disk::{DirLock, Disk, write_atomically};
use crate::error::{DirectoryFull, DirectoryOffline, DiskError, LogError, OpenError};
use crate::flusher::CommitQueue;
use crate::folder;
use crate::health::Health;
use crate::index::MapBudget;
use crate::log::Log;
use crate::partition::{TopicPartition, is_valid_topic_name};
use crate::recovery::RecoveryReport;
use crate::segment::SegmentHome;
use crate::shared::LogShared;

mod checkpoints;
mod pool;

pub(crate) use checkpoints::Checkpoints;
pub(crate) use pool::Pool;

/// The file whose lock a process holds while it owns the directory.
pub(crate) const LOCK_FILE: &str = ".lock";
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
const META_FILE: &str = "meta.properties";
/// There as long as an import of another broker's folders is not finished.
pub const IMPORT_FILE: &str = "conveyor-import";
pub(crate) const PARTITION_METADATA_FILE: &str = "partition.metadata";
/// Folders of deleted partitions end so until their files are gone.
const DELETED_SUFFIX: &str = "-delete";
/// Folders that stood in the way of another topic of the same name end so, for good.
const STRAY_SUFFIX: &str = "-stray";
/// Longest name of a folder that every file system takes, in bytes.
const FOLDER_NAME_LENGTH_MAX: usize = 255;

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
pub struct DataDir {
    pub(crate) shared: Arc<DirShared>,
}

/// What a data directory's logs, flusher and pool share.
#[derive(Debug)]
pub(crate) struct DirShared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) path: PathBuf,
    pub(crate) config: DataDirConfig,
    pub(crate) health: Health,
    pub(crate) maps: Arc<MapBudget>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) pool: Pool,
    pub(crate) commits: CommitQueue,
    /// Bytes appended above the recovery points of all logs.
    pub(crate) unsaved_bytes: AtomicU64,
    cluster_id: String,
    directory_id: Uuid,
    was_clean: bool,
    open_logs: Mutex<BTreeMap<TopicPartition, Weak<LogShared>>>,
    /// Logs that were dropped without [`Log::close`]: the shutdown was not clean then.
    abandoned: AtomicU64,
    lock: Mutex<Option<Box<dyn DirLock>>>,
}

impl DataDir {
    /// Opens (or founds) a data directory: takes its lock, checks whose it is, reads the checkpoints.
    /// Opens no partition.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        path: &Path,
        config: DataDirConfig,
    ) -> Result<Self, OpenError> {
        disk.create_dir(path)
            .map_err(|error| DiskError::new("create", path, error))?;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            disk.sync_dir(parent)
                .map_err(|error| DiskError::new("sync", parent, error))?;
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = disk
            .lock(&lock_path)
            .map_err(|error| DiskError::new("lock", &lock_path, error))?;
        let Some(lock) = lock else {
            return Err(OpenError::Locked {
                directory: path.to_path_buf(),
            });
        };
        // What a process that was killed has renamed may be visible and not yet durable.
        disk.sync_dir(path)
            .map_err(|error| DiskError::new("sync", path, error))?;
        let import = disk
            .info(&path.join(IMPORT_FILE))
            .map_err(|error| DiskError::new("inspect", path, error))?;
        if import.is_some() && !config.importing {
            return Err(OpenError::ImportUnfinished {
                directory: path.to_path_buf(),
            });
        }
        let (cluster_id, directory_id) = check_identity(&*disk, path, &config)?;
        let was_clean = take_clean_marker(&*disk, path)?;
        remove_deleted(&*disk, path)?;
        let checkpoints = Checkpoints::read(&*disk, path)?;
        let pool = Pool::open(&*disk, path, &config)
            .map_err(|error| DiskError::new("list", path, error))?;
        if config.own_volume {
            // Opens the descriptor that later syncs of the volume report errors on.
            disk.sync_volume(path)
                .map_err(|error| DiskError::new("open", path, error))?;
        }
        Ok(Self {
            shared: Arc::new(DirShared {
                health: Health::new(path),
                maps: MapBudget::new(config.index_maps_max),
                checkpoints,
                pool,
                commits: CommitQueue::default(),
                unsaved_bytes: AtomicU64::new(0),
                cluster_id,
                directory_id,
                was_clean,
                open_logs: Mutex::new(BTreeMap::new()),
                abandoned: AtomicU64::new(0),
                lock: Mutex::new(Some(lock)),
                disk,
                clock,
                path: path.to_path_buf(),
                config,
            }),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// `cluster.id` as in `meta.properties`.
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    /// `directory.id` as in `meta.properties`; nil if it is not there.
    pub fn directory_id(&self) -> Uuid {
        self.shared.directory_id
    }

    /// Whether the last process closed it in order.
    pub fn was_clean(&self) -> bool {
        self.shared.was_clean
    }

    /// Why it is offline, if it is.
    pub fn offline(&self) -> Option<DirectoryOffline> {
        self.shared.health.offline().cloned()
    }

    /// Bytes that can still be written on its volume.
    pub fn available_bytes(&self) -> Result<u64, DiskError> {
        let path = &self.shared.path;
        self.shared
            .disk
            .available_bytes(path)
            .map_err(|error| DiskError::new("inspect", path, error))
    }

    /// The partitions that have a folder here, sorted.
    pub fn list(&self) -> Result<Vec<LogLocation>, OpenError> {
        let path = &self.shared.path;
        let entries = self
            .shared
            .disk
            .list(path)
            .map_err(|error| DiskError::new("list", path, error))?;
        let mut found = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            if let Some(partition) = TopicPartition::from_folder_name(&entry.name) {
                let topic_id = read_topic_id(&*self.shared.disk, &path.join(&entry.name))?;
                found.push(LogLocation {
                    partition,
                    topic_id,
                });
            }
        }
        found.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(found)
    }

    /// The folder of one partition, `None` if there is none.
    pub fn find(&self, partition: &TopicPartition) -> Result<Option<LogLocation>, OpenError> {
        let folder = self.shared.path.join(partition.folder_name());
        if self.shared.folder_exists(&folder)? {
            Ok(Some(LogLocation {
                partition: partition.clone(),
                topic_id: read_topic_id(&*self.shared.disk, &folder)?,
            }))
        } else {
            Ok(None)
        }
    }

    /// Writes the topic's id into the folder of a partition that is not open: a crash while it was
    /// created may have left it without. Durable when this returns.
    pub fn set_topic_id(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
    ) -> Result<(), OpenError> {
        let dir = &self.shared;
        dir.health.check()?;
        let path = self.home(partition).folder.join(PARTITION_METADATA_FILE);
        write_atomically(&*dir.disk, &path, &encode_partition_metadata(topic_id)).map_err(
            |error| {
                dir.health
                    .write_failed(DiskError::new("write", &path, error))
            },
        )?;
        Ok(())
    }

    /// Moves the folder of a partition that is not open out of the way, so that its name is free
    /// again. Nothing in it is lost, and nothing of it is found by [`Self::list`] any more. Returns
    /// where it lies now; durable when this returns.
    pub fn move_aside(&self, partition: &TopicPartition) -> Result<PathBuf, OpenError> {
        let dir = &self.shared;
        dir.health.check()?;
        if self.is_open(partition) {
            return Err(OpenError::Exists {
                partition: partition.clone(),
            });
        }
        let folder = dir.path.join(partition.folder_name());
        let aside = dir.path.join(aside_name(partition, STRAY_SUFFIX));
        dir.disk
            .rename(&folder, &aside)
            .map_err(|error| DiskError::new("move aside", &folder, error))?;
        dir.disk.sync_dir(&dir.path).map_err(|error| {
            dir.health
                .write_failed(DiskError::new("sync", &dir.path, error))
        })?;
        dir.checkpoints.forget(partition);
        dir.write_checkpoints()?;
        Ok(aside)
    }

    /// Creates a partition and opens it. Durable when this returns.
    pub fn create_log(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        config: LogConfig,
    ) -> Result<Log, OpenError> {
        if !is_valid_topic_name(&partition.topic)
            || partition.partition < 0
            || partition.folder_name().len() > FOLDER_NAME_LENGTH_MAX
        {
            return Err(OpenError::InvalidTopicName {
                name: partition.to_string(),
            });
        }
        let dir = &self.shared;
        dir.health.check()?;
        let home = self.home(partition);
        if dir.folder_exists(&home.folder)? {
            return Err(OpenError::Exists {
                partition: partition.clone(),
            });
        }
        // A partition of that name may have been deleted while its offsets stood in a checkpoint.
        dir.checkpoints.forget(partition);
        dir.write_checkpoints()?;
        let created = folder::create(&home, topic_id).and_then(|()| {
            dir.disk
                .sync_dir(&dir.path)
                .map_err(|error| DiskError::new("sync", &dir.path, error))
        });
        created.map_err(|error| dir.health.write_failed(error))?;
        self.open_log(partition, config).map(|(log, _)| log)
    }

    /// Opens a partition; after an unclean stop, recovers it first.
    pub fn open_log(
        &self,
        partition: &TopicPartition,
        config: LogConfig,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        let dir = &self.shared;
        dir.health.check()?;
        let home = self.home(partition);
        let info = dir
            .disk
            .info(&home.folder)
            .map_err(|error| DiskError::new("inspect", &home.folder, error))?;
        if info.is_none_or(|info| !info.is_dir) {
            return Err(OpenError::NotFound {
                partition: partition.clone(),
                directory: dir.path.clone(),
            });
        }
        if self.is_open(partition) {
            return Err(OpenError::Exists {
                partition: partition.clone(),
            });
        }
        let (log, report) = Log::open(dir, home, config)?;
        let mine = Arc::downgrade(log.shared());
        let other = dir.open_logs.lock().insert(partition.clone(), mine);
        let other_is_open = other
            .and_then(|log| log.upgrade())
            .is_some_and(|log| !log.is_closed());
        assert!(
            !other_is_open,
            "{partition} was opened twice at the same time"
        );
        Ok((log, report))
    }

    /// Removes a partition. Readers that still hold it see retriable errors or its last bytes. If its
    /// folder cannot be moved away ([`LogError::NotRemoved`]), the log is closed all the same, and
    /// [`Self::move_aside`] can be tried later; other partitions are not touched by that.
    pub fn delete_log(&self, log: Log) -> Result<(), LogError> {
        let dir = &self.shared;
        let partition = log.partition().clone();
        let folder = log.shared().home.folder.clone();
        log.discard();
        dir.open_logs.lock().remove(&partition);
        dir.checkpoints.forget(&partition);
        let doomed = dir.path.join(aside_name(&partition, DELETED_SUFFIX));
        dir.disk
            .rename(&folder, &doomed)
            .map_err(|error| LogError::NotRemoved {
                partition,
                source: DiskError::new("delete", &folder, error),
            })?;
        dir.disk.sync_dir(&dir.path).map_err(|error| {
            dir.health
                .write_failed(DiskError::new("sync", &dir.path, error))
        })?;
        // From here on it is gone; what is left over is removed at the next start.
        if let Err(error) = remove_folder(&*dir.disk, &doomed) {
            tracing::warn!(%error, "cannot remove the files of a deleted partition yet");
        }
        Ok(())
    }

    /// Fills the pool of zero-filled files up. To be called from a background thread, never from one
    /// that appends; returns whether a file was made.
    pub fn refill_pool(&self) -> Result<bool, DirectoryOffline> {
        self.shared.pool.refill(&self.shared)
    }

    /// Waits until the pool wants a file, or a second has passed.
    pub fn wait_for_refill(&self) {
        self.shared.pool.wait();
    }

    /// Ends [`Self::wait_for_refill`] at once, so that the thread that waits can stop.
    pub fn wake_refill(&self) {
        self.shared.pool.wake();
    }

    /// Writes the checkpoints if they have changed; to be called about once a second.
    pub fn write_checkpoints(&self) -> Result<(), DirectoryOffline> {
        self.shared.write_checkpoints()
    }

    /// Clean shutdown, after every log was closed: checkpoints, marker, lock. If a log was not
    /// closed, the marker is left out and the next start recovers.
    pub fn close(self) -> Result<(), LogError> {
        let dir = &self.shared;
        dir.health.check()?;
        dir.pool.remove_files(&*dir.disk);
        dir.checkpoints
            .write(&*dir.disk)
            .map_err(|error| dir.health.write_failed(error))?;
        let still_open = dir
            .open_logs
            .lock()
            .values()
            .any(|log| log.upgrade().is_some_and(|log| !log.is_closed()));
        let abandoned = dir.abandoned.load(Ordering::Relaxed);
        if still_open || abandoned > 0 {
            tracing::warn!(directory = %dir.path.display(), abandoned, "not every log was closed: the next start recovers");
        } else {
            let marker = dir.path.join(CLEAN_SHUTDOWN_FILE);
            write_atomically(&*dir.disk, &marker, b"").map_err(|error| {
                dir.health
                    .write_failed(DiskError::new("write", &marker, error))
            })?;
        }
        dir.lock.lock().take();
        Ok(())
    }

    fn is_open(&self, partition: &TopicPartition) -> bool {
        let open_logs = self.shared.open_logs.lock();
        open_logs
            .get(partition)
            .and_then(Weak::upgrade)
            .is_some_and(|log| !log.is_closed())
    }

    fn home(&self, partition: &TopicPartition) -> Arc<SegmentHome> {
        Arc::new(SegmentHome {
            disk: Arc::clone(&self.shared.disk),
            maps: Arc::clone(&self.shared.maps),
            partition: partition.clone(),
            folder: self.shared.path.join(partition.folder_name()),
            gaps_below: AtomicI64::new(
                self.shared
                    .checkpoints
                    .gap_offset(partition)
                    .unwrap_or_default()
                    .value(),
            ),
        })
    }
}

impl DirShared {
    pub(crate) fn was_clean(&self) -> bool {
        self.was_clean
    }

    fn folder_exists(&self, folder: &Path) -> Result<bool, DiskError> {
        self.disk
            .info(folder)
            .map(|info| info.is_some())
            .map_err(|error| DiskError::new("inspect", folder, error))
    }

    pub(crate) fn write_checkpoints(&self) -> Result<(), DirectoryOffline> {
        self.health.check()?;
        match self.checkpoints.write(&*self.disk) {
            Ok(()) => Ok(()),
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "checkpoint put off");
                Ok(())
            }
            Err(error) => Err(self.health.fail(error)),
        }
    }

    /// Gives the ready files of the pool up, if it is the volume that is full: they are a comfort, and
    /// what waits for room is not. Whether there were any, so that trying again makes sense.
    pub(crate) fn make_room(&self, full: &DirectoryFull) -> bool {
        let made = full.source.is_full() && self.pool.remove_files(&*self.disk);
        if made {
            tracing::warn!(directory = %self.path.display(), "volume is full: the pool's files are given up");
        }
        made
    }

    /// A log was dropped without being closed.
    pub(crate) fn note_abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads `meta.properties`, or writes it into an empty directory. Returns the cluster's id and the
/// directory's.
fn check_identity(
    disk: &dyn Disk,
    path: &Path,
    config: &DataDirConfig,
) -> Result<(String, Uuid), OpenError> {
    let meta_path = path.join(META_FILE);
    let wrong = |field, found: &str, expected: String| OpenError::WrongIdentity {
        directory: path.to_path_buf(),
        field,
        found: found.to_owned(),
        expected,
    };
    if let Some(text) = read_text(disk, &meta_path)? {
        let meta = parse_properties(&text, '=');
        let node_id = meta.get("node.id").map_or("", String::as_str);
        if node_id != config.node_id.to_string() {
            return Err(wrong("node.id", node_id, config.node_id.to_string()));
        }
        let cluster_id = meta.get("cluster.id").cloned().unwrap_or_default();
        if let Some(expected) = config
            .cluster_id
            .as_ref()
            .filter(|expected| **expected != cluster_id)
        {
            return Err(wrong("cluster.id", &cluster_id, expected.clone()));
        }
        let directory_id = meta.get("directory.id").and_then(|id| decode_uuid(id));
        return Ok((cluster_id, directory_id.unwrap_or_default()));
    }
    let cluster_id = config
        .cluster_id
        .clone()
        .unwrap_or_else(|| encode_uuid(Uuid::new_v4()));
    let directory_id = Uuid::new_v4();
    let node_id = config.node_id.to_string();
    let meta = encode_properties(&[
        ("version", "1"),
        ("cluster.id", &cluster_id),
        ("node.id", &node_id),
        ("directory.id", &encode_uuid(directory_id)),
    ]);
    write_atomically(disk, &meta_path, &meta)
        .map_err(|error| DiskError::new("write", &meta_path, error))?;
    Ok((cluster_id, directory_id))
}

/// Whether the marker of a clean shutdown is there; it is removed, durably, before anything else is
/// written.
fn take_clean_marker(disk: &dyn Disk, path: &Path) -> Result<bool, OpenError> {
    let marker = path.join(CLEAN_SHUTDOWN_FILE);
    match disk.remove_file(&marker) {
        Ok(()) => {
            disk.sync_dir(path)
                .map_err(|error| DiskError::new("sync", path, error))?;
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::new("remove", &marker, error).into()),
    }
}

/// A new name for the folder of a partition that is to be out of the way. As in Kafka, the topic's
/// part is cut where the whole would be longer than a name may be.
fn aside_name(partition: &TopicPartition, suffix: &str) -> String {
    let id = encode_uuid(Uuid::new_v4());
    let rest = format!("-{}.{id}{suffix}", partition.partition);
    let kept = FOLDER_NAME_LENGTH_MAX - rest.len();
    let topic = partition.topic.get(..kept).unwrap_or(&partition.topic);
    format!("{topic}{rest}")
}

/// Finishes deletions that the last process did not finish.
fn remove_deleted(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    let entries = disk
        .list(path)
        .map_err(|error| DiskError::new("list", path, error))?;
    for entry in entries {
        if entry.is_dir && entry.name.ends_with(DELETED_SUFFIX) {
            remove_folder(disk, &path.join(entry.name))?;
        }
    }
    Ok(())
}

fn remove_folder(disk: &dyn Disk, folder: &Path) -> Result<(), DiskError> {
    let failed = |error| DiskError::new("remove", folder, error);
    for entry in disk.list(folder).map_err(failed)? {
        disk.remove_file(&folder.join(entry.name)).map_err(failed)?;
    }
    disk.remove_dir(folder).map_err(failed)
}

/// The topic id of a partition's folder, if its metadata file is there and readable.
pub(crate) fn read_topic_id(disk: &dyn Disk, folder: &Path) -> Result<Option<Uuid>, OpenError> {
    let path = folder.join(PARTITION_METADATA_FILE);
    match read_text(disk, &path) {
        Ok(text) => Ok(text.and_then(|text| parse_partition_metadata(&text))),
        Err(OpenError::InvalidFile { path, what }) => {
            tracing::error!(path = %path.display(), what, "topic id is lost");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
