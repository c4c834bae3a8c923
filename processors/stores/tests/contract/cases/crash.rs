//! Processes die and freeze at any moment.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use conveyor_processors::RowKey;
use conveyor_processors::applier::PartitionBatch;
use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, Store, StoreError, Unit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;

use crate::ledger::{Entry, Log, assert_store_is_fold};
use crate::play::{LedgerApplier, Published, applier, apply, own, patient, spoil};
use crate::site::{Bound, Site, run};
use crate::victim::{self, Victim};

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        8 => (0..6u8, -3..10i64).prop_map(|(account, amount)| Entry::Moved { account, amount }),
        1 => (0..6u8).prop_map(|account| Entry::Closed { account }),
        1 => Just(Entry::Garbage),
        1 => (0..6u8).prop_map(|account| Entry::Poison { account }),
        1 => Just(Entry::Tombstone),
    ]
}

/// One thing that happens to a running projection.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A batch of at most that many records a partition is applied.
    Apply { records_max: usize },
    /// The process dies in the middle of a transaction: the fold has run, nothing was written.
    DieBeforeCommit { records_max: usize },
    /// The process dies after a transaction, before it knows: it starts from the store's position.
    DieAfterCommit { records_max: usize },
    /// `error-events` cannot be written for a while.
    ErrorTopicDown { failures: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..9usize).prop_map(|records_max| Step::Apply { records_max }),
        1 => (1..9usize).prop_map(|records_max| Step::DieBeforeCommit { records_max }),
        1 => (1..9usize).prop_map(|records_max| Step::DieAfterCommit { records_max }),
        1 => (1..3u32).prop_map(|failures| Step::ErrorTopicDown { failures }),
    ]
}

pub(crate) fn the_store_is_the_fold_up_to_its_positions(site: impl Fn() -> Site, cases: u32) {
    let partitions = prop::collection::vec(prop::collection::vec(entry(), 0..40), 1..4);
    let steps = prop::collection::vec(step(), 0..16);
    let _bound = Bound::start();
    TestRunner::new(Config::with_cases(cases))
        .run(&(partitions, steps), |(partitions, steps)| {
            let site = site();
            run(play(&Log::new(&partitions), &steps, &site));
            Ok(())
        })
        .unwrap();
}

async fn play(log: &Log, steps: &[Step], site: &Site) {
    let (applier, published) = (applier(), Published::default());
    let mut epoch = 0;
    let mut store = start(site, &applier, log, &mut epoch).await;
    for step in steps {
        match *step {
            Step::Apply { records_max } => {
                apply(&applier, log, &*store, &published, epoch, records_max).await;
            }
            Step::DieBeforeCommit { records_max } => {
                die_in_transaction(&applier, log, &*store, epoch, records_max).await;
                drop(store);
                store = start(site, &applier, log, &mut epoch).await;
            }
            Step::DieAfterCommit { records_max } => {
                apply(&applier, log, &*store, &published, epoch, records_max).await;
                drop(store);
                store = start(site, &applier, log, &mut epoch).await;
            }
            Step::ErrorTopicDown { failures } => {
                published.failures_left.store(failures, Relaxed);
            }
        }
        assert_store_is_fold(log, &*store).await;
    }
    while apply(&applier, log, &*store, &published, epoch, 7).await > 0 {}
    assert_store_is_fold(log, &*store).await;
    let positions = store.positions(applier.declaration()).await.unwrap();
    let records: i64 = positions.iter().map(|p| p.next_offset.value()).sum();
    assert_eq!(records, log.len(), "everything was read");
    for rejected in log.rejected() {
        assert!(
            published.records.lock().unwrap().contains(&rejected),
            "{rejected:?} was lost"
        );
    }
}

async fn start(site: &Site, applier: &LedgerApplier, log: &Log, epoch: &mut i64) -> Arc<dyn Store> {
    *epoch += 1;
    let store = site.open().await;
    store.prepare(applier.declaration()).await.unwrap();
    let owner_epoch = OwnerEpoch(*epoch);
    store
        .claim(applier.declaration(), owner_epoch, &log.partitions(), false)
        .await
        .unwrap();
    applier.parked().forget(&log.partitions());
    store
}

/// What a process leaves behind that dies inside its transaction: the store has checked, loaded and
/// folded, and nothing is written.
async fn die_in_transaction(
    applier: &LedgerApplier,
    log: &Log,
    store: &dyn Store,
    epoch: i64,
    records_max: usize,
) {
    let partitions = log.batch(store, epoch, records_max).await;
    if partitions.is_empty() {
        return;
    }
    let advance = |p: &PartitionBatch| Advance {
        topic_partition: p.topic_partition.clone(),
        from: p.from,
        to: p.to,
        owner_epoch: p.owner_epoch,
    };
    let unit = Unit {
        advances: partitions.iter().map(advance).collect(),
        keys: vec![RowKey::new("account", 1i64)],
        fold: Box::new(|mut rows| {
            spoil(&mut rows);
            Outcome::Abort
        }),
        declaration: Arc::clone(applier.declaration()),
    };
    assert!(!store.transact(unit).await.unwrap());
}

/// A real process and a real SIGKILL, again and again.
pub(crate) async fn a_killed_process_leaves_the_fold_up_to_its_positions(site: &Site) {
    let log = victim::log();
    let store = site.open().await;
    store.prepare(applier().declaration()).await.unwrap();
    let mut reached = 0;
    for round in 0..8_i64 {
        let victim = Victim::start(&site.url, round + 1, &[0, 1]);
        // Different moments of its life: its start, and its work.
        if round % 2 == 1 {
            wait_for_progress(&*store, reached).await;
        }
        tokio::time::sleep(Duration::from_millis(20 + 37 * round as u64)).await;
        victim.kill();
        assert_store_is_fold(&log, &*store).await;
        let now = progress(&*store).await;
        assert!(
            now >= reached,
            "the store went back from {reached} to {now}"
        );
        reached = now;
    }
    assert!(reached > 0, "no victim lived long enough to write anything");
}

/// A process stopped by SIGSTOP in the middle of its work, woken after its heir has come.
pub(crate) async fn a_frozen_process_writes_nothing_after_its_partition_is_gone(site: &Site) {
    let log = victim::log();
    let store = site.open().await;
    store.prepare(applier().declaration()).await.unwrap();
    let mut epoch = 0;
    let mut fenced = 0;
    let heir = site.open().await;
    let rounds = if site.slow { 2 } else { 5 };
    for round in 0..rounds {
        epoch += 1;
        let before = progress(&*store).await;
        let frozen = Victim::start_slow(&site.url, epoch, &[0, 1]);
        // Frozen at work: after it has begun to write, at some moment of a transaction.
        wait_for_progress(&*store, before).await;
        tokio::time::sleep(Duration::from_micros(100 + 1_700 * round)).await;
        frozen.freeze();
        epoch += 1;
        let owner = OwnerEpoch(epoch);
        let partitions = log.partitions();
        let declaration = applier().declaration().clone();
        let patience = Duration::from_secs(if site.held_by_frozen { 1 } else { 30 });
        let claimed = tokio::time::timeout(patience, async {
            patient!(heir.claim(&declaration, owner, &partitions, false)).unwrap();
        });
        if claimed.await.is_err() {
            assert!(site.held_by_frozen, "a frozen process holds up its heir");
            frozen.wake();
            patient!(heir.claim(&declaration, owner, &partitions, false)).unwrap();
        }
        let at_claim = progress(&*store).await;
        frozen.wake();
        match frozen.wait() {
            victim::End::Fenced => fenced += 1,
            victim::End::Done => assert_eq!(at_claim, log.len(), "it wrote after the claim"),
            victim::End::Failed => panic!("the victim failed"),
        }
        assert_eq!(
            progress(&*store).await,
            at_claim,
            "it wrote after the claim"
        );
        assert_store_is_fold(&log, &*store).await;
    }
    assert!(
        fenced > 0,
        "nobody was frozen at work: the test shows nothing"
    );
    match own(&log, &*store, &log.partitions(), epoch + 1, 500).await {
        Ok(()) => assert_eq!(progress(&*store).await, log.len()),
        Err(error @ StoreError::Fenced { .. }) => panic!("{error}"),
        Err(error) => panic!("{error}"),
    }
    assert_store_is_fold(&log, &*store).await;
}

/// Far above what a victim's start and first batch take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until somebody has written, or until there is nothing left to write.
pub(crate) async fn wait_for_progress(store: &dyn Store, before: i64) {
    let all = victim::log().len();
    let wait = async {
        loop {
            let now = progress(store).await;
            if now > before || now >= all {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Whoever needs it to have happened says so by what it asserts.
    drop(tokio::time::timeout(PATIENCE, wait).await);
}

/// Records that the store has taken in.
pub(crate) async fn progress(store: &dyn Store) -> i64 {
    let applier = applier();
    let positions = patient!(store.positions(applier.declaration())).unwrap();
    positions.iter().map(|p| p.next_offset.value()).sum()
}
