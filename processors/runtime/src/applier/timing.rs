//! Timers and clocks in the transactions of the applier: what a batch writes of them, firings, and the
//! clocks of idle partitions. The rules are those of [`crate::timers`].

use std::sync::Arc;

use parking_lot::Mutex;

use super::mend::Claimed;
use super::{Applier, Batch, BatchError, commit_with};
use crate::parked::{Fate, Plan};
use crate::projection::{ApplyError, Projection};
use crate::record::{Decoder, Source, TopicPartition};
use crate::rows::{Change, Rows};
use crate::store::{Outcome, Store, StoreError};
use crate::table::RowKey;
use crate::timers::{Fired, KnownTimers, Timer, TimerRules, fire_all};
use crate::value::Value;

/// Timers that fire in one transaction at most.
const FIRINGS_MAX: usize = 256;

/// What a transaction has written to the tables of timers and clocks; nothing while its fold has not
/// run.
pub(super) type Written = Arc<Mutex<Option<Vec<Change>>>>;

/// What came of firing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Firings {
    /// Timers that are done with, fired or not.
    pub timers: usize,
    /// Those that the projection refused, and why: they are gone and did nothing.
    pub refused: Vec<(Timer, ApplyError)>,
}

/// The clocks that a batch moves on.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    clocks: Vec<(RowKey, i64)>,
}

impl Clocks {
    /// The highest record time of each partition in a batch, as far as it is taken in.
    pub(super) fn of<P: Projection>(
        rules: Option<&TimerRules>,
        batch: &Batch<P>,
        plan: &Plan,
    ) -> Self {
        let Some(rules) = rules else {
            return Self::default();
        };
        let spans = batch.spans.iter();
        let spans = spans.filter(|span| rules.has_clock(&span.advance.topic_partition));
        let clock = |span: &super::batch::Span| {
            let taken = span.records().filter(|i| plan.fates[*i] != Fate::Leave);
            let times = taken.map(|index| batch.entries[index].record.source.timestamp_ms);
            Some((rules.clock_key(&span.advance.topic_partition), times.max()?))
        };
        Self {
            clocks: spans.filter_map(clock).collect(),
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RowKey> {
        self.clocks.iter().map(|(key, _)| key.clone())
    }

    /// Moves the clocks on; one that stands higher stays.
    pub(super) fn write(&self, rows: &mut Rows) -> Result<(), ApplyError> {
        for (key, clock_ms) in &self.clocks {
            let known_ms = rows.get(key)?.and_then(|row| row.timestamp_ms("clock_at"));
            if known_ms.is_none_or(|known_ms| known_ms < *clock_ms) {
                rows.edit(key)?
                    .set("clock_at", Value::timestamp_ms(*clock_ms));
            }
        }
        Ok(())
    }
}

/// Notes what an outcome writes to the tables of timers and clocks.
pub(super) fn note_written(
    rules: Option<&TimerRules>,
    outcome: Outcome,
    written: &Written,
) -> Outcome {
    if let (Some(rules), Outcome::Commit(changes)) = (rules, &outcome) {
        let ours = changes.iter().filter(|change| rules.concerns(change));
        *written.lock() = Some(ours.cloned().collect());
    }
    outcome
}

impl<P: Projection, D: Decoder<Event = P::Event>> Applier<P, D> {
    /// What is known of timers, of the partitions looked at so far; `None` if the projection has
    /// none. Whoever claims a partition must make this forget it.
    pub const fn timers(&self) -> Option<&KnownTimers> {
        self.timers.as_ref()
    }

    pub(super) fn timer_rules(&self) -> Option<&TimerRules> {
        self.declaration.timer_rules()
    }

    /// Takes in what a transaction came to; hands that on. After an error nobody knows what the store
    /// holds, and if the fold has not run, since the store found that it had been written before,
    /// nobody knows what it wrote: then it is read from the store when it is needed next.
    pub(super) fn timers_after<'p>(
        &self,
        wrote: Result<bool, StoreError>,
        written: &Written,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<bool, StoreError> {
        if let Some(timers) = &self.timers {
            match (&wrote, written.lock().take()) {
                (Ok(true), Some(changes)) => timers.written(&changes),
                (Ok(true), None) | (Err(_), _) => timers.forget(partitions),
                (Ok(false), _) => {}
            }
        }
        wrote
    }

    /// Reads timers and clocks of partitions that were not looked at yet. They must be claimed.
    pub async fn learn_timers<'p>(
        &self,
        store: &dyn Store,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<(), BatchError> {
        let (Some(timers), Some(rules)) = (&self.timers, self.timer_rules()) else {
            return Ok(());
        };
        let unknown = timers.unknown(partitions);
        if unknown.is_empty() {
            return Ok(());
        }
        let mut tables = Vec::new();
        for name in [rules.timers, rules.clocks] {
            if let Some(table) = self.declaration.find_table(name) {
                tables.push(store.read_table(&self.declaration, table).await?);
            }
        }
        if let [timer_rows, clock_rows] = tables.as_slice() {
            timers.restore(&unknown, timer_rows, clock_rows);
        }
        Ok(())
    }

    /// Fires the timers of a partition that are due, some of them if they are many, in one
    /// transaction; what is known of the partition must have been read. After an error that is
    /// retriable it can be called again.
    pub async fn fire_due(
        &self,
        store: &dyn Store,
        claimed: &Claimed,
    ) -> Result<Firings, BatchError> {
        let (Some(timers), Some(rules)) = (&self.timers, self.timer_rules().copied()) else {
            return Ok(Firings::default());
        };
        let due: Arc<[Timer]> = timers.due(&claimed.topic_partition, FIRINGS_MAX).into();
        if due.is_empty() {
            return Ok(Firings::default());
        }
        let mut keys: Vec<_> = due.iter().map(|t| rules.timer_key(&t.name)).collect();
        loop {
            let (report, written) = (Arc::new(Mutex::new(Fired::default())), Written::default());
            let fold = {
                let (due, projection) = (Arc::clone(&due), Arc::clone(&self.projection));
                let (report, written) = (Arc::clone(&report), Arc::clone(&written));
                move |mut rows: Rows| {
                    let fired = fire_all(&*projection, &rules, &due, &mut rows);
                    let waits = !fired.asked.is_empty();
                    *report.lock() = fired;
                    if waits {
                        return Outcome::Abort;
                    }
                    let outcome = commit_with(rows, |_| Ok(()));
                    note_written(Some(&rules), outcome, &written)
                }
            };
            let wrote = store
                .transact(self.unit_at(claimed, keys.clone(), Box::new(fold)))
                .await;
            let wrote = self.timers_after(wrote, &written, [&claimed.topic_partition])?;
            let fired = std::mem::take(&mut *report.lock());
            if !wrote {
                self.check_firing(&fired, &due)?;
                keys.extend(fired.asked);
                keys.sort_unstable();
                keys.dedup();
                continue;
            }
            timers.remove(&fired.gone);
            return Ok(Firings {
                timers: due.len(),
                refused: fired.refused,
            });
        }
    }

    /// Moves the clock of an idle partition on.
    pub async fn move_clock(
        &self,
        store: &dyn Store,
        claimed: &Claimed,
        clock_ms: i64,
    ) -> Result<(), BatchError> {
        let Some(rules) = self.timer_rules().copied() else {
            return Ok(());
        };
        let key = rules.clock_key(&claimed.topic_partition);
        let clocks = Clocks {
            clocks: vec![(key.clone(), clock_ms)],
        };
        let written = Written::default();
        let noted = Arc::clone(&written);
        let fold = move |rows: Rows| {
            let outcome = commit_with(rows, |rows| clocks.write(rows));
            note_written(Some(&rules), outcome, &noted)
        };
        let unit = self.unit_at(claimed, vec![key], Box::new(fold));
        let wrote = store.transact(unit).await;
        self.timers_after(wrote, &written, [&claimed.topic_partition])?;
        Ok(())
    }

    /// Firings may ask only for rows of tables that are declared.
    fn check_firing(&self, fired: &Fired, due: &[Timer]) -> Result<(), BatchError> {
        assert!(
            !fired.asked.is_empty(),
            "a store aborted a transaction that its fold did not abort"
        );
        if self.declaration.declares(&fired.asked) {
            return Ok(());
        }
        let of = due.first().map(|timer| timer.topic_partition.clone());
        let of = of.unwrap_or_else(|| TopicPartition::new("", 0));
        Err(BatchError::Projection {
            projection: self.declaration.name().to_owned(),
            source_position: Source {
                topic: of.topic,
                partition: of.partition,
                offset: conveyor_record::Offset::NONE,
                timestamp_ms: due.first().map_or(0, |timer| timer.due_ms),
            },
            error: ApplyError::NotNamed {
                keys: fired.asked.clone(),
            },
        })
    }
}
