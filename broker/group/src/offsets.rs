//! Committed offsets: commit, fetch, delete, expire.

use std::collections::BTreeSet;

use conveyor_record::{LeaderEpoch, Offset};
use uuid::Uuid;

use crate::admin::{check_empty, membership_tombstones};
use crate::classic::group::ClassicGroup;
use crate::classic::{ClassicState, Effects};
use crate::committer::{Committer, unknown_member, wrong_epoch};
use crate::coordinator::{TEXT_BYTES_MAX, check_any_group_id, check_group_id};
use crate::group::Group;
use crate::timers::Timer;
use crate::{ClusterView, GroupCoordinator, GroupError, Record, Transition};

/// The most tombstones that one look for expired offsets writes.
const EXPIRED_RECORDS_MAX: usize = 1_000;
/// Offsets in one request. Each becomes a record of a few hundred bytes at most but for its metadata,
/// all go into one batch, and a batch has to fit a segment.
const OFFSETS_MAX: usize = 100_000;

/// Refuses requests whose records no batch should hold.
pub(crate) fn check_offset_count(count: usize) -> Result<(), GroupError> {
    if count <= OFFSETS_MAX {
        return Ok(());
    }
    Err(GroupError::TooManyOffsets {
        count,
        max: OFFSETS_MAX,
    })
}

/// An offset that a group has committed, kept exactly as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: Offset,
    /// The leader epoch of the last record read; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
    /// Any text.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
}

/// A request to commit offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// The group.
    pub group_id: String,
    /// The member; empty for commits from outside, which need a group without members.
    pub member_id: String,
    /// Its instance id, for static members of a classic group that tell it.
    pub instance_id: Option<String>,
    /// Its epoch, or generation in a classic group; -1 for commits from outside.
    pub member_epoch: i32,
    /// The offsets, in order.
    pub offsets: Vec<OffsetToCommit>,
}

/// One offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next record to read, from 0.
    pub offset: Offset,
    /// The leader epoch of the last record read; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
    /// Any text, up to `offset.metadata.max.bytes`.
    pub metadata: String,
}

/// What became of one partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetResult {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The outcome.
    pub result: Result<(), GroupError>,
}

/// A request to read committed offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOffsetsRequest {
    /// The group.
    pub group_id: String,
    /// The member; empty for readers from outside.
    pub member_id: String,
    /// Its epoch; -1 for readers from outside.
    pub member_epoch: i32,
    /// Whether offsets that an open transaction may change are refused.
    pub require_stable: bool,
    /// Topics and partitions; `None` for all that have an offset.
    pub partitions: Option<Vec<(String, i32)>>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset; `None` when nothing is committed. `UNSTABLE_OFFSET_COMMIT` when the reader wants
    /// stable ones and an open transaction may change it.
    pub committed: Result<Option<CommittedOffset>, GroupError>,
}

/// A request to forget offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group_id: String,
    /// Topics and partitions.
    pub partitions: Vec<(String, i32)>,
}

impl GroupCoordinator {
    /// Commits offsets for a member in its epoch or generation, or from outside for a group without
    /// members. A member by the consumer protocol may name an older epoch, for partitions that it has
    /// held since.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `STALE_MEMBER_EPOCH`, `GROUP_ID_NOT_FOUND` for the whole request, in
    /// classic groups `ILLEGAL_GENERATION`, `FENCED_INSTANCE_ID`, `REBALANCE_IN_PROGRESS`;
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `OFFSET_METADATA_TOO_LARGE`, `INVALID_REQUEST` for one partition.
    pub fn commit_offsets(
        &mut self,
        now_ms: i64,
        request: &CommitRequest,
        cluster: &impl ClusterView,
    ) -> Result<Transition<Vec<OffsetResult>>, GroupError> {
        check_any_group_id(&request.group_id)?;
        check_offset_count(request.offsets.len())?;
        let (group_id, offsets) = (&request.group_id, &request.offsets);
        let committer = self.committer(request)?;
        let transition = self.take_offsets(now_ms, group_id, offsets, &committer, cluster)?;
        self.heard_of_committer(now_ms, request);
        Ok(transition)
    }

    /// The records of offsets that make sense, and what became of each offset.
    ///
    /// # Errors
    /// The committer may not commit for a partition: nothing of the request is taken then.
    pub(crate) fn take_offsets(
        &self,
        now_ms: i64,
        group_id: &str,
        offsets: &[OffsetToCommit],
        committer: &Committer<'_>,
        cluster: &impl ClusterView,
    ) -> Result<Transition<Vec<OffsetResult>>, GroupError> {
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let result = self.check_offset(group_id, offset, cluster);
            if let Ok(topic) = result {
                committer.check(topic, offset.partition)?;
                records.push(offset_record(group_id, offset, now_ms));
            }
            results.push(OffsetResult {
                topic: offset.topic.clone(),
                partition: offset.partition,
                result: result.map(drop),
            });
        }
        Ok(Transition::new(records, results))
    }

    /// A commit is a sign of life of a classic member.
    fn heard_of_committer(&mut self, now_ms: i64, request: &CommitRequest) {
        let mut effects = Effects::default();
        if let Some(mut rebalance) = self.rebalance(now_ms, &request.group_id, &mut effects) {
            rebalance.restart_session(&request.member_id);
        }
    }

    /// Reads committed offsets. A group that does not exist has none.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` and `STALE_MEMBER_EPOCH`, when the reader says that it is a member.
    pub fn fetch_offsets(
        &self,
        request: &FetchOffsetsRequest,
    ) -> Result<Vec<FetchedOffset>, GroupError> {
        check_any_group_id(&request.group_id)?;
        let group = self.groups.get(&request.group_id);
        let is_member = !request.member_id.is_empty() || request.member_epoch >= 0;
        // Members of classic groups do not show who they are.
        if is_member && !self.is_classic(&request.group_id) {
            check_member(
                group,
                &request.group_id,
                &request.member_id,
                request.member_epoch,
            )?;
        }
        let committed = |topic: &str, partition| {
            if request.require_stable
                && self.pending.is_pending(&request.group_id, topic, partition)
            {
                return Err(GroupError::UnstableOffsetCommit {
                    group_id: request.group_id.clone(),
                });
            }
            let found = group.and_then(|group| group.offsets.get(topic)?.get(&partition));
            Ok(found.map(|offset| offset.committed.clone()))
        };
        if let Some(partitions) = &request.partitions {
            let fetched = partitions.iter().map(|(topic, partition)| FetchedOffset {
                topic: topic.clone(),
                partition: *partition,
                committed: committed(topic, *partition),
            });
            return Ok(fetched.collect());
        }
        let offsets = group.into_iter().flat_map(|group| &group.offsets);
        let mut places: BTreeSet<(&str, i32)> = offsets
            .flat_map(|(topic, offsets)| offsets.keys().map(|p| (topic.as_str(), *p)))
            .collect();
        if request.require_stable {
            let pending = self.pending.places(&request.group_id).into_iter();
            places.extend(pending.map(|(topic, partition)| (topic.as_str(), *partition)));
        }
        let fetched = places.into_iter().map(|(topic, partition)| FetchedOffset {
            topic: topic.to_owned(),
            partition,
            committed: committed(topic, partition),
        });
        Ok(fetched.collect())
    }

    /// Forgets offsets of topics that no member subscribes to. Those that are not there count as
    /// forgotten.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND` for the whole request, `NON_EMPTY_GROUP` for classic groups whose members
    /// are no consumers, `GROUP_SUBSCRIBED_TO_TOPIC` for one partition.
    pub fn delete_offsets(
        &self,
        request: &DeleteOffsetsRequest,
    ) -> Result<Transition<Vec<OffsetResult>>, GroupError> {
        check_group_id(&request.group_id)?;
        self.check_exists(&request.group_id)?;
        let nothing = Group::default();
        let group = self.groups.get(&request.group_id).unwrap_or(&nothing);
        let classic = self.classic.get(&request.group_id);
        if let Some(classic) = classic
            && !classic.is_of_consumers()
        {
            check_empty(&request.group_id, classic)?;
        }
        let subscribes = |topic: &str| {
            group.subscribes_to(topic)
                || classic.is_some_and(|classic| {
                    classic.state != ClassicState::Empty && classic.subscribes_to(topic)
                })
        };
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(request.partitions.len());
        for (topic, partition) in &request.partitions {
            let result = if subscribes(topic) {
                Err(GroupError::GroupSubscribedToTopic {
                    group_id: request.group_id.clone(),
                    topic: topic.clone(),
                })
            } else {
                Ok(())
            };
            let is_there = group
                .offsets
                .get(topic)
                .is_some_and(|o| o.contains_key(partition))
                || self
                    .pending
                    .is_pending(&request.group_id, topic, *partition);
            if result.is_ok() && is_there {
                records.push(offset_tombstone(&request.group_id, topic, *partition));
            }
            results.push(OffsetResult {
                topic: topic.clone(),
                partition: *partition,
                result,
            });
        }
        Ok(Transition::new(records, results))
    }

    /// Forgets all offsets of topics that have been deleted, so that a topic created again under
    /// the name starts afresh.
    pub fn forget_topics(&self, is_deleted: impl Fn(&str) -> bool) -> Transition<()> {
        let mut records = Vec::new();
        for (group_id, group) in &self.groups {
            for (topic, offsets) in group.offsets.iter().filter(|(topic, _)| is_deleted(topic)) {
                records.extend(
                    offsets
                        .keys()
                        .map(|p| offset_tombstone(group_id, topic, *p)),
                );
            }
        }
        for group_id in self.pending.groups() {
            let places = self.pending.places(group_id).into_iter();
            for (topic, partition) in places.filter(|(topic, _)| is_deleted(topic)) {
                records.push(offset_tombstone(group_id, topic, *partition));
            }
        }
        Transition::new(records, ())
    }

    /// Whether an offset makes sense; the id of its topic.
    fn check_offset(
        &self,
        group_id: &str,
        offset: &OffsetToCommit,
        cluster: &impl ClusterView,
    ) -> Result<Uuid, GroupError> {
        let topic = cluster
            .topic(&offset.topic)
            .filter(|topic| (0..topic.partitions).contains(&offset.partition))
            .ok_or_else(|| GroupError::UnknownTopicOrPartition {
                topic: offset.topic.clone(),
                partition: offset.partition,
            })?;
        let max = self.config.offset_metadata_max_bytes.min(TEXT_BYTES_MAX);
        if offset.metadata.len() > max {
            return Err(GroupError::OffsetMetadataTooLarge {
                topic: offset.topic.clone(),
                partition: offset.partition,
                size: offset.metadata.len(),
                max,
            });
        }
        if !offset.offset.is_some() {
            return Err(GroupError::InvalidRequest {
                group_id: group_id.to_owned(),
                reason: format!(
                    "offset {} of `{}` partition {} is negative",
                    offset.offset, offset.topic, offset.partition
                ),
            });
        }
        Ok(topic.id)
    }

    /// The tombstones of offsets that nobody needs any more and of groups without offsets and
    /// members; sets the timer for the next look.
    ///
    /// An offset is needed while a member subscribes to its topic, and for the retention time after
    /// that: counted from its commit, and for a group without members from when it lost the last.
    pub(crate) fn expire_offsets(&mut self, now_ms: i64) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for (group_id, group) in &self.groups {
            if records.len() >= EXPIRED_RECORDS_MAX {
                break;
            }
            self.expire_group(group_id, group, now_ms, &mut records);
        }
        if records.len() >= EXPIRED_RECORDS_MAX {
            self.timers.schedule(Timer::OffsetExpiry, now_ms);
        } else {
            self.schedule_offset_expiry(now_ms);
        }
        (!records.is_empty()).then_some(records)
    }

    fn expire_group(&self, group_id: &str, group: &Group, now_ms: i64, records: &mut Vec<Record>) {
        let deadline = now_ms.saturating_sub(self.config.offsets_retention_ms);
        let classic = self.classic.get(group_id);
        let is_empty = group.members.is_empty()
            && classic.is_none_or(|classic| classic.state == ClassicState::Empty);
        let empty_since = classic.map_or(group.epoch_timestamp_ms, |c| c.state_timestamp_ms);
        if is_empty && empty_since > deadline {
            return;
        }
        // While a classic group rebalances, and where nobody knows what its members want, all is kept.
        let is_settled = |classic: &ClassicGroup| {
            classic.state == ClassicState::Empty
                || (classic.state == ClassicState::Stable && classic.subscribed_topics.is_some())
        };
        if classic.is_some_and(|classic| !is_settled(classic)) {
            return;
        }
        let subscribes = |topic: &str| {
            group.subscribes_to(topic)
                || classic.is_some_and(|classic| !is_empty && classic.subscribes_to(topic))
        };
        let mut is_left = false;
        for (topic, offsets) in &group.offsets {
            if subscribes(topic) {
                is_left = true;
                continue;
            }
            for (partition, offset) in offsets {
                if offset.committed.commit_timestamp_ms > deadline
                    || records.len() >= EXPIRED_RECORDS_MAX
                    || self.pending.is_pending(group_id, topic, *partition)
                {
                    is_left = true;
                } else {
                    records.push(offset_tombstone(group_id, topic, *partition));
                }
            }
        }
        if is_empty && !is_left {
            records.extend(membership_tombstones(group_id, group));
        }
    }

    pub(crate) fn schedule_offset_expiry(&mut self, now_ms: i64) {
        let deadline = now_ms + self.config.offsets_retention_check_interval_ms;
        self.timers.schedule(Timer::OffsetExpiry, deadline);
    }
}

fn check_member(
    group: Option<&Group>,
    group_id: &str,
    member_id: &str,
    member_epoch: i32,
) -> Result<(), GroupError> {
    let unknown = || unknown_member(group_id, member_id);
    let group = group.ok_or_else(unknown)?;
    let member = group.members.get(member_id).ok_or_else(unknown)?;
    let expected = member.current.epoch;
    if expected == member_epoch {
        return Ok(());
    }
    Err(wrong_epoch(
        group,
        group_id,
        member_id,
        member_epoch,
        expected,
    ))
}

/// The record of an offset.
fn offset_record(group_id: &str, offset: &OffsetToCommit, now_ms: i64) -> Record {
    Record::OffsetCommit {
        group_id: group_id.to_owned(),
        topic: offset.topic.clone(),
        partition: offset.partition,
        value: Some(CommittedOffset {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
            commit_timestamp_ms: now_ms,
        }),
    }
}

fn offset_tombstone(group_id: &str, topic: &str, partition: i32) -> Record {
    Record::OffsetCommit {
        group_id: group_id.to_owned(),
        topic: topic.to_owned(),
        partition,
        value: None,
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
