//! The partitions in a member's hands, each with the epoch in which it got them.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::Assignment;

/// Partitions by topic id, each with the member's epoch since which it has been in its hands without a
/// break. A topic without partitions is never kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldPartitions(BTreeMap<Uuid, BTreeMap<i32, i32>>);

impl HeldPartitions {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of an assignment, since one epoch.
    pub fn all_since(epoch: i32, assignment: &Assignment) -> Self {
        let partitions = assignment.iter();
        partitions.map(|(t, p)| (t, p, epoch)).collect()
    }

    /// Adds a partition that is held since `epoch`.
    pub fn insert(&mut self, topic: Uuid, partition: i32, epoch: i32) {
        self.0.entry(topic).or_default().insert(partition, epoch);
    }

    /// The epoch since which a partition is held; `None` when it is not.
    pub fn since(&self, topic: Uuid, partition: i32) -> Option<i32> {
        self.0.get(&topic)?.get(&partition).copied()
    }

    /// Whether a partition is in it.
    pub fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.since(topic, partition).is_some()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The partitions alone.
    pub fn partitions(&self) -> Assignment {
        self.iter().map(|(t, p, _)| (t, p)).collect()
    }

    /// Every partition with its epoch, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, i32, i32)> + '_ {
        self.0
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|(p, e)| (*topic, *p, *e)))
    }

    /// Topic by topic, in order: partitions and their epochs.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (Uuid, &BTreeMap<i32, i32>)> + '_ {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }
}

impl FromIterator<(Uuid, i32, i32)> for HeldPartitions {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32, i32)>>(partitions: I) -> Self {
        let mut held = Self::new();
        for (topic, partition, epoch) in partitions {
            held.insert(topic, partition, epoch);
        }
        held
    }
}
