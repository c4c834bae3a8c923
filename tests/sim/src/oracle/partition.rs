//! What the oracle knows of one partition: everything that was ever committed, and who led when.

use std::collections::BTreeMap;

use conveyor_record::{LeaderEpoch, NodeId};
use conveyor_replication::LogState;

use super::{Verdict, expect};
use crate::broker::BrokerNode;
use crate::broker::shadow::Entry;
use crate::message::PartitionId;

/// What is known of one partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Everything that was ever below a leader's high watermark, ascending and without a gap.
    pub(super) committed: Vec<Entry>,
    /// In which leadership each of them was committed first.
    pub(super) committed_in: Vec<LeaderEpoch>,
    /// The end of what producers were told.
    pub(super) acknowledged: i64,
    /// Below, records may have been deleted.
    pub(super) deleted_to: i64,
    pub(super) leaders: BTreeMap<LeaderEpoch, NodeId>,
    /// Place of the decision that gave an epoch.
    pub(super) epochs_given: BTreeMap<LeaderEpoch, i64>,
    pub(super) next_sequence: BTreeMap<i64, i32>,
    /// Up to which committed batch a log has been compared, in which start of its broker.
    pub(super) compared: BTreeMap<NodeId, (u64, usize)>,
    pub(super) positions: BTreeMap<(NodeId, u64), LogState>,
}

impl Partition {
    pub(super) fn committed_end(&self) -> i64 {
        self.committed.last().map_or(0, |entry| entry.next)
    }

    pub(super) fn at(&self, base: i64) -> Option<&Entry> {
        let index = self
            .committed
            .binary_search_by_key(&base, |entry| entry.base)
            .ok()?;
        self.committed.get(index)
    }

    pub(super) fn committed_in(&self, base: i64) -> Option<LeaderEpoch> {
        let index = self
            .committed
            .binary_search_by_key(&base, |entry| entry.base)
            .ok()?;
        self.committed_in.get(index).copied()
    }

    /// A leader's high watermark has passed a batch.
    pub(super) fn commit(
        &mut self,
        entry: &Entry,
        high_watermark: i64,
        epoch: LeaderEpoch,
    ) -> Verdict {
        expect(entry.next <= high_watermark, || {
            format!("I5: the high watermark {high_watermark} lies inside {entry:?}")
        })?;
        if entry.base < self.committed_end() {
            let before = self.at(entry.base);
            return expect(before == Some(entry), || {
                format!("I1: {entry:?} is committed where {before:?} was")
            });
        }
        expect(entry.base == self.committed_end(), || {
            format!(
                "I1: {entry:?} is committed behind a gap, {} was the end",
                self.committed_end()
            )
        })?;
        let last_epoch = self.committed.last().map_or(0, |entry| entry.epoch);
        expect(entry.epoch >= last_epoch, || {
            format!("I7: {entry:?} lies behind epoch {last_epoch}")
        })?;
        let next = self.next_sequence.entry(entry.producer).or_insert(0);
        expect(entry.sequence == *next, || {
            format!("I3: {entry:?} is committed, the producer's next sequence is {next}")
        })?;
        *next += (entry.next - entry.base) as i32;
        self.committed.push(*entry);
        self.committed_in.push(epoch);
        Ok(())
    }

    /// Everything committed lies in a broker's log; looks only at what was not compared before.
    pub(super) fn compare(&mut self, broker: &BrokerNode, partition: PartitionId) -> Verdict {
        let Some(shadow) = broker.shadows.get(&partition) else {
            let nothing = self.committed_end() <= self.deleted_to;
            return expect(nothing || self.committed.is_empty(), || {
                "it has no log".to_owned()
            });
        };
        let (start, compared) = self
            .compared
            .get(&broker.node)
            .copied()
            .unwrap_or((broker.start, 0));
        let from = if start == broker.start { compared } else { 0 };
        for entry in &self.committed[from..] {
            if entry.base < self.deleted_to {
                continue;
            }
            let found = shadow.at(entry.base);
            expect(found == Some(entry), || {
                format!("{entry:?} is committed, it has {found:?}")
            })?;
        }
        self.compared
            .insert(broker.node, (broker.start, self.committed.len()));
        Ok(())
    }
}
