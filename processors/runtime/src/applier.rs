//! One batch of records becomes one transaction.
//!
//! Every record is decoded; the rows that the events touch are loaded inside the store's transaction
//! and the events folded into them. An event may ask for further rows whose names stand in those; then
//! nothing is written, and the transaction begins again with them loaded as well. A record that cannot be decoded or applied is published to
//! `error-events` first; only then a transaction moves the position past it. So the fold that meets
//! such a record writes nothing, the record is published, and the fold runs again without it.
//!
//! Knows no clock and waits for nothing by itself: what to do after an error, and when, is the
//! driver's business. A batch can be committed again and again until it works; what was published
//! once is not published again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use conveyor_record::Offset;
use parking_lot::Mutex;

use crate::fold::apply_one;
use crate::projection::{ApplyError, Declaration, Projection};
use crate::record::{Decoder, Source, SourceRecord, TopicPartition};
use crate::rejected::{APPLY_ERROR, PublishError, Rejected, RejectedSink};
use crate::rows::Rows;
use crate::status::AppliedRange;
use crate::store::{Advance, Outcome, OwnerEpoch, Store, StoreError, Unit};
use crate::table::RowKey;

/// Records of one partition, in offset order, that follow on the store's position.
#[derive(Clone, Debug)]
pub struct PartitionBatch {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where the store stands; `None` for nothing.
    pub from: Option<Offset>,
    /// Where it is to stand: behind the last record, or further where the log holds no more records
    /// (compacted ones, markers of transactions).
    pub to: Offset,
    /// The claim under which to write.
    pub owner_epoch: OwnerEpoch,
    /// The records.
    pub records: Vec<SourceRecord>,
}

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
}

impl BatchError {
    /// Whether committing the same batch again may work later.
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retriable(),
            Self::Publish(error) => error.retriable,
            Self::Projection { .. } => false,
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
    /// Records that are in `error-events`.
    pub records_rejected: u64,
}

/// Applies batches of one projection to one store.
#[derive(Debug)]
pub struct Applier<P: Projection, D: Decoder<Event = P::Event>> {
    projection: Arc<P>,
    decoder: Arc<D>,
    declaration: Arc<Declaration>,
}

impl<P: Projection, D: Decoder<Event = P::Event>> Applier<P, D> {
    /// An applier for a projection and the decoder of its events.
    pub fn new(projection: Arc<P>, decoder: Arc<D>) -> Self {
        let declaration = Arc::new(projection.declaration());
        Self {
            projection,
            decoder,
            declaration,
        }
    }

    /// The projection's declaration.
    pub const fn declaration(&self) -> &Arc<Declaration> {
        &self.declaration
    }

    /// Decodes a batch.
    pub fn decode(&self, partitions: Vec<PartitionBatch>) -> Batch<P> {
        let mut entries = Vec::new();
        let mut keys = HashSet::new();
        let mut failures = Vec::new();
        let mut spans = Vec::with_capacity(partitions.len());
        for partition in partitions {
            spans.push(Span {
                advance: Advance {
                    topic_partition: partition.topic_partition,
                    from: partition.from,
                    to: partition.to,
                    owner_epoch: partition.owner_epoch,
                },
                records: partition.records.len() as u64,
            });
            for record in partition.records {
                let event = match self.decoder.decode(&record) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(error) => {
                        failures.push(self.reject(record, error.name, error.reason));
                        continue;
                    }
                };
                let touched = self.projection.touches(&event, &record.source);
                if !touched.is_empty() {
                    keys.extend(touched);
                    entries.push(Entry { event, record });
                }
            }
        }
        Batch {
            spans,
            keys: keys.into_iter().collect(),
            entries: entries.into(),
            unpublished: failures,
            rejected: BTreeSet::new(),
            records_rejected: 0,
        }
    }

    /// Applies a batch: all of it, or nothing. After an error that is retriable the same batch can
    /// be given again.
    pub async fn commit(
        &self,
        batch: &mut Batch<P>,
        store: &dyn Store,
        sink: &dyn RejectedSink,
    ) -> Result<Applied, BatchError> {
        loop {
            if !batch.unpublished.is_empty() {
                sink.publish(&batch.unpublished).await?;
                batch.records_rejected += batch.unpublished.len() as u64;
                batch.unpublished.clear();
            }
            let report = Arc::new(Mutex::new(Failures::new()));
            let wrote = store
                .transact(self.unit(batch, Arc::clone(&report)))
                .await?;
            if wrote {
                return Ok(batch.applied());
            }
            let failures = std::mem::take(&mut *report.lock());
            if !self.name_more(batch, &failures)? {
                self.take_failures(batch, failures);
            }
        }
    }

    /// Takes in the rows that events asked for after others were known; whether there are any. The
    /// next attempt loads them too. Whatever else failed in this attempt says nothing: events that
    /// wait for their rows have left no trace for those after them.
    fn name_more(&self, batch: &mut Batch<P>, failures: &Failures) -> Result<bool, BatchError> {
        let mut asked = BTreeSet::new();
        for (index, error) in failures {
            let ApplyError::NotNamed { keys } = error else {
                continue;
            };
            // A row of a table that is not declared can never be loaded.
            if !self.declaration.declares(keys) {
                return Err(BatchError::Projection {
                    projection: self.declaration.name().to_owned(),
                    source_position: batch.entries[*index].record.source.clone(),
                    error: error.clone(),
                });
            }
            asked.extend(keys.iter().cloned());
        }
        let more = !asked.is_empty();
        batch.keys.extend(asked);
        Ok(more)
    }

    fn unit(&self, batch: &Batch<P>, report: Arc<Mutex<Failures>>) -> Unit {
        let projection = Arc::clone(&self.projection);
        let entries = Arc::clone(&batch.entries);
        let skip = batch.rejected.clone();
        let fold = move |mut rows: Rows| {
            let failures = fold_entries(&*projection, &entries, &skip, &mut rows);
            if failures.is_empty() {
                return Outcome::Commit(rows.into_changes());
            }
            // The transaction is undone; if the store folds again, that run's report counts.
            *report.lock() = failures;
            Outcome::Abort
        };
        Unit {
            declaration: Arc::clone(&self.declaration),
            advances: batch
                .spans
                .iter()
                .map(|span| span.advance.clone())
                .collect(),
            keys: batch.keys.clone(),
            fold: Box::new(fold),
        }
    }

    /// Marks what the fold could not apply as rejected, to be published before the next attempt.
    fn take_failures(&self, batch: &mut Batch<P>, failures: Failures) {
        assert!(
            !failures.is_empty(),
            "a store aborted a transaction that its fold did not abort"
        );
        for (index, error) in failures {
            let record = &batch.entries[index].record;
            let rejected = self.reject(record.clone(), APPLY_ERROR, error.to_string());
            batch.unpublished.push(rejected);
            batch.rejected.insert(index);
        }
    }

    fn reject(&self, record: SourceRecord, error_name: &'static str, reason: String) -> Rejected {
        let group_id = self.declaration.group_id().to_owned();
        Rejected {
            record,
            group_id,
            error_name,
            reason,
        }
    }
}

/// Indexes of entries that could not be applied, and why.
type Failures = Vec<(usize, ApplyError)>;

/// Folds all entries but `skip`; a failing one leaves no trace in the rows.
fn fold_entries<P: Projection>(
    projection: &P,
    entries: &[Entry<P>],
    skip: &BTreeSet<usize>,
    rows: &mut Rows,
) -> Failures {
    let mut failures = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if skip.contains(&index) {
            continue;
        }
        let applied = apply_one(projection, &entry.event, &entry.record.source, rows);
        if let Err(error) = applied {
            failures.push((index, error));
        }
    }
    failures
}

/// A decoded batch on its way into the store.
#[derive(Debug)]
pub struct Batch<P: Projection> {
    spans: Vec<Span>,
    keys: Vec<RowKey>,
    entries: Arc<[Entry<P>]>,
    /// To be published before the next attempt.
    unpublished: Vec<Rejected>,
    /// Entries that the fold leaves out: published, or about to be.
    rejected: BTreeSet<usize>,
    records_rejected: u64,
}

#[derive(Debug)]
struct Span {
    advance: Advance,
    records: u64,
}

struct Entry<P: Projection> {
    event: P::Event,
    record: SourceRecord,
}

impl<P: Projection> std::fmt::Debug for Entry<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.record.source).finish()
    }
}

impl<P: Projection> Batch<P> {
    fn applied(&self) -> Applied {
        let records: u64 = self.spans.iter().map(|span| span.records).sum();
        let range = |span: &Span| AppliedRange {
            topic_partition: span.advance.topic_partition.clone(),
            from: span.advance.from,
            to: span.advance.to,
            records: span.records,
        };
        Applied {
            ranges: self.spans.iter().map(range).collect(),
            records_applied: records - self.records_rejected,
            records_rejected: self.records_rejected,
        }
    }
}
