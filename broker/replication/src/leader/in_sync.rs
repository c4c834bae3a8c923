//! The in-sync set as its leader sees it: what the controller has decided, and the one change that
//! is on its way.
//!
//! Invariant: whatever the controller's set is while this leadership lasts, it is part of the maximal
//! set. Only the leader adds members, and what it has proposed counts from the moment of the proposal
//! until it is known that it was or will not be taken.

use std::collections::BTreeSet;

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, mutants};

/// A change of the in-sync set that the leader asks the controller for (`AlterPartition`, KIP-497).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Counts the proposals of this leadership; the answer repeats it.
    pub sequence: u64,
    /// The leadership that proposes.
    pub leader_epoch: LeaderEpoch,
    /// The version of the partition's record that the change starts from.
    pub partition_epoch: PartitionEpoch,
    /// The new set, the leader included, each with the incarnation that was judged (KIP-903).
    pub members: Vec<(NodeId, BrokerEpoch)>,
}

/// Why the controller did not take a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It did nothing and never will with this proposal (`INELIGIBLE_REPLICA`,
    /// `OPERATION_NOT_ATTEMPTED`): the set is what it was.
    NotTaken,
    /// The partition's record has moved on (`INVALID_UPDATE_VERSION`, `FENCED_LEADER_EPOCH`): news
    /// are on their way. Until they are here the proposal counts, because the change they tell of may
    /// be this one.
    Superseded,
}

/// What the controller made of a proposal that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSyncDecision {
    /// The new version of the partition's record.
    pub partition_epoch: PartitionEpoch,
    /// The new set.
    pub in_sync: Vec<NodeId>,
}

/// The controller's answer to a [`Proposal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalAnswer {
    /// `sequence` of the proposal.
    pub sequence: u64,
    /// The leadership that proposed.
    pub leader_epoch: LeaderEpoch,
    /// What became of it.
    pub outcome: Result<InSyncDecision, Refusal>,
}

#[derive(Debug, Clone)]
struct Pending {
    proposal: Proposal,
    members: BTreeSet<NodeId>,
    sent_ms: i64,
    /// Nothing is sent again: the controller has told that its news will decide.
    waits_for_news: bool,
}

/// The decided set and the pending change.
#[derive(Debug, Clone)]
pub(super) struct InSync {
    decided: BTreeSet<NodeId>,
    partition_epoch: PartitionEpoch,
    pending: Option<Pending>,
    next_sequence: u64,
    not_before_ms: i64,
    last_eviction_ms: Option<i64>,
}

impl InSync {
    pub(super) fn new(decided: &[NodeId], partition_epoch: PartitionEpoch) -> Self {
        Self {
            decided: decided.iter().copied().collect(),
            partition_epoch,
            pending: None,
            next_sequence: 0,
            not_before_ms: i64::MIN,
            last_eviction_ms: None,
        }
    }

    pub(super) const fn decided(&self) -> &BTreeSet<NodeId> {
        &self.decided
    }

    pub(super) const fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// The decided set united with the proposed one: all of them must have what is acknowledged.
    pub(super) fn maximal(&self) -> BTreeSet<NodeId> {
        let Some(pending) = &self.pending else {
            return self.decided.clone();
        };
        if mutants::on("high-watermark-from-proposed") {
            return pending.members.clone();
        }
        self.decided.union(&pending.members).copied().collect()
    }

    /// Takes over a decision, if it is newer than what is known.
    pub(super) fn decide(&mut self, partition_epoch: PartitionEpoch, in_sync: &[NodeId]) {
        if partition_epoch <= self.partition_epoch {
            return;
        }
        self.partition_epoch = partition_epoch;
        self.decided = in_sync.iter().copied().collect();
        // It started from an older version: it was this decision, or it will be refused.
        self.pending = None;
    }

    /// Whether a proposal may be made now.
    pub(super) const fn may_propose(&self, now_ms: i64) -> bool {
        self.pending.is_none() && now_ms >= self.not_before_ms
    }

    /// Whether the last eviction is at least `lag_ms` ago: those that are left get the time to show
    /// that they keep up before the next one goes.
    pub(super) fn may_evict(&self, now_ms: i64, lag_ms: i64) -> bool {
        self.last_eviction_ms
            .is_none_or(|last| now_ms.saturating_sub(last) >= lag_ms)
    }

    /// Makes a proposal; from now on it counts.
    pub(super) fn propose(
        &mut self,
        leader_epoch: LeaderEpoch,
        members: Vec<(NodeId, BrokerEpoch)>,
        now_ms: i64,
    ) -> Proposal {
        assert!(self.pending.is_none(), "one proposal at a time");
        self.next_sequence += 1;
        let set: BTreeSet<NodeId> = members.iter().map(|(node, _)| *node).collect();
        if !self.decided.is_subset(&set) {
            self.last_eviction_ms = Some(now_ms);
        }
        let proposal = Proposal {
            sequence: self.next_sequence,
            leader_epoch,
            partition_epoch: self.partition_epoch,
            members,
        };
        if mutants::on("eviction-without-the-controller") {
            self.decided.retain(|node| set.contains(node));
        }
        self.pending = Some(Pending {
            proposal: proposal.clone(),
            members: set,
            sent_ms: now_ms,
            waits_for_news: false,
        });
        proposal
    }

    /// The pending proposal once more, if its answer is overdue. It must be the same one: the first
    /// may have been taken.
    pub(super) fn overdue(&mut self, now_ms: i64, retry_ms: i64) -> Option<Proposal> {
        let pending = self.pending.as_mut()?;
        if pending.waits_for_news || now_ms.saturating_sub(pending.sent_ms) < retry_ms {
            return None;
        }
        pending.sent_ms = now_ms;
        Some(pending.proposal.clone())
    }

    /// The controller did not take the pending proposal.
    pub(super) fn refused(&mut self, sequence: u64, refusal: Refusal, not_before_ms: i64) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        if pending.proposal.sequence != sequence {
            return;
        }
        match refusal {
            Refusal::NotTaken => {
                self.pending = None;
                self.not_before_ms = not_before_ms;
            }
            Refusal::Superseded => pending.waits_for_news = true,
        }
    }
}
