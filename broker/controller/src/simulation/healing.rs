//! The end of a run: all is well again, and everything must come to rest.

use conveyor_record::NodeId;

use super::{Key, SESSION_MS, World};
use crate::Change;
use crate::partitions::election::has_preferred_leader;

/// Rounds after which a healed cluster must be at rest: sessions end, nodes register and are unfenced,
/// followers catch up, reassignments and drains end, preferred leaders return.
const ROUNDS_MAX: usize = 60;

impl World {
    pub(super) fn heal(&mut self) {
        self.note(|| "healing begins".to_owned());
        self.faulty = false;
        self.proposals.clear();
        self.answers.clear();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for &id in &ids {
            if let Some(process) = self.node(id).process.as_mut() {
                process.frozen_until_ms = 0;
            }
        }
        for round in 0.. {
            self.round(&ids);
            if self.is_at_rest() {
                return;
            }
            assert!(
                round < ROUNDS_MAX,
                "no rest after {round} rounds: {}",
                self.unrest()
            );
        }
    }

    fn round(&mut self, ids: &[NodeId]) {
        self.now_ms += SESSION_MS / 4;
        for &id in ids {
            self.start(id);
            self.change(&Change::Drain {
                node_id: id,
                draining: false,
            });
            self.learn(id);
            self.beat(id);
            self.check();
        }
        self.tick();
        let keys: Vec<Key> = self
            .image
            .partitions()
            .map(|(topic, index, _)| (topic.id, index))
            .collect();
        for key in keys {
            let partition = self.image.partition(key.0, key.1).unwrap();
            let hopeless = partition.isr.is_empty() && partition.elr.is_empty();
            let any = partition.replicas.iter();
            if hopeless && any.clone().any(|node| self.image.is_active(*node)) {
                self.recover(key);
            }
            for &id in ids {
                self.learn(id);
                self.sync(id);
            }
            self.replicate(key);
            for &id in ids {
                self.sync(id);
            }
            self.replicate(key);
            self.grow(key);
            self.check();
        }
    }

    /// The leader takes everybody in who has caught up.
    fn grow(&mut self, key: Key) {
        let leader = self.image.partition(key.0, key.1).unwrap().leader;
        for member in self.nodes.keys().copied().collect::<Vec<_>>() {
            let known = self.nodes.contains_key(&leader);
            if !known || self.image.partition(key.0, key.1).unwrap().leader != leader {
                return;
            }
            self.learn(leader);
            if let Some(isr) = self.next_isr(leader, key, member, true, false) {
                self.send_proposal(leader, key, isr);
                self.deliver_proposal();
                self.deliver_answer();
                self.learn(leader);
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.unrest().is_empty()
    }

    /// What is not as it should be in the end.
    fn unrest(&self) -> String {
        let nodes = self.nodes.iter();
        let away = nodes.filter(|(id, node)| {
            !node.runs_as_in(&self.image, **id) || !self.image.is_active(**id)
        });
        let away = away.map(|(id, _)| format!("node {id} is away"));
        let partitions = self.image.partitions();
        let restless = partitions.filter(|(_, _, partition)| {
            let whole = partition.isr.len() == partition.replicas.len();
            !whole || !has_preferred_leader(partition) || partition.is_reassigning()
        });
        let restless = restless
            .map(|(topic, index, partition)| format!("{}-{index}: {partition:?}", topic.name));
        away.chain(restless).collect::<Vec<_>>().join("\n")
    }
}
