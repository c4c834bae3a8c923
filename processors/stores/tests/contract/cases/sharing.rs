//! Several instances write at once: each its own partitions, some of them the same rows.

use std::sync::Arc;

use conveyor_processors::store::{Outcome, StoreError};
use conveyor_processors::{Change, ColumnType, Declaration, Row, RowKey, Rows, Table};

use super::Hand;
use crate::ledger::{Entry, Log, assert_store_is_fold};
use crate::play::{applier, own};
use crate::site::{Site, open};

pub(crate) async fn instances_on_different_partitions_come_to_the_fold(site: &Site) {
    let moved = |n: i64| Entry::Moved {
        account: (n % 4) as u8,
        amount: n,
    };
    let log = Arc::new(Log::new(&[
        (0..150).map(moved).collect(),
        (0..90).map(moved).collect(),
        (0..120).map(moved).collect(),
    ]));
    let store = site.open().await;
    store.prepare(applier().declaration()).await.unwrap();
    let instances: Vec<_> = (0..3)
        .map(|partition| {
            let (log, url) = (Arc::clone(&log), site.url.clone());
            tokio::spawn(async move {
                let store = open(&url).await;
                let mine = [log.partitions()[partition].clone()];
                own(&log, &*store, &mine, 1, 8).await.unwrap();
            })
        })
        .collect();
    for instance in instances {
        instance.await.unwrap();
    }
    assert_store_is_fold(&log, &*store).await;
    let positions = store.positions(applier().declaration()).await.unwrap();
    let records: i64 = positions.iter().map(|p| p.next_offset.value()).sum();
    assert_eq!(records, log.len());
}

fn counters() -> Declaration {
    let table =
        Table::new("counter", &[("name", ColumnType::Text)]).column("value", ColumnType::Integer);
    Declaration::new("counters", 1).source("topic").table(table)
}

/// Again and again, as the driver does, when the store says that it is busy.
async fn transact(
    hand: &mut Hand<'_>,
    keys: Vec<RowKey>,
    fold: impl FnMut(Rows) -> Outcome + Send + Sync + Clone + 'static,
) {
    loop {
        match hand.transact(keys.clone(), fold.clone()).await {
            Ok(wrote) => return assert!(wrote),
            Err(StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn instances_that_touch_the_same_rows_lose_nothing(site: &Site) {
    const INSTANCES: i64 = 4;
    const STEPS: i64 = 25;
    let store = site.open().await;
    store.prepare(&counters()).await.unwrap();
    let instances: Vec<_> = (0..INSTANCES)
        .map(|instance| {
            let url = site.url.clone();
            tokio::spawn(async move {
                let store = open(&url).await;
                let mut hand = Hand::new(&*store, counters(), instance as i32, 1).await;
                let keys = [RowKey::new("counter", "all"), RowKey::new("counter", "sum")];
                for step in 0..STEPS {
                    let table = Arc::clone(&hand.declaration.tables()[0]);
                    let wanted = keys.clone();
                    transact(&mut hand, keys.to_vec(), move |rows| {
                        let add = |(key, by): (&RowKey, i64)| {
                            let row = rows.get(key).unwrap().cloned();
                            let mut row = row.unwrap_or_else(|| Row::new(&table, key));
                            row.increment("value", by);
                            Change::Put(row)
                        };
                        Outcome::Commit(wanted.iter().zip([1, step]).map(add).collect())
                    })
                    .await;
                }
            })
        })
        .collect();
    for instance in instances {
        instance.await.unwrap();
    }
    let declaration = counters();
    let rows = store
        .read_table(&declaration, &declaration.tables()[0])
        .await
        .unwrap();
    let values: Vec<_> = rows.iter().map(|row| row.integer("value")).collect();
    assert_eq!(
        values,
        [INSTANCES * STEPS, INSTANCES * STEPS * (STEPS - 1) / 2]
    );
}

/// A join: two events of two partitions meet. Each looks whether the other's row is there; if so it
/// writes that they have met, else it leaves its own row. Two instances that both look first and
/// write then would both leave their row, and never meet.
pub(crate) async fn what_a_fold_saw_to_be_absent_is_still_absent_when_it_writes(site: &Site) {
    const PAIRS: i64 = 60;
    let store = site.open().await;
    store.prepare(&counters()).await.unwrap();
    let side = |mine: &'static str, theirs: &'static str, partition: i32| {
        let url = site.url.clone();
        tokio::spawn(async move {
            let store = open(&url).await;
            let mut hand = Hand::new(&*store, counters(), partition, 1).await;
            for pair in 0..PAIRS {
                let table = Arc::clone(&hand.declaration.tables()[0]);
                let key = |what: &str| RowKey::new("counter", format!("{what} {pair:03}"));
                let keys = [key(mine), key(theirs), key("met")];
                let [own, other, met] = keys.clone();
                transact(&mut hand, keys.to_vec(), move |rows| {
                    let found = rows.get(&other).unwrap().is_some();
                    let write = if found { &met } else { &own };
                    let mut row = rows
                        .get(write)
                        .unwrap()
                        .cloned()
                        .unwrap_or_else(|| Row::new(&table, write));
                    row.increment("value", 1);
                    Outcome::Commit(vec![Change::Put(row)])
                })
                .await;
            }
        })
    };
    let sides = [side("left", "right", 0), side("right", "left", 1)];
    for side in sides {
        side.await.unwrap();
    }
    let declaration = counters();
    let rows = store
        .read_table(&declaration, &declaration.tables()[0])
        .await
        .unwrap();
    let met = rows
        .iter()
        .filter(|row| row.text("name").unwrap().starts_with("met"));
    assert_eq!(met.count() as i64, PAIRS);
    assert_eq!(rows.len() as i64, 2 * PAIRS);
    assert!(rows.iter().all(|row| row.integer("value") == 1));
}
