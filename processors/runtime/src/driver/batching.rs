//! What a poll brought, as transactions of a bounded size.

use conveyor_sdk::consumer::PartitionRecords;

use super::ownership::{Ownership, ours};
use crate::applier::PartitionBatch;
use crate::record::SourceRecord;

/// Splits what was polled into batches of at most `records_max` records, in order. Records of
/// partitions that are not ours, and those that the store has already, are left out.
pub(super) fn split(
    polled: Vec<PartitionRecords>,
    owned: &Ownership,
    records_max: usize,
) -> Vec<Vec<PartitionBatch>> {
    let mut batches = Batches {
        done: Vec::new(),
        open: Vec::new(),
        room: 0,
        records_max,
    };
    for partition in polled {
        let topic_partition = ours(&partition.topic_partition);
        owned.heard_end(&topic_partition, partition.high_watermark);
        let Some(claim) = owned.get(&topic_partition) else {
            continue;
        };
        let mut from = claim.next_offset;
        let is_new = move |offset| from.is_none_or(|from| offset >= from);
        let records = partition
            .records
            .into_iter()
            .filter(move |r| is_new(r.offset));
        let mut records = records
            .map(|record| SourceRecord::new(&topic_partition, record))
            .peekable();
        while records.peek().is_some() {
            let part: Vec<_> = records.by_ref().take(batches.room()).collect();
            let last = part.last().map(|record| record.source.offset.next());
            // The last part takes what lies behind the last record with it (markers, gaps).
            let to = match (records.peek(), last) {
                (Some(_), Some(last)) => last,
                _ => partition.next_offset,
            };
            batches.push(PartitionBatch {
                topic_partition: topic_partition.clone(),
                from,
                to,
                owner_epoch: claim.owner_epoch,
                records: part,
            });
            from = Some(to);
        }
    }
    batches.finish()
}

/// Fills one batch after the other.
struct Batches {
    done: Vec<Vec<PartitionBatch>>,
    open: Vec<PartitionBatch>,
    /// Records that the open batch still takes.
    room: usize,
    records_max: usize,
}

impl Batches {
    /// Records that the next part may have: at least one.
    fn room(&mut self) -> usize {
        if self.room == 0 {
            if !self.open.is_empty() {
                self.done.push(std::mem::take(&mut self.open));
            }
            self.room = self.records_max.max(1);
        }
        self.room
    }

    fn push(&mut self, part: PartitionBatch) {
        self.room = self.room.saturating_sub(part.records.len());
        self.open.push(part);
    }

    fn finish(mut self) -> Vec<Vec<PartitionBatch>> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use conveyor_record::{LeaderEpoch, Offset, Record};

    use super::*;
    use crate::record::TopicPartition;
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
}
