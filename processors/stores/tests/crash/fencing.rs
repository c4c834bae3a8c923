//! An instance that lost a partition writes nothing more, however late it wakes up.

use std::sync::Arc;

use conveyor_processors::applier::{Applier, BatchError};
use conveyor_processors::store::{OwnerEpoch, Store, StoreError};
use conveyor_stores::SqliteStore;

use crate::Published;
use crate::ledger::{Entry, Ledger, LedgerDecoder, Log, assert_store_is_fold, run};

fn log() -> Log {
    let moved = |amount| Entry::Moved { account: 1, amount };
    Log::new(&[(1..30).map(moved).collect()])
}

#[test]
fn a_woken_instance_is_fenced_before_and_after_the_new_owner_writes() {
    run(async {
        let (log, published) = (log(), Published::default());
        let folder = tempfile::tempdir().unwrap();
        let applier = Applier::new(Arc::new(Ledger), Arc::new(LedgerDecoder));
        let declaration = applier.declaration();
        let frozen = SqliteStore::open(folder.path().join("read.db")).unwrap();
        frozen.prepare(declaration).await.unwrap();
        frozen
            .claim(declaration, OwnerEpoch(3), &log.partitions(), false)
            .await
            .unwrap();
        let held_back = log.batch(&frozen, 3, 5).await;

        let heir = SqliteStore::open(folder.path().join("read.db")).unwrap();
        heir.claim(declaration, OwnerEpoch(4), &log.partitions(), false)
            .await
            .unwrap();
        let mut late = applier.decode(held_back.clone());
        let error = applier
            .commit(&mut late, &frozen, &published)
            .await
            .unwrap_err();
        assert!(
            matches!(error, BatchError::Store(StoreError::Fenced { .. })),
            "{error}"
        );
        assert!(!error.is_retriable());

        let mut batch = applier.decode(log.batch(&heir, 4, 7).await);
        applier.commit(&mut batch, &heir, &published).await.unwrap();
        let mut late = applier.decode(held_back);
        applier
            .commit(&mut late, &frozen, &published)
            .await
            .unwrap_err();

        let error = frozen
            .claim(declaration, OwnerEpoch(3), &log.partitions(), false)
            .await;
        assert!(matches!(error, Err(StoreError::Fenced { .. })), "{error:?}");
        assert_store_is_fold(&log, &heir).await;
        let positions = frozen
            .claim(declaration, OwnerEpoch(1), &log.partitions(), true)
            .await
            .unwrap();
        assert_eq!(
            positions[0].next_offset.value(),
            7,
            "taken over, and still at its position"
        );
    });
}

#[test]
fn a_batch_that_does_not_follow_on_is_refused() {
    run(async {
        let (log, published) = (log(), Published::default());
        let folder = tempfile::tempdir().unwrap();
        let applier = Applier::new(Arc::new(Ledger), Arc::new(LedgerDecoder));
        let store = SqliteStore::open(folder.path().join("read.db")).unwrap();
        store.prepare(applier.declaration()).await.unwrap();
        store
            .claim(
                applier.declaration(),
                OwnerEpoch(1),
                &log.partitions(),
                false,
            )
            .await
            .unwrap();
        let partitions = log.batch(&store, 1, 5).await;
        applier
            .commit(&mut applier.decode(partitions.clone()), &store, &published)
            .await
            .unwrap();

        let mut again = applier.decode(partitions);
        let error = applier
            .commit(&mut again, &store, &published)
            .await
            .unwrap_err();
        assert!(
            matches!(error, BatchError::Store(StoreError::NotAtPosition { .. })),
            "{error}"
        );
        assert_store_is_fold(&log, &store).await;
    });
}
