//! Making a node empty, and taking one out of the cluster for good.
//!
//! A draining node gets no new replicas and leads nothing that another one may lead. Its replicas
//! move, a few at a time, as ordinary reassignments ([`crate::partitions::balance`]); when it holds
//! none it may be stopped and unregistered.

use conveyor_record::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::brokers::leave_after_loss;
use crate::draft::Draft;
use crate::partitions::{Loss, PartitionUpdate};
use crate::{MetadataImage, MetadataRecord, Transition};

/// What a node still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// Partitions that it leads.
    pub leaders: usize,
    /// Partitions of which it has a replica.
    pub replicas: usize,
    /// How many of these are on their way elsewhere.
    pub moving: usize,
}

/// Why a node is not drained or unregistered.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum LeaveError {
    /// There is no such node.
    #[error("node {node_id} is not registered")]
    Unknown {
        /// The number given.
        node_id: NodeId,
    },
    /// It is running.
    #[error("node {node_id} is running: stop it before it is unregistered")]
    Running {
        /// The node.
        node_id: NodeId,
    },
    /// It would be missed.
    #[error(
        "node {node_id} has replicas of {replicas} partitions: drain it, or reassign them, before it \
         is unregistered; forced, its replicas are given up"
    )]
    HasReplicas {
        /// The node.
        node_id: NodeId,
        /// Of how many partitions.
        replicas: usize,
    },
}

/// What a node still holds.
pub fn drain_status(image: &MetadataImage, node_id: NodeId) -> DrainStatus {
    let mut status = DrainStatus::default();
    for (_, _, partition) in image.partitions() {
        status.leaders += usize::from(partition.leader == node_id);
        status.replicas += usize::from(partition.replicas.contains(&node_id));
        status.moving += usize::from(partition.removing_replicas.contains(&node_id));
    }
    status
}

/// Begins to make a node empty, or ends it; what moves already goes on moving.
pub fn drain(
    image: &MetadataImage,
    node_id: NodeId,
    draining: bool,
) -> Result<Transition<DrainStatus>, LeaveError> {
    let broker = image.broker(node_id);
    let broker = broker.ok_or(LeaveError::Unknown { node_id })?;
    let mut draft = Draft::new(image);
    if broker.draining != draining {
        draft.push(MetadataRecord::BrokerChange {
            node_id,
            broker_epoch: broker.epoch,
            fenced: None,
            in_controlled_shutdown: None,
            draining: Some(draining),
        });
        draft.update_partitions(|image, topic, index, partition| {
            let leads = partition.leader == node_id;
            leads.then(|| PartitionUpdate::new(image, topic, index, partition))
        });
    }
    let status = drain_status(draft.image(), node_id);
    Ok(draft.finish(status))
}

/// Takes a stopped node out of the cluster. With `force` it may still have replicas: they count as
/// lost, and its partitions are led by whoever else may.
pub fn unregister(
    image: &MetadataImage,
    node_id: NodeId,
    force: bool,
) -> Result<Transition<()>, LeaveError> {
    let broker = image.broker(node_id);
    let broker = broker.ok_or(LeaveError::Unknown { node_id })?;
    if !broker.fenced {
        return Err(LeaveError::Running { node_id });
    }
    let replicas = drain_status(image, node_id).replicas;
    if replicas > 0 && !force {
        return Err(LeaveError::HasReplicas { node_id, replicas });
    }
    let mut draft = Draft::new(image);
    draft.push(MetadataRecord::UnregisterBroker {
        node_id,
        broker_epoch: broker.epoch,
    });
    leave_after_loss(&mut draft, node_id, |_, _, _| Some(Loss::Everything));
    Ok(draft.finish(()))
}
