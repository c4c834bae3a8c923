//! A set of partitions of some topics, in a fixed order.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Partitions by topic id. A topic without partitions is never kept, so that two assignments are
/// equal when they hold the same partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment(BTreeMap<Uuid, BTreeSet<i32>>);

impl Assignment {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a partition; says whether it is new.
    pub fn insert(&mut self, topic: Uuid, partition: i32) -> bool {
        self.0.entry(topic).or_default().insert(partition)
    }

    /// Takes a partition out; says whether it was there.
    pub fn remove(&mut self, topic: Uuid, partition: i32) -> bool {
        let Some(partitions) = self.0.get_mut(&topic) else {
            return false;
        };
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.0.remove(&topic);
        }
        removed
    }

    /// Whether a partition is in it.
    pub fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.0
            .get(&topic)
            .is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of partitions.
    pub fn count(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether `other` has all of it.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter()
            .all(|(topic, partition)| other.contains(topic, partition))
    }

    /// Whether any partition is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.iter()
            .any(|(topic, partition)| other.contains(topic, partition))
    }

    /// Every partition, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        self.0
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|p| (*topic, *p)))
    }

    /// Topic by topic, in order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (Uuid, &BTreeSet<i32>)> + '_ {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }
}

impl FromIterator<(Uuid, i32)> for Assignment {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32)>>(partitions: I) -> Self {
        let mut assignment = Self::new();
        assignment.extend(partitions);
        assignment
    }
}

impl Extend<(Uuid, i32)> for Assignment {
    fn extend<I: IntoIterator<Item = (Uuid, i32)>>(&mut self, partitions: I) {
        for (topic, partition) in partitions {
            self.insert(topic, partition);
        }
    }
}
