//! How a node joins, and comes back (`BrokerRegistration`: KIP-631, KIP-966).
//!
//! A process registers at each start, with an incarnation id of its own, and says what its disk still
//! holds. That decides what its replicas count for:
//!
//! | the disk | in-sync sets | eligible to lead |
//! |---|---|---|
//! | stopped in order | leaves all: it is fenced at first | stays |
//! | stopped otherwise | leaves all | stays where acknowledged means synced (`fsync`), not where it means "in every page cache" (`replicated`) |
//! | empty | leaves all | no longer, anywhere |
//! | without some replicas (a directory has failed) | leaves all | no longer with those replicas |
//!
//! Which disk it is, the broker epoch tells: a node puts each epoch that it gets on its disk before it
//! uses it. A disk with an older one was taken back from a backup, or the request comes late from a
//! process that another one has replaced: it is refused, and nothing is changed by it.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{BrokerEpoch, NodeId, mutants};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::brokers::{Sessions, leave_after_loss};
use crate::draft::Draft;
use crate::image::CLUSTER_WIDE;
use crate::partitions::Loss;
use crate::{
    BrokerRegistration, Durability, Endpoint, MetadataImage, MetadataRecord, MetadataVersion,
    MetadataVersionRange, RegisterError, Transition, topic_setting,
};

/// Bytes of the longest host or rack.
const TEXT_LENGTH_MAX: usize = 255;
/// Most Kafka listeners of a node.
const LISTENERS_MAX: usize = 32;

/// What a node's disk holds when its process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// Everything that was ever written: the last process stopped in order.
    Kept {
        /// The newest broker epoch on the disk; -1 for a node that was alone until now.
        epoch: BrokerEpoch,
    },
    /// Everything that was ever synced.
    Unclean {
        /// The newest broker epoch on the disk; -1 for a node that was alone until now.
        epoch: BrokerEpoch,
    },
    /// Nothing.
    Empty,
}

/// A node that wants to take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRequest {
    /// The cluster it belongs to, by its own disk or settings.
    pub cluster_id: String,
    /// Its number.
    pub node_id: NodeId,
    /// The run of its process, chosen at random.
    pub incarnation_id: Uuid,
    /// What its disk holds.
    pub disk: DiskState,
    /// Replicas, by topic and number, that the disk does not hold any more although it holds others:
    /// those in a data directory that has failed or was replaced (KIP-858). A running process that
    /// loses a directory registers anew, under another incarnation id and with all else kept: what
    /// leaders have seen of its former incarnation counts for nothing then.
    pub lost_replicas: Vec<(Uuid, i32)>,
    /// Where clients reach its gRPC listener.
    pub grpc: Endpoint,
    /// Where other nodes reach it.
    pub broker: Endpoint,
    /// Where clients reach its Kafka listeners, by name.
    pub kafka: BTreeMap<String, Endpoint>,
    /// Where it stands; empty if not told.
    pub rack: String,
    /// The metadata versions that its build reads and writes.
    pub metadata_versions: MetadataVersionRange,
    /// Its own defaults of those topic settings that must be the same on all nodes
    /// ([`CLUSTER_WIDE`]), where they are set.
    pub cluster_wide: BTreeMap<String, String>,
}

/// A registration that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The node's broker epoch. It goes on the disk before the first heartbeat.
    pub broker_epoch: BrokerEpoch,
}

/// Registers an incarnation of a node, or takes new addresses of the present one.
///
/// A disk that is not the one the sets were told of is refused; emptied, it is taken. A node id whose
/// incarnation is alive is refused, unless the newcomer has its disk: only one process
/// at a time can hold a disk, so the former one is gone.
pub fn register(
    image: &MetadataImage,
    sessions: &Sessions,
    request: &RegistrationRequest,
) -> Result<Transition<Registered>, RegisterError> {
    check(image, request)?;
    let present = image.broker(request.node_id);
    if let Some(present) = present
        && present.incarnation_id == request.incarnation_id
    {
        return Ok(amend(image, present, request));
    }
    let same_disk = present.is_some_and(|present| is_same_disk(present, request.disk));
    if let Some(present) = present
        && sessions.is_live(present.node_id, present.epoch)
        && present.epoch.is_some()
        && !same_disk
    {
        return Err(RegisterError::NodeIdInUse {
            node_id: present.node_id,
            host: present.host.clone(),
        });
    }
    if let Some(present) = present
        && !same_disk
        && let DiskState::Kept { epoch } | DiskState::Unclean { epoch } = request.disk
    {
        return Err(RegisterError::OldDisk {
            node_id: present.node_id,
            found: epoch,
            expected: present.disk_epoch.max(present.epoch),
        });
    }
    Ok(begin_incarnation(image, present, request, same_disk))
}

/// Whether the disk is the one that the sets were told of.
fn is_same_disk(present: &BrokerRegistration, disk: DiskState) -> bool {
    let epoch = match disk {
        DiskState::Kept { epoch } | DiskState::Unclean { epoch } => epoch,
        DiskState::Empty => return mutants::on("controller: empty disk trusted"),
    };
    // An epoch that was never used may have missed the disk; the one before it is there then.
    epoch == present.epoch || (epoch.is_some() && epoch == present.disk_epoch)
}

fn check(image: &MetadataImage, request: &RegistrationRequest) -> Result<(), RegisterError> {
    let node_id = request.node_id;
    match image.cluster_id() {
        None => return Err(RegisterError::NoCluster { node_id }),
        Some(cluster_id) if cluster_id != request.cluster_id => {
            return Err(RegisterError::OtherCluster {
                node_id,
                found: request.cluster_id.chars().take(TEXT_LENGTH_MAX).collect(),
                expected: cluster_id.to_owned(),
            });
        }
        Some(_) => {}
    }
    if !node_id.is_some() {
        return Err(RegisterError::InvalidNodeId { node_id });
    }
    if request.incarnation_id.is_nil() {
        return Err(RegisterError::NoIncarnation { node_id });
    }
    check_addresses(request)?;
    let needed = image.metadata_version().max(MetadataVersion::CLUSTER);
    if !request.metadata_versions.contains(needed) {
        return Err(RegisterError::MetadataVersion {
            node_id,
            range: request.metadata_versions,
            needed,
        });
    }
    check_cluster_wide(image, request)
}

fn check_addresses(request: &RegistrationRequest) -> Result<(), RegisterError> {
    let node_id = request.node_id;
    let mut endpoints = [&request.grpc, &request.broker]
        .into_iter()
        .chain(request.kafka.values());
    if endpoints.any(|endpoint| endpoint.host.is_empty() || endpoint.port == 0) {
        return Err(RegisterError::NoAddress { node_id });
    }
    let hosts = request.kafka.values().map(|endpoint| &endpoint.host);
    let mut texts = hosts.chain(request.kafka.keys()).chain([
        &request.grpc.host,
        &request.broker.host,
        &request.rack,
    ]);
    if request.kafka.len() > LISTENERS_MAX || texts.any(|text| text.len() > TEXT_LENGTH_MAX) {
        return Err(RegisterError::TooLong { node_id });
    }
    Ok(())
}

/// Whether the node counts acknowledgements as the others do. The first node decides how.
fn check_cluster_wide(
    image: &MetadataImage,
    request: &RegistrationRequest,
) -> Result<(), RegisterError> {
    for (name, value) in &request.cluster_wide {
        let setting = topic_setting(name).filter(|_| CLUSTER_WIDE.contains(&name.as_str()));
        let Some(setting) = setting else {
            continue;
        };
        let value = setting.normalize(value)?;
        let present = image.cluster_configs().get(name);
        let expected = present.map_or(setting.default, String::as_str);
        if !is_first(image) && value != expected {
            return Err(RegisterError::OtherDefault {
                node_id: request.node_id,
                name: name.clone(),
                found: value,
                expected: expected.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether the cluster has been one node of an earlier build until now, or nothing.
fn is_first(image: &MetadataImage) -> bool {
    image.metadata_version() < MetadataVersion::CLUSTER
}

/// New addresses of an incarnation that is known already, or an answer that was lost.
fn amend(
    image: &MetadataImage,
    present: &BrokerRegistration,
    request: &RegistrationRequest,
) -> Transition<Registered> {
    let amended = BrokerRegistration {
        epoch: present.epoch,
        disk_epoch: present.disk_epoch,
        fenced: present.fenced,
        in_controlled_shutdown: present.in_controlled_shutdown,
        draining: present.draining,
        ..new_registration(request)
    };
    let mut draft = Draft::new(image);
    if amended != *present {
        draft.push(MetadataRecord::RegisterBroker(amended));
    }
    draft.finish(Registered {
        broker_epoch: present.epoch,
    })
}

fn begin_incarnation(
    image: &MetadataImage,
    present: Option<&BrokerRegistration>,
    request: &RegistrationRequest,
    same_disk: bool,
) -> Transition<Registered> {
    let mut draft = Draft::new(image);
    if is_first(image) {
        begin_cluster(&mut draft, request);
    }
    let broker_epoch = BrokerEpoch(draft.image().offset());
    let disk_epoch = match request.disk {
        DiskState::Kept { epoch } | DiskState::Unclean { epoch } if same_disk => epoch,
        _ => BrokerEpoch::NONE,
    };
    draft.push(MetadataRecord::RegisterBroker(BrokerRegistration {
        epoch: broker_epoch,
        disk_epoch,
        fenced: true,
        draining: present.is_some_and(|present| present.draining),
        ..new_registration(request)
    }));
    let lost: BTreeSet<&(Uuid, i32)> = request.lost_replicas.iter().collect();
    leave_after_loss(&mut draft, request.node_id, |image, topic, index| {
        if !same_disk || lost.contains(&(topic.id, index)) {
            return Some(Loss::Everything);
        }
        let lossy = image.durability(topic) == Durability::Replicated;
        match request.disk {
            DiskState::Unclean { .. } if lossy => Some(Loss::Unsynced),
            _ => None,
        }
    });
    draft.finish(Registered { broker_epoch })
}

/// The first registration with incarnations: from here on the log holds what clusters need.
fn begin_cluster(draft: &mut Draft, request: &RegistrationRequest) {
    draft.push(MetadataRecord::MetadataVersion {
        metadata_version: MetadataVersion::CLUSTER,
    });
    for name in CLUSTER_WIDE {
        let value = request.cluster_wide.get(name);
        let value = value.and_then(|value| topic_setting(name)?.normalize(value).ok());
        if let Some(value) = value {
            draft.push(MetadataRecord::ClusterConfig {
                name: name.to_owned(),
                value: Some(value),
            });
        }
    }
}

fn new_registration(request: &RegistrationRequest) -> BrokerRegistration {
    BrokerRegistration {
        rack: request.rack.clone(),
        incarnation_id: request.incarnation_id,
        broker_endpoint: Some(request.broker.clone()),
        kafka_endpoints: request.kafka.clone(),
        metadata_versions: request.metadata_versions,
        ..BrokerRegistration::new(
            request.node_id,
            request.grpc.host.clone(),
            request.grpc.port,
        )
    }
}
