//! The leader of one partition: verdicts on fetches, high watermark, acknowledgements, the in-sync set.
//!
//! It lasts for one leader epoch. It knows its own two positions and, of each follower, what that has
//! said in this epoch. Everything it asks for goes out as a [`LeaderCommand`]; whoever holds it calls
//! [`Leader::tick`] several times within a lag window.
//!
//! Invariants: the high watermark does not go back, and everything below it lies, in the counted
//! sense, at every member of the maximal in-sync set and at `min.insync.replicas` at least.

use std::collections::BTreeMap;

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, mutants};
use thiserror::Error;

use crate::config::{Durability, ReplicationConfig};
use crate::epochs::EpochHistory;
use crate::fetch::{FetchRequest, FetchVerdict, SyncReport};
use crate::replica::{Brokers, Incarnation, LogState, PartitionState};

mod in_sync;
mod progress;

use in_sync::InSync;
pub use in_sync::{InSyncDecision, Proposal, ProposalAnswer, Refusal};
use progress::Progress;

/// What a leader wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderCommand {
    /// Everything below is committed: show it to consumers, answer what waits for it.
    AdvanceHighWatermark {
        /// The new high watermark.
        to: Offset,
    },
    /// Send this to the controller; the answer goes to [`Leader::proposal_answered`].
    Propose(Proposal),
    /// The disk here is too slow to lead: ask the controller for another leader of the in-sync set.
    GiveUpLeadership {
        /// For how long the own synced position has been behind, in ms.
        behind_ms: i64,
    },
}

/// There are fewer replicas in sync than `min.insync.replicas` (`NOT_ENOUGH_REPLICAS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{in_sync} replicas are in sync, min.insync.replicas is {needed}; retry, or start the others"
)]
pub struct NotEnoughReplicas {
    /// How many there are.
    pub in_sync: usize,
    /// How many there must be.
    pub needed: usize,
}

/// What may be said to a producer with `acks=all` whose records end at some offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// They are committed.
    Done,
    /// Not yet.
    Wait,
    /// They are in the log, but too few replicas are in sync to commit them
    /// (`NOT_ENOUGH_REPLICAS_AFTER_APPEND`). They may still be committed later.
    NotEnoughReplicasAfterAppend(NotEnoughReplicas),
}

/// The leader of one partition in one leader epoch.
#[derive(Debug, Clone)]
pub struct Leader {
    me: Incarnation,
    config: ReplicationConfig,
    epoch: LeaderEpoch,
    /// The log's end when this epoch began.
    epoch_start: Offset,
    replicas: Vec<NodeId>,
    brokers: Brokers,
    log_start: Offset,
    log_end: Offset,
    synced: Offset,
    high_watermark: Offset,
    followers: BTreeMap<NodeId, Progress>,
    in_sync: InSync,
    /// Since when something has been waiting for the own disk.
    unsynced_since_ms: Option<i64>,
    last_sync_ms: i64,
    last_give_up_ms: Option<i64>,
    now_ms: i64,
}

impl Leader {
    /// Begins the leadership that `state` gives to `me`. Nothing is cut: the log as it is becomes the
    /// truth of the partition.
    pub fn begin(
        me: Incarnation,
        config: ReplicationConfig,
        state: &PartitionState,
        brokers: &Brokers,
        log: &LogState,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) -> Self {
        assert!(
            state.leader == me.node,
            "the controller chose {}",
            state.leader
        );
        assert!(
            log.start <= log.high_watermark
                && log.high_watermark <= log.end
                && log.synced <= log.end,
            "impossible positions {log:?}"
        );
        let followers = state.replicas.iter().filter(|replica| **replica != me.node);
        let mut leader = Self {
            me,
            config,
            epoch: state.leader_epoch,
            epoch_start: log.end,
            followers: followers
                .map(|replica| (*replica, Progress::new(now_ms)))
                .collect(),
            replicas: state.replicas.clone(),
            brokers: brokers.clone(),
            log_start: log.start,
            log_end: log.end,
            synced: log.synced,
            high_watermark: log.high_watermark,
            in_sync: InSync::new(&state.in_sync, state.partition_epoch),
            unsynced_since_ms: (log.synced < log.end).then_some(now_ms),
            last_sync_ms: now_ms,
            last_give_up_ms: None,
            now_ms,
        };
        leader.changed(now_ms, out);
        leader
    }

    /// The epoch of this leadership.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The version of the partition's record that it works with.
    pub const fn partition_epoch(&self) -> PartitionEpoch {
        self.in_sync.partition_epoch()
    }

    /// The log's end when this epoch began.
    pub const fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Everything below is committed.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The in-sync set as the controller last told, ascending.
    pub fn in_sync(&self) -> Vec<NodeId> {
        self.in_sync.decided().iter().copied().collect()
    }

    /// The set whose members must have what is acknowledged, ascending.
    pub fn maximal_in_sync(&self) -> Vec<NodeId> {
        self.in_sync.maximal().into_iter().collect()
    }

    /// Whether consumers may be told where the log ends: before the high watermark has reached the
    /// start of this epoch, it may lie below what was committed earlier (KIP-207).
    pub fn knows_committed_end(&self) -> bool {
        self.high_watermark >= self.epoch_start
    }

    /// Takes what the controller has decided since, for the same leadership.
    pub fn metadata_changed(
        &mut self,
        state: &PartitionState,
        brokers: &Brokers,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) {
        assert!(
            state.leader == self.me.node && state.leader_epoch == self.epoch,
            "another leadership is another leader"
        );
        let now_ms = self.at(now_ms);
        self.brokers = brokers.clone();
        for (replica, progress) in &mut self.followers {
            // What an earlier incarnation said is not known to be true of this one.
            if let Some(broker) = self.brokers.get(replica)
                && progress.broker_epoch() < broker.epoch
            {
                progress.incarnation(broker.epoch);
            }
        }
        if state.partition_epoch > self.in_sync.partition_epoch() {
            self.replicas.clone_from(&state.replicas);
            let me = self.me.node;
            self.followers
                .retain(|replica, _| state.replicas.contains(replica));
            for replica in state.replicas.iter().filter(|replica| **replica != me) {
                self.followers
                    .entry(*replica)
                    .or_insert_with(|| Progress::new(now_ms));
            }
            self.decided(state.partition_epoch, &state.in_sync, now_ms);
        }
        self.changed(now_ms, out);
    }

    /// Takes new settings.
    pub fn reconfigure(
        &mut self,
        config: ReplicationConfig,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) {
        let now_ms = self.at(now_ms);
        self.config = config;
        self.changed(now_ms, out);
    }

    /// Whether records with `acks=all` may be appended now.
    pub fn may_append(&self) -> Result<(), NotEnoughReplicas> {
        let (in_sync, needed) = (self.in_sync.decided().len(), self.min_in_sync());
        if in_sync < needed {
            return Err(NotEnoughReplicas { in_sync, needed });
        }
        Ok(())
    }

    /// What to answer a producer whose records end before `end`.
    pub fn acknowledgement(&self, end: Offset) -> Acknowledgement {
        if mutants::on("acknowledge-before-sync") && self.fetched_by_all(end) {
            return Acknowledgement::Done;
        }
        if self.high_watermark >= end {
            return Acknowledgement::Done;
        }
        match self.may_append() {
            Ok(()) => Acknowledgement::Wait,
            Err(too_few) => Acknowledgement::NotEnoughReplicasAfterAppend(too_few),
        }
    }

    fn fetched_by_all(&self, end: Offset) -> bool {
        self.in_sync.maximal().iter().all(|member| {
            *member == self.me.node
                || self.position_of(*member, Durability::Replicated) >= Some(end)
        })
    }

    /// The leader has appended up to `end`.
    pub fn appended(&mut self, end: Offset, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        let now_ms = self.at(now_ms);
        assert!(end >= self.log_end, "a leader's log only grows");
        if end > self.log_end && self.unsynced_since_ms.is_none() {
            self.unsynced_since_ms = Some(now_ms);
        }
        self.log_end = end;
        self.changed(now_ms, out);
    }

    /// The leader's disk has everything below `to`.
    pub fn synced(&mut self, to: Offset, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        let now_ms = self.at(now_ms);
        assert!(to <= self.log_end, "synced beyond the log end");
        if to <= self.synced {
            return;
        }
        self.synced = to;
        // What is still waiting was appended after the round before this one.
        self.unsynced_since_ms = (to < self.log_end).then_some(self.last_sync_ms);
        self.last_sync_ms = now_ms;
        self.changed(now_ms, out);
    }

    /// The leader's log starts at `start` now (retention, delete-records).
    pub fn log_start_moved(&mut self, start: Offset, out: &mut Vec<LeaderCommand>) {
        self.log_start = self.log_start.max(start);
        if self.high_watermark < start {
            self.high_watermark = start;
            out.push(LeaderCommand::AdvanceHighWatermark { to: start });
        }
    }

    /// A follower asks for records, and tells how far it has come.
    pub fn fetch(
        &mut self,
        request: &FetchRequest,
        history: &dyn EpochHistory,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) -> FetchVerdict {
        let now_ms = self.at(now_ms);
        let counts = match self.admit(request.replica, request.broker_epoch, request.leader_epoch) {
            Ok(counts) => counts,
            Err(verdict) => return verdict,
        };
        if let Some(verdict) = self.disagreement(request, history) {
            return verdict;
        }
        if let Some(progress) = self.followers.get_mut(&request.replica).filter(|_| counts) {
            progress.agreed_to(request.fetch_offset);
            progress.synced_to(request.synced_offset);
            progress.heard(now_ms, self.log_end, self.config.durability);
        }
        self.changed(now_ms, out);
        FetchVerdict::Serve {
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        }
    }

    /// A follower's disk has caught up while its fetch waits here.
    pub fn sync_reported(
        &mut self,
        report: &SyncReport,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) {
        let now_ms = self.at(now_ms);
        let admitted = self.admit(report.replica, report.broker_epoch, report.leader_epoch);
        if admitted != Ok(true) {
            return;
        }
        if let Some(progress) = self.followers.get_mut(&report.replica) {
            progress.synced_to(report.synced_offset);
            progress.heard(now_ms, self.log_end, self.config.durability);
        }
        self.changed(now_ms, out);
    }

    /// The controller has answered a proposal.
    pub fn proposal_answered(
        &mut self,
        answer: &ProposalAnswer,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) {
        let now_ms = self.at(now_ms);
        if answer.leader_epoch != self.epoch {
            return;
        }
        match &answer.outcome {
            Ok(decision) => {
                self.decided(decision.partition_epoch, &decision.in_sync, now_ms);
            }
            Err(refusal) => {
                let not_before_ms = now_ms.saturating_add(self.config.proposal_retry_ms);
                self.in_sync
                    .refused(answer.sequence, *refusal, not_before_ms);
            }
        }
        self.changed(now_ms, out);
    }

    /// Time passes: who lags is put out, overdue proposals are sent again, a slow disk gives up.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        let before_ms = self.now_ms;
        let now_ms = self.at(now_ms);
        self.forgive_sleep(now_ms - before_ms);
        if let Some(proposal) = self.in_sync.overdue(now_ms, self.config.proposal_retry_ms) {
            out.push(LeaderCommand::Propose(proposal));
        }
        self.evict_one(now_ms, out);
        self.give_up_if_slow(now_ms, out);
        self.changed(now_ms, out);
    }

    /// The controller has decided on a set. Who comes into it gets the time to show that it keeps up.
    fn decided(&mut self, partition_epoch: PartitionEpoch, in_sync: &[NodeId], now_ms: i64) {
        let before = self.in_sync.decided().clone();
        self.in_sync.decide(partition_epoch, in_sync);
        for (replica, progress) in &mut self.followers {
            if self.in_sync.decided().contains(replica) && !before.contains(replica) {
                progress.give_time(now_ms);
            }
        }
    }

    /// A clock that goes back stands still here.
    fn at(&mut self, now_ms: i64) -> i64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }

    /// A leader that was itself stopped, or whose clock has jumped, cannot tell who was slow.
    fn forgive_sleep(&mut self, passed_ms: i64) {
        if passed_ms <= self.config.lag_ms() / 2 {
            return;
        }
        for progress in self.followers.values_mut() {
            progress.forgive(passed_ms);
        }
        self.unsynced_since_ms = self
            .unsynced_since_ms
            .map(|since| since.saturating_add(passed_ms));
    }

    /// Whether this incarnation of a replica may speak in this leadership: `Ok(true)` if what it says
    /// counts, `Ok(false)` if it may read only.
    fn admit(
        &mut self,
        replica: NodeId,
        broker_epoch: BrokerEpoch,
        leader_epoch: LeaderEpoch,
    ) -> Result<bool, FetchVerdict> {
        if leader_epoch < self.epoch && !mutants::on("stale-leader-epoch") {
            return Err(FetchVerdict::FencedLeaderEpoch);
        }
        if leader_epoch > self.epoch {
            return Err(FetchVerdict::UnknownLeaderEpoch);
        }
        let Some(progress) = self.followers.get_mut(&replica) else {
            return Err(FetchVerdict::NotReplica);
        };
        let known = self
            .brokers
            .get(&replica)
            .map_or(BrokerEpoch::NONE, |broker| broker.epoch);
        if mutants::on("stale-broker-epoch") {
            progress.incarnation(known);
            return Ok(true);
        }
        if broker_epoch < known || broker_epoch < progress.broker_epoch() {
            return Err(FetchVerdict::StaleBrokerEpoch);
        }
        // A newer incarnation than the controller's news tell of: the earlier one is gone, and what
        // this one has counts once the news are here.
        progress.incarnation(broker_epoch);
        Ok(broker_epoch == known)
    }

    /// Why the follower's log does not continue into this one, if it does not.
    fn disagreement(
        &self,
        request: &FetchRequest,
        history: &dyn EpochHistory,
    ) -> Option<FetchVerdict> {
        let out_of_range = FetchVerdict::OutOfRange {
            log_start: self.log_start,
        };
        if request.fetch_offset < self.log_start {
            return Some(out_of_range);
        }
        if request.last_epoch.is_some() {
            let (epoch, end_offset) = self.end_of(request.last_epoch, history);
            if epoch != request.last_epoch || end_offset < request.fetch_offset {
                return Some(FetchVerdict::Diverging { epoch, end_offset });
            }
        }
        (request.fetch_offset > self.log_end).then_some(out_of_range)
    }

    /// Where `epoch` ends in this log, this leadership's own epoch included, which may not have a
    /// record yet.
    fn end_of(&self, epoch: LeaderEpoch, history: &dyn EpochHistory) -> (LeaderEpoch, Offset) {
        if epoch >= self.epoch {
            return (self.epoch, self.log_end);
        }
        if let Some(found) = history.end_offset_for(epoch) {
            return found;
        }
        match history.last_epoch() {
            // Newer than every record, older than this leadership: its records never came here.
            Some(last) => (last, self.epoch_start),
            // Nothing is left to compare with: what lies below the start was committed long ago.
            None => (epoch, self.epoch_start),
        }
    }

    /// Everything that may follow from any change: the high watermark, then a member more.
    fn changed(&mut self, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        self.advance_high_watermark(out);
        self.admit_one(now_ms, out);
    }

    fn min_in_sync(&self) -> usize {
        self.config
            .min_insync_replicas
            .min(self.replicas.len())
            .max(1)
    }

    /// The counted position of a member; `None` if it has not spoken in this leadership.
    fn position_of(&self, member: NodeId, durability: Durability) -> Option<Offset> {
        if member == self.me.node {
            return Some(match durability {
                Durability::Fsync => self.synced,
                Durability::Replicated => self.log_end,
            });
        }
        self.followers
            .get(&member)
            .and_then(|progress| progress.counted(durability))
    }

    fn advance_high_watermark(&mut self, out: &mut Vec<LeaderCommand>) {
        if self.may_append().is_err() && !mutants::on("too-few-in-sync") {
            return;
        }
        let members = self.in_sync.maximal();
        let positions = members
            .iter()
            .map(|member| self.position_of(*member, self.config.durability));
        let Some(Some(least)) = positions.min() else {
            return;
        };
        if least > self.high_watermark {
            self.high_watermark = least;
            out.push(LeaderCommand::AdvanceHighWatermark { to: least });
        }
    }

    /// Proposes a replica that is as good as a member.
    fn admit_one(&mut self, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        if !self.in_sync.may_propose(now_ms) {
            return;
        }
        let joining = self.followers.iter().find(|(replica, progress)| {
            !self.in_sync.decided().contains(replica)
                && self.is_caught_up(**replica, progress)
                // Else one that was put out while another holds the high watermark would be back
                // at once.
                && !progress.lags(
                    now_ms,
                    self.log_end,
                    self.config.lag_ms(),
                    self.config.durability,
                )
        });
        if let Some(joining) = joining.map(|(replica, _)| *replica) {
            self.propose(now_ms, |member| member == joining, None, out);
        }
    }

    fn is_caught_up(&self, replica: NodeId, progress: &Progress) -> bool {
        let eligible = self
            .brokers
            .get(&replica)
            .is_some_and(|broker| broker.eligible && broker.epoch == progress.broker_epoch());
        if mutants::on("join-without-the-epoch-start") {
            return eligible
                && progress.counted(self.config.durability) >= Some(self.high_watermark);
        }
        let needed = self.high_watermark.max(self.epoch_start);
        eligible && progress.counted(self.config.durability) >= Some(needed)
    }

    /// Proposes to put the member out that has been behind for longest.
    fn evict_one(&mut self, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        let lag_ms = self.config.lag_ms();
        if !self.in_sync.may_propose(now_ms) || !self.in_sync.may_evict(now_ms, lag_ms) {
            return;
        }
        let lagging = self.followers.iter().filter(|(replica, progress)| {
            self.in_sync.decided().contains(replica)
                && progress.lags(now_ms, self.log_end, lag_ms, self.config.durability)
        });
        let lagging = lagging.min_by_key(|(_, progress)| progress.caught_up_ms());
        if let Some(lagging) = lagging.map(|(replica, _)| *replica) {
            self.propose(now_ms, |_| false, Some(lagging), out);
        }
    }

    fn propose(
        &mut self,
        now_ms: i64,
        joins: impl Fn(NodeId) -> bool,
        leaves: Option<NodeId>,
        out: &mut Vec<LeaderCommand>,
    ) {
        let decided = self.in_sync.decided();
        let members = self.replicas.iter().copied().filter(|replica| {
            (decided.contains(replica) || joins(*replica)) && Some(*replica) != leaves
        });
        let members = members
            .map(|member| (member, self.epoch_of(member)))
            .collect();
        let proposal = self.in_sync.propose(self.epoch, members, now_ms);
        out.push(LeaderCommand::Propose(proposal));
    }

    /// The incarnation that a member is judged by: the one that has spoken, or else the one that the
    /// controller knows.
    fn epoch_of(&self, member: NodeId) -> BrokerEpoch {
        if member == self.me.node {
            return self.me.epoch;
        }
        let spoken = self
            .followers
            .get(&member)
            .map_or(BrokerEpoch::NONE, Progress::broker_epoch);
        if spoken.is_some() {
            return spoken;
        }
        self.brokers
            .get(&member)
            .map_or(BrokerEpoch::NONE, |broker| broker.epoch)
    }

    fn give_up_if_slow(&mut self, now_ms: i64, out: &mut Vec<LeaderCommand>) {
        let lag_ms = self.config.sync_lag_ms;
        let Some(since_ms) = self.unsynced_since_ms else {
            return;
        };
        let behind_ms = now_ms.saturating_sub(since_ms);
        let just_asked = self
            .last_give_up_ms
            .is_some_and(|last| now_ms.saturating_sub(last) < lag_ms);
        let others = self.in_sync.decided().len() > 1;
        if self.config.durability == Durability::Fsync
            && behind_ms > lag_ms
            && others
            && !just_asked
        {
            self.last_give_up_ms = Some(now_ms);
            out.push(LeaderCommand::GiveUpLeadership { behind_ms });
        }
    }
}

#[cfg(test)]
mod tests;
