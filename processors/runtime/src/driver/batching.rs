//! What a poll brought, as transactions of a bounded size.

use std::collections::VecDeque;

use conveyor_record::Offset;
use conveyor_sdk::consumer::PartitionRecords;

use super::ownership::{Ownership, ours};
use crate::applier::PartitionBatch;
use crate::record::{SourceRecord, TopicPartition};

/// What was polled and not applied yet, in order.
#[derive(Debug)]
pub(super) struct Waiting {
    parts: VecDeque<PartitionBatch>,
}

/// A poll has begun beyond the place where the store stands: records between are missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a poll of {topic_partition} began at offset {position}, but the store stands at {expected}: \
     nothing of it is taken in"
)]
pub(super) struct Skipped {
    topic_partition: TopicPartition,
    position: Offset,
    expected: Offset,
}

impl Waiting {
    /// Takes in what was polled. Records of partitions that are not ours, and those that the store
    /// has already, are left out. A poll that begins beyond the store is refused whole: taken in, it
    /// would move the store's position over records that are in no row. Of partitions that have come to
    /// the end of what is wanted, nothing is taken.
    pub(super) fn new(
        polled: Vec<PartitionRecords>,
        owned: &Ownership,
        has_ended: impl Fn(&TopicPartition, Offset) -> bool,
    ) -> Result<Self, Skipped> {
        let mut parts = VecDeque::with_capacity(polled.len());
        for partition in polled {
            let topic_partition = ours(&partition.topic_partition);
            owned.heard_end(&topic_partition, partition.high_watermark);
            let Some(claim) = owned.get(&topic_partition) else {
                continue;
            };
            let stands = claim.next_offset;
            if stands.is_some_and(|at| has_ended(&topic_partition, at)) {
                continue;
            }
            if let Some(expected) = stands
                && partition.position > expected
            {
                return Err(Skipped {
                    topic_partition,
                    position: partition.position,
                    expected,
                });
            }
            let is_new = |offset| claim.next_offset.is_none_or(|from| offset >= from);
            let records = partition.records.into_iter();
            let records = records.filter(|record| is_new(record.offset));
            let records: Vec<_> = records
                .map(|record| SourceRecord::new(&topic_partition, record))
                .collect();
            if !records.is_empty() {
                parts.push_back(PartitionBatch {
                    topic_partition,
                    from: claim.next_offset,
                    // What lies behind the last record (markers, gaps) goes with it.
                    to: partition.next_offset,
                    owner_epoch: claim.owner_epoch,
                    records,
                });
            }
        }
        Ok(Self { parts })
    }

    /// The next batch, of at most `records_max` records, at least one; none when all is taken.
    pub(super) fn take(&mut self, records_max: usize) -> Option<Vec<PartitionBatch>> {
        let mut room = records_max.max(1);
        let mut batch = Vec::new();
        while room > 0 {
            let Some(mut part) = self.parts.pop_front() else {
                break;
            };
            if part.records.len() > room {
                self.parts.push_front(part.split_off(room));
            }
            room -= part.records.len();
            batch.push(part);
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Gives back a batch that was taken last, to be taken in smaller ones.
    pub(super) fn put_back(&mut self, batch: Vec<PartitionBatch>) {
        for part in batch.into_iter().rev() {
            self.parts.push_front(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use conveyor_record::{LeaderEpoch, Record};

    use super::*;
    use crate::store::{OwnerEpoch, Position};

    fn polled(partition: i32, offsets: std::ops::Range<i64>, next_offset: i64) -> PartitionRecords {
        let record = |offset| Record {
            offset: Offset(offset),
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        PartitionRecords {
            topic_partition: ("t", partition).into(),
            position: Offset(offsets.start),
            records: offsets.map(record).collect(),
            next_offset: Offset(next_offset),
            leader_epoch: LeaderEpoch(0),
            high_watermark: Offset(next_offset),
        }
    }

    fn owned(partition: i32, next_offset: Option<i64>) -> Ownership {
        let owned = Ownership::default();
        let topic_partition = TopicPartition::new("t", partition);
        let position = next_offset.map(|next_offset| Position {
            topic_partition: topic_partition.clone(),
            next_offset: Offset(next_offset),
            owner_epoch: OwnerEpoch(1),
        });
        owned.claimed(
            &[topic_partition],
            OwnerEpoch(1),
            position.into_iter().collect(),
        );
        owned
    }

    fn split(
        polled: Vec<PartitionRecords>,
        owned: &Ownership,
        records_max: usize,
    ) -> Vec<Vec<PartitionBatch>> {
        let mut waiting = Waiting::new(polled, owned, |_, _| false).unwrap();
        std::iter::from_fn(|| waiting.take(records_max)).collect()
    }

    fn spans(batches: &[Vec<PartitionBatch>]) -> Vec<Vec<(Option<i64>, i64, usize)>> {
        let span = |p: &PartitionBatch| (p.from.map(Offset::value), p.to.value(), p.records.len());
        batches
            .iter()
            .map(|batch| batch.iter().map(span).collect())
            .collect()
    }

    #[test]
    fn batches_follow_on_each_other_and_end_where_the_poll_ends() {
        let batches = split(vec![polled(0, 10..15, 17)], &owned(0, Some(10)), 2);
        let expected = [
            vec![(Some(10), 12, 2)],
            vec![(Some(12), 14, 2)],
            vec![(Some(14), 17, 1)],
        ];
        assert_eq!(spans(&batches), expected);
    }

    #[test]
    fn what_the_store_has_already_is_left_out() {
        let batches = split(vec![polled(0, 5..12, 12)], &owned(0, Some(10)), 100);
        assert_eq!(spans(&batches), [vec![(Some(10), 12, 2)]]);
        assert!(split(vec![polled(0, 5..8, 8)], &owned(0, Some(10)), 100).is_empty());
    }

    #[test]
    fn a_poll_beyond_the_store_is_refused() {
        let polled = vec![polled(0, 12..15, 15)];
        let here = owned(0, Some(10));
        let refused = Waiting::new(polled.clone(), &here, |_, _| false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a poll of t-0 began at offset 12, but the store stands at 10: nothing of it is taken in"
        );
        // A partition of which the store has nothing begins wherever its log does.
        assert!(Waiting::new(polled.clone(), &owned(0, None), |_, _| false).is_ok());
        // A build up to a moment reads on, and takes nothing more.
        let mut ended = Waiting::new(polled, &here, |_, at| at >= Offset(10)).unwrap();
        assert!(ended.take(100).is_none());
    }

    #[test]
    fn partitions_of_others_are_left_out() {
        assert!(split(vec![polled(1, 0..3, 3)], &owned(0, None), 100).is_empty());
    }

    #[test]
    fn several_partitions_share_a_batch() {
        let owned = owned(0, None);
        owned.claimed(&[TopicPartition::new("t", 1)], OwnerEpoch(1), Vec::new());
        let batches = split(vec![polled(0, 0..3, 3), polled(1, 0..3, 3)], &owned, 4);
        assert_eq!(
            spans(&batches),
            [vec![(None, 3, 3), (None, 1, 1)], vec![(Some(1), 3, 2)]]
        );
    }

    #[test]
    fn what_is_given_back_comes_again_in_order_and_smaller() {
        let owned = owned(0, Some(10));
        owned.claimed(&[TopicPartition::new("t", 1)], OwnerEpoch(1), Vec::new());
        let polled = vec![polled(0, 10..14, 15), polled(1, 0..3, 3)];
        let mut waiting = Waiting::new(polled, &owned, |_, _| false).unwrap();
        let whole = waiting.take(6).unwrap();
        assert_eq!(
            spans(std::slice::from_ref(&whole)),
            [[(Some(10), 15, 4), (None, 2, 2)]]
        );
        waiting.put_back(whole);
        let rest: Vec<_> = std::iter::from_fn(|| waiting.take(3)).collect();
        assert_eq!(
            spans(&rest),
            [
                vec![(Some(10), 13, 3)],
                vec![(Some(13), 15, 1), (None, 2, 2)],
                vec![(Some(2), 3, 1)]
            ]
        );
    }
}
