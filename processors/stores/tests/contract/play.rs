//! Applying the ledger's log to a store, as the driver would.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use conveyor_processors::applier::{Applier, BatchError};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::store::{OwnerEpoch, Store, StoreError};
use conveyor_processors::{Rows, TopicPartition};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::ledger::{Ledger, LedgerDecoder, Log};

/// Remembers what was published; can be told to fail.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) records: Mutex<Vec<(i32, i64)>>,
    pub(crate) failures_left: AtomicU32,
}

impl RejectedSink for Published {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
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

pub(crate) type LedgerApplier = Applier<Ledger, LedgerDecoder>;

pub(crate) fn applier() -> LedgerApplier {
    Applier::new(Arc::new(Ledger), Arc::new(LedgerDecoder))
}

/// Applies one batch of all partitions, again and again while `error-events` is down; returns its
/// records.
pub(crate) async fn apply(
    applier: &LedgerApplier,
    log: &Log,
    store: &dyn Store,
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
            Ok(applied) => return applied.ranges.iter().map(|range| range.records).sum(),
            Err(error @ BatchError::Publish(_)) => assert!(error.is_retriable()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// An owner of some partitions, from its claim until it has applied everything or is fenced.
/// Waits out a store that is away, as the driver does. Returns whether it came to the end.
pub(crate) async fn own(
    log: &Log,
    store: &dyn Store,
    partitions: &[TopicPartition],
    epoch: i64,
    records_max: usize,
) -> Result<(), StoreError> {
    own_slowly(log, store, partitions, epoch, records_max, Duration::ZERO).await
}

/// The same, with a pause between two batches.
pub(crate) async fn own_slowly(
    log: &Log,
    store: &dyn Store,
    partitions: &[TopicPartition],
    epoch: i64,
    records_max: usize,
    pause: Duration,
) -> Result<(), StoreError> {
    let (applier, published) = (applier(), Published::default());
    let declaration = applier.declaration();
    let owner = OwnerEpoch(epoch);
    let mut positions = patient!(store.claim(declaration, owner, partitions, false))?;
    applier.parked().forget(partitions);
    loop {
        let batch = log.batch_after(&positions, partitions, epoch, records_max);
        if batch.is_empty() {
            return Ok(());
        }
        let mut batch = applier.decode(batch);
        loop {
            match applier.commit(&mut batch, store, &published).await {
                Ok(_) => break,
                Err(error) if error.is_retriable() => short_sleep().await,
                Err(BatchError::Store(error)) => return Err(error),
                Err(error) => panic!("{error}"),
            }
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        positions = patient!(store.positions(declaration))?;
    }
}

/// Tries until the store is there. A macro, as each attempt borrows anew.
macro_rules! patient {
    ($attempt:expr) => {
        loop {
            match $attempt.await {
                Err(error) if conveyor_processors::StoreError::is_retriable(&error) => {
                    crate::play::short_sleep().await;
                }
                settled => break settled,
            }
        }
    };
}
pub(crate) use patient;

pub(crate) async fn short_sleep() {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

/// A fold that changes what it is given and then gives up.
pub(crate) fn spoil(rows: &mut Rows) {
    rows.edit(&conveyor_processors::RowKey::new("account", 1i64))
        .unwrap()
        .increment("balance", 1_000_000);
}
