//! What each projection has applied, range by range: proof that every record was applied once, and
//! the base of the latencies from produce to row.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use conveyor_paklog::topics::Topic;
use conveyor_processors::TopicPartition;
use conveyor_processors::status::{AppliedRange, Observer};
use conveyor_sdk::Offset;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::workload::deliveries::SentTimes;

/// Hears of every transaction of one projection.
#[derive(Debug)]
pub(crate) struct AppliedLog {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: BTreeMap<TopicPartition, Vec<Step>>,
    /// Ranges that did not follow on the one before: a record lost or applied twice.
    breaks: Vec<String>,
}

/// One transaction's part of a partition.
#[derive(Clone, Copy, Debug)]
struct Step {
    to: i64,
    records: u64,
    at_us: u64,
}

impl AppliedLog {
    /// Times count from `start`.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            inner: Mutex::default(),
        }
    }

    /// Records applied, by topic.
    pub(crate) fn records_by_topic(&self) -> BTreeMap<Topic, u64> {
        let mut by_topic = BTreeMap::new();
        for (topic_partition, steps) in &self.inner.lock().partitions {
            if let Some(topic) = Topic::from_name(&topic_partition.topic) {
                let records: u64 = steps.iter().map(|step| step.records).sum();
                *by_topic.entry(topic).or_default() += records;
            }
        }
        by_topic
    }

    /// The first offset of each partition that is not applied.
    pub(crate) fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        let inner = self.inner.lock();
        let last = |steps: &Vec<Step>| steps.last().map_or(0, |step| step.to);
        inner
            .partitions
            .iter()
            .map(|(name, steps)| (name.clone(), last(steps)))
            .collect()
    }

    /// Where ranges did not follow on each other; empty if every offset was applied once.
    pub(crate) fn breaks(&self) -> Vec<String> {
        self.inner.lock().breaks.clone()
    }

    /// Adds the time from produce to row of every record: those sent before `steady_from_us` to
    /// the first histogram, the others to the second.
    pub(crate) fn record_latencies(
        &self,
        sent: &HashMap<(Topic, i32), SentTimes>,
        steady_from_us: u64,
        full_speed_us: &mut Histogram<u64>,
        steady_us: &mut Histogram<u64>,
    ) {
        for (topic_partition, steps) in &self.inner.lock().partitions {
            let place = Topic::from_name(&topic_partition.topic)
                .and_then(|topic| sent.get(&(topic, topic_partition.partition)));
            let Some(sent) = place else { continue };
            let mut offset = 0;
            for step in steps {
                while offset < step.to {
                    if let Some(sent_us) = sent.sent_us(offset) {
                        let steady = sent_us >= steady_from_us;
                        let histogram = if steady {
                            &mut *steady_us
                        } else {
                            &mut *full_speed_us
                        };
                        histogram.saturating_record(step.at_us.saturating_sub(sent_us));
                    }
                    offset += 1;
                }
            }
        }
    }
}

impl Observer for AppliedLog {
    fn applied(&self, ranges: &[AppliedRange]) {
        let at_us = self.start.elapsed().as_micros() as u64;
        let mut inner = self.inner.lock();
        let Inner { partitions, breaks } = &mut *inner;
        for range in ranges {
            let steps = partitions.entry(range.topic_partition.clone()).or_default();
            let before = steps.last().map_or(0, |step| step.to);
            let from = range.from.map_or(0, Offset::value);
            if from != before {
                let place = &range.topic_partition;
                breaks.push(format!("{place}: applied up to {before}, then from {from}"));
            }
            steps.push(Step {
                to: range.to.value(),
                records: range.records,
                at_us,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: Option<i64>, to: i64) -> AppliedRange {
        AppliedRange {
            topic_partition: TopicPartition::new("order-events", 1),
            from: from.map(Into::into),
            to: to.into(),
            records: (to - from.unwrap_or(0)) as u64,
        }
    }

    #[test]
    fn ranges_that_follow_on_are_counted() {
        let log = AppliedLog::new(Instant::now());
        log.applied(&[range(None, 10)]);
        log.applied(&[range(Some(10), 12)]);
        assert_eq!(log.records_by_topic()[&Topic::Order], 12);
        assert_eq!(log.breaks(), Vec::<String>::new());
    }

    #[test]
    fn a_repeated_or_missing_range_is_noticed() {
        let log = AppliedLog::new(Instant::now());
        log.applied(&[range(None, 10)]);
        log.applied(&[range(Some(8), 12)]);
        log.applied(&[range(Some(13), 15)]);
        assert_eq!(log.breaks().len(), 2);
    }
}
