//! [`GroupCoordinator`]: the groups of one `__consumer_offsets` partition.
//!
//! Invariants:
//! - Durable state changes in [`GroupCoordinator::replay`] alone, and the same records in the same
//!   order give the same state.
//! - The records of one transition are written and replayed together, before the next request is
//!   handled. If they cannot be written, the coordinator is thrown away and loaded again.
//! - What is not durable (timers, which topics were looked at) only ever delays or repeats work.

use std::collections::BTreeMap;

use crate::group::Group;
use crate::timers::{Timer, Timers};
use crate::{GroupConfig, GroupError, Record};

/// The longest group id, member id, instance id and so on, in bytes: what Kafka's formats can hold.
pub(crate) const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// What a handler decided: the records to write and replay, and the answer to give when they are
/// durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the records must be replayed and written"]
pub struct Transition<R> {
    /// To be replayed and written in this order, as one batch. Empty when nothing changes.
    pub records: Vec<Record>,
    /// The answer.
    pub response: R,
}

/// What a timer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expired {
    /// A silent member was removed.
    Session {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
    },
    /// A member that did not give up partitions in time was removed.
    Rebalance {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
    },
    /// Offsets that nobody needs, and groups without any, were removed.
    Offsets {
        /// How many records say so.
        count: usize,
    },
}

/// The groups of one shard. See the [crate] for how to drive it.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    pub(crate) config: GroupConfig,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) timers: Timers,
    /// The cluster's version that each group has seen.
    pub(crate) seen_versions: BTreeMap<String, u64>,
}

impl GroupCoordinator {
    /// A coordinator without groups, to be filled by [`Self::replay`].
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            seen_versions: BTreeMap::new(),
        }
    }

    /// Starts the timers when all stored records have been replayed: every member gets a whole
    /// session, and a whole rebalance time-out where it has to give something up.
    pub fn start(&mut self, now_ms: i64) {
        self.timers = Timers::default();
        for (group_id, group) in &self.groups {
            for (member_id, member) in &group.members {
                let session = Timer::Session {
                    group_id: group_id.clone(),
                    member_id: member_id.clone(),
                };
                self.timers
                    .schedule(session, now_ms + self.config.session_timeout_ms);
                if member.current.state == crate::MemberState::UnrevokedPartitions {
                    let rebalance = Timer::Rebalance {
                        group_id: group_id.clone(),
                        member_id: member_id.clone(),
                    };
                    let timeout = i64::from(member.metadata.rebalance_timeout_ms);
                    self.timers.schedule(rebalance, now_ms + timeout);
                }
            }
        }
        self.schedule_offset_expiry(now_ms);
    }

    /// When [`Self::tick`] has something to do next, in the time of its argument; `None` before
    /// [`Self::start`].
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next_deadline()
    }

    /// Handles the first timer that is due and changes something. To be called until it returns
    /// `None`, each transition being replayed before the next call.
    pub fn tick(&mut self, now_ms: i64) -> Option<Transition<Expired>> {
        while let Some(timer) = self.timers.pop_due(now_ms) {
            let transition = match timer {
                Timer::Session {
                    group_id,
                    member_id,
                } => self.removal(&group_id, &member_id).map(|records| {
                    (
                        records,
                        Expired::Session {
                            group_id,
                            member_id,
                        },
                    )
                }),
                Timer::Rebalance {
                    group_id,
                    member_id,
                } => self
                    .overdue_revocation(&group_id, &member_id)
                    .map(|records| {
                        (
                            records,
                            Expired::Rebalance {
                                group_id,
                                member_id,
                            },
                        )
                    }),
                Timer::OffsetExpiry => self.expire_offsets(now_ms).map(|records| {
                    let count = records.len();
                    (records, Expired::Offsets { count })
                }),
            };
            if let Some((records, response)) = transition {
                return Some(Transition { records, response });
            }
        }
        None
    }

    /// Applies a record, written at `timestamp_ms`: the only way in which durable state changes.
    ///
    /// It takes any record in any order and never fails: compaction removes records, so that what
    /// is left need not tell a whole story on the way, only at its end.
    pub fn replay(&mut self, record: &Record, timestamp_ms: i64) {
        let group_id = record.group_id();
        let group = match self.groups.get_mut(group_id) {
            Some(group) => group,
            None => self.groups.entry(group_id.to_owned()).or_default(),
        };
        match record {
            Record::OffsetCommit {
                topic,
                partition,
                value,
                ..
            } => {
                replay_offset(group, topic, *partition, value.as_ref());
            }
            Record::ConsumerGroupMetadata { epoch, .. } => {
                group.epoch = epoch.unwrap_or(0);
                group.epoch_timestamp_ms = if epoch.is_some() { timestamp_ms } else { 0 };
            }
            Record::ConsumerGroupPartitionMetadata { topics, .. } => {
                group.topics = topics.clone().unwrap_or_default();
            }
            Record::ConsumerGroupMemberMetadata {
                member_id,
                value: Some(value),
                ..
            } => {
                group.members.entry(member_id.clone()).or_default().metadata = value.clone();
            }
            Record::ConsumerGroupMemberMetadata {
                member_id,
                value: None,
                ..
            } => {
                group.members.remove(member_id);
                let (group_id, member_id) = (group_id.to_owned(), member_id.clone());
                self.timers.cancel(&Timer::Session {
                    group_id: group_id.clone(),
                    member_id: member_id.clone(),
                });
                self.timers.cancel(&Timer::Rebalance {
                    group_id,
                    member_id,
                });
            }
            Record::ConsumerGroupTargetAssignmentMetadata { epoch, .. } => {
                group.assignment_epoch = epoch.unwrap_or(0);
            }
            Record::ConsumerGroupTargetAssignmentMember {
                member_id,
                assignment,
                ..
            } => {
                match assignment {
                    Some(assignment) => group.target.insert(member_id.clone(), assignment.clone()),
                    None => group.target.remove(member_id),
                };
            }
            Record::ConsumerGroupCurrentMemberAssignment {
                member_id,
                value: Some(value),
                ..
            } => {
                group.members.entry(member_id.clone()).or_default().current = value.clone();
            }
            Record::ConsumerGroupCurrentMemberAssignment {
                member_id,
                value: None,
                ..
            } => {
                if let Some(member) = group.members.get_mut(member_id) {
                    member.current = crate::CurrentAssignment::default();
                }
            }
        }
        if group.is_gone() {
            self.groups.remove(group_id);
            self.seen_versions.remove(group_id);
        }
    }

    /// Whether both have the same durable state.
    pub fn has_same_state_as(&self, other: &Self) -> bool {
        self.groups == other.groups
    }

    pub(crate) fn existing(&self, group_id: &str) -> Result<&Group, GroupError> {
        self.groups
            .get(group_id)
            .ok_or_else(|| GroupError::GroupIdNotFound {
                group_id: group_id.to_owned(),
            })
    }
}

fn replay_offset(
    group: &mut Group,
    topic: &str,
    partition: i32,
    value: Option<&crate::CommittedOffset>,
) {
    let partitions = match group.offsets.get_mut(topic) {
        Some(partitions) => partitions,
        None => group.offsets.entry(topic.to_owned()).or_default(),
    };
    match value {
        Some(value) => partitions.insert(partition, value.clone()),
        None => partitions.remove(&partition),
    };
    if partitions.is_empty() {
        group.offsets.remove(topic);
    }
}

/// Checks a group id that comes from outside.
pub(crate) fn check_group_id(group_id: &str) -> Result<(), GroupError> {
    if (1..=TEXT_BYTES_MAX).contains(&group_id.len()) {
        Ok(())
    } else {
        Err(GroupError::InvalidGroupId {
            length: group_id.len(),
            max: TEXT_BYTES_MAX,
        })
    }
}
