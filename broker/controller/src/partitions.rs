//! Every rule about one partition's leader, in-sync set and replicas.
//!
//! [`update`] holds the rules that every change goes through: who may lead, who is eligible, when a
//! reassignment is complete. The other modules are the reasons for a change: a leader's proposal
//! ([`alter`]) or resignation ([`resign`]), an election by command, by imbalance or at a loss ([`election`]), other replicas
//! ([`reassign`]), other settings ([`settings`]), evenness ([`balance`]).

pub mod alter;
pub mod balance;
pub mod election;
pub mod reassign;
pub mod resign;
mod settings;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use settings::follow_min_insync_replicas;
pub(crate) use update::{Election, Loss, PartitionUpdate};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{MetadataImage, PartitionImage, TopicImage};

/// There is no such partition.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("there is no partition {topic}-{partition}")]
pub struct UnknownPartition {
    /// The topic asked for.
    pub topic: String,
    /// The partition asked for.
    pub partition: i32,
}

/// A partition by its topic's name.
pub(crate) fn find<'a>(
    image: &'a MetadataImage,
    topic: &str,
    partition: i32,
) -> Result<(&'a Arc<TopicImage>, &'a PartitionImage), UnknownPartition> {
    let found = image.topic(topic).and_then(|found| {
        let index = usize::try_from(partition).ok()?;
        Some((found, found.partitions.get(index)?))
    });
    found.ok_or_else(|| UnknownPartition {
        topic: topic.chars().take(249).collect(),
        partition,
    })
}
