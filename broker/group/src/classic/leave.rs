//! `LeaveGroup`: members go, by themselves or by an operator's word.

use super::Effects;
use super::rebalance::Rebalance;
use crate::coordinator::check_group_id;
use crate::{GroupCoordinator, GroupError, Transition};

/// A request to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveRequest {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One that is to leave, by its id or, if that is empty, by its instance id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// The member's id.
    pub member_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
}

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member: LeavingMember,
    /// `UNKNOWN_MEMBER_ID` or `FENCED_INSTANCE_ID` if it did not leave.
    pub result: Result<(), GroupError>,
}

impl GroupCoordinator {
    /// Handles a leave of one or more members. Static members of a group by the consumer protocol
    /// can be put out by their instance ids, too.
    ///
    /// # Errors
    /// `INVALID_GROUP_ID`; all else is told member by member.
    pub fn leave_group(
        &mut self,
        now_ms: i64,
        request: &LeaveRequest,
    ) -> Result<Transition<Vec<LeftMember>>, GroupError> {
        check_group_id(&request.group_id)?;
        let mut effects = Effects::default();
        let mut left = Vec::with_capacity(request.members.len());
        if let Some(mut rebalance) = self.rebalance(now_ms, &request.group_id, &mut effects) {
            let before = rebalance.group.members.len();
            for member in &request.members {
                let result = rebalance.leave(member);
                left.push(LeftMember {
                    member: member.clone(),
                    result,
                });
            }
            if rebalance.group.members.len() < before {
                rebalance.after_removal();
            } else {
                // Somebody who only had an id may be waited for no longer.
                rebalance.complete_if_all_joined();
            }
            self.forget_unused(&request.group_id);
        } else {
            let (records, results) =
                self.leave_consumer_group(now_ms, &request.group_id, &request.members);
            effects.records = records;
            let members = request.members.iter().cloned().zip(results);
            left.extend(members.map(|(member, result)| LeftMember { member, result }));
        }
        Ok(effects.answer(left))
    }
}

impl Rebalance<'_> {
    fn leave(&mut self, member: &LeavingMember) -> Result<(), GroupError> {
        let instance_id = member.instance_id.as_deref();
        let member_id = if member.member_id.is_empty() {
            let holder = instance_id.and_then(|instance| self.group.static_member(instance));
            holder
                .ok_or_else(|| unknown(self.group_id, member))?
                .to_owned()
        } else if self.group.pending.contains(&member.member_id) {
            member.member_id.clone()
        } else {
            self.group
                .check_member(self.group_id, &member.member_id, instance_id)?;
            member.member_id.clone()
        };
        self.remove(&member_id);
        Ok(())
    }
}

fn unknown(group_id: &str, member: &LeavingMember) -> GroupError {
    GroupError::UnknownMemberId {
        group_id: group_id.to_owned(),
        member_id: member.member_id.clone(),
    }
}
