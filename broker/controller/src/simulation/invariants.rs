//! What must be true after every step, each with the page that asks for it.

use std::fmt;

use conveyor_record::NodeId;

use super::broker::Replica;
use super::{Key, World};
use crate::{Durability, MetadataImage, MetadataRecord, PartitionImage, TopicImage};

/// A partition for a message, written only when there is one.
struct What<'a> {
    topic: &'a TopicImage,
    index: i32,
    partition: &'a PartitionImage,
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            index,
            partition,
        } = self;
        write!(f, "{}-{index}: {partition:?}", topic.name)
    }
}

fn is_set_of(part: &[NodeId], whole: &[NodeId]) -> bool {
    let once = |(index, node)| !part[..index].contains(node);
    part.iter().enumerate().all(once) && part.iter().all(|node| whole.contains(node))
}

impl World {
    /// After a transition: epochs and versions.
    pub(super) fn check_step(&mut self, before: &MetadataImage) {
        let image = self.image.clone();
        let moved = |topic: &TopicImage| {
            let former = before.topic_by_id(topic.id);
            former.is_none_or(|former| former.partitions != topic.partitions)
        };
        for (topic, index, partition) in image.partitions().filter(|(topic, ..)| moved(topic)) {
            let key = (topic.id, index);
            if let Some(former) = before.partition(topic.id, index) {
                self.check_change(key, former, partition);
            }
            // At most one leader in an epoch, "none" included.
            let epoch = partition.leader_epoch.value();
            let leader = *self.leaders.entry((key, epoch)).or_insert(partition.leader);
            assert_eq!(
                leader, partition.leader,
                "two leaders of {key:?} in epoch {epoch}"
            );
        }
        for broker in image.brokers() {
            let former = before.broker(broker.node_id);
            assert!(former.is_none_or(|former| former.epoch <= broker.epoch));
            let others = before.brokers().map(|other| other.epoch).max();
            let is_new = former.is_none_or(|former| former.epoch != broker.epoch);
            assert!(!is_new || others.is_none_or(|other| other < broker.epoch));
        }
    }

    fn check_change(&mut self, key: Key, before: &PartitionImage, after: &PartitionImage) {
        let versions = (before.partition_epoch, after.partition_epoch);
        if before == after {
            return;
        }
        assert!(
            versions.0 < versions.1,
            "{key:?} changes without a new version"
        );
        assert!(
            before.leader_epoch <= after.leader_epoch,
            "{key:?} goes back"
        );
        let members = |of: &PartitionImage, set: &[NodeId]| {
            of.replicas.len() == set.len() && of.replicas.iter().all(|node| set.contains(node))
        };
        if before.replicas != after.replicas {
            let complete = |of: &PartitionImage| !of.isr.is_empty() || !of.elr.is_empty();
            assert!(
                !complete(before) || complete(after),
                "{key:?}: other replicas, and none of them has the records"
            );
        }
        if !after.is_reassigning() && !members(after, &before.original_replicas()) {
            assert!(
                after.replicas.iter().all(|node| after.isr.contains(node)),
                "{key:?}: a reassignment ends before all are in sync"
            );
        }
        if before.leader != after.leader {
            assert!(
                before.leader_epoch < after.leader_epoch,
                "{key:?}: a leader without an epoch"
            );
            self.counts.elections += 1;
        }
    }

    /// After every step: who leads, who is in sync, who is eligible, and what they have.
    pub(super) fn check(&self) {
        for (topic, index, partition) in self.image.partitions() {
            self.check_sets(topic, index, partition);
            self.check_completeness(topic, index, partition);
        }
    }

    /// KIP-841, KIP-966.
    fn check_sets(&self, topic: &TopicImage, index: i32, partition: &PartitionImage) {
        let image = &self.image;
        let name = What {
            topic,
            index,
            partition,
        };
        let PartitionImage {
            replicas,
            isr,
            elr,
            last_known_elr,
            leader,
            ..
        } = partition;
        assert!(
            is_set_of(replicas, replicas) && !replicas.is_empty(),
            "{name}"
        );
        for set in [isr, elr, last_known_elr] {
            assert!(is_set_of(set, replicas), "{name}");
        }
        assert!(
            elr.iter().all(|node| !isr.contains(node)),
            "{name}: in sync and eligible"
        );
        assert!(
            isr.iter().all(|node| image.is_active(*node)),
            "{name}: a member is not running"
        );
        assert_eq!(
            leader.is_some(),
            !isr.is_empty(),
            "{name}: led without, or not led with members"
        );
        assert!(
            !leader.is_some() || isr.contains(leader),
            "{name}: the leader is not in sync"
        );
        let needed = image.min_insync_replicas(topic, partition);
        assert!(
            isr.len() < needed || elr.is_empty(),
            "{name}: enough in sync, others eligible"
        );
        let waiting = elr.iter().find(|node| image.is_active(**node));
        assert!(
            !isr.is_empty() || waiting.is_none(),
            "{name}: {waiting:?} could lead"
        );
        assert!(is_set_of(&partition.adding_replicas, replicas), "{name}");
        assert!(is_set_of(&partition.removing_replicas, replicas), "{name}");
    }

    /// Every replica that may lead has every record that was acknowledged: it need only be started.
    fn check_completeness(&self, topic: &TopicImage, index: i32, partition: &PartitionImage) {
        let key = (topic.id, index);
        let Some(acked) = self.acked.get(&key) else {
            return;
        };
        let durability = self.image.durability(topic);
        for id in partition.isr.iter().chain(&partition.elr) {
            // A process that is gone may have lost things: its next registration says so.
            let node = &self.nodes[id];
            if !node.runs_as_in(&self.image, *id) {
                continue;
            }
            let nothing = Replica::default();
            let replica = node.disk.replicas.get(&key).unwrap_or(&nothing);
            let kept = match durability {
                Durability::Fsync => replica.synced,
                Durability::Replicated => replica.records.len(),
            };
            assert!(
                kept >= acked.len() && replica.records[..acked.len()] == acked[..],
                "node {id} may lead {}-{index} and lacks acknowledged records ({kept} of {}): \
                 {partition:?}",
                topic.name,
                acked.len()
            );
        }
    }

    /// An empty disk counts for nothing.
    pub(super) fn check_in_no_set(&self, id: NodeId) {
        for (topic, index, partition) in self.image.partitions() {
            let sets = [&partition.isr, &partition.elr, &partition.last_known_elr];
            let listed = sets.iter().any(|set| set.contains(&id));
            assert!(
                !listed,
                "{}-{index} counts on the wiped node {id}",
                topic.name
            );
        }
    }

    /// The log gives the image that there is.
    pub(super) fn check_replay(&self) {
        let mut replayed = MetadataImage::default();
        for (stored, _) in &self.log {
            replayed.replay(&MetadataRecord::decode(stored).unwrap());
        }
        assert_eq!(replayed, self.image, "the records give another image");
    }
}
