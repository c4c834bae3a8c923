//! From one generation to the next: who is waited for, how long, and what everybody is told.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group::{ClassicGroup, InitialDelay};
use super::{ClassicState, Effects, JoinReply, Synced, Ticket};
use crate::timers::{Timer, Timers};
use crate::{GroupConfig, GroupError, Record};

/// The largest record of a group, in bytes: it must fit a segment of `__consumer_offsets`, and be
/// read again at each start. Kafka's own limit, the topic's `max.message.bytes`, is lower.
pub(crate) const METADATA_BYTES_MAX: usize = 16 << 20;

/// A group under way, with all that a step may touch.
pub(crate) struct Rebalance<'a> {
    pub(crate) group_id: &'a str,
    pub(crate) group: &'a mut ClassicGroup,
    pub(crate) timers: &'a mut Timers,
    pub(crate) config: &'a GroupConfig,
    pub(crate) now_ms: i64,
    pub(crate) effects: &'a mut Effects,
}

impl Rebalance<'_> {
    /// Membership or metadata have changed: all have to join again, unless they are at it.
    pub(crate) fn trigger(&mut self) {
        if self.group.state == ClassicState::PreparingRebalance {
            self.complete_if_all_joined();
        } else {
            self.prepare();
        }
    }

    /// Makes all members join again.
    pub(crate) fn prepare(&mut self) {
        if self.group.state == ClassicState::CompletingRebalance {
            let error = GroupError::RebalanceInProgress {
                group_id: self.group_id.to_owned(),
            };
            self.fail_syncs(&error);
        }
        self.group.pending_sync.clear();
        self.timers.cancel(&self.sync_timer());
        let is_initial = self.group.state == ClassicState::Empty;
        self.group
            .go_to(ClassicState::PreparingRebalance, self.now_ms);
        if is_initial {
            let delay_ms = self.config.initial_rebalance_delay_ms;
            let remaining_ms = (self.group.rebalance_timeout_ms() - delay_ms).max(0);
            self.delay(delay_ms, remaining_ms);
        } else if self.group.has_all_joined() {
            self.complete_join();
        } else {
            self.wait_for_joins();
        }
    }

    /// Begins the generation if nobody is missing and no first members are waited for.
    pub(crate) fn complete_if_all_joined(&mut self) {
        if self.group.state == ClassicState::PreparingRebalance
            && self.group.initial_delay.is_none()
            && self.group.has_all_joined()
        {
            self.complete_join();
        }
    }

    /// The time to join is over.
    pub(crate) fn join_time_is_over(&mut self) {
        if self.group.state != ClassicState::PreparingRebalance {
            return;
        }
        match self.group.initial_delay {
            Some(delay) if self.group.has_new_member && delay.remaining_ms > 0 => {
                // More may follow those that came: wait once more, but not for ever.
                self.group.has_new_member = false;
                let next_ms = self
                    .config
                    .initial_rebalance_delay_ms
                    .min(delay.remaining_ms);
                self.delay(next_ms, (delay.remaining_ms - delay.delay_ms).max(0));
            }
            _ => self.complete_join(),
        }
    }

    fn delay(&mut self, delay_ms: i64, remaining_ms: i64) {
        self.group.initial_delay = Some(InitialDelay {
            delay_ms,
            remaining_ms,
        });
        self.timers
            .schedule(self.join_timer(), self.now_ms + delay_ms);
    }

    fn wait_for_joins(&mut self) {
        let deadline = self.now_ms + self.group.rebalance_timeout_ms();
        self.timers.schedule(self.join_timer(), deadline);
    }

    /// Begins the next generation with those that have joined, and with static members, which keep
    /// their place while their session lasts.
    fn complete_join(&mut self) {
        self.timers.cancel(&self.join_timer());
        let missing: Vec<String> = self
            .group
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in missing {
            self.group.remove(&member_id);
            self.timers.cancel(&self.session_timer(&member_id));
        }
        if !self.group.elect_leader() && !self.group.members.is_empty() {
            // Static members alone, and none of them is here: until one comes or they expire.
            self.group.initial_delay = None;
            self.wait_for_joins();
            return;
        }
        self.group.next_generation(self.now_ms);
        if self.group.state == ClassicState::Empty {
            self.write();
        } else {
            self.tell_joined();
        }
    }

    fn tell_joined(&mut self) {
        let member_ids: Vec<String> = self.group.members.keys().cloned().collect();
        for member_id in &member_ids {
            let joined = self.group.joined(member_id);
            if let Some(ticket) = self.take_join(member_id) {
                let reply = JoinReply {
                    member_id: member_id.clone(),
                    outcome: Ok(joined),
                };
                self.effects.join(ticket, reply);
            }
            if let Some(member) = self.group.members.get_mut(member_id) {
                member.is_new = false;
            }
            self.restart_session(member_id);
        }
        self.group.pending_sync = member_ids.into_iter().collect();
        let deadline = self.now_ms + self.group.rebalance_timeout_ms();
        self.timers.schedule(self.sync_timer(), deadline);
    }

    /// Takes the leader's assignment: the group is settled, and those that wait for it are told.
    ///
    /// # Errors
    /// When the group would be too large to be kept; then all have to join again.
    pub(crate) fn settle(&mut self, mut assignments: BTreeMap<String, Bytes>) {
        for (member_id, member) in &mut self.group.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
        }
        let size = self.group.to_metadata().size_bound();
        if size > METADATA_BYTES_MAX {
            let error = GroupError::GroupMetadataTooLarge {
                group_id: self.group_id.to_owned(),
                size,
                max: METADATA_BYTES_MAX,
            };
            self.fail_syncs(&error);
            self.prepare();
            return;
        }
        self.group.go_to(ClassicState::Stable, self.now_ms);
        self.write();
        let member_ids: Vec<String> = self.group.members.keys().cloned().collect();
        for member_id in &member_ids {
            let synced = self.synced(member_id);
            if let Some(ticket) = self.take_sync(member_id) {
                self.effects.sync(ticket, Ok(synced));
                self.restart_session(member_id);
            }
        }
    }

    /// What a member of the settled generation is told.
    pub(crate) fn synced(&self, member_id: &str) -> Synced {
        let member = self.group.members.get(member_id);
        Synced {
            protocol_type: Some(self.group.protocol_type.clone()),
            protocol: self.group.protocol.clone(),
            assignment: member.map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }

    /// There will be no assignment for this generation.
    fn fail_syncs(&mut self, error: &GroupError) {
        let member_ids: Vec<String> = self.group.members.keys().cloned().collect();
        for member_id in &member_ids {
            if let Some(member) = self.group.members.get_mut(member_id) {
                member.assignment = Bytes::new();
            }
            if let Some(ticket) = self.take_sync(member_id) {
                self.effects.sync(ticket, Err(error.clone()));
                self.restart_session(member_id);
            }
        }
    }

    /// Members that got their generation and never asked for their assignment are put out.
    pub(crate) fn sync_time_is_over(&mut self) {
        let is_settling = matches!(
            self.group.state,
            ClassicState::CompletingRebalance | ClassicState::Stable
        );
        if !is_settling || self.group.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.group.pending_sync) {
            self.refuse(&member_id);
            self.group.remove(&member_id);
            self.timers.cancel(&self.session_timer(&member_id));
        }
        self.prepare();
    }

    /// A member's sync has come.
    pub(crate) fn saw_sync(&mut self, member_id: &str) {
        self.group.pending_sync.remove(member_id);
        if self.group.pending_sync.is_empty() {
            self.timers.cancel(&self.sync_timer());
        }
    }

    /// Takes a member out, and says so to its requests that wait.
    pub(crate) fn remove(&mut self, member_id: &str) {
        self.refuse(member_id);
        self.group.remove(member_id);
        self.timers.cancel(&self.session_timer(member_id));
    }

    /// A member has gone: the others join again, or need not wait for it any more.
    pub(crate) fn after_removal(&mut self) {
        match self.group.state {
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare(),
            ClassicState::PreparingRebalance => self.complete_if_all_joined(),
            ClassicState::Empty => {}
        }
    }

    /// Tells the requests of a member that wait that it is a member no longer.
    fn refuse(&mut self, member_id: &str) {
        let error = GroupError::UnknownMemberId {
            group_id: self.group_id.to_owned(),
            member_id: member_id.to_owned(),
        };
        self.fail(member_id, "", &error);
    }

    /// Answers the requests of a member that wait with an error.
    pub(crate) fn fail(&mut self, member_id: &str, told_id: &str, error: &GroupError) {
        if let Some(ticket) = self.take_join(member_id) {
            let reply = JoinReply {
                member_id: told_id.to_owned(),
                outcome: Err(error.clone()),
            };
            self.effects.join(ticket, reply);
        }
        if let Some(ticket) = self.take_sync(member_id) {
            self.effects.sync(ticket, Err(error.clone()));
        }
    }

    fn take_join(&mut self, member_id: &str) -> Option<Ticket> {
        self.group.members.get_mut(member_id)?.awaiting_join.take()
    }

    fn take_sync(&mut self, member_id: &str) -> Option<Ticket> {
        self.group.members.get_mut(member_id)?.awaiting_sync.take()
    }

    /// Gives a member its session anew.
    pub(crate) fn restart_session(&mut self, member_id: &str) {
        if let Some(member) = self.group.members.get(member_id) {
            let timeout = i64::from(member.session_timeout_ms);
            self.expect_within(member_id, timeout);
        }
    }

    /// Puts the member out unless it is heard of in time.
    pub(crate) fn expect_within(&mut self, member_id: &str, timeout_ms: i64) {
        let timer = self.session_timer(member_id);
        self.timers.schedule(timer, self.now_ms + timeout_ms);
    }

    /// Writes the group as it is.
    pub(crate) fn write(&mut self) {
        self.effects.records.push(Record::GroupMetadata {
            group_id: self.group_id.to_owned(),
            value: Some(self.group.to_metadata()),
        });
    }

    pub(crate) fn session_timer(&self, member_id: &str) -> Timer {
        Timer::ClassicSession {
            group_id: self.group_id.to_owned(),
            member_id: member_id.to_owned(),
        }
    }

    fn join_timer(&self) -> Timer {
        Timer::ClassicJoin {
            group_id: self.group_id.to_owned(),
        }
    }

    fn sync_timer(&self) -> Timer {
        Timer::ClassicSync {
            group_id: self.group_id.to_owned(),
        }
    }
}
