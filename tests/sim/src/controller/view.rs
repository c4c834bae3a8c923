//! The metadata as brokers, faults and the oracle look at it: the partitions of the one topic.

use conveyor_controller::{BrokerRegistration, Durability, PartitionImage};
use conveyor_record::NodeId;
use conveyor_replication::{BrokerState, Brokers, PartitionState};
use uuid::Uuid;

use super::{Image, Record};
use crate::coverage::Coverage;
use crate::message::PartitionId;
use crate::scenario::Scenario;

/// The id of the one topic.
pub const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// The records of one decision, which belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Place of the first of them.
    pub at: i64,
    /// The records.
    pub records: Vec<Record>,
}

/// A partition, once it exists.
pub fn partition(image: &Image, partition: PartitionId) -> Option<&PartitionImage> {
    image.partition(TOPIC_ID, partition as i32)
}

/// All partitions.
pub fn partitions(image: &Image) -> impl Iterator<Item = (PartitionId, &PartitionImage)> {
    image
        .partitions()
        .map(|(_, index, partition)| (index as PartitionId, partition))
}

/// A partition as the rules of replication take it.
pub fn state(partition: &PartitionImage) -> PartitionState {
    PartitionState {
        replicas: partition.replicas.clone(),
        in_sync: partition.isr.clone(),
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        recovering: false,
    }
}

/// The brokers as the rules of replication take them.
pub fn broker_states(image: &Image) -> Brokers {
    let states = image.brokers().map(|broker| {
        let state = BrokerState {
            epoch: broker.epoch,
            eligible: broker.is_active(),
        };
        (broker.node_id, state)
    });
    states.collect()
}

/// The incarnation id of a start of a broker.
pub fn incarnation_id(node: NodeId, start: u64) -> Uuid {
    Uuid::from_u64_pair(node.value() as u64, start)
}

/// The start of a broker that is registered.
pub fn registered_start(broker: &BrokerRegistration) -> u64 {
    broker.incarnation_id.as_u64_pair().1
}

/// The setting `conveyor.durability` of a run.
pub const fn durability(scenario: &Scenario) -> Durability {
    match scenario.replication.durability {
        conveyor_replication::Durability::Fsync => Durability::Fsync,
        conveyor_replication::Durability::Replicated => Durability::Replicated,
    }
}

/// Counts what a decision has changed of one partition.
pub fn count_change(
    before: Option<&PartitionImage>,
    after: &PartitionImage,
    coverage: &mut Coverage,
) {
    coverage.eligible_outside += u64::from(!after.elr.is_empty());
    if let Some(before) = before {
        coverage.shrinks += u64::from(after.isr.len() < before.isr.len());
        coverage.grows += u64::from(after.isr.len() > before.isr.len());
    }
}
