//! Makes data directories of ours out of the folders that were brought over: identity, checkpoints,
//! each log opened once, our metadata.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use conveyor_controller::{
    METADATA_TOPIC, METADATA_TOPIC_ID, MetadataRecord, PartitionImage, TopicConfig,
};
use conveyor_log::checkpoint::{OffsetCheckpoint, encode_offsets, encode_properties};
use conveyor_log::data_dir::IMPORT_FILE;
use conveyor_log::disk::OsDisk;
use conveyor_log::{
    AppendBatch, CleanupPolicy, Clock, DataDir, DataDirConfig, Log, LogConfig, SystemClock,
    TopicPartition,
};
use conveyor_record::{
    AppendOrigin, BatchBuilder, BatchOptions, Compressor, Decompressor, LeaderEpoch, NewRecord,
    NodeId, Offset, ProduceRules, validate_produce,
};

use crate::plan::{Plan, PlannedPartition, PlannedTopic};
use crate::{ImportError, Progress, Step};

/// What an import has done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Topics taken over.
    pub topics: usize,
    /// Partitions taken over.
    pub partitions: usize,
    /// Records in them, as far as they were counted.
    pub records: u64,
    /// Bytes that were cut at torn ends.
    pub bytes_truncated: u64,
}

impl Plan {
    /// Opens every log that was brought over, writes our metadata and leaves the directories as after
    /// a clean stop.
    pub fn adopt(&self, progress: Progress<'_>) -> Result<Imported, ImportError> {
        progress(Step::Begin {
            stage: "opening",
            bytes: self.bytes,
        });
        let mut truncated = 0;
        let targets = self.targets();
        for (index, target) in targets.iter().enumerate() {
            self.write_identity(target)?;
            self.write_checkpoints(target)?;
            let directory = self.open(target)?;
            for (topic, partition) in self.partitions_in(target) {
                let name = topic.partition_name(partition);
                if !progress(Step::Partition(&name.folder_name())) {
                    return Err(ImportError::Interrupted);
                }
                truncated += open_once(&directory, topic, &name)?;
                progress(Step::Bytes(partition.bytes));
            }
            if index == 0 {
                self.write_metadata(&directory)?;
            }
            directory.close()?;
        }
        // From here on a broker may start on them.
        for target in &targets {
            let marker = target.join(IMPORT_FILE);
            fs::remove_file(&marker).map_err(ImportError::io("remove", &marker))?;
            let directory = File::open(target).map_err(ImportError::io("open", target))?;
            directory
                .sync_all()
                .map_err(ImportError::io("sync", target))?;
        }
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(Imported {
            topics: self.topics.len(),
            partitions: self.partition_count(),
            records: partitions.filter_map(|partition| partition.records).sum(),
            bytes_truncated: truncated,
        })
    }

    /// Our data directories, each once.
    fn targets(&self) -> Vec<PathBuf> {
        let mut targets: Vec<PathBuf> = Vec::new();
        for directory in &self.directories {
            if !targets.contains(&directory.data_dir) {
                targets.push(directory.data_dir.clone());
            }
        }
        targets
    }

    fn partitions_in<'a>(
        &'a self,
        target: &'a Path,
    ) -> impl Iterator<Item = (&'a PlannedTopic, &'a PlannedPartition)> {
        let all = self.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(move |partition| (topic, partition))
        });
        all.filter(move |(_, partition)| partition.target.parent() == Some(target))
    }

    /// `meta.properties`: cluster, node and directory keep their ids.
    fn write_identity(&self, target: &Path) -> Result<(), ImportError> {
        let own = self.directories.iter().zip(&self.sources);
        let first = own
            .filter(|(directory, _)| directory.data_dir == target)
            .find_map(|(_, source)| source.meta.as_ref()?.directory_id.as_deref());
        let node_id = self.node_id.to_string();
        let mut properties = vec![
            ("version", "1"),
            ("cluster.id", self.cluster_id.as_str()),
            ("node.id", node_id.as_str()),
        ];
        properties.extend(first.map(|id| ("directory.id", id)));
        write(
            &target.join("meta.properties"),
            &encode_properties(&properties),
        )
    }

    /// The offsets that Kafka kept, of the partitions that are here.
    fn write_checkpoints(&self, target: &Path) -> Result<(), ImportError> {
        let mut recovery_points = OffsetCheckpoint::new();
        let mut log_starts = OffsetCheckpoint::new();
        let mut clean_offsets = OffsetCheckpoint::new();
        let mut gap_offsets = OffsetCheckpoint::new();
        let mut clean = true;
        for (topic, partition) in self.partitions_in(target) {
            let source = &self.sources[partition.directory];
            clean &= source.is_clean;
            let name = topic.partition_name(partition);
            let take = |from: &OffsetCheckpoint, to: &mut OffsetCheckpoint| {
                to.extend(from.get(&name).map(|offset| (name.clone(), *offset)));
            };
            take(&source.recovery_points, &mut recovery_points);
            take(&source.log_starts, &mut log_starts);
            take(&source.clean_offsets, &mut clean_offsets);
            let gaps = partition.gaps_below.map(Offset);
            gap_offsets.extend(gaps.map(|offset| (name.clone(), offset)));
        }
        let files = [
            ("recovery-point-offset-checkpoint", &recovery_points),
            ("log-start-offset-checkpoint", &log_starts),
            ("cleaner-offset-checkpoint", &clean_offsets),
            ("conveyor-gap-offset-checkpoint", &gap_offsets),
        ];
        for (file, offsets) in files {
            write(&target.join(file), &encode_offsets(offsets))?;
        }
        if clean {
            write(&target.join(".kafka_cleanshutdown"), b"")?;
        }
        Ok(())
    }

    fn open(&self, target: &Path) -> Result<DataDir, ImportError> {
        let config = DataDirConfig {
            node_id: self.node_id,
            cluster_id: Some(self.cluster_id.clone()),
            importing: true,
            pool_files: 0,
            ..DataDirConfig::default()
        };
        let clock = Arc::new(SystemClock::default());
        Ok(DataDir::open(OsDisk::shared(), clock, target, config)?)
    }

    /// Our metadata log, written anew, as one batch.
    fn write_metadata(&self, directory: &DataDir) -> Result<(), ImportError> {
        let name = TopicPartition::new(METADATA_TOPIC, 0);
        if directory.find(&name)?.is_some() {
            // A former run came to here.
            let path = directory.path().join(name.folder_name());
            fs::remove_dir_all(&path).map_err(ImportError::io("remove", &path))?;
        }
        let failed = |what: String| ImportError::Metadata { what };
        let values: Vec<Vec<u8>> = self.records().iter().map(MetadataRecord::encode).collect();
        let now_ms = SystemClock::default().now_ms();
        let batch = metadata_batch(&values, now_ms).map_err(|error| failed(error.to_string()))?;
        let mut log = directory.create_log(&name, METADATA_TOPIC_ID, LogConfig::default())?;
        for appended in log.append_as_leader(&[batch], LeaderEpoch(0)) {
            appended.map_err(|error| failed(error.to_string()))?;
        }
        log.sync().map_err(|error| failed(error.to_string()))?;
        Ok(log.close()?)
    }

    /// The records that make the metadata what Kafka's was.
    fn records(&self) -> Vec<MetadataRecord> {
        let mut records = vec![MetadataRecord::Cluster {
            cluster_id: self.cluster_id.clone(),
        }];
        for topic in &self.topics {
            let topic_id = topic.id;
            records.push(MetadataRecord::Topic {
                name: topic.name.clone(),
                topic_id,
            });
            let configs = topic.configs.iter();
            records.extend(configs.map(|(name, value)| MetadataRecord::Config {
                topic_id,
                name: name.clone(),
                value: Some(value.clone()),
            }));
            let partitions = topic.partitions.iter();
            records.extend(partitions.map(|partition| MetadataRecord::Partition {
                topic_id,
                partition: partition.partition,
                state: PartitionImage {
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                    ..PartitionImage::new(vec![NodeId(self.node_id)], vec![NodeId(self.node_id)])
                },
            }));
        }
        records.push(MetadataRecord::ProducerIds {
            next_producer_id: self.next_producer_id,
        });
        let quotas = self.quotas.iter().cloned();
        records.extend(
            quotas.map(|(entity, key, rate)| MetadataRecord::ClientQuota {
                entity,
                key,
                rate: Some(rate),
            }),
        );
        records
    }
}

/// Opens a log, which recovers it if its broker did not stop in order, and closes it; how many bytes
/// were cut.
fn open_once(
    directory: &DataDir,
    topic: &PlannedTopic,
    name: &TopicPartition,
) -> Result<u64, ImportError> {
    let policy = TopicConfig::resolve(&topic.configs, &BTreeMap::new()).cleanup_policy;
    let config = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: policy.delete,
            compact: policy.compact,
        },
        ..LogConfig::default()
    };
    let (mut log, report): (Log, _) = directory.open_log(name, config)?;
    if let Some(damage) = report.damage.first() {
        return Err(ImportError::Damaged {
            partition: name.to_string(),
            what: damage.to_string(),
        });
    }
    log.sync().map_err(|error| ImportError::Damaged {
        partition: name.to_string(),
        what: error.to_string(),
    })?;
    log.close()?;
    Ok(report.bytes_truncated)
}

fn metadata_batch(
    values: &[Vec<u8>],
    now_ms: i64,
) -> Result<AppendBatch, conveyor_record::BatchError> {
    let mut builder = BatchBuilder::new(BatchOptions {
        size_limit: i32::MAX as usize,
        ..BatchOptions::default()
    });
    for value in values {
        builder.append(&NewRecord {
            timestamp_ms: now_ms,
            key: None,
            value: Some(value),
            headers: &[],
        })?;
    }
    let bytes: Bytes = builder.build(&mut Compressor::new())?;
    let rules = ProduceRules {
        origin: AppendOrigin::Coordinator,
        max_message_bytes: i32::MAX as usize,
        timestamp_after_max_ms: i64::MAX,
        now_ms,
        ..ProduceRules::default()
    };
    let validated = validate_produce(&bytes, &rules, &mut Decompressor::new())?;
    Ok(AppendBatch { bytes, validated })
}

/// Writes a small file durably; its directory is synced when it is opened.
fn write(path: &Path, content: &[u8]) -> Result<(), ImportError> {
    fs::write(path, content).map_err(ImportError::io("write", path))?;
    let file = File::open(path).map_err(ImportError::io("open", path))?;
    file.sync_all().map_err(ImportError::io("sync", path))
}
