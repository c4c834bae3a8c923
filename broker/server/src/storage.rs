//! The node's data directories and every log in them.
//!
//! Opens the directories at start, finds or creates the log of each partition that the metadata
//! names, follows changes of the metadata, and closes everything in order. It blocks on the disk:
//! async code calls it through `spawn_blocking`.
//!
//! A directory that cannot be opened at start keeps the node from starting: going on without it
//! would mean to create its partitions anew elsewhere, that is, to lose them without a word. A log
//! that cannot be opened takes only its partition offline, with the reason.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use conveyor_controller::{METADATA_TOPIC, MetadataImage, TopicConfig, TopicImage};
use conveyor_log::disk::Disk;
use conveyor_log::{Clock, DataDir, DataDirConfig, Log, LogError, OpenError, TopicPartition};
use conveyor_record::LeaderEpoch;
use parking_lot::Mutex;
use thiserror::Error;
use uuid::Uuid;

use crate::BrokerConfig;
use crate::metrics::Metrics;
use crate::partition::{
    Directory, DirectoryError, Partition, Partitions, Slot, TopicPartitions, log_config,
};

/// Why the node's storage cannot be used.
#[derive(Debug, Error)]
pub enum StorageError {
    /// A data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log of the metadata cannot be opened.
    #[error("cannot open the metadata log: {0}")]
    MetadataLog(#[source] OpenError),
    /// A data directory cannot be listed.
    #[error("cannot list a data directory: {0}")]
    List(#[source] OpenError),
    /// A folder of a topic that is gone cannot be moved out of the way.
    #[error("cannot move the stray folder {} out of the way: {source}", path.display())]
    Stray {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
}

/// The id of the metadata topic, Kafka's `METADATA_TOPIC_ID`.
const METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);
/// Threads that open logs at start; more do not help, recovery is bound by disk and cores.
const OPEN_THREADS_MAX: usize = 8;

/// All data directories and logs of the node.
#[derive(Debug)]
pub(crate) struct Storage {
    disk: Arc<dyn Disk>,
    directories: Vec<Arc<Directory>>,
    partitions: Partitions,
    topic_defaults: BTreeMap<String, String>,
    producer_id_expiration_ms: i64,
    /// Folders found at start of which no log is open yet.
    found: Mutex<HashMap<TopicPartition, Found>>,
}

#[derive(Debug, Clone)]
struct Found {
    directory: Arc<Directory>,
    topic_id: Option<Uuid>,
}

/// A log to be opened or created.
struct Wanted {
    partition: TopicPartition,
    topic_id: Uuid,
    leader_epoch: LeaderEpoch,
    config: TopicConfig,
}

impl Storage {
    /// Opens the data directories; no log yet except by [`Self::open_metadata_log`].
    pub(crate) fn open(
        config: &BrokerConfig,
        disk: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StorageError> {
        let mut directories = Vec::with_capacity(config.log_dirs.len());
        let mut cluster_id = (!config.cluster_id.is_empty()).then(|| config.cluster_id.clone());
        for path in founded_first(&config.log_dirs, disk.as_ref()) {
            let settings = data_dir_config(config, cluster_id.clone());
            let dir = DataDir::open(Arc::clone(disk), Arc::clone(clock), path, settings)
                .map_err(DirectoryError::Open)?;
            cluster_id = Some(dir.cluster_id().to_owned());
            tracing::info!(path = %path.display(), clean = dir.was_clean(), "data directory open");
            directories.push(Directory::start(
                dir,
                config.queued_max_request_bytes,
                Arc::clone(metrics),
            )?);
        }
        let mut found = HashMap::new();
        for directory in &directories {
            for location in directory.data_dir().list().map_err(StorageError::List)? {
                let folder = Found {
                    directory: Arc::clone(directory),
                    topic_id: location.topic_id,
                };
                if let Some(other) = found.insert(location.partition.clone(), folder) {
                    tracing::error!(
                        partition = %location.partition,
                        first = %other.directory.path().display(),
                        second = %directory.path().display(),
                        "partition lies in two data directories; the second is used"
                    );
                }
            }
        }
        Ok(Self {
            disk: Arc::clone(disk),
            directories,
            partitions: Partitions::default(),
            topic_defaults: config.topic_config_defaults().clone(),
            producer_id_expiration_ms: config.producer_id_expiration_ms,
            found: Mutex::new(found),
        })
    }

    /// The cluster that the directories belong to.
    pub(crate) fn cluster_id(&self) -> &str {
        self.directories
            .first()
            .map_or("", |directory| directory.data_dir().cluster_id())
    }

    /// The data directories.
    pub(crate) fn directories(&self) -> &[Arc<Directory>] {
        &self.directories
    }

    /// The partitions that clients may name.
    pub(crate) fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// The settings in force for a topic.
    pub(crate) fn topic_config(&self, topic: &TopicImage) -> TopicConfig {
        TopicConfig::resolve(&topic.configs, &self.topic_defaults)
    }

    /// Opens or founds the log that holds the metadata. It is always synced and never cleaned up.
    pub(crate) fn open_metadata_log(&self) -> Result<Arc<Partition>, StorageError> {
        let config = TopicConfig {
            retention_ms: None,
            retention_bytes: None,
            max_message_bytes: i32::MAX as usize,
            ..TopicConfig::default()
        };
        let wanted = Wanted {
            partition: TopicPartition::new(METADATA_TOPIC, 0),
            topic_id: METADATA_TOPIC_ID,
            leader_epoch: LeaderEpoch(0),
            config,
        };
        let found = self.found.lock().remove(&wanted.partition);
        self.open_or_create(&wanted, found.as_ref())
            .map_err(StorageError::MetadataLog)
    }

    /// Opens the logs of everything in the image, several at a time.
    pub(crate) fn open_all(&self, image: &MetadataImage) -> Result<(), StorageError> {
        let wanted: Vec<Wanted> = image
            .topics()
            .flat_map(|topic| self.wanted(topic, 0))
            .collect();
        let slots = self.open_in_parallel(&wanted)?;
        let mut slots = slots.into_iter();
        let topics = image.topics().map(|topic| {
            let own = slots.by_ref().take(topic.partitions.len()).collect();
            TopicPartitions::new(topic.name.as_str().into(), own)
        });
        self.partitions.insert(topics.collect::<Vec<_>>());
        for (partition, folder) in self.found.lock().drain() {
            let path = folder.directory.path().join(partition.folder_name());
            tracing::warn!(path = %path.display(), "folder of no known topic is left alone");
        }
        Ok(())
    }

    /// Makes the logs follow the metadata from `before` to `after`.
    pub(crate) fn apply(&self, before: &MetadataImage, after: &MetadataImage) {
        for topic in before.topics() {
            if after
                .topic(&topic.name)
                .is_none_or(|now| now.id != topic.id)
            {
                self.delete_topic(&topic.name);
            }
        }
        let changed: Vec<TopicPartitions> = after
            .topics()
            .filter(|topic| {
                before
                    .topic(&topic.name)
                    .is_none_or(|then| !Arc::ptr_eq(then, topic))
            })
            .map(|topic| self.update_topic(topic))
            .collect();
        if !changed.is_empty() {
            self.partitions.insert(changed);
        }
    }

    /// Ends all writes, closes every log, writes the clean markers.
    pub(crate) fn close(&self, metadata_log: &Partition) -> Result<(), LogError> {
        for directory in &self.directories {
            directory.stop_writer();
        }
        let mut result = Ok(());
        let mut keep_first = |outcome: Result<(), LogError>| {
            if let Err(error) = outcome {
                tracing::error!(%error, "not closed in order");
                if result.is_ok() {
                    result = Err(error);
                }
            }
        };
        for partition in self.partitions.online() {
            keep_first(partition.close().map_or(Ok(()), Log::close));
        }
        keep_first(metadata_log.close().map_or(Ok(()), Log::close));
        for directory in &self.directories {
            keep_first(directory.close());
        }
        result
    }

    fn wanted(&self, topic: &TopicImage, from: usize) -> Vec<Wanted> {
        let config = self.topic_config(topic);
        let name: Arc<str> = topic.name.as_str().into();
        topic
            .partitions
            .iter()
            .enumerate()
            .skip(from)
            .map(|(index, partition)| Wanted {
                partition: TopicPartition::new(Arc::clone(&name), index as i32),
                topic_id: topic.id,
                leader_epoch: partition.leader_epoch,
                config: config.clone(),
            })
            .collect()
    }

    fn open_in_parallel(&self, wanted: &[Wanted]) -> Result<Vec<Slot>, StorageError> {
        let mut found = Vec::with_capacity(wanted.len());
        for want in wanted {
            let folder = self.found.lock().remove(&want.partition);
            found.push(match folder {
                Some(folder) if folder.topic_id.is_some_and(|id| id != want.topic_id) => {
                    move_stray_away(self.disk.as_ref(), &folder, &want.partition)?;
                    None
                }
                other => other,
            });
        }
        let slots: Vec<Mutex<Option<Slot>>> = wanted.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let threads = wanted.len().div_ceil(4).clamp(1, OPEN_THREADS_MAX);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let index = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(want) = wanted.get(index)
                    {
                        let slot = self.slot(want, found[index].as_ref());
                        *slots[index].lock() = Some(slot);
                    }
                });
            }
        });
        let not_opened = || Slot::Offline("it was not opened".into());
        Ok(slots
            .into_iter()
            .map(|slot| slot.into_inner().unwrap_or_else(not_opened))
            .collect())
    }

    fn slot(&self, wanted: &Wanted, found: Option<&Found>) -> Slot {
        match self.open_or_create(wanted, found) {
            Ok(partition) => Slot::Online(partition),
            Err(error) => {
                tracing::error!(partition = %wanted.partition, %error, "partition is offline");
                Slot::Offline(error.to_string().into())
            }
        }
    }

    fn open_or_create(
        &self,
        wanted: &Wanted,
        found: Option<&Found>,
    ) -> Result<Arc<Partition>, OpenError> {
        let settings = log_config(&wanted.config, self.producer_id_expiration_ms);
        let mut fault = String::new();
        let (log, directory) = if let Some(found) = found {
            let dir = found.directory.data_dir();
            let (mut log, report) = dir.open_log(&wanted.partition, settings)?;
            report_recovery(&wanted.partition, &report);
            let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
            fault = damage.join("; ");
            sync_tail(&mut log);
            (log, &found.directory)
        } else {
            let directory = self.emptiest_directory();
            let dir = directory.data_dir();
            (
                dir.create_log(&wanted.partition, wanted.topic_id, settings)?,
                directory,
            )
        };
        directory.count_partitions(1);
        let config = wanted.config.clone();
        let directory = Arc::clone(directory);
        Ok(Partition::new(
            log,
            wanted.leader_epoch,
            config,
            directory,
            fault,
        ))
    }

    /// Where the next partition goes: the directory that has the fewest, offline ones last.
    fn emptiest_directory(&self) -> &Arc<Directory> {
        let load = |directory: &&Arc<Directory>| {
            (directory.offline().is_some(), directory.partition_count())
        };
        let emptiest = self.directories.iter().min_by_key(load);
        emptiest.unwrap_or(&self.directories[0])
    }

    fn update_topic(&self, topic: &TopicImage) -> TopicPartitions {
        let present = self.partitions.topic(&topic.name).ok();
        let mut slots = present.map_or_else(Vec::new, |present| present.slots().to_vec());
        let config = self.topic_config(topic);
        for slot in &slots {
            if let Slot::Online(partition) = slot
                && *partition.config() != config
            {
                partition.update_config(config.clone(), self.producer_id_expiration_ms);
            }
        }
        let wanted = self.wanted(topic, slots.len());
        slots.extend(wanted.iter().map(|want| self.slot(want, None)));
        TopicPartitions::new(topic.name.as_str().into(), slots)
    }

    fn delete_topic(&self, name: &str) {
        let Some(topic) = self.partitions.remove(name) else {
            return;
        };
        for partition in topic.online() {
            let Some(log) = partition.close() else {
                continue;
            };
            let directory = partition.directory();
            directory.count_partitions(-1);
            if let Err(error) = directory.data_dir().delete_log(log) {
                tracing::error!(partition = %partition.name(), %error, "folder is not removed");
            }
        }
    }
}

/// Directories that already belong to a cluster come first, so that new ones join theirs.
fn founded_first<'a>(paths: &'a [PathBuf], disk: &dyn Disk) -> Vec<&'a Path> {
    let mut paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    paths.sort_by_key(|path| !matches!(disk.info(&path.join("meta.properties")), Ok(Some(_))));
    paths
}

fn data_dir_config(config: &BrokerConfig, cluster_id: Option<String>) -> DataDirConfig {
    DataDirConfig {
        node_id: config.node_id,
        cluster_id,
        pool_files: config.segment_pool_files,
        pool_file_bytes: config.segment_pool_bytes,
        own_volume: config.own_volume,
        ..DataDirConfig::default()
    }
}

/// What recovery found above the last sync is synced before anybody is told of it.
fn sync_tail(log: &mut Log) {
    let reader = log.reader();
    if reader.synced_offset() < reader.log_end_offset()
        && let Err(error) = log.sync()
    {
        tracing::error!(partition = %log.partition(), %error, "recovered tail is not synced");
    }
}

fn report_recovery(partition: &TopicPartition, report: &conveyor_log::RecoveryReport) {
    if !report.clean {
        tracing::info!(
            %partition,
            bytes_scanned = report.bytes_scanned,
            bytes_truncated = report.bytes_truncated,
            log_end_offset = %report.log_end_offset,
            millis = report.duration.as_millis() as u64,
            "log recovered"
        );
    }
    for damage in &report.damage {
        tracing::error!(%damage, "log is damaged; what lies before and after is served");
    }
}

/// A folder of a deleted topic whose name has come back: kept under another name, so that nothing
/// is lost if it was not meant to be deleted.
fn move_stray_away(
    disk: &dyn Disk,
    folder: &Found,
    partition: &TopicPartition,
) -> Result<(), StorageError> {
    let path = folder.directory.path().join(partition.folder_name());
    let id = folder.topic_id.unwrap_or_default().simple();
    let aside = folder
        .directory
        .path()
        .join(format!("{}.{id}-stray", partition.folder_name()));
    tracing::warn!(from = %path.display(), to = %aside.display(), "stray folder moved aside");
    disk.rename(&path, &aside)
        .map_err(|source| StorageError::Stray { path, source })
}
