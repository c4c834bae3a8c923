//! Elections by command and by imbalance: the preferred leader, and the leader of last resort.
//!
//! A partition without a leader is never given one that may lack acknowledged records by itself. An
//! operator can, with [`recover`]; what may be lost then is told.

use conveyor_record::{LeaderEpoch, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::draft::Draft;
use crate::partitions::update::is_draining;
use crate::partitions::{Election, PartitionUpdate, UnknownPartition, find};
use crate::{MetadataImage, MetadataRecord, PartitionImage, TopicImage, Transition};

/// Why a partition keeps the leader that it has, or none.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ElectionError {
    /// There is no such partition.
    #[error(transparent)]
    Unknown(#[from] UnknownPartition),
    /// The preferred replica leads, or the partition that was to be recovered has a leader.
    #[error("partition {topic}-{partition} is led by node {leader} already")]
    NotNeeded {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its leader.
        leader: NodeId,
    },
    /// The preferred replica is not in sync, or its node may not lead now.
    #[error(
        "the preferred leader {node_id} of partition {topic}-{partition} is not in sync or away"
    )]
    PreferredNotAvailable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its first replica.
        node_id: NodeId,
    },
    /// No replica of the partition is on a running node.
    #[error(
        "no replica of partition {topic}-{partition} is on a running node: start one of {replicas:?}"
    )]
    NoReplicaAvailable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its replicas.
        replicas: Vec<NodeId>,
    },
    /// The leader that was asked for cannot lead.
    #[error("node {node_id} has no replica of partition {topic}-{partition}, or is not running")]
    NotAReplica {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The node asked for.
        node_id: NodeId,
    },
}

/// The outcome of one election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionOutcome {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The new leader, or why there is none.
    pub result: Result<NodeId, ElectionError>,
}

/// Makes the preferred replicas lead: of the partitions given, or of all that have another leader.
/// The outcomes are those of the partitions given, in their order; or of all that were tried.
pub fn elect_preferred(
    image: &MetadataImage,
    partitions: Option<&[(String, i32)]>,
) -> Transition<Vec<ElectionOutcome>> {
    let mut draft = Draft::new(image);
    let wanted: Vec<(String, i32)> = match partitions {
        Some(partitions) => partitions.to_vec(),
        None => image
            .partitions()
            .filter(|(_, _, partition)| !has_preferred_leader(partition))
            .map(|(topic, index, _)| (topic.name.clone(), index))
            .collect(),
    };
    let outcomes = wanted.into_iter().map(|(topic, index)| {
        let result = elect_one(&mut draft, &topic, index);
        ElectionOutcome {
            topic,
            partition: index,
            result,
        }
    });
    let outcomes = outcomes.collect();
    draft.finish(outcomes)
}

fn elect_one(draft: &mut Draft, name: &str, index: i32) -> Result<NodeId, ElectionError> {
    let image = draft.image();
    let (topic, partition) = find(image, name, index)?;
    let preferred = preferred_leader(partition);
    if has_preferred_leader(partition) {
        return Err(ElectionError::NotNeeded {
            topic: name.to_owned(),
            partition: index,
            leader: partition.leader,
        });
    }
    let change = preferred_may_lead(image, partition)
        .then(|| prefer(image, topic, index, partition).build())
        .flatten();
    let change = change.ok_or_else(|| ElectionError::PreferredNotAvailable {
        topic: name.to_owned(),
        partition: index,
        node_id: preferred,
    })?;
    draft.push(MetadataRecord::PartitionChange(change));
    Ok(preferred)
}

/// Gives up to `max` partitions back to their preferred leaders; answers how many. Called on a timer
/// (`leader.imbalance.check.interval.seconds`).
pub fn balance_leaders(image: &MetadataImage, max: usize) -> Transition<usize> {
    let mut draft = Draft::new(image);
    let mut left = max;
    draft.update_partitions(|image, topic, index, partition| {
        let wanted = left > 0
            && partition.has_leader()
            && !has_preferred_leader(partition)
            && preferred_may_lead(image, partition);
        left -= usize::from(wanted);
        wanted.then(|| prefer(image, topic, index, partition))
    });
    let elected = draft.len();
    draft.finish(elected)
}

fn prefer<'a>(
    image: &'a MetadataImage,
    topic: &'a TopicImage,
    index: i32,
    partition: &'a PartitionImage,
) -> PartitionUpdate<'a> {
    PartitionUpdate::new(image, topic, index, partition).election(Election::Preferred)
}

/// The replica that leads when all is well: the first one.
pub fn preferred_leader(partition: &PartitionImage) -> NodeId {
    let first = partition.replicas.first();
    first.copied().unwrap_or(NodeId::NONE)
}

/// Whether the preferred replica leads.
pub fn has_preferred_leader(partition: &PartitionImage) -> bool {
    partition.leader == preferred_leader(partition)
}

/// Whether an election of the preferred leader would succeed.
pub fn preferred_may_lead(image: &MetadataImage, partition: &PartitionImage) -> bool {
    let preferred = preferred_leader(partition);
    partition.isr.contains(&preferred)
        && image.is_active(preferred)
        && !is_draining(image, preferred)
}

/// A leader that may lack acknowledged records, asked for by an operator who accepts that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The node that is to lead; `None` for the one that is likely to lack least.
    pub leader: Option<NodeId>,
}

/// What an operator has accepted, for the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The leader.
    pub leader: NodeId,
    /// Its term. What its log lacks of former terms is lost; it tells where its log ends.
    pub leader_epoch: LeaderEpoch,
    /// Whether it was eligible until an unclean stop: it may lack only what was not synced then.
    pub was_last_known_eligible: bool,
    /// Replicas that may hold records which it lacks. They will cut them.
    pub may_hold_more: Vec<NodeId>,
}

/// Gives a partition without a leader one that may lack acknowledged records (an unclean election).
///
/// A former leader that runs and is cut off goes on acknowledging until it hears of this; what it
/// acknowledges is lost too. So stop it first.
pub fn recover(
    image: &MetadataImage,
    request: &RecoverRequest,
) -> Result<Transition<Recovered>, ElectionError> {
    let index = request.partition;
    let (topic, partition) = find(image, &request.topic, index)?;
    if partition.has_leader() {
        return Err(ElectionError::NotNeeded {
            topic: topic.name.clone(),
            partition: index,
            leader: partition.leader,
        });
    }
    let leader = match request.leader {
        Some(node_id) if partition.replicas.contains(&node_id) && image.is_active(node_id) => {
            node_id
        }
        Some(node_id) => {
            return Err(ElectionError::NotAReplica {
                topic: topic.name.clone(),
                partition: index,
                node_id,
            });
        }
        None => {
            let known = partition.last_known_elr.iter().chain(&partition.replicas);
            let mut running = known.filter(|node| image.is_active(**node));
            let first = running.next().copied();
            first.ok_or_else(|| ElectionError::NoReplicaAvailable {
                topic: topic.name.clone(),
                partition: index,
                replicas: partition.replicas.clone(),
            })?
        }
    };
    let complete = partition.elr.iter().chain(&partition.last_known_elr);
    let may_hold_more = complete.filter(|node| **node != leader).copied().collect();
    let was_last_known_eligible = partition.last_known_elr.contains(&leader);
    let mut draft = Draft::new(image);
    let update = PartitionUpdate::new(image, topic, index, partition);
    let change = update.election(Election::Unclean(leader)).build();
    draft.extend(change.map(MetadataRecord::PartitionChange));
    let after = draft.image().partition(topic.id, index);
    let leader_epoch = after.map_or(partition.leader_epoch, |after| after.leader_epoch);
    Ok(draft.finish(Recovered {
        leader,
        leader_epoch,
        was_last_known_eligible,
        may_hold_more,
    }))
}
