//! A follower of one leadership: what it asks for next, and what it makes of the answers.
//!
//! One fetch is out at a time. An answer is taken only if it belongs to that fetch and the log still
//! ends where it ended when the fetch left: a late or repeated answer describes another log, and a
//! divergence told of another log would cut records that are committed.
//!
//! Beginning to follow cuts nothing. Only when the leader finds that the logs part does the follower
//! cut, to where both agree that the epoch in question ends (KIP-101, KIP-279, KIP-595).

use conveyor_record::{LeaderEpoch, NodeId, Offset, mutants};
use thiserror::Error;

use crate::config::ReplicationConfig;
use crate::epochs::EpochHistory;
use crate::fetch::{FetchAnswer, FetchRequest, FetchVerdict, RecordSpan, SyncReport};
use crate::replica::{Incarnation, LogState, PartitionState};

/// The leader's log lacks what is known to be committed. Nothing is cut; somebody must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "leader {leader} of epoch {leader_epoch} has nothing beyond offset {end}, but records up to \
     {high_watermark} are committed here; not following it (recover the partition by hand if its \
     records are lost)"
)]
pub struct InconsistentLog {
    /// The leader that would have been followed.
    pub leader: NodeId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where the log would have been cut.
    pub end: Offset,
    /// The high watermark here.
    pub high_watermark: Offset,
}

/// What to do about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerStep {
    /// Nothing: it answers another fetch, another leadership, or another log.
    Ignore,
    /// There was nothing new; the high watermark may have moved.
    UpToDate,
    /// Append the records that came, then call [`Follower::appended`].
    Append(RecordSpan),
    /// Cut the log to this offset, durably, then call [`Follower::log_changed`].
    TruncateTo(Offset),
    /// Drop everything and begin at this offset, durably, then call [`Follower::log_changed`].
    StartAt(Offset),
    /// The leader refused; ask again after a while.
    Wait,
    /// The leader cannot be followed; no more fetches in this leadership.
    Halt(InconsistentLog),
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    sequence: u64,
    fetch_offset: Offset,
    last_epoch: LeaderEpoch,
    sent_ms: i64,
}

/// A follower of one partition in one leader epoch.
#[derive(Debug, Clone)]
pub struct Follower {
    me: Incarnation,
    config: ReplicationConfig,
    leader: NodeId,
    leader_epoch: LeaderEpoch,
    recovering: bool,
    log: LogState,
    /// The leader has once found that the logs agree: from then on nothing is cut, and the synced
    /// position speaks of the leader's records.
    agrees: bool,
    /// The leader's high watermark and log start, as last told.
    leader_high_watermark: Offset,
    leader_log_start: Offset,
    outstanding: Option<Outstanding>,
    last_sequence: u64,
    not_before_ms: i64,
    halted: Option<InconsistentLog>,
}

impl Follower {
    /// Begins to follow the leader that `state` names. `log.synced` is what is known to be on disk:
    /// whoever has just recovered the log syncs what was found before it comes here.
    pub fn begin(
        me: Incarnation,
        config: ReplicationConfig,
        state: &PartitionState,
        log: &LogState,
    ) -> Self {
        assert!(state.leader != me.node, "nobody follows himself");
        assert!(log.synced <= log.end, "impossible positions {log:?}");
        Self {
            me,
            config,
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            recovering: state.recovering,
            log: *log,
            agrees: false,
            leader_high_watermark: Offset::ZERO,
            leader_log_start: Offset::ZERO,
            outstanding: None,
            last_sequence: 0,
            not_before_ms: i64::MIN,
            halted: None,
        }
    }

    /// Whom it follows.
    pub const fn leader(&self) -> NodeId {
        self.leader
    }

    /// In which leadership.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Everything below is known to be committed, as far as it lies here.
    pub const fn high_watermark(&self) -> Offset {
        self.log.high_watermark
    }

    /// Where the log should start: the leader's log start, as far as that is committed here. Raise it
    /// if it lies below.
    pub fn log_start_wanted(&self) -> Offset {
        self.leader_log_start.min(self.log.high_watermark)
    }

    /// Whether the leader has found the logs to agree.
    pub const fn agrees(&self) -> bool {
        self.agrees
    }

    /// Why it does not follow, if it does not.
    pub const fn halted(&self) -> Option<InconsistentLog> {
        self.halted
    }

    /// The next fetch, if one is due: none is out, or its answer is overdue.
    pub fn next_fetch(&mut self, now_ms: i64) -> Option<FetchRequest> {
        if self.halted.is_some() || now_ms < self.not_before_ms {
            return None;
        }
        let waiting = self.outstanding.is_some_and(|fetch| {
            // A clock that went back must not make it wait for ever.
            (0..self.config.fetch_timeout_ms).contains(&now_ms.saturating_sub(fetch.sent_ms))
        });
        if waiting {
            return None;
        }
        self.last_sequence += 1;
        self.outstanding = Some(Outstanding {
            sequence: self.last_sequence,
            fetch_offset: self.log.end,
            last_epoch: self.log.last_epoch,
            sent_ms: now_ms,
        });
        Some(FetchRequest {
            replica: self.me.node,
            broker_epoch: self.me.epoch,
            leader_epoch: self.leader_epoch,
            sequence: self.last_sequence,
            fetch_offset: self.log.end,
            last_epoch: self.log.last_epoch,
            synced_offset: self.log.synced,
        })
    }

    /// Takes an answer. `history` is that of the follower's own log.
    pub fn answered(
        &mut self,
        answer: &FetchAnswer,
        history: &dyn EpochHistory,
        now_ms: i64,
    ) -> FollowerStep {
        if !self.belongs(answer) {
            return FollowerStep::Ignore;
        }
        self.outstanding = None;
        match answer.verdict {
            FetchVerdict::Serve {
                high_watermark,
                log_start,
            } => self.served(high_watermark, log_start, answer.records),
            FetchVerdict::Diverging { epoch, end_offset } => {
                let end = agreed_end(history, epoch, end_offset, &self.log);
                let step = if end < self.log.start {
                    FollowerStep::StartAt(end)
                } else {
                    FollowerStep::TruncateTo(end)
                };
                self.cut(end, step)
            }
            FetchVerdict::OutOfRange { log_start } => {
                self.cut(log_start, FollowerStep::StartAt(log_start))
            }
            FetchVerdict::FencedLeaderEpoch
            | FetchVerdict::UnknownLeaderEpoch
            | FetchVerdict::NotLeader
            | FetchVerdict::StaleBrokerEpoch
            | FetchVerdict::NotReplica => {
                self.not_before_ms = now_ms.saturating_add(self.config.fetch_backoff_ms);
                FollowerStep::Wait
            }
        }
    }

    /// The records of [`FollowerStep::Append`] are in the log, or a part of them.
    pub fn appended(&mut self, end: Offset, last_epoch: LeaderEpoch) {
        assert!(end >= self.log.end, "an append does not cut");
        self.log.end = end;
        self.log.last_epoch = last_epoch;
        self.advance_high_watermark();
    }

    /// The log was cut or begun anew, as a step told. `log` is what it is now.
    pub fn log_changed(&mut self, log: &LogState) {
        self.log = LogState {
            high_watermark: self.log.high_watermark.clamp(log.start, log.end),
            ..*log
        };
        self.outstanding = None;
    }

    /// The log start was raised.
    pub fn log_start_moved(&mut self, start: Offset) {
        self.log.start = self.log.start.max(start);
    }

    /// The own disk has everything below `to`. What to tell the leader, if it would count.
    pub fn synced(&mut self, to: Offset) -> Option<SyncReport> {
        let to = to.min(self.log.end);
        if to <= self.log.synced {
            return None;
        }
        self.log.synced = to;
        (self.agrees || mutants::on("sync-counts-without-agreement")).then_some(SyncReport {
            replica: self.me.node,
            broker_epoch: self.me.epoch,
            leader_epoch: self.leader_epoch,
            synced_offset: to,
        })
    }

    /// Whether an answer is the one that is waited for, to the log as it is.
    fn belongs(&self, answer: &FetchAnswer) -> bool {
        if mutants::on("answer-without-matching") {
            return answer.leader_epoch == self.leader_epoch;
        }
        if mutants::on("late-divergence-answer")
            && matches!(answer.verdict, FetchVerdict::Diverging { .. })
        {
            return answer.leader_epoch == self.leader_epoch;
        }
        let Some(outstanding) = self.outstanding else {
            return false;
        };
        answer.leader_epoch == self.leader_epoch
            && answer.sequence == outstanding.sequence
            && outstanding.fetch_offset == self.log.end
            && outstanding.last_epoch == self.log.last_epoch
    }

    fn served(
        &mut self,
        high_watermark: Offset,
        log_start: Offset,
        records: Option<RecordSpan>,
    ) -> FollowerStep {
        self.agrees = true;
        self.leader_high_watermark = high_watermark;
        self.leader_log_start = self.leader_log_start.max(log_start);
        self.advance_high_watermark();
        match records {
            Some(span) if span.next_offset > self.log.end => FollowerStep::Append(span),
            _ => FollowerStep::UpToDate,
        }
    }

    fn advance_high_watermark(&mut self) {
        let known = self.leader_high_watermark.min(self.log.end);
        self.log.high_watermark = self.log.high_watermark.max(known);
    }

    /// Lets `step` cut the log to `end`, unless that would take committed records away.
    fn cut(&mut self, end: Offset, step: FollowerStep) -> FollowerStep {
        let drops_committed = end < self.log.high_watermark;
        if drops_committed && !self.recovering && !mutants::on("cut-committed-records") {
            let inconsistent = InconsistentLog {
                leader: self.leader,
                leader_epoch: self.leader_epoch,
                end,
                high_watermark: self.log.high_watermark,
            };
            self.halted = Some(inconsistent);
            return FollowerStep::Halt(inconsistent);
        }
        step
    }
}

/// Where the follower's log is to end when the leader's epochs up to `epoch` end at `end_offset`: the
/// least of both ends of the largest epoch that the follower has of those.
fn agreed_end(
    history: &dyn EpochHistory,
    epoch: LeaderEpoch,
    end_offset: Offset,
    log: &LogState,
) -> Offset {
    if mutants::on("truncate-to-high-watermark") {
        return log.high_watermark;
    }
    let own_end = history
        .end_offset_for(epoch)
        .map_or(log.end, |(_, own_end)| own_end);
    own_end.min(end_offset).clamp(Offset::ZERO, log.end)
}

#[cfg(test)]
mod tests;
