//! Tables that do not fit are refused, and the message names the mend.

use conveyor_processors::store::StoreError;
use conveyor_processors::{Change, ColumnType, Declaration, Row, RowKey, Table};
use std::sync::Arc;

use super::Hand;
use crate::site::{Site, open};

fn declaration(name: &'static str, version: u32, column: &'static str) -> Declaration {
    let table = Table::new("t", &[("id", ColumnType::Text)]).column(column, ColumnType::Real);
    Declaration::new(name, version).source("topic").table(table)
}

pub(crate) fn refusal(prepared: Result<(), StoreError>) -> String {
    match prepared {
        Err(error @ StoreError::Schema { .. }) => {
            assert!(!error.is_retriable());
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn another_version_or_another_shape_is_refused(site: &Site) {
    let store = site.open().await;
    store.prepare(&declaration("p", 1, "x")).await.unwrap();
    store.prepare(&declaration("p", 1, "x")).await.unwrap();
    let newer = refusal(store.prepare(&declaration("p", 2, "x")).await);
    assert!(
        newer.contains("holds version 1") && newer.contains("`conveyor projection rebuild p`"),
        "{newer}"
    );
    let changed = refusal(store.prepare(&declaration("p", 1, "y")).await);
    assert!(changed.contains("raise the version"), "{changed}");
}

/// Two projections that declare a table of the same name: the second is refused, or the tables are
/// two.
pub(crate) async fn a_table_belongs_to_one_projection(site: &Site) {
    let store = site.open().await;
    let mut hand = Hand::new(&*store, declaration("p", 1, "x"), 0, 1).await;
    let other = declaration("q", 1, "x");
    let prepared = store.prepare(&other).await;
    let table = Arc::clone(&hand.declaration.tables()[0]);
    let row = Row::new(&table, &RowKey::new("t", "a"));
    hand.write(vec![Change::Put(row.clone())]).await;
    let rows = store.read_table(&hand.declaration, &table).await;
    assert_eq!(rows.unwrap(), [row]);
    if prepared.is_ok() {
        let rows = store.read_table(&other, &other.tables()[0]).await;
        assert_eq!(rows.unwrap(), []);
    } else {
        let taken = refusal(prepared);
        assert!(taken.contains("belongs to p already"), "{taken}");
    }
}

pub(crate) async fn instances_may_prepare_at_once(site: &Site) {
    let instances: Vec<_> = (0..6)
        .map(|_| {
            let url = site.url.clone();
            tokio::spawn(async move {
                let store = open(&url).await;
                crate::play::patient!(store.prepare(&declaration("p", 1, "x")))
            })
        })
        .collect();
    for instance in instances {
        instance.await.unwrap().unwrap();
    }
}
