//! Tables that do not fit are refused, and the message names the mend.

use conveyor_processors::store::StoreError;
use conveyor_processors::{
    BuildName, Change, ColumnType, Declaration, Listing, Row, RowKey, Table,
};
use std::sync::Arc;

use super::Hand;
use crate::lists::assert_listed;
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

/// A table that is kept in another way from now on: what is there is refused and left alone, the new
/// shape is built beside it, switched to, and gone back from.
pub(crate) async fn another_shape_is_built_beside_and_switched_to(site: &Site) {
    let shape = |version| {
        let key = [("sku", ColumnType::Text), ("day", ColumnType::Integer)];
        let table = Table::new("shelf", &key).column("units_left", ColumnType::Integer);
        let table = match version {
            1 => table,
            _ => table
                .named("shelves:{sku}:{day}:row")
                .listed(&Listing::set("shelves:{day}", "sku").at_most("units_left", 0))
                .by_day("day")
                .in_camel_case(),
        };
        Declaration::new("shelf", version)
            .source("topic")
            .table(table)
    };
    let row = |declaration: &Declaration, units: i64| {
        let key = RowKey::of("shelf", ["SKU-1".into(), 20_261_123i64.into()]);
        let mut row = Row::new(&declaration.tables()[0], &key);
        row.set("units_left", units);
        row
    };
    let (old, new) = (shape(1), shape(2));
    let store = site.open_builds().await;
    let mut live = Hand::new(&*store, old.clone(), 0, 1).await;
    live.write(vec![Change::Put(row(&old, 7))]).await;
    let refused = refusal(store.prepare(&new).await);
    assert!(
        refused.contains("`conveyor projection rebuild shelf`"),
        "{refused}"
    );
    let silently = refusal(store.prepare(&shape_of_version(&new, &old)).await);
    assert!(silently.contains("raise the version"), "{silently}");

    let build = BuildName::new("shelf", "2").unwrap();
    let mut hand = Hand::new(&*store, new.clone().as_build(&build), 0, 1).await;
    let beside = row(&hand.declaration, 0);
    hand.write(vec![Change::Put(beside)]).await;
    let read = async |declaration: &Declaration| {
        let rows = store
            .read_table(declaration, &declaration.tables()[0])
            .await
            .unwrap();
        rows.iter()
            .map(|row| row.integer("units_left"))
            .collect::<Vec<_>>()
    };
    assert_eq!(read(&old).await, [7], "the old one is served meanwhile");
    store.switch(&build).await.unwrap();
    store.prepare(&new).await.unwrap();
    assert_eq!(read(&new).await, [0]);
    assert_listed(site, &*store, &new).await;
    store
        .switch(&BuildName::new("shelf", "1").unwrap())
        .await
        .unwrap();
    assert_eq!(read(&old).await, [7]);
    assert!(refusal(store.prepare(&new).await).contains("holds version 1"));
    store.drop_build(&build).await.unwrap();
    assert_eq!(read(&old).await, [7]);
}

/// The tables of one declaration under the version of another.
fn shape_of_version(shape: &Declaration, version: &Declaration) -> Declaration {
    let declaration = Declaration::new("shelf", version.version()).source("topic");
    declaration.table(Table::clone(&shape.tables()[0]))
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
