//! What the coordinator needs to know of the cluster: which topics there are.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::TopicPattern;

/// A topic as groups see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id, new when a topic is deleted and created again.
    pub id: Uuid,
    /// Its number of partitions, numbered from 0.
    pub partitions: i32,
}

/// A view of the topics at one moment.
pub trait ClusterView {
    /// Changes whenever any topic does. Groups look at their topics again when it has.
    fn version(&self) -> u64;

    /// The topic of that name.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// The names of the topics that a pattern matches.
    fn matching(&self, pattern: &TopicPattern) -> Vec<String>;
}

/// A view that is a plain table.
#[derive(Clone, Debug, Default)]
pub struct ClusterTopics {
    version: u64,
    topics: BTreeMap<String, TopicInfo>,
}

impl ClusterTopics {
    /// A cluster without topics.
    pub fn new(version: u64) -> Self {
        Self {
            version,
            topics: BTreeMap::new(),
        }
    }

    /// Adds or replaces a topic.
    #[must_use]
    pub fn with(mut self, name: &str, id: Uuid, partitions: i32) -> Self {
        self.topics
            .insert(name.to_owned(), TopicInfo { id, partitions });
        self
    }

    /// Takes a topic away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.topics.remove(name);
        self
    }

    /// The same topics under another version.
    #[must_use]
    pub fn at_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }
}

impl ClusterView for ClusterTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.topics.get(name).copied()
    }

    fn matching(&self, pattern: &TopicPattern) -> Vec<String> {
        let names = self.topics.keys().filter(|name| pattern.matches(name));
        names.cloned().collect()
    }
}
