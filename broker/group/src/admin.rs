//! Requests about groups from outside them: list, describe, delete.

use std::fmt;

use crate::coordinator::check_group_id;
use crate::group::{Group, preferred_assignor};
use crate::{Assignment, Assignor, GroupCoordinator, GroupError, MemberState, Record, Transition};

/// What a group is doing, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// The target assignment is older than the group's epoch.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// Every member has what the target gives it.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group_id: String,
    /// Its state.
    pub state: GroupState,
    /// Whether members ever joined; otherwise it only has offsets.
    pub is_consumer_group: bool,
}

/// All about a group but its offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// Its state.
    pub state: GroupState,
    /// Grows with every change of members, subscriptions or topics.
    pub epoch: i32,
    /// The epoch of the target assignment.
    pub assignment_epoch: i32,
    /// What computes the target.
    pub assignor: Assignor,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
}

/// All about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// Where it runs.
    pub rack_id: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// Its state.
    pub state: MemberState,
    /// The client's name for itself.
    pub client_id: String,
    /// The address it comes from.
    pub client_host: String,
    /// The topics it wants, by name.
    pub subscribed_topic_names: Vec<String>,
    /// What it may own.
    pub assignment: Assignment,
    /// What it has to give up.
    pub pending_revocation: Assignment,
    /// What it shall own.
    pub target_assignment: Assignment,
}

impl GroupCoordinator {
    /// All groups, by id.
    pub fn list(&self) -> Vec<ListedGroup> {
        self.groups
            .iter()
            .map(|(group_id, group)| ListedGroup {
                group_id: group_id.clone(),
                state: group.state(),
                is_consumer_group: group.is_consumer_group(),
            })
            .collect()
    }

    /// A group with its members.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`: callers tell such a group as `Dead`.
    pub fn describe(&self, group_id: &str) -> Result<GroupDescription, GroupError> {
        let group = self.existing(group_id)?;
        let members = group
            .members
            .iter()
            .map(|(id, member)| (id.as_str(), member))
            .collect();
        Ok(GroupDescription {
            group_id: group_id.to_owned(),
            state: group.state(),
            epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor: preferred_assignor(&members),
            members: group
                .members
                .keys()
                .map(|id| describe_member(group, id))
                .collect(),
        })
    }

    /// Deletes a group with its offsets.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP` while it has members, `GROUP_ID_NOT_FOUND`.
    pub fn delete_group(&self, group_id: &str) -> Result<Transition<()>, GroupError> {
        check_group_id(group_id)?;
        let group = self.existing(group_id)?;
        if !group.members.is_empty() {
            return Err(GroupError::NonEmptyGroup {
                group_id: group_id.to_owned(),
                members: group.members.len(),
                state: group.state(),
            });
        }
        let mut records = Vec::new();
        for (topic, partitions) in &group.offsets {
            for partition in partitions.keys() {
                records.push(Record::OffsetCommit {
                    group_id: group_id.to_owned(),
                    topic: topic.clone(),
                    partition: *partition,
                    value: None,
                });
            }
        }
        records.extend(membership_tombstones(group_id, group));
        Ok(Transition {
            records,
            response: (),
        })
    }
}

fn describe_member(group: &Group, member_id: &str) -> MemberDescription {
    let member = &group.members[member_id];
    let (metadata, current) = (&member.metadata, &member.current);
    MemberDescription {
        member_id: member_id.to_owned(),
        instance_id: metadata.instance_id.clone(),
        rack_id: metadata.rack_id.clone(),
        epoch: current.epoch,
        state: current.state,
        client_id: metadata.client_id.clone(),
        client_host: metadata.client_host.clone(),
        subscribed_topic_names: metadata.subscribed_topic_names.iter().cloned().collect(),
        assignment: current.assigned.clone(),
        pending_revocation: current.pending_revocation.clone(),
        target_assignment: group.target.get(member_id).cloned().unwrap_or_default(),
    }
}

/// The tombstones for all that is kept of a group without members, but its offsets.
pub(crate) fn membership_tombstones(group_id: &str, group: &Group) -> Vec<Record> {
    if !group.is_consumer_group() {
        return Vec::new();
    }
    let group_id = group_id.to_owned();
    let mut records: Vec<Record> = group
        .target
        .keys()
        .map(|member_id| Record::ConsumerGroupTargetAssignmentMember {
            group_id: group_id.clone(),
            member_id: member_id.clone(),
            assignment: None,
        })
        .collect();
    records.push(Record::ConsumerGroupTargetAssignmentMetadata {
        group_id: group_id.clone(),
        epoch: None,
    });
    records.push(Record::ConsumerGroupPartitionMetadata {
        group_id: group_id.clone(),
        topics: None,
    });
    records.push(Record::ConsumerGroupMetadata {
        group_id,
        epoch: None,
    });
    records
}
