//! The life of the cluster's nodes: registration, heartbeats, fencing, stopping, draining, leaving.
//!
//! A node *registers* with each start of its process and gets a broker epoch. It is fenced at first:
//! neither leader nor in sync anywhere. Its *heartbeats* tell how far it is with the metadata; once it
//! has seen its own registration it is unfenced. Missed heartbeats fence it again. Before a stop in
//! order its partitions are led away (KIP-841). An operator can *drain* a node, and *unregister* one
//! that is gone.
//!
//! What is known only from heartbeats ([`Sessions`]) is no metadata: a new active controller begins
//! with fresh sessions.

pub mod draining;
pub mod heartbeat;
pub mod registration;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use sessions::Sessions;

use conveyor_record::{BrokerEpoch, NodeId, mutants};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::draft::Draft;
use crate::partitions::{Loss, PartitionUpdate};
use crate::{BrokerRegistration, MetadataImage, TopicImage};

/// The request comes from an incarnation that is over, or from a stranger.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum BrokerEpochError {
    /// It has never registered, or has been unregistered.
    #[error("node {node_id} is not registered: it must register first")]
    NotRegistered {
        /// The node.
        node_id: NodeId,
    },
    /// Another incarnation of the node has registered since.
    #[error("broker epoch {found} of node {node_id} is over, the present one is {current}")]
    Stale {
        /// The node.
        node_id: NodeId,
        /// The request's epoch.
        found: BrokerEpoch,
        /// The present one.
        current: BrokerEpoch,
    },
}

/// The registration of the incarnation that sent a request.
pub fn check_broker_epoch(
    image: &MetadataImage,
    node_id: NodeId,
    found: BrokerEpoch,
) -> Result<&BrokerRegistration, BrokerEpochError> {
    let broker = image.broker(node_id);
    let broker = broker.ok_or(BrokerEpochError::NotRegistered { node_id })?;
    let current = broker.epoch;
    if found == current {
        return Ok(broker);
    }
    Err(BrokerEpochError::Stale {
        node_id,
        found,
        current,
    })
}

/// Takes a node out of every in-sync set; others lead then, where others may.
pub(crate) fn leave_isr(draft: &mut Draft, node: NodeId) {
    draft.update_partitions(|image, topic, index, partition| {
        let update = || PartitionUpdate::new(image, topic, index, partition);
        let concerned = partition.isr.contains(&node) || partition.leader == node;
        let concerned = concerned && !mutants::on("controller: fenced replica stays in sync");
        concerned.then(|| update().leaving(node))
    });
}

/// Takes a node out of every in-sync set, and out of the eligible replicas of those partitions for
/// which it has lost something.
pub(crate) fn leave_after_loss<F>(draft: &mut Draft, node: NodeId, loss: F)
where
    F: Fn(&MetadataImage, &TopicImage, i32) -> Option<Loss>,
{
    draft.update_partitions(|image, topic, index, partition| {
        let sets = [&partition.isr, &partition.elr, &partition.last_known_elr];
        if !sets.iter().any(|set| set.contains(&node)) {
            return None;
        }
        let update = PartitionUpdate::new(image, topic, index, partition);
        Some(match loss(image, topic, index) {
            Some(loss) => update.losing(node, loss),
            None => update.leaving(node),
        })
    });
}

/// Chooses leaders for partitions that have none.
pub(crate) fn elect_for_leaderless(draft: &mut Draft) {
    draft.update_partitions(|image, topic, index, partition| {
        let leaderless = !partition.has_leader();
        leaderless.then(|| PartitionUpdate::new(image, topic, index, partition))
    });
}
