//! Consensus by raft-rs.
//!
//! raft-rs (`raft` 0.7.0, the newest release) is TiKV's Raft without I/O. Pre-vote keeps a node that
//! was cut off from disturbing the others when it returns; check-quorum has a leader step down that
//! does not hear from a majority. Four things are taken out of its hands:
//! - It draws election time-outs from the thread's random source. We set them after each reset from
//!   our own seed, so that a simulation replays exactly.
//! - It trusts messages; [`check`] looks at them first.
//! - The only voter wins its election on the spot, without waiting for the disk: its messages would
//!   leave under a term that a power cut takes back, and it panics if it has entries that are not
//!   written yet. So messages wait for a new term or vote in every case, and a node does not campaign
//!   before its log is written.
//! - Its members are numbers; [`Membership`] keeps who they are, by the same entries, and the two are
//!   compared after each change.
//!
//! Its generated messages are replaced (see the crates `raft-proto` and `protobuf` beside this one).
//! Of its other dependencies, `fxhash` is unmaintained (RUSTSEC-2025-0057): it only hashes voter ids
//! here. `rand` 0.8 is called and its number thrown away.

use bytes::Bytes;
use raft::eraftpb::ConfChangeV2;
use raft::{Config, RawNode, SnapshotStatus, StateRole};
use slog::Logger;
use uuid::Uuid;

mod check;
mod convert;
mod log_view;
#[cfg(test)]
mod tests;

use check::Verdict;
use convert::{conf_change, conf_state, from_raft, from_raft_entry, from_raft_snapshot, to_raft};
use log_view::LogView;

use crate::consensus::{
    Advanced, Committed, ConfirmedRead, Consensus, ConsensusError, Progress, Ready, Refused, Role,
    Status, StepError, Write,
};
use crate::entry::{ENTRY_BYTES_MAX, Entry, EntryKind, LogPosition, Snapshot};
use crate::membership::{Membership, MembershipChange, MembershipRequest, VoterId};
use crate::message::{Body, Message};
use crate::mutant::{self, Mutant};
use crate::store::{Recovered, Synced};

/// How raft-rs is set up; times are in ticks.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// A follower campaigns after between one and two times as many ticks without its leader.
    pub election_ticks: usize,
    /// A leader shows that it is there every so many ticks.
    pub heartbeat_ticks: usize,
    /// Decides the election time-outs; differs between nodes.
    pub seed: u64,
    /// Bytes of entries in one message, one entry at least.
    pub message_bytes_max: u64,
    /// Messages with entries on their way to one follower.
    pub messages_in_flight_max: usize,
    /// Bytes of proposals that are not committed yet.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries that no snapshot covers; above it a leader refuses proposals.
    pub log_bytes_max: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            election_ticks: 20,
            heartbeat_ticks: 4,
            seed: 0,
            message_bytes_max: 1 << 20,
            messages_in_flight_max: 64,
            uncommitted_bytes_max: 16 << 20,
            log_bytes_max: 256 << 20,
        }
    }
}

/// See the module's head.
pub struct RaftConsensus {
    raw: RawNode<LogView>,
    /// The round of raft-rs that is being written.
    round: Option<raft::Ready>,
    /// Term and vote that are synced.
    written_vote: (u64, u64),
    membership: Membership,
    cluster_id: Uuid,
    random: u64,
    config: RaftConfig,
    applied: u64,
    /// Answers that no quorum was asked for; only a mutant fills it.
    unconfirmed: Vec<ConfirmedRead>,
}

impl std::fmt::Debug for RaftConsensus {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RaftConsensus")
            .field("status", &self.status())
            .field("membership", &self.membership)
            .finish_non_exhaustive()
    }
}

impl RaftConsensus {
    /// Goes on from what the store has recovered.
    pub fn new(recovered: Recovered, config: RaftConfig) -> Result<Self, ConsensusError> {
        let identity = recovered.identity;
        let written_vote = (recovered.hard_state.term, recovered.hard_state.vote);
        let view = LogView::new(
            recovered.hard_state,
            recovered.snapshot,
            recovered.base,
            recovered.entries,
        );
        let membership = view.membership();
        let applied = view.snapshot_index();
        let raft_config = Config {
            id: identity.voter_id.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
            max_size_per_msg: config.message_bytes_max,
            max_inflight_msgs: config.messages_in_flight_max,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: config.election_ticks,
            max_election_tick: 2 * config.election_ticks,
            max_uncommitted_size: config.uncommitted_bytes_max,
            ..Config::default()
        };
        let logger = Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, view, &logger)
            .map_err(|error| ConsensusError::Start(error.to_string()))?;
        let mut consensus = Self {
            raw,
            round: None,
            written_vote,
            membership,
            cluster_id: identity.cluster_id,
            random: config.seed ^ identity.voter_id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            config,
            applied,
            unconfirmed: Vec::new(),
        };
        consensus.draw_election_timeout();
        Ok(consensus)
    }

    fn local(&self) -> VoterId {
        VoterId(self.raw.raft.id)
    }

    /// `SplitMix64`.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// raft-rs has drawn a time-out whenever the elapsed time is 0; ours takes its place.
    fn draw_election_timeout(&mut self) {
        if self.raw.raft.election_elapsed == 0 {
            let spread = self.draw() % self.config.election_ticks as u64;
            let ticks = self.config.election_ticks + spread as usize;
            self.raw.raft.set_randomized_election_timeout(ticks);
        }
    }

    fn check_leader(&self) -> Result<(), Refused> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Err(Refused::NotLeader {
                local: self.local(),
                term: raft.term,
                leader: voter(raft.leader_id),
            });
        }
        if raft.lead_transferee.is_some() {
            return Err(Refused::HandingOver);
        }
        Ok(())
    }

    /// Whether the term or vote is not the one that was last written.
    fn is_new_vote(&self, state: &raft::eraftpb::HardState) -> bool {
        (state.term, state.vote) != self.written_vote
    }

    fn last(&self) -> LogPosition {
        LogPosition {
            term: self.raw.raft.raft_log.last_term(),
            index: self.raw.raft.raft_log.last_index(),
        }
    }

    fn check_change(&self, change: &MembershipChange) -> Result<(), Refused> {
        let raft = &self.raw.raft;
        if change.removed.contains(&self.local()) {
            return Err(Refused::LeaderLeaves {
                voter_id: self.local(),
            });
        }
        let Some(voter_id) = change.promoted else {
            return Ok(());
        };
        if mutant::active(Mutant::PromotedBehind) {
            return Ok(());
        }
        let progress = self.progress(voter_id);
        let matched = progress.map_or(0, |progress| progress.matched);
        let commit = raft.raft_log.committed;
        // A voter that has less than what is committed would count as a copy that is not there.
        if progress.is_none_or(|progress| !progress.active) || matched < commit {
            return Err(Refused::NotCaughtUp {
                voter_id,
                matched,
                commit,
            });
        }
        Ok(())
    }

    /// Whether there are entries or a snapshot that are not written yet. Until they are, the node takes
    /// no step that could make it the leader.
    fn must_write_first(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.last_index() != log.persisted
    }

    /// A joint configuration that nobody leaves, because its leader went at the wrong moment, is left
    /// by the present leader.
    fn leave_joint(&mut self) {
        let raft = &self.raw.raft;
        let idle = raft.state == StateRole::Leader
            && raft.lead_transferee.is_none()
            && !raft.has_pending_conf()
            && raft.apply_to_current_term();
        if idle && self.membership.is_joint() {
            // Dropped when too much is under way: then the next tick tries again.
            drop(
                self.raw
                    .propose_conf_change(Vec::new(), ConfChangeV2::default()),
            );
        }
    }

    fn apply(&mut self, entry: Entry) -> Result<Committed, ConsensusError> {
        self.applied = entry.index;
        match entry.kind {
            EntryKind::Data => Ok(Committed::Entry(entry)),
            EntryKind::Membership => self.apply_change(&entry),
        }
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<Committed, ConsensusError> {
        let index = entry.index;
        let unreadable = |reason: String| ConsensusError::UnreadableChange { index, reason };
        let mut raft_change = ConfChangeV2::default();
        protobuf::Message::merge_from_bytes(&mut raft_change, &entry.data)
            .map_err(|error| unreadable(error.to_string()))?;
        let next = if raft_change.leave_joint() {
            Ok(self.membership.after_joint())
        } else {
            let change = MembershipChange::decode(&raft_change.context)
                .map_err(|error| unreadable(error.to_string()))?;
            self.membership.with(&change)
        };
        let leaves_nothing = raft_change.leave_joint() && !self.membership.is_joint();
        let mut refused = None;
        match next {
            // Two leaders after one another may both have proposed to leave.
            Ok(_) if leaves_nothing => {}
            Ok(next) => {
                let counted = self.raw.apply_conf_change(&raft_change);
                compare(index, &next, counted)?;
                self.membership = next;
            }
            Err(error) => refused = Some(error),
        }
        Ok(Committed::Membership {
            position: LogPosition {
                term: entry.term,
                index,
            },
            membership: self.membership.clone(),
            refused,
        })
    }

    /// A leader that was voted out of the quorum stops leading.
    fn resign_if_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && !self.membership.has_vote(VoterId(raft.id)) {
            let term = raft.term;
            raft.become_follower(term, 0);
        }
    }

    fn ours(&self, messages: Vec<raft::eraftpb::Message>) -> Vec<Message> {
        let messages = messages.into_iter();
        messages
            .filter_map(|message| from_raft(self.cluster_id, message))
            .collect()
    }
}

/// Whether raft-rs counts the same members as we do.
fn compare(
    index: u64,
    ours: &Membership,
    counted: raft::Result<raft::eraftpb::ConfState>,
) -> Result<(), ConsensusError> {
    let reason = match counted {
        Ok(counted) if raft_proto::conf_state_eq(&counted, &conf_state(ours)) => return Ok(()),
        Ok(counted) => format!("{ours:?} against {counted:?}"),
        Err(error) => error.to_string(),
    };
    Err(ConsensusError::MembersDiffer { index, reason })
}

fn voter(id: u64) -> Option<VoterId> {
    (id != 0).then_some(VoterId(id))
}

impl Consensus for RaftConsensus {
    fn tick(&mut self) {
        if self.raw.raft.state != StateRole::Leader && self.must_write_first() {
            return;
        }
        self.raw.tick();
        self.leave_joint();
        self.draw_election_timeout();
    }

    fn step(&mut self, message: Message) -> Result<(), StepError> {
        let (from, local) = (message.from, self.local());
        if message.cluster_id != self.cluster_id {
            return Err(StepError::OtherCluster {
                from,
                found: message.cluster_id,
                expected: self.cluster_id,
            });
        }
        if message.to != local {
            return Err(StepError::OtherVoter {
                from,
                to: message.to,
                local,
            });
        }
        if check::check(&self.raw.raft, &message)? == Verdict::Stale {
            return Ok(());
        }
        let may_elect = matches!(message.body, Body::Vote { .. } | Body::CampaignNow);
        if may_elect && self.must_write_first() {
            return Ok(());
        }
        let stepped = self.raw.step(to_raft(message));
        self.draw_election_timeout();
        match stepped {
            Err(raft::Error::StepPeerNotFound) => Err(StepError::Stranger { from }),
            // What else it returns is about proposals and reads, which no message of ours carries.
            _ => Ok(()),
        }
    }

    fn propose(&mut self, data: Bytes) -> Result<LogPosition, Refused> {
        self.check_leader()?;
        if data.len() > ENTRY_BYTES_MAX {
            return Err(Refused::TooLarge {
                size: data.len(),
                max: ENTRY_BYTES_MAX,
            });
        }
        if self.raw.store().bytes() > self.config.log_bytes_max {
            return Err(Refused::TooMuch);
        }
        // Through the message rather than `RawNode::propose`, which would copy the data.
        let entry = raft::eraftpb::Entry {
            data,
            ..raft::eraftpb::Entry::default()
        };
        let proposal = raft::eraftpb::Message {
            msg_type: raft::eraftpb::MessageType::MsgPropose,
            from: self.local().0,
            entries: vec![entry],
            ..raft::eraftpb::Message::default()
        };
        self.raw.raft.step(proposal).map_err(|_| Refused::TooMuch)?;
        Ok(self.last())
    }

    fn change(&mut self, request: &MembershipRequest) -> Result<LogPosition, Refused> {
        self.check_leader()?;
        if self.raw.raft.has_pending_conf() || self.membership.is_joint() {
            return Err(Refused::ChangePending);
        }
        let change = self.membership.resolve(request)?;
        self.check_change(&change)?;
        self.raw
            .propose_conf_change(Vec::new(), conf_change(&change))
            .map_err(|_| Refused::TooMuch)?;
        Ok(self.last())
    }

    fn confirm_reads(&mut self, round: u64) -> Result<(), Refused> {
        self.check_leader()?;
        let raft = &self.raw.raft;
        if !raft.commit_to_current_term() {
            return Err(Refused::NotYet { term: raft.term });
        }
        if mutant::active(Mutant::ReadWithoutQuorum) {
            let index = raft.raft_log.committed;
            self.unconfirmed.push(ConfirmedRead { round, index });
        } else {
            self.raw.read_index(round.to_be_bytes().to_vec());
        }
        Ok(())
    }

    fn transfer(&mut self, to: VoterId) -> Result<(), Refused> {
        self.check_leader()?;
        if !self.membership.voters.contains(&to) {
            return Err(crate::membership::MembershipError::UnknownMember(to).into());
        }
        self.raw.transfer_leader(to.0);
        Ok(())
    }

    fn ready(&mut self) -> Option<Ready> {
        let idle = !self.raw.has_ready() && self.unconfirmed.is_empty();
        if self.round.is_some() || idle {
            return None;
        }
        let mut round = self.raw.ready();
        let snapshot = round.snapshot();
        // What raft-rs hands back is what we have handed in.
        let snapshot = (!snapshot.is_empty())
            .then(|| from_raft_snapshot(snapshot).ok())
            .flatten();
        let mut messages = self.ours(round.take_messages());
        let mut after_sync = self.ours(round.take_persisted_messages());
        if round.must_sync() && round.hs().is_some_and(|state| self.is_new_vote(state)) {
            after_sync.splice(0..0, messages.drain(..));
        }
        let ready = Ready {
            messages,
            after_sync,
            write: Write {
                hard_state: round.hs().map(|state| crate::entry::HardState {
                    term: state.term,
                    vote: state.vote,
                    commit: state.commit,
                }),
                snapshot,
                entries: round
                    .take_entries()
                    .into_iter()
                    .map(from_raft_entry)
                    .collect(),
            },
        };
        self.round = Some(round);
        Some(ready)
    }

    fn synced(&mut self, ready: Ready, _: Synced) -> Result<Advanced, ConsensusError> {
        let Some(mut round) = self.round.take() else {
            return Ok(Advanced::default());
        };
        if let Some(state) = ready.write.hard_state {
            self.written_vote = (state.term, state.vote);
        }
        let mut advanced = Advanced {
            messages: ready.after_sync,
            ..Advanced::default()
        };
        if let Some(snapshot) = ready.write.snapshot {
            self.membership = snapshot.membership.clone();
            self.applied = snapshot.last.index;
            self.raw.mut_store().replace(snapshot.clone());
            advanced.committed.push(Committed::Snapshot(snapshot));
        }
        self.raw.mut_store().append(ready.write.entries);
        let reads = round.take_read_states().into_iter();
        advanced.reads = reads
            .filter_map(|read| {
                let round = u64::from_be_bytes(read.request_ctx.try_into().ok()?);
                let index = read.index;
                Some(ConfirmedRead { round, index })
            })
            .chain(self.unconfirmed.drain(..))
            .collect();
        let mut committed = round.take_committed_entries();
        let mut light = self.raw.advance_append(round);
        committed.extend(light.take_committed_entries());
        let messages = self.ours(light.take_messages());
        advanced.messages.extend(messages);
        for entry in committed {
            let applied = self.apply(from_raft_entry(entry))?;
            advanced.committed.push(applied);
        }
        self.raw.advance_apply_to(self.applied);
        self.resign_if_removed();
        self.draw_election_timeout();
        Ok(advanced)
    }

    fn log_behind(&self, index: u64) -> (LogPosition, Vec<Entry>) {
        self.raw.store().behind(index)
    }

    fn compact(&mut self, snapshot: Snapshot, through: u64) {
        self.raw.mut_store().compact(snapshot, through);
    }

    fn snapshot_lost(&mut self, to: VoterId) {
        self.raw.report_snapshot(to.0, SnapshotStatus::Failure);
    }

    fn status(&self) -> Status {
        let raft = &self.raw.raft;
        Status {
            role: match raft.state {
                StateRole::Leader => Role::Leader,
                StateRole::Follower => Role::Follower,
                StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            },
            term: raft.term,
            leader: voter(raft.leader_id),
            commit: raft.raft_log.committed,
            applied: self.applied,
            last: self.last(),
        }
    }

    fn membership(&self) -> &Membership {
        &self.membership
    }

    fn progress(&self, of: VoterId) -> Option<Progress> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        raft.prs().get(of.0).map(|progress| Progress {
            matched: progress.matched,
            active: progress.recent_active,
            in_snapshot: progress.state == raft::ProgressState::Snapshot,
        })
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        self.raw.store().term_of(index)
    }
}
