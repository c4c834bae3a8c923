//! Timers through crashes, lost answers and partitions that change hands, against a plain reference.

#[path = "../parked/memory_store.rs"]
mod memory_store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_processors::applier::mend::Claimed;
use conveyor_processors::applier::{Applier, PartitionBatch};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::timers::{Timer, TimerRules};
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, DecodeError, Decoder, OwnerEpoch, Projection, RowKey,
    Rows, Source, SourceRecord, Store, Table, TopicPartition,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use memory_store::{Fault, MemoryStore};
use proptest::prelude::*;

const LATENESS_MS: i64 = 5;
const RULES: TimerRules = TimerRules {
    timers: "alarm_timer",
    clocks: "alarm_clock",
    topics: &["alarms"],
    lateness_ms: LATENESS_MS,
};

/// What a record says: set an alarm at so many ms, or clear it.
#[derive(Clone, Debug)]
struct Said {
    name: String,
    due_ms: Option<i64>,
}

/// Counts how often each alarm has rung. An alarm that rings the first time sets itself once more.
struct Alarms;

/// How long after the first ring an alarm rings once more.
const AGAIN_MS: i64 = 7;

impl Projection for Alarms {
    type Event = Said;

    fn declaration(&self) -> Declaration {
        let table = Table::new("alarm", &[("name", ColumnType::Text)])
            .column("rings", ColumnType::Integer)
            .column("sum_ms", ColumnType::Integer);
        Declaration::new("alarm", 1)
            .source("alarms")
            .table(table)
            .timers(RULES)
    }

    fn touches(&self, event: &Said, _source: &Source) -> Vec<RowKey> {
        vec![RULES.timer_key(&event.name)]
    }

    fn apply(&self, event: &Said, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        match event.due_ms {
            Some(due_ms) => rows.set_timer(&event.name, due_ms, source),
            None => rows.clear_timer(&event.name),
        }
    }

    fn fire(&self, timer: &Timer, rows: &mut Rows) -> Result<(), ApplyError> {
        if timer.name == "refused" {
            return Err(ApplyError::record("no"));
        }
        let row = rows.edit(&RowKey::new("alarm", &timer.name))?;
        row.increment("rings", 1).increment("sum_ms", timer.due_ms);
        if row.integer("rings") % 2 == 1 {
            let next_ms = timer.due_ms + AGAIN_MS;
            rows.set_timer_of(&timer.name, next_ms, &timer.topic_partition)?;
        }
        Ok(())
    }
}

struct Words;

impl Decoder for Words {
    type Event = Said;

    /// `name due` or `name -`.
    fn decode(&self, record: &SourceRecord) -> Result<Option<Said>, DecodeError> {
        let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default());
        let said = text.ok().and_then(|text| text.split_once(' '));
        let (name, due) = said.ok_or_else(|| DecodeError::new("test", "no words"))?;
        Ok(Some(Said {
            name: name.to_owned(),
            due_ms: due.parse().ok(),
        }))
    }
}

struct Nowhere;

impl RejectedSink for Nowhere {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        let none = rejected.is_empty();
        async move {
            assert!(none, "every record can be applied");
            Ok(())
        }
        .boxed()
    }
}

/// One record: alarm, due time after the record's own, or cleared; ms since the record before.
type Step = (u8, Option<u8>, u8);

/// Something that befalls the instances.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Apply so many records of a partition.
    Apply(u8, u8),
    /// Fire what is due in a partition.
    Fire(u8),
    /// Another instance takes a partition over.
    Move(u8),
    /// All instances start anew.
    Crash,
    /// The next transaction fails, before or after it is written.
    Fault(bool),
}

struct World {
    store: MemoryStore,
    instances: Vec<Applier<Alarms, Words>>,
    /// Of each partition: the instance that owns it and its epoch.
    owners: Vec<(usize, i64)>,
    log: Vec<Vec<SourceRecord>>,
    epoch: i64,
}

fn partition(number: usize) -> TopicPartition {
    TopicPartition::new("alarms", number as i32)
}

fn log(number: usize, steps: &[Step]) -> Vec<SourceRecord> {
    let mut now_ms = 0;
    let records = steps
        .iter()
        .enumerate()
        .map(|(offset, (name, due, later))| {
            now_ms += i64::from(*later);
            let due = due.map_or_else(
                || "-".to_owned(),
                |due| (now_ms + i64::from(due)).to_string(),
            );
            SourceRecord {
                source: Source {
                    topic: "alarms".into(),
                    partition: number as i32,
                    offset: (offset as i64).into(),
                    timestamp_ms: now_ms,
                },
                key: None,
                value: Some(format!("{number}-{} {due}", name % 4).into()),
                headers: Vec::new(),
            }
        });
    records.collect()
}

impl World {
    fn new(log: Vec<Vec<SourceRecord>>) -> Self {
        let mut world = Self {
            store: MemoryStore::default(),
            instances: (0..2).map(|_| applier()).collect(),
            owners: vec![(0, 0); log.len()],
            log,
            epoch: 0,
        };
        world.claim_all();
        world
    }

    fn claim_all(&mut self) {
        (0..self.log.len()).for_each(|number| self.claim(number, number % 2));
    }

    fn claim(&mut self, number: usize, instance: usize) {
        self.epoch += 1;
        self.owners[number] = (instance, self.epoch);
        let partition = [partition(number)];
        let timers = self.instances[instance].timers().expect("timers");
        timers.forget(&partition);
        self.instances[instance].parked().forget(&partition);
        let declaration = self.instances[instance].declaration();
        let epoch = OwnerEpoch(self.epoch);
        let claimed = self.store.claim(declaration, epoch, &partition, false);
        claimed.now_or_never().expect("at once").expect("a claim");
    }

    fn position(&self, number: usize) -> Option<i64> {
        let declaration = self.instances[0].declaration();
        let positions = self.store.positions(declaration).now_or_never();
        let positions = positions.expect("at once").expect("positions");
        let found = positions
            .into_iter()
            .find(|position| position.topic_partition == partition(number));
        found.map(|position| position.next_offset.value())
    }

    fn play(&mut self, event: Event) {
        let count = self.log.len();
        match event {
            Event::Apply(number, records) => {
                let _ = self.apply(usize::from(number) % count, usize::from(records));
            }
            Event::Fire(number) => {
                let _ = self.fire(usize::from(number) % count);
            }
            Event::Move(number) => {
                let number = usize::from(number) % count;
                self.claim(number, 1 - self.owners[number].0);
            }
            Event::Crash => {
                self.instances = (0..2).map(|_| applier()).collect();
                self.claim_all();
            }
            Event::Fault(before) => {
                self.store
                    .fail(if before { Fault::Before } else { Fault::After });
            }
        }
    }

    /// Applies the next records of a partition; whether there were any and it worked.
    fn apply(&self, number: usize, records: usize) -> bool {
        let from = self.position(number);
        let start = from.unwrap_or(0) as usize;
        let end = self.log[number].len().min(start + records);
        if start == end {
            return false;
        }
        let (instance, epoch) = self.owners[number];
        let applier = &self.instances[instance];
        let mut batch = applier.decode(vec![PartitionBatch {
            topic_partition: partition(number),
            from: from.map(Into::into),
            to: (end as i64).into(),
            owner_epoch: OwnerEpoch(epoch),
            records: self.log[number][start..end].to_vec(),
        }]);
        let applied = applier.commit(&mut batch, &self.store, &Nowhere);
        applied.now_or_never().expect("at once").is_ok()
    }

    /// Fires what is due in a partition; how many, `None` if it did not work.
    fn fire(&self, number: usize) -> Option<usize> {
        let (instance, epoch) = self.owners[number];
        let claimed = Claimed {
            topic_partition: partition(number),
            position: self.position(number)?.into(),
            owner_epoch: OwnerEpoch(epoch),
        };
        let applier = &self.instances[instance];
        let fired = async {
            applier
                .learn_timers(&self.store, [&claimed.topic_partition])
                .await?;
            applier.fire_due(&self.store, &claimed).await
        };
        Some(fired.now_or_never().expect("at once").ok()?.timers)
    }

    fn rings(&self) -> BTreeMap<String, (i64, i64)> {
        let rows = self.store.table("alarm").into_iter();
        rows.map(|row| {
            let name = row.text("name").expect("a name").to_owned();
            (name, (row.integer("rings"), row.integer("sum_ms")))
        })
        .collect()
    }
}

fn applier() -> Applier<Alarms, Words> {
    Applier::new(Arc::new(Alarms), Arc::new(Words))
}

/// One partition at a time, record by record, firing after each: what must come of it when batches
/// have one record and firing follows each.
fn reference(log: &[Vec<SourceRecord>]) -> BTreeMap<String, (i64, i64)> {
    let mut rings = BTreeMap::<String, (i64, i64)>::new();
    for records in log {
        let mut set = BTreeMap::<String, i64>::new();
        for record in records {
            let said = Words.decode(record).expect("words").expect("an event");
            match said.due_ms {
                Some(due_ms) => set.insert(said.name, due_ms),
                None => set.remove(&said.name),
            };
            let past_ms = record.source.timestamp_ms - LATENESS_MS;
            while let Some((due_ms, name)) = set
                .iter()
                .map(|(name, due_ms)| (*due_ms, name.clone()))
                .min()
                .filter(|(due_ms, _)| *due_ms <= past_ms)
            {
                set.remove(&name);
                let ring = rings.entry(name.clone()).or_default();
                *ring = (ring.0 + 1, ring.1 + due_ms);
                if ring.0 % 2 == 1 {
                    set.insert(name, due_ms + AGAIN_MS);
                }
            }
        }
    }
    rings
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let due = proptest::option::weighted(0.8, 0_u8..30);
    proptest::collection::vec((0_u8..4, due, 0_u8..9), 1..40)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (0_u8..3).prop_map(Event::Fire),
        2 => (0_u8..3).prop_map(Event::Move),
        1 => Just(Event::Crash),
        2 => any::<bool>().prop_map(Event::Fault),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Record by record with firing after each, whatever happens in between: every alarm rings as
    /// often, and for the same times, as in the reference.
    #[test]
    fn every_timer_fires_once_through_crashes_rebalances_and_lost_answers(
        partitions in proptest::collection::vec(steps(), 1..4),
        mut events in events(),
    ) {
        let log: Vec<_> = partitions.iter().enumerate().map(|(n, s)| log(n, s)).collect();
        let expected = reference(&log);
        let mut world = World::new(log.clone());
        for (number, records) in log.iter().enumerate() {
            for offset in 0..records.len() as i64 {
                while world.position(number).unwrap_or(0) <= offset {
                    if let Some(event) = events.pop() {
                        world.play(event);
                    }
                    world.apply(number, 1);
                }
                loop {
                    if let Some(event) = events.pop() {
                        world.play(event);
                    }
                    if world.fire(number) == Some(0) {
                        break;
                    }
                }
            }
        }
        prop_assert_eq!(world.rings(), expected);
    }

    /// Batches of any size, firing at any time: nothing that is due by the last clock stays, nothing
    /// else fires, and no alarm rings more often than it was set, and once more for each second ring.
    #[test]
    fn what_is_due_in_the_end_has_fired_however_batches_are_cut(
        partitions in proptest::collection::vec(steps(), 1..4),
        events in proptest::collection::vec(prop_oneof![
            3 => (0_u8..3, 1_u8..6).prop_map(|(p, n)| Event::Apply(p, n)),
            2 => (0_u8..3).prop_map(Event::Fire),
            1 => (0_u8..3).prop_map(Event::Move),
            1 => Just(Event::Crash),
            1 => any::<bool>().prop_map(Event::Fault),
        ], 0..80),
    ) {
        let log: Vec<_> = partitions.iter().enumerate().map(|(n, s)| log(n, s)).collect();
        let mut world = World::new(log.clone());
        for event in events {
            world.play(event);
        }
        for (number, records) in log.iter().enumerate() {
            while world.position(number).unwrap_or(0) < records.len() as i64 {
                world.apply(number, 10);
            }
            while world.fire(number) != Some(0) {}
            let clock_ms = records.last().map_or(0, |record| record.source.timestamp_ms);
            for row in world.store.table(RULES.timers) {
                let due_ms = row.timestamp_ms("due_at").expect("a time");
                let here = row.integer("source_partition") == number as i64;
                prop_assert!(!here || due_ms > clock_ms - LATENESS_MS, "{:?}", row);
            }
        }
        let set = |name: &str| {
            let records = log.iter().flatten();
            let said = records.filter_map(|record| Words.decode(record).ok().flatten());
            said.filter(|said| said.name == name && said.due_ms.is_some()).count() as i64
        };
        for (name, (rings, _)) in world.rings() {
            prop_assert!(rings <= 2 * set(&name), "{} rang {} times", name, rings);
        }
    }
}

#[test]
fn the_clock_of_an_idle_partition_lets_its_timers_fire_and_never_goes_back() {
    let mut world = World::new(vec![log(0, &[(0, Some(100), 1), (1, Some(200), 1)])]);
    assert!(world.apply(0, 9));
    assert_eq!(world.fire(0), Some(0));
    let move_clock = |world: &World, clock_ms| {
        let (instance, epoch) = world.owners[0];
        let claimed = Claimed {
            topic_partition: partition(0),
            position: 2.into(),
            owner_epoch: OwnerEpoch(epoch),
        };
        let moved = world.instances[instance].move_clock(&world.store, &claimed, clock_ms);
        moved
            .now_or_never()
            .expect("at once")
            .expect("a transaction");
    };
    move_clock(&world, 150);
    move_clock(&world, 3);
    world.play(Event::Crash);
    // 101 and, set by that, 108 are past; 202 is not.
    assert_eq!(
        (world.fire(0), world.fire(0), world.fire(0)),
        (Some(1), Some(1), Some(0))
    );
    assert_eq!(world.rings(), [("0-0".to_owned(), (2, 209))].into());
}

#[test]
fn a_timer_that_the_projection_refuses_is_gone_and_holds_nothing_up() {
    let mut records = log(0, &[(0, Some(1), 1), (1, Some(2), 0), (2, None, 50)]);
    records[0].value = Some("refused 2".into());
    let world = World::new(vec![records]);
    assert!(world.apply(0, 9));
    assert_eq!(world.fire(0), Some(2));
    let left: BTreeSet<_> = world
        .store
        .table(RULES.timers)
        .into_iter()
        .map(|row| row.text("name").map(str::to_owned))
        .collect();
    assert_eq!(
        left,
        [Some("0-1".to_owned())].into(),
        "it has rung and set itself anew"
    );
    assert_eq!(world.rings(), [("0-1".to_owned(), (1, 3))].into());
}
