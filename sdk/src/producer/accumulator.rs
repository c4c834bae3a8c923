//! Where records wait for their batch: one queue of batches a partition, shared by all callers of
//! `send` and the sender task.
//!
//! Callers encode their record straight into the open batch of its partition under one short lock;
//! the sender takes batches out when they are due and there is room for them. Memory is counted in
//! permits that a caller takes before it appends and that come back when the batch is settled, so a
//! slow cluster makes callers wait and nothing grows without bound.
//!
//! Knows nothing of sequences, nodes or networks. Invariant: every batch that was ever opened is in
//! `incomplete` until it is settled.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conveyor_record::{BatchBuilder, BatchOptions, NewRecord};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::sync::{Notify, Semaphore};

use super::config::ProducerConfig;
use super::delivery::{BatchOutcome, Completion, DeliveryFuture};
use super::partitioner::partition_for_key;
use super::record::ProducerRecord;
use super::sequencer::BatchId;
use crate::error::{Error, Result};

/// Index of a queue; stable for the life of the producer.
pub(crate) type QueueId = usize;

/// Topics that `try_send` may have asked for and that are not known yet.
const WANTED_TOPICS_MAX: usize = 1_000;

/// Records waiting for the sender.
#[derive(Debug)]
pub(crate) struct Accumulator {
    config: Arc<ProducerConfig>,
    inner: Mutex<Inner>,
    /// Permits are bytes.
    memory: Semaphore,
    /// Callers that wait for memory; while there are any, batches do not linger.
    starving: AtomicUsize,
    /// Wakes the sender.
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    topics: HashMap<Arc<str>, Topic>,
    queues: Vec<Queue>,
    /// Queues that changed since the sender last looked.
    changed: Vec<QueueId>,
    wanted_topics: BTreeSet<Arc<str>>,
    next_batch: BatchId,
    /// Batches below this one do not linger (flush).
    hurry_below: BatchId,
    incomplete: BTreeMap<BatchId, Arc<Completion>>,
    is_closing: bool,
    is_aborted: bool,
}

#[derive(Debug)]
struct Topic {
    queues: Vec<QueueId>,
    /// Partitions with a leader; where records without a key go.
    available: Vec<i32>,
    sticky: i32,
}

#[derive(Debug)]
struct Queue {
    topic: Arc<str>,
    partition: i32,
    batches: VecDeque<OpenBatch>,
    is_changed: bool,
}

/// A batch that has no sequence yet.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) id: BatchId,
    pub(crate) builder: BatchBuilder,
    pub(crate) opened: Instant,
    pub(crate) completion: Arc<Completion>,
    /// Memory permits its records hold.
    pub(crate) memory: usize,
}

/// What [`Accumulator::take`] found.
#[derive(Debug)]
pub(crate) enum Take {
    Batch(OpenBatch),
    /// The open batch may wait until then.
    LingersUntil(Instant),
    Empty,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The topic has not been registered.
    UnknownTopic,
    /// The topic has fewer partitions, as far as is known.
    UnknownPartition {
        partition: i32,
        count: usize,
    },
    Failed(Error),
}

impl Accumulator {
    pub(crate) fn new(config: Arc<ProducerConfig>) -> Self {
        let inner = Inner {
            topics: HashMap::new(),
            queues: Vec::new(),
            changed: Vec::new(),
            wanted_topics: BTreeSet::new(),
            next_batch: 1,
            hurry_below: 0,
            incomplete: BTreeMap::new(),
            is_closing: false,
            is_aborted: false,
        };
        Self {
            memory: Semaphore::new(config.buffer_memory),
            config,
            inner: Mutex::new(inner),
            starving: AtomicUsize::new(0),
            wake: Notify::new(),
        }
    }

    // What callers of `send` use.

    /// Takes memory for a record if there is some.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation<'_>> {
        let permits = u32::try_from(bytes).ok()?;
        self.memory.try_acquire_many(permits).ok()?.forget();
        Some(Reservation {
            accumulator: self,
            bytes,
        })
    }

    /// Waits for memory for a record. Waiters are served in order; while there are any, batches do
    /// not linger.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation<'_>> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _starving = Starving::new(&self.starving);
        self.hurry();
        match self.memory.acquire_many(permits).await {
            Ok(permit) => {
                permit.forget();
                Ok(Reservation {
                    accumulator: self,
                    bytes,
                })
            }
            Err(_) => Err(closed()),
        }
    }

    /// Appends a record to the open batch of its partition. The reservation passes to the batch.
    pub(crate) fn append(
        &self,
        record: &ProducerRecord,
        timestamp_ms: i64,
        reservation: Reservation<'_>,
    ) -> Result<DeliveryFuture, AppendError> {
        let mut inner = self.inner.lock();
        if inner.is_closing {
            return Err(AppendError::Failed(closed()));
        }
        let result = record.with_encodable(timestamp_ms, |encodable| {
            inner.append(&self.config, record, encodable)
        });
        let appended = result?;
        let queue = &mut inner.queues[appended.queue];
        let batch = queue.batches.back_mut().ok_or(AppendError::UnknownTopic)?;
        batch.memory += reservation.keep();
        let report =
            DeliveryFuture::new(Arc::clone(&batch.completion), appended.index, timestamp_ms);
        let is_due = batch.builder.size() >= self.config.batch_size || appended.is_new_batch;
        if is_due {
            inner.mark_changed(appended.queue);
            drop(inner);
            self.wake.notify_one();
        }
        Ok(report)
    }

    /// Makes a topic known, or its new partitions and leaders.
    pub(crate) fn register(&self, topic: &str, partition_count: usize, available: Vec<i32>) {
        self.inner
            .lock()
            .register(topic, partition_count, available);
    }

    /// Asks the sender to look a topic up.
    pub(crate) fn want_topic(&self, topic: &Arc<str>) {
        let mut inner = self.inner.lock();
        if inner.wanted_topics.len() < WANTED_TOPICS_MAX {
            inner.wanted_topics.insert(Arc::clone(topic));
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Makes all batches there are due, and returns what is incomplete.
    pub(crate) fn flush(&self) -> Vec<Arc<Completion>> {
        self.hurry();
        self.inner.lock().incomplete.values().cloned().collect()
    }

    /// Takes no more records and makes all batches due.
    pub(crate) fn close(&self) {
        self.inner.lock().is_closing = true;
        self.hurry();
    }

    /// Has the sender give up everything.
    pub(crate) fn abort(&self) {
        let mut inner = self.inner.lock();
        inner.is_closing = true;
        inner.is_aborted = true;
        drop(inner);
        self.wake.notify_one();
    }

    /// Bytes of memory in use.
    pub(crate) fn memory_used(&self) -> usize {
        self.config
            .buffer_memory
            .saturating_sub(self.memory.available_permits())
    }

    fn hurry(&self) {
        let mut inner = self.inner.lock();
        inner.hurry_below = inner.next_batch;
        for queue in 0..inner.queues.len() {
            if !inner.queues[queue].batches.is_empty() {
                inner.mark_changed(queue);
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    // What the sender uses.

    /// Resolves when there may be something to do.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Moves the queues that changed into `into`, and the topics wanted into `topics`.
    pub(crate) fn take_changed(
        &self,
        into: &mut BTreeSet<QueueId>,
        topics: &mut BTreeSet<Arc<str>>,
    ) {
        let mut inner = self.inner.lock();
        topics.append(&mut inner.wanted_topics);
        while let Some(queue) = inner.changed.pop() {
            inner.queues[queue].is_changed = false;
            into.insert(queue);
        }
    }

    /// The partition a queue is for.
    pub(crate) fn place(&self, queue: QueueId) -> (Arc<str>, i32) {
        let inner = self.inner.lock();
        let queue = &inner.queues[queue];
        (Arc::clone(&queue.topic), queue.partition)
    }

    /// Takes the oldest batch of a queue if it is due.
    pub(crate) fn take(&self, queue: QueueId, now: Instant) -> Take {
        let is_starved = self.starving.load(Ordering::Acquire) > 0;
        let mut inner = self.inner.lock();
        let is_hurried = is_starved || inner.is_closing;
        let hurry_below = inner.hurry_below;
        let batches = &mut inner.queues[queue].batches;
        let is_followed = batches.len() > 1;
        let Some(batch) = batches.front() else {
            return Take::Empty;
        };
        let due = batch.opened + Duration::from_millis(self.config.linger_ms);
        let is_due = is_followed
            || is_hurried
            || due <= now
            || batch.id < hurry_below
            || batch.builder.size() >= self.config.batch_size;
        if !is_due {
            return Take::LingersUntil(due);
        }
        batches.pop_front().map_or(Take::Empty, Take::Batch)
    }

    /// Takes the oldest batch of a queue if it was opened before `limit`.
    pub(crate) fn take_opened_before(&self, queue: QueueId, limit: Instant) -> Option<OpenBatch> {
        self.inner.lock().queues[queue]
            .batches
            .pop_front_if(|batch| batch.opened < limit)
    }

    /// Whether the producer is closing and everything is settled.
    pub(crate) fn is_finished(&self) -> bool {
        let inner = self.inner.lock();
        inner.is_closing && (inner.is_aborted || inner.incomplete.is_empty())
    }

    /// Tells the records of a batch what became of them and gives their memory back.
    pub(crate) fn settle(
        &self,
        batch: BatchId,
        completion: &Completion,
        memory: usize,
        outcome: BatchOutcome,
    ) {
        self.inner.lock().incomplete.remove(&batch);
        completion.complete(outcome);
        self.memory.add_permits(memory);
    }

    /// Fails whatever is left and everybody who waits for memory; nothing is taken afterwards.
    pub(crate) fn fail_all(&self, error: &Error) -> usize {
        let incomplete = {
            let mut inner = self.inner.lock();
            inner.is_closing = true;
            for queue in &mut inner.queues {
                queue.batches.clear();
            }
            std::mem::take(&mut inner.incomplete)
        };
        self.memory.close();
        for completion in incomplete.values() {
            completion.complete(BatchOutcome::failed(error.clone()));
        }
        incomplete.len()
    }
}

/// Memory taken for a record; comes back unless a batch keeps it.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    accumulator: &'a Accumulator,
    bytes: usize,
}

impl Reservation<'_> {
    fn keep(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.accumulator.memory.add_permits(self.bytes);
        }
    }
}

/// Counts a caller among those that wait for memory, also when it is cancelled.
struct Starving<'a>(&'a AtomicUsize);

impl<'a> Starving<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Appended {
    queue: QueueId,
    index: i32,
    is_new_batch: bool,
}

impl Inner {
    fn append(
        &mut self,
        config: &ProducerConfig,
        record: &ProducerRecord,
        encodable: &NewRecord<'_>,
    ) -> Result<Appended, AppendError> {
        let queue = self.choose_queue(config, record, encodable)?;
        let is_new_batch = !self.has_room(queue, encodable);
        if is_new_batch {
            self.open_batch(config, queue);
        }
        let queue_batches = &mut self.queues[queue].batches;
        let batch = queue_batches.back_mut().ok_or(AppendError::UnknownTopic)?;
        match batch.builder.append(encodable) {
            Ok(index) => Ok(Appended {
                queue,
                index,
                is_new_batch,
            }),
            Err(source) => {
                // A batch opened for a record that cannot be encoded must not be sent empty.
                if batch.builder.is_empty() {
                    let batch = batch.id;
                    queue_batches.pop_back();
                    self.incomplete.remove(&batch);
                }
                Err(AppendError::Failed(Error::Batch {
                    operation: "encode record for",
                    place: record.topic.to_string(),
                    source,
                }))
            }
        }
    }

    fn choose_queue(
        &mut self,
        config: &ProducerConfig,
        record: &ProducerRecord,
        encodable: &NewRecord<'_>,
    ) -> Result<QueueId, AppendError> {
        let topic = self
            .topics
            .get(&record.topic)
            .ok_or(AppendError::UnknownTopic)?;
        let count = topic.queues.len();
        let queue_of = |topic: &Topic, partition: i32| {
            let index = usize::try_from(partition).unwrap_or(usize::MAX);
            let queue = topic.queues.get(index).copied();
            queue.ok_or(AppendError::UnknownPartition { partition, count })
        };
        if let Some(partition) = record.partition {
            return queue_of(topic, partition);
        }
        let partition_count = count as i32;
        let custom = config.partitioner.as_ref();
        if let Some(partition) = custom.and_then(|own| own.partition(record, partition_count)) {
            return queue_of(topic, partition);
        }
        if let Some(key) = &record.key {
            return queue_of(topic, partition_for_key(key, partition_count));
        }
        let queue = queue_of(topic, topic.sticky)?;
        if self.has_room(queue, encodable) {
            return Ok(queue);
        }
        // The batch it stuck to is complete: go on elsewhere.
        let topic = self
            .topics
            .get_mut(&record.topic)
            .ok_or(AppendError::UnknownTopic)?;
        topic.move_on();
        queue_of(topic, topic.sticky)
    }

    fn has_room(&self, queue: QueueId, record: &NewRecord<'_>) -> bool {
        self.queues[queue]
            .batches
            .back()
            .is_some_and(|batch| batch.builder.has_room_for(record))
    }

    fn open_batch(&mut self, config: &ProducerConfig, queue: QueueId) {
        let id = self.next_batch;
        self.next_batch += 1;
        let queue = &mut self.queues[queue];
        let completion = Arc::new(Completion::new(Arc::clone(&queue.topic), queue.partition));
        self.incomplete.insert(id, Arc::clone(&completion));
        queue.batches.push_back(OpenBatch {
            id,
            builder: BatchBuilder::new(BatchOptions {
                codec: config.compression,
                level: config.compression_level,
                size_limit: config.batch_size,
                is_transactional: config.transactional_id.is_some(),
                ..BatchOptions::default()
            }),
            opened: Instant::now(),
            completion,
            memory: 0,
        });
    }

    fn register(&mut self, name: &str, partition_count: usize, available: Vec<i32>) {
        let name: Arc<str> = match self.topics.get_key_value(name) {
            Some((name, _)) => Arc::clone(name),
            None => name.into(),
        };
        let topic = self.topics.entry(Arc::clone(&name)).or_insert_with(|| {
            let sticky = available.first().copied().unwrap_or(0);
            Topic {
                queues: Vec::new(),
                available: Vec::new(),
                sticky,
            }
        });
        // Fewer partitions than before means another topic of this name: what was queued for the
        // others goes out and is refused by the broker.
        topic.queues.truncate(partition_count.max(1));
        for partition in topic.queues.len()..partition_count {
            topic.queues.push(self.queues.len());
            self.queues.push(Queue {
                topic: Arc::clone(&name),
                partition: partition as i32,
                batches: VecDeque::new(),
                is_changed: false,
            });
        }
        topic.available = available;
        if !topic.available.contains(&topic.sticky) {
            topic.move_on();
        }
    }

    fn mark_changed(&mut self, queue: QueueId) {
        if !self.queues[queue].is_changed {
            self.queues[queue].is_changed = true;
            self.changed.push(queue);
        }
    }
}

impl Topic {
    /// Sticks to another partition, one with a leader if there is any.
    fn move_on(&mut self) {
        let mut rng = rand::rng();
        let others = self
            .available
            .iter()
            .filter(|&&partition| partition != self.sticky)
            .count();
        if others > 0 {
            let chosen = rng.random_range(0..others);
            let mut candidates = self
                .available
                .iter()
                .filter(|&&partition| partition != self.sticky);
            self.sticky = candidates.nth(chosen).copied().unwrap_or(self.sticky);
        } else if self.available.is_empty() && !self.queues.is_empty() {
            self.sticky = rng.random_range(0..self.queues.len()) as i32;
        }
    }
}

fn closed() -> Error {
    Error::Closed { operation: "send" }
}

#[cfg(test)]
#[path = "accumulator_tests.rs"]
mod tests;
