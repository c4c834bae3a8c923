//! Records that wait to be written. Pure: time is given.
//!
//! One part for each partition, without gaps from where the target stands. A buffer holds at most
//! what its limits say and one poll more, so that a slow target slows the reading.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conveyor_processors::store::OwnerEpoch;
use conveyor_processors::{SourceRecord, TopicPartition};
use conveyor_record::Offset;

use crate::settings::BatchLimits;

/// Records of one partition that are written together.
#[derive(Clone, Debug)]
pub struct Part {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The claim under which it was read.
    pub owner_epoch: OwnerEpoch,
    /// Where the target stands; `None`: it has nothing of this partition.
    pub from: Option<Offset>,
    /// Where it stands once this is written: behind the last record.
    pub to: Offset,
    /// In offset order; those that are done with are taken out.
    pub records: Vec<SourceRecord>,
    /// How many of them went to `error-events`.
    pub rejected: u64,
}

/// How parts are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The limits are those of all partitions together: one write takes what there is.
    Together,
    /// The limits are those of each partition, and parts end exactly where they say, whatever a poll
    /// brings; bytes of all partitions together are bounded.
    Apart {
        /// Bytes of all partitions at most, before the largest part is written early.
        bytes_max: usize,
    },
}

/// A record is counted as that many bytes beside its own.
const RECORD_BYTES: usize = 64;

/// Records of a partition, and where it stands.
#[derive(Debug)]
struct Waiting {
    owner_epoch: OwnerEpoch,
    from: Option<Offset>,
    /// After the last record, or after the gap behind it.
    to: Offset,
    records: Vec<SourceRecord>,
    bytes: usize,
    /// When the first of them came.
    since: Instant,
    /// A part that was begun before and must end here.
    redo_until: Option<Offset>,
}

/// Records that wait to be written.
#[derive(Debug)]
pub struct Buffer {
    limits: BatchLimits,
    grouping: Grouping,
    waiting: BTreeMap<TopicPartition, Waiting>,
}

/// What a poll brought of one partition.
#[derive(Debug)]
pub struct Polled {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The claim it is held under.
    pub owner_epoch: OwnerEpoch,
    /// Where the target stands.
    pub from: Option<Offset>,
    /// The records, in offset order.
    pub records: Vec<SourceRecord>,
    /// Where to read on.
    pub next_offset: Offset,
}

impl Buffer {
    /// An empty one.
    pub const fn new(limits: BatchLimits, grouping: Grouping) -> Self {
        Self {
            limits,
            grouping,
            waiting: BTreeMap::new(),
        }
    }

    /// A partition has come: whatever was here of it is void. `redo_until`: the target has begun a
    /// part that ends there.
    pub fn begin(
        &mut self,
        partition: TopicPartition,
        owner_epoch: OwnerEpoch,
        from: Option<Offset>,
        redo_until: Option<Offset>,
        now: Instant,
    ) {
        let waiting = Waiting {
            owner_epoch,
            from,
            to: from.unwrap_or_default(),
            records: Vec::new(),
            bytes: 0,
            since: now,
            redo_until,
        };
        self.waiting.insert(partition, waiting);
    }

    /// Keeps only partitions that `is_ours` under the epoch they were begun with.
    pub fn retain(&mut self, is_ours: impl Fn(&TopicPartition, OwnerEpoch) -> bool) {
        self.waiting
            .retain(|partition, waiting| is_ours(partition, waiting.owner_epoch));
    }

    /// Takes in what a poll brought; what is here already is left out.
    pub fn push(&mut self, polled: Polled, now: Instant) {
        let is_same = |waiting: &Waiting| waiting.owner_epoch == polled.owner_epoch;
        if !self
            .waiting
            .get(&polled.topic_partition)
            .is_some_and(is_same)
        {
            self.begin(
                polled.topic_partition.clone(),
                polled.owner_epoch,
                polled.from,
                None,
                now,
            );
        }
        let Some(waiting) = self.waiting.get_mut(&polled.topic_partition) else {
            return;
        };
        if waiting.records.is_empty() {
            waiting.since = now;
        }
        let after = (!waiting.records.is_empty() || waiting.from.is_some()).then_some(waiting.to);
        for record in polled.records {
            if after.is_none_or(|after| record.source.offset >= after) {
                waiting.bytes += record.size_bytes() + RECORD_BYTES;
                waiting.records.push(record);
            }
        }
        waiting.to = waiting.to.max(polled.next_offset);
    }

    /// How long until something is due by time; `None`: nothing waits.
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        let waiting = self
            .waiting
            .values()
            .filter(|waiting| !waiting.records.is_empty());
        let oldest = waiting.map(|waiting| waiting.since).min()?;
        Some((oldest + self.limits.wait).saturating_duration_since(now))
    }

    /// The next parts to write, if anything is due. To be asked until there is nothing.
    pub fn take_due(&mut self, now: Instant) -> Vec<Part> {
        match self.grouping {
            Grouping::Together => self.take_together(now),
            Grouping::Apart { bytes_max } => self.take_apart(now, bytes_max).into_iter().collect(),
        }
    }

    /// Everything up to the limits, if the limits or the time are reached.
    fn take_together(&mut self, now: Instant) -> Vec<Part> {
        let records: usize = self.waiting.values().map(|w| w.records.len()).sum();
        let bytes: usize = self.waiting.values().map(|w| w.bytes).sum();
        let is_full = records >= self.limits.records_max || bytes >= self.limits.bytes_max;
        let is_late = self.due_in(now) == Some(Duration::ZERO);
        if records == 0 || !(is_full || is_late) {
            return Vec::new();
        }
        let (mut room, mut bytes_room) = (self.limits.records_max, self.limits.bytes_max);
        let mut parts = Vec::new();
        // The partition that has waited longest comes first, so that a busy one starves nobody.
        let mut order: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, w)| !w.records.is_empty())
            .map(|(p, w)| (w.since, p.clone()))
            .collect();
        order.sort();
        for (_, partition) in order {
            if room == 0 || bytes_room == 0 {
                break;
            }
            if let Some(waiting) = self.waiting.get_mut(&partition) {
                let end = waiting.end(room, bytes_room);
                let part = waiting.cut(partition, end, now);
                room -= part.records.len().min(room);
                bytes_room = bytes_room.saturating_sub(size_of(&part.records));
                parts.push(part);
            }
        }
        parts
    }

    /// The part of one partition that is complete: by what was begun before, by the limits, by time,
    /// or because all of them together have become too large.
    fn take_apart(&mut self, now: Instant, bytes_max: usize) -> Option<Part> {
        let BatchLimits {
            records_max,
            bytes_max: part_bytes_max,
            wait,
        } = self.limits;
        for (partition, waiting) in &mut self.waiting {
            if let Some(until) = waiting.redo_until {
                // Whatever the settings are now: that part was begun and must end where it says.
                if waiting.to >= until {
                    let end = waiting.records.partition_point(|r| r.source.offset < until);
                    let mut part = waiting.cut(partition.clone(), end, now);
                    part.to = until;
                    waiting.from = Some(until);
                    waiting.redo_until = None;
                    return Some(part);
                }
                continue;
            }
            let is_full = waiting.records.len() >= records_max || waiting.bytes >= part_bytes_max;
            let is_late = !waiting.records.is_empty() && now >= waiting.since + wait;
            if is_full || is_late {
                let end = waiting.end(records_max, part_bytes_max);
                return Some(waiting.cut(partition.clone(), end, now));
            }
        }
        let total: usize = self.waiting.values().map(|w| w.bytes).sum();
        let (partition, waiting) = self
            .waiting
            .iter_mut()
            .filter(|(_, w)| w.redo_until.is_none())
            .max_by_key(|(_, w)| w.bytes)?;
        if total <= bytes_max || waiting.records.is_empty() {
            return None;
        }
        let end = waiting.records.len();
        Some(waiting.cut(partition.clone(), end, now))
    }
}

fn size_of(records: &[SourceRecord]) -> usize {
    records
        .iter()
        .map(|record| record.size_bytes() + RECORD_BYTES)
        .sum()
}

impl Waiting {
    /// How many records make a part: at most `records_max`, and the one that reaches `bytes_max` is
    /// the last. Depends on the records alone.
    fn end(&self, records_max: usize, bytes_max: usize) -> usize {
        let mut bytes = 0;
        for (index, record) in self.records.iter().take(records_max).enumerate() {
            bytes += record.size_bytes() + RECORD_BYTES;
            if bytes >= bytes_max {
                return index + 1;
            }
        }
        self.records.len().min(records_max)
    }

    /// Takes the first `end` records out. The part ends behind its last record: a gap that follows
    /// may be seen or not, and parts are to end at the same place whenever they are read.
    fn cut(&mut self, topic_partition: TopicPartition, end: usize, now: Instant) -> Part {
        let rest = self.records.split_off(end);
        let records = std::mem::replace(&mut self.records, rest);
        self.bytes = self.bytes.saturating_sub(size_of(&records));
        self.since = now;
        let to = records
            .last()
            .map_or(self.to, |last| last.source.offset.next());
        let from = self.from.replace(to);
        Part {
            topic_partition,
            owner_epoch: self.owner_epoch,
            from,
            to,
            records,
            rejected: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use conveyor_processors::Source;
    use proptest::prelude::*;

    use super::*;

    fn polled(partition: i32, offsets: std::ops::Range<i64>) -> Polled {
        let next_offset = Offset(offsets.end);
        let record = |offset: i64| SourceRecord {
            source: Source {
                topic: "t".into(),
                partition,
                offset: Offset(offset),
                timestamp_ms: 0,
            },
            key: None,
            value: Some(Bytes::from(vec![0; (offset % 7) as usize])),
            headers: Vec::new(),
        };
        Polled {
            topic_partition: TopicPartition::new("t", partition),
            owner_epoch: OwnerEpoch(1),
            from: None,
            records: offsets.map(record).collect(),
            next_offset,
        }
    }

    fn limits(records_max: usize, bytes_max: usize) -> BatchLimits {
        BatchLimits {
            records_max,
            bytes_max,
            wait: Duration::from_secs(1),
        }
    }

    const APART: Grouping = Grouping::Apart {
        bytes_max: usize::MAX,
    };

    fn spans(parts: &[Part]) -> Vec<(i32, Option<i64>, i64, usize)> {
        let span = |part: &Part| {
            let from = part.from.map(Offset::value);
            (
                part.topic_partition.partition,
                from,
                part.to.value(),
                part.records.len(),
            )
        };
        parts.iter().map(span).collect()
    }

    fn drain(buffer: &mut Buffer, now: Instant) -> Vec<Part> {
        let mut parts = Vec::new();
        loop {
            let due = buffer.take_due(now);
            if due.is_empty() {
                return parts;
            }
            parts.extend(due);
        }
    }

    #[test]
    fn what_waits_is_due_when_full_or_late() {
        let now = Instant::now();
        let mut buffer = Buffer::new(limits(5, usize::MAX), Grouping::Together);
        assert_eq!(buffer.due_in(now), None);
        buffer.push(polled(0, 0..3), now);
        assert!(buffer.take_due(now).is_empty());
        buffer.push(polled(1, 0..3), now);
        assert_eq!(
            spans(&buffer.take_due(now)),
            [(0, None, 3, 3), (1, None, 2, 2)]
        );
        assert!(buffer.take_due(now).is_empty());
        let later = now + Duration::from_secs(1);
        assert_eq!(buffer.due_in(later), Some(Duration::ZERO));
        assert_eq!(spans(&buffer.take_due(later)), [(1, Some(2), 3, 1)]);
    }

    #[test]
    fn what_was_begun_before_ends_where_it_did() {
        let now = Instant::now();
        let mut buffer = Buffer::new(limits(2, usize::MAX), APART);
        let partition = TopicPartition::new("t", 0);
        let begin = |buffer: &mut Buffer| {
            let (from, until) = (Some(Offset(10)), Some(Offset(15)));
            buffer.begin(partition.clone(), OwnerEpoch(1), from, until, now);
        };
        begin(&mut buffer);
        buffer.push(polled(0, 10..14), now);
        assert!(buffer.take_due(now).is_empty(), "not all of it is here");
        buffer.push(polled(0, 14..20), now);
        let parts = spans(&drain(&mut buffer, now));
        let expected = [
            (0, Some(10), 15, 5),
            (0, Some(15), 17, 2),
            (0, Some(17), 19, 2),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_partition_that_comes_again_begins_anew() {
        let now = Instant::now();
        let mut buffer = Buffer::new(limits(100, usize::MAX), APART);
        buffer.push(polled(0, 0..5), now);
        let mut again = polled(0, 3..6);
        (again.owner_epoch, again.from) = (OwnerEpoch(2), Some(Offset(3)));
        buffer.push(again, now);
        let late = now + Duration::from_secs(1);
        assert_eq!(spans(&buffer.take_due(late)), [(0, Some(3), 6, 3)]);
        buffer.push(polled(1, 0..5), now);
        buffer.retain(|partition, _| partition.partition == 0);
        assert_eq!(buffer.due_in(now), None);
    }

    #[test]
    fn the_largest_part_goes_early_when_all_are_too_large() {
        let now = Instant::now();
        let mut buffer = Buffer::new(limits(100, usize::MAX), Grouping::Apart { bytes_max: 500 });
        buffer.push(polled(0, 0..2), now);
        buffer.push(polled(1, 0..6), now);
        assert_eq!(spans(&drain(&mut buffer, now)), [(1, None, 6, 6)]);
    }

    proptest! {
        /// Parts depend on the records alone: neither on what a poll brought, nor on where reading
        /// began anew.
        #[test]
        fn parts_end_at_the_same_offsets_however_they_are_read(
            polls in prop::collection::vec(1_i64..40, 1..30),
            others in prop::collection::vec(1_i64..40, 1..30),
            records_max in 1_usize..20,
            bytes_max in 1_usize..2_000,
            restart in 0_usize..20,
        ) {
            let now = Instant::now();
            let read = |polls: &[i64], from: Option<i64>, end: i64| {
                let mut buffer = Buffer::new(limits(records_max, bytes_max), APART);
                let begins = from.map(Offset);
                buffer.begin(TopicPartition::new("t", 0), OwnerEpoch(1), begins, None, now);
                let (mut at, mut ends) = (from.unwrap_or(0), Vec::new());
                for size in polls.iter().cycle() {
                    if at >= end {
                        break;
                    }
                    let to = (at + size).min(end);
                    buffer.push(polled(0, at..to), now);
                    ends.extend(drain(&mut buffer, now).iter().map(|part| part.to.value()));
                    at = to;
                }
                ends
            };
            let end = polls.iter().sum::<i64>();
            let first = read(&polls, None, end);
            prop_assert_eq!(&read(&others, None, end), &first);
            if let Some(&from) = first.get(restart) {
                let rest: Vec<_> = first.iter().copied().filter(|to| *to > from).collect();
                prop_assert_eq!(read(&others, Some(from), end), rest);
            }
        }
    }
}
