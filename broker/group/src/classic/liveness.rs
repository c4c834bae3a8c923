//! `Heartbeat`, and what happens when none comes.

use super::rebalance::Rebalance;
use super::{ClassicState, Effects};
use crate::coordinator::check_group_id;
use crate::timers::Timer;
use crate::{GroupCoordinator, GroupError, Transition};

/// A sign of life of a member of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicHeartbeat {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// The generation it is in.
    pub generation: i32,
}

impl GroupCoordinator {
    /// Handles a heartbeat of a classic member.
    ///
    /// # Errors
    /// `REBALANCE_IN_PROGRESS`: join again; `UNKNOWN_MEMBER_ID`, `ILLEGAL_GENERATION`: join anew;
    /// `FENCED_INSTANCE_ID`, `INVALID_GROUP_ID`.
    pub fn classic_heartbeat(
        &mut self,
        now_ms: i64,
        request: &ClassicHeartbeat,
    ) -> Result<Transition<()>, GroupError> {
        check_group_id(&request.group_id)?;
        if self.has_members_by_consumer_protocol(&request.group_id) {
            self.heartbeat_consumer_group(now_ms, request)?;
            return Ok(Transition::new(Vec::new(), ()));
        }
        let mut effects = Effects::default();
        let unknown = || GroupError::UnknownMemberId {
            group_id: request.group_id.clone(),
            member_id: request.member_id.clone(),
        };
        let mut rebalance = self
            .rebalance(now_ms, &request.group_id, &mut effects)
            .ok_or_else(unknown)?;
        let group = &*rebalance.group;
        let instance_id = request.instance_id.as_deref();
        group.check_member(&request.group_id, &request.member_id, instance_id)?;
        group.check_generation(&request.group_id, request.generation)?;
        let state = group.state;
        rebalance.restart_session(&request.member_id);
        match state {
            ClassicState::Empty => Err(unknown()),
            ClassicState::PreparingRebalance => Err(GroupError::RebalanceInProgress {
                group_id: request.group_id.clone(),
            }),
            ClassicState::CompletingRebalance | ClassicState::Stable => Ok(effects.answer(())),
        }
    }

    /// A classic group with what a step may touch; `None` if there is no such group.
    pub(crate) fn rebalance<'a>(
        &'a mut self,
        now_ms: i64,
        group_id: &'a str,
        effects: &'a mut Effects,
    ) -> Option<Rebalance<'a>> {
        Some(Rebalance {
            group: self.classic.get_mut(group_id)?,
            group_id,
            timers: &mut self.timers,
            config: &self.config,
            now_ms,
            effects,
        })
    }

    /// Handles a timer of a classic group.
    pub(crate) fn classic_timer(&mut self, now_ms: i64, timer: &Timer) -> Effects {
        let mut effects = Effects::default();
        let (Timer::ClassicSession { group_id, .. }
        | Timer::ClassicJoin { group_id }
        | Timer::ClassicSync { group_id }) = timer
        else {
            return effects;
        };
        if let Some(mut rebalance) = self.rebalance(now_ms, group_id, &mut effects) {
            match timer {
                Timer::ClassicSession { member_id, .. } => rebalance.session_is_over(member_id),
                Timer::ClassicJoin { .. } => rebalance.join_time_is_over(),
                _ => rebalance.sync_time_is_over(),
            }
        }
        self.forget_unused(group_id);
        effects
    }

    /// Gives each member of the classic groups that were read from the log a whole session.
    pub(crate) fn start_classic(&mut self, now_ms: i64) {
        self.classic = self
            .groups
            .iter()
            .filter_map(|(id, group)| {
                let metadata = group.classic.as_ref()?;
                Some((id.clone(), super::group::ClassicGroup::restore(metadata)))
            })
            .collect();
        for (group_id, group) in &self.classic {
            for (member_id, member) in &group.members {
                let timer = Timer::ClassicSession {
                    group_id: group_id.clone(),
                    member_id: member_id.clone(),
                };
                let deadline = now_ms + i64::from(member.session_timeout_ms);
                self.timers.schedule(timer, deadline);
            }
        }
    }
}

impl Rebalance<'_> {
    fn session_is_over(&mut self, member_id: &str) {
        if self.group.pending.remove(member_id) {
            self.complete_if_all_joined();
            return;
        }
        let Some(member) = self.group.members.get(member_id) else {
            return;
        };
        // Whoever waits for an answer gets a new session with it.
        if !member.is_excused() {
            self.remove(member_id);
            self.after_removal();
        }
    }
}
