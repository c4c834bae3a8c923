//! `JoinGroup`: become a member, or a member of the next generation.

use bytes::Bytes;

use super::group::{ClassicGroup, ClassicMember};
use super::rebalance::Rebalance;
use super::{ClassicState, Effects, JoinReply, Joined, Ticket};
use crate::admin::membership_tombstones;
use crate::coordinator::{TEXT_BYTES_MAX, check_group_id};
use crate::{ClusterView, GroupCoordinator, GroupError, Record, Transition};

/// How long a member that has not been in a generation yet may wait for its first one. It cannot
/// send heartbeats until then, and if it is gone nobody would notice.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 300_000;

/// One way to agree that a member speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: String,
    /// What the leader has to know of the member to assign by it.
    pub metadata: Bytes,
}

/// A request to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// The group.
    pub group_id: String,
    /// The member; empty before it has an id.
    pub member_id: String,
    /// An id that nobody has had, for a member without one.
    pub new_member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long the others wait for it in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// What kind of group it takes this for.
    pub protocol_type: String,
    /// What it speaks, the best first.
    pub protocols: Vec<Protocol>,
    /// Whether it is given an id first, to come again with (KIP-394; version 4).
    pub requires_known_member: bool,
    /// Whether a static leader that comes back can be told to keep the assignment (version 9).
    pub supports_skipping_assignment: bool,
    /// The client's name for itself.
    pub client_id: String,
    /// The address it comes from.
    pub client_host: String,
}

/// A refusal, and the member id to answer with it.
pub(crate) struct Refused {
    pub(crate) member_id: String,
    pub(crate) error: GroupError,
}

impl GroupCoordinator {
    /// Handles a join. Its answer is among the replies, now or of a later transition, with one of
    /// the errors `INVALID_GROUP_ID`, `INVALID_REQUEST`, `INVALID_SESSION_TIMEOUT`,
    /// `UNKNOWN_MEMBER_ID`, `MEMBER_ID_REQUIRED`, `FENCED_INSTANCE_ID`, `GROUP_MAX_SIZE_REACHED`,
    /// `INCONSISTENT_GROUP_PROTOCOL`.
    pub fn join_group(
        &mut self,
        now_ms: i64,
        ticket: Ticket,
        request: &JoinRequest,
        cluster: &impl ClusterView,
    ) -> Transition<()> {
        let mut effects = Effects::default();
        if let Err(refused) = self.join(now_ms, ticket, request, cluster, &mut effects) {
            let reply = JoinReply {
                member_id: refused.member_id,
                outcome: Err(refused.error),
            };
            effects.join(ticket, reply);
        }
        self.forget_unused(&request.group_id);
        effects.answer(())
    }

    fn join(
        &mut self,
        now_ms: i64,
        ticket: Ticket,
        request: &JoinRequest,
        cluster: &impl ClusterView,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let with_own_id = |error| Refused {
            member_id: request.member_id.clone(),
            error,
        };
        self.check_join(request).map_err(with_own_id)?;
        if self.has_members_by_consumer_protocol(&request.group_id) {
            let Some(last) = self.last_by_consumer_protocol(now_ms, request) else {
                return self.join_consumer_group(now_ms, ticket, request, cluster, effects);
            };
            self.check_joins_classic_members(request)?;
            let records = self.removal(now_ms, &request.group_id, &last);
            effects.records.extend(records.unwrap_or_default());
        }
        self.join_classic_group(now_ms, ticket, request, effects)
    }

    fn join_classic_group(
        &mut self,
        now_ms: i64,
        ticket: Ticket,
        request: &JoinRequest,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let with_own_id = |error| Refused {
            member_id: request.member_id.clone(),
            error,
        };
        let is_known_group = self.classic.contains_key(&request.group_id);
        if !is_known_group && !request.member_id.is_empty() {
            return Err(with_own_id(unknown_member(request)));
        }
        // A group by the consumer protocol has no members here, and becomes a classic one.
        let conversion: Vec<Record> = match self.groups.get(&request.group_id) {
            Some(group) if group.is_consumer_group() && !is_known_group => {
                membership_tombstones(&request.group_id, group)
            }
            _ => Vec::new(),
        };
        let before = effects.records.len();
        let group = self.classic.entry(request.group_id.clone()).or_default();
        let mut rebalance = Rebalance {
            group_id: &request.group_id,
            group,
            timers: &mut self.timers,
            config: &self.config,
            now_ms,
            effects,
        };
        let outcome = rebalance.join(ticket, request);
        let is_let_in = match &outcome {
            Ok(()) => true,
            Err(refused) => matches!(refused.error, GroupError::MemberIdRequired { .. }),
        };
        if is_let_in {
            effects.records.splice(before..before, conversion);
        }
        outcome
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        check_group_id(&request.group_id)?;
        let texts = [
            &request.member_id,
            &request.new_member_id,
            &request.protocol_type,
            &request.client_id,
            &request.client_host,
        ];
        let names = request.protocols.iter().map(|protocol| &protocol.name);
        let mut lengths = texts.into_iter().chain(&request.instance_id).chain(names);
        if lengths.any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(GroupError::InvalidRequest {
                group_id: request.group_id.clone(),
                reason: format!("a name has more than {TEXT_BYTES_MAX} bytes"),
            });
        }
        let (min, max) = (
            self.config.min_session_timeout_ms,
            self.config.max_session_timeout_ms,
        );
        if !(min..=max).contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout {
                group_id: request.group_id.clone(),
                received: request.session_timeout_ms,
                min,
                max,
            });
        }
        Ok(())
    }

    /// Forgets a group that nobody has joined and nothing is written of.
    pub(crate) fn forget_unused(&mut self, group_id: &str) {
        let is_written = self
            .groups
            .get(group_id)
            .is_some_and(|group| group.classic.is_some());
        if !is_written
            && self
                .classic
                .get(group_id)
                .is_some_and(ClassicGroup::is_unused)
        {
            self.classic.remove(group_id);
        }
    }
}

fn unknown_member(request: &JoinRequest) -> GroupError {
    GroupError::UnknownMemberId {
        group_id: request.group_id.clone(),
        member_id: request.member_id.clone(),
    }
}

impl Rebalance<'_> {
    fn join(&mut self, ticket: Ticket, request: &JoinRequest) -> Result<(), Refused> {
        let member_id = &request.member_id;
        if !self.has_room_for(member_id) {
            self.remove(member_id);
            return Err(Refused {
                member_id: String::new(),
                error: GroupError::GroupMaxSizeReached {
                    group_id: self.group_id.to_owned(),
                    max: self.config.classic_max_size,
                },
            });
        }
        if !self
            .group
            .supports(&request.protocol_type, &request.protocols)
        {
            return Err(Refused {
                member_id: member_id.clone(),
                error: self.inconsistent(request),
            });
        }
        if member_id.is_empty() {
            return self.join_new(ticket, request);
        }
        if self.group.pending.contains(member_id) && request.instance_id.is_none() {
            self.add(ticket, request, member_id);
            return Ok(());
        }
        let with_own_id = |error| Refused {
            member_id: member_id.clone(),
            error,
        };
        self.group
            .check_member(self.group_id, member_id, request.instance_id.as_deref())
            .map_err(with_own_id)?;
        self.rejoin(ticket, request);
        Ok(())
    }

    /// In a rebalance those count that wait, so that the last to join are the ones put out when the
    /// limit was lowered.
    fn has_room_for(&self, member_id: &str) -> bool {
        let max = self.config.classic_max_size;
        if member_id.is_empty() && self.group.pending.len() >= max {
            // Ids are free for the asking.
            return false;
        }
        let member = self.group.members.get(member_id);
        match self.group.state {
            ClassicState::Empty => true,
            ClassicState::PreparingRebalance => {
                member.is_some_and(|m| m.awaiting_join.is_some())
                    || self.group.awaiting_join_count() < max
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                member.is_some() || self.group.members.len() < max
            }
        }
    }

    fn inconsistent(&self, request: &JoinRequest) -> GroupError {
        let own: Vec<&str> = request.protocols.iter().map(|p| p.name.as_str()).collect();
        let reason = if request.protocol_type.is_empty() || own.is_empty() {
            "the member names no protocol".to_owned()
        } else {
            format!(
                "the member offers {} ({}), which the members of the group ({}) do not all have",
                own.join(", "),
                request.protocol_type,
                self.group.protocol_type
            )
        };
        GroupError::InconsistentGroupProtocol {
            group_id: self.group_id.to_owned(),
            reason,
        }
    }

    fn join_new(&mut self, ticket: Ticket, request: &JoinRequest) -> Result<(), Refused> {
        let new_id = &request.new_member_id;
        if let Some(instance_id) = &request.instance_id {
            match self.group.static_member(instance_id).map(str::to_owned) {
                Some(old_id) => self.replace_static(ticket, request, &old_id),
                None => self.add(ticket, request, new_id),
            }
            return Ok(());
        }
        if !request.requires_known_member {
            self.add(ticket, request, new_id);
            return Ok(());
        }
        self.group.pending.insert(new_id.clone());
        self.expect_within(new_id, i64::from(request.session_timeout_ms));
        Err(Refused {
            member_id: new_id.clone(),
            error: GroupError::MemberIdRequired {
                group_id: self.group_id.to_owned(),
                member_id: new_id.clone(),
            },
        })
    }

    fn add(&mut self, ticket: Ticket, request: &JoinRequest, member_id: &str) {
        if self.group.initial_delay.is_some() {
            self.group.has_new_member = true;
        }
        let mut member = ClassicMember {
            instance_id: request.instance_id.clone(),
            is_new: true,
            awaiting_join: Some(ticket),
            ..ClassicMember::default()
        };
        update(&mut member, request);
        self.group.add(member_id, &request.protocol_type, member);
        self.expect_within(member_id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.trigger();
    }

    /// A member joins again: it wants the next generation, or has missed an answer.
    fn rejoin(&mut self, ticket: Ticket, request: &JoinRequest) {
        let member_id = &request.member_id;
        let has_changed = self
            .group
            .members
            .get(member_id)
            .is_some_and(|member| member.protocols != request.protocols);
        // A leader that joins again in a settled group asks for a rebalance: it may have seen what
        // the coordinator cannot, such as new partitions.
        let asks_for_rebalance = match self.group.state {
            ClassicState::PreparingRebalance => true,
            ClassicState::CompletingRebalance => has_changed,
            ClassicState::Stable => has_changed || self.group.is_leader(member_id),
            ClassicState::Empty => false,
        };
        if asks_for_rebalance {
            self.wait_again(ticket, request, member_id);
            self.trigger();
            return;
        }
        let mut joined = self.group.joined(member_id);
        if self.group.state == ClassicState::Stable {
            joined.members = Vec::new();
        }
        self.answer(ticket, member_id, joined);
    }

    /// Takes over what a member tells, and lets its new request wait; an earlier one that still
    /// does is of a connection that the member has given up.
    fn wait_again(&mut self, ticket: Ticket, request: &JoinRequest, member_id: &str) {
        let error = GroupError::RebalanceInProgress {
            group_id: self.group_id.to_owned(),
        };
        self.fail(member_id, member_id, &error);
        if let Some(member) = self.group.members.get_mut(member_id) {
            update(member, request);
            member.awaiting_join = Some(ticket);
        }
    }

    /// A static member is back without knowing its id: it gets a new one and its old place, and
    /// whoever still uses the old id is fenced (KIP-345).
    fn replace_static(&mut self, ticket: Ticket, request: &JoinRequest, old_id: &str) {
        let (new_id, old_leader) = (&request.new_member_id, self.group.leader.clone());
        self.fence(old_id, request);
        self.timers.cancel(&self.session_timer(old_id));
        let was_pending_sync = self.group.pending_sync.remove(old_id);
        if let Some(member) = self.group.members.remove(old_id) {
            self.group.members.insert(new_id.clone(), member);
        }
        if self.group.is_leader(old_id) {
            self.group.leader = Some(new_id.clone());
        }
        if was_pending_sync {
            self.group.pending_sync.insert(new_id.clone());
        }
        if let Some(member) = self.group.members.get_mut(new_id) {
            update(member, request);
            member.awaiting_join = Some(ticket);
        }
        self.restart_session(new_id);
        match self.group.state {
            ClassicState::Stable if self.group.elect_protocol() == self.group.protocol => {
                self.take_place(request, old_leader);
            }
            // The old id may be on its way to the leader, which would then assign to nobody.
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare(),
            ClassicState::PreparingRebalance | ClassicState::Empty => {
                self.complete_if_all_joined();
            }
        }
    }

    /// The group goes on as it is, with a new id in the old place.
    fn take_place(&mut self, request: &JoinRequest, old_leader: Option<String>) {
        self.group.refresh_subscriptions();
        self.write();
        let new_id = &request.new_member_id;
        let mut joined = self.group.joined(new_id);
        if request.supports_skipping_assignment {
            joined.skip_assignment = self.group.is_leader(new_id);
        } else {
            // Older clients that find themselves leader would assign anew, and so must not.
            joined.leader = old_leader.unwrap_or_default();
            joined.members = Vec::new();
        }
        let waiting = self.group.members.get_mut(new_id);
        if let Some(ticket) = waiting.and_then(|member| member.awaiting_join.take()) {
            self.answer(ticket, new_id, joined);
        }
    }

    fn fence(&mut self, old_id: &str, request: &JoinRequest) {
        let error = GroupError::FencedInstanceId {
            group_id: self.group_id.to_owned(),
            instance_id: request.instance_id.clone().unwrap_or_default(),
            member_id: request.new_member_id.clone(),
        };
        self.fail(old_id, old_id, &error);
    }

    fn answer(&mut self, ticket: Ticket, member_id: &str, joined: Joined) {
        let reply = JoinReply {
            member_id: member_id.to_owned(),
            outcome: Ok(joined),
        };
        self.effects.join(ticket, reply);
    }
}

/// Takes over everything that a member tells.
fn update(member: &mut ClassicMember, request: &JoinRequest) {
    member.client_id.clone_from(&request.client_id);
    member.client_host.clone_from(&request.client_host);
    member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    member.session_timeout_ms = request.session_timeout_ms;
    member.protocols.clone_from(&request.protocols);
}
