//! What the controller decides: registration, fencing, elections, in-sync sets. Pure.
//!
//! A small model of Kafka's rules (KIP-497, KIP-841, KIP-903, KIP-966). Each function looks at the
//! image and returns the records that it wants to have written.

use std::collections::BTreeSet;

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, mutants};
use conveyor_replication::{InSyncDecision, Incarnation, Proposal, Refusal};

use super::image::{BrokerRecord, Image, PartitionRecord, Record};
use crate::message::PartitionId;

/// The image with the changes of one decision.
#[derive(Debug)]
pub struct Decision<'a> {
    image: &'a Image,
    draft: Image,
    min_in_sync: usize,
    records: Vec<Record>,
}

impl<'a> Decision<'a> {
    /// Begins to decide.
    pub fn new(image: &'a Image, min_in_sync: usize) -> Self {
        Self {
            image,
            draft: image.clone(),
            min_in_sync,
            records: Vec::new(),
        }
    }

    /// The records decided on.
    pub fn records(self) -> Vec<Record> {
        self.records
    }

    /// A broker has started. It is fenced until it has caught up with the metadata; what it led and
    /// was in sync for goes to others. On another disk than before it has nothing.
    pub fn register(&mut self, node: NodeId, start: u64, disk: u64, at: i64) -> BrokerEpoch {
        let before = self.image.brokers.get(&node);
        let wiped = before.is_some_and(|before| before.disk != disk);
        let mut broker = BrokerRecord {
            node,
            epoch: BrokerEpoch(at),
            start,
            disk,
            fenced: true,
            registered_at: at,
        };
        self.draft.apply(&Record::Broker(broker.clone()));
        self.leave_all(node, wiped && !mutants::on("wiped-replica-stays-eligible"));
        // Last, so that whoever has applied the registration knows what went to others with it.
        broker.registered_at = at + self.records.len() as i64;
        broker.epoch = BrokerEpoch(broker.registered_at);
        let epoch = broker.epoch;
        self.put_broker(broker);
        epoch
    }

    /// A broker was not heard of for too long.
    pub fn fence(&mut self, node: NodeId) {
        let Some(broker) = self.draft.brokers.get(&node) else {
            return;
        };
        self.put_broker(BrokerRecord {
            fenced: true,
            ..broker.clone()
        });
        self.leave_all(node, false);
    }

    /// A broker has caught up with the metadata and is heard of.
    pub fn unfence(&mut self, node: NodeId) {
        let Some(broker) = self.draft.brokers.get(&node) else {
            return;
        };
        self.put_broker(BrokerRecord {
            fenced: false,
            ..broker.clone()
        });
        for mut partition in self.partitions() {
            if !partition.leader.is_some() && self.elect(&mut partition, None) {
                self.put_partition(partition);
            }
        }
    }

    /// A partition comes into being.
    pub fn create(&mut self, partition: PartitionId, replicas: Vec<NodeId>) {
        let record = PartitionRecord {
            partition,
            in_sync: replicas.iter().copied().collect(),
            eligible: BTreeSet::new(),
            leader: replicas[0],
            replicas,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(-1),
        };
        self.put_partition(record);
    }

    /// A leader proposes an in-sync set.
    pub fn alter(
        &mut self,
        from: Incarnation,
        partition: PartitionId,
        proposal: &Proposal,
    ) -> Result<InSyncDecision, Refusal> {
        let mut record = self
            .draft
            .partitions
            .get(&partition)
            .cloned()
            .ok_or(Refusal::Superseded)?;
        let up_to_date = record.leader == from.node
            && record.leader_epoch == proposal.leader_epoch
            && record.partition_epoch == proposal.partition_epoch;
        if !up_to_date {
            return Err(Refusal::Superseded);
        }
        let set: BTreeSet<NodeId> = proposal.members.iter().map(|(node, _)| *node).collect();
        let eligible = proposal.members.iter().all(|(node, epoch)| {
            let known = self.draft.brokers.get(node);
            let same = known.is_some_and(|broker| broker.epoch == *epoch)
                || mutants::on("stale-broker-epoch");
            record.replicas.contains(node) && same && self.draft.is_unfenced(*node)
        });
        if !eligible || !set.contains(&record.leader) {
            return Err(Refusal::NotTaken);
        }
        let left: Vec<NodeId> = record.in_sync.difference(&set).copied().collect();
        record.in_sync = set;
        self.keep_eligible(&mut record, &left);
        let in_sync = record.in_sync.iter().copied().collect();
        let partition_epoch = self.put_partition(record);
        Ok(InSyncDecision {
            partition_epoch,
            in_sync,
        })
    }

    /// A leader does not want to lead any more; somebody else who is in sync does.
    pub fn give_up(
        &mut self,
        from: Incarnation,
        partition: PartitionId,
        epoch: LeaderEpoch,
    ) -> bool {
        let Some(mut record) = self.draft.partitions.get(&partition).cloned() else {
            return false;
        };
        if record.leader != from.node || record.leader_epoch != epoch {
            return false;
        }
        let changed = self.elect(&mut record, Some(from.node));
        if changed {
            self.put_partition(record);
        }
        changed
    }

    /// Leadership goes back to the first replica where that is in sync.
    pub fn balance(&mut self) {
        for mut partition in self.partitions() {
            let preferred = partition.replicas[0];
            if partition.leader.is_some()
                && partition.leader != preferred
                && partition.in_sync.contains(&preferred)
                && self.draft.is_unfenced(preferred)
            {
                lead(&mut partition, preferred);
                self.put_partition(partition);
            }
        }
    }

    fn partitions(&self) -> Vec<PartitionRecord> {
        self.draft.partitions.values().cloned().collect()
    }

    fn put_broker(&mut self, broker: BrokerRecord) {
        let record = Record::Broker(broker);
        self.draft.apply(&record);
        self.records.push(record);
    }

    fn put_partition(&mut self, mut partition: PartitionRecord) -> PartitionEpoch {
        partition.partition_epoch = PartitionEpoch(partition.partition_epoch.value() + 1);
        let epoch = partition.partition_epoch;
        let record = Record::Partition(partition);
        self.draft.apply(&record);
        self.records.push(record);
        epoch
    }

    /// `node` leaves every in-sync set, and its leaderships.
    fn leave_all(&mut self, node: NodeId, has_nothing: bool) {
        for before in self.partitions() {
            let mut partition = before.clone();
            if partition.in_sync.remove(&node) {
                self.keep_eligible(&mut partition, &[node]);
            }
            if has_nothing {
                partition.eligible.remove(&node);
            }
            if partition.leader == node {
                partition.leader = NodeId::NONE;
                if !self.elect(&mut partition, None) {
                    partition.leader_epoch = LeaderEpoch(partition.leader_epoch.value() + 1);
                }
            }
            if partition != before {
                self.put_partition(partition);
            }
        }
    }

    /// Who has left stays eligible as long as too few are in sync: nothing has been committed since.
    fn keep_eligible(&self, partition: &mut PartitionRecord, left: &[NodeId]) {
        let needed = self.min_in_sync.min(partition.replicas.len());
        if partition.in_sync.len() >= needed {
            if !mutants::on("eligible-leaders-kept-too-long") {
                partition.eligible.clear();
            }
        } else {
            partition.eligible.extend(left);
        }
        let in_sync = &partition.in_sync;
        partition.eligible.retain(|node| !in_sync.contains(node));
    }

    /// Chooses a leader who has everything committed: one in sync, or else an eligible one. Never
    /// another: then there is no leader.
    fn elect(&self, partition: &mut PartitionRecord, not: Option<NodeId>) -> bool {
        let mut able = partition
            .replicas
            .iter()
            .copied()
            .filter(|node| self.draft.is_unfenced(*node) && Some(*node) != not);
        let in_sync = able.clone().find(|node| partition.in_sync.contains(node));
        if let Some(node) = in_sync {
            lead(partition, node);
            return true;
        }
        if not.is_some() {
            return false;
        }
        let eligible =
            able.find(|node| partition.eligible.contains(node) || mutants::on("unclean-election"));
        let Some(node) = eligible else { return false };
        // Nobody in sync is left to lead; those that were stay eligible beside it.
        partition.eligible.remove(&node);
        partition.in_sync = BTreeSet::from([node]);
        lead(partition, node);
        true
    }
}

fn lead(partition: &mut PartitionRecord, node: NodeId) {
    partition.leader = node;
    partition.leader_epoch = LeaderEpoch(partition.leader_epoch.value() + 1);
}
