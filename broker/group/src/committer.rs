//! Who may commit offsets of a group, and of which partitions.
//!
//! A member of a consumer group hears of its new epoch by the answer to a heartbeat, and commits with
//! the one before until then. Such a commit is still right for a partition that the member has held
//! without a break since the epoch it names: nobody else can have had it in between. For all others it
//! may be the last word of somebody who has lost the partition, and is refused (KIP-1251, as Apache
//! Kafka since 4.3). In a classic group all members change generation together, and only the newest
//! counts.

use std::cmp::Ordering;

use uuid::Uuid;

use crate::classic::ClassicState;
use crate::classic::group::ClassicGroup;
use crate::group::Group;
use crate::offsets::CommitRequest;
use crate::transactions::TransactionalCommit;
use crate::{CurrentAssignment, GroupCoordinator, GroupError};

/// A committer that was let in.
#[derive(Debug)]
pub(crate) enum Committer<'a> {
    /// It may commit for every partition.
    Any,
    /// A member that names an older epoch than it has: what it has held since then.
    Late {
        current: &'a CurrentAssignment,
        epoch: i32,
        /// What it is told of other partitions.
        refusal: GroupError,
    },
}

impl Committer<'_> {
    /// Whether it may commit for a partition.
    pub(crate) fn check(&self, topic: Uuid, partition: i32) -> Result<(), GroupError> {
        match self {
            Self::Any => Ok(()),
            Self::Late {
                current,
                epoch,
                refusal,
            } => match current.held_since(topic, partition) {
                Some(since) if since <= *epoch => Ok(()),
                _ => Err(refusal.clone()),
            },
        }
    }
}

impl GroupCoordinator {
    /// Lets the sender of a commit in, or says why not.
    pub(crate) fn committer(&self, request: &CommitRequest) -> Result<Committer<'_>, GroupError> {
        let (group_id, epoch) = (&request.group_id, request.member_epoch);
        if let Some(classic) = self.classic.get(group_id) {
            return check_classic_committer(classic, request).map(|()| Committer::Any);
        }
        match self.groups.get(group_id) {
            Some(group) => {
                let id = &request.member_id;
                let refuse = |expected| wrong_epoch(group, group_id, id, epoch, expected);
                member_or_outsider(group, group_id, id, epoch, refuse)
            }
            None if epoch < 0 => Ok(Committer::Any),
            None => Err(GroupError::GroupIdNotFound {
                group_id: group_id.clone(),
            }),
        }
    }

    /// The same for a commit with a transaction, whose producers know of generations only.
    pub(crate) fn transactional_committer(
        &self,
        request: &TransactionalCommit,
    ) -> Result<Committer<'_>, GroupError> {
        let (group_id, generation) = (&request.group_id, request.generation);
        let says_nothing =
            generation < 0 && request.member_id.is_empty() && request.instance_id.is_none();
        if says_nothing {
            return Ok(Committer::Any);
        }
        let illegal = |expected| GroupError::IllegalGeneration {
            group_id: group_id.clone(),
            received: generation,
            expected,
        };
        if let Some(classic) = self.classic.get(group_id) {
            if generation >= 0 || !classic.members.is_empty() {
                let instance_id = request.instance_id.as_deref();
                classic.check_member(group_id, &request.member_id, instance_id)?;
                classic.check_generation(group_id, generation)?;
            }
            return Ok(Committer::Any);
        }
        match self.groups.get(group_id) {
            Some(group) => {
                member_or_outsider(group, group_id, &request.member_id, generation, illegal)
            }
            None if generation < 0 => Ok(Committer::Any),
            None => Err(illegal(-1)),
        }
    }
}

/// Looks for the committer among the members of a group that is no classic one. `refuse` makes the
/// error of a wrong epoch, from the one that the member has.
fn member_or_outsider<'a>(
    group: &'a Group,
    group_id: &str,
    member_id: &str,
    epoch: i32,
    refuse: impl Fn(i32) -> GroupError,
) -> Result<Committer<'a>, GroupError> {
    if epoch < 0 && group.members.is_empty() {
        return Ok(Committer::Any);
    }
    let member = group
        .members
        .get(member_id)
        .ok_or_else(|| unknown_member(group_id, member_id))?;
    let current = &member.current;
    match epoch.cmp(&current.epoch) {
        Ordering::Equal => Ok(Committer::Any),
        Ordering::Greater => Err(refuse(current.epoch)),
        Ordering::Less => Ok(Committer::Late {
            current,
            epoch,
            refusal: refuse(current.epoch),
        }),
    }
}

/// What a member of a group of the consumer protocol is told that comes with another epoch than it
/// has.
pub(crate) fn wrong_epoch(
    group: &Group,
    group_id: &str,
    member_id: &str,
    received: i32,
    expected: i32,
) -> GroupError {
    let member = group.members.get(member_id);
    let group_id = group_id.to_owned();
    if member.is_some_and(|member| member.metadata.classic.is_some()) {
        return GroupError::IllegalGeneration {
            group_id,
            received,
            expected,
        };
    }
    GroupError::StaleMemberEpoch {
        group_id,
        member_id: member_id.to_owned(),
        received,
        expected,
    }
}

/// Whether a commit of a classic group may be taken. One from outside, that names no member, needs a
/// group without members.
fn check_classic_committer(
    group: &ClassicGroup,
    request: &CommitRequest,
) -> Result<(), GroupError> {
    let group_id = &request.group_id;
    if request.member_epoch < 0 && group.state == ClassicState::Empty {
        return Ok(());
    }
    let names_member =
        request.member_epoch >= 0 || !request.member_id.is_empty() || request.instance_id.is_some();
    if !names_member {
        return Err(unknown_member(group_id, &request.member_id));
    }
    group.check_member(group_id, &request.member_id, request.instance_id.as_deref())?;
    group.check_generation(group_id, request.member_epoch)?;
    if group.state == ClassicState::CompletingRebalance {
        // It knows the new generation, but not yet what it has in it.
        return Err(GroupError::RebalanceInProgress {
            group_id: group_id.clone(),
        });
    }
    Ok(())
}

pub(crate) fn unknown_member(group_id: &str, member_id: &str) -> GroupError {
    GroupError::UnknownMemberId {
        group_id: group_id.to_owned(),
        member_id: member_id.to_owned(),
    }
}
