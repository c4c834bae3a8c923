//! Requests about groups from outside them: list, describe, delete.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use crate::classic::group::ClassicGroup;
use crate::classic::{CONSUMER_PROTOCOL_TYPE, ClassicState};
use crate::coordinator::check_any_group_id;
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
    /// A classic group waits for members to join.
    PreparingRebalance,
    /// A classic group waits for its leader's assignment.
    CompletingRebalance,
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
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<ClassicState> for GroupState {
    fn from(state: ClassicState) -> Self {
        match state {
            ClassicState::Empty => Self::Empty,
            ClassicState::PreparingRebalance => Self::PreparingRebalance,
            ClassicState::CompletingRebalance => Self::CompletingRebalance,
            ClassicState::Stable => Self::Stable,
        }
    }
}

/// Which protocol the members of a group speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    /// The classic one; also groups that only have offsets.
    Classic,
    /// The consumer protocol (KIP-848).
    Consumer,
}

impl GroupKind {
    /// Kafka's name for it in requests and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "Classic",
            Self::Consumer => "Consumer",
        }
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group_id: String,
    /// Its state.
    pub state: GroupState,
    /// Its kind.
    pub kind: GroupKind,
    /// What its members take it for; empty for one that only has offsets.
    pub protocol_type: String,
}

/// All about a classic group but its offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicDescription {
    /// Its id.
    pub group_id: String,
    /// Its state.
    pub state: GroupState,
    /// Type of its protocols; empty for a group that only has offsets.
    pub protocol_type: String,
    /// The protocol in use; empty between two generations.
    pub protocol: String,
    /// Its generation.
    pub generation: i32,
    /// Its members, by id.
    pub members: Vec<ClassicMemberDescription>,
}

/// All about a member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The address it comes from.
    pub client_host: String,
    /// What it told for the protocol in use; empty between two generations.
    pub metadata: Bytes,
    /// What it has been assigned; empty between two generations.
    pub assignment: Bytes,
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
    /// The pattern of further topics that it wants.
    pub subscribed_topic_regex: Option<String>,
    /// What it may own.
    pub assignment: Assignment,
    /// What it has to give up.
    pub pending_revocation: Assignment,
    /// What it shall own.
    pub target_assignment: Assignment,
    /// Whether it is a member by the classic protocol.
    pub is_classic: bool,
}

impl GroupCoordinator {
    /// All groups, by id.
    pub fn list(&self) -> Vec<ListedGroup> {
        let ids: BTreeSet<&String> = self.groups.keys().chain(self.classic.keys()).collect();
        ids.into_iter().map(|id| self.listed(id)).collect()
    }

    fn listed(&self, group_id: &str) -> ListedGroup {
        let (state, kind, protocol_type) =
            match (self.classic.get(group_id), self.groups.get(group_id)) {
                (Some(classic), _) => (
                    classic.state.into(),
                    GroupKind::Classic,
                    classic.protocol_type.as_str(),
                ),
                (None, Some(group)) if group.is_consumer_group() => {
                    (group.state(), GroupKind::Consumer, CONSUMER_PROTOCOL_TYPE)
                }
                (None, _) => (GroupState::Empty, GroupKind::Classic, ""),
            };
        ListedGroup {
            group_id: group_id.to_owned(),
            state,
            kind,
            protocol_type: protocol_type.to_owned(),
        }
    }

    /// A classic group with its members, or one that only has offsets.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, also for groups of the other kind.
    pub fn describe_classic(&self, group_id: &str) -> Result<ClassicDescription, GroupError> {
        self.check_exists(group_id)?;
        if !self.is_classic(group_id) {
            return Err(GroupError::GroupIdNotFound {
                group_id: group_id.to_owned(),
            });
        }
        let nobody = ClassicGroup::default();
        let group = self.classic.get(group_id).unwrap_or(&nobody);
        let protocol = match group.state {
            ClassicState::Stable => group.protocol.as_deref(),
            _ => None,
        };
        let members = group.members.iter().map(|(id, member)| {
            let metadata = protocol.and_then(|protocol| member.metadata(protocol));
            ClassicMemberDescription {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: metadata.cloned().unwrap_or_default(),
                assignment: protocol.map_or_else(Bytes::new, |_| member.assignment.clone()),
            }
        });
        Ok(ClassicDescription {
            group_id: group_id.to_owned(),
            state: group.state.into(),
            protocol_type: group.protocol_type.clone(),
            protocol: protocol.unwrap_or_default().to_owned(),
            generation: group.generation,
            members: members.collect(),
        })
    }

    /// A group by the consumer protocol with its members.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, also for groups of the other kind: callers tell such a group as `Dead`.
    pub fn describe(&self, group_id: &str) -> Result<GroupDescription, GroupError> {
        let group = self
            .groups
            .get(group_id)
            .filter(|_| !self.is_classic(group_id))
            .ok_or_else(|| GroupError::GroupIdNotFound {
                group_id: group_id.to_owned(),
            })?;
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
        check_any_group_id(group_id)?;
        self.check_exists(group_id)?;
        let nothing = Group::default();
        let group = self.groups.get(group_id).unwrap_or(&nothing);
        if !group.members.is_empty() {
            return Err(GroupError::NonEmptyGroup {
                group_id: group_id.to_owned(),
                members: group.members.len(),
                state: group.state().name(),
            });
        }
        if let Some(classic) = self.classic.get(group_id) {
            check_empty(group_id, classic)?;
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
        for (topic, partition) in self.pending.places(group_id) {
            records.push(Record::OffsetCommit {
                group_id: group_id.to_owned(),
                topic: topic.clone(),
                partition: *partition,
                value: None,
            });
        }
        records.extend(membership_tombstones(group_id, group));
        Ok(Transition::new(records, ()))
    }
}

/// Refuses what needs a classic group without members.
pub(crate) fn check_empty(group_id: &str, group: &ClassicGroup) -> Result<(), GroupError> {
    if group.state == ClassicState::Empty {
        return Ok(());
    }
    Err(GroupError::NonEmptyGroup {
        group_id: group_id.to_owned(),
        members: group.members.len(),
        state: group.state.name(),
    })
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
        subscribed_topic_regex: metadata
            .subscribed_topic_regex
            .as_ref()
            .map(|pattern| pattern.as_str().to_owned()),
        assignment: current.assigned.partitions(),
        pending_revocation: current.pending_revocation.partitions(),
        target_assignment: group.target.get(member_id).cloned().unwrap_or_default(),
        is_classic: metadata.classic.is_some(),
    }
}

/// The tombstones for all that is kept of a group without members, but its offsets.
pub(crate) fn membership_tombstones(group_id: &str, group: &Group) -> Vec<Record> {
    if group.classic.is_some() {
        return vec![Record::GroupMetadata {
            group_id: group_id.to_owned(),
            value: None,
        }];
    }
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
