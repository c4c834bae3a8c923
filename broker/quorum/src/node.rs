//! One member of the quorum: consensus and its store, driven from outside.
//!
//! The host calls [`QuorumNode::tick`] with the time, [`QuorumNode::step`] with messages, and proposes;
//! then, as long as [`QuorumNode::begin`] gives a [`Round`], it sends the round's messages, and calls
//! [`QuorumNode::finish`], which syncs what has to be synced and returns everything else: messages that
//! had to wait, and [`Output`]s in the order in which they became true. After an error the node is
//! dead; the host stops it.
//!
//! What holds:
//! - Everything in `Outputs` is synced on this node, and what is committed is synced on a majority.
//! - Committed entries come out once each and in order, per life of the process; after a restart they
//!   come again from the newest snapshot on.
//! - A proposal is resolved by what is committed at its place, so a resolution is never taken back. A
//!   proposal for which none comes may yet be committed.
//! - A read is ready when everything that was acknowledged before it was asked for has come out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

#[cfg(test)]
mod tests;

use crate::consensus::{
    Committed, Consensus, ConsensusError, Ready, Refused, Role, Status, StepError,
};
use crate::entry::{LogPosition, Snapshot};
use crate::formation::Probe;
use crate::membership::{Membership, MembershipRequest, VoterId};
use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::raft::{RaftConfig, RaftConsensus};
use crate::store::{Identity, Recovered, Store, StoreError};

/// How a member behaves.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Length of a tick in ms; election time-outs and heartbeats are counted in ticks.
    pub tick_ms: i64,
    /// Consensus.
    pub raft: RaftConfig,
    /// A snapshot is wanted after so many entries since the last one.
    pub snapshot_after_entries: u64,
    /// Entries that are kept behind a snapshot, for members that lag a little.
    pub keep_entries: u64,
    /// A snapshot that was sent is given up for lost after so many ticks without an answer.
    pub snapshot_retry_ticks: u32,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            tick_ms: 50,
            raft: RaftConfig::default(),
            snapshot_after_entries: 10_000,
            keep_entries: 1_000,
            snapshot_retry_ticks: 200,
        }
    }
}

/// Why a node is dead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Its disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot go on by what it has read.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

/// Why a snapshot is not taken. Nothing has changed, except when the disk failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It does not stand for anything new that was handed out.
    #[error(
        "a snapshot of entry {index} is not wanted: the last one is of entry {last}, and entry {applied} is the newest that was handed out"
    )]
    Place {
        /// What was offered.
        index: u64,
        /// The newest snapshot.
        last: u64,
        /// The newest entry handed out.
        applied: u64,
    },
    /// It is larger than one may be.
    #[error("a snapshot of {size} bytes is larger than the {max} that one may have")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most.
        max: usize,
    },
    /// A round is being written.
    #[error("a round is under way; offer the snapshot again after it")]
    Busy,
    /// The node is dead.
    #[error(transparent)]
    Dead(#[from] NodeError),
}

/// Work to be finished by [`QuorumNode::finish`].
#[derive(Debug)]
pub struct Round {
    ready: Ready,
}

impl Round {
    /// The messages that may leave before anything is synced.
    pub fn take_messages(&mut self) -> Vec<Message> {
        let mut messages = std::mem::take(&mut self.ready.messages);
        if mutant::active(Mutant::MessagesBeforeSync) {
            messages.append(&mut self.ready.after_sync);
        }
        messages
    }
}

/// What a round has led to.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Messages to send.
    pub messages: Vec<Message>,
    /// What became true, in this order.
    pub outputs: Vec<Output>,
}

/// Something that became true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To be applied.
    Committed(Committed),
    /// What came of a proposal of this node.
    Resolved {
        /// Where it was proposed.
        position: LogPosition,
        /// What came of it.
        outcome: Outcome,
    },
    /// A read may be answered from what has come out so far.
    ReadReady {
        /// Which.
        read: ReadId,
    },
    /// The node has lost its lead before it could make sure of it; the read must be asked elsewhere.
    ReadFailed {
        /// Which.
        read: ReadId,
    },
    /// Who leads has changed.
    LeaderChanged {
        /// The term.
        term: u64,
        /// The leader, if one is known.
        leader: Option<VoterId>,
        /// What this node is.
        role: Role,
    },
}

/// What came of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// Another entry is committed in its place; it never will be.
    Superseded,
    /// The log was replaced by a snapshot that goes beyond it: it may be part of that or not.
    Unknown,
}

/// A read that waits to be linearizable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// One member; see the module's head.
#[derive(Debug)]
pub struct QuorumNode<C: Consensus = RaftConsensus> {
    consensus: C,
    store: Store,
    config: NodeConfig,
    dead: Option<NodeError>,
    in_round: bool,
    last_tick_ms: i64,
    /// What this node was when it last looked.
    seen: (u64, Option<VoterId>, Role),
    /// Index and term of proposals that are not resolved.
    proposals: BTreeSet<(u64, u64)>,
    next_read: u64,
    /// Reads whose lead is not confirmed, all of the term in `seen`.
    unconfirmed: BTreeSet<ReadId>,
    /// Reads that wait for an index to come out.
    confirmed: BTreeSet<(u64, ReadId)>,
    /// The members by the index from which on they were so, from the newest snapshot on.
    memberships: BTreeMap<u64, Membership>,
    snapshot_index: u64,
    /// For how many ticks a member has been in a snapshot.
    in_snapshot: BTreeMap<VoterId, u32>,
}

impl QuorumNode {
    /// A member that goes on from what its store has.
    pub fn new(
        store: Store,
        recovered: Recovered,
        config: NodeConfig,
        now_ms: i64,
    ) -> Result<Self, NodeError> {
        let consensus = RaftConsensus::new(recovered, config.raft.clone())?;
        let status = consensus.status();
        let membership = consensus.membership().clone();
        Ok(Self {
            store,
            config,
            dead: None,
            in_round: false,
            last_tick_ms: now_ms,
            seen: (status.term, status.leader, status.role),
            proposals: BTreeSet::new(),
            next_read: 1,
            unconfirmed: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            memberships: BTreeMap::from([(status.applied, membership)]),
            snapshot_index: status.applied,
            in_snapshot: BTreeMap::new(),
            consensus,
        })
    }
}

impl<C: Consensus> QuorumNode<C> {
    /// Who this is.
    pub fn identity(&self) -> Identity {
        self.store.identity()
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.consensus.status()
    }

    /// Why it is dead, if it is.
    pub fn death(&self) -> Option<&NodeError> {
        self.dead.as_ref()
    }

    /// What this node answers to one whose folder is empty.
    pub fn probe(&self) -> Probe {
        let cluster_id = self.identity().cluster_id;
        let status = self.consensus.status();
        if (status.term, status.last.index) == (1, 1) {
            let voters = self.membership().voting_nodes();
            return Probe::Founded { cluster_id, voters };
        }
        Probe::Member { cluster_id }
    }

    /// The members, up to what has come out.
    pub fn membership(&self) -> &Membership {
        self.consensus.membership()
    }

    /// How far a member is, as this node knows if it leads.
    pub fn progress(&self, of: VoterId) -> Option<crate::consensus::Progress> {
        self.consensus.progress(of)
    }

    /// The term of an entry, if it is still in the log.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.consensus.term_of(index)
    }

    /// Lets time pass up to `now_ms`. After a long pause of the process no more than one election
    /// time-out passes: enough for a leader to notice that it may have been replaced. A clock that was
    /// set back costs the time it was set back by, nothing else.
    pub fn tick(&mut self, now_ms: i64) {
        let passed = (now_ms - self.last_tick_ms) / self.config.tick_ms;
        let most = self.config.raft.election_ticks as i64;
        if passed < 0 || passed > most {
            self.last_tick_ms = now_ms;
        } else {
            self.last_tick_ms += passed * self.config.tick_ms;
        }
        if self.dead.is_some() || self.in_round {
            return;
        }
        for _ in 0..passed.clamp(0, most) {
            self.consensus.tick();
            self.watch_snapshots();
        }
        self.promote_successor();
    }

    /// raft-rs waits for the answer to a snapshot for ever, so a lost one must be told of.
    fn watch_snapshots(&mut self) {
        let members = self.consensus.membership().members();
        let receiving: BTreeSet<VoterId> = members
            .map(|(id, _)| id)
            .filter(|id| self.consensus.progress(*id).is_some_and(|p| p.in_snapshot))
            .collect();
        self.in_snapshot.retain(|id, _| receiving.contains(id));
        for id in receiving {
            let ticks = self.in_snapshot.entry(id).or_default();
            *ticks += 1;
            if *ticks >= self.config.snapshot_retry_ticks {
                *ticks = 0;
                self.consensus.snapshot_lost(id);
            }
        }
    }

    /// A learner that succeeds a voter of the same node takes its place as soon as it can: the voter
    /// is gone for good with its disk.
    fn promote_successor(&mut self) {
        if self.consensus.status().role != Role::Leader {
            return;
        }
        let membership = self.consensus.membership();
        let successor = membership.learners.iter().copied().find(|id| {
            let node_id = membership.members.get(id).map(|member| member.node_id);
            node_id.is_some_and(|node_id| membership.voter_of(node_id).is_some())
        });
        if let Some(successor) = successor {
            // Refused as long as it has not caught up; the next tick tries again.
            drop(
                self.consensus
                    .change(&MembershipRequest::Promote(successor)),
            );
        }
    }

    /// Takes a message.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        if self.dead.is_some() || self.in_round {
            // A message that was lost; the sender repeats what matters.
            return Ok(());
        }
        self.consensus.step(message)
    }

    /// Proposes bytes. What comes of them is told by [`Output::Resolved`] with this position.
    pub fn propose(&mut self, data: Bytes) -> Result<LogPosition, Refused> {
        self.check_alive()?;
        let position = self.consensus.propose(data)?;
        self.proposals.insert((position.index, position.term));
        Ok(position)
    }

    /// Proposes a change of the members, resolved like any proposal. One change at a time.
    pub fn change_members(&mut self, request: &MembershipRequest) -> Result<LogPosition, Refused> {
        self.check_alive()?;
        let position = self.consensus.change(request)?;
        self.proposals.insert((position.index, position.term));
        Ok(position)
    }

    /// Asks for a read that sees everything acknowledged before this call.
    pub fn read(&mut self) -> Result<ReadId, Refused> {
        self.check_alive()?;
        let read = ReadId(self.next_read);
        self.consensus.confirm_reads(read.0)?;
        self.next_read += 1;
        self.unconfirmed.insert(read);
        Ok(read)
    }

    /// Hands the lead to the voter that has most of the log, for a stop that nobody notices.
    pub fn hand_over(&mut self) -> Result<VoterId, Refused> {
        self.check_alive()?;
        let local = self.identity().voter_id;
        let others = self.membership().voters.iter().copied();
        let best = others
            .filter(|id| *id != local)
            .filter_map(|id| self.consensus.progress(id).map(|progress| (progress, id)))
            .filter(|(progress, _)| progress.active)
            .max_by_key(|(progress, id)| (progress.matched, *id));
        let (_, to) = best.ok_or(Refused::NoSuccessor)?;
        self.consensus.transfer(to)?;
        Ok(to)
    }

    /// Hands the lead to one voter.
    pub fn transfer(&mut self, to: VoterId) -> Result<(), Refused> {
        self.check_alive()?;
        self.consensus.transfer(to)
    }

    fn check_alive(&self) -> Result<(), Refused> {
        if self.dead.is_none() && !self.in_round {
            return Ok(());
        }
        let status = self.consensus.status();
        Err(Refused::NotLeader {
            local: self.identity().voter_id,
            term: status.term,
            leader: None,
        })
    }

    /// The next piece of work, `None` if there is none or the node is dead. Until it is finished, the
    /// node takes nothing.
    pub fn begin(&mut self) -> Option<Round> {
        if self.dead.is_some() || self.in_round {
            return None;
        }
        let ready = self.consensus.ready()?;
        self.in_round = true;
        Some(Round { ready })
    }

    /// Syncs what the round has to sync, and tells what came of it. An error is the node's death.
    pub fn finish(&mut self, round: Round) -> Result<Outputs, NodeError> {
        if let Some(death) = &self.dead {
            return Err(death.clone());
        }
        self.in_round = false;
        let finished = self.sync(round);
        finished.inspect_err(|error| self.dead = Some(error.clone()))
    }

    fn sync(&mut self, round: Round) -> Result<Outputs, NodeError> {
        let synced = self.store.persist(&round.ready.write)?;
        let advanced = self.consensus.synced(round.ready, synced)?;
        let mut out = Outputs {
            messages: advanced.messages,
            outputs: Vec::new(),
        };
        let changes = advanced.committed.iter();
        let changed = changes.filter(|committed| matches!(committed, Committed::Membership { .. }));
        if let Some(last) = changed.last() {
            self.store.record_commit(last.position().index)?;
        }
        for committed in advanced.committed {
            self.hand_out(committed, &mut out.outputs);
        }
        for read in advanced.reads {
            self.confirm(read.round, read.index);
        }
        self.release_reads(&mut out.outputs);
        self.notice_leader(&mut out.outputs);
        Ok(out)
    }

    fn hand_out(&mut self, committed: Committed, out: &mut Vec<Output>) {
        let position = committed.position();
        match &committed {
            Committed::Snapshot(snapshot) => {
                self.memberships = BTreeMap::from([(position.index, snapshot.membership.clone())]);
                self.snapshot_index = position.index;
            }
            Committed::Membership { membership, .. } => {
                self.memberships.insert(position.index, membership.clone());
            }
            Committed::Entry(_) => {}
        }
        let replaced = matches!(committed, Committed::Snapshot(_));
        out.push(Output::Committed(committed));
        while let Some((index, term)) = self.proposals.first().copied() {
            if index > position.index {
                break;
            }
            self.proposals.pop_first();
            let outcome = match (replaced, term == position.term) {
                (true, _) => Outcome::Unknown,
                (false, true) => Outcome::Committed,
                (false, false) => Outcome::Superseded,
            };
            out.push(Output::Resolved {
                position: LogPosition { term, index },
                outcome,
            });
        }
    }

    fn confirm(&mut self, round: u64, index: u64) {
        // Whoever confirms a later round has confirmed the earlier ones.
        let later = self.unconfirmed.split_off(&ReadId(round + 1));
        let confirmed = std::mem::replace(&mut self.unconfirmed, later);
        self.confirmed
            .extend(confirmed.into_iter().map(|read| (index, read)));
    }

    fn release_reads(&mut self, out: &mut Vec<Output>) {
        let applied = self.consensus.status().applied;
        while let Some((index, read)) = self.confirmed.first().copied() {
            if index > applied {
                break;
            }
            self.confirmed.pop_first();
            out.push(Output::ReadReady { read });
        }
    }

    fn notice_leader(&mut self, out: &mut Vec<Output>) {
        let Status {
            role, term, leader, ..
        } = self.consensus.status();
        if self.seen == (term, leader, role) {
            return;
        }
        // Consensus forgets what it was to confirm when the lead changes.
        let lost = std::mem::take(&mut self.unconfirmed);
        let (seen_term, _, seen_role) = self.seen;
        if role == Role::Leader && (seen_term, seen_role) == (term, role) {
            self.unconfirmed = lost;
        } else {
            out.extend(lost.into_iter().map(|read| Output::ReadFailed { read }));
        }
        self.seen = (term, leader, role);
        out.push(Output::LeaderChanged { term, leader, role });
    }

    /// Whether [`Self::snapshot`] should be called: the log has become long, or a member has joined
    /// since the last snapshot. The latter cannot begin with that one, which does not name it.
    pub fn wants_snapshot(&self) -> bool {
        let since = self.consensus.status().applied - self.snapshot_index;
        since >= self.config.snapshot_after_entries || (since > 0 && self.has_newcomer())
    }

    fn has_newcomer(&self) -> bool {
        let known = self.memberships.get(&self.snapshot_index);
        let unknown = |id: VoterId| known.is_some_and(|known| known.member(id).is_none());
        let waits = |id: VoterId| {
            let progress = self.consensus.progress(id);
            progress.is_some_and(|progress| progress.matched < self.snapshot_index)
        };
        let mut learners = self.membership().learners.iter().copied();
        learners.any(|id| unknown(id) && waits(id))
    }

    /// Takes the application's state after entry `index`, which must have come out, and shortens the
    /// log. It returns when both are durable.
    pub fn snapshot(&mut self, index: u64, data: Bytes) -> Result<(), SnapshotError> {
        if let Some(death) = &self.dead {
            return Err(death.clone().into());
        }
        if self.in_round {
            return Err(SnapshotError::Busy);
        }
        if data.len() > crate::entry::SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge {
                size: data.len(),
                max: crate::entry::SNAPSHOT_BYTES_MAX,
            });
        }
        let applied = self.consensus.status().applied;
        let term = self.consensus.term_of(index);
        let members = self.memberships.range(..=index).next_back();
        let (Some(term), Some((_, membership)), true) = (
            term,
            members,
            index > self.snapshot_index && index <= applied,
        ) else {
            return Err(SnapshotError::Place {
                index,
                last: self.snapshot_index,
                applied,
            });
        };
        let snapshot = Snapshot {
            last: LogPosition { term, index },
            membership: membership.clone(),
            data,
        };
        self.save(snapshot).map_err(|error| {
            let death = NodeError::from(error);
            self.dead = Some(death.clone());
            death.into()
        })
    }

    fn save(&mut self, snapshot: Snapshot) -> Result<(), StoreError> {
        let index = snapshot.last.index;
        let (base, entries) = self
            .consensus
            .log_behind(index.saturating_sub(self.config.keep_entries));
        self.store.save_snapshot(&snapshot, base, &entries)?;
        let later = self.memberships.split_off(&(index + 1));
        self.memberships = later;
        self.memberships.insert(index, snapshot.membership.clone());
        self.snapshot_index = index;
        self.consensus.compact(snapshot, base.index);
        Ok(())
    }
}
