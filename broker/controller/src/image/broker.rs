//! A node of the cluster as the metadata knows it.

use std::collections::BTreeMap;
use std::fmt;

use conveyor_record::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::MetadataVersionRange;
use crate::record::is_default;

/// Where a listener is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

impl Endpoint {
    /// A host and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A node with its addresses and its present incarnation. It is also the stored form of the record
/// `register_broker`: fields after `rack` came with version 1.
///
/// A node alone, registered by an earlier build, has no incarnation and is never fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// Its number in the cluster.
    pub node_id: NodeId,
    /// Host name or address of the gRPC listener, as told to clients.
    pub host: String,
    /// Port of the gRPC listener, as told to clients.
    pub port: u16,
    /// Where it stands; empty when not told.
    pub rack: String,
    /// The run of the process: another at each start. Nil for a node of an earlier build.
    #[serde(default, skip_serializing_if = "Uuid::is_nil")]
    pub incarnation_id: Uuid,
    /// The incarnation's number, larger than those of all registrations before it: the metadata
    /// offset of this registration.
    #[serde(
        rename = "broker_epoch",
        default = "no_epoch",
        skip_serializing_if = "is_no_epoch"
    )]
    pub epoch: BrokerEpoch,
    /// The newest epoch that the node's disk is known to bear. What a disk of another epoch holds is
    /// not what the in-sync sets were told of.
    #[serde(default = "no_epoch", skip_serializing_if = "is_no_epoch")]
    pub disk_epoch: BrokerEpoch,
    /// The listener for other nodes; none for a node alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_endpoint: Option<Endpoint>,
    /// Kafka listeners by name, as told to clients.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kafka_endpoints: BTreeMap<String, Endpoint>,
    /// It may neither lead nor be in sync: it has not caught up with the metadata since its
    /// registration, or its heartbeats have stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fenced: bool,
    /// It is about to stop in order: its partitions have been led away (KIP-841).
    #[serde(default, skip_serializing_if = "is_default")]
    pub in_controlled_shutdown: bool,
    /// An operator wants it empty: it gets no new replicas and gives away those that it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: bool,
    /// The metadata versions that its build reads and writes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata_versions: MetadataVersionRange,
}

impl BrokerRegistration {
    /// A node alone, without a rack.
    pub fn new(node_id: NodeId, host: impl Into<String>, port: u16) -> Self {
        Self {
            node_id,
            host: host.into(),
            port,
            rack: String::new(),
            incarnation_id: Uuid::nil(),
            epoch: BrokerEpoch::NONE,
            disk_epoch: BrokerEpoch::NONE,
            broker_endpoint: None,
            kafka_endpoints: BTreeMap::new(),
            fenced: false,
            in_controlled_shutdown: false,
            draining: false,
            metadata_versions: MetadataVersionRange::default(),
        }
    }

    /// Whether it may lead partitions and be in sync: neither fenced nor about to stop.
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Whether new replicas may be placed on it.
    pub const fn takes_replicas(&self) -> bool {
        self.is_active() && !self.draining
    }

    /// The version of `register_broker` that can say all this.
    pub(crate) fn record_version(&self) -> u16 {
        let alone = Self {
            rack: self.rack.clone(),
            ..Self::new(self.node_id, self.host.clone(), self.port)
        };
        u16::from(*self != alone)
    }
}

const fn no_epoch() -> BrokerEpoch {
    BrokerEpoch::NONE
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_no_epoch(epoch: &BrokerEpoch) -> bool {
    *epoch == BrokerEpoch::NONE
}
