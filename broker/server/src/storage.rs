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

use conveyor_controller::{
    METADATA_TOPIC, METADATA_TOPIC_ID, MetadataImage, TopicConfig, TopicImage,
};
use conveyor_log::disk::Disk;
use conveyor_log::{Clock, DataDir, DataDirConfig, Log, LogError, OpenError, TopicPartition};
use conveyor_record::LeaderEpoch;
use parking_lot::Mutex;
use thiserror::Error;
use uuid::Uuid;

use crate::BrokerConfig;
use crate::fan_out::fan_out;
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
    #[error("cannot move a stray folder out of the way: {0}")]
    Stray(#[source] OpenError),
}

/// All data directories and logs of the node.
#[derive(Debug)]
pub(crate) struct Storage {
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
        let slots = self.open_found(wanted)?;
        let mut slots = slots.into_iter();
        let topics = image.topics().map(|topic| {
            let own = slots.by_ref().take(topic.partitions.len()).collect();
            TopicPartitions::new(topic.name.as_str().into(), own)
        });
        self.partitions.insert(topics.collect::<Vec<_>>());
        // What is left is of topics that are gone: the node died while it deleted them. Under their
        // names they would be in the way of the next topic that is called so.
        let strays: Vec<_> = self.found.lock().drain().collect();
        for (partition, folder) in strays {
            if let Err(error) = move_stray_away(&folder.directory, &partition) {
                tracing::error!(%partition, %error, "folder of no known topic stays where it is");
            }
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
        let changed: Vec<&Arc<TopicImage>> = after
            .topics()
            .filter(|topic| {
                let then = before.topic(&topic.name);
                then.is_none_or(|then| !Arc::ptr_eq(then, topic))
            })
            .collect();
        if !changed.is_empty() {
            self.update_topics(&changed);
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
        let close = |partition: Arc<Partition>| partition.close().map_or(Ok(()), Log::close);
        for closed in fan_out(self.partitions.online(), close) {
            keep_first(closed);
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

    /// Finds the folder of each log and opens them all.
    fn open_found(&self, wanted: Vec<Wanted>) -> Result<Vec<Slot>, StorageError> {
        let mut places = Vec::with_capacity(wanted.len());
        for want in wanted {
            let mut folder = self.found.lock().remove(&want.partition);
            if let Some(found) = &folder
                && found.topic_id.is_some_and(|id| id != want.topic_id)
            {
                move_stray_away(&found.directory, &want.partition).map_err(StorageError::Stray)?;
                folder = None;
            }
            places.push((want, folder));
        }
        Ok(fan_out(places, |(want, folder)| {
            self.slot(&want, folder.as_ref())
        }))
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
            if found.topic_id.is_none() {
                dir.set_topic_id(&wanted.partition, wanted.topic_id)?;
            }
            let (mut log, report) = dir.open_log(&wanted.partition, settings)?;
            report_recovery(&wanted.partition, &report);
            let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
            fault = damage.join("; ");
            sync_tail(&mut log);
            found.directory.count_partitions(1);
            (log, &found.directory)
        } else {
            self.clear_the_way(wanted)?;
            let directory = self.emptiest_directory();
            let dir = directory.data_dir();
            // Counted at once, so that others who create meanwhile see it.
            directory.count_partitions(1);
            let created = dir.create_log(&wanted.partition, wanted.topic_id, settings);
            (
                created.inspect_err(|_| directory.count_partitions(-1))?,
                directory,
            )
        };
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

    /// Moves a folder aside that bears the name of a partition which is to be created, and belongs to
    /// another topic or to none: a deletion or a creation was not finished.
    fn clear_the_way(&self, wanted: &Wanted) -> Result<(), OpenError> {
        for directory in &self.directories {
            let found = directory.data_dir().find(&wanted.partition);
            // A directory that cannot be read matters to the partitions in it, not to this one.
            if let Ok(Some(found)) = found
                && found.topic_id != Some(wanted.topic_id)
            {
                move_stray_away(directory, &wanted.partition)?;
            }
        }
        Ok(())
    }

    /// Where the next partition goes: the directory that has the fewest, offline ones last.
    fn emptiest_directory(&self) -> &Arc<Directory> {
        let load = |directory: &&Arc<Directory>| {
            (directory.offline().is_some(), directory.partition_count())
        };
        let emptiest = self.directories.iter().min_by_key(load);
        emptiest.unwrap_or(&self.directories[0])
    }

    /// Gives the partitions that are there their settings and creates the others.
    fn update_topics(&self, topics: &[&Arc<TopicImage>]) {
        let present: Vec<Vec<Slot>> = topics
            .iter()
            .map(|topic| {
                let present = self.partitions.topic(&topic.name).ok();
                present.map_or_else(Vec::new, |present| present.slots().to_vec())
            })
            .collect();
        let mut wanted = Vec::new();
        for (topic, slots) in topics.iter().zip(&present) {
            self.update_configs(topic, slots);
            wanted.extend(self.wanted(topic, slots.len()));
        }
        let mut created = fan_out(wanted, |want| self.slot(&want, None)).into_iter();
        let updated = topics.iter().zip(present).map(|(topic, mut slots)| {
            let missing = topic.partitions.len().saturating_sub(slots.len());
            slots.extend(created.by_ref().take(missing));
            TopicPartitions::new(topic.name.as_str().into(), slots)
        });
        self.partitions.insert(updated.collect::<Vec<_>>());
    }

    fn update_configs(&self, topic: &TopicImage, slots: &[Slot]) {
        let config = self.topic_config(topic);
        for slot in slots {
            if let Slot::Online(partition) = slot
                && *partition.config() != config
            {
                partition.update_config(config.clone(), self.producer_id_expiration_ms);
            }
        }
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
    // A new or idle log has nothing to tell.
    if report.bytes_scanned > 0 || report.bytes_truncated > 0 {
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

/// A folder of a topic that is gone is kept under another name, so that nothing is lost if it was not
/// meant to be deleted.
fn move_stray_away(directory: &Directory, partition: &TopicPartition) -> Result<(), OpenError> {
    let aside = directory.data_dir().move_aside(partition)?;
    tracing::warn!(
        %partition,
        path = %aside.display(),
        "folder of a topic that is gone is moved aside; remove it by hand if nothing in it is missed"
    );
    Ok(())
}
