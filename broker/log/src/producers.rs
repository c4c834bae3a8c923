//! What the log knows of idempotent and transactional producers: Kafka's rules for sequences,
//! epochs and markers.
//!
//! For each producer id: its epoch, its last five batches, its open transaction. Appends are staged:
//! [`Producers::check`] and [`Producers::apply`] work as if the batch were in the log, and
//! [`Producers::roll_back`] forgets what was applied since the last [`Producers::commit`], for when
//! the write fails. State follows from the log alone; a snapshot saves reading it from the start.

use std::collections::{BTreeMap, VecDeque};

use conveyor_record::{BatchMeta, ControlRecord, ControlType, Offset, ProducerEpoch, ProducerId};

use crate::error::AppendError;
use crate::partition::TopicPartition;

pub(crate) mod snapshot;

/// Batches that are remembered for each producer, as many as a Kafka producer may have in flight.
pub(crate) const BATCHES_KEPT: usize = 5;
/// Producers that one log remembers: about 20 MiB of them. Ids are free for the asking, so without a
/// bound a client could fill the memory.
pub(crate) const PRODUCERS_MAX: usize = 1 << 16;
/// How many are forgotten at once, so that looking for the oldest is rare.
const PRODUCERS_FORGOTTEN: usize = PRODUCERS_MAX / 8;

/// One batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) timestamp_ms: i64,
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Oldest first, at most [`BATCHES_KEPT`].
    pub(crate) batches: VecDeque<ProducerBatch>,
    pub(crate) coordinator_epoch: i32,
    /// First offset of the open transaction.
    pub(crate) transaction_start: Option<Offset>,
    /// When it was last heard of, by the broker's clock: event times may lie years back.
    pub(crate) last_seen_ms: i64,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            coordinator_epoch: -1,
            transaction_start: None,
            last_seen_ms: -1,
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }

    fn remember(&mut self, batch: ProducerBatch) {
        if self.batches.len() == BATCHES_KEPT {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }

    /// A new incarnation starts with sequence 0 and knows nothing of the batches of the old one.
    fn raise_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// What a transaction marker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompletedTransaction {
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
    /// Offset of the marker.
    pub(crate) marker_offset: Offset,
    pub(crate) aborted: bool,
}

/// What a batch did to the transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionEvent {
    Began {
        producer_id: ProducerId,
        first_offset: Offset,
    },
    Completed(CompletedTransaction),
}

/// A producer as the log remembers it, for those who look for what hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its newest incarnation here.
    pub epoch: ProducerEpoch,
    /// The last sequence of its last batch, or -1.
    pub last_sequence: i32,
    /// When it was last heard of by the broker's clock, in ms since the epoch, or -1.
    pub last_seen_ms: i64,
    /// The term of the transaction coordinator that wrote its last marker, or -1.
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// All producers of one log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    /// Producers as they were before the staged appends, oldest first.
    undo: Vec<(ProducerId, Option<Producer>)>,
}

/// Whether a batch belongs into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is there already.
    Duplicate(ProducerBatch),
}

impl Producers {
    /// Kafka's checks of a batch from a producer.
    pub(crate) fn check(
        &self,
        partition: &TopicPartition,
        meta: &BatchMeta,
        control: Option<ControlRecord>,
    ) -> Result<Verdict, AppendError> {
        if !meta.has_producer_id() {
            return Ok(Verdict::Append);
        }
        let Some(producer) = self.by_id.get(&meta.producer_id) else {
            // Unknown, perhaps because it was forgotten: any sequence will do.
            return Ok(Verdict::Append);
        };
        if meta.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                partition: partition.clone(),
                producer_id: meta.producer_id,
                found: meta.producer_epoch,
                current: producer.epoch,
            });
        }
        if meta.is_control {
            return check_marker(partition, meta, producer, control);
        }
        if meta.base_sequence < 0 {
            // A coordinator wrote it for the producer; it stands outside the producer's sequences.
            return Ok(Verdict::Append);
        }
        if meta.producer_epoch == producer.epoch
            && let Some(batch) = producer.batches.iter().find(|batch| {
                batch.first_sequence == meta.base_sequence
                    && batch.last_sequence == meta.last_sequence()
            })
        {
            return Ok(Verdict::Duplicate(*batch));
        }
        let expected = if meta.producer_epoch == producer.epoch {
            next_sequence(producer.last_sequence())
        } else {
            0
        };
        if meta.base_sequence != expected {
            return Err(AppendError::OutOfOrderSequence {
                partition: partition.clone(),
                producer_id: meta.producer_id,
                found: meta.base_sequence,
                expected,
            });
        }
        if !meta.is_transactional && producer.transaction_start.is_some() {
            return Err(AppendError::InvalidTransactionState {
                partition: partition.clone(),
                producer_id: meta.producer_id,
            });
        }
        Ok(Verdict::Append)
    }

    /// Takes a batch into account that is in the log, or is being written to it, at the offsets that
    /// `meta` gives.
    pub(crate) fn apply(
        &mut self,
        meta: &BatchMeta,
        control: Option<ControlRecord>,
        now_ms: i64,
    ) -> Option<TransactionEvent> {
        if !meta.has_producer_id() {
            return None;
        }
        let before = self.by_id.get(&meta.producer_id).cloned();
        self.undo.push((meta.producer_id, before));
        let producer = self
            .by_id
            .entry(meta.producer_id)
            .or_insert_with(|| Producer::new(meta.producer_epoch));
        producer.raise_epoch(meta.producer_epoch);
        producer.last_seen_ms = producer.last_seen_ms.max(now_ms);
        if meta.is_control {
            // A marker that compaction has emptied began nothing and ends nothing.
            return producer.apply_marker(meta, control?);
        }
        if meta.base_sequence < 0 {
            return producer.begin_transaction(meta);
        }
        producer.remember(ProducerBatch {
            first_sequence: meta.base_sequence,
            last_sequence: meta.last_sequence(),
            base_offset: meta.base_offset,
            last_offset: meta.last_offset(),
            timestamp_ms: meta.max_timestamp_ms,
        });
        producer.begin_transaction(meta)
    }

    /// What was applied is in the log.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
        if self.by_id.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets the producers that were silent longest and have nothing open. A retry of theirs would
    /// be taken for new, as after their expiry.
    fn forget_oldest(&mut self) {
        let idle = self
            .by_id
            .iter()
            .filter(|(_, producer)| producer.transaction_start.is_none());
        let mut idle: Vec<(i64, ProducerId)> = idle
            .map(|(id, producer)| (producer.last_seen_ms, *id))
            .collect();
        let count = idle.len().min(PRODUCERS_FORGOTTEN);
        if count < idle.len() {
            idle.select_nth_unstable(count);
        }
        for (_, id) in &idle[..count] {
            self.by_id.remove(id);
        }
    }

    /// What was applied since the last commit is not in the log.
    pub(crate) fn roll_back(&mut self) {
        for (id, before) in std::mem::take(&mut self.undo).into_iter().rev() {
            match before {
                Some(producer) => self.by_id.insert(id, producer),
                None => self.by_id.remove(&id),
            };
        }
    }

    /// Forgets producers that have been silent for `expiration_ms` and have nothing open.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction_start.is_some()
                || now_ms.saturating_sub(producer.last_seen_ms) < expiration_ms
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ProducerId, &Producer)> {
        self.by_id.iter()
    }

    /// All producers, by id.
    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let producers = self.by_id.iter();
        producers
            .map(|(id, producer)| ActiveProducer {
                id: *id,
                epoch: producer.epoch,
                last_sequence: producer.last_sequence(),
                last_seen_ms: producer.last_seen_ms,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: producer.transaction_start,
            })
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.by_id.get(&id)
    }

    pub(crate) fn insert(&mut self, id: ProducerId, producer: Producer) {
        self.by_id.insert(id, producer);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl Producer {
    /// The first batch of a transaction opens it.
    fn begin_transaction(&mut self, meta: &BatchMeta) -> Option<TransactionEvent> {
        if !meta.is_transactional || self.transaction_start.is_some() {
            return None;
        }
        self.transaction_start = Some(meta.base_offset);
        Some(TransactionEvent::Began {
            producer_id: meta.producer_id,
            first_offset: meta.base_offset,
        })
    }

    fn apply_marker(
        &mut self,
        meta: &BatchMeta,
        control: ControlRecord,
    ) -> Option<TransactionEvent> {
        let aborted = match control.control_type {
            ControlType::Abort => true,
            ControlType::Commit => false,
            ControlType::Other(_) => return None,
        };
        self.coordinator_epoch = self.coordinator_epoch.max(control.coordinator_epoch);
        let first_offset = self.transaction_start.take()?;
        Some(TransactionEvent::Completed(CompletedTransaction {
            producer_id: meta.producer_id,
            first_offset,
            marker_offset: meta.last_offset(),
            aborted,
        }))
    }
}

fn check_marker(
    partition: &TopicPartition,
    meta: &BatchMeta,
    producer: &Producer,
    control: Option<ControlRecord>,
) -> Result<Verdict, AppendError> {
    match control {
        Some(control)
            if !matches!(control.control_type, ControlType::Other(_))
                && control.coordinator_epoch < producer.coordinator_epoch =>
        {
            Err(AppendError::FencedCoordinator {
                partition: partition.clone(),
                producer_id: meta.producer_id,
                found: control.coordinator_epoch,
                current: producer.coordinator_epoch,
            })
        }
        _ => Ok(Verdict::Append),
    }
}

/// The sequence that follows; 0 follows 2^31 − 1.
const fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

#[cfg(test)]
mod tests;
