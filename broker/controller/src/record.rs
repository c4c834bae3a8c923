//! The metadata records and their stored form.
//!
//! Each record is one JSON object `{"type": …, "version": …, …}`, named after Kafka's metadata
//! records. A new field needs a new version with a default for the old one; a node that reads a type
//! or a version it does not know stops with a clear error instead of guessing, because skipping a
//! record would make its image differ from that of its peers.
//!
//! | type | version | meaning |
//! |---|---|---|
//! | `cluster` | 0 | the cluster's id, first record of every log |
//! | `register_broker` | 0 | a node with its address, replaces its former registration |
//! | `topic` | 0 | a topic begins; its partitions follow |
//! | `partition` | 0 | a partition with replicas, in-sync set, leader and epoch |
//! | `partition_change` | 0 | new in-sync set, leader and epoch of a partition |
//! | `config` | 0 | a topic's setting; no value means back to the default |
//! | `remove_topic` | 0 | a topic with all its partitions and settings goes |
//! | `producer_ids` | 0 | all producer ids below `next_producer_id` are given out |
//! | `client_quota` | 0 | a limit of a user or client id; no rate means none |

use conveyor_record::{LeaderEpoch, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::quotas::{QuotaEntity, QuotaKey, QuotaRate};

/// The newest version of each record type that this build writes and reads.
const VERSION: u16 = 0;

/// One change of the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MetadataRecord {
    /// The cluster's id.
    Cluster {
        /// Chosen at random when the first node starts for the first time.
        cluster_id: String,
    },
    /// A node and the address at which clients reach it.
    RegisterBroker {
        /// The node.
        node_id: NodeId,
        /// Host name or address told to clients.
        host: String,
        /// Port of the gRPC listener told to clients.
        port: u16,
        /// Where the node stands; empty when not told.
        rack: String,
    },
    /// A new topic.
    Topic {
        /// Its name.
        name: String,
        /// Its id, never used again.
        topic_id: Uuid,
    },
    /// A new partition of a topic.
    Partition {
        /// The topic.
        topic_id: Uuid,
        /// Numbered from 0 without gaps.
        partition: i32,
        /// The nodes that hold it, preferred leader first.
        replicas: Vec<NodeId>,
        /// The replicas that have every acknowledged record.
        isr: Vec<NodeId>,
        /// The leader, [`NodeId::NONE`] while there is none.
        leader: NodeId,
        /// The leader's term.
        leader_epoch: LeaderEpoch,
    },
    /// A change of leadership or of the in-sync set.
    PartitionChange {
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
        /// The new in-sync set.
        isr: Vec<NodeId>,
        /// The new leader, [`NodeId::NONE`] while there is none.
        leader: NodeId,
        /// The leader's term.
        leader_epoch: LeaderEpoch,
    },
    /// A topic's setting.
    Config {
        /// The topic.
        topic_id: Uuid,
        /// Kafka's name of the setting.
        name: String,
        /// The new value; `None` for the default.
        value: Option<String>,
    },
    /// A topic goes with all it has.
    RemoveTopic {
        /// The topic.
        topic_id: Uuid,
    },
    /// Producer ids given out to a node.
    ProducerIds {
        /// The first id not given out yet.
        next_producer_id: i64,
    },
    /// A limit of a user or client id.
    ClientQuota {
        /// Whose.
        entity: QuotaEntity,
        /// Of what.
        key: QuotaKey,
        /// The new limit; `None` for none.
        rate: Option<QuotaRate>,
    },
}

/// Why stored bytes are no metadata record that this build understands.
#[derive(Debug, Error)]
pub enum RecordDecodeError {
    /// The bytes are not the JSON of a record.
    #[error("metadata record is not readable: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A type that does not exist in this build.
    #[error("metadata record has type {kind:?}, unknown to this version: start a newer one")]
    UnknownType {
        /// The type found.
        kind: String,
    },
    /// A version newer than this build's.
    #[error(
        "metadata record of type {kind} has version {found}, this build reads up to {supported}: \
         start a newer one"
    )]
    NewerVersion {
        /// The record's type.
        kind: String,
        /// The version found.
        found: u16,
        /// The newest version known here.
        supported: u16,
    },
}

#[derive(Serialize)]
struct Stored<'a> {
    version: u16,
    #[serde(flatten)]
    record: &'a MetadataRecord,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    version: u16,
}

const TYPES: [&str; 9] = [
    "cluster",
    "register_broker",
    "topic",
    "partition",
    "partition_change",
    "config",
    "remove_topic",
    "producer_ids",
    "client_quota",
];

impl MetadataRecord {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            version: VERSION,
            record: self,
        };
        // Strings, numbers and lists of them always have a JSON form.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads the stored form; see [`RecordDecodeError`] for what is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordDecodeError> {
        let head: Head = serde_json::from_slice(bytes)?;
        if !TYPES.contains(&head.kind.as_str()) {
            return Err(RecordDecodeError::UnknownType { kind: head.kind });
        }
        if head.version > VERSION {
            return Err(RecordDecodeError::NewerVersion {
                kind: head.kind,
                found: head.version,
                supported: VERSION,
            });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_fixed() {
        let record = MetadataRecord::Config {
            topic_id: Uuid::from_u128(1),
            name: "retention.ms".into(),
            value: None,
        };
        assert_eq!(
            String::from_utf8(record.encode()).unwrap(),
            r#"{"version":0,"type":"config","topic_id":"00000000-0000-0000-0000-000000000001","name":"retention.ms","value":null}"#
        );
        assert_eq!(MetadataRecord::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn what_a_newer_build_wrote_is_refused_and_named() {
        let newer = br#"{"type":"topic","version":3,"name":"a"}"#;
        let error = MetadataRecord::decode(newer).unwrap_err();
        assert!(
            matches!(error, RecordDecodeError::NewerVersion { found: 3, .. }),
            "{error}"
        );
        let unknown = br#"{"type":"shard","version":0}"#;
        let error = MetadataRecord::decode(unknown).unwrap_err();
        assert!(error.to_string().contains("\"shard\""), "{error}");
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"{",
            b"[]",
            b"\xff\x00",
            br#"{"type":"topic","version":0}"#,
        ] {
            assert!(MetadataRecord::decode(bytes).is_err());
        }
    }
}
