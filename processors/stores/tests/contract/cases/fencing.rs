//! An instance that lost a partition writes nothing more, however late it wakes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use conveyor_processors::applier::BatchError;
use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, StoreError, Unit};
use conveyor_processors::{Change, Row, RowKey};
use conveyor_record::Offset;

use crate::ledger::{Entry, Log, assert_store_is_fold};
use crate::play::{Published, applier, own, patient};
use crate::site::{Site, open};

fn log(records: i64) -> Log {
    let moved = |n| Entry::Moved {
        account: (n % 3) as u8,
        amount: n,
    };
    Log::new(&[(1..=records).map(moved).collect()])
}

pub(crate) async fn a_woken_instance_is_fenced_before_and_after_the_new_owner_writes(site: &Site) {
    let (log, applier, published) = (log(30), applier(), Published::default());
    let declaration = applier.declaration();
    let partitions = log.partitions();
    let frozen = site.open().await;
    frozen.prepare(declaration).await.unwrap();
    frozen
        .claim(declaration, OwnerEpoch(3), &partitions, false)
        .await
        .unwrap();
    let held_back = log.batch(&*frozen, 3, 5).await;

    let heir = site.open().await;
    heir.claim(declaration, OwnerEpoch(4), &partitions, false)
        .await
        .unwrap();
    let mut late = applier.decode(held_back.clone());
    let error = applier
        .commit(&mut late, &*frozen, &published)
        .await
        .unwrap_err();
    let BatchError::Store(StoreError::Fenced {
        stored, offered, ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*stored, *offered), (OwnerEpoch(4), OwnerEpoch(3)));
    assert!(!error.is_retriable());

    let mut batch = applier.decode(log.batch(&*heir, 4, 7).await);
    applier
        .commit(&mut batch, &*heir, &published)
        .await
        .unwrap();
    let mut late = applier.decode(held_back);
    applier
        .commit(&mut late, &*frozen, &published)
        .await
        .unwrap_err();

    let error = frozen
        .claim(declaration, OwnerEpoch(3), &partitions, false)
        .await;
    assert!(matches!(error, Err(StoreError::Fenced { .. })), "{error:?}");
    assert_store_is_fold(&log, &*heir).await;
    let taken = frozen
        .claim(declaration, OwnerEpoch(1), &partitions, true)
        .await
        .unwrap();
    assert_eq!(
        taken[0].next_offset.value(),
        7,
        "taken over, and still at its position"
    );
    let mut late = applier.decode(log.batch(&*heir, 4, 7).await);
    let error = applier
        .commit(&mut late, &*heir, &published)
        .await
        .unwrap_err();
    assert!(
        matches!(error, BatchError::Store(StoreError::Fenced { .. })),
        "{error}"
    );
}

/// The old owner is in the middle of its transaction when the new one claims: either its transaction
/// is done before the claim and the claim sees it, or it is refused.
pub(crate) async fn a_claim_in_the_middle_of_a_transaction_loses_nothing(site: &Site) {
    let (applier, log) = (applier(), log(30));
    let declaration = applier.declaration();
    let partitions = log.partitions();
    let old = site.open().await;
    old.prepare(declaration).await.unwrap();
    old.claim(declaration, OwnerEpoch(1), &partitions, false)
        .await
        .unwrap();
    let heir = site.open().await;
    let table = Arc::clone(declaration.find_table("account").unwrap());
    let key = RowKey::new("account", 77i64);
    let (begun, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let unit = Unit {
        declaration: Arc::clone(declaration),
        advances: vec![Advance {
            topic_partition: partitions[0].clone(),
            from: None,
            to: Offset(5),
            owner_epoch: OwnerEpoch(1),
        }],
        keys: vec![key.clone()],
        fold: Box::new(move |_| {
            begun.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            Outcome::Commit(vec![Change::Put(Row::new(&table, &key))])
        }),
    };
    let transaction = tokio::spawn(async move { old.transact(unit).await });
    heard.recv().await.unwrap();
    let claimed = patient!(heir.claim(declaration, OwnerEpoch(2), &partitions, false)).unwrap();
    let result = transaction.await.unwrap();
    let table = declaration.find_table("account").unwrap();
    let rows = heir.read_table(declaration, table).await.unwrap();
    match (result, claimed.as_slice()) {
        (Ok(true), [position]) => {
            assert_eq!((position.next_offset, rows.len()), (Offset(5), 1));
        }
        (Err(StoreError::Fenced { .. } | StoreError::Unavailable { .. }), []) => {
            assert_eq!(rows.len(), 0);
        }
        (result, claimed) => panic!("{result:?}, claimed at {claimed:?}, {} rows", rows.len()),
    }
}

/// Several instances take the partition from each other all the time.
pub(crate) async fn owners_that_follow_on_each_other_never_mix(site: &Site) {
    let log = Arc::new(log(240));
    let store = site.open().await;
    store.prepare(applier().declaration()).await.unwrap();
    let epochs = Arc::new(AtomicI64::new(1));
    let instances: Vec<_> = (0..4)
        .map(|_| {
            let (log, epochs, url) = (Arc::clone(&log), Arc::clone(&epochs), site.url.clone());
            tokio::spawn(async move {
                let store = open(&url).await;
                let mut fenced = 0;
                loop {
                    let epoch = epochs.fetch_add(1, Ordering::SeqCst);
                    match own(&log, &*store, &log.partitions(), epoch, 3).await {
                        Ok(()) => return fenced,
                        Err(StoreError::Fenced { .. } | StoreError::NotAtPosition { .. }) => {
                            fenced += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    // The others get some work done before it is taken from them.
                    tokio::time::sleep(Duration::from_millis(10 + 7 * (fenced % 5))).await;
                }
            })
        })
        .collect();
    let mut fenced = 0;
    for instance in instances {
        fenced += instance.await.unwrap();
    }
    assert!(fenced > 0, "nobody was ever fenced: the test shows nothing");
    assert_store_is_fold(&log, &*store).await;
    let positions = store.positions(applier().declaration()).await.unwrap();
    assert_eq!(positions[0].next_offset.value(), log.len());
}
