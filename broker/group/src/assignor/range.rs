//! Runs of partitions, topic by topic.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::MemberSpec;
use crate::Assignment;

pub(super) fn assign<'m>(
    members: &BTreeMap<&'m str, MemberSpec<'_>>,
    topics: &BTreeMap<Uuid, i32>,
) -> BTreeMap<&'m str, Assignment> {
    let mut in_order: Vec<(&'m str, &MemberSpec<'_>)> =
        members.iter().map(|(id, spec)| (*id, spec)).collect();
    // Static members first, by the id that survives a restart.
    in_order.sort_by_key(|(id, spec)| (spec.instance_id.is_none(), spec.instance_id, *id));

    let mut target: BTreeMap<&str, Assignment> =
        members.keys().map(|id| (*id, Assignment::new())).collect();
    for (topic, partitions) in topics {
        let subscribers: Vec<&'m str> = in_order
            .iter()
            .filter(|(_, spec)| spec.topics.contains(topic))
            .map(|(id, _)| *id)
            .collect();
        let mut next = 0;
        for (index, member_id) in subscribers.iter().enumerate() {
            let (count, members) = (*partitions as usize, subscribers.len());
            let run = (count / members + usize::from(index < count % members)) as i32;
            if let Some(assignment) = target.get_mut(member_id) {
                assignment.extend((next..next + run).map(|partition| (*topic, partition)));
            }
            next += run;
        }
    }
    target
}
