//! The durable state of one group, and what can be computed from it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::admin::GroupState;
use crate::assignor::Assignor;
use crate::classic::GroupMetadata;
use crate::member::Member;
use crate::pattern::TopicPattern;
use crate::transactions::OrderedOffset;
use crate::{Assignment, ClusterView, TopicInfo};

/// A group as its records tell. A group with offsets alone is one that nobody ever joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Grows with every change of members, subscriptions or topics; 0 before the first.
    pub(crate) epoch: i32,
    /// When the epoch was written: for a group without members, since when it has none.
    pub(crate) epoch_timestamp_ms: i64,
    /// The topics subscribed to, as the last change of epoch saw them.
    pub(crate) topics: BTreeMap<String, TopicInfo>,
    /// The group epoch that the target assignment was computed for.
    pub(crate) assignment_epoch: i32,
    /// Who shall have what.
    pub(crate) target: BTreeMap<String, Assignment>,
    pub(crate) members: BTreeMap<String, Member>,
    /// The last settled generation of a classic group.
    pub(crate) classic: Option<GroupMetadata>,
    /// Offsets by topic and partition.
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, OrderedOffset>>,
}

impl Group {
    /// Whether no record of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.epoch == 0
            && self.assignment_epoch == 0
            && self.topics.is_empty()
            && self.target.is_empty()
            && self.members.is_empty()
            && self.classic.is_none()
            && self.offsets.is_empty()
    }

    /// Whether members ever joined it by the consumer protocol.
    pub(crate) fn is_consumer_group(&self) -> bool {
        self.epoch > 0
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self
            .members
            .values()
            .all(|member| member.current.is_reconciled_to(self.assignment_epoch))
        {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The member with that instance id.
    pub(crate) fn static_member(&self, instance_id: &str) -> Option<(&str, &Member)> {
        self.members
            .iter()
            .find(|(_, member)| member.metadata.instance_id.as_deref() == Some(instance_id))
            .map(|(id, member)| (id.as_str(), member))
    }

    /// Whether a member other than those named holds a partition, or may still hold it.
    pub(crate) fn is_held_by_other(&self, except: &[&str], topic: Uuid, partition: i32) -> bool {
        self.members
            .iter()
            .filter(|(id, _)| !except.contains(&id.as_str()))
            .any(|(_, member)| member.current.holds(topic, partition))
    }

    /// Whether any member subscribes to a topic.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        self.members
            .values()
            .any(|m| m.metadata.subscribes_to(topic))
    }
}

/// The members a group will have once the records of a request are replayed.
pub(crate) type Members<'a> = BTreeMap<&'a str, &'a Member>;

/// The topics that exist of those that members subscribe to.
pub(crate) fn subscribed_topics(
    members: &Members<'_>,
    cluster: &impl ClusterView,
) -> BTreeMap<String, TopicInfo> {
    let metadata = || members.values().map(|member| &member.metadata);
    let by_name = metadata()
        .flat_map(|member| &member.subscribed_topic_names)
        .cloned();
    let patterns: BTreeMap<&str, &TopicPattern> = metadata()
        .filter_map(|member| member.subscribed_topic_regex.as_ref())
        .map(|pattern| (pattern.as_str(), pattern))
        .collect();
    let by_pattern = patterns
        .values()
        .flat_map(|pattern| cluster.matching(pattern));
    let names: BTreeSet<String> = by_name.chain(by_pattern).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let topic = cluster.topic(&name)?;
            Some((name, topic))
        })
        .collect()
}

/// The assignor that most members prefer; the first by name when they are even, `uniform` when
/// nobody asks.
pub(crate) fn preferred_assignor(members: &Members<'_>) -> Assignor {
    let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
    for member in members.values() {
        if let Some(assignor) = member
            .metadata
            .server_assignor
            .as_deref()
            .and_then(Assignor::named)
        {
            *votes.entry(assignor).or_default() += 1;
        }
    }
    let best = votes.values().max().copied().unwrap_or(0);
    votes
        .into_iter()
        .find(|(_, count)| *count == best)
        .map_or(Assignor::Uniform, |(name, _)| name)
}
