//! A transition in the making: an image that already has what was decided so far.
//!
//! A rule that changes several things looks at the draft's image, so that each decision sees those
//! before it. Nothing of it is true before the transition's records are replayed.

use std::sync::Arc;

use crate::partitions::PartitionUpdate;
use crate::{MetadataImage, MetadataRecord, PartitionImage, TopicImage, Transition};

/// Records and the image that they lead to.
pub(crate) struct Draft {
    image: MetadataImage,
    records: Vec<MetadataRecord>,
}

impl Draft {
    pub(crate) fn new(image: &MetadataImage) -> Self {
        Self {
            image: image.clone(),
            records: Vec::new(),
        }
    }

    pub(crate) fn image(&self) -> &MetadataImage {
        &self.image
    }

    pub(crate) fn push(&mut self, record: MetadataRecord) {
        self.image.replay(&record);
        self.records.push(record);
    }

    pub(crate) fn extend(&mut self, records: impl IntoIterator<Item = MetadataRecord>) {
        for record in records {
            self.push(record);
        }
    }

    /// Looks at every partition; makes the changes that are wanted. Each partition is decided on by
    /// itself.
    pub(crate) fn update_partitions<F>(&mut self, mut wanted: F)
    where
        F: for<'a> FnMut(
            &'a MetadataImage,
            &'a Arc<TopicImage>,
            i32,
            &'a PartitionImage,
        ) -> Option<PartitionUpdate<'a>>,
    {
        let image = &self.image;
        let changes: Vec<MetadataRecord> = image
            .partitions()
            .filter_map(|(topic, index, partition)| {
                let change = wanted(image, topic, index, partition)?.build()?;
                Some(MetadataRecord::PartitionChange(change))
            })
            .collect();
        self.extend(changes);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn finish<R>(self, response: R) -> Transition<R> {
        Transition {
            records: self.records,
            response,
        }
    }
}
