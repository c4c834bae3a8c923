//! Taking parked records up again: redrive applies them, discard gives them up.
//!
//! Both are transactions of the partition's owner under its claim; the position stays where it is.
//! Both look at what the store holds, so that doing one a second time, after a crash or an answer
//! that was lost, does nothing more.

use std::sync::Arc;

use conveyor_record::Offset;
use parking_lot::Mutex;

use super::{Applier, BatchError, apply_one, commit_with, failure_of};
use crate::parked::{Failure, ParkedKey};
use crate::projection::{ApplyError, Projection};
use crate::record::{Decoder, SourceRecord, TopicPartition};
use crate::rejected::RejectedSink;
use crate::rows::Rows;
use crate::store::{Advance, Outcome, OwnerEpoch, Store, StoreError, Unit};
use crate::table::RowKey;

/// Error name of a record that a person discarded without its having been tried.
pub const DISCARDED: &str = "conveyor.parked.Discarded";

/// Reason that stands for a head that was not tried yet.
pub const NOT_TRIED: &str = "not tried yet: the records before it were redriven or discarded";

/// A partition that is ours, and where the store stands in it.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where the store stands.
    pub position: Offset,
    /// The claim under which to write.
    pub owner_epoch: OwnerEpoch,
}

/// What redriving a key came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// Nothing is parked there: it was done before, or never was.
    NotParked,
    /// So many records were applied, and none of the key waits any longer.
    Done {
        /// Records.
        applied: usize,
    },
    /// So many records were applied, and others wait that were not tried yet.
    More {
        /// Records.
        applied: usize,
        /// Records that still wait.
        waiting: usize,
    },
    /// So many records were applied; the next one could not be.
    Failed {
        /// Records.
        applied: usize,
        /// The record that failed.
        at: Offset,
        /// Why.
        reason: String,
        /// Records that still wait.
        waiting: usize,
    },
}

/// What discarding came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// Nothing is parked there.
    NotParked,
    /// Another record is at the head now: what was to be discarded is gone already.
    OtherHead(Offset),
    /// Done.
    Done {
        /// Records given up.
        records: usize,
        /// Records that still wait.
        waiting: usize,
    },
}

impl<P: Projection, D: Decoder<Event = P::Event>> Applier<P, D> {
    /// Applies the first records of a parked key, in order, at most `records_max` of them, in one
    /// transaction. A record that fails stays parked with those behind it; the head of a queue that
    /// fails again has one attempt more, another one goes to `error-events` first.
    pub async fn redrive(
        &self,
        claimed: &Claimed,
        parked_at: Offset,
        records_max: usize,
        store: &dyn Store,
        sink: &dyn RejectedSink,
    ) -> Result<Redriven, BatchError> {
        let Some(key) = self.find_parked(claimed, parked_at, store).await? else {
            return Ok(Redriven::NotParked);
        };
        let waiting = &key.queue[..key.queue.len().min(records_max.max(1))];
        let records = self.read_waiting(claimed, waiting, store).await?;
        let mut attempt = Attempt::new(&*self.projection, &*self.decoder, records);
        attempt.head_is_new = key.attempts == 0;
        loop {
            self.publish_failed(&mut attempt, sink).await?;
            let after = attempt.key_after(&key);
            let report = Arc::new(Mutex::new(None));
            let unit = self.redrive_unit(claimed, &attempt, &after, Arc::clone(&report));
            if self.transact(store, unit, claimed).await? {
                self.parked.put(&claimed.topic_partition, [after.clone()]);
                return Ok(attempt.outcome(&after));
            }
            let failed = report.lock().take();
            match failed {
                Some((index, error)) => match &error {
                    ApplyError::NotNamed { keys } => {
                        self.check_declared(keys, &error, &attempt.records[index])?;
                        attempt.touched[index].extend(keys.iter().cloned());
                    }
                    ApplyError::Record { .. } => {
                        attempt.failed = Some((index, failure_of(&error)));
                    }
                },
                // The rows are not what was read: look again, later.
                None => return Err(self.not_as_known(claimed, store)),
            }
        }
    }

    /// Gives up the head of a parked key, or all that waits of it. What was not in `error-events`
    /// yet goes there first. `head` guards against discarding another record than the one that was
    /// looked at.
    pub async fn discard(
        &self,
        claimed: &Claimed,
        parked_at: Offset,
        head: Offset,
        all: bool,
        store: &dyn Store,
        sink: &dyn RejectedSink,
    ) -> Result<Discarded, BatchError> {
        let Some(key) = self.find_parked(claimed, parked_at, store).await? else {
            return Ok(Discarded::NotParked);
        };
        if key.head() != head {
            return Ok(Discarded::OtherHead(key.head()));
        }
        let count = if all { key.queue.len() } else { 1 };
        let (gone, rest) = key.queue.split_at(count);
        // A head that was tried is in `error-events` already.
        let unpublished = if key.attempts > 0 { &gone[1..] } else { gone };
        for part in unpublished.chunks(READ_MAX) {
            let records = self.read_waiting(claimed, part, store).await?;
            let rejected = records.into_iter().map(|record| {
                let failure = Failure {
                    error_name: DISCARDED.to_owned(),
                    reason: format!("discarded behind {}@{parked_at}", claimed.topic_partition),
                };
                self.reject(record, failure, 0)
            });
            sink.publish(&rejected.collect::<Vec<_>>()).await?;
        }
        let after = ParkedKey {
            queue: rest.to_vec(),
            attempts: 0,
            failure: not_tried(),
            ..ParkedKey::clone(&key)
        };
        let unit = self.discard_unit(claimed, gone, &after);
        if !self.transact(store, unit, claimed).await? {
            return Err(self.not_as_known(claimed, store));
        }
        let waiting = after.queue.len();
        self.parked.put(&claimed.topic_partition, [after]);
        Ok(Discarded::Done {
            records: count,
            waiting,
        })
    }

    /// A parked key, learnt from the store if need be.
    async fn find_parked(
        &self,
        claimed: &Claimed,
        parked_at: Offset,
        store: &dyn Store,
    ) -> Result<Option<Arc<ParkedKey>>, BatchError> {
        self.learn_parked(store, [&claimed.topic_partition]).await?;
        let keys = self.parked.of(&claimed.topic_partition);
        Ok(keys.and_then(|keys| keys.find(parked_at).cloned()))
    }

    /// Reads records that wait, in order.
    pub async fn read_waiting(
        &self,
        claimed: &Claimed,
        offsets: &[Offset],
        store: &dyn Store,
    ) -> Result<Vec<SourceRecord>, BatchError> {
        let keys: Vec<_> = offsets
            .iter()
            .map(|offset| self.tables.record_row(&claimed.topic_partition, *offset))
            .collect();
        let found = Arc::new(Mutex::new(Vec::new()));
        let (wanted, into) = (keys.clone(), Arc::clone(&found));
        let fold = move |rows: Rows| {
            let row = |key| rows.get(key).ok().flatten().cloned();
            *into.lock() = wanted.iter().filter_map(row).collect();
            Outcome::Abort
        };
        store
            .transact(self.unit_at(claimed, keys, Box::new(fold)))
            .await?;
        let rows = std::mem::take(&mut *found.lock());
        if rows.len() < offsets.len() {
            return Err(self.not_as_known(claimed, store));
        }
        let record = |row| self.tables.read_record(row).map(|(record, _)| record);
        let records: Result<_, _> = rows.iter().map(record).collect();
        records.map_err(|error| self.damaged(error))
    }

    async fn publish_failed(
        &self,
        attempt: &mut Attempt<P>,
        sink: &dyn RejectedSink,
    ) -> Result<(), BatchError> {
        // The head is there already, unless nobody has tried it yet.
        if let Some((index, failure)) = &attempt.failed
            && attempt.published != Some(*index)
            && (*index > 0 || attempt.head_is_new)
        {
            let record = attempt.records[*index].clone();
            let rejected = self.reject(record, failure.clone(), 1);
            sink.publish(&[rejected]).await?;
            attempt.published = Some(*index);
        }
        Ok(())
    }

    fn redrive_unit(
        &self,
        claimed: &Claimed,
        attempt: &Attempt<P>,
        after: &ParkedKey,
        report: Arc<Mutex<Option<(usize, ApplyError)>>>,
    ) -> Unit {
        let applied = attempt.applied();
        let partition = claimed.topic_partition.clone();
        let key_row = self.tables.key_row(&partition, after.parked_at);
        let rows_of_records: Vec<_> = attempt.records[..applied]
            .iter()
            .map(|r| self.tables.record_row(&partition, r.source.offset))
            .collect();
        let mut keys: Vec<_> = attempt.touched[..applied]
            .iter()
            .flatten()
            .cloned()
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys.extend(rows_of_records.iter().cloned());
        keys.push(key_row.clone());
        let (projection, tables) = (Arc::clone(&self.projection), self.tables.clone());
        let events = Arc::clone(&attempt.events);
        let sources: Vec<_> = attempt.records.iter().map(|r| r.source.clone()).collect();
        let after = after.clone();
        let fold = move |mut rows: Rows| {
            *report.lock() = None;
            if !are_there(&rows, &rows_of_records) || !are_there(&rows, [&key_row]) {
                return Outcome::Abort;
            }
            for index in 0..applied {
                let Some(event) = &events[index] else {
                    continue;
                };
                if let Err(error) = apply_one(&*projection, event, &sources[index], &mut rows) {
                    *report.lock() = Some((index, error));
                    return Outcome::Abort;
                }
            }
            commit_with(rows, |rows| {
                rows_of_records
                    .iter()
                    .try_for_each(|row| rows.delete(row))?;
                tables.write_key(rows, &partition, &after)
            })
        };
        self.unit_at(claimed, keys, Box::new(fold))
    }

    fn discard_unit(&self, claimed: &Claimed, gone: &[Offset], after: &ParkedKey) -> Unit {
        let partition = claimed.topic_partition.clone();
        let record_row = |offset: &Offset| self.tables.record_row(&partition, *offset);
        let rows_of_records: Vec<_> = gone.iter().map(record_row).collect();
        let mut keys = rows_of_records.clone();
        let key_row = self.tables.key_row(&partition, after.parked_at);
        keys.push(key_row.clone());
        let (tables, after) = (self.tables.clone(), after.clone());
        let fold = move |rows: Rows| {
            if !are_there(&rows, &rows_of_records) || !are_there(&rows, [&key_row]) {
                return Outcome::Abort;
            }
            commit_with(rows, |rows| {
                rows_of_records
                    .iter()
                    .try_for_each(|row| rows.delete(row))?;
                tables.write_key(rows, &partition, &after)
            })
        };
        self.unit_at(claimed, keys, Box::new(fold))
    }

    /// A transaction that moves no position.
    pub(super) fn unit_at(
        &self,
        claimed: &Claimed,
        keys: Vec<RowKey>,
        fold: crate::store::FoldRows,
    ) -> Unit {
        Unit {
            declaration: Arc::clone(&self.declaration),
            advances: vec![Advance {
                topic_partition: claimed.topic_partition.clone(),
                from: Some(claimed.position),
                to: claimed.position,
                owner_epoch: claimed.owner_epoch,
            }],
            keys,
            fold,
        }
    }

    /// After an error nobody knows what the store holds: it is read anew before the next attempt.
    async fn transact(
        &self,
        store: &dyn Store,
        unit: Unit,
        claimed: &Claimed,
    ) -> Result<bool, BatchError> {
        let wrote = store.transact(unit).await;
        if wrote.is_err() {
            self.parked.forget([&claimed.topic_partition]);
        }
        if let Some(timers) = self.timers() {
            // What is redriven may set and clear some.
            timers.forget([&claimed.topic_partition]);
        }
        Ok(wrote?)
    }

    fn not_as_known(&self, claimed: &Claimed, store: &dyn Store) -> BatchError {
        self.parked.forget([&claimed.topic_partition]);
        BatchError::Store(StoreError::Unavailable {
            store: store.describe(),
            reason: format!(
                "what waits in {} is not what was read before; it is read again",
                claimed.topic_partition
            ),
        })
    }
}

/// Records read at once.
const READ_MAX: usize = 500;

fn not_tried() -> Failure {
    Failure {
        error_name: String::new(),
        reason: NOT_TRIED.to_owned(),
    }
}

fn are_there<'k>(rows: &Rows, keys: impl IntoIterator<Item = &'k RowKey>) -> bool {
    keys.into_iter()
        .all(|key| matches!(rows.get(key), Ok(Some(_))))
}

/// Records of one key on their way into the rows.
struct Attempt<P: Projection> {
    records: Vec<SourceRecord>,
    /// `None`: matters to no row.
    events: Arc<[Option<P::Event>]>,
    touched: Vec<Vec<RowKey>>,
    /// The record at which it ends.
    failed: Option<(usize, Failure)>,
    published: Option<usize>,
    head_is_new: bool,
}

impl<P: Projection> Attempt<P> {
    fn new<D: Decoder<Event = P::Event>>(
        projection: &P,
        decoder: &D,
        records: Vec<SourceRecord>,
    ) -> Self {
        let (mut events, mut touched, mut failed) = (Vec::new(), Vec::new(), None);
        for (index, record) in records.iter().enumerate() {
            match decoder.decode(record) {
                Ok(event) => {
                    let rows = event
                        .as_ref()
                        .map(|e| projection.touches(e, &record.source));
                    let rows = rows.unwrap_or_default();
                    events.push(event.filter(|_| !rows.is_empty()));
                    touched.push(rows);
                }
                Err(error) => {
                    let error_name = error.name.to_owned();
                    let reason = error.reason;
                    failed = Some((index, Failure { error_name, reason }));
                    break;
                }
            }
        }
        Self {
            records,
            events: events.into(),
            touched,
            failed,
            published: None,
            head_is_new: false,
        }
    }

    /// How many records are applied.
    fn applied(&self) -> usize {
        self.failed
            .as_ref()
            .map_or(self.records.len(), |(index, _)| *index)
    }

    /// The key once this is written.
    fn key_after(&self, key: &ParkedKey) -> ParkedKey {
        let applied = self.applied();
        let (failure, attempts) = match &self.failed {
            Some((0, failure)) => (failure.clone(), key.attempts.saturating_add(1)),
            Some((_, failure)) => (failure.clone(), 1),
            None => (not_tried(), 0),
        };
        ParkedKey {
            queue: key.queue[applied..].to_vec(),
            failure,
            attempts,
            ..key.clone()
        }
    }

    fn outcome(&self, after: &ParkedKey) -> Redriven {
        let (applied, waiting) = (self.applied(), after.queue.len());
        match &self.failed {
            Some((index, failure)) => Redriven::Failed {
                applied,
                at: self.records[*index].source.offset,
                reason: failure.reason.clone(),
                waiting,
            },
            None if waiting > 0 => Redriven::More { applied, waiting },
            None => Redriven::Done { applied },
        }
    }
}
