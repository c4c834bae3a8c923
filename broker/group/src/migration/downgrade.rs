//! Members leave a group of the consumer protocol; when only classic ones are left, it becomes a
//! classic group again.

use std::collections::BTreeSet;

use super::named;
use crate::admin::membership_tombstones;
use crate::classic::group::{ClassicGroup, ClassicMember};
use crate::classic::rebalance::METADATA_BYTES_MAX;
use crate::classic::subscription::{Subscription, write_assignment};
use crate::classic::{CONSUMER_PROTOCOL_TYPE, ClassicState, Effects};
use crate::group::Group;
use crate::heartbeat::{member_tombstones, removal_records};
use crate::member::Member;
use crate::{GroupCoordinator, Record};

impl GroupCoordinator {
    /// Takes members out of a group of the consumer protocol: the records that say so. Those that are
    /// not in it are passed over.
    pub(crate) fn remove_members(
        &mut self,
        now_ms: i64,
        group_id: &str,
        leaving: &BTreeSet<String>,
    ) -> Vec<Record> {
        let Some(group) = self.groups.get(group_id) else {
            return Vec::new();
        };
        if !group.members.keys().any(|id| leaving.contains(id)) {
            return Vec::new();
        }
        match downgraded(group, leaving, self.config.classic_max_size, now_ms) {
            Some(classic) => self.downgrade(now_ms, group_id, classic),
            None => removal_records(group_id, group, leaving),
        }
    }

    /// Whether a group is to be classic when this member has gone.
    pub(super) fn becomes_classic_without(
        &self,
        now_ms: i64,
        group: &Group,
        member_id: &str,
    ) -> bool {
        let leaving = BTreeSet::from([member_id.to_owned()]);
        downgraded(group, &leaving, self.config.classic_max_size, now_ms).is_some()
    }

    /// Makes a group classic, and asks its members to join.
    fn downgrade(&mut self, now_ms: i64, group_id: &str, classic: ClassicGroup) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(group) = self.groups.get(group_id) {
            for member_id in group.members.keys() {
                records.extend(member_tombstones(group_id, member_id));
            }
            records.extend(membership_tombstones(group_id, group));
        }
        // Should this be read after a crash, the partitions of those that have left belong to nobody:
        // so the generation is one that no member knows, and all join again. Until then it is the one
        // they know, so that they are asked to.
        let mut settled = classic.to_metadata();
        settled.generation += 1;
        records.push(Record::GroupMetadata {
            group_id: group_id.to_owned(),
            value: Some(settled),
        });

        let member_ids: Vec<String> = classic.members.keys().cloned().collect();
        self.classic.insert(group_id.to_owned(), classic);
        let mut effects = Effects::default();
        if let Some(mut rebalance) = self.rebalance(now_ms, group_id, &mut effects) {
            for member_id in &member_ids {
                rebalance.restart_session(member_id);
            }
            rebalance.prepare();
        }
        records
    }
}

/// The classic group that is left when `leaving` have gone; `None` if it is to stay as it is.
fn downgraded(
    group: &Group,
    leaving: &BTreeSet<String>,
    max_size: usize,
    now_ms: i64,
) -> Option<ClassicGroup> {
    let stays = |id: &&String| !leaving.contains(*id);
    let staying: Vec<&String> = group.members.keys().filter(stays).collect();
    if staying.is_empty() || staying.len() > max_size {
        return None;
    }
    let mut classic = ClassicGroup {
        state: ClassicState::Stable,
        state_timestamp_ms: now_ms,
        protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
        generation: group.epoch,
        leader: staying.first().map(|id| (*id).clone()),
        ..ClassicGroup::default()
    };
    for member_id in staying {
        let member = downgraded_member(group, &group.members[member_id])?;
        classic.members.insert(member_id.clone(), member);
    }
    classic.protocol = classic.elect_protocol();
    classic.refresh_subscriptions();
    (classic.protocol.is_some() && classic.to_metadata().size_bound() <= METADATA_BYTES_MAX)
        .then_some(classic)
}

/// `None` for a member by the consumer protocol.
fn downgraded_member(group: &Group, member: &Member) -> Option<ClassicMember> {
    let own = member.metadata.classic.as_ref()?;
    let version = own
        .protocols
        .first()
        .and_then(|protocol| Subscription::read(&protocol.metadata).ok())
        .map_or(0, |subscription| subscription.version);
    // All that may be in its hands, so that none of it is given to another should the group change
    // once more before it has joined.
    let mut held = member.current.assigned.partitions();
    held.extend(member.current.pending_revocation.partitions().iter());
    Some(ClassicMember {
        instance_id: member.metadata.instance_id.clone(),
        client_id: member.metadata.client_id.clone(),
        client_host: member.metadata.client_host.clone(),
        rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
        session_timeout_ms: own.session_timeout_ms,
        protocols: own.protocols.clone(),
        assignment: write_assignment(version, &named(group, &held)),
        ..ClassicMember::default()
    })
}
