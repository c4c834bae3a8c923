//! What is different about a driver that fills a build beside the live one: nothing is published,
//! each partition may end at an offset, and it may be slowed down.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use conveyor_record::Offset;

use crate::applier::PartitionBatch;
use crate::record::TopicPartition;

/// Longest wait between two batches, so that whoever fills is soon stopped.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How a build is filled that is not live.
#[derive(Clone, Debug, Default)]
pub struct Filling {
    /// Where an empty build begins; a partition that is not named begins with its first record.
    pub from: BTreeMap<TopicPartition, Offset>,
    /// The first offset of each partition that is left out; a partition that is not named is read to
    /// wherever it ends.
    pub until: BTreeMap<TopicPartition, Offset>,
    /// Records a second at most, to leave the log and the store to others.
    pub records_per_second_max: Option<NonZeroU32>,
}

impl Filling {
    /// Leaves out what lies behind the ends.
    pub fn cut(&self, batch: Vec<PartitionBatch>) -> Vec<PartitionBatch> {
        batch
            .into_iter()
            .filter_map(|part| self.cut_one(part))
            .collect()
    }

    /// Whether a partition that stands at `at` has come to its end: what is read of it beyond is left
    /// out.
    pub fn has_ended(&self, topic_partition: &TopicPartition, at: Offset) -> bool {
        let until = self.until.get(topic_partition);
        until.is_some_and(|until| at >= *until)
    }

    fn cut_one(&self, mut part: PartitionBatch) -> Option<PartitionBatch> {
        let Some(&until) = self.until.get(&part.topic_partition) else {
            return Some(part);
        };
        part.records.retain(|record| record.source.offset < until);
        part.to = part.to.min(until);
        let moves = part.from.is_none_or(|from| from < part.to);
        (moves && until > Offset(0)).then_some(part)
    }

    /// How long to wait before the next batch. `taken` records were taken in since `since_begin`
    /// began.
    pub fn wait(&self, taken: u64, since_begin: Duration) -> Duration {
        let Some(rate) = self.records_per_second_max else {
            return Duration::ZERO;
        };
        let due_ms = taken.saturating_mul(1_000) / u64::from(rate.get());
        let due = Duration::from_millis(due_ms);
        due.saturating_sub(since_begin).min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Source, SourceRecord};
    use crate::store::OwnerEpoch;

    fn part(from: i64, to: i64) -> PartitionBatch {
        let record = |offset| SourceRecord {
            source: Source {
                topic: "t".into(),
                partition: 0,
                offset: Offset(offset),
                timestamp_ms: 0,
            },
            key: None,
            value: None,
            headers: Vec::new(),
        };
        PartitionBatch {
            topic_partition: TopicPartition::new("t", 0),
            from: (from > 0).then_some(Offset(from)),
            to: Offset(to),
            owner_epoch: OwnerEpoch(1),
            records: (from..to).map(record).collect(),
        }
    }

    proptest! {
        #[test]
        fn nothing_behind_the_end_is_taken_in_and_all_before_it_is(
            until in 0..40i64, size in 1..9i64, end in 1..40i64
        ) {
            let filling = Filling {
                until: BTreeMap::from([(TopicPartition::new("t", 0), Offset(until))]),
                ..Filling::default()
            };
            let (mut at, mut taken) = (0, Vec::new());
            for from in (0..end).step_by(size as usize) {
                for part in filling.cut(vec![part(from, (from + size).min(end))]) {
                    prop_assert_eq!(part.from.map_or(0, Offset::value), at);
                    at = part.to.value();
                    taken.extend(part.records.iter().map(|r| r.source.offset.value()));
                }
            }
            prop_assert_eq!(at, until.min(end));
            prop_assert_eq!(taken, (0..until.min(end)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_rate_is_kept_in_the_mean_and_no_wait_is_long() {
        let filling = Filling {
            records_per_second_max: NonZeroU32::new(1_000),
            ..Filling::default()
        };
        assert_eq!(
            filling.wait(500, Duration::from_millis(200)),
            Duration::from_millis(300)
        );
        assert_eq!(filling.wait(500, Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(filling.wait(90_000, Duration::ZERO), WAIT_MAX);
        assert_eq!(
            Filling::default().wait(90_000, Duration::ZERO),
            Duration::ZERO
        );
    }
}
