//! The topics, as coordinators see them: one image of the metadata and its version.

use std::sync::Arc;

use conveyor_controller::MetadataImage;
use conveyor_group::{ClusterView, TopicInfo, TopicPattern};
use uuid::Uuid;

use crate::metadata_host::MetadataHost;

/// The metadata at one moment.
#[derive(Debug, Clone)]
pub(crate) struct ClusterSnapshot {
    version: u64,
    image: Arc<MetadataImage>,
}

impl ClusterSnapshot {
    /// The metadata now. An image may be newer than its version says: then groups look at their
    /// topics once more than they need to.
    pub(super) fn take(metadata: &MetadataHost) -> Self {
        let version = *metadata.subscribe().borrow();
        Self {
            version,
            image: metadata.image(),
        }
    }

    /// The name of a topic.
    pub(super) fn name_of(&self, topic: Uuid) -> Option<&str> {
        self.image
            .topic_by_id(topic)
            .map(|topic| topic.name.as_str())
    }

    /// Whether a topic of this moment is gone at `later`, be it that another has its name.
    pub(super) fn is_gone(&self, topic: &str, later: &Self) -> bool {
        let id = |snapshot: &Self| snapshot.image.topic(topic).map(|topic| topic.id);
        id(self).is_some() && id(self) != id(later)
    }
}

impl ClusterView for ClusterSnapshot {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let topic = self.image.topic(name)?;
        Some(TopicInfo {
            id: topic.id,
            partitions: topic.partitions.len() as i32,
        })
    }

    fn matching(&self, pattern: &TopicPattern) -> Vec<String> {
        let names = self.image.topics().map(|topic| &topic.name);
        names
            .filter(|name| pattern.matches(name))
            .cloned()
            .collect()
    }
}
