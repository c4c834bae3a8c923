//! Records on their way into a store: as they were read, and decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use conveyor_record::Offset;

use super::{Applied, FullPartition};
use crate::parked::{Failure, Fate, Plan, Planned};
use crate::projection::Projection;
use crate::record::{SourceRecord, TopicPartition};
use crate::status::AppliedRange;
use crate::store::{Advance, OwnerEpoch};
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

impl PartitionBatch {
    /// Keeps the first `records` and returns the others, which follow on them. There must be more
    /// than so many.
    #[must_use = "dropping it loses the later records"]
    pub fn split_off(&mut self, records: usize) -> Self {
        let later = self.records.split_off(records);
        let between = later[0].source.offset;
        Self {
            topic_partition: self.topic_partition.clone(),
            from: Some(between),
            to: std::mem::replace(&mut self.to, between),
            owner_epoch: self.owner_epoch,
            records: later,
        }
    }
}

/// A decoded batch on its way into the store.
#[derive(Debug)]
pub struct Batch<P: Projection> {
    pub(super) spans: Vec<Span>,
    /// Rows that its events touch.
    pub(super) keys: Vec<RowKey>,
    pub(super) entries: Arc<[Entry<P>]>,
    /// Entries known to be impossible to decode or apply.
    pub(super) failures: BTreeMap<usize, Failure>,
    /// Those of them that are in `error-events`.
    pub(super) published: BTreeSet<usize>,
}

#[derive(Debug)]
pub(super) struct Span {
    pub(super) advance: Advance,
    pub(super) records: Range<usize>,
}

impl Span {
    pub(super) fn records(&self) -> Range<usize> {
        self.records.clone()
    }
}

pub(super) struct Entry<P: Projection> {
    /// `None`: it cannot be decoded, or matters to no row.
    pub(super) event: Option<P::Event>,
    pub(super) record: SourceRecord,
}

impl<P: Projection> std::fmt::Debug for Entry<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.record.source).finish()
    }
}

impl<P: Projection> Batch<P> {
    /// What it was made of, to be brought in smaller batches. None if some of it was published
    /// already, which is remembered only here.
    pub fn take_apart(&self) -> Option<Vec<PartitionBatch>> {
        let part = |span: &Span| PartitionBatch {
            topic_partition: span.advance.topic_partition.clone(),
            from: span.advance.from,
            to: span.advance.to,
            owner_epoch: span.advance.owner_epoch,
            records: self.entries[span.records()]
                .iter()
                .map(|entry| entry.record.clone())
                .collect(),
        };
        let is_whole = self.published.is_empty();
        is_whole.then(|| self.spans.iter().map(part).collect())
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        let partition = |span: &Span| span.advance.topic_partition.clone();
        self.spans.iter().map(partition).collect()
    }

    /// The steps of the positions, up to what finds no room.
    pub(super) fn advances(&self, plan: &Plan) -> Vec<Advance> {
        let spans = self.spans.iter().zip(&plan.partitions);
        let advance = |(span, planned): (&Span, &Planned)| {
            let mut advance = span.advance.clone();
            let first = self.entries.get(span.records.start);
            if let Some(at) = planned.full_at {
                advance.to = at;
                // Nothing at all was taken in: no step.
                first.filter(|entry| entry.record.source.offset != at)?;
            }
            Some(advance)
        };
        spans.filter_map(advance).collect()
    }

    pub(super) fn applied(&self, plan: &Plan) -> Applied {
        let mut applied = Applied::default();
        for fate in &plan.fates {
            match fate {
                Fate::Apply => applied.records_applied += 1,
                Fate::Park => applied.records_rejected += 1,
                Fate::Queue(_) => applied.records_queued += 1,
                Fate::Leave => {}
            }
        }
        let advances = self.advances(plan);
        for (span, planned) in self.spans.iter().zip(&plan.partitions) {
            let topic_partition = &span.advance.topic_partition;
            let step = advances
                .iter()
                .find(|a| a.topic_partition == *topic_partition);
            if let Some(step) = step {
                let fates = &plan.fates[span.records()];
                applied.ranges.push(AppliedRange {
                    topic_partition: topic_partition.clone(),
                    from: step.from,
                    to: step.to,
                    records: fates.iter().filter(|fate| **fate != Fate::Leave).count() as u64,
                });
            }
            applied.full.extend(planned.full_at.map(|at| FullPartition {
                topic_partition: topic_partition.clone(),
                at,
            }));
        }
        applied
    }
}
