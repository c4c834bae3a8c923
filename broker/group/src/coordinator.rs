//! [`GroupCoordinator`]: the groups of one `__consumer_offsets` partition.
//!
//! Invariants:
//! - Durable state changes in [`GroupCoordinator::replay`] alone, and the same records in the same
//!   order give the same state.
//! - The records of one transition are written and replayed together, before the next request is
//!   handled. If they cannot be written, the coordinator is thrown away and loaded again.
//! - What is not durable (timers, which topics were looked at, where classic groups stand between two
//!   settled generations) only ever delays or repeats work.

use std::collections::BTreeMap;

use crate::classic::group::ClassicGroup;
use crate::group::Group;
use crate::timers::{Timer, Timers};
use crate::transactions::{OrderedOffset, PendingOffsets};
use crate::{GroupConfig, GroupError, Record, Reply, Ticket};

/// The longest group id, member id, instance id and so on, in bytes: what Kafka's formats can hold.
pub(crate) const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// What a handler decided: the records to write and replay, and the answer to give when they are
/// durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the records must be replayed and written"]
pub struct Transition<R> {
    /// To be replayed and written in this order, as one batch. Empty when nothing changes.
    pub records: Vec<Record>,
    /// Answers to requests that waited, this one perhaps among them, to be given with this one.
    pub replies: Vec<(Ticket, Reply)>,
    /// The answer.
    pub response: R,
}

impl<R> Transition<R> {
    /// One that answers nobody else.
    pub fn new(records: Vec<Record>, response: R) -> Self {
        Self {
            records,
            replies: Vec::new(),
            response,
        }
    }
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
    /// A member that did not give up partitions, or did not join again, in time was removed.
    Rebalance {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
    },
    /// A classic group went on without members that were silent or late.
    Classic {
        /// The group.
        group_id: String,
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
    /// What the records tell.
    pub(crate) groups: BTreeMap<String, Group>,
    /// Where classic groups stand.
    pub(crate) classic: BTreeMap<String, ClassicGroup>,
    /// Offsets that open transactions have committed.
    pub(crate) pending: PendingOffsets,
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
            classic: BTreeMap::new(),
            pending: PendingOffsets::default(),
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
                let timeout_ms = member
                    .metadata
                    .session_timeout_ms(self.config.session_timeout_ms);
                self.timers.schedule(session, now_ms + timeout_ms);
                if member.metadata.classic.is_none()
                    && member.current.state == crate::MemberState::UnrevokedPartitions
                {
                    let rebalance = Timer::Rebalance {
                        group_id: group_id.clone(),
                        member_id: member_id.clone(),
                    };
                    let timeout = i64::from(member.metadata.rebalance_timeout_ms);
                    self.timers.schedule(rebalance, now_ms + timeout);
                }
            }
        }
        self.start_classic(now_ms);
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
            let outcome = match timer {
                Timer::ClassicSession { ref group_id, .. }
                | Timer::ClassicJoin { ref group_id }
                | Timer::ClassicSync { ref group_id } => {
                    let effects = self.classic_timer(now_ms, &timer);
                    if effects.is_empty() {
                        continue;
                    }
                    let group_id = group_id.clone();
                    return Some(effects.answer(Expired::Classic { group_id }));
                }
                Timer::Session {
                    group_id,
                    member_id,
                } => self.removal(now_ms, &group_id, &member_id).map(|records| {
                    (
                        records,
                        Expired::Session {
                            group_id,
                            member_id,
                        },
                    )
                }),
                Timer::MemberJoin {
                    group_id,
                    member_id,
                }
                | Timer::MemberSync {
                    group_id,
                    member_id,
                } => self.removal(now_ms, &group_id, &member_id).map(|records| {
                    (
                        records,
                        Expired::Rebalance {
                            group_id,
                            member_id,
                        },
                    )
                }),
                Timer::Rebalance {
                    group_id,
                    member_id,
                } => self
                    .overdue_revocation(now_ms, &group_id, &member_id)
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
            if let Some((records, response)) = outcome {
                return Some(Transition::new(records, response));
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
                let order = self.pending.next_order();
                replay_offset(group, topic, *partition, value.as_ref(), order);
                if value.is_none() {
                    self.pending.forget(group_id, topic, *partition);
                }
            }
            Record::GroupMetadata { value, .. } => {
                let is_gone = value.is_none();
                group.classic.clone_from(value);
                if is_gone {
                    self.drop_classic(record.group_id());
                }
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
                self.cancel_classic_waits(record.group_id(), member_id);
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
        if self.groups.get(group_id).is_some_and(Group::is_gone) {
            self.groups.remove(group_id);
            self.seen_versions.remove(group_id);
        }
    }

    /// Whether both have the same durable state.
    pub fn has_same_state_as(&self, other: &Self) -> bool {
        self.groups == other.groups && self.pending == other.pending
    }

    /// Forgets where a classic group stands, which has no members then.
    pub(crate) fn drop_classic(&mut self, group_id: &str) {
        let Some(group) = self.classic.remove(group_id) else {
            return;
        };
        let own = || group_id.to_owned();
        self.timers.cancel(&Timer::ClassicJoin { group_id: own() });
        self.timers.cancel(&Timer::ClassicSync { group_id: own() });
        for member_id in group.members.into_keys().chain(group.pending) {
            self.timers.cancel(&Timer::ClassicSession {
                group_id: own(),
                member_id,
            });
        }
    }

    /// Whether it is a classic group, or one that nobody has joined.
    pub(crate) fn is_classic(&self, group_id: &str) -> bool {
        let group = self.groups.get(group_id);
        self.classic.contains_key(group_id) || group.is_some_and(|g| !g.is_consumer_group())
    }

    pub(crate) fn check_exists(&self, group_id: &str) -> Result<(), GroupError> {
        if self.groups.contains_key(group_id) || self.classic.contains_key(group_id) {
            return Ok(());
        }
        Err(GroupError::GroupIdNotFound {
            group_id: group_id.to_owned(),
        })
    }
}

fn replay_offset(
    group: &mut Group,
    topic: &str,
    partition: i32,
    value: Option<&crate::CommittedOffset>,
    order: u64,
) {
    let partitions = match group.offsets.get_mut(topic) {
        Some(partitions) => partitions,
        None => group.offsets.entry(topic.to_owned()).or_default(),
    };
    match value {
        Some(value) => partitions.insert(partition, OrderedOffset::new(order, value)),
        None => partitions.remove(&partition),
    };
    if partitions.is_empty() {
        group.offsets.remove(topic);
    }
}

/// Checks the id of a group with members, which comes from outside.
pub(crate) fn check_group_id(group_id: &str) -> Result<(), GroupError> {
    check_group_id_length(group_id, 1)
}

/// Checks a group id where it may be empty: old consumers without a group commit under that.
pub(crate) fn check_any_group_id(group_id: &str) -> Result<(), GroupError> {
    check_group_id_length(group_id, 0)
}

fn check_group_id_length(group_id: &str, min: usize) -> Result<(), GroupError> {
    if (min..=TEXT_BYTES_MAX).contains(&group_id.len()) {
        Ok(())
    } else {
        Err(GroupError::InvalidGroupId {
            length: group_id.len(),
            max: TEXT_BYTES_MAX,
        })
    }
}
