//! A partition in which as much waits as may stands still; the others go on, and so does it once
//! there is room.

use std::sync::atomic::Ordering::Relaxed;

use conveyor_processors::applier::FullPartition;
use conveyor_processors::applier::mend::{Discarded, Redriven};
use conveyor_processors::parked::Limits;
use conveyor_record::Offset;

use crate::world::{Entry, Log, World, now};

const LIMITS: Limits = Limits {
    keys_max: 2,
    records_max: 3,
};

fn add(key: u8) -> Entry {
    Entry::Add { key, amount: 1 }
}

#[test]
fn only_the_full_partition_stands_still() {
    let poisoned = vec![
        Entry::Poison { key: 1 },
        add(1),
        add(2),
        add(1),
        add(1),
        add(2),
    ];
    let log = Log::new(&[poisoned, (0..6).map(add).collect()]);
    let mut world = World::new(&log, LIMITS);
    let (full, other) = (Log::partition(0), Log::partition(1));

    let applied = world.apply(10).unwrap();
    let stands = FullPartition {
        topic_partition: full.clone(),
        at: Offset(4),
    };
    assert_eq!(applied.full, vec![stands.clone()]);
    assert_eq!((applied.records_applied, applied.records_rejected), (7, 1));
    assert_eq!(applied.records_queued, 2);
    assert_eq!(world.position(&full), Some(Offset(4)));
    assert_eq!(world.position(&other), Some(Offset(6)));

    world.restart();
    let again = world.apply(10).unwrap();
    assert_eq!(
        (again.full, again.ranges),
        (vec![stands], vec![]),
        "it is still full"
    );
    assert_eq!(
        world.errors.records.lock().len(),
        1,
        "nothing is published again"
    );

    world.reader.mended.store(true, Relaxed);
    let claimed = world.claimed(&full);
    let redriven = world
        .applier
        .redrive(&claimed, Offset(0), 10, &*world.store, &world.errors);
    assert_eq!(now(redriven).unwrap(), Redriven::Done { applied: 3 });
    let applied = world.apply(10).unwrap();
    assert_eq!((applied.full, applied.records_applied), (vec![], 2));
    assert_eq!(world.position(&full), Some(Offset(6)));
}

#[test]
fn the_bound_on_keys_holds_too() {
    let poison = |key| Entry::Poison { key };
    let log = Log::new(&[vec![poison(1), poison(2), add(3), poison(4), add(3)]]);
    let world = World::new(&log, LIMITS);
    let applied = world.apply(10).unwrap();
    assert_eq!(applied.full[0].at, Offset(3));
    let claimed = world.claimed(&Log::partition(0));
    let discarded = world.applier.discard(
        &claimed,
        Offset(1),
        Offset(1),
        false,
        &*world.store,
        &world.errors,
    );
    let done = Discarded::Done {
        records: 1,
        waiting: 0,
    };
    assert_eq!(now(discarded).unwrap(), done);
    let applied = world.apply(10).unwrap();
    assert_eq!((applied.full, applied.records_rejected), (vec![], 1));
}

#[test]
fn a_record_that_fails_again_has_one_attempt_more_and_is_not_published_again() {
    let log = Log::new(&[vec![Entry::Poison { key: 1 }, add(1)]]);
    let world = World::new(&log, LIMITS);
    world.apply(10).unwrap();
    let claimed = world.claimed(&Log::partition(0));
    for attempts in 2..5 {
        let redriven = world
            .applier
            .redrive(&claimed, Offset(0), 10, &*world.store, &world.errors);
        let failed = Redriven::Failed {
            applied: 0,
            at: Offset(0),
            reason: "no amount".to_owned(),
            waiting: 2,
        };
        assert_eq!(now(redriven).unwrap(), failed);
        let keys = world.applier.parked().of(&Log::partition(0)).unwrap();
        assert_eq!(keys.find(Offset(0)).unwrap().attempts, attempts);
    }
    assert_eq!(world.errors.records.lock().len(), 1);
}

#[test]
fn an_owner_that_lost_its_partition_redrives_nothing() {
    let log = Log::new(&[vec![Entry::Poison { key: 1 }, add(1)]]);
    let mut world = World::new(&log, LIMITS);
    world.apply(10).unwrap();
    let before = world.claimed(&Log::partition(0));
    world.restart();
    world.reader.mended.store(true, Relaxed);
    let redriven = world
        .applier
        .redrive(&before, Offset(0), 10, &*world.store, &world.errors);
    assert!(!now(redriven).unwrap_err().is_retriable());
    assert_eq!(world.parked().len(), 1);
}
