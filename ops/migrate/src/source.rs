//! A log directory of Kafka's: whose it is, whether its broker has stopped in order, what lies in it.
//! Nothing is written here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use conveyor_log::TopicPartition;
use conveyor_log::checkpoint::{OffsetCheckpoint, decode_uuid, parse_properties, read_offsets};
use conveyor_log::disk::OsDisk;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use uuid::Uuid;

use crate::ImportError;

const META_FILE: &str = "meta.properties";
const LOCK_FILE: &str = ".lock";
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
/// Ends the names of files that compaction is about to put in place.
const SWAP: &str = ".swap";
const PARTITION_METADATA_FILE: &str = "partition.metadata";

/// A log directory as it was found.
#[derive(Debug)]
pub struct KafkaLogDir {
    /// Its path.
    pub path: PathBuf,
    /// `meta.properties`; `None` if there is none.
    pub meta: Option<MetaProperties>,
    /// A process holds its lock.
    pub is_locked: bool,
    /// Its broker has stopped in order.
    pub is_clean: bool,
    /// Its folders, by name.
    pub folders: Vec<KafkaFolder>,
    /// Below these offsets every log was synced.
    pub recovery_points: OffsetCheckpoint,
    /// Where logs begin whose first records were deleted.
    pub log_starts: OffsetCheckpoint,
    /// How far compaction has come.
    pub clean_offsets: OffsetCheckpoint,
}

/// Whose a log directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// 0 in the time of `ZooKeeper`, 1 with `KRaft`.
    pub version: i32,
    /// The cluster's id.
    pub cluster_id: String,
    /// The node's number.
    pub node_id: i32,
    /// The directory's own id, if it has one.
    pub directory_id: Option<String>,
}

/// A folder in a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaFolder {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: FolderKind,
    /// Bytes of its files.
    pub bytes: u64,
    /// Files that say that compaction was interrupted while it replaced segments.
    pub swaps: Vec<String>,
}

/// What a folder in a log directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderKind {
    /// A partition.
    Partition {
        /// Which.
        partition: TopicPartition,
        /// The topic's id, if `partition.metadata` tells it.
        topic_id: Option<Uuid>,
    },
    /// A replica on its way from another directory of the same broker.
    Future,
    /// A partition that was deleted; its files were to be removed.
    Deleted,
    /// A replica that its broker found not to belong to it.
    Stray,
    /// Something else.
    Other,
}

impl KafkaLogDir {
    /// Looks at the directory at `path`.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let checkpoint = |name: &str| read_checkpoint(&path.join(name));
        let mut folders = Vec::new();
        let entries = fs::read_dir(path).map_err(ImportError::io("list", path))?;
        for entry in entries {
            let entry = entry.map_err(ImportError::io("list", path))?;
            let kind = entry
                .file_type()
                .map_err(ImportError::io("inspect", &entry.path()))?;
            if kind.is_dir() {
                folders.push(read_folder(&entry.path())?);
            }
        }
        folders.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            meta: read_meta(path)?,
            is_locked: is_locked(&path.join(LOCK_FILE))?,
            is_clean: path.join(CLEAN_SHUTDOWN_FILE).exists(),
            recovery_points: checkpoint("recovery-point-offset-checkpoint")?,
            log_starts: checkpoint("log-start-offset-checkpoint")?,
            clean_offsets: checkpoint("cleaner-offset-checkpoint")?,
            path: path.to_owned(),
            folders,
        })
    }
}

fn read_meta(directory: &Path) -> Result<Option<MetaProperties>, ImportError> {
    let path = directory.join(META_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImportError::io("read", &path)(error)),
    };
    let properties: BTreeMap<String, String> = parse_properties(&text, '=');
    let number = |name: &str| properties.get(name).and_then(|text| text.parse().ok());
    let node_id = number("node.id").or_else(|| number("broker.id"));
    Ok(node_id.map(|node_id| MetaProperties {
        version: number("version").unwrap_or(0),
        cluster_id: properties.get("cluster.id").cloned().unwrap_or_default(),
        node_id,
        directory_id: properties.get("directory.id").cloned(),
    }))
}

/// Whether a process holds the lock, as Java's `FileChannel.tryLock` does: by `fcntl`, unlike ours.
fn is_locked(path: &Path) -> Result<bool, ImportError> {
    let writable = OpenOptions::new().read(true).write(true).open(path);
    let (file, operation) = match writable {
        Ok(file) => (file, FlockOperation::NonBlockingLockExclusive),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        // A volume that cannot be written to can still be locked for reading.
        Err(_) => {
            let file = File::open(path).map_err(ImportError::io("open", path))?;
            (file, FlockOperation::NonBlockingLockShared)
        }
    };
    match rustix::fs::fcntl_lock(&file, operation) {
        Ok(()) => Ok(false),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(true),
        Err(error) => Err(ImportError::io("lock", path)(error.into())),
    }
}

/// Kafka leaves a checkpoint empty until it has something to put there; one that is damaged is worth as
/// much as one that is missing: more is read at the first start.
fn read_checkpoint(path: &Path) -> Result<OffsetCheckpoint, ImportError> {
    match read_offsets(&*OsDisk::shared(), path) {
        Ok(offsets) => Ok(offsets),
        Err(conveyor_log::OpenError::InvalidFile { .. }) => Ok(OffsetCheckpoint::new()),
        Err(error) => Err(error.into()),
    }
}

fn read_folder(path: &Path) -> Result<KafkaFolder, ImportError> {
    let name = path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let mut bytes = 0;
    let mut swaps = Vec::new();
    for entry in fs::read_dir(path).map_err(ImportError::io("list", path))? {
        let entry = entry.map_err(ImportError::io("list", path))?;
        let info = entry
            .metadata()
            .map_err(ImportError::io("inspect", &entry.path()))?;
        bytes += info.len();
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.ends_with(SWAP) {
            swaps.push(file);
        }
    }
    let kind = match TopicPartition::from_folder_name(&name) {
        Some(partition) => FolderKind::Partition {
            topic_id: read_topic_id(path)?,
            partition,
        },
        None if name.ends_with("-future") => FolderKind::Future,
        None if name.ends_with("-delete") => FolderKind::Deleted,
        None if name.ends_with("-stray") => FolderKind::Stray,
        None => FolderKind::Other,
    };
    Ok(KafkaFolder {
        name,
        kind,
        bytes,
        swaps,
    })
}

fn read_topic_id(folder: &Path) -> Result<Option<Uuid>, ImportError> {
    let path = folder.join(PARTITION_METADATA_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = parse_properties(&text, ':').remove("topic_id");
            Ok(id.and_then(|id| decode_uuid(&id)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImportError::io("read", &path)(error)),
    }
}
