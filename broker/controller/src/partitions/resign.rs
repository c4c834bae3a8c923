//! A leader that gives up: its disk is too slow for those who wait for acknowledgements.
//!
//! It leaves the in-sync set, and another member leads. It is taken back like any other follower, when
//! it has caught up. A leader that is alone in the set goes on: a slow leader is better than none.

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::brokers::{BrokerEpochError, check_broker_epoch};
use crate::draft::Draft;
use crate::partitions::PartitionUpdate;
use crate::{MetadataImage, MetadataRecord, Transition};

/// Leaderships that a node gives up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResignRequest {
    /// The node.
    pub node_id: NodeId,
    /// Its incarnation.
    pub broker_epoch: BrokerEpoch,
    /// What it leads, each decided on by itself.
    pub partitions: Vec<LedPartition>,
}

/// A partition that somebody leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedPartition {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The term.
    pub leader_epoch: LeaderEpoch,
}

/// Why a leader goes on leading, or does not lead anyway.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ResignError {
    /// There is no such partition, or somebody else leads it, or in another term.
    #[error("node {node_id} does not lead partition {partition} of topic {topic_id} in that epoch")]
    NotLeader {
        /// The node.
        node_id: NodeId,
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
    /// Nobody else has every acknowledged record.
    #[error("nobody but node {node_id} is in sync for partition {partition} of topic {topic_id}")]
    NobodyElse {
        /// The node.
        node_id: NodeId,
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
}

/// Lets other members of the in-sync sets lead; the outcomes (the new leaders) are in the order of the
/// partitions.
pub fn resign(
    image: &MetadataImage,
    request: &ResignRequest,
) -> Result<Transition<Vec<Result<NodeId, ResignError>>>, BrokerEpochError> {
    check_broker_epoch(image, request.node_id, request.broker_epoch)?;
    let mut draft = Draft::new(image);
    let outcomes = request.partitions.iter();
    let outcomes = outcomes
        .map(|led| resign_one(&mut draft, request.node_id, *led))
        .collect();
    Ok(draft.finish(outcomes))
}

fn resign_one(
    draft: &mut Draft,
    node_id: NodeId,
    led: LedPartition,
) -> Result<NodeId, ResignError> {
    let LedPartition {
        topic_id,
        partition: index,
        leader_epoch,
    } = led;
    let image = draft.image();
    let found = image
        .topic_by_id(topic_id)
        .zip(image.partition(topic_id, index))
        .filter(|(_, it)| it.leader == node_id && it.leader_epoch == leader_epoch);
    let (topic, partition) = found.ok_or(ResignError::NotLeader {
        node_id,
        topic_id,
        partition: index,
    })?;
    if partition.isr.len() < 2 {
        return Err(ResignError::NobodyElse {
            node_id,
            topic_id,
            partition: index,
        });
    }
    let update = PartitionUpdate::new(image, topic, index, partition).leaving(node_id);
    let change = update.build();
    draft.extend(change.map(MetadataRecord::PartitionChange));
    let after = draft.image().partition(topic_id, index);
    Ok(after.map_or(NodeId::NONE, |after| after.leader))
}
