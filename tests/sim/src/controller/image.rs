//! The metadata: records in an order, and the image they add up to.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use conveyor_replication::{BrokerState, Brokers, PartitionState};
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::message::PartitionId;

/// What is known of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRecord {
    /// Which broker.
    pub node: NodeId,
    /// Its present incarnation.
    pub epoch: BrokerEpoch,
    /// The start of the process that registered.
    pub start: u64,
    /// The disk it registered with.
    pub disk: u64,
    /// Whether it is kept away from leading and from in-sync sets.
    pub fenced: bool,
    /// Place of the registration.
    pub registered_at: i64,
}

/// What is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// Which partition.
    pub partition: PartitionId,
    /// Who has a copy.
    pub replicas: Vec<NodeId>,
    /// Who is in sync.
    pub in_sync: BTreeSet<NodeId>,
    /// Who is not in sync any more and has everything committed all the same (KIP-966).
    pub eligible: BTreeSet<NodeId>,
    /// Who leads, or -1.
    pub leader: NodeId,
    /// The term of that leader.
    pub leader_epoch: LeaderEpoch,
    /// The version of this record.
    pub partition_epoch: PartitionEpoch,
}

impl PartitionRecord {
    /// As the rules of replication take it.
    pub fn state(&self) -> PartitionState {
        PartitionState {
            replicas: self.replicas.clone(),
            in_sync: self.in_sync.iter().copied().collect(),
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            recovering: false,
        }
    }
}

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A broker is like this now.
    Broker(BrokerRecord),
    /// A partition is like this now.
    Partition(PartitionRecord),
}

/// A record and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its place, from 0.
    pub at: i64,
    /// What it says.
    pub record: Record,
}

/// Everything that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// All brokers.
    pub brokers: BTreeMap<NodeId, BrokerRecord>,
    /// All partitions.
    pub partitions: BTreeMap<PartitionId, PartitionRecord>,
}

impl Image {
    /// Takes a record into account.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Broker(broker) => {
                self.brokers.insert(broker.node, broker.clone());
            }
            Record::Partition(partition) => {
                self.partitions
                    .insert(partition.partition, partition.clone());
            }
        }
    }

    /// Counts what a record is going to change.
    pub fn count_change(&self, record: &Record, coverage: &mut Coverage) {
        let Record::Partition(record) = record else {
            return;
        };
        coverage.eligible_outside += u64::from(!record.eligible.is_empty());
        if let Some(before) = self.partitions.get(&record.partition) {
            let (before, now) = (before.in_sync.len(), record.in_sync.len());
            coverage.shrinks += u64::from(now < before);
            coverage.grows += u64::from(now > before);
        }
    }

    /// Whether `node` may lead and join.
    pub fn is_unfenced(&self, node: NodeId) -> bool {
        self.brokers.get(&node).is_some_and(|broker| !broker.fenced)
    }

    /// As the rules of replication take it.
    pub fn broker_states(&self) -> Brokers {
        let states = self.brokers.values().map(|broker| {
            let state = BrokerState {
                epoch: broker.epoch,
                eligible: !broker.fenced,
            };
            (broker.node, state)
        });
        states.collect()
    }
}
