//! Whether a heartbeat may go on: is the request whole, is the member who it says it is, is its epoch
//! the one it has.

use crate::assignor::Assignor;
use crate::coordinator::{TEXT_BYTES_MAX, check_group_id};
use crate::group::Group;
use crate::heartbeat::{HeartbeatRequest, JOIN_EPOCH, STATIC_LEAVE_EPOCH};
use crate::member::Member;
use crate::pattern::TopicPattern;
use crate::{CurrentAssignment, GroupError, HeldPartitions, MemberState};

/// The member that a heartbeat is about, as it was before.
pub(crate) struct Found {
    pub(crate) member: Member,
    pub(crate) is_new: bool,
    /// A static member whose place it takes.
    pub(crate) replaces: Option<String>,
}

pub(crate) fn check_request(request: &HeartbeatRequest) -> Result<(), GroupError> {
    check_group_id(&request.group_id)?;
    let invalid = |reason: &str| {
        Err(GroupError::InvalidRequest {
            group_id: request.group_id.clone(),
            reason: reason.to_owned(),
        })
    };
    let texts = [
        Some(request.member_id.as_str()),
        request.instance_id.as_deref(),
        request.rack_id.as_deref(),
    ];
    if texts
        .into_iter()
        .flatten()
        .any(|text| !(1..=TEXT_BYTES_MAX).contains(&text.len()))
    {
        return invalid("member id, instance id and rack id must have 1 to 32767 bytes");
    }
    if request.member_epoch < STATIC_LEAVE_EPOCH {
        return invalid("the member epoch must be -2 at least");
    }
    if request.member_epoch == STATIC_LEAVE_EPOCH && request.instance_id.is_none() {
        return invalid("only members with an instance id can leave for a while (epoch -2)");
    }
    if request
        .rebalance_timeout_ms
        .is_some_and(|timeout| timeout <= 0)
    {
        return invalid("the rebalance time-out must be positive");
    }
    if request.member_epoch == JOIN_EPOCH {
        if request.rebalance_timeout_ms.is_none() {
            return invalid("to join, a member must tell its rebalance time-out");
        }
        // The list may be empty: a client with a pattern of its own joins before it knows any topic.
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid("to join, a member must tell its subscription");
        }
        if request
            .owned
            .as_ref()
            .is_some_and(|owned| !owned.is_empty())
        {
            return invalid("a member that joins must own nothing");
        }
    }
    if let Some(pattern) = &request.subscribed_topic_regex {
        if pattern.len() > TEXT_BYTES_MAX {
            return invalid("a pattern of topics must have 32767 bytes at most");
        }
        TopicPattern::parse(pattern)?;
    }
    match &request.server_assignor {
        Some(name) if Assignor::named(name).is_none() => {
            Err(GroupError::UnsupportedAssignor { name: name.clone() })
        }
        _ => Ok(()),
    }
}

pub(crate) fn find_member(group: &Group, request: &HeartbeatRequest) -> Result<Found, GroupError> {
    if request.member_epoch == JOIN_EPOCH {
        return join(group, request);
    }
    let member = match &request.instance_id {
        Some(instance_id) => own_static_member(group, request, instance_id)?,
        None => group
            .members
            .get(&request.member_id)
            .ok_or_else(|| unknown_member(request))?,
    };
    check_epoch(request, &member.current)?;
    Ok(Found {
        member: member.clone(),
        is_new: false,
        replaces: None,
    })
}

fn join(group: &Group, request: &HeartbeatRequest) -> Result<Found, GroupError> {
    let instance = request.instance_id.as_deref();
    if let Some(holder) = instance.and_then(|instance| group.static_member(instance))
        && holder.0 != request.member_id
    {
        return replace_static_member(group, request, holder);
    }
    let Some(member) = group.members.get(&request.member_id) else {
        return Ok(Found {
            member: Member::default(),
            is_new: true,
            replaces: None,
        });
    };
    if member.metadata.instance_id.as_deref() != instance {
        return Err(GroupError::InvalidRequest {
            group_id: request.group_id.clone(),
            reason: format!(
                "member `{}` is there with another instance id: choose a new member id",
                request.member_id
            ),
        });
    }
    let mut member = member.clone();
    if member.current.previous_epoch != JOIN_EPOCH || member.current.epoch < 0 {
        // It starts anew, and has nothing then. (With a previous epoch of 0 it has joined a moment
        // ago and missed the answer, or this is that request once more.)
        member.current = CurrentAssignment::default();
    }
    Ok(Found {
        member,
        is_new: false,
        replaces: None,
    })
}

/// Lets a new member take the place of a static member that has left for a while, or that was one by
/// the classic protocol.
fn replace_static_member(
    group: &Group,
    request: &HeartbeatRequest,
    (holder_id, holder): (&str, &Member),
) -> Result<Found, GroupError> {
    // A classic member with an instance id leaves without a word.
    if holder.current.epoch != STATIC_LEAVE_EPOCH && holder.metadata.classic.is_none() {
        return Err(GroupError::UnreleasedInstanceId {
            group_id: request.group_id.clone(),
            instance_id: holder.metadata.instance_id.clone().unwrap_or_default(),
            member_id: holder_id.to_owned(),
        });
    }
    if group.members.contains_key(&request.member_id) {
        return Err(GroupError::InvalidRequest {
            group_id: request.group_id.clone(),
            reason: format!(
                "member `{}` is there with another instance id: choose a new member id",
                request.member_id
            ),
        });
    }
    Ok(in_place_of(holder_id, holder))
}

/// A new member in the place of an old one, with what that had.
pub(crate) fn in_place_of(holder_id: &str, holder: &Member) -> Found {
    let assigned = holder.current.assigned.partitions();
    Found {
        member: Member {
            metadata: holder.metadata.clone(),
            current: CurrentAssignment {
                assigned: HeldPartitions::all_since(JOIN_EPOCH, &assigned),
                ..CurrentAssignment::default()
            },
        },
        is_new: true,
        replaces: Some(holder_id.to_owned()),
    }
}

pub(crate) fn own_static_member<'a>(
    group: &'a Group,
    request: &HeartbeatRequest,
    instance_id: &str,
) -> Result<&'a Member, GroupError> {
    let (holder_id, holder) = group
        .static_member(instance_id)
        .ok_or_else(|| unknown_member(request))?;
    if holder_id != request.member_id {
        return Err(GroupError::FencedInstanceId {
            group_id: request.group_id.clone(),
            instance_id: instance_id.to_owned(),
            member_id: holder_id.to_owned(),
        });
    }
    Ok(holder)
}

/// A member comes with its epoch, or with the one before when it missed an answer: then it must
/// not own more than the answer left it.
fn check_epoch(request: &HeartbeatRequest, current: &CurrentAssignment) -> Result<(), GroupError> {
    let missed_an_answer = || {
        request.member_epoch == current.previous_epoch
            && request
                .owned
                .as_ref()
                .is_some_and(|owned| owned.is_subset(&current.assigned.partitions()))
    };
    let is_known = !matches!(current.state, MemberState::Unknown(_));
    if is_known && (request.member_epoch == current.epoch || missed_an_answer()) {
        return Ok(());
    }
    Err(GroupError::FencedMemberEpoch {
        group_id: request.group_id.clone(),
        member_id: request.member_id.clone(),
        received: request.member_epoch,
        expected: current.epoch,
    })
}

pub(crate) fn unknown_member(request: &HeartbeatRequest) -> GroupError {
    GroupError::UnknownMemberId {
        group_id: request.group_id.clone(),
        member_id: request.member_id.clone(),
    }
}
