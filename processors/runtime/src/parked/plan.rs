//! What becomes of each record of a batch: applied, parked, queued, or left for later.

use std::collections::BTreeMap;
use std::ops::Range;

use conveyor_record::Offset;

use super::{Failure, KeyName, Limits, ParkedKey, PartitionKeys};
use crate::record::SourceRecord;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its event is applied.
    Apply,
    /// It parks its key.
    Park,
    /// It waits behind the key that was parked at that offset.
    Queue(Offset),
    /// Its partition is full: it is left in the log.
    Leave,
}

/// One partition's part of a batch.
pub(crate) struct Input<'b> {
    /// What is parked in it.
    pub(crate) parked: &'b PartitionKeys,
    /// Which records of the batch are of it.
    pub(crate) records: Range<usize>,
}

/// What one partition's part comes to.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Keys that are as given afterwards.
    pub(crate) changed: Vec<ParkedKey>,
    /// The first record that found no room, if any.
    pub(crate) full_at: Option<Offset>,
}

/// Fates of a batch's records.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One for each record.
    pub(crate) fates: Vec<Fate>,
    /// One for each input.
    pub(crate) partitions: Vec<Planned>,
}

impl Plan {
    /// Sorts the records of a batch; `failures` are those known to be impossible to apply. What
    /// fails behind a parked record of its own key is not tried and just waits.
    pub(crate) fn new<'r>(
        inputs: &[Input<'_>],
        record: impl Fn(usize) -> &'r SourceRecord,
        failures: &BTreeMap<usize, Failure>,
        limits: Limits,
    ) -> Self {
        let mut plan = Self::default();
        for input in inputs {
            let planned = plan.partition(input, &record, failures, limits);
            plan.partitions.push(planned);
        }
        plan
    }

    fn partition<'r>(
        &mut self,
        input: &Input<'_>,
        record: impl Fn(usize) -> &'r SourceRecord,
        failures: &BTreeMap<usize, Failure>,
        limits: Limits,
    ) -> Planned {
        let nothing_waits = input.parked.is_empty();
        if nothing_waits && failures.range(input.records.clone()).next().is_none() {
            self.fates
                .extend(input.records.clone().map(|_| Fate::Apply));
            return Planned {
                changed: Vec::new(),
                full_at: None,
            };
        }
        let mut draft = Draft::new(input.parked, limits);
        let mut full_at = None;
        for index in input.records.clone() {
            let record = record(index);
            let fate = match full_at {
                Some(_) => Fate::Leave,
                None => draft.sort(record, failures.get(&index)),
            };
            if fate == Fate::Leave && full_at.is_none() {
                full_at = Some(record.source.offset);
            }
            self.fates.push(fate);
        }
        Planned {
            changed: draft.changed.into_values().collect(),
            full_at,
        }
    }
}

/// A partition's keys while a batch is sorted.
struct Draft<'b> {
    base: &'b PartitionKeys,
    changed: BTreeMap<KeyName, ParkedKey>,
    keys: usize,
    records: usize,
    limits: Limits,
}

impl<'b> Draft<'b> {
    fn new(base: &'b PartitionKeys, limits: Limits) -> Self {
        Self {
            base,
            changed: BTreeMap::new(),
            keys: base.keys(),
            records: base.records(),
            limits,
        }
    }

    fn sort(&mut self, record: &SourceRecord, failure: Option<&Failure>) -> Fate {
        let name = KeyName::of(record);
        let is_parked = self.changed.contains_key(&name) || self.base.get(&name).is_some();
        match (is_parked, failure) {
            (false, None) => Fate::Apply,
            (true, _) if self.records >= self.limits.records_max => Fate::Leave,
            (true, _) => self.queue(name, record.source.offset),
            (false, Some(_))
                if self.records >= self.limits.records_max || self.keys >= self.limits.keys_max =>
            {
                Fate::Leave
            }
            (false, Some(failure)) => self.park(name, record, failure),
        }
    }

    fn queue(&mut self, name: KeyName, offset: Offset) -> Fate {
        self.records += 1;
        let base = self.base.get(&name);
        let key = match self.changed.entry(name) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => match base {
                Some(key) => vacant.insert(ParkedKey::clone(key)),
                None => return Fate::Apply,
            },
        };
        key.queue.push(offset);
        Fate::Queue(key.parked_at)
    }

    fn park(&mut self, name: KeyName, record: &SourceRecord, failure: &Failure) -> Fate {
        self.records += 1;
        self.keys += 1;
        let key = ParkedKey {
            name: name.clone(),
            parked_at: record.source.offset,
            failure: failure.clone(),
            attempts: 1,
            since_ms: record.source.timestamp_ms,
            queue: vec![record.source.offset],
        };
        self.changed.insert(name, key);
        Fate::Park
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;

    fn record(offset: i64, key: Option<&'static str>) -> SourceRecord {
        SourceRecord {
            source: Source {
                topic: "t".into(),
                partition: 0,
                offset: offset.into(),
                timestamp_ms: 1_000 + offset,
            },
            key: key.map(Into::into),
            value: None,
            headers: Vec::new(),
        }
    }

    fn plan(
        parked: &PartitionKeys,
        keys: &[Option<&'static str>],
        failing: &[usize],
        limits: Limits,
    ) -> Plan {
        let records: Vec<_> = (10..).zip(keys).map(|(o, key)| record(o, *key)).collect();
        let failure = Failure {
            error_name: "e".to_owned(),
            reason: "r".to_owned(),
        };
        let failures = failing.iter().map(|i| (*i, failure.clone())).collect();
        let input = Input {
            parked,
            records: 0..records.len(),
        };
        Plan::new(&[input], |index| &records[index], &failures, limits)
    }

    #[test]
    fn a_failing_record_parks_its_key_and_no_other() {
        let keys = [Some("a"), Some("b"), Some("a"), None, None, Some("a")];
        let plan = plan(
            &PartitionKeys::default(),
            &keys,
            &[0, 3, 5],
            Limits::default(),
        );
        let at = Fate::Queue(Offset(10));
        let expected = [Fate::Park, Fate::Apply, at, Fate::Park, Fate::Apply, at];
        assert_eq!(plan.fates, expected);
        let changed = &plan.partitions[0].changed;
        let queues: Vec<_> = changed.iter().map(|key| key.queue.clone()).collect();
        assert_eq!(
            queues,
            [vec![Offset(10), Offset(12), Offset(15)], vec![Offset(13)]]
        );
        assert_eq!((changed[0].attempts, changed[0].since_ms), (1, 1_010));
    }

    #[test]
    fn a_key_that_was_parked_before_goes_on_waiting() {
        let mut parked = PartitionKeys::default();
        let before = plan(&parked, &[Some("a")], &[0], Limits::default());
        for planned in before.partitions {
            planned.changed.into_iter().for_each(|key| parked.put(key));
        }
        let plan = plan(&parked, &[Some("b"), Some("a")], &[], Limits::default());
        assert_eq!(plan.fates, [Fate::Apply, Fate::Queue(Offset(10))]);
        assert_eq!(
            (parked.keys(), parked.records()),
            (1, 1),
            "nothing is kept yet"
        );
    }

    #[test]
    fn a_full_partition_stands_still_before_the_record_that_finds_no_room() {
        let limits = Limits {
            keys_max: 1,
            records_max: 2,
        };
        let nothing = PartitionKeys::default();
        let keys = [Some("a"), Some("a"), Some("b"), Some("a"), Some("b")];
        let fates = [
            Fate::Park,
            Fate::Queue(Offset(10)),
            Fate::Apply,
            Fate::Leave,
            Fate::Leave,
        ];
        let by_records = plan(&nothing, &keys, &[0], limits);
        assert_eq!(by_records.fates, fates);
        assert_eq!(by_records.partitions[0].full_at, Some(Offset(13)));

        let by_keys = plan(&nothing, &keys, &[0, 2], limits);
        assert_eq!(by_keys.partitions[0].full_at, Some(Offset(12)));
    }
}
