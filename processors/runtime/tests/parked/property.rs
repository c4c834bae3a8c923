//! Random events, deaths, redrives and discards.

use std::sync::atomic::Ordering::Relaxed;

use conveyor_processors::ParkingFold;
use conveyor_processors::applier::BatchError;
use conveyor_processors::parked::Limits;
use proptest::prelude::*;

use crate::memory_store::Fault;
use crate::world::{Balances, Entry, Log, Reader, World, now};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A batch of at most that many records a partition.
    Apply { records_max: usize },
    /// Somebody else takes over; with a fault the instance died in its last transaction.
    Restart,
    /// The next transaction fails so; the same instance goes on.
    Fail(Fault),
    /// `error-events` is away for so many attempts.
    ErrorTopicDown(u32),
    /// The decoder learns to read what it could not.
    Mend(bool),
    /// One of the parked keys is redriven.
    Redrive { which: usize, records_max: usize },
    /// The head of one of the parked keys is given up, or all that waits of it.
    Discard { which: usize, all: bool },
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        8 => (0..5u8, -3..9i64).prop_map(|(key, amount)| Entry::Add { key, amount }),
        2 => (0..5u8).prop_map(|key| Entry::Poison { key }),
        1 => Just(Entry::Lost),
        1 => (0..5u8).prop_map(|key| Entry::Tombstone { key }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..9usize).prop_map(|records_max| Step::Apply { records_max }),
        2 => Just(Step::Restart),
        1 => Just(Step::Fail(Fault::Before)),
        1 => Just(Step::Fail(Fault::After)),
        1 => (1..3u32).prop_map(Step::ErrorTopicDown),
        1 => any::<bool>().prop_map(Step::Mend),
        4 => (any::<usize>(), 1..5usize)
            .prop_map(|(which, records_max)| Step::Redrive { which, records_max }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, all)| Step::Discard { which, all }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn rows_and_queues_are_those_of_the_plain_reference(
        partitions in prop::collection::vec(prop::collection::vec(entry(), 0..40), 1..4),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let log = Log::new(&partitions);
        let mut play = Play::new(&log);
        for step in steps {
            play.step(step);
            play.world.assert_is(&play.reference);
        }
        // In the end everything is mended and redriven, but what nobody can mend.
        play.step(Step::Fail(Fault::None));
        play.step(Step::Mend(true));
        while play.apply(7) {}
        for _ in 0..3 {
            for which in 0..play.world.parked().len() {
                play.step(Step::Redrive { which, records_max: 50 });
            }
        }
        play.world.assert_is(&play.reference);
        play.assert_heads_were_published();
    }
}

struct Play<'w> {
    world: World<'w>,
    reader: &'static Reader,
    reference: ParkingFold<'static, Balances, Reader>,
}

impl<'w> Play<'w> {
    fn new(log: &'w Log) -> Self {
        // The reference outlives the test's borrow checker, not the test.
        let reader: &'static Reader = Box::leak(Box::default());
        Self {
            world: World::new(log, Limits::default()),
            reader,
            reference: ParkingFold::new(&Balances, reader),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply { records_max } => {
                self.apply(records_max);
            }
            Step::Restart => self.world.restart(),
            Step::Fail(fault) => self.world.store.fail(fault),
            Step::ErrorTopicDown(times) => self.world.errors.failures_left.store(times, Relaxed),
            Step::Mend(mended) => {
                self.world.reader.mended.store(mended, Relaxed);
                self.reader.mended.store(mended, Relaxed);
            }
            Step::Redrive { which, records_max } => self.redrive(which, records_max),
            Step::Discard { which, all } => self.discard(which, all),
        }
    }

    /// Whether there was anything; whatever the store took in, the reference takes too.
    fn apply(&mut self, records_max: usize) -> bool {
        let partitions = self.world.log.partitions();
        let at = |world: &World<'_>| -> Vec<usize> {
            let position = |p| world.position(p).map_or(0, |at| at.value() as usize);
            partitions.iter().map(position).collect()
        };
        let before = at(&self.world);
        match self.world.apply(records_max) {
            Ok(_) => {}
            // A batch whose answer was lost does not follow on when it is brought again: the
            // instance joins anew.
            Err(BatchError::Store(_)) => self.world.restart(),
            Err(error) => panic!("{error}"),
        }
        let after = at(&self.world);
        for (number, partition) in partitions.iter().enumerate() {
            for record in &self.world.log.records(partition)[before[number]..after[number]] {
                self.reference.take(record);
            }
        }
        before != after
    }

    /// Does it until the store has an answer, as the driver does.
    fn redrive(&mut self, which: usize, records_max: usize) {
        let parked = self.world.parked();
        let Some((partition, parked_at, head)) = pick(&parked, which) else {
            return;
        };
        let world = &self.world;
        let waits = || {
            world
                .parked()
                .into_iter()
                .find(|(p, at, _)| (p, *at) == (partition, *parked_at))
        };
        let claimed = world.claimed(partition);
        loop {
            let redriven = now(world.applier.redrive(
                &claimed,
                *parked_at,
                records_max,
                &*world.store,
                &world.errors,
            ));
            match redriven {
                Ok(_) => break,
                Err(error) => {
                    assert!(error.is_retriable(), "{error}");
                    // It was written and nobody heard: that was one redrive, this is another.
                    let head_now = waits().map(|(_, _, head)| head);
                    if head_now != Some(*head) {
                        break;
                    }
                }
            }
        }
        self.reference.redrive(partition, *head, records_max);
    }

    fn discard(&mut self, which: usize, all: bool) {
        let parked = self.world.parked();
        let Some((partition, parked_at, head)) = pick(&parked, which) else {
            return;
        };
        let world = &self.world;
        let claimed = world.claimed(partition);
        let again = || {
            let (store, errors) = (&*world.store, &world.errors);
            now(world
                .applier
                .discard(&claimed, *parked_at, *head, all, store, errors))
        };
        // Doing it again after a lost answer discards nothing else.
        while let Err(error) = again() {
            assert!(error.is_retriable(), "{error}");
        }
        let count = if all { usize::MAX } else { 1 };
        self.reference.discard(partition, *head, count);
    }

    /// A head that was tried stands in `error-events`.
    fn assert_heads_were_published(&self) {
        let published = self.world.errors.records.lock();
        for (partition, parked_at, head) in self.world.parked() {
            assert!(
                published.contains(&(partition.clone(), parked_at)),
                "{partition}@{parked_at}"
            );
            assert!(
                published.contains(&(partition.clone(), head)),
                "{partition}@{head}"
            );
        }
    }
}

fn pick<T>(list: &[T], which: usize) -> Option<&T> {
    list.get(which.checked_rem(list.len())?)
}
