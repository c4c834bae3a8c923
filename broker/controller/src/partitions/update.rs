//! The way that every change of a partition takes: what is wanted goes in, what follows from it is
//! added, and what differs comes out as one record.
//!
//! What follows, in this order (Kafka's `PartitionChangeBuilder`):
//! 1. A reassignment is complete once every replica that stays is in sync; those being removed go.
//! 2. Eligible leader replicas (KIP-966). With at least `min.insync.replicas` in sync there are none:
//!    the leader may acknowledge without the others. With fewer nothing is acknowledged, so whoever
//!    leaves the set then still has everything, and stays eligible until it is in sync again, or until
//!    its disk may have lost something.
//! 3. A leader: of those in sync, and only if there are none, of the eligible ones. Never anybody
//!    else, unless an operator names them.
//!
//! The leader epoch goes up with each new leader, also with "none", and when a replica is removed, so
//! that it cannot go on fetching as if it were one.

use conveyor_record::{LeaderEpoch, NodeId, mutants};

use crate::image::without;
use crate::{BrokerRegistration, MetadataImage, PartitionChange, PartitionImage, TopicImage};

/// Who is to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Election {
    /// Whoever does, as long as it may; else the first replica that may.
    Online,
    /// The first replica if it may.
    Preferred,
    /// This replica, whatever it lacks. Only ever by an operator's word.
    Unclean(NodeId),
}

/// What a replica's disk has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// What was not synced may be gone.
    Unsynced,
    /// Everything is gone.
    Everything,
}

/// A change of one partition that is being put together.
pub(crate) struct PartitionUpdate<'a> {
    image: &'a MetadataImage,
    topic: &'a TopicImage,
    partition: i32,
    before: &'a PartitionImage,
    after: PartitionImage,
    lost: Option<(NodeId, Loss)>,
    election: Election,
}

impl<'a> PartitionUpdate<'a> {
    /// A change of nothing, from which may follow that the partition needs another leader.
    pub(crate) fn new(
        image: &'a MetadataImage,
        topic: &'a TopicImage,
        partition: i32,
        before: &'a PartitionImage,
    ) -> Self {
        Self {
            image,
            topic,
            partition,
            before,
            after: before.clone(),
            lost: None,
            election: Election::Online,
        }
    }

    /// Another in-sync set.
    pub(crate) fn isr(mut self, isr: Vec<NodeId>) -> Self {
        self.after.isr = isr;
        self
    }

    /// A node leaves the in-sync set.
    pub(crate) fn leaving(mut self, node: NodeId) -> Self {
        self.after.isr.retain(|member| *member != node);
        self
    }

    /// A node leaves the in-sync set and may no longer be eligible: its disk has lost something.
    pub(crate) fn losing(mut self, node: NodeId, loss: Loss) -> Self {
        self.lost = Some((node, loss));
        self.leaving(node)
    }

    /// Other replicas, with those of them that are being added and removed.
    pub(crate) fn replicas(
        mut self,
        replicas: Vec<NodeId>,
        adding: Vec<NodeId>,
        removing: Vec<NodeId>,
    ) -> Self {
        self.after.isr.retain(|member| replicas.contains(member));
        self.after.replicas = replicas;
        self.after.adding_replicas = adding;
        self.after.removing_replicas = removing;
        self
    }

    /// Another way to choose the leader.
    pub(crate) fn election(mut self, election: Election) -> Self {
        self.election = election;
        self
    }

    /// What changes; `None` if nothing does.
    pub(crate) fn build(mut self) -> Option<PartitionChange> {
        self.complete_reassignment();
        self.list_eligible();
        self.elect();
        self.clear_eligible_if_enough();
        let leader_changes = self.after.leader != self.before.leader;
        let replica_goes = !without(&self.before.replicas, &self.after.replicas).is_empty();
        if leader_changes || replica_goes {
            let epoch = self.before.leader_epoch.value();
            let step = i32::from(!mutants::on("controller: leader epoch stays"));
            self.after.leader_epoch = LeaderEpoch(epoch.saturating_add(step));
        }
        PartitionChange::between(self.topic.id, self.partition, self.before, &self.after)
    }

    fn complete_reassignment(&mut self) {
        let after = &mut self.after;
        if !after.is_reassigning() {
            return;
        }
        let replicas = after.target_replicas();
        let isr = without(&after.isr, &after.removing_replicas);
        let complete = replicas.iter().all(|replica| isr.contains(replica));
        let early = mutants::on("controller: reassignment ends early") && !isr.is_empty();
        if replicas.is_empty() || !(complete || early) {
            return;
        }
        after.replicas = replicas;
        after.isr = isr;
        after.adding_replicas.clear();
        after.removing_replicas.clear();
    }

    fn list_eligible(&mut self) {
        let Self {
            before,
            after,
            lost,
            ..
        } = self;
        let has_lost = |node: NodeId| {
            lost.is_some_and(|(who, _)| who == node)
                && !mutants::on("controller: lossy replica stays eligible")
        };
        let is_wiped = |node: NodeId| *lost == Some((node, Loss::Everything));
        let had_all = |node| before.isr.contains(&node) || before.elr.contains(&node);
        let outside = without(&after.replicas, &after.isr);
        let (eligible, other): (Vec<NodeId>, Vec<NodeId>) = outside
            .into_iter()
            .partition(|&node| had_all(node) && !has_lost(node));
        let once_eligible = |node| had_all(node) || before.last_known_elr.contains(&node);
        after.elr = eligible;
        after.last_known_elr = other
            .into_iter()
            .filter(|&node| once_eligible(node) && !is_wiped(node))
            .collect();
        self.clear_eligible_if_enough();
    }

    fn clear_eligible_if_enough(&mut self) {
        let enough = self
            .image
            .min_insync_replicas(self.topic, &self.after)
            .max(1);
        if self.after.isr.len() >= enough && !mutants::on("controller: eligible replicas stay") {
            self.after.elr.clear();
            self.after.last_known_elr.clear();
        }
    }

    fn elect(&mut self) {
        if let Election::Unclean(node) = self.election {
            self.after.leader = node;
            self.after.isr = vec![node];
            self.after.elr.clear();
            self.after.last_known_elr.clear();
            return;
        }
        let leader = self.choose_leader();
        self.after.leader = leader;
        if self.after.isr.is_empty() && leader.is_some() {
            self.after.isr.push(leader);
            self.after.elr.retain(|node| *node != leader);
        }
    }

    /// The best of those that may lead; a node that is to become empty only if nobody else may.
    fn choose_leader(&self) -> NodeId {
        let present = Some(self.before.leader);
        let first = self.after.replicas.first().copied();
        let wishes = match self.election {
            Election::Preferred => [first, present],
            _ => [present, first],
        };
        let rest = self.after.replicas.iter().copied();
        let candidates = wishes.into_iter().flatten().chain(rest);
        let mut able = candidates.filter(|&node| self.may_lead(node)).peekable();
        let fallback = able.peek().copied().unwrap_or(NodeId::NONE);
        able.find(|&node| !is_draining(self.image, node))
            .unwrap_or(fallback)
    }

    fn may_lead(&self, node: NodeId) -> bool {
        let PartitionImage {
            replicas, isr, elr, ..
        } = &self.after;
        let complete = isr.contains(&node) || (isr.is_empty() && elr.contains(&node));
        let complete = complete
            || (mutants::on("controller: unclean election")
                && isr.is_empty()
                && replicas.contains(&node));
        complete && replicas.contains(&node) && self.image.is_active(node)
    }
}

/// Whether a node is to become empty.
pub(crate) fn is_draining(image: &MetadataImage, node: NodeId) -> bool {
    let broker: Option<&BrokerRegistration> = image.broker(node);
    broker.is_some_and(|broker| broker.draining)
}
