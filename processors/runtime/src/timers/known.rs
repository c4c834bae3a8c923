//! What an instance knows of its partitions' timers, shared between those who apply and those who
//! claim. The lock is never held across an await.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Timer, TimerHeap, TimerRules};
use crate::record::TopicPartition;
use crate::rows::Change;
use crate::table::Row;

/// A handle to the [`TimerHeap`] of an instance.
#[derive(Clone, Debug)]
pub struct KnownTimers {
    heap: Arc<Mutex<TimerHeap>>,
}

impl KnownTimers {
    /// Nothing is known yet.
    pub(crate) fn new(rules: TimerRules) -> Self {
        Self {
            heap: Arc::new(Mutex::new(TimerHeap::new(rules))),
        }
    }

    /// Forgets partitions: somebody else may own them, or may have owned them since.
    pub fn forget<'p>(&self, partitions: impl IntoIterator<Item = &'p TopicPartition>) {
        let mut heap = self.heap.lock();
        partitions.into_iter().for_each(|p| heap.forget(p));
    }

    /// Those partitions that have a clock and were not looked at yet.
    pub fn unknown<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Vec<TopicPartition> {
        let heap = self.heap.lock();
        let unknown = partitions.into_iter().filter(|p| !heap.knows(p));
        unknown.cloned().collect()
    }

    /// Whether a timer of the partition is due.
    pub fn has_due(&self, partition: &TopicPartition) -> bool {
        !self.due(partition, 1).is_empty()
    }

    /// Whether a timer of the partition would be due if its clock stood at `clock_ms`.
    pub fn would_be_due(&self, partition: &TopicPartition, clock_ms: i64) -> bool {
        self.heap.lock().would_be_due(partition, clock_ms)
    }

    /// Timers of the partitions that were looked at.
    pub fn count(&self) -> usize {
        self.heap.lock().len()
    }

    pub(crate) fn due(&self, partition: &TopicPartition, max: usize) -> Vec<Timer> {
        self.heap.lock().due(partition, max)
    }

    pub(crate) fn restore(&self, claimed: &[TopicPartition], timers: &[Row], clocks: &[Row]) {
        self.heap.lock().restore(claimed, timers, clocks);
    }

    pub(crate) fn written(&self, changes: &[Change]) {
        self.heap.lock().written(changes);
    }

    pub(crate) fn remove(&self, names: &[String]) {
        let mut heap = self.heap.lock();
        for name in names {
            heap.remove(name);
        }
    }
}
