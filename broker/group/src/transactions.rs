//! Offsets that transactions commit: pending until the marker of their producer's transaction.
//!
//! A producer's offsets lie in the log in batches of its transaction, before anybody knows how it
//! ends. They are kept aside until a marker says so: committed ones then count, aborted ones never
//! did. **Which of two offsets of a partition holds is told by their places in the log**, not by when
//! they came to count: a plain commit that was written after a transaction's offset stays in force
//! when the transaction is committed later. Compaction keeps the last record of a key and so would
//! decide the same; with any other rule a restart could give other offsets than there were.
//!
//! The newest epoch of each producer is remembered, so that what the log would refuse is refused
//! before it is written.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{ProducerEpoch, ProducerId};

use crate::coordinator::check_group_id;
use crate::offsets::{OffsetResult, OffsetToCommit, check_offset_count};
use crate::{ClusterView, CommittedOffset, GroupCoordinator, GroupError, Record, Transition};

/// Producers whose epochs are remembered; beyond it those with nothing pending are forgotten, and
/// it is the log again that refuses an old epoch.
const FENCES_MAX: usize = 1 << 16;

/// Whose transaction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionProducer {
    /// The producer.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
}

/// A request to commit offsets with a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionalCommit {
    /// The group.
    pub group_id: String,
    /// The producer.
    pub producer: TransactionProducer,
    /// The member whose offsets they are; empty where the producer does not say.
    pub member_id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    /// Its generation or member epoch; -1 where the producer does not say.
    pub generation: i32,
    /// The offsets, in order.
    pub offsets: Vec<OffsetToCommit>,
}

/// A committed offset and the place of its record among all that were replayed. Two are equal when
/// they say the same; places are not kept over a restart, only their order.
#[derive(Clone, Debug)]
pub(crate) struct OrderedOffset {
    order: u64,
    pub(crate) committed: CommittedOffset,
}

impl OrderedOffset {
    pub(crate) fn new(order: u64, committed: &CommittedOffset) -> Self {
        Self {
            order,
            committed: committed.clone(),
        }
    }
}

impl PartialEq for OrderedOffset {
    fn eq(&self, other: &Self) -> bool {
        self.committed == other.committed
    }
}

impl Eq for OrderedOffset {}

type Place = (String, i32);
type Offsets = BTreeMap<Place, OrderedOffset>;

/// The newest epochs seen of a producer.
#[derive(Clone, Copy, Debug)]
struct Fence {
    producer_epoch: ProducerEpoch,
    /// Of the transaction coordinator.
    coordinator_epoch: i32,
}

/// The offsets of open transactions.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingOffsets {
    /// By group, producer and place. None of the inner ones is empty.
    by_group: BTreeMap<String, BTreeMap<ProducerId, Offsets>>,
    /// The groups that a producer has offsets of.
    groups: BTreeMap<ProducerId, BTreeSet<String>>,
    fences: BTreeMap<ProducerId, Fence>,
    last_order: u64,
}

impl PartialEq for PendingOffsets {
    fn eq(&self, other: &Self) -> bool {
        self.by_group == other.by_group
    }
}

impl PendingOffsets {
    /// The place of the next record.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    /// Whether an open transaction may change an offset.
    pub(crate) fn is_pending(&self, group_id: &str, topic: &str, partition: i32) -> bool {
        let Some(producers) = self.by_group.get(group_id) else {
            return false;
        };
        let place = (topic.to_owned(), partition);
        producers
            .values()
            .any(|offsets| offsets.contains_key(&place))
    }

    /// Every place of a group that an open transaction may change.
    pub(crate) fn places(&self, group_id: &str) -> BTreeSet<&Place> {
        let producers = self.by_group.get(group_id).into_iter();
        producers
            .flat_map(BTreeMap::values)
            .flat_map(BTreeMap::keys)
            .collect()
    }

    /// Every group with offsets of open transactions.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.by_group.keys().map(String::as_str)
    }

    fn add(&mut self, producer: ProducerId, group_id: &str, place: Place, offset: OrderedOffset) {
        let producers = self.by_group.entry(group_id.to_owned()).or_default();
        let offsets = producers.entry(producer).or_default();
        offsets.insert(place, offset);
        let groups = self.groups.entry(producer).or_default();
        groups.insert(group_id.to_owned());
    }

    /// An offset was deleted, and with it what open transactions would make of it.
    pub(crate) fn forget(&mut self, group_id: &str, topic: &str, partition: i32) {
        let Some(producers) = self.by_group.get_mut(group_id) else {
            return;
        };
        let place = (topic.to_owned(), partition);
        producers.retain(|producer, offsets| {
            offsets.remove(&place);
            if offsets.is_empty()
                && let Some(groups) = self.groups.get_mut(producer)
            {
                groups.remove(group_id);
            }
            !offsets.is_empty()
        });
        if producers.is_empty() {
            self.by_group.remove(group_id);
        }
        self.groups.retain(|_, groups| !groups.is_empty());
    }

    /// Takes out what a producer's transaction has committed.
    fn take(&mut self, producer: ProducerId) -> Vec<(String, Offsets)> {
        let mut taken = Vec::new();
        for group_id in self.groups.remove(&producer).unwrap_or_default() {
            let Some(producers) = self.by_group.get_mut(&group_id) else {
                continue;
            };
            let offsets = producers.remove(&producer).unwrap_or_default();
            if producers.is_empty() {
                self.by_group.remove(&group_id);
            }
            taken.push((group_id, offsets));
        }
        taken
    }

    fn saw(&mut self, producer: TransactionProducer, coordinator_epoch: i32) {
        let fence = self.fences.entry(producer.id).or_insert(Fence {
            producer_epoch: producer.epoch,
            coordinator_epoch,
        });
        fence.producer_epoch = fence.producer_epoch.max(producer.epoch);
        fence.coordinator_epoch = fence.coordinator_epoch.max(coordinator_epoch);
        if self.fences.len() > FENCES_MAX {
            let groups = &self.groups;
            self.fences.retain(|id, _| groups.contains_key(id));
        }
    }

    fn check_epoch(&self, producer: TransactionProducer) -> Result<(), GroupError> {
        match self.fences.get(&producer.id) {
            Some(fence) if producer.epoch < fence.producer_epoch => {
                Err(GroupError::InvalidProducerEpoch {
                    producer_id: producer.id.value(),
                    received: producer.epoch.value(),
                    expected: fence.producer_epoch.value(),
                })
            }
            _ => Ok(()),
        }
    }
}

impl GroupCoordinator {
    /// Commits offsets with a producer's transaction: they count once its marker says so. The records
    /// are to be written in a batch of the transaction and replayed by
    /// [`Self::replay_transactional`].
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH`, `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION` for
    /// the whole request; `UNKNOWN_TOPIC_OR_PARTITION`, `OFFSET_METADATA_TOO_LARGE`,
    /// `INVALID_REQUEST` for one partition.
    pub fn commit_transactional(
        &self,
        now_ms: i64,
        request: &TransactionalCommit,
        cluster: &impl ClusterView,
    ) -> Result<Transition<Vec<OffsetResult>>, GroupError> {
        check_group_id(&request.group_id)?;
        check_offset_count(request.offsets.len())?;
        self.pending.check_epoch(request.producer)?;
        let committer = self.transactional_committer(request)?;
        let (group_id, offsets) = (&request.group_id, &request.offsets);
        self.take_offsets(now_ms, group_id, offsets, &committer, cluster)
    }

    /// Whether the marker that ends a producer's transaction may be written; see
    /// [`Self::replay_marker`].
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH`; `TRANSACTION_COORDINATOR_FENCED` for a marker of an earlier
    /// transaction coordinator.
    pub fn check_marker(
        &self,
        producer: TransactionProducer,
        coordinator_epoch: i32,
    ) -> Result<(), GroupError> {
        self.pending.check_epoch(producer)?;
        match self.pending.fences.get(&producer.id) {
            Some(fence) if coordinator_epoch < fence.coordinator_epoch => {
                Err(GroupError::TransactionCoordinatorFenced {
                    producer_id: producer.id.value(),
                    received: coordinator_epoch,
                    expected: fence.coordinator_epoch,
                })
            }
            _ => Ok(()),
        }
    }

    /// Applies a record of a producer's transaction.
    pub fn replay_transactional(
        &mut self,
        producer: TransactionProducer,
        record: &Record,
        timestamp_ms: i64,
    ) {
        self.pending.saw(producer, -1);
        match record {
            Record::OffsetCommit {
                group_id,
                topic,
                partition,
                value: Some(value),
            } => {
                let offset = OrderedOffset::new(self.pending.next_order(), value);
                let place = (topic.clone(), *partition);
                self.pending.add(producer.id, group_id, place, offset);
            }
            // Transactions commit offsets and nothing else.
            other => self.replay(other, timestamp_ms),
        }
    }

    /// Applies the marker that ends a producer's transaction.
    pub fn replay_marker(
        &mut self,
        producer: TransactionProducer,
        coordinator_epoch: i32,
        is_commit: bool,
    ) {
        self.pending.saw(producer, coordinator_epoch);
        let ended = self.pending.take(producer.id);
        if !is_commit {
            return;
        }
        for (group_id, offsets) in ended {
            let group = self.groups.entry(group_id).or_default();
            for ((topic, partition), offset) in offsets {
                let partitions = group.offsets.entry(topic).or_default();
                let holds = partitions
                    .get(&partition)
                    .is_none_or(|present| present.order < offset.order);
                if holds {
                    partitions.insert(partition, offset);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;
