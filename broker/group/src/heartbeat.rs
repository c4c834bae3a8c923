//! Members: join, heartbeat, leave, and be removed.
//!
//! A heartbeat is handled in four steps, each of which may add records: find the member (or make,
//! replace or refuse it), take over what it tells about itself, compute a new target assignment when
//! the group has changed, and move this one member a step towards its target. Everything is computed
//! from the state before and the records so far; nothing is changed here but timers.

use std::collections::{BTreeMap, BTreeSet};

use crate::admin::membership_tombstones;
use crate::admission::{Found, check_request, find_member, own_static_member, unknown_member};
use crate::assignor::{self, MemberSpec};
use crate::classic::Effects;
use crate::group::{Group, Members, preferred_assignor, subscribed_topics};
use crate::member::Member;
use crate::migration::{upgrade_records, upgraded};
use crate::pattern::TopicPattern;
use crate::reconcile::Step;
use crate::timers::Timer;
use crate::{
    Assignment, ClusterView, CurrentAssignment, GroupCoordinator, GroupError, HeldPartitions,
    MemberMetadata, MemberState, Record, TopicInfo, Transition,
};

/// The epoch with which a member joins.
pub const JOIN_EPOCH: i32 = 0;
/// The epoch with which a member leaves for good.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch with which a static member leaves for a while.
pub const STATIC_LEAVE_EPOCH: i32 = -2;

/// A sign of life of a member. Fields that are `None` have not changed since the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The member, by an id that it chose itself.
    pub member_id: String,
    /// The epoch last received, or one of [`JOIN_EPOCH`], [`LEAVE_EPOCH`], [`STATIC_LEAVE_EPOCH`].
    pub member_epoch: i32,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// Where the member runs.
    pub rack_id: Option<String>,
    /// How long the member may take to give up partitions; needed to join.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics it wants; needed to join, unless it has a pattern.
    pub subscribed_topic_names: Option<BTreeSet<String>>,
    /// A pattern of further topics it wants; empty for none any more.
    pub subscribed_topic_regex: Option<String>,
    /// The assignor it prefers.
    pub server_assignor: Option<String>,
    /// What it owns now.
    pub owned: Option<Assignment>,
    /// The client's name for itself.
    pub client_id: String,
    /// The address it comes from.
    pub client_host: String,
}

impl HeartbeatRequest {
    /// A request to join with the usual five minutes to give up partitions.
    pub fn join(group_id: &str, member_id: &str, topics: &[&str]) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: member_id.to_owned(),
            member_epoch: JOIN_EPOCH,
            rebalance_timeout_ms: Some(300_000),
            subscribed_topic_names: Some(topics.iter().map(|&topic| topic.to_owned()).collect()),
            owned: Some(Assignment::new()),
            ..Self::default()
        }
    }

    /// A request that tells nothing but that the member is alive.
    pub fn keep_alive(group_id: &str, member_id: &str, member_epoch: i32) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: member_id.to_owned(),
            member_epoch,
            ..Self::default()
        }
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// The member.
    pub member_id: String,
    /// The epoch to come with next time.
    pub member_epoch: i32,
    /// When to come next.
    pub heartbeat_interval_ms: i32,
    /// What the member may own: it gives up all else and says so. `None` when nothing changed.
    pub assignment: Option<Assignment>,
}

/// The target assignment that holds after a heartbeat.
struct Target {
    epoch: i32,
    /// The member's own part.
    assignment: Assignment,
}

impl GroupCoordinator {
    /// Handles a heartbeat, which may join, go on or leave.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `INVALID_GROUP_ID`, `UNSUPPORTED_ASSIGNOR`, `GROUP_MAX_SIZE_REACHED`,
    /// `UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`, `UNRELEASED_INSTANCE_ID`, `FENCED_INSTANCE_ID`,
    /// `GROUP_ID_NOT_FOUND` where the group is a classic one that cannot be upgraded.
    pub fn heartbeat(
        &mut self,
        now_ms: i64,
        request: &HeartbeatRequest,
        cluster: &impl ClusterView,
    ) -> Result<Transition<HeartbeatResponse>, GroupError> {
        check_request(request)?;
        match request.member_epoch {
            LEAVE_EPOCH | STATIC_LEAVE_EPOCH => self.leave(now_ms, request),
            _ => self.join_or_go_on(now_ms, request, cluster),
        }
    }

    fn join_or_go_on(
        &mut self,
        now_ms: i64,
        request: &HeartbeatRequest,
        cluster: &impl ClusterView,
    ) -> Result<Transition<HeartbeatResponse>, GroupError> {
        let upgraded = self.upgraded_for(request, cluster)?;
        let no_group = Group::default();
        let group = match &upgraded {
            Some(group) => group,
            None => self.groups.get(&request.group_id).unwrap_or(&no_group),
        };
        let found = find_member(group, request)?;
        if found.is_new && found.replaces.is_none() && group.members.len() >= self.config.max_size {
            let group_id = request.group_id.clone();
            return Err(GroupError::GroupMaxSizeReached {
                group_id,
                max: self.config.max_size,
            });
        }

        let mut records = Vec::new();
        if upgraded.is_some() {
            records.extend(upgrade_records(&request.group_id, group));
        } else if group.classic.is_some() {
            // It was a classic group, and has no members: it becomes one by the consumer protocol.
            records.extend(membership_tombstones(&request.group_id, group));
        }
        let mut member = found.member.clone();
        update_metadata(&mut member.metadata, request);
        let next = self.advance(group, request, &found, &member, cluster, &mut records);

        let response = HeartbeatResponse {
            member_id: request.member_id.clone(),
            member_epoch: next.epoch,
            heartbeat_interval_ms: self.config.heartbeat_interval_ms,
            assignment: must_tell(request, &found, &next).then(|| next.assigned.partitions()),
        };
        let mut effects = Effects::default();
        if upgraded.is_some() {
            effects = self.leave_classic_ways(now_ms, &request.group_id);
        }
        let has_changed = next != found.member.current;
        self.set_timers(now_ms, request, &member.metadata, &next, has_changed);
        // Ids that were given to classic members that never came back end with it.
        self.drop_classic(&request.group_id);
        self.seen_versions
            .insert(request.group_id.clone(), cluster.version());
        effects.records = records;
        Ok(effects.answer(response))
    }

    /// What a classic group with members becomes when a member joins it by the consumer protocol.
    fn upgraded_for(
        &self,
        request: &HeartbeatRequest,
        cluster: &impl ClusterView,
    ) -> Result<Option<Group>, GroupError> {
        let group_id = &request.group_id;
        let classic = self.classic.get(group_id);
        let Some(classic) = classic.filter(|classic| !classic.members.is_empty()) else {
            return Ok(None);
        };
        if request.member_epoch != JOIN_EPOCH {
            // It was put out, and the group has become classic since: it is to join again.
            return Err(unknown_member(request));
        }
        let settled = self.groups.get(group_id);
        let settled = settled.and_then(|group| group.classic.as_ref());
        let max_size = self.config.max_size;
        upgraded(group_id, classic, settled, max_size, cluster).map(Some)
    }

    /// Goes on with a member that has been found: the records of what it tells about itself, of a new
    /// target assignment if the group has changed, and of its step towards that. Where it stands then.
    pub(crate) fn advance(
        &self,
        group: &Group,
        request: &HeartbeatRequest,
        found: &Found,
        member: &Member,
        cluster: &impl ClusterView,
        records: &mut Vec<Record>,
    ) -> CurrentAssignment {
        if let Some(old_id) = &found.replaces {
            records.extend(member_tombstones(&request.group_id, old_id));
        }
        if found.is_new || member.metadata != found.member.metadata {
            records.push(Record::ConsumerGroupMemberMetadata {
                group_id: request.group_id.clone(),
                member_id: request.member_id.clone(),
                value: Some(member.metadata.clone()),
            });
        }
        let is_first_look = self.seen_versions.get(&request.group_id) != Some(&cluster.version());
        let target = update_target(
            group,
            request,
            found,
            member,
            is_first_look,
            cluster,
            records,
        );
        let next = reconcile(group, request, found, member, &target);
        if found.is_new || next != found.member.current {
            records.push(Record::ConsumerGroupCurrentMemberAssignment {
                group_id: request.group_id.clone(),
                member_id: request.member_id.clone(),
                value: Some(next.clone()),
            });
        }
        next
    }

    fn set_timers(
        &mut self,
        now_ms: i64,
        request: &HeartbeatRequest,
        metadata: &MemberMetadata,
        current: &CurrentAssignment,
        has_changed: bool,
    ) {
        let (group_id, member_id) = (request.group_id.clone(), request.member_id.clone());
        let session = Timer::Session {
            group_id: group_id.clone(),
            member_id: member_id.clone(),
        };
        self.timers
            .schedule(session, now_ms + self.config.session_timeout_ms);
        // It may have been a classic member.
        self.cancel_classic_waits(&group_id, &member_id);
        if has_changed {
            let rebalance = Timer::Rebalance {
                group_id,
                member_id,
            };
            if current.state == MemberState::UnrevokedPartitions {
                let deadline = now_ms + i64::from(metadata.rebalance_timeout_ms);
                self.timers.schedule(rebalance, deadline);
            } else {
                self.timers.cancel(&rebalance);
            }
        }
    }

    fn leave(
        &mut self,
        now_ms: i64,
        request: &HeartbeatRequest,
    ) -> Result<Transition<HeartbeatResponse>, GroupError> {
        let group = self
            .groups
            .get(&request.group_id)
            .ok_or_else(|| unknown_member(request))?;
        let member = match &request.instance_id {
            Some(instance_id) => own_static_member(group, request, instance_id)?,
            None => group
                .members
                .get(&request.member_id)
                .ok_or_else(|| unknown_member(request))?,
        };
        let records = if request.member_epoch == STATIC_LEAVE_EPOCH {
            // It keeps its place and its partitions until it is back or its session ends, but
            // what it should have given up it has given up by leaving.
            vec![Record::ConsumerGroupCurrentMemberAssignment {
                group_id: request.group_id.clone(),
                member_id: request.member_id.clone(),
                value: Some(CurrentAssignment {
                    epoch: STATIC_LEAVE_EPOCH,
                    previous_epoch: member.current.epoch,
                    state: MemberState::Stable,
                    // Whoever comes in its place holds them from its first epoch on.
                    assigned: HeldPartitions::all_since(
                        JOIN_EPOCH,
                        &member.current.assigned.partitions(),
                    ),
                    pending_revocation: HeldPartitions::new(),
                }),
            }]
        } else {
            let leaving = BTreeSet::from([request.member_id.clone()]);
            self.remove_members(now_ms, &request.group_id, &leaving)
        };
        let response = HeartbeatResponse {
            member_id: request.member_id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: self.config.heartbeat_interval_ms,
            assignment: None,
        };
        Ok(Transition::new(records, response))
    }

    /// The records that remove a member, if it is still there.
    pub(crate) fn removal(
        &mut self,
        now_ms: i64,
        group_id: &str,
        member_id: &str,
    ) -> Option<Vec<Record>> {
        let leaving = BTreeSet::from([member_id.to_owned()]);
        let records = self.remove_members(now_ms, group_id, &leaving);
        (!records.is_empty()).then_some(records)
    }

    /// The same, if it still has partitions to give up.
    pub(crate) fn overdue_revocation(
        &mut self,
        now_ms: i64,
        group_id: &str,
        member_id: &str,
    ) -> Option<Vec<Record>> {
        let member = self.groups.get(group_id)?.members.get(member_id)?;
        if member.current.state != MemberState::UnrevokedPartitions {
            return None;
        }
        self.removal(now_ms, group_id, member_id)
    }
}

fn update_metadata(metadata: &mut MemberMetadata, request: &HeartbeatRequest) {
    if request.instance_id.is_some() {
        metadata.instance_id.clone_from(&request.instance_id);
    }
    if request.rack_id.is_some() {
        metadata.rack_id.clone_from(&request.rack_id);
    }
    if let Some(timeout) = request.rebalance_timeout_ms {
        metadata.rebalance_timeout_ms = timeout;
    }
    if request.server_assignor.is_some() {
        metadata
            .server_assignor
            .clone_from(&request.server_assignor);
    }
    if let Some(names) = &request.subscribed_topic_names {
        metadata.subscribed_topic_names.clone_from(names);
    }
    if let Some(pattern) = &request.subscribed_topic_regex {
        // It has been admitted, so that it can be read.
        let pattern = (!pattern.is_empty()).then(|| TopicPattern::stored(pattern.clone()));
        metadata.subscribed_topic_regex = pattern;
    }
    metadata.client_id.clone_from(&request.client_id);
    metadata.client_host.clone_from(&request.client_host);
    metadata.classic = None;
}

/// Bumps the group's epoch when its members, subscriptions or topics have changed, and computes the
/// target assignment of an epoch that has none yet.
fn update_target(
    group: &Group,
    request: &HeartbeatRequest,
    found: &Found,
    member: &Member,
    is_first_look: bool,
    cluster: &impl ClusterView,
    records: &mut Vec<Record>,
) -> Target {
    let group_id = &request.group_id;
    let mut members: Members<'_> = group
        .members
        .iter()
        .map(|(id, m)| (id.as_str(), m))
        .collect();
    if let Some(old_id) = &found.replaces {
        members.remove(old_id.as_str());
    }
    members.insert(&request.member_id, member);

    let joined = found.is_new && found.replaces.is_none();
    let mut has_changed = joined
        || member.metadata.subscribed_topic_names != found.member.metadata.subscribed_topic_names
        || member.metadata.subscribed_topic_regex != found.member.metadata.subscribed_topic_regex;
    let mut changed_topics = None;
    if has_changed || is_first_look {
        let topics = subscribed_topics(&members, cluster);
        if topics != group.topics {
            records.push(Record::ConsumerGroupPartitionMetadata {
                group_id: group_id.clone(),
                topics: Some(topics.clone()),
            });
            changed_topics = Some(topics);
            has_changed = true;
        }
    }
    let epoch = group.epoch + i32::from(has_changed);
    if has_changed {
        records.push(Record::ConsumerGroupMetadata {
            group_id: group_id.clone(),
            epoch: Some(epoch),
        });
    }

    let own_id = found.replaces.as_ref().unwrap_or(&request.member_id);
    if epoch > group.assignment_epoch {
        let topics = changed_topics.as_ref().unwrap_or(&group.topics);
        let assignment = assign(group, request, found, &members, topics, records);
        records.push(Record::ConsumerGroupTargetAssignmentMetadata {
            group_id: group_id.clone(),
            epoch: Some(epoch),
        });
        return Target { epoch, assignment };
    }
    let assignment = group.target.get(own_id).cloned().unwrap_or_default();
    if found.replaces.is_some() {
        records.push(target_record(group_id, &request.member_id, &assignment));
    }
    Target {
        epoch: group.assignment_epoch,
        assignment,
    }
}

/// Computes the target of all members, adds a record for each that changes, and returns the part of
/// the member that asks.
fn assign(
    group: &Group,
    request: &HeartbeatRequest,
    found: &Found,
    members: &Members<'_>,
    topics: &BTreeMap<String, TopicInfo>,
    records: &mut Vec<Record>,
) -> Assignment {
    let nothing = Assignment::new();
    let previous = |member_id: &str| {
        let known_as = match &found.replaces {
            Some(old_id) if member_id == request.member_id => old_id,
            _ => member_id,
        };
        group.target.get(known_as)
    };
    let specs: BTreeMap<&str, MemberSpec<'_>> = members
        .iter()
        .map(|(id, member)| {
            let wanted = topics
                .iter()
                .filter(|(name, _)| member.metadata.subscribes_to(name));
            let spec = MemberSpec {
                instance_id: member.metadata.instance_id.as_deref(),
                topics: wanted.map(|(_, topic)| topic.id).collect(),
                previous: previous(id).unwrap_or(&nothing),
            };
            (*id, spec)
        })
        .collect();
    let partitions = topics
        .values()
        .map(|topic| (topic.id, topic.partitions))
        .collect();
    let mut target = assignor::assign(preferred_assignor(members), &specs, &partitions);
    for (member_id, assignment) in &target {
        let is_replacement = found.replaces.is_some() && *member_id == request.member_id;
        if is_replacement || previous(member_id) != Some(assignment) {
            records.push(target_record(&request.group_id, member_id, assignment));
        }
    }
    target
        .remove(request.member_id.as_str())
        .unwrap_or_default()
}

fn reconcile(
    group: &Group,
    request: &HeartbeatRequest,
    found: &Found,
    member: &Member,
    target: &Target,
) -> CurrentAssignment {
    if member.current.is_reconciled_to(target.epoch) {
        return member.current.clone();
    }
    let mut own_ids = vec![request.member_id.as_str()];
    own_ids.extend(found.replaces.as_deref());
    // A member that starts anew owns nothing. A repeated request to join says nothing about what
    // the member owns now.
    let is_repeated_join = request.member_epoch == JOIN_EPOCH && member.current.epoch != JOIN_EPOCH;
    let nothing = Assignment::new();
    let owned = match &request.owned {
        _ if is_repeated_join => None,
        None if request.member_epoch == JOIN_EPOCH => Some(&nothing),
        owned => owned.as_ref(),
    };
    let step = Step {
        target_epoch: target.epoch,
        target: &target.assignment,
        owned,
        is_held_by_other: |topic, partition| group.is_held_by_other(&own_ids, topic, partition),
    };
    step.from(&member.current)
}

/// Whether the answer must carry the assignment: it has changed, or the member may not know it.
fn must_tell(request: &HeartbeatRequest, found: &Found, next: &CurrentAssignment) -> bool {
    let is_full_request = request.rebalance_timeout_ms.is_some()
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && request.owned.is_some();
    request.member_epoch == JOIN_EPOCH
        || is_full_request
        || request.member_epoch != found.member.current.epoch
        || next.assigned != found.member.current.assigned
        || request
            .owned
            .as_ref()
            .is_some_and(|owned| *owned != next.assigned.partitions())
}

/// The records that remove members: what is kept of them, and the change of the group.
pub(crate) fn removal_records(
    group_id: &str,
    group: &Group,
    leaving: &BTreeSet<String>,
) -> Vec<Record> {
    let present = leaving.iter().filter(|id| group.members.contains_key(*id));
    let mut records: Vec<Record> = present
        .flat_map(|member_id| member_tombstones(group_id, member_id))
        .collect();
    let mut topics = group.topics.clone();
    topics.retain(|name, _| {
        let mut others = group
            .members
            .iter()
            .filter(|(id, _)| !leaving.contains(*id));
        others.any(|(_, member)| member.metadata.subscribes_to(name))
    });
    if topics != group.topics {
        let group_id = group_id.to_owned();
        records.push(Record::ConsumerGroupPartitionMetadata {
            group_id,
            topics: Some(topics),
        });
    }
    records.push(Record::ConsumerGroupMetadata {
        group_id: group_id.to_owned(),
        epoch: Some(group.epoch + 1),
    });
    records
}

pub(crate) fn member_tombstones(group_id: &str, member_id: &str) -> [Record; 3] {
    let (group_id, member_id) = (group_id.to_owned(), member_id.to_owned());
    [
        Record::ConsumerGroupCurrentMemberAssignment {
            group_id: group_id.clone(),
            member_id: member_id.clone(),
            value: None,
        },
        Record::ConsumerGroupTargetAssignmentMember {
            group_id: group_id.clone(),
            member_id: member_id.clone(),
            assignment: None,
        },
        Record::ConsumerGroupMemberMetadata {
            group_id,
            member_id,
            value: None,
        },
    ]
}

fn target_record(group_id: &str, member_id: &str, assignment: &Assignment) -> Record {
    Record::ConsumerGroupTargetAssignmentMember {
        group_id: group_id.to_owned(),
        member_id: member_id.to_owned(),
        assignment: Some(assignment.clone()),
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
