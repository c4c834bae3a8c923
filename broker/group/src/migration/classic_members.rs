//! Members by the classic protocol in a group of the consumer protocol.
//!
//! A join tells what a heartbeat of the consumer protocol tells: the subscription, and what the member
//! has not given up. It moves the member a step towards its target, and is answered at once with the
//! member's epoch as the generation; no member is a leader. The sync hands out what the member may own
//! now. When it is to give up or may get more, its heartbeats tell it that a rebalance is under way,
//! and it joins again.

use std::collections::BTreeSet;

use super::named;
use super::upgrade::by_id;
use crate::admission::{Found, in_place_of};
use crate::classic::join::Refused;
use crate::classic::subscription::{Subscription, write_assignment};
use crate::classic::sync::check_protocol;
use crate::classic::{
    CONSUMER_PROTOCOL_TYPE, ClassicHeartbeat, Effects, JoinReply, JoinRequest, Joined,
    LeavingMember, Protocol, SyncRequest, Synced, Ticket,
};
use crate::group::Group;
use crate::heartbeat::JOIN_EPOCH;
use crate::member::Member;
use crate::timers::Timer;
use crate::{
    ClassicMemberMetadata, ClusterView, CurrentAssignment, GroupCoordinator, GroupError,
    HeartbeatRequest, MemberMetadata, MemberState, Record,
};

impl GroupCoordinator {
    /// Whether classic requests are about a group of the consumer protocol with members.
    pub(crate) fn has_members_by_consumer_protocol(&self, group_id: &str) -> bool {
        let group = self.groups.get(group_id);
        group.is_some_and(|group| !group.members.is_empty()) && !self.is_classic(group_id)
    }

    /// The member whose place a classic member with that instance id takes, if it is the last one by the
    /// consumer protocol: the group is to be classic before the other joins.
    pub(crate) fn last_by_consumer_protocol(
        &self,
        now_ms: i64,
        request: &JoinRequest,
    ) -> Option<String> {
        let instance_id = request.instance_id.as_deref()?;
        let group = self.groups.get(&request.group_id)?;
        let (holder_id, holder) = group.static_member(instance_id)?;
        let takes_its_place = request.member_id.is_empty() && holder.metadata.classic.is_none();
        let is_alone = group.members.len() == 1;
        let is_last =
            takes_its_place && (is_alone || self.becomes_classic_without(now_ms, group, holder_id));
        is_last.then(|| holder_id.to_owned())
    }

    /// Whether a classic member could be one beside those there are.
    pub(crate) fn check_joins_classic_members(&self, request: &JoinRequest) -> Result<(), Refused> {
        let no_group = Group::default();
        let group = self.groups.get(&request.group_id).unwrap_or(&no_group);
        check_classic_join(group, request).map(drop)
    }

    /// Handles a join to a group of the consumer protocol.
    pub(crate) fn join_consumer_group(
        &mut self,
        now_ms: i64,
        ticket: Ticket,
        request: &JoinRequest,
        cluster: &impl ClusterView,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let no_group = Group::default();
        let group = self.groups.get(&request.group_id).unwrap_or(&no_group);
        let subscription = check_classic_join(group, request)?;
        let found = find_classic_member(group, request, &subscription, self.config.max_size)?;
        let member_id = joining_id(request);
        let told = HeartbeatRequest {
            group_id: request.group_id.clone(),
            member_id: member_id.to_owned(),
            member_epoch: if found.is_new {
                JOIN_EPOCH
            } else {
                found.member.current.epoch
            },
            owned: Some(by_id(&subscription.owned, cluster)),
            ..HeartbeatRequest::default()
        };
        let member = Member {
            metadata: told_metadata(&found.member.metadata, request, subscription),
            current: found.member.current.clone(),
        };
        let records = &mut effects.records;
        let next = self.advance(group, &told, &found, &member, cluster, records);

        self.expect_member(
            now_ms,
            &request.group_id,
            member_id,
            request.session_timeout_ms,
        );
        self.cancel_classic_waits(&request.group_id, member_id);
        self.timers.cancel(&Timer::Rebalance {
            group_id: request.group_id.clone(),
            member_id: member_id.to_owned(),
        });
        let sync = Timer::MemberSync {
            group_id: request.group_id.clone(),
            member_id: member_id.to_owned(),
        };
        let deadline = now_ms + i64::from(request.rebalance_timeout_ms.max(0));
        self.timers.schedule(sync, deadline);
        self.seen_versions
            .insert(request.group_id.clone(), cluster.version());
        effects.join(ticket, joined(request, &next));
        Ok(())
    }

    /// Handles a sync of a classic member in a group of the consumer protocol.
    pub(crate) fn sync_consumer_group(
        &mut self,
        now_ms: i64,
        request: &SyncRequest,
    ) -> Result<Synced, GroupError> {
        let group_id = &request.group_id;
        let instance_id = request.instance_id.as_deref();
        let (group, member, own) =
            self.classic_member(group_id, &request.member_id, instance_id)?;
        check_epoch(group_id, member, request.generation)?;
        // One that has joined before the group was upgraded names what that generation had elected.
        let named_protocol = own
            .protocols
            .iter()
            .find(|known| Some(&known.name) == request.protocol.as_ref());
        let protocol = named_protocol.or_else(|| own.protocols.first());
        let protocol_name = protocol.map_or("", |protocol| protocol.name.as_str());
        check_protocol(request, CONSUMER_PROTOCOL_TYPE, protocol_name)?;
        // One that has something to give up has joined already: its next join follows from that.
        let is_behind = group.epoch > member.current.epoch
            && member.current.state != MemberState::UnrevokedPartitions;
        let rebalance_timeout_ms = member.metadata.rebalance_timeout_ms;
        let session_timeout_ms = own.session_timeout_ms;
        let version = protocol
            .and_then(|protocol| Subscription::read(&protocol.metadata).ok())
            .map_or(0, |subscription| subscription.version);
        let assigned = named(group, &member.current.assigned.partitions());
        let synced = Synced {
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol: Some(protocol_name.to_owned()),
            assignment: write_assignment(version, &assigned),
        };

        self.expect_member(now_ms, group_id, &request.member_id, session_timeout_ms);
        if is_behind {
            self.expect_join(now_ms, group_id, &request.member_id, rebalance_timeout_ms);
            return Err(GroupError::RebalanceInProgress {
                group_id: group_id.clone(),
            });
        }
        self.timers.cancel(&Timer::MemberSync {
            group_id: group_id.clone(),
            member_id: request.member_id.clone(),
        });
        Ok(synced)
    }

    /// Handles a heartbeat of a classic member in a group of the consumer protocol.
    pub(crate) fn heartbeat_consumer_group(
        &mut self,
        now_ms: i64,
        request: &ClassicHeartbeat,
    ) -> Result<(), GroupError> {
        let group_id = &request.group_id;
        let instance_id = request.instance_id.as_deref();
        let (group, member, own) =
            self.classic_member(group_id, &request.member_id, instance_id)?;
        check_epoch(group_id, member, request.generation)?;
        let must_join = member.current.epoch < group.epoch
            || match member.current.state {
                MemberState::Stable => false,
                MemberState::UnreleasedPartitions => {
                    !waits_for_others(group, &request.member_id, member)
                }
                MemberState::UnrevokedPartitions | MemberState::Unknown(_) => true,
            };
        let session_timeout_ms = own.session_timeout_ms;
        let rebalance_timeout_ms = member.metadata.rebalance_timeout_ms;

        self.expect_member(now_ms, group_id, &request.member_id, session_timeout_ms);
        if must_join {
            self.expect_join(now_ms, group_id, &request.member_id, rebalance_timeout_ms);
            return Err(GroupError::RebalanceInProgress {
                group_id: group_id.clone(),
            });
        }
        Ok(())
    }

    /// The members of a group of the consumer protocol that a request to leave is about: each classic
    /// one by its id, any static one by its instance id.
    pub(crate) fn leaving_id(
        &self,
        group_id: &str,
        leaving: &LeavingMember,
    ) -> Result<String, GroupError> {
        let unknown = || unknown(group_id, &leaving.member_id);
        if leaving.member_id.is_empty() {
            let group = self.groups.get(group_id).ok_or_else(unknown)?;
            let instance_id = leaving.instance_id.as_deref().ok_or_else(unknown)?;
            let (holder_id, _) = group.static_member(instance_id).ok_or_else(unknown)?;
            return Ok(holder_id.to_owned());
        }
        let instance_id = leaving.instance_id.as_deref();
        self.classic_member(group_id, &leaving.member_id, instance_id)?;
        Ok(leaving.member_id.clone())
    }

    /// Takes members out that have asked for it.
    pub(crate) fn leave_consumer_group(
        &mut self,
        now_ms: i64,
        group_id: &str,
        leaving: &[LeavingMember],
    ) -> (Vec<Record>, Vec<Result<(), GroupError>>) {
        let ids: Vec<Result<String, GroupError>> = leaving
            .iter()
            .map(|member| self.leaving_id(group_id, member))
            .collect();
        let known: BTreeSet<String> = ids.iter().flatten().cloned().collect();
        let records = self.remove_members(now_ms, group_id, &known);
        (records, ids.into_iter().map(|id| id.map(drop)).collect())
    }

    /// Ends the waits for a classic member's next join and sync.
    pub(crate) fn cancel_classic_waits(&mut self, group_id: &str, member_id: &str) {
        let (group_id, member_id) = (group_id.to_owned(), member_id.to_owned());
        self.timers.cancel(&Timer::MemberJoin {
            group_id: group_id.clone(),
            member_id: member_id.clone(),
        });
        self.timers.cancel(&Timer::MemberSync {
            group_id,
            member_id,
        });
    }

    /// A member by the classic protocol, which has come under its own instance id.
    fn classic_member(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(&Group, &Member, &ClassicMemberMetadata), GroupError> {
        let unknown = || unknown(group_id, member_id);
        let group = self.groups.get(group_id).ok_or_else(unknown)?;
        if let Some(instance_id) = instance_id {
            check_holder(group, group_id, member_id, instance_id)?;
        }
        let member = group.members.get(member_id).ok_or_else(unknown)?;
        let own = member.metadata.classic.as_ref().ok_or_else(unknown)?;
        Ok((group, member, own))
    }

    fn expect_member(&mut self, now_ms: i64, group_id: &str, member_id: &str, timeout_ms: i32) {
        let timer = Timer::Session {
            group_id: group_id.to_owned(),
            member_id: member_id.to_owned(),
        };
        self.timers.schedule(timer, now_ms + i64::from(timeout_ms));
    }

    fn expect_join(&mut self, now_ms: i64, group_id: &str, member_id: &str, timeout_ms: i32) {
        let timer = Timer::MemberJoin {
            group_id: group_id.to_owned(),
            member_id: member_id.to_owned(),
        };
        let deadline = now_ms + i64::from(timeout_ms.max(0));
        self.timers.schedule_if_absent(timer, deadline);
    }
}

/// The id that a member will have.
fn joining_id(request: &JoinRequest) -> &str {
    if request.member_id.is_empty() {
        &request.new_member_id
    } else {
        &request.member_id
    }
}

/// Whether the member speaks what the classic members speak; what it tells about itself.
fn check_classic_join(group: &Group, request: &JoinRequest) -> Result<Subscription, Refused> {
    let refused = |reason: &str| Refused {
        member_id: request.member_id.clone(),
        error: GroupError::InconsistentGroupProtocol {
            group_id: request.group_id.clone(),
            reason: reason.to_owned(),
        },
    };
    if request.protocol_type != CONSUMER_PROTOCOL_TYPE {
        return Err(refused("its members are consumers"));
    }
    let own_id = request.member_id.as_str();
    let mut others = group.members.iter().filter(|(id, _)| *id != own_id);
    let is_known_to = |protocol: &Protocol, member: &Member| {
        let own = member.metadata.classic.as_ref();
        own.is_none_or(|own| own.protocols.iter().any(|p| p.name == protocol.name))
    };
    let is_common = |protocol: &Protocol| others.all(|(_, other)| is_known_to(protocol, other));
    if !request.protocols.iter().any(is_common) {
        return Err(refused(
            "its classic members know none of the protocols offered",
        ));
    }
    let first = request.protocols.first();
    first
        .and_then(|protocol| Subscription::read(&protocol.metadata).ok())
        .ok_or_else(|| refused("the subscription cannot be read"))
}

fn find_classic_member(
    group: &Group,
    request: &JoinRequest,
    subscription: &Subscription,
    max_size: usize,
) -> Result<Found, Refused> {
    let refused = |error| Refused {
        member_id: request.member_id.clone(),
        error,
    };
    let instance_id = request.instance_id.as_deref();
    let holder = instance_id.and_then(|instance_id| group.static_member(instance_id));
    let known = match (holder, instance_id) {
        (Some((holder_id, holder)), _) if request.member_id.is_empty() => {
            return Ok(in_place_of(holder_id, holder));
        }
        (_, Some(instance_id)) if !request.member_id.is_empty() => {
            check_holder(group, &request.group_id, &request.member_id, instance_id)
                .map_err(refused)?;
            group.members.get(&request.member_id)
        }
        _ => group.members.get(joining_id(request)),
    };
    if let Some(member) = known {
        let mut member = member.clone();
        if member.current.epoch < JOIN_EPOCH
            || matches!(member.current.state, MemberState::Unknown(_))
        {
            member.current = CurrentAssignment::default();
        }
        return Ok(Found {
            member,
            is_new: false,
            replaces: None,
        });
    }
    let owns_something = subscription.owned.values().any(|owned| !owned.is_empty());
    if !request.member_id.is_empty() && owns_something {
        // It was put out and does not know, or it would own nothing. It is to give up all first.
        return Err(refused(unknown(&request.group_id, &request.member_id)));
    }
    if group.members.len() >= max_size {
        return Err(Refused {
            member_id: String::new(),
            error: GroupError::GroupMaxSizeReached {
                group_id: request.group_id.clone(),
                max: max_size,
            },
        });
    }
    if request.member_id.is_empty() && instance_id.is_none() && request.requires_known_member {
        return Err(Refused {
            member_id: request.new_member_id.clone(),
            error: GroupError::MemberIdRequired {
                group_id: request.group_id.clone(),
                member_id: request.new_member_id.clone(),
            },
        });
    }
    Ok(Found {
        member: Member::default(),
        is_new: true,
        replaces: None,
    })
}

fn told_metadata(
    before: &MemberMetadata,
    request: &JoinRequest,
    subscription: Subscription,
) -> MemberMetadata {
    MemberMetadata {
        instance_id: request
            .instance_id
            .clone()
            .or_else(|| before.instance_id.clone()),
        rack_id: subscription.rack_id,
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        subscribed_topic_names: subscription.topics,
        subscribed_topic_regex: None,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        server_assignor: before.server_assignor.clone(),
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        }),
    }
}

/// What a member is told that has joined.
fn joined(request: &JoinRequest, current: &CurrentAssignment) -> JoinReply {
    let protocol = request.protocols.first();
    JoinReply {
        member_id: joining_id(request).to_owned(),
        outcome: Ok(Joined {
            generation: current.epoch,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol: protocol.map(|protocol| protocol.name.clone()),
            // The coordinator assigns.
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }),
    }
}

/// Whether a partition that the member shall have is still in the hands of another.
fn waits_for_others(group: &Group, member_id: &str, member: &Member) -> bool {
    let target = group.target.get(member_id).into_iter();
    let mut missing = target
        .flat_map(crate::Assignment::iter)
        .filter(|(topic, partition)| !member.current.assigned.contains(*topic, *partition));
    missing.any(|(topic, partition)| group.is_held_by_other(&[member_id], topic, partition))
}

fn check_epoch(group_id: &str, member: &Member, generation: i32) -> Result<(), GroupError> {
    if member.current.epoch == generation {
        return Ok(());
    }
    Err(GroupError::IllegalGeneration {
        group_id: group_id.to_owned(),
        received: generation,
        expected: member.current.epoch,
    })
}

fn check_holder(
    group: &Group,
    group_id: &str,
    member_id: &str,
    instance_id: &str,
) -> Result<(), GroupError> {
    let holder = group.static_member(instance_id);
    let (holder_id, _) = holder.ok_or_else(|| unknown(group_id, member_id))?;
    if holder_id == member_id {
        return Ok(());
    }
    Err(GroupError::FencedInstanceId {
        group_id: group_id.to_owned(),
        instance_id: instance_id.to_owned(),
        member_id: holder_id.to_owned(),
    })
}

fn unknown(group_id: &str, member_id: &str) -> GroupError {
    GroupError::UnknownMemberId {
        group_id: group_id.to_owned(),
        member_id: member_id.to_owned(),
    }
}
