//! Replicas that a running node cannot serve any more, because their data directory has failed
//! (KIP-858, told by replica rather than by directory).

use conveyor_record::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::brokers::{BrokerEpochError, check_broker_epoch};
use crate::draft::Draft;
use crate::partitions::{Loss, PartitionUpdate};
use crate::{MetadataImage, Transition};

/// Replicas that a node has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineReplicas {
    /// The node.
    pub node_id: NodeId,
    /// Its incarnation.
    pub broker_epoch: BrokerEpoch,
    /// Topic and partition of each.
    pub partitions: Vec<(Uuid, i32)>,
}

/// Takes replicas out of the in-sync and eligible sets; answers how many partitions have changed.
///
/// The node goes on with its other replicas and could be chosen to lead these as well, so they are no
/// longer eligible: each comes back when its leader sees it in sync.
pub fn replicas_offline(
    image: &MetadataImage,
    offline: &OfflineReplicas,
) -> Result<Transition<usize>, BrokerEpochError> {
    let node = offline.node_id;
    check_broker_epoch(image, node, offline.broker_epoch)?;
    let mut draft = Draft::new(image);
    draft.update_partitions(|image, topic, index, partition| {
        let meant = offline.partitions.contains(&(topic.id, index));
        let listed = partition.isr.contains(&node) || partition.elr.contains(&node);
        let update = || PartitionUpdate::new(image, topic, index, partition);
        (meant && listed).then(|| update().losing(node, Loss::Unsynced))
    });
    let changed = draft.len();
    Ok(draft.finish(changed))
}
