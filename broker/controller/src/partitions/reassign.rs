//! Other replicas for a partition, and fewer or more of them (`AlterPartitionReassignments`, KIP-455).
//!
//! A reassignment first adds the new replicas to the old ones; once all that are to stay are in sync
//! the others go. What the record says at any moment is enough to go on, to cancel, and to replace it
//! by another: the replicas before it are those that are not being added, those after it the ones that
//! are not being removed. Replicas of a former wish that a new one does not contain go at once, unlike
//! in Kafka, where they stay as if they had always been there.

use conveyor_record::{NodeId, mutants};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::assignment::{AssignmentError, check_partition};
use crate::draft::Draft;
use crate::image::without;
use crate::partitions::update::is_draining;
use crate::partitions::{PartitionUpdate, UnknownPartition, find};
use crate::{MetadataImage, MetadataRecord, PartitionImage, Transition};

/// Other replicas for a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its replicas when all is done, preferred leader first; `None` to cancel what is under way.
    pub replicas: Option<Vec<NodeId>>,
}

/// Why replicas stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ReassignError {
    /// There is no such partition.
    #[error(transparent)]
    Unknown(#[from] UnknownPartition),
    /// The replicas make no sense.
    #[error("partition {topic}-{partition}: {source}")]
    InvalidAssignment {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is wrong with them.
        source: AssignmentError,
    },
    /// A node that is to become empty would get a replica.
    #[error("node {node_id} is draining and gets no new replica of partition {topic}-{partition}")]
    Draining {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The node.
        node_id: NodeId,
    },
    /// The number of replicas may not change in this request (KIP-860).
    #[error("partition {topic}-{partition} has {present} replicas and would get {wanted}")]
    FactorChange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How many it has.
        present: usize,
        /// How many it would get.
        wanted: usize,
    },
    /// There is nothing to cancel.
    #[error("no reassignment of partition {topic}-{partition} is in progress")]
    NotInProgress {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Only replicas that would go have every acknowledged record.
    #[error(
        "partition {topic}-{partition}: only replicas that would go are in sync ({in_sync:?}), so \
         acknowledged records would be lost: wait until others are"
    )]
    WouldLoseRecords {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Who is in sync or eligible.
        in_sync: Vec<NodeId>,
    },
}

/// A reassignment under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OngoingReassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// All replicas it has now.
    pub replicas: Vec<NodeId>,
    /// Those being added.
    pub adding: Vec<NodeId>,
    /// Those being removed when the others are in sync.
    pub removing: Vec<NodeId>,
    /// Those that are to stay and are not in sync yet: the reassignment waits for them.
    pub waiting_for: Vec<NodeId>,
}

/// Begins, replaces or cancels reassignments, each by itself; the outcomes are in their order.
pub fn reassign(
    image: &MetadataImage,
    reassignments: &[Reassignment],
    allow_factor_change: bool,
) -> Transition<Vec<Result<(), ReassignError>>> {
    let mut draft = Draft::new(image);
    let outcomes = reassignments
        .iter()
        .map(|wanted| match &wanted.replicas {
            Some(replicas) => begin(&mut draft, wanted, replicas, allow_factor_change),
            None => cancel(&mut draft, wanted),
        })
        .collect();
    draft.finish(outcomes)
}

/// The reassignments under way: of the partitions asked about, or all.
pub fn list_reassignments(
    image: &MetadataImage,
    asked: Option<&[(String, i32)]>,
) -> Vec<OngoingReassignment> {
    let meant = |topic: &str, index: i32| {
        asked.is_none_or(|asked| asked.iter().any(|(name, n)| name == topic && *n == index))
    };
    image
        .partitions()
        .filter(|(topic, index, partition)| {
            partition.is_reassigning() && meant(&topic.name, *index)
        })
        .map(|(topic, index, partition)| OngoingReassignment {
            topic: topic.name.clone(),
            partition: index,
            replicas: partition.replicas.clone(),
            adding: partition.adding_replicas.clone(),
            removing: partition.removing_replicas.clone(),
            waiting_for: without(&partition.target_replicas(), &partition.isr),
        })
        .collect()
}

fn begin(
    draft: &mut Draft,
    wanted: &Reassignment,
    target: &[NodeId],
    allow_factor_change: bool,
) -> Result<(), ReassignError> {
    let image = draft.image();
    let (_, partition) = find(image, &wanted.topic, wanted.partition)?;
    let nodes: Vec<NodeId> = image.brokers().map(|broker| broker.node_id).collect();
    check_partition(target, &nodes).map_err(|source| ReassignError::InvalidAssignment {
        topic: wanted.topic.clone(),
        partition: wanted.partition,
        source,
    })?;
    let original = partition.original_replicas();
    if !allow_factor_change && target.len() != original.len() {
        return Err(ReassignError::FactorChange {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            present: original.len(),
            wanted: target.len(),
        });
    }
    let new = without(target, &partition.replicas);
    if let Some(&node_id) = new.iter().find(|node| is_draining(image, **node)) {
        return Err(ReassignError::Draining {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            node_id,
        });
    }
    let adding = without(target, &original);
    let removing = without(&original, target);
    let mut replicas = target.to_vec();
    replicas.extend(&removing);
    change(draft, wanted, replicas, adding, removing)
}

fn cancel(draft: &mut Draft, wanted: &Reassignment) -> Result<(), ReassignError> {
    let (_, partition) = find(draft.image(), &wanted.topic, wanted.partition)?;
    if !partition.is_reassigning() {
        return Err(ReassignError::NotInProgress {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
        });
    }
    let original = partition.original_replicas();
    change(draft, wanted, original, Vec::new(), Vec::new())
}

fn change(
    draft: &mut Draft,
    wanted: &Reassignment,
    replicas: Vec<NodeId>,
    adding: Vec<NodeId>,
    removing: Vec<NodeId>,
) -> Result<(), ReassignError> {
    let image = draft.image();
    let (topic, partition) = find(image, &wanted.topic, wanted.partition)?;
    let loses = loses_records(partition, &replicas)
        && !mutants::on("controller: reassignment drops who has the records");
    if loses {
        return Err(ReassignError::WouldLoseRecords {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            in_sync: partition
                .isr
                .iter()
                .chain(&partition.elr)
                .copied()
                .collect(),
        });
    }
    let update = PartitionUpdate::new(image, topic, wanted.partition, partition);
    let update = update.replicas(replicas, adding, removing);
    if let Some(change) = update.build() {
        draft.push(MetadataRecord::PartitionChange(change));
    }
    Ok(())
}

/// Whether nobody would be left who has every acknowledged record, although somebody has now.
fn loses_records(partition: &PartitionImage, replicas: &[NodeId]) -> bool {
    let stays = |set: &[NodeId]| set.iter().any(|node| replicas.contains(node));
    let complete = if partition.isr.is_empty() {
        &partition.elr
    } else {
        &partition.isr
    };
    !complete.is_empty() && !stays(complete)
}
