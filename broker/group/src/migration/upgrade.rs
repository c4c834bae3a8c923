//! From a classic group to one of the consumer protocol.

use std::collections::{BTreeMap, BTreeSet};

use crate::classic::group::{ClassicGroup, ClassicMember};
use crate::classic::subscription::{self, Subscription};
use crate::classic::{Effects, GroupMetadata};
use crate::group::{Group, Members, subscribed_topics};
use crate::member::Member;
use crate::timers::Timer;
use crate::{
    Assignment, ClassicMemberMetadata, ClusterView, CurrentAssignment, GroupCoordinator,
    GroupError, HeldPartitions, MemberMetadata, MemberState, Record,
};

/// Kafka's own assignors, by the names that clients give them. None of them reads data that an assignment
/// carries beside the partitions, though librdkafka's sticky one writes some.
const OWN_ASSIGNORS: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];

/// What a classic group becomes. Every member holds what the last settled generation gave it, and what
/// it had not given up when it joined that and may not know yet to give up: one that has says so when
/// it joins again.
///
/// # Errors
/// Its members are no consumers, what they tell cannot be read, they are too many, or their assignor
/// tells them more than their partitions, as that of Kafka Streams does: the coordinator, which is to
/// assign from now on, cannot.
pub(crate) fn upgraded(
    group_id: &str,
    classic: &ClassicGroup,
    settled: Option<&GroupMetadata>,
    max_size: usize,
    cluster: &impl ClusterView,
) -> Result<Group, GroupError> {
    let refused = |reason: &str| GroupError::NotAConsumerGroup {
        group_id: group_id.to_owned(),
        members: classic.members.len(),
        reason: reason.to_owned(),
    };
    if !classic.is_of_consumers() {
        return Err(refused("its members are no consumers"));
    }
    if classic.members.len() > max_size {
        return Err(refused("it has more members than group.consumer.max.size"));
    }
    if settled.is_some_and(needs_own_assignor) {
        return Err(refused(
            "its assignor hands out data of its own beside the partitions, which the coordinator cannot: change to the range, roundrobin, sticky or cooperative-sticky assignor first",
        ));
    }
    let mut group = Group {
        epoch: classic.generation,
        assignment_epoch: classic.generation,
        ..Group::default()
    };
    for (member_id, live) in &classic.members {
        let held = settled.and_then(|settled| settled.members.get(member_id));
        let held = held
            .map(|member| &member.assignment[..])
            .unwrap_or_default();
        let member = upgraded_member(classic, live, held, cluster)
            .ok_or_else(|| refused("what its members tell cannot be read"))?;
        let target = member.current.assigned.partitions();
        group.target.insert(member_id.clone(), target);
        group.members.insert(member_id.clone(), member);
    }
    hold_what_was_claimed(classic, &mut group, cluster);
    let members: Members<'_> = group
        .members
        .iter()
        .map(|(id, m)| (id.as_str(), m))
        .collect();
    group.topics = subscribed_topics(&members, cluster);
    Ok(group)
}

/// Whether members work with more than the partitions that they were assigned.
fn needs_own_assignor(settled: &GroupMetadata) -> bool {
    let protocol = settled.protocol.as_deref().unwrap_or_default();
    let mut members = settled.members.values();
    !OWN_ASSIGNORS.contains(&protocol)
        && members.any(|member| subscription::has_user_data(&member.assignment).unwrap_or(false))
}

/// A member that keeps what it owns over a join learns by its sync what it has to give up. Until then
/// nobody else may have it.
fn hold_what_was_claimed(classic: &ClassicGroup, group: &mut Group, cluster: &impl ClusterView) {
    for (member_id, live) in &classic.members {
        let Some(told) = subscription_of(classic, live) else {
            continue;
        };
        for (topic, partition) in by_id(&told.owned, cluster).iter() {
            let mut members = group.members.values();
            if members.any(|member| member.current.holds(topic, partition)) {
                continue;
            }
            if let Some(member) = group.members.get_mut(member_id) {
                let (current, since) = (&mut member.current, classic.generation);
                current.pending_revocation.insert(topic, partition, since);
                current.state = MemberState::UnrevokedPartitions;
            }
        }
    }
}

/// What a member has told when it joined.
fn subscription_of(classic: &ClassicGroup, live: &ClassicMember) -> Option<Subscription> {
    let protocol = classic.protocol.as_deref();
    let metadata = protocol.and_then(|protocol| live.metadata(protocol));
    let metadata = metadata.or_else(|| live.protocols.first().map(|own| &own.metadata))?;
    Subscription::read(metadata).ok()
}

fn upgraded_member(
    classic: &ClassicGroup,
    live: &ClassicMember,
    held: &[u8],
    cluster: &impl ClusterView,
) -> Option<Member> {
    let subscription = subscription_of(classic, live)?;
    let held = subscription::read_assignment(held).ok()?;
    Some(Member {
        metadata: MemberMetadata {
            instance_id: live.instance_id.clone(),
            rack_id: subscription.rack_id,
            client_id: live.client_id.clone(),
            client_host: live.client_host.clone(),
            subscribed_topic_names: subscription.topics,
            rebalance_timeout_ms: live.rebalance_timeout_ms,
            classic: Some(ClassicMemberMetadata {
                session_timeout_ms: live.session_timeout_ms,
                protocols: live.protocols.clone(),
            }),
            ..MemberMetadata::default()
        },
        current: CurrentAssignment {
            epoch: classic.generation,
            previous_epoch: classic.generation,
            assigned: HeldPartitions::all_since(classic.generation, &by_id(&held, cluster)),
            ..CurrentAssignment::default()
        },
    })
}

/// Partitions by the ids of their topics; those of topics that are gone are left out.
pub(super) fn by_id(
    partitions: &BTreeMap<String, BTreeSet<i32>>,
    cluster: &impl ClusterView,
) -> Assignment {
    let mut assignment = Assignment::new();
    for (name, partitions) in partitions {
        if let Some(topic) = cluster.topic(name) {
            assignment.extend(partitions.iter().map(|partition| (topic.id, *partition)));
        }
    }
    assignment
}

/// The records that make a classic group what [`upgraded`] says.
pub(crate) fn upgrade_records(group_id: &str, group: &Group) -> Vec<Record> {
    let own = || group_id.to_owned();
    let mut records = vec![Record::GroupMetadata {
        group_id: own(),
        value: None,
    }];
    for (member_id, member) in &group.members {
        records.push(Record::ConsumerGroupMemberMetadata {
            group_id: own(),
            member_id: member_id.clone(),
            value: Some(member.metadata.clone()),
        });
    }
    records.push(Record::ConsumerGroupPartitionMetadata {
        group_id: own(),
        topics: Some(group.topics.clone()),
    });
    records.push(Record::ConsumerGroupMetadata {
        group_id: own(),
        epoch: Some(group.epoch),
    });
    for (member_id, assignment) in &group.target {
        records.push(Record::ConsumerGroupTargetAssignmentMember {
            group_id: own(),
            member_id: member_id.clone(),
            assignment: Some(assignment.clone()),
        });
    }
    records.push(Record::ConsumerGroupTargetAssignmentMetadata {
        group_id: own(),
        epoch: Some(group.assignment_epoch),
    });
    for (member_id, member) in &group.members {
        records.push(Record::ConsumerGroupCurrentMemberAssignment {
            group_id: own(),
            member_id: member_id.clone(),
            value: Some(member.current.clone()),
        });
    }
    records
}

impl GroupCoordinator {
    /// Ends what classic members of an upgraded group wait for: they are to join again, and are
    /// answered by the new rules then. Each has a whole session for it.
    pub(crate) fn leave_classic_ways(&mut self, now_ms: i64, group_id: &str) -> Effects {
        let mut effects = Effects::default();
        let mut sessions = Vec::new();
        if let Some(mut rebalance) = self.rebalance(now_ms, group_id, &mut effects) {
            let error = GroupError::RebalanceInProgress {
                group_id: group_id.to_owned(),
            };
            let members = rebalance.group.members.iter();
            sessions = members
                .map(|(id, member)| (id.clone(), member.session_timeout_ms))
                .collect();
            for (member_id, _) in &sessions {
                rebalance.fail(member_id, member_id, &error);
            }
        }
        for (member_id, timeout_ms) in sessions {
            let timer = Timer::Session {
                group_id: group_id.to_owned(),
                member_id,
            };
            self.timers.schedule(timer, now_ms + i64::from(timeout_ms));
        }
        effects
    }
}
