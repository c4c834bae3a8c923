//! The timers and clocks of the partitions that this instance owns, in memory.
//!
//! A copy of what the store holds: read when a partition is claimed, kept up by what each transaction
//! has written. Another instance may have cleared or moved a timer since (from a partition of its own),
//! so a firing looks at the store's row once more. Memory: about 150 bytes a timer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Timer, TimerRules, clock_of};
use crate::record::TopicPartition;
use crate::rows::Change;
use crate::table::Row;
use crate::value::KeyPart;

/// Which timers are due.
#[derive(Clone, Debug)]
pub struct TimerHeap {
    rules: TimerRules,
    partitions: BTreeMap<TopicPartition, Timers>,
    /// The partition and due time of each timer, by name.
    names: HashMap<String, (TopicPartition, i64)>,
}

/// What is known of one partition.
#[derive(Clone, Debug, Default)]
struct Timers {
    /// Nothing has been read in it yet: no clock.
    clock_ms: Option<i64>,
    /// Due time and name.
    due: BTreeSet<(i64, String)>,
}

impl TimerHeap {
    /// No partitions yet.
    pub fn new(rules: TimerRules) -> Self {
        Self {
            rules,
            partitions: BTreeMap::new(),
            names: HashMap::new(),
        }
    }

    /// Takes partitions over, with what the store holds of them; rows of others are left out.
    pub fn restore<'r>(
        &mut self,
        claimed: &[TopicPartition],
        timers: impl IntoIterator<Item = &'r Row>,
        clocks: impl IntoIterator<Item = &'r Row>,
    ) {
        for partition in claimed {
            self.forget(partition);
            if self.rules.has_clock(partition) {
                self.partitions.insert(partition.clone(), Timers::default());
            }
        }
        for timer in timers.into_iter().filter_map(Timer::of) {
            if claimed.contains(&timer.topic_partition) {
                self.insert(timer);
            }
        }
        for (partition, clock_ms) in clocks.into_iter().filter_map(clock_of) {
            if claimed.contains(&partition) {
                self.move_clock(&partition, clock_ms);
            }
        }
    }

    /// The partition is somebody else's.
    pub fn forget(&mut self, partition: &TopicPartition) {
        if let Some(timers) = self.partitions.remove(partition) {
            for (_, name) in timers.due {
                self.names.remove(&name);
            }
        }
    }

    /// Takes in what a transaction has written to the two tables.
    pub fn written<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) {
        for change in changes {
            match change {
                Change::Put(row) if row.table().name() == self.rules.timers => {
                    if let Some(timer) = Timer::of(row) {
                        self.remove(&timer.name);
                        self.insert(timer);
                    }
                }
                Change::Put(row) if row.table().name() == self.rules.clocks => {
                    if let Some((partition, clock_ms)) = clock_of(row) {
                        self.move_clock(&partition, clock_ms);
                    }
                }
                Change::Delete(key) if key.table == self.rules.timers => {
                    if let Some(KeyPart::Text(name)) = key.parts.first() {
                        self.remove(name);
                    }
                }
                _ => {}
            }
        }
    }

    /// The timer turned out not to be the store's: somebody else has cleared or moved it.
    pub(crate) fn remove(&mut self, name: &str) {
        if let Some((partition, due_ms)) = self.names.remove(name)
            && let Some(timers) = self.partitions.get_mut(&partition)
        {
            timers.due.remove(&(due_ms, name.to_owned()));
        }
    }

    /// Whether there is nothing to look at: the partition is known, or has no clock.
    pub fn knows(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition) || !self.rules.has_clock(partition)
    }

    /// The timers of a partition that are to fire now, `max` at most: by due time, then name.
    pub fn due(&self, partition: &TopicPartition, max: usize) -> Vec<Timer> {
        let clock_ms = self.clock_ms(partition);
        let Some((timers, clock_ms)) = self.partitions.get(partition).zip(clock_ms) else {
            return Vec::new();
        };
        let past_ms = clock_ms.saturating_sub(self.rules.lateness_ms);
        let due = timers.due.iter().take_while(|first| first.0 <= past_ms);
        let timer = |(due_ms, name): &(i64, String)| Timer {
            due_ms: *due_ms,
            name: name.clone(),
            topic_partition: partition.clone(),
        };
        due.take(max).map(timer).collect()
    }

    /// The clock of a partition; `None` if it has none.
    pub fn clock_ms(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.clock_ms
    }

    /// Whether a timer of the partition would be due if its clock stood at `clock_ms`.
    pub fn would_be_due(&self, partition: &TopicPartition, clock_ms: i64) -> bool {
        let past_ms = clock_ms.saturating_sub(self.rules.lateness_ms);
        let first = self.partitions.get(partition).and_then(|t| t.due.first());
        first.is_some_and(|first| first.0 <= past_ms)
    }

    /// Timers of the owned partitions.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn insert(&mut self, timer: Timer) {
        let Timer {
            due_ms,
            name,
            topic_partition,
        } = timer;
        // One of a partition that is not ours fires elsewhere.
        if let Some(timers) = self.partitions.get_mut(&topic_partition) {
            timers.due.insert((due_ms, name.clone()));
            self.names.insert(name, (topic_partition, due_ms));
        }
    }

    fn move_clock(&mut self, partition: &TopicPartition, clock_ms: i64) {
        if let Some(timers) = self.partitions.get_mut(partition) {
            timers.clock_ms = timers.clock_ms.max(Some(clock_ms));
        }
    }
}
