//! Lists of rows hold exactly what the rows say, whoever writes and whatever is switched or killed.

use std::sync::Arc;
use std::time::Duration;

use conveyor_processors::{
    Change, ColumnType, Declaration, Listing, Projection, Row, RowKey, Table, Value,
};

use super::Hand;
use super::builds::{build, fill};
use crate::ledger::{Ledger, assert_store_is_fold};
use crate::lists::{assert_listed, assert_nothing_left};
use crate::play::patient;
use crate::site::Site;
use crate::victim::{self, Victim};

fn shelves() -> Declaration {
    let shelf = Table::new("shelf", &[("sku", ColumnType::Text)])
        .column("zone", ColumnType::Text)
        .column("units", ColumnType::Integer)
        .column("since", ColumnType::Timestamp)
        .listed(&Listing::set("shelf:out", "sku").at_most("units", 0))
        .listed(&Listing::sorted("zone:{zone}:{units}", "sku", "since"))
        .listed(&Listing::sorted("least", "sku", "units"));
    let place = [("row", ColumnType::Text), ("bay", ColumnType::Integer)];
    let place = Table::new("place", &place)
        .named("zone:{row}:{bay}:place")
        .listed(&Listing::set("bay:{bay}", "row"));
    let declaration = Declaration::new("shelf", 1).source("topic");
    declaration.table(shelf).table(place)
}

/// Rows come, change their place, score and condition, and go; some are called like a list.
pub(crate) async fn lists_follow_their_rows(site: &Site) {
    let store = site.open().await;
    let mut hand = Hand::new(&*store, shelves(), 0, 1).await;
    let tables = hand.declaration.tables().to_vec();
    let skus = ["SKU-1", "out", "%6Fut", "a:b", "ä {1}", "SKU-2"];
    for step in 0..24_i64 {
        let mut changes = Vec::new();
        for (number, sku) in skus.iter().enumerate() {
            let dice = step * 7 + number as i64 * 5;
            if dice % 4 == 1 {
                continue;
            }
            let key = RowKey::new("shelf", *sku);
            if dice % 11 == 3 {
                changes.push(Change::Delete(key));
                continue;
            }
            let mut row = Row::new(&tables[0], &key);
            let since = 1_500_000_000_000 + dice % 3;
            row.set(
                "zone",
                (dice % 5 != 0).then(|| ["A", "b:c"][(dice % 2) as usize]),
            )
            .set("units", dice % 3 - 1)
            .set("since", (dice % 7 != 0).then(|| Value::timestamp_ms(since)));
            changes.push(Change::Put(row));
            let place = RowKey::of("place", [(*sku).into(), (dice % 2).into()]);
            changes.push(match dice % 3 {
                0 => Change::Delete(place),
                _ => Change::Put(Row::new(&tables[1], &place)),
            });
        }
        hand.write(changes).await;
        assert_listed(site, &*store, &hand.declaration).await;
    }
    let left = store
        .read_table(&hand.declaration, &tables[0])
        .await
        .unwrap();
    assert!(
        left.iter().any(|row| row.text("sku") == Some("out")),
        "it shows nothing"
    );
    let gone = left
        .iter()
        .map(|row| RowKey::new("shelf", row.text("sku").unwrap()));
    hand.write(gone.map(Change::Delete).collect()).await;
    assert_listed(site, &*store, &hand.declaration).await;
}

/// Lists go with their build: filled beside, switched to, gone back from, dropped without a trace.
pub(crate) async fn lists_go_with_their_build(site: &Site) {
    let store = site.open_builds().await;
    let of = |tag: &str| Ledger.declaration().as_build(&build(tag));
    fill(&*store, None, 1, 10).await.unwrap();
    fill(&*store, Some("2"), 1, 99).await.unwrap();
    assert_listed(site, &*store, &Ledger.declaration()).await;
    assert_listed(site, &*store, &of("2")).await;
    for (live, kept) in [("2", "1"), ("1", "2"), ("2", "1")] {
        patient!(store.switch(&build(live))).unwrap();
        assert_listed(site, &*store, &Ledger.declaration()).await;
        assert_listed(site, &*store, &of(kept)).await;
    }
    fill(&*store, None, 9, 99).await.unwrap();
    store.drop_build(&build("1")).await.unwrap();
    assert_nothing_left(site, &build("1")).await;
    assert_listed(site, &*store, &Ledger.declaration()).await;
}

/// Whoever is killed while writing or switching, the lists are those of the rows.
pub(crate) async fn killed_writers_leave_lists_as_rows(site: &Site) {
    let (log, store) = (victim::log(), site.open_builds().await);
    store
        .prepare(crate::play::applier().declaration())
        .await
        .unwrap();
    let declaration = Ledger.declaration();
    for round in 0..if site.slow { 2 } else { 5 } {
        let before = super::crash::progress(&*store).await;
        let writer = Victim::start_slow(&site.url, round + 1, &[0, 1]);
        super::crash::wait_for_progress(&*store, before).await;
        tokio::time::sleep(Duration::from_micros(200 + 1_300 * round as u64)).await;
        writer.kill();
        assert_store_is_fold(&log, &*store).await;
        assert_listed(site, &*store, &declaration).await;
    }
    let table = Arc::clone(declaration.find_table("account").unwrap());
    let rows = store.read_table(&declaration, &table).await.unwrap();
    assert!(!rows.is_empty(), "it shows nothing");
}
