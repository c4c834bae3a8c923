//! Where a classic group stands: its members, who waits for what, and what follows from that.
//!
//! This is live state: nothing here is written, but for what [`ClassicGroup::to_metadata`] takes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::{CONSUMER_PROTOCOL_TYPE, GroupMember, GroupMetadata, JoinedMember, Protocol, Ticket};
use super::{Joined, subscription};
use crate::GroupError;

/// What a classic group is doing, by Kafka's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClassicState {
    /// It has no members.
    #[default]
    Empty,
    /// Members are (re)joining.
    PreparingRebalance,
    /// All have joined; the leader makes the assignment.
    CompletingRebalance,
    /// The leader has assigned.
    Stable,
}

impl ClassicState {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl fmt::Display for ClassicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassicMember {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// What it speaks, the best first.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Whether it has not been in a generation yet, and so cannot send heartbeats.
    pub(crate) is_new: bool,
    pub(crate) awaiting_join: Option<Ticket>,
    pub(crate) awaiting_sync: Option<Ticket>,
}

impl ClassicMember {
    /// A member that waits for an answer need not send heartbeats; a new one has only so long.
    pub(crate) fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        let found = self.protocols.iter().find(|own| own.name == protocol);
        found.map(|own| &own.metadata)
    }

    /// The first of its protocols that is among the candidates.
    fn vote(&self, candidates: &BTreeSet<&str>) -> Option<&str> {
        let mut names = self.protocols.iter().map(|own| own.name.as_str());
        names.find(|name| candidates.contains(name))
    }
}

/// How a first rebalance waits for more members (`group.initial.rebalance.delay.ms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// How long this wait is.
    pub(crate) delay_ms: i64,
    /// How long waits behind it may be in all.
    pub(crate) remaining_ms: i64,
}

/// A classic group, live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassicGroup {
    pub(crate) state: ClassicState,
    /// When it came into its state; -1 when unknown.
    pub(crate) state_timestamp_ms: i64,
    /// Set while the first rebalance of a group without members waits for more of them.
    pub(crate) initial_delay: Option<InitialDelay>,
    /// Whether a member came during that wait.
    pub(crate) has_new_member: bool,
    /// Empty until somebody joins.
    pub(crate) protocol_type: String,
    pub(crate) protocol: Option<String>,
    pub(crate) generation: i32,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, ClassicMember>,
    /// Ids given to members that have not come back with them yet.
    pub(crate) pending: BTreeSet<String>,
    /// Members of this generation whose sync has not come yet.
    pub(crate) pending_sync: BTreeSet<String>,
    /// The topics that members want, where that can be told.
    pub(crate) subscribed_topics: Option<BTreeSet<String>>,
}

impl ClassicGroup {
    /// The group as it was settled last.
    pub(crate) fn restore(metadata: &GroupMetadata) -> Self {
        let protocol = metadata.protocol.clone().unwrap_or_default();
        let member = |stored: &GroupMember| ClassicMember {
            instance_id: stored.instance_id.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.clone(),
                metadata: stored.subscription.clone(),
            }],
            assignment: stored.assignment.clone(),
            ..ClassicMember::default()
        };
        let members: BTreeMap<_, _> = metadata
            .members
            .iter()
            .map(|(id, stored)| (id.clone(), member(stored)))
            .collect();
        let mut group = Self {
            state: if members.is_empty() {
                ClassicState::Empty
            } else {
                ClassicState::Stable
            },
            state_timestamp_ms: metadata.state_timestamp_ms,
            protocol_type: metadata.protocol_type.clone(),
            protocol: metadata.protocol.clone(),
            generation: metadata.generation,
            leader: metadata.leader.clone(),
            members,
            ..Self::default()
        };
        group.refresh_subscriptions();
        group
    }

    /// What is written of it.
    pub(crate) fn to_metadata(&self) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |member: &ClassicMember| GroupMember {
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol).cloned().unwrap_or_default(),
            assignment: member.assignment.clone(),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: self
                .members
                .iter()
                .map(|(id, live)| (id.clone(), member(live)))
                .collect(),
        }
    }

    /// Whether nobody has to do with it, nor ever had: with the first generation it is written.
    pub(crate) fn is_unused(&self) -> bool {
        self.state == ClassicState::Empty && self.generation == 0 && self.pending.is_empty()
    }

    pub(crate) fn go_to(&mut self, state: ClassicState, now_ms: i64) {
        self.state = state;
        self.state_timestamp_ms = now_ms;
        if state != ClassicState::PreparingRebalance {
            self.initial_delay = None;
            self.has_new_member = false;
        }
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type == CONSUMER_PROTOCOL_TYPE
    }

    /// Whether a member wants the topic, or may: where subscriptions cannot be read, any topic.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// The member with that instance id.
    pub(crate) fn static_member(&self, instance_id: &str) -> Option<&str> {
        let mut members = self.members.iter();
        let found = members.find(|(_, m)| m.instance_id.as_deref() == Some(instance_id));
        found.map(|(id, _)| id.as_str())
    }

    /// Whether a request comes from a member, and from the one that holds its instance id.
    pub(crate) fn check_member(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMemberId {
            group_id: group_id.to_owned(),
            member_id: member_id.to_owned(),
        };
        if let Some(instance_id) = instance_id {
            let holder = self.static_member(instance_id).ok_or_else(unknown)?;
            if holder != member_id {
                return Err(GroupError::FencedInstanceId {
                    group_id: group_id.to_owned(),
                    instance_id: instance_id.to_owned(),
                    member_id: holder.to_owned(),
                });
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(unknown())
        }
    }

    /// Whether a request bears the present generation.
    pub(crate) fn check_generation(
        &self,
        group_id: &str,
        generation: i32,
    ) -> Result<(), GroupError> {
        if generation == self.generation {
            return Ok(());
        }
        Err(GroupError::IllegalGeneration {
            group_id: group_id.to_owned(),
            received: generation,
            expected: self.generation,
        })
    }

    /// Whether somebody who speaks these could be a member.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let candidates = self.candidates();
        self.protocol_type == protocol_type
            && protocols
                .iter()
                .any(|own| candidates.contains(own.name.as_str()))
    }

    /// The protocols that all members speak.
    fn candidates(&self) -> BTreeSet<&str> {
        let mut members = self.members.values();
        let Some(first) = members.next() else {
            return BTreeSet::new();
        };
        let mut names: BTreeSet<&str> = first.protocols.iter().map(|p| p.name.as_str()).collect();
        for member in members {
            names.retain(|name| member.metadata(name).is_some());
        }
        names
    }

    /// The protocol with the most votes; the first by name where they are even.
    pub(crate) fn elect_protocol(&self) -> Option<String> {
        let candidates = self.candidates();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|m| m.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        let winner = votes.into_iter().find(|(_, count)| *count == most);
        winner.map(|(name, _)| name.to_owned())
    }

    pub(crate) fn add(&mut self, member_id: &str, protocol_type: &str, member: ClassicMember) {
        if self.members.is_empty() {
            protocol_type.clone_into(&mut self.protocol_type);
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.to_owned());
        }
        self.pending.remove(member_id);
        self.members.insert(member_id.to_owned(), member);
    }

    /// Takes a member out, or an id that was given to one.
    pub(crate) fn remove(&mut self, member_id: &str) -> Option<ClassicMember> {
        self.pending.remove(member_id);
        self.pending_sync.remove(member_id);
        let removed = self.members.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        removed
    }

    pub(crate) fn awaiting_join_count(&self) -> usize {
        let waiting = self.members.values().filter(|m| m.awaiting_join.is_some());
        waiting.count()
    }

    pub(crate) fn has_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    /// Makes a member that has joined the leader, if the leader has not; false if nobody has joined.
    pub(crate) fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|m| m.awaiting_join.is_some())
        };
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.keys().find(|id| has_joined(id)).cloned();
        if joined.is_some() {
            self.leader = joined;
            return true;
        }
        false
    }

    /// The longest that a member asks others to wait for it.
    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        i64::from(timeouts.max().unwrap_or(0).max(0))
    }

    /// Begins the next generation with the members there are.
    pub(crate) fn next_generation(&mut self, now_ms: i64) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol = self.elect_protocol();
        self.refresh_subscriptions();
        let state = if self.members.is_empty() {
            self.leader = None;
            ClassicState::Empty
        } else {
            ClassicState::CompletingRebalance
        };
        self.go_to(state, now_ms);
    }

    /// Looks again at what members want.
    pub(crate) fn refresh_subscriptions(&mut self) {
        self.subscribed_topics = self.read_subscriptions();
    }

    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref()?)?;
            topics.extend(subscription::read_subscription(metadata).ok()?);
        }
        Some(topics)
    }

    /// The generation as `member_id` is told of it.
    pub(crate) fn joined(&self, member_id: &str) -> Joined {
        let members = if self.is_leader(member_id) {
            self.joined_members()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: Some(self.protocol_type.clone()),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol).cloned().unwrap_or_default(),
        });
        members.collect()
    }
}
