//! The active controller: what decides on changes and what it does by itself as time goes by.
//!
//! One node at a time is active, by the quorum's word. It holds the image of all committed records and
//! an [`ActiveController`], which begins anew with each term. The host
//!
//! 1. gives every change to [`ActiveController::decide`], with the image as it is after all earlier
//!    transitions, one after another;
//! 2. writes the transition's records to the quorum's log as one entry, all or none, and replays them
//!    when they are committed; only then the answer leaves. Nodes too replay an entry as a whole: in
//!    the middle of one a node could find itself registered anew and leading as before;
//! 3. calls [`ActiveController::tick`] several times a session, and again as long as it returns
//!    something;
//! 4. drops it when it is active no more, with every transition that is not committed.
//!
//! Times are milliseconds of one clock that does not go back; it need not agree with any other.

use conveyor_record::NodeId;

use crate::brokers::Sessions;
use crate::brokers::heartbeat::fence_stale;
use crate::change::{Answer, Change, ChangeError};
use crate::partitions::balance::plan_draining;
use crate::partitions::election::balance_leaders;
use crate::partitions::reassign::reassign;
use crate::{MetadataImage, TopicDefaults, Transition};

/// How the active controller works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerSettings {
    /// How long a node may be silent (`broker.session.timeout.ms`).
    pub session_timeout_ms: i64,
    /// How often partitions are given back to their preferred leaders
    /// (`leader.imbalance.check.interval.seconds`); `None` for never
    /// (`auto.leader.rebalance.enable=false`).
    pub leader_imbalance_check_ms: Option<i64>,
    /// How many partitions are given back in one transition.
    pub elections_max: usize,
    /// How many partitions are moved off draining nodes at a time.
    pub moves_max: usize,
    /// What topics get when nobody says.
    pub defaults: TopicDefaults,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms: 9_000,
            leader_imbalance_check_ms: Some(300_000),
            elections_max: 1_000,
            moves_max: 10,
            defaults: TopicDefaults::default(),
        }
    }
}

/// What the active controller has done by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timed {
    /// A node's heartbeats have stopped.
    Fenced(NodeId),
    /// So many partitions are on their way off draining nodes.
    Moving(usize),
    /// So many partitions are led by their preferred leaders again.
    LeadersBalanced(usize),
}

/// The soft state of the active controller.
#[derive(Debug, Clone)]
pub struct ActiveController {
    settings: ControllerSettings,
    sessions: Sessions,
    next_balance_ms: i64,
}

impl ActiveController {
    /// A controller that becomes active. `image` has all records of former terms.
    pub fn begin(image: &MetadataImage, settings: ControllerSettings, now_ms: i64) -> Self {
        let sessions = Sessions::begin(image, settings.session_timeout_ms, now_ms);
        let next_balance_ms = next_balance(&settings, now_ms);
        Self {
            settings,
            sessions,
            next_balance_ms,
        }
    }

    /// Decides on a change.
    pub fn decide(
        &mut self,
        image: &MetadataImage,
        change: &Change,
        now_ms: i64,
    ) -> Result<Transition<Answer>, ChangeError> {
        self.sessions.advance(now_ms);
        change.decide(image, &mut self.sessions, &self.settings.defaults)
    }

    /// What is due by now, one thing at a time; `None` if nothing is.
    pub fn tick(&mut self, image: &MetadataImage, now_ms: i64) -> Option<Transition<Timed>> {
        self.sessions.advance(now_ms);
        if let Some(fenced) = fence_stale(image, &mut self.sessions) {
            return Some(fenced.map(Timed::Fenced));
        }
        let plan = plan_draining(image, self.settings.moves_max);
        let moving = reassign(image, &plan, false).map(|_| Timed::Moving(plan.len()));
        if !moving.records.is_empty() {
            return Some(moving);
        }
        if now_ms < self.next_balance_ms {
            return None;
        }
        let balanced = balance_leaders(image, self.settings.elections_max);
        if balanced.records.is_empty() {
            self.next_balance_ms = next_balance(&self.settings, now_ms);
            return None;
        }
        Some(balanced.map(Timed::LeadersBalanced))
    }

    /// Who has been heard of.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Who has been heard of, to end a session whose process is known to be gone.
    pub fn sessions_mut(&mut self) -> &mut Sessions {
        &mut self.sessions
    }
}

fn next_balance(settings: &ControllerSettings, now_ms: i64) -> i64 {
    let interval = settings.leader_imbalance_check_ms;
    interval.map_or(i64::MAX, |interval| now_ms.saturating_add(interval.max(1)))
}
