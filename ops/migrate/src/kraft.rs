//! Kafka's cluster metadata: the newest snapshot and the log behind it, replayed.
//!
//! Only what an import needs is understood: topics, partitions, settings, quotas and producer ids. The
//! rest (brokers, features, access rules, credentials, tokens) is counted where its loss is worth
//! telling, else passed over.

mod reader;
mod records;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use conveyor_record::{Decompressor, Offset, OwnedBatches};
use thiserror::Error;
use uuid::Uuid;

pub use records::MetadataChange;

/// The folder of the metadata log.
pub const FOLDER: &str = "__cluster_metadata-0";
/// The most that one batch of metadata may hold.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// Why Kafka's metadata cannot be used.
#[derive(Debug, Error)]
pub enum MetadataReadError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A batch or a record is not one.
    #[error("{} at position {position}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        position: u64,
        /// What is wrong.
        what: String,
    },
}

/// Whom a quota limits: pairs of type and name, no name for the default.
pub type KafkaQuotaEntity = Vec<(String, Option<String>)>;

/// Kafka's metadata, replayed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KafkaMetadata {
    /// Topics by id.
    pub topics: BTreeMap<Uuid, KafkaTopic>,
    /// Settings by type and name of their resource.
    pub configs: BTreeMap<(i8, String), BTreeMap<String, String>>,
    /// Quotas by entity.
    pub quotas: BTreeMap<KafkaQuotaEntity, BTreeMap<String, f64>>,
    /// The first producer id that no broker was given.
    pub next_producer_id: i64,
    /// Access rules.
    pub access_rules: u64,
    /// Credentials.
    pub credentials: u64,
    /// Changes of a transaction that has not ended.
    pending: Option<Vec<MetadataChange>>,
}

/// A topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaTopic {
    /// Its name.
    pub name: String,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, KafkaPartition>,
}

/// A partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaPartition {
    /// The nodes that hold it.
    pub replicas: Vec<i32>,
    /// Those that have every acknowledged record.
    pub isr: Vec<i32>,
    /// Those that have it too although they have left the in-sync set (KIP-966).
    pub eligible: Vec<i32>,
    /// Who leads it, -1 for nobody.
    pub leader: i32,
    /// The leader's term.
    pub leader_epoch: i32,
}

/// Kafka's number for settings of topics.
pub const TOPIC_CONFIG: i8 = 2;

impl KafkaMetadata {
    /// Reads the folder of a metadata log.
    pub fn read(folder: &Path) -> Result<Self, MetadataReadError> {
        let mut metadata = Self::default();
        let (snapshots, segments) = list(folder)?;
        let mut next = Offset::ZERO;
        if let Some((end, path)) = snapshots.into_iter().next_back() {
            metadata.replay_file(&path, Offset::ZERO)?;
            next = end;
        }
        // A segment that begins at or below the snapshot's end may go on behind it.
        for (_, path) in segments {
            metadata.replay_file(&path, next)?;
        }
        Ok(metadata)
    }

    fn replay_file(&mut self, path: &Path, from: Offset) -> Result<(), MetadataReadError> {
        let bytes = fs::read(path).map_err(|source| MetadataReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut decompressor = Decompressor::new();
        let mut position = 0u64;
        for batch in OwnedBatches::new(Bytes::from(bytes)) {
            let malformed = |what: String| MetadataReadError::Malformed {
                path: path.to_owned(),
                position,
                what,
            };
            let batch = batch.map_err(|error| malformed(error.to_string()))?;
            batch
                .verify_crc()
                .map_err(|error| malformed(error.to_string()))?;
            let size = batch.header().size() as u64;
            if batch.header().attributes.is_control() || batch.header().next_offset() <= from {
                position += size;
                continue;
            }
            let records = batch
                .records(&mut decompressor, DECOMPRESSED_BYTES_MAX)
                .map_err(|error| malformed(error.to_string()))?;
            for record in records {
                let record = record.map_err(|error| malformed(error.to_string()))?;
                if record.offset < from {
                    continue;
                }
                let value = record.value.unwrap_or_default();
                let change = MetadataChange::decode(&value)
                    .map_err(|error| malformed(format!("offset {}: {error}", record.offset)))?;
                self.replay(change);
            }
            position += size;
        }
        Ok(())
    }

    /// Applies one record; those of a transaction wait for its end.
    pub fn replay(&mut self, change: MetadataChange) {
        match change {
            MetadataChange::BeginTransaction => self.pending = Some(Vec::new()),
            MetadataChange::AbortTransaction => self.pending = None,
            MetadataChange::EndTransaction => {
                for change in self.pending.take().unwrap_or_default() {
                    self.apply(change);
                }
            }
            change => match &mut self.pending {
                Some(pending) => pending.push(change),
                None => self.apply(change),
            },
        }
    }

    fn apply(&mut self, change: MetadataChange) {
        match change {
            MetadataChange::Topic { id, name } => {
                let partitions = BTreeMap::new();
                self.topics.insert(id, KafkaTopic { name, partitions });
            }
            MetadataChange::RemoveTopic { id } => {
                if let Some(topic) = self.topics.remove(&id) {
                    self.configs.remove(&(TOPIC_CONFIG, topic.name));
                }
            }
            MetadataChange::Partition {
                topic_id,
                partition,
                state,
            } => {
                if let Some(topic) = self.topics.get_mut(&topic_id) {
                    topic.partitions.insert(partition, state);
                }
            }
            MetadataChange::PartitionChange {
                topic_id,
                partition,
                isr,
                eligible,
                leader,
                replicas,
            } => {
                let topic = self.topics.get_mut(&topic_id);
                if let Some(state) = topic.and_then(|topic| topic.partitions.get_mut(&partition)) {
                    state.eligible =
                        eligible.unwrap_or_else(|| std::mem::take(&mut state.eligible));
                    state.isr = isr.unwrap_or_else(|| std::mem::take(&mut state.isr));
                    state.replicas =
                        replicas.unwrap_or_else(|| std::mem::take(&mut state.replicas));
                    // Every change of the leader, also to nobody, begins a new term.
                    if let Some(leader) = leader {
                        state.leader = leader;
                        state.leader_epoch += 1;
                    }
                }
            }
            MetadataChange::Config {
                resource,
                name,
                value,
            } => {
                let configs = self.configs.entry(resource).or_default();
                match value {
                    Some(value) => configs.insert(name, value),
                    None => configs.remove(&name),
                };
            }
            MetadataChange::Quota { entity, key, value } => {
                let limits = self.quotas.entry(entity).or_default();
                match value {
                    Some(value) => limits.insert(key, value),
                    None => limits.remove(&key),
                };
            }
            MetadataChange::ProducerIds { next } => self.next_producer_id = next,
            MetadataChange::AccessRule => self.access_rules += 1,
            MetadataChange::Credential => self.credentials += 1,
            MetadataChange::BeginTransaction
            | MetadataChange::EndTransaction
            | MetadataChange::AbortTransaction
            | MetadataChange::Other => {}
        }
    }
}

type Files = Vec<(Offset, PathBuf)>;

/// Snapshots by the offset behind them, and segments by their first, ascending.
fn list(folder: &Path) -> Result<(Files, Files), MetadataReadError> {
    let failed = |source| MetadataReadError::Io {
        path: folder.to_owned(),
        source,
    };
    let (mut snapshots, mut segments) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let offset = |text: &str| text.parse::<i64>().ok().map(Offset);
        // A snapshot is named after the offset and the epoch of its end.
        let snapshot = name.strip_suffix(".checkpoint").and_then(|name| {
            let (end, _) = name.split_once('-')?;
            offset(end)
        });
        if let Some(end) = snapshot {
            snapshots.push((end, path.clone()));
        } else if let Some(base) = name.strip_suffix(".log").and_then(offset) {
            segments.push((base, path.clone()));
        }
    }
    snapshots.sort();
    segments.sort();
    Ok((snapshots, segments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader: i32, leader_epoch: i32) -> KafkaPartition {
        KafkaPartition {
            replicas: vec![1],
            isr: vec![1],
            eligible: Vec::new(),
            leader,
            leader_epoch,
        }
    }

    #[test]
    fn every_change_of_the_leader_begins_a_term() {
        let id = Uuid::from_u128(7);
        let mut metadata = KafkaMetadata::default();
        let name = "orders".to_owned();
        metadata.replay(MetadataChange::Topic { id, name });
        metadata.replay(MetadataChange::Partition {
            topic_id: id,
            partition: 0,
            state: partition(1, 0),
        });
        for leader in [Some(-1), Some(1), None] {
            metadata.replay(MetadataChange::PartitionChange {
                topic_id: id,
                partition: 0,
                isr: None,
                eligible: None,
                leader,
                replicas: None,
            });
        }
        assert_eq!(metadata.topics[&id].partitions[&0], partition(1, 2));
    }

    #[test]
    fn a_transaction_counts_once_it_has_ended() {
        let topic = |number: u128| MetadataChange::Topic {
            id: Uuid::from_u128(number),
            name: format!("t{number}"),
        };
        let mut metadata = KafkaMetadata::default();
        metadata.replay(MetadataChange::BeginTransaction);
        metadata.replay(topic(1));
        assert!(metadata.topics.is_empty());
        metadata.replay(MetadataChange::EndTransaction);
        metadata.replay(MetadataChange::BeginTransaction);
        metadata.replay(topic(2));
        metadata.replay(MetadataChange::AbortTransaction);
        assert_eq!(metadata.topics.len(), 1);
    }
}
