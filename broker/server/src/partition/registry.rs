//! Which partitions this node has, by name: read on every request, changed with the metadata.
//!
//! The map is replaced as a whole (`ArcSwap`), so that looking up takes no lock.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::Partition;

/// Why there is no partition to work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PartitionLookupError {
    /// No such topic.
    #[error("topic {topic:?} does not exist")]
    UnknownTopic {
        /// The name asked for, cut to a legal length.
        topic: String,
    },
    /// The topic has not so many partitions.
    #[error("topic {topic} has no partition {partition}, only 0 to {}", count - 1)]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The number asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// Its log cannot be opened.
    #[error("{topic}-{partition} is offline: {reason}")]
    Offline {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What happened.
        reason: Arc<str>,
    },
}

/// A place in a topic: an open partition, or why it is not open.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    /// Open.
    Online(Arc<Partition>),
    /// Its log could not be opened or created.
    Offline(Arc<str>),
}

/// The partitions of one topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicPartitions {
    /// The topic's name.
    pub(crate) name: Arc<str>,
    slots: Vec<Slot>,
}

impl TopicPartitions {
    pub(crate) fn new(name: Arc<str>, slots: Vec<Slot>) -> Self {
        Self { name, slots }
    }

    /// All places.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The open partitions.
    pub(crate) fn online(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Online(partition) => Some(partition),
            Slot::Offline(_) => None,
        })
    }

    /// One partition.
    pub(crate) fn get(&self, partition: i32) -> Result<&Arc<Partition>, PartitionLookupError> {
        let slot = usize::try_from(partition)
            .ok()
            .and_then(|index| self.slots.get(index));
        match slot {
            Some(Slot::Online(partition)) => Ok(partition),
            Some(Slot::Offline(reason)) => Err(PartitionLookupError::Offline {
                topic: self.name.to_string(),
                partition,
                reason: Arc::clone(reason),
            }),
            None => Err(PartitionLookupError::UnknownPartition {
                topic: self.name.to_string(),
                partition,
                count: self.slots.len(),
            }),
        }
    }
}

type Map = HashMap<Arc<str>, Arc<TopicPartitions>>;

/// All partitions of this node that clients may name.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    topics: ArcSwap<Map>,
}

impl Partitions {
    /// A topic.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicPartitions>, PartitionLookupError> {
        self.topics
            .load()
            .get(name)
            .cloned()
            .ok_or_else(|| unknown(name))
    }

    /// A partition.
    pub(crate) fn get(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Arc<Partition>, PartitionLookupError> {
        let topics = self.topics.load();
        let found = topics.get(topic).ok_or_else(|| unknown(topic))?;
        found.get(partition).cloned()
    }

    /// All topics, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<TopicPartitions>> {
        self.topics.load().values().cloned().collect()
    }

    /// All open partitions, in no particular order.
    pub(crate) fn online(&self) -> Vec<Arc<Partition>> {
        self.topics
            .load()
            .values()
            .flat_map(|topic| topic.online().cloned())
            .collect()
    }

    /// Puts topics in or replaces them. Called by the metadata host only, one call at a time.
    pub(crate) fn insert(&self, added: impl IntoIterator<Item = TopicPartitions>) {
        let mut map = Map::clone(&self.topics.load());
        for topic in added {
            map.insert(Arc::clone(&topic.name), Arc::new(topic));
        }
        self.topics.store(Arc::new(map));
    }

    /// Takes a topic out. Called by the metadata host only, one call at a time.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<TopicPartitions>> {
        let mut map = Map::clone(&self.topics.load());
        let removed = map.remove(name);
        self.topics.store(Arc::new(map));
        removed
    }
}

fn unknown(name: &str) -> PartitionLookupError {
    PartitionLookupError::UnknownTopic {
        topic: name.chars().take(249).collect(),
    }
}
