//! The promise of the store: whatever is killed, whenever, the rows are the fold of the log up to
//! the positions beside them.

#![allow(clippy::unwrap_used, reason = "a test")]

mod fencing;
mod ledger;
mod process;
mod schema;

use std::sync::Arc;

use conveyor_processors::RowKey;
use conveyor_processors::applier::{Applier, BatchError, PartitionBatch};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, Store, Unit};
use conveyor_stores::SqliteStore;
use futures::FutureExt;
use futures::future::BoxFuture;
use proptest::prelude::*;

use crate::ledger::{Entry, Ledger, LedgerDecoder, Log, assert_store_is_fold, run};

/// Remembers what was published; can be told to fail.
#[derive(Default)]
struct Published {
    records: std::sync::Mutex<Vec<(i32, i64)>>,
    failures_left: std::sync::atomic::AtomicU32,
}

impl RejectedSink for Published {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        use std::sync::atomic::Ordering::Relaxed;
        let down = self
            .failures_left
            .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
            .is_ok();
        async move {
            if down {
                return Err(PublishError {
                    count: rejected.len(),
                    topic: "error-events".to_owned(),
                    reason: "down".to_owned(),
                    retriable: true,
                });
            }
            let ids = rejected
                .iter()
                .map(|r| (r.record.source.partition, r.record.source.offset.0));
            self.records.lock().unwrap().extend(ids);
            Ok(())
        }
        .boxed()
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        8 => (0..6u8, -3..10i64).prop_map(|(account, amount)| Entry::Moved { account, amount }),
        1 => (0..6u8).prop_map(|account| Entry::Closed { account }),
        1 => Just(Entry::Garbage),
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_store_is_the_fold_up_to_its_positions(
        partitions in prop::collection::vec(prop::collection::vec(entry(), 0..40), 1..4),
        steps in prop::collection::vec(step(), 0..16),
    ) {
        let log = Log::new(&partitions);
        let folder = tempfile::tempdir().unwrap();
        run(play(&log, &steps, &folder.path().join("read.db")));
    }
}

async fn play(log: &Log, steps: &[Step], path: &std::path::Path) {
    let applier = Applier::new(Arc::new(Ledger), Arc::new(LedgerDecoder));
    let published = Published::default();
    let mut epoch = 0;
    let mut store = open(path, &applier, log, &mut epoch).await;
    for step in steps {
        match *step {
            Step::Apply { records_max } => {
                apply(&applier, log, &store, &published, epoch, records_max).await;
            }
            Step::DieBeforeCommit { records_max } => {
                die_in_transaction(&applier, log, &store, epoch, records_max).await;
                drop(store);
                store = open(path, &applier, log, &mut epoch).await;
            }
            Step::DieAfterCommit { records_max } => {
                apply(&applier, log, &store, &published, epoch, records_max).await;
                drop(store);
                store = open(path, &applier, log, &mut epoch).await;
            }
            Step::ErrorTopicDown { failures } => {
                published
                    .failures_left
                    .store(failures, std::sync::atomic::Ordering::Relaxed);
            }
        }
        assert_store_is_fold(log, &store).await;
    }
    while apply(&applier, log, &store, &published, epoch, 7).await > 0 {}
    assert_store_is_fold(log, &store).await;
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

async fn open(
    path: &std::path::Path,
    applier: &Applier<Ledger, LedgerDecoder>,
    log: &Log,
    epoch: &mut i64,
) -> SqliteStore {
    *epoch += 1;
    let store = SqliteStore::open(path).unwrap();
    store.prepare(applier.declaration()).await.unwrap();
    let owner_epoch = OwnerEpoch(*epoch);
    store
        .claim(applier.declaration(), owner_epoch, &log.partitions(), false)
        .await
        .unwrap();
    store
}

/// Applies one batch, again and again while `error-events` is down; returns its records.
async fn apply(
    applier: &Applier<Ledger, LedgerDecoder>,
    log: &Log,
    store: &SqliteStore,
    published: &Published,
    epoch: i64,
    records_max: usize,
) -> u64 {
    let partitions = log.batch(store, epoch, records_max).await;
    if partitions.is_empty() {
        return 0;
    }
    let mut batch = applier.decode(partitions);
    loop {
        match applier.commit(&mut batch, store, published).await {
            Ok(applied) => return applied.records_applied + applied.records_rejected,
            Err(error @ BatchError::Publish(_)) => assert!(error.is_retriable()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a process leaves behind that dies inside its transaction: the store's thread has checked,
/// loaded and folded, and nothing is written.
async fn die_in_transaction(
    applier: &Applier<Ledger, LedgerDecoder>,
    log: &Log,
    store: &SqliteStore,
    epoch: i64,
    records_max: usize,
) {
    let partitions = log.batch(store, epoch, records_max).await;
    if partitions.is_empty() {
        return;
    }
    let declaration = Arc::clone(applier.declaration());
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
            rows.edit(&RowKey::new("account", 1i64))
                .unwrap()
                .increment("balance", 1_000_000);
            Outcome::Abort
        }),
        declaration,
    };
    assert!(!store.transact(unit).await.unwrap());
}
