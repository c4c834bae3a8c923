//! Rows and positions move together, one step after the other.

use conveyor_processors::applier::BatchError;
use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, StoreError, Unit};
use conveyor_processors::{Projection, RowKey};
use conveyor_record::Offset;
use std::sync::Arc;

use crate::ledger::{Entry, Ledger, Log, assert_store_is_fold};
use crate::play::{Published, applier, apply, spoil};
use crate::site::Site;

fn log(records: i64) -> Log {
    let moved = |amount| Entry::Moved { account: 1, amount };
    Log::new(&[(1..=records).map(moved).collect()])
}

pub(crate) async fn a_store_begins_nowhere_and_goes_on_where_it_stands(site: &Site) {
    let (log, applier, published) = (log(20), applier(), Published::default());
    let declaration = applier.declaration();
    let store = site.open().await;
    store.prepare(declaration).await.unwrap();
    let partitions = log.partitions();
    let claim = |epoch| (OwnerEpoch(epoch), &partitions, false);
    let (epoch, claimed, take_over) = claim(1);
    let at_first = store.claim(declaration, epoch, claimed, take_over).await;
    assert_eq!(at_first.unwrap(), []);
    assert_eq!(store.positions(declaration).await.unwrap(), []);
    apply(&applier, &log, &*store, &published, 1, 7).await;
    drop(store);

    let store = site.open().await;
    store.prepare(declaration).await.unwrap();
    let (epoch, claimed, take_over) = claim(2);
    let found = store
        .claim(declaration, epoch, claimed, take_over)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].next_offset, found[0].owner_epoch),
        (Offset(7), OwnerEpoch(2))
    );
    assert_eq!(store.positions(declaration).await.unwrap(), found);
    assert_store_is_fold(&log, &*store).await;
    while apply(&applier, &log, &*store, &published, 2, 4).await > 0 {}
    assert_store_is_fold(&log, &*store).await;
    assert_eq!(
        store.positions(declaration).await.unwrap()[0].next_offset,
        Offset(20)
    );
}

pub(crate) async fn a_projection_that_was_never_prepared_stands_nowhere(site: &Site) {
    let applier = applier();
    let store = site.open().await;
    let positions = store.positions(applier.declaration()).await;
    assert_eq!(positions.unwrap(), []);
}

pub(crate) async fn a_batch_that_does_not_follow_on_is_refused(site: &Site) {
    let (log, applier, published) = (log(20), applier(), Published::default());
    let declaration = applier.declaration();
    let store = site.open().await;
    store.prepare(declaration).await.unwrap();
    let epoch = OwnerEpoch(1);
    store
        .claim(declaration, epoch, &log.partitions(), false)
        .await
        .unwrap();
    let partitions = log.batch(&*store, 1, 5).await;
    let mut first = applier.decode(partitions.clone());
    applier
        .commit(&mut first, &*store, &published)
        .await
        .unwrap();

    let mut again = applier.decode(partitions.clone());
    let error = applier
        .commit(&mut again, &*store, &published)
        .await
        .unwrap_err();
    let BatchError::Store(StoreError::NotAtPosition {
        found, expected, ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*found, *expected), (Some(Offset(5)), None));

    let mut gap = partitions;
    gap[0].from = Some(Offset(6));
    gap[0].to = Offset(11);
    let mut gap = applier.decode(gap);
    let error = applier
        .commit(&mut gap, &*store, &published)
        .await
        .unwrap_err();
    assert!(
        matches!(error, BatchError::Store(StoreError::NotAtPosition { .. })),
        "{error}"
    );
    assert_store_is_fold(&log, &*store).await;
}

pub(crate) async fn positions_move_without_rows(site: &Site) {
    let log = Log::new(&[vec![Entry::Tombstone; 9], vec![Entry::Garbage; 5]]);
    let (applier, published) = (applier(), Published::default());
    let declaration = applier.declaration();
    let store = site.open().await;
    store.prepare(declaration).await.unwrap();
    let epoch = OwnerEpoch(1);
    store
        .claim(declaration, epoch, &log.partitions(), false)
        .await
        .unwrap();
    while apply(&applier, &log, &*store, &published, 1, 4).await > 0 {}
    let positions = store.positions(declaration).await.unwrap();
    let at: Vec<_> = positions.iter().map(|p| p.next_offset.value()).collect();
    assert_eq!(at, [9, 5]);
    assert_eq!(published.records.lock().unwrap().len(), 5);
}

pub(crate) async fn an_aborted_fold_leaves_nothing(site: &Site) {
    let (log, applier, published) = (log(20), applier(), Published::default());
    let declaration = applier.declaration();
    let store = site.open().await;
    store.prepare(declaration).await.unwrap();
    let epoch = OwnerEpoch(1);
    store
        .claim(declaration, epoch, &log.partitions(), false)
        .await
        .unwrap();
    apply(&applier, &log, &*store, &published, 1, 5).await;
    let unit = Unit {
        declaration: Arc::new(Ledger.declaration()),
        advances: vec![Advance {
            topic_partition: log.partitions()[0].clone(),
            from: Some(Offset(5)),
            to: Offset(9),
            owner_epoch: epoch,
        }],
        keys: vec![RowKey::new("account", 1i64)],
        fold: Box::new(|mut rows| {
            spoil(&mut rows);
            Outcome::Abort
        }),
    };
    assert!(!store.transact(unit).await.unwrap());
    assert_store_is_fold(&log, &*store).await;
    assert_eq!(
        store.positions(declaration).await.unwrap()[0].next_offset,
        Offset(5)
    );
    apply(&applier, &log, &*store, &published, 1, 5).await;
    assert_store_is_fold(&log, &*store).await;
}
