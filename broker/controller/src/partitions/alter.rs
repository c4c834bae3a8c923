//! A leader's proposal of another in-sync set (`AlterPartition`: KIP-497, 841, 903).
//!
//! A proposal counts only if it was made on the present state of the partition, by its present leader,
//! in that node's present incarnation, and if each member is there in the incarnation that the leader
//! has seen catching up. What was proposed on anything older is refused; the leader learns the present
//! state from the metadata and proposes anew if it still wants to.

use std::sync::Arc;

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, mutants};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::brokers::{BrokerEpochError, check_broker_epoch};
use crate::draft::Draft;
use crate::partitions::PartitionUpdate;
use crate::{MetadataImage, MetadataRecord, PartitionImage, TopicImage, Transition};

/// Proposals of one node for partitions that it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterPartitionRequest {
    /// The node.
    pub node_id: NodeId,
    /// Its incarnation.
    pub broker_epoch: BrokerEpoch,
    /// What it proposes, each decided on by itself.
    pub proposals: Vec<IsrProposal>,
}

/// A proposed in-sync set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrProposal {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The term in which the leader proposes.
    pub leader_epoch: LeaderEpoch,
    /// The state that the proposal is based on.
    pub partition_epoch: PartitionEpoch,
    /// The members from now on, the leader itself included.
    pub isr: Vec<IsrMember>,
}

/// A member of a proposed in-sync set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrMember {
    /// The node.
    pub node_id: NodeId,
    /// The incarnation that the leader has seen fetching.
    pub broker_epoch: BrokerEpoch,
}

/// A partition after a proposal was taken. Its leader is another one if the proposal completed a
/// reassignment that takes the proposer away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The leader.
    pub leader: NodeId,
    /// Its term.
    pub leader_epoch: LeaderEpoch,
    /// The version of the state.
    pub partition_epoch: PartitionEpoch,
    /// The in-sync set.
    pub isr: Vec<NodeId>,
    /// How many of them an acknowledgement needs. The leader counts with this from now on and not
    /// with an older figure: eligible replicas are listed by it.
    pub min_insync_replicas: usize,
}

/// Why a proposal is refused. The state is as before.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum AlterPartitionError {
    /// There is no such partition.
    #[error("there is no partition {partition} of topic {topic_id}")]
    UnknownPartition {
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
    /// The proposer knows a newer state than the controller, which has been replaced then.
    #[error(
        "the proposal is based on leader epoch {leader_epoch} and partition epoch {partition_epoch}, \
         this controller knows older ones: ask the active one"
    )]
    NotController {
        /// The proposal's leader epoch.
        leader_epoch: LeaderEpoch,
        /// The proposal's partition epoch.
        partition_epoch: PartitionEpoch,
    },
    /// There has been another leader since.
    #[error("leader epoch {found} is over, the present one is {current}")]
    FencedLeaderEpoch {
        /// The proposal's.
        found: LeaderEpoch,
        /// The present one.
        current: LeaderEpoch,
    },
    /// Somebody else leads in that epoch.
    #[error("node {node_id} does not lead the partition, node {leader} does")]
    NotLeader {
        /// The proposer.
        node_id: NodeId,
        /// The leader.
        leader: NodeId,
    },
    /// The partition has changed since (`INVALID_UPDATE_VERSION`).
    #[error("the proposal is based on partition epoch {found}, the present one is {current}")]
    StalePartitionEpoch {
        /// The proposal's.
        found: PartitionEpoch,
        /// The present one.
        current: PartitionEpoch,
    },
    /// The set is no set of replicas with the leader.
    #[error("node {node_id} makes the proposed set illegal: {reason}")]
    InvalidIsr {
        /// The member at fault.
        node_id: NodeId,
        /// What is wrong.
        reason: InvalidIsrReason,
    },
    /// A member may not be in sync now.
    #[error("node {node_id} cannot be in sync: {reason}")]
    IneligibleReplica {
        /// The member.
        node_id: NodeId,
        /// Why not.
        reason: IneligibleReason,
    },
}

/// What makes a proposed set illegal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum InvalidIsrReason {
    /// It is no replica.
    #[error("it is no replica")]
    NoReplica,
    /// It is there twice.
    #[error("it is named twice")]
    Repeated,
    /// It leads and is not there.
    #[error("it leads and is missing")]
    LeaderMissing,
}

/// Why a replica cannot be in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum IneligibleReason {
    /// It has been unregistered.
    #[error("it is not registered")]
    NotRegistered,
    /// It is stopping.
    #[error("it is shutting down")]
    ShuttingDown,
    /// It is fenced.
    #[error("it is fenced")]
    Fenced,
    /// It has been registered anew since the leader saw it.
    #[error("it was seen with broker epoch {found}, its present one is {current}")]
    OtherIncarnation {
        /// The leader's.
        found: BrokerEpoch,
        /// The present one.
        current: BrokerEpoch,
    },
}

/// The outcome of each proposal, in their order.
pub type AlterPartitionAnswer = Vec<Result<PartitionState, AlterPartitionError>>;

/// Decides on a leader's proposals.
pub fn alter_partition(
    image: &MetadataImage,
    request: &AlterPartitionRequest,
) -> Result<Transition<AlterPartitionAnswer>, BrokerEpochError> {
    check_broker_epoch(image, request.node_id, request.broker_epoch)?;
    let mut draft = Draft::new(image);
    let decided = request.proposals.iter();
    let answers = decided
        .map(|proposal| decide(&mut draft, request.node_id, proposal))
        .collect();
    Ok(draft.finish(answers))
}

fn decide(
    draft: &mut Draft,
    proposer: NodeId,
    proposal: &IsrProposal,
) -> Result<PartitionState, AlterPartitionError> {
    let image = draft.image();
    let (topic, partition) = find(image, proposal)?;
    check_base(partition, proposer, proposal)?;
    check_members(image, partition, proposal)?;
    let isr = proposal.isr.iter().map(|member| member.node_id);
    // In the order of the replicas, so that a set has one form.
    let isr: Vec<NodeId> = isr.collect();
    let ordered = partition.replicas.iter().copied();
    let ordered = ordered.filter(|node| isr.contains(node)).collect();
    let same = isr.len() == partition.isr.len() && isr.iter().all(|n| partition.isr.contains(n));
    let isr = if same { partition.isr.clone() } else { ordered };
    let update = PartitionUpdate::new(image, topic, proposal.partition, partition).isr(isr);
    if let Some(change) = update.build() {
        draft.push(MetadataRecord::PartitionChange(change));
    }
    let image = draft.image();
    let (topic, partition) = find(image, proposal)?;
    Ok(PartitionState {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: partition.isr.clone(),
        min_insync_replicas: image.min_insync_replicas(topic, partition),
    })
}

fn find<'a>(
    image: &'a MetadataImage,
    proposal: &IsrProposal,
) -> Result<(&'a Arc<TopicImage>, &'a PartitionImage), AlterPartitionError> {
    let (topic_id, partition) = (proposal.topic_id, proposal.partition);
    let found = image
        .topic_by_id(topic_id)
        .zip(image.partition(topic_id, partition));
    found.ok_or(AlterPartitionError::UnknownPartition {
        topic_id,
        partition,
    })
}

/// Whether the proposal was made on the present state by the present leader.
fn check_base(
    partition: &PartitionImage,
    proposer: NodeId,
    proposal: &IsrProposal,
) -> Result<(), AlterPartitionError> {
    let (leader_epoch, partition_epoch) = (proposal.leader_epoch, proposal.partition_epoch);
    let current = partition.leader_epoch;
    if leader_epoch > current || partition_epoch > partition.partition_epoch {
        return Err(AlterPartitionError::NotController {
            leader_epoch,
            partition_epoch,
        });
    }
    if leader_epoch < current && !mutants::on("controller: old leader may propose") {
        return Err(AlterPartitionError::FencedLeaderEpoch {
            found: leader_epoch,
            current,
        });
    }
    if proposer != partition.leader {
        return Err(AlterPartitionError::NotLeader {
            node_id: proposer,
            leader: partition.leader,
        });
    }
    let stale = partition_epoch < partition.partition_epoch;
    if stale && !mutants::on("controller: stale partition epoch accepted") {
        return Err(AlterPartitionError::StalePartitionEpoch {
            found: partition_epoch,
            current: partition.partition_epoch,
        });
    }
    Ok(())
}

fn check_members(
    image: &MetadataImage,
    partition: &PartitionImage,
    proposal: &IsrProposal,
) -> Result<(), AlterPartitionError> {
    let invalid = |node_id, reason| AlterPartitionError::InvalidIsr { node_id, reason };
    for (index, member) in proposal.isr.iter().enumerate() {
        let node = member.node_id;
        let earlier = &proposal.isr[..index];
        if !partition.replicas.contains(&node) {
            return Err(invalid(node, InvalidIsrReason::NoReplica));
        }
        if earlier.iter().any(|other| other.node_id == node) {
            return Err(invalid(node, InvalidIsrReason::Repeated));
        }
    }
    let leader = partition.leader;
    if !proposal.isr.iter().any(|member| member.node_id == leader) {
        return Err(invalid(leader, InvalidIsrReason::LeaderMissing));
    }
    for member in &proposal.isr {
        check_eligible(image, *member).map_err(|reason| {
            AlterPartitionError::IneligibleReplica {
                node_id: member.node_id,
                reason,
            }
        })?;
    }
    Ok(())
}

fn check_eligible(image: &MetadataImage, member: IsrMember) -> Result<(), IneligibleReason> {
    let broker = image.broker(member.node_id);
    let broker = broker.ok_or(IneligibleReason::NotRegistered)?;
    if broker.in_controlled_shutdown {
        return Err(IneligibleReason::ShuttingDown);
    }
    if broker.fenced {
        return Err(IneligibleReason::Fenced);
    }
    let other = broker.epoch != member.broker_epoch;
    if other && !mutants::on("controller: member of another incarnation accepted") {
        return Err(IneligibleReason::OtherIncarnation {
            found: member.broker_epoch,
            current: broker.epoch,
        });
    }
    Ok(())
}
