//! One batch of records becomes one transaction.
//!
//! Every record is decoded; the rows that the events touch are loaded inside the store's transaction
//! and the events folded into them. An event may ask for further rows whose names stand in those;
//! then nothing is written, and the transaction begins again with them loaded as well.
//!
//! A record that cannot be decoded or applied parks its key
//! ([`crate::parked`]): it is published to `error-events` first, and only then a transaction moves
//! the position past it. So the fold that meets such a record writes nothing, the record is
//! published, and the fold runs again without it. [`mend`] takes parked records up again.
//!
//! Knows no clock and waits for nothing by itself: what to do after an error, and when, is the
//! driver's business. A batch can be committed again and again until it works; what was published
//! once is not published again.

mod batch;
pub mod mend;
pub mod timing;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use conveyor_record::Offset;
use parking_lot::Mutex;

use crate::fold::apply_one;
use crate::parked::{
    DamagedRecord, Failure, Fate, Input, KeyName, Limits, ParkedKeys, ParkedTables, PartitionKeys,
    Plan,
};
use crate::projection::{ApplyError, Declaration, Projection};
use crate::record::{Decoder, Source, SourceRecord, TopicPartition};
use crate::rejected::{APPLY_ERROR, PublishError, Rejected, RejectedSink};
use crate::rows::Rows;
use crate::status::AppliedRange;
use crate::store::{Advance, Outcome, Store, StoreError, Unit};
use crate::table::RowKey;
use crate::timers::KnownTimers;

pub use self::batch::{Batch, PartitionBatch};
use self::batch::{Entry, Span};
use self::timing::{Clocks, Written, note_written};

/// Why a batch was not applied. Nothing of it is in the store then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatchError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record had to be rejected and could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The projection is at fault.
    #[error("projection {projection} is at fault at {source_position}: {error}")]
    Projection {
        /// Which projection.
        projection: String,
        /// At which record.
        source_position: Source,
        /// What it did.
        error: ApplyError,
    },
    /// What waits in the store cannot be read.
    #[error("projection {projection}: {error}")]
    Damaged {
        /// Which projection.
        projection: String,
        /// What is wrong.
        error: DamagedRecord,
    },
}

impl BatchError {
    /// Whether committing the same batch again may work later.
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retriable(),
            Self::Publish(error) => error.retriable,
            Self::Projection { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// What a batch came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What the store has taken in.
    pub ranges: Vec<AppliedRange>,
    /// Records that are in the rows (or matter to none).
    pub records_applied: u64,
    /// Records that parked their key: they are in `error-events`, and wait.
    pub records_rejected: u64,
    /// Records that wait behind those.
    pub records_queued: u64,
    /// Partitions with no room for what comes next: the records from there on were not taken in.
    pub full: Vec<FullPartition>,
}

/// A partition in which as much waits as may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullPartition {
    /// Which.
    pub topic_partition: TopicPartition,
    /// The record that found no room; the partition stands before it.
    pub at: Offset,
}

/// Applies batches of one projection to one store.
#[derive(Debug)]
pub struct Applier<P: Projection, D: Decoder<Event = P::Event>> {
    projection: Arc<P>,
    decoder: Arc<D>,
    declaration: Arc<Declaration>,
    tables: ParkedTables,
    parked: ParkedKeys,
    timers: Option<KnownTimers>,
    limits: Limits,
}

impl<P: Projection, D: Decoder<Event = P::Event>> Applier<P, D> {
    /// An applier for a projection and the decoder of its events.
    pub fn new(projection: Arc<P>, decoder: Arc<D>) -> Self {
        let declaration = projection.declaration();
        let tables = ParkedTables::of(declaration.name());
        let timers = declaration.timer_rules().copied().map(KnownTimers::new);
        Self {
            timers,
            projection,
            decoder,
            declaration: Arc::new(tables.declare(declaration)),
            tables,
            parked: ParkedKeys::default(),
            limits: Limits::default(),
        }
    }

    /// Lets more or less wait in each partition.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The projection's declaration, hidden tables included: the one to prepare the store with.
    pub const fn declaration(&self) -> &Arc<Declaration> {
        &self.declaration
    }

    /// What waits, of the partitions looked at so far. Whoever claims a partition must make this
    /// forget it.
    pub const fn parked(&self) -> &ParkedKeys {
        &self.parked
    }

    /// Decodes a batch.
    pub fn decode(&self, partitions: Vec<PartitionBatch>) -> Batch<P> {
        let mut entries = Vec::new();
        let mut keys = HashSet::new();
        let mut failures = BTreeMap::new();
        let mut spans = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let first = entries.len();
            for record in partition.records {
                let event = match self.decoder.decode(&record) {
                    Ok(event) => event,
                    Err(error) => {
                        let error_name = error.name.to_owned();
                        let reason = error.reason;
                        failures.insert(entries.len(), Failure { error_name, reason });
                        None
                    }
                };
                let touched = event
                    .as_ref()
                    .map(|event| self.projection.touches(event, &record.source))
                    .unwrap_or_default();
                let matters = !touched.is_empty();
                keys.extend(touched);
                entries.push(Entry {
                    event: event.filter(|_| matters),
                    record,
                });
            }
            spans.push(Span {
                advance: Advance {
                    topic_partition: partition.topic_partition,
                    from: partition.from,
                    to: partition.to,
                    owner_epoch: partition.owner_epoch,
                },
                records: first..entries.len(),
            });
        }
        Batch {
            spans,
            keys: keys.into_iter().collect(),
            entries: entries.into(),
            failures,
            published: BTreeSet::new(),
        }
    }

    /// Applies a batch: all of it, or nothing; of a partition that is full, only what is before the
    /// record that finds no room. After an error that is retriable the same batch can be given
    /// again.
    pub async fn commit(
        &self,
        batch: &mut Batch<P>,
        store: &dyn Store,
        sink: &dyn RejectedSink,
    ) -> Result<Applied, BatchError> {
        let partitions = batch.spans.iter().map(|s| &s.advance.topic_partition);
        self.learn_parked(store, partitions.clone()).await?;
        self.learn_timers(store, partitions).await?;
        loop {
            let plan = Arc::new(self.plan(batch));
            self.publish(batch, &plan, sink).await?;
            let advances = batch.advances(&plan);
            if advances.is_empty() {
                return Ok(batch.applied(&plan));
            }
            let report = Arc::new(Mutex::new(Failures::new()));
            let written = Written::default();
            let unit = self.unit(batch, &plan, advances, (&report, &written));
            let wrote = store.transact(unit).await;
            let partitions = batch.spans.iter().map(|s| &s.advance.topic_partition);
            if self.timers_after(wrote, &written, partitions)? {
                for (span, planned) in batch.spans.iter().zip(&plan.partitions) {
                    let changed = planned.changed.iter().cloned();
                    self.parked.put(&span.advance.topic_partition, changed);
                }
                return Ok(batch.applied(&plan));
            }
            let failures = std::mem::take(&mut *report.lock());
            if !self.name_more(batch, &failures)? {
                take_failures(batch, failures);
            }
        }
    }

    /// Takes in the rows that events asked for after others were known; whether there are any. The
    /// next attempt loads them too. Whatever else failed in this attempt says nothing: events that
    /// wait for their rows have left no trace for those after them.
    fn name_more(&self, batch: &mut Batch<P>, failures: &Failures) -> Result<bool, BatchError> {
        let mut asked = BTreeSet::new();
        for (index, error) in failures {
            if let ApplyError::NotNamed { keys } = error {
                self.check_declared(keys, error, &batch.entries[*index].record)?;
                asked.extend(keys.iter().cloned());
            }
        }
        let more = !asked.is_empty();
        batch.keys.extend(asked);
        Ok(more)
    }

    /// A row of a table that is not declared can never be loaded.
    fn check_declared(
        &self,
        keys: &[RowKey],
        error: &ApplyError,
        record: &SourceRecord,
    ) -> Result<(), BatchError> {
        if self.declaration.declares(keys) {
            return Ok(());
        }
        Err(BatchError::Projection {
            projection: self.declaration.name().to_owned(),
            source_position: record.source.clone(),
            error: error.clone(),
        })
    }

    /// Reads what waits in partitions that were not looked at yet. They must be claimed.
    pub async fn learn_parked<'p>(
        &self,
        store: &dyn Store,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<(), BatchError> {
        let unknown = |partition: &&TopicPartition| self.parked.of(partition).is_none();
        let unknown: BTreeSet<_> = partitions.into_iter().filter(unknown).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let Some(table) = self.declaration.find_table(self.tables.keys_table()) else {
            return Ok(());
        };
        let rows = store.read_table(&self.declaration, table).await?;
        let mut found: BTreeMap<&TopicPartition, PartitionKeys> = unknown
            .iter()
            .map(|p| (*p, PartitionKeys::default()))
            .collect();
        for row in &rows {
            let read = self.tables.read_key(row);
            let (partition, key) = read.map_err(|error| self.damaged(error))?;
            if let Some(keys) = found.get_mut(&partition) {
                keys.put(key);
            }
        }
        for (partition, keys) in found {
            self.parked.learn(partition.clone(), keys);
        }
        Ok(())
    }

    fn plan(&self, batch: &Batch<P>) -> Plan {
        let parked = batch.spans.iter().map(|span| {
            let known = self.parked.of(&span.advance.topic_partition);
            known.unwrap_or_default()
        });
        let parked: Vec<_> = parked.collect();
        let spans = batch.spans.iter().zip(&parked);
        let inputs = spans.map(|(span, parked)| Input {
            parked,
            records: span.records(),
        });
        let inputs: Vec<_> = inputs.collect();
        let record = |index: usize| &batch.entries[index].record;
        Plan::new(&inputs, record, &batch.failures, self.limits)
    }

    /// Publishes what parks its key and was not published yet.
    async fn publish(
        &self,
        batch: &mut Batch<P>,
        plan: &Plan,
        sink: &dyn RejectedSink,
    ) -> Result<(), BatchError> {
        let parks = |(index, _): &(usize, &Failure)| {
            plan.fates[*index] == Fate::Park && !batch.published.contains(index)
        };
        let failures = batch.failures.iter().map(|(index, f)| (*index, f));
        let (indexes, rejected): (Vec<_>, Vec<_>) = failures
            .filter(parks)
            .map(|(index, failure)| {
                let record = batch.entries[index].record.clone();
                (index, self.reject(record, failure.clone(), 1))
            })
            .unzip();
        if !rejected.is_empty() {
            sink.publish(&rejected).await?;
            batch.published.extend(indexes);
        }
        Ok(())
    }

    fn unit(
        &self,
        batch: &Batch<P>,
        plan: &Arc<Plan>,
        advances: Vec<Advance>,
        (report, written): (&Arc<Mutex<Failures>>, &Written),
    ) -> Unit {
        let (report, written) = (Arc::clone(report), Arc::clone(written));
        let rules = self.timer_rules().copied();
        let clocks = Clocks::of(rules.as_ref(), batch, plan);
        let projection = Arc::clone(&self.projection);
        let entries = Arc::clone(&batch.entries);
        let hidden = Hidden {
            tables: self.tables.clone(),
            partitions: batch.partitions(),
            plan: Arc::clone(plan),
        };
        let mut keys = batch.keys.clone();
        keys.extend(hidden.keys(&entries));
        keys.extend(clocks.keys());
        let fold = move |mut rows: Rows| {
            let failures = fold_entries(&*projection, &entries, &hidden.plan, &mut rows);
            if failures.is_empty() {
                let outcome = commit_with(rows, |rows| {
                    clocks.write(rows)?;
                    hidden.write(&entries, rows)
                });
                return note_written(rules.as_ref(), outcome, &written);
            }
            // The transaction is undone; if the store folds again, that run's report counts.
            *report.lock() = failures;
            Outcome::Abort
        };
        Unit {
            declaration: Arc::clone(&self.declaration),
            advances,
            keys,
            fold: Box::new(fold),
        }
    }

    fn reject(&self, record: SourceRecord, failure: Failure, attempts: u32) -> Rejected {
        Rejected {
            record,
            group_id: self.declaration.group_id().to_owned(),
            error_name: failure.error_name,
            reason: failure.reason,
            attempts,
        }
    }

    fn damaged(&self, error: DamagedRecord) -> BatchError {
        BatchError::Damaged {
            projection: self.declaration.name().to_owned(),
            error,
        }
    }
}

/// Notes what the fold could not apply, to be parked in the next attempt.
fn take_failures<P: Projection>(batch: &mut Batch<P>, failures: Failures) {
    assert!(
        !failures.is_empty(),
        "a store aborted a transaction that its fold did not abort"
    );
    let failures = failures.into_iter();
    batch
        .failures
        .extend(failures.map(|(index, error)| (index, failure_of(&error))));
}

fn failure_of(error: &ApplyError) -> Failure {
    Failure {
        error_name: APPLY_ERROR.to_owned(),
        reason: error.to_string(),
    }
}

/// Writes hidden rows, all of which are named, and commits.
fn commit_with(mut rows: Rows, write: impl FnOnce(&mut Rows) -> Result<(), ApplyError>) -> Outcome {
    let written = write(&mut rows);
    assert!(written.is_ok(), "a hidden row was not named: {written:?}");
    rows.accept();
    Outcome::Commit(rows.into_changes())
}

/// Indexes of entries that could not be applied, and why.
type Failures = Vec<(usize, ApplyError)>;

/// Folds all entries that are to be applied. A failing one leaves no trace in the rows, and those of
/// its key behind it are not tried.
fn fold_entries<P: Projection>(
    projection: &P,
    entries: &[Entry<P>],
    plan: &Plan,
    rows: &mut Rows,
) -> Failures {
    let mut failures = Failures::new();
    let mut failed: HashSet<(TopicPartition, KeyName)> = HashSet::new();
    let name = |record: &SourceRecord| (record.topic_partition(), KeyName::of(record));
    for (index, entry) in entries.iter().enumerate() {
        let Some(event) = entry.event.as_ref() else {
            continue;
        };
        if plan.fates[index] != Fate::Apply
            || (!failed.is_empty() && failed.contains(&name(&entry.record)))
        {
            continue;
        }
        if let Err(error) = apply_one(projection, event, &entry.record.source, rows) {
            failures.push((index, error));
            failed.insert(name(&entry.record));
        }
    }
    failures
}

/// The hidden rows that a batch writes.
struct Hidden {
    tables: ParkedTables,
    partitions: Vec<TopicPartition>,
    plan: Arc<Plan>,
}

impl Hidden {
    /// Records that begin to wait, and where their keys were parked.
    fn waiting<'e, P: Projection>(
        &'e self,
        entries: &'e [Entry<P>],
    ) -> impl Iterator<Item = (&'e SourceRecord, Offset)> {
        entries
            .iter()
            .zip(&self.plan.fates)
            .filter_map(|(e, fate)| match fate {
                Fate::Park => Some((&e.record, e.record.source.offset)),
                Fate::Queue(parked_at) => Some((&e.record, *parked_at)),
                Fate::Apply | Fate::Leave => None,
            })
    }

    /// The rows that `write` writes.
    fn keys<P: Projection>(&self, entries: &[Entry<P>]) -> Vec<RowKey> {
        let records = self.waiting(entries).map(|(record, _)| {
            let partition = record.topic_partition();
            self.tables.record_row(&partition, record.source.offset)
        });
        let mut keys: Vec<_> = records.collect();
        for (partition, planned) in self.partitions.iter().zip(&self.plan.partitions) {
            let changed = planned.changed.iter();
            keys.extend(changed.map(|key| self.tables.key_row(partition, key.parked_at)));
        }
        keys
    }

    fn write<P: Projection>(
        &self,
        entries: &[Entry<P>],
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        for (record, parked_at) in self.waiting(entries) {
            self.tables.write_record(rows, record, parked_at)?;
        }
        for (partition, planned) in self.partitions.iter().zip(&self.plan.partitions) {
            for key in &planned.changed {
                self.tables.write_key(rows, partition, key)?;
            }
        }
        Ok(())
    }
}
