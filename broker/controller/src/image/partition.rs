//! A partition's placement and leadership, and what a change of them says.

use conveyor_record::{LeaderEpoch, NodeId, PartitionEpoch};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record::is_default;

/// A partition's placement and leadership. It is also the stored form of the record `partition`:
/// fields after `leader_epoch` came with version 1.
///
/// Between two changes of the metadata: in-sync and eligible replicas are disjoint and both are
/// replicas; the leader is in sync; there is a leader if anybody is in sync; with at least
/// `min.insync.replicas` in sync nobody is listed as eligible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    /// The nodes that hold it, preferred leader first; those that a reassignment adds or removes
    /// included.
    pub replicas: Vec<NodeId>,
    /// The replicas in sync: each has every record that may have been acknowledged.
    pub isr: Vec<NodeId>,
    /// The leader, [`NodeId::NONE`] while there is none.
    pub leader: NodeId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// How often this partition's record has changed; a proposal based on an older one is refused
    /// (KIP-497).
    #[serde(default, skip_serializing_if = "is_default")]
    pub partition_epoch: PartitionEpoch,
    /// Eligible leader replicas: not in sync any more, but with every acknowledged record, because
    /// nothing has been acknowledged since too few were in sync (KIP-966).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<NodeId>,
    /// Those that were eligible until an unclean stop may have cost them records: the first to ask
    /// when an operator must choose a leader that may lack some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_known_elr: Vec<NodeId>,
    /// Replicas that a reassignment brings (KIP-455).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding_replicas: Vec<NodeId>,
    /// Replicas that a reassignment takes away once the others are in sync.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing_replicas: Vec<NodeId>,
}

impl PartitionImage {
    /// A new partition on these nodes, of which those in `isr` can take part at once; the first of
    /// them leads.
    pub fn new(replicas: Vec<NodeId>, isr: Vec<NodeId>) -> Self {
        Self {
            leader: isr.first().copied().unwrap_or(NodeId::NONE),
            replicas,
            isr,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
        }
    }

    /// Whether a leader may be acknowledging records now.
    pub const fn has_leader(&self) -> bool {
        self.leader.is_some()
    }

    /// Whether a reassignment is under way.
    pub const fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    /// How many replicas it is meant to have as long as a reassignment is not complete: those that
    /// are only being added do not count yet.
    pub fn replication_factor(&self) -> usize {
        (self.replicas.len() - self.adding_replicas.len().min(self.replicas.len())).max(1)
    }

    /// The replicas there were before the reassignment that is under way.
    pub fn original_replicas(&self) -> Vec<NodeId> {
        without(&self.replicas, &self.adding_replicas)
    }

    /// The replicas there will be after the reassignment that is under way.
    pub fn target_replicas(&self) -> Vec<NodeId> {
        without(&self.replicas, &self.removing_replicas)
    }

    /// The version of `partition` that can say all this.
    pub(crate) fn record_version(&self) -> u16 {
        let newer = self.partition_epoch != PartitionEpoch(0)
            || self.is_reassigning()
            || !self.elr.is_empty()
            || !self.last_known_elr.is_empty();
        u16::from(newer)
    }
}

/// The members of `all` that are not in `others`, in order.
pub(crate) fn without(all: &[NodeId], others: &[NodeId]) -> Vec<NodeId> {
    let kept = all.iter().filter(|node| !others.contains(node));
    kept.copied().collect()
}

/// A change of a partition: only what changes is given. It is also the stored form of the record
/// `partition_change`; version 0 gave the in-sync set, leader and leader epoch, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The new in-sync set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isr: Option<Vec<NodeId>>,
    /// The leader from now on, the same one if only its epoch is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    /// The leader's new term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<LeaderEpoch>,
    /// The new partition epoch; version 0 does not give it, it is one more than before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_epoch: Option<PartitionEpoch>,
    /// The new replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<NodeId>>,
    /// The new eligible leader replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elr: Option<Vec<NodeId>>,
    /// The new last known eligible leader replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_elr: Option<Vec<NodeId>>,
    /// The replicas being added from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adding_replicas: Option<Vec<NodeId>>,
    /// The replicas being removed from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing_replicas: Option<Vec<NodeId>>,
}

impl PartitionChange {
    /// What leads from one state of a partition to another, with the next partition epoch; `None` if
    /// nothing does, whatever `after` says of that epoch.
    pub fn between(
        topic_id: Uuid,
        partition: i32,
        before: &PartitionImage,
        after: &PartitionImage,
    ) -> Option<Self> {
        let led_anew = before.leader != after.leader || before.leader_epoch != after.leader_epoch;
        let change = Self {
            topic_id,
            partition,
            isr: changed(&before.isr, &after.isr),
            leader: led_anew.then_some(after.leader),
            leader_epoch: led_anew.then_some(after.leader_epoch),
            partition_epoch: Some(next_epoch(before.partition_epoch)),
            replicas: changed(&before.replicas, &after.replicas),
            elr: changed(&before.elr, &after.elr),
            last_known_elr: changed(&before.last_known_elr, &after.last_known_elr),
            adding_replicas: changed(&before.adding_replicas, &after.adding_replicas),
            removing_replicas: changed(&before.removing_replicas, &after.removing_replicas),
        };
        let nothing = Self {
            partition_epoch: change.partition_epoch,
            ..Self::nothing(topic_id, partition)
        };
        (change != nothing).then_some(change)
    }

    const fn nothing(topic_id: Uuid, partition: i32) -> Self {
        Self {
            topic_id,
            partition,
            isr: None,
            leader: None,
            leader_epoch: None,
            partition_epoch: None,
            replicas: None,
            elr: None,
            last_known_elr: None,
            adding_replicas: None,
            removing_replicas: None,
        }
    }

    /// Makes the change.
    pub(crate) fn apply(&self, to: &mut PartitionImage) {
        let set = |list: &mut Vec<NodeId>, new: &Option<Vec<NodeId>>| {
            if let Some(new) = new {
                new.clone_into(list);
            }
        };
        set(&mut to.isr, &self.isr);
        set(&mut to.replicas, &self.replicas);
        set(&mut to.elr, &self.elr);
        set(&mut to.last_known_elr, &self.last_known_elr);
        set(&mut to.adding_replicas, &self.adding_replicas);
        set(&mut to.removing_replicas, &self.removing_replicas);
        to.leader = self.leader.unwrap_or(to.leader);
        to.leader_epoch = self.leader_epoch.unwrap_or(to.leader_epoch);
        let next = next_epoch(to.partition_epoch);
        to.partition_epoch = self.partition_epoch.unwrap_or(next);
    }

    /// The version of `partition_change` that can say this.
    pub(crate) const fn record_version(&self) -> u16 {
        if self.partition_epoch.is_some() { 1 } else { 0 }
    }
}

const fn next_epoch(epoch: PartitionEpoch) -> PartitionEpoch {
    PartitionEpoch(epoch.0.saturating_add(1))
}

fn changed(before: &[NodeId], after: &[NodeId]) -> Option<Vec<NodeId>> {
    (before != after).then(|| after.to_vec())
}
