//! Why a change of the metadata is refused. Nothing of it has happened then.

use conveyor_record::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::assignment::AssignmentError;
use crate::settings::SettingError;
use crate::topic_name::InvalidTopicName;
use crate::{MetadataVersion, MetadataVersionRange};

/// Why a topic is not created.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum CreateTopicError {
    /// The name is not legal.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// Only the broker itself makes this topic.
    #[error("topic {name} is internal: only the broker creates it")]
    Internal {
        /// The topic.
        name: String,
    },
    /// There is one of this name.
    #[error("topic {name} exists already")]
    Exists {
        /// The topic.
        name: String,
    },
    /// Another name differs from it only in `.` and `_`.
    #[error("topic {name} collides with {other}: metric names cannot tell '.' from '_'")]
    Collides {
        /// The topic asked for.
        name: String,
        /// The topic there is.
        other: String,
    },
    /// No topic can have so many partitions.
    #[error("topic {name} cannot have {count} partitions, allowed are 1 to {max}")]
    InvalidPartitions {
        /// The topic.
        name: String,
        /// What was asked for.
        count: i32,
        /// The most it could have now.
        max: usize,
    },
    /// There are not so many nodes.
    #[error("topic {name} cannot have {factor} replicas, there are {nodes} nodes")]
    InvalidReplicationFactor {
        /// The topic.
        name: String,
        /// What was asked for.
        factor: i32,
        /// Nodes that could hold a replica.
        nodes: usize,
    },
    /// Replicas are chosen by hand and counted as well.
    #[error("topic {name}: {}", AssignmentError::CountGiven)]
    AssignmentAndCount {
        /// The topic.
        name: String,
    },
    /// Replicas that were chosen by hand make no sense.
    #[error("topic {name}: {source}")]
    InvalidAssignment {
        /// The topic.
        name: String,
        /// What is wrong with them.
        source: AssignmentError,
    },
    /// A setting is refused.
    #[error("topic {name}: {source}")]
    Setting {
        /// The topic.
        name: String,
        /// Which, and why.
        source: SettingError,
    },
}

/// Why a topic is not deleted.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum DeleteTopicError {
    /// There is none of this name.
    #[error("topic {name:?} does not exist")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The broker needs it.
    #[error("topic {name} is internal and cannot be deleted")]
    Internal {
        /// The topic.
        name: String,
    },
}

/// Why a topic does not get more partitions.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum CreatePartitionsError {
    /// There is none of this name.
    #[error("topic {name:?} does not exist")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The broker chose its number of partitions: what it stores there depends on it.
    #[error("topic {name} is internal: its partitions are fixed")]
    Internal {
        /// The topic.
        name: String,
    },
    /// Partitions are only ever added, up to a limit.
    #[error("topic {name} has {present} partitions and cannot get {count}, allowed are {} to {max}", present + 1)]
    InvalidCount {
        /// The topic.
        name: String,
        /// What was asked for in total.
        count: i32,
        /// What it has.
        present: usize,
        /// The most it could have now.
        max: usize,
    },
    /// Too few nodes are running for as many replicas as the topic's partitions have.
    #[error("topic {name} has {factor} replicas a partition, {nodes} nodes can take some now")]
    TooFewNodes {
        /// The topic.
        name: String,
        /// Replicas of each partition.
        factor: usize,
        /// Nodes that could hold a replica.
        nodes: usize,
    },
    /// Replicas that were chosen by hand make no sense.
    #[error("topic {name}: {source}")]
    InvalidAssignment {
        /// The topic.
        name: String,
        /// What is wrong with them.
        source: AssignmentError,
    },
}

/// Why settings are not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum AlterConfigError {
    /// There is no such topic.
    #[error("topic {name:?} does not exist")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// One setting comes twice in the request.
    #[error("topic {topic}: setting {name} is altered twice in one request")]
    Repeated {
        /// The topic.
        topic: String,
        /// The setting.
        name: String,
    },
    /// The broker depends on this setting of its own topic.
    #[error("topic {topic} is internal: {name} is fixed")]
    InternalFixed {
        /// The topic.
        topic: String,
        /// The setting.
        name: String,
    },
    /// A setting is refused.
    #[error("topic {topic}: {source}")]
    Setting {
        /// The topic.
        topic: String,
        /// Which, and why.
        source: SettingError,
    },
}

/// Why a node cannot take part.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum RegisterError {
    /// The number is not one that a node can have.
    #[error("node id {node_id} is not legal: it must be 0 or more")]
    InvalidNodeId {
        /// The number.
        node_id: NodeId,
    },
    /// Clients or other nodes would not find it.
    #[error("node {node_id} has no host or port to tell to others (advertised address)")]
    NoAddress {
        /// The node.
        node_id: NodeId,
    },
    /// Names that no host or rack has, or too many listeners.
    #[error(
        "node {node_id} has a host, rack or listener name over 255 bytes, or over 32 listeners"
    )]
    TooLong {
        /// The node.
        node_id: NodeId,
    },
    /// Every start has its own incarnation id.
    #[error("node {node_id} registers without an incarnation id")]
    NoIncarnation {
        /// The node.
        node_id: NodeId,
    },
    /// There is no cluster to join.
    #[error("node {node_id} cannot register: the cluster has not been founded yet")]
    NoCluster {
        /// The node.
        node_id: NodeId,
    },
    /// The node's disk or settings are another cluster's.
    #[error(
        "node {node_id} belongs to cluster {found}, this is cluster {expected}: point it to its own \
         cluster, or give it an empty data directory"
    )]
    OtherCluster {
        /// The node.
        node_id: NodeId,
        /// Its cluster.
        found: String,
        /// This cluster.
        expected: String,
    },
    /// Another process has the number and is alive.
    #[error(
        "node id {node_id} is in use by a running node at {host}: give this one another node.id, or \
         wait until the session of the other is over if it has just been stopped"
    )]
    NodeIdInUse {
        /// The number.
        node_id: NodeId,
        /// Where the other one is.
        host: String,
    },
    /// The disk is an old copy, or the request is late.
    #[error(
        "the disk of node {node_id} bears broker epoch {found}, the newest is {expected}: it is an old \
         copy or another node's; empty the data directories, and the node fetches everything again"
    )]
    OldDisk {
        /// The node.
        node_id: NodeId,
        /// The epoch on the disk.
        found: BrokerEpoch,
        /// The newest one that the node has been given.
        expected: BrokerEpoch,
    },
    /// The node's build is too old or too new.
    #[error(
        "node {node_id} reads metadata versions {range}, the cluster needs {needed}: start a build \
         that reads it"
    )]
    MetadataVersion {
        /// The node.
        node_id: NodeId,
        /// What it reads.
        range: MetadataVersionRange,
        /// What it would have to read.
        needed: MetadataVersion,
    },
    /// A default that must be the same on all nodes is not.
    #[error(
        "node {node_id} has {name}={found}, the cluster has {expected}: acknowledgements are counted \
         by it, so take it out of the node's settings or set it as the cluster has it"
    )]
    OtherDefault {
        /// The node.
        node_id: NodeId,
        /// The setting.
        name: String,
        /// The node's value.
        found: String,
        /// The cluster's value.
        expected: String,
    },
    /// A default that makes no sense.
    #[error(transparent)]
    Setting(#[from] SettingError),
}
