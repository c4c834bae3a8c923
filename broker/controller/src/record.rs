//! The metadata records and their stored form.
//!
//! Each record is one JSON object `{"type": …, "version": …, …}`, named after Kafka's metadata
//! records. Every type has its own version. A new field needs a new version of its type with a default
//! for the old one; a node that reads a type or a version it does not know stops with a clear error
//! instead of guessing, because skipping a record would make its image differ from that of its peers.
//!
//! A record is written in the oldest version that can say it, so that the log of a node alone stays
//! readable for builds that know no cluster; [`crate::metadata_version`] decides when newer ones may
//! come into it. A field that has its default is left out.
//!
//! | type | versions | meaning |
//! |---|---|---|
//! | `cluster` | 0 | the cluster's id, first record of every log |
//! | `metadata_version` | 0 | records of this metadata version may follow |
//! | `cluster_config` | 0 | a default for all topics; no value means the built-in one |
//! | `register_broker` | 0, 1 | a node with its addresses, replaces its former registration; 1: its incarnation, broker epoch, further listeners, state, metadata versions |
//! | `broker_change` | 0 | a node is fenced, stopping, draining, or no longer |
//! | `unregister_broker` | 0 | a node goes |
//! | `topic` | 0 | a topic begins; its partitions follow |
//! | `partition` | 0, 1 | a partition with replicas, in-sync set, leader and epoch; 1: partition epoch, eligible leader replicas, replicas being added and removed |
//! | `partition_change` | 0, 1 | 0: new in-sync set, leader and epoch of a partition; 1: whatever changes of it |
//! | `config` | 0 | a topic's setting; no value means back to the default |
//! | `remove_topic` | 0 | a topic with all its partitions and settings goes |
//! | `producer_ids` | 0 | all producer ids below `next_producer_id` are given out |
//! | `client_quota` | 0 | a limit of a user or client id; no rate means none |

use conveyor_record::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use uuid::Uuid;

use crate::quotas::{QuotaEntity, QuotaKey, QuotaRate};
use crate::{BrokerRegistration, MetadataVersion, PartitionChange, PartitionImage};

/// One change of the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MetadataRecord {
    /// The cluster's id.
    Cluster {
        /// Chosen at random when the first node starts for the first time.
        cluster_id: String,
    },
    /// Which records may follow.
    MetadataVersion {
        /// The version from now on.
        metadata_version: MetadataVersion,
    },
    /// A default for all topics that have no value of their own.
    ClusterConfig {
        /// Kafka's name of the setting.
        name: String,
        /// The new value; `None` for the built-in default.
        value: Option<String>,
    },
    /// A node begins an incarnation, or tells of new addresses.
    RegisterBroker(BrokerRegistration),
    /// A node's state changes.
    BrokerChange {
        /// The node.
        node_id: NodeId,
        /// The incarnation meant; nothing happens to another one.
        broker_epoch: BrokerEpoch,
        /// Whether it is fenced from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fenced: Option<bool>,
        /// Whether it is stopping in order from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_controlled_shutdown: Option<bool>,
        /// Whether it is to become empty from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        draining: Option<bool>,
    },
    /// A node goes for good.
    UnregisterBroker {
        /// The node.
        node_id: NodeId,
        /// The incarnation meant; nothing happens to another one.
        broker_epoch: BrokerEpoch,
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
        /// Where it lies and who leads it.
        #[serde(flatten)]
        state: PartitionImage,
    },
    /// A change of a partition.
    PartitionChange(PartitionChange),
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
    /// A field is missing that records of this version have.
    #[error("metadata record of type {kind} and version {version} has no field {field}")]
    MissingField {
        /// The record's type.
        kind: String,
        /// Its version.
        version: u16,
        /// The field.
        field: &'static str,
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

/// A type of record as this build reads it.
struct RecordType {
    name: &'static str,
    /// Its newest version.
    newest: u16,
    /// Fields that must be there in each version although another version lacks them.
    required: &'static [&'static [&'static str]],
}

const fn unchanged(name: &'static str) -> RecordType {
    RecordType {
        name,
        newest: 0,
        required: &[&[]],
    }
}

const TYPES: &[RecordType] = &[
    unchanged("cluster"),
    unchanged("metadata_version"),
    unchanged("cluster_config"),
    RecordType {
        name: "register_broker",
        newest: 1,
        required: &[&[], &["incarnation_id", "broker_epoch"]],
    },
    unchanged("broker_change"),
    unchanged("unregister_broker"),
    unchanged("topic"),
    RecordType {
        name: "partition",
        newest: 1,
        required: &[&[], &[]],
    },
    RecordType {
        name: "partition_change",
        newest: 1,
        required: &[&["isr", "leader", "leader_epoch"], &["partition_epoch"]],
    },
    unchanged("config"),
    unchanged("remove_topic"),
    unchanged("producer_ids"),
    unchanged("client_quota"),
];

impl MetadataRecord {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            version: self.version(),
            record: self,
        };
        // Strings, numbers and lists of them always have a JSON form.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads the stored form; see [`RecordDecodeError`] for what is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordDecodeError> {
        let Head { kind, version } = serde_json::from_slice(bytes)?;
        let Some(known) = TYPES.iter().find(|known| known.name == kind) else {
            return Err(RecordDecodeError::UnknownType { kind });
        };
        if version > known.newest {
            return Err(RecordDecodeError::NewerVersion {
                kind,
                found: version,
                supported: known.newest,
            });
        }
        let required = known.required.get(usize::from(version));
        check_fields(bytes, kind, version, required.copied().unwrap_or_default())?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The oldest version of its type that can say this.
    fn version(&self) -> u16 {
        match self {
            Self::RegisterBroker(registration) => registration.record_version(),
            Self::Partition { state, .. } => state.record_version(),
            Self::PartitionChange(change) => change.record_version(),
            _ => 0,
        }
    }
}

fn check_fields(
    bytes: &[u8],
    kind: String,
    version: u16,
    required: &[&'static str],
) -> Result<(), RecordDecodeError> {
    if required.is_empty() {
        return Ok(());
    }
    let fields: Map<String, Value> = serde_json::from_slice(bytes)?;
    match required.iter().find(|field| !fields.contains_key(**field)) {
        Some(field) => Err(RecordDecodeError::MissingField {
            kind,
            version,
            field,
        }),
        None => Ok(()),
    }
}

/// Whether a field may be left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use conveyor_record::{LeaderEpoch, PartitionEpoch};

    use super::*;
    use crate::{Endpoint, MetadataImage, MetadataVersionRange};

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
    fn what_a_lone_node_wrote_reads_and_is_written_the_same() {
        let id = "00000000-0000-0000-0000-000000000001";
        let log = [
            r#"{"version":0,"type":"cluster","cluster_id":"abc"}"#.to_owned(),
            r#"{"version":0,"type":"register_broker","node_id":1,"host":"h","port":9192,"rack":"r"}"#
                .to_owned(),
            format!(r#"{{"version":0,"type":"topic","name":"orders","topic_id":"{id}"}}"#),
            format!(
                r#"{{"version":0,"type":"partition","topic_id":"{id}","partition":0,"replicas":[1],"isr":[1],"leader":1,"leader_epoch":4}}"#
            ),
        ];
        let mut image = MetadataImage::default();
        for text in &log {
            let record = MetadataRecord::decode(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(record.encode()).unwrap(), *text);
            image.replay(&record);
        }
        let node = image.broker(NodeId(1)).unwrap();
        assert_eq!((node.host.as_str(), node.port), ("h", 9192));
        assert!(node.is_active() && !node.epoch.is_some());
        let expected = PartitionImage {
            leader_epoch: LeaderEpoch(4),
            ..PartitionImage::new(vec![NodeId(1)], vec![NodeId(1)])
        };
        assert_eq!(image.topic("orders").unwrap().partitions, [expected]);

        let change = format!(
            r#"{{"version":0,"type":"partition_change","topic_id":"{id}","partition":0,"isr":[],"leader":-1,"leader_epoch":5}}"#
        );
        image.replay(&MetadataRecord::decode(change.as_bytes()).unwrap());
        let changed = &image.topic("orders").unwrap().partitions[0];
        assert_eq!(
            (changed.leader, changed.leader_epoch),
            (NodeId(-1), LeaderEpoch(5))
        );
        assert!(changed.isr.is_empty());
        assert_eq!(
            changed.partition_epoch,
            PartitionEpoch(1),
            "every change counts"
        );
    }

    #[test]
    fn the_stored_forms_of_a_cluster_are_fixed() {
        let mut node = BrokerRegistration::new(NodeId(2), "h", 9192);
        node.incarnation_id = Uuid::from_u128(9);
        node.epoch = BrokerEpoch(41);
        node.broker_endpoint = Some(Endpoint::new("b", 9193));
        node.kafka_endpoints = BTreeMap::from([("PLAIN".to_owned(), Endpoint::new("k", 9092))]);
        node.fenced = true;
        node.metadata_versions = MetadataVersionRange::THIS_BUILD;
        let change = PartitionChange::between(
            Uuid::from_u128(1),
            3,
            &PartitionImage::new(vec![NodeId(1), NodeId(2)], vec![NodeId(1), NodeId(2)]),
            &PartitionImage {
                isr: vec![NodeId(2)],
                elr: vec![NodeId(1)],
                leader: NodeId(2),
                leader_epoch: LeaderEpoch(1),
                ..PartitionImage::new(vec![NodeId(1), NodeId(2)], Vec::new())
            },
        );
        let fence = MetadataRecord::BrokerChange {
            node_id: NodeId(2),
            broker_epoch: BrokerEpoch(41),
            fenced: Some(false),
            in_controlled_shutdown: None,
            draining: None,
        };
        let records = [
            (
                MetadataRecord::RegisterBroker(node),
                r#"{"version":1,"type":"register_broker","node_id":2,"host":"h","port":9192,"rack":"","incarnation_id":"00000000-0000-0000-0000-000000000009","broker_epoch":41,"broker_endpoint":{"host":"b","port":9193},"kafka_endpoints":{"PLAIN":{"host":"k","port":9092}},"fenced":true,"metadata_versions":{"oldest":0,"newest":1}}"#,
            ),
            (
                MetadataRecord::PartitionChange(change.unwrap()),
                r#"{"version":1,"type":"partition_change","topic_id":"00000000-0000-0000-0000-000000000001","partition":3,"isr":[2],"leader":2,"leader_epoch":1,"partition_epoch":1,"elr":[1]}"#,
            ),
            (
                fence,
                r#"{"version":0,"type":"broker_change","node_id":2,"broker_epoch":41,"fenced":false}"#,
            ),
        ];
        for (record, text) in records {
            assert_eq!(String::from_utf8(record.encode()).unwrap(), text);
            assert_eq!(MetadataRecord::decode(text.as_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn a_version_has_all_its_fields() {
        for text in [
            r#"{"version":0,"type":"partition_change","topic_id":"00000000-0000-0000-0000-000000000001","partition":3,"isr":[2],"leader":2}"#,
            r#"{"version":1,"type":"partition_change","topic_id":"00000000-0000-0000-0000-000000000001","partition":3,"isr":[2]}"#,
            r#"{"version":1,"type":"register_broker","node_id":2,"host":"h","port":9192,"rack":"","broker_epoch":3}"#,
        ] {
            let error = MetadataRecord::decode(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, RecordDecodeError::MissingField { .. }),
                "{error}"
            );
        }
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
