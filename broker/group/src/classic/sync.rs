//! `SyncGroup`: bring the assignment, or wait for it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ClassicState, Effects, Synced, Ticket};
use crate::coordinator::check_group_id;
use crate::{GroupCoordinator, GroupError, Transition};

/// A request for one's assignment, which brings everybody's if it comes from the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// The generation it has joined.
    pub generation: i32,
    /// Type of the protocols as it knows it, if it says.
    pub protocol_type: Option<String>,
    /// The protocol as it knows it, if it says.
    pub protocol: Option<String>,
    /// From the leader: assignments by member id.
    pub assignments: Vec<(String, Bytes)>,
}

impl GroupCoordinator {
    /// Handles a sync. Its answer is among the replies, now or of a later transition, with one of
    /// the errors `INVALID_GROUP_ID`, `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`,
    /// `ILLEGAL_GENERATION`, `INCONSISTENT_GROUP_PROTOCOL`, `REBALANCE_IN_PROGRESS`.
    pub fn sync_group(
        &mut self,
        now_ms: i64,
        ticket: Ticket,
        request: &SyncRequest,
    ) -> Transition<()> {
        let mut effects = Effects::default();
        if self.has_members_by_consumer_protocol(&request.group_id) {
            effects.sync(ticket, self.sync_consumer_group(now_ms, request));
            return effects.answer(());
        }
        match self.sync(now_ms, ticket, request, &mut effects) {
            Ok(Some(synced)) => effects.sync(ticket, Ok(synced)),
            Ok(None) => {}
            Err(error) => effects.sync(ticket, Err(error)),
        }
        effects.answer(())
    }

    /// `None` while the member has to wait.
    fn sync(
        &mut self,
        now_ms: i64,
        ticket: Ticket,
        request: &SyncRequest,
        effects: &mut Effects,
    ) -> Result<Option<Synced>, GroupError> {
        check_group_id(&request.group_id)?;
        let mut rebalance = self
            .rebalance(now_ms, &request.group_id, effects)
            .ok_or_else(|| GroupError::UnknownMemberId {
                group_id: request.group_id.clone(),
                member_id: request.member_id.clone(),
            })?;
        let group = &mut *rebalance.group;
        let instance_id = request.instance_id.as_deref();
        group.check_member(&request.group_id, &request.member_id, instance_id)?;
        group.check_generation(&request.group_id, request.generation)?;
        check_protocol(
            request,
            &group.protocol_type,
            group.protocol.as_deref().unwrap_or_default(),
        )?;
        match group.state {
            ClassicState::Empty => Err(GroupError::UnknownMemberId {
                group_id: request.group_id.clone(),
                member_id: request.member_id.clone(),
            }),
            ClassicState::PreparingRebalance => Err(rebalance_in_progress(&request.group_id)),
            ClassicState::Stable => {
                rebalance.saw_sync(&request.member_id);
                Ok(Some(rebalance.synced(&request.member_id)))
            }
            ClassicState::CompletingRebalance => {
                let is_leader = group.is_leader(&request.member_id);
                let member = group.members.get_mut(&request.member_id);
                let earlier = member.and_then(|member| member.awaiting_sync.replace(ticket));
                if let Some(earlier) = earlier {
                    let error = rebalance_in_progress(&request.group_id);
                    rebalance.effects.sync(earlier, Err(error));
                }
                rebalance.saw_sync(&request.member_id);
                if is_leader {
                    let assignments: BTreeMap<String, Bytes> =
                        request.assignments.iter().cloned().collect();
                    rebalance.settle(assignments);
                }
                Ok(None)
            }
        }
    }
}

fn rebalance_in_progress(group_id: &str) -> GroupError {
    GroupError::RebalanceInProgress {
        group_id: group_id.to_owned(),
    }
}

pub(crate) fn check_protocol(
    request: &SyncRequest,
    protocol_type: &str,
    protocol: &str,
) -> Result<(), GroupError> {
    let differs = |told: &Option<String>, own: &str| told.as_ref().is_some_and(|t| t != own);
    if differs(&request.protocol_type, protocol_type) || differs(&request.protocol, protocol) {
        return Err(GroupError::InconsistentGroupProtocol {
            group_id: request.group_id.clone(),
            reason: format!("the generation uses {protocol} ({protocol_type})"),
        });
    }
    Ok(())
}
