//! Every value that a row can hold comes back as it was.

use std::collections::BTreeMap;

use conveyor_processors::{Change, ColumnType, Declaration, KeyPart, Row, RowKey, Table, Value};
use serde_json::json;

use super::Hand;
use crate::site::Site;

fn kinds() -> Declaration {
    let table = Table::new(
        "kinds",
        &[("name", ColumnType::Text), ("number", ColumnType::Integer)],
    )
    .column("words", ColumnType::Text)
    .column("count", ColumnType::Integer)
    .column("ratio", ColumnType::Real)
    .column("done", ColumnType::Boolean)
    .column("at", ColumnType::Timestamp)
    .column("order", ColumnType::Json)
    .column("last_words", ColumnType::Text)
    .in_camel_case()
    .field("words", "_words")
    .moments_in("order", "at")
    .index("at")
    .index("last_words");
    Declaration::new("kinds", 1).source("topic").table(table)
}

fn key(name: &str, number: i64) -> RowKey {
    RowKey::of("kinds", [KeyPart::from(name), KeyPart::from(number)])
}

/// A column and what is put into it.
fn cells() -> Vec<(&'static str, Value)> {
    let long = "ä€😀 ".repeat(100_000);
    let mut cells = Vec::new();
    for text in [
        "",
        "plain",
        "it's \"quoted\" \\ {} $1 %",
        "\0",
        "a\0b\u{10fffd}c\u{10fffd}0",
        &long,
    ] {
        cells.push(("words", Value::from(text)));
    }
    for number in [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1] {
        cells.push(("count", Value::from(number)));
    }
    for number in [0.0, 1.0, 0.1, -2.5e-308, 1e16, f64::MAX, f64::MIN_POSITIVE] {
        cells.push(("ratio", Value::from(number)));
    }
    for truth in [true, false] {
        cells.push(("done", Value::from(truth)));
    }
    for timestamp_ms in [
        0,
        1,
        -1,
        1_795_406_706_789,
        -62_135_596_800_000,
        253_402_300_799_999,
    ] {
        cells.push(("at", Value::timestamp_ms(timestamp_ms)));
    }
    let jsons = [
        json!(null),
        json!({}),
        json!([]),
        json!(""),
        json!(0),
        json!(1.0),
        json!(1e16),
        json!(true),
        json!({"b": [1, -2, 3.25, null, {"c": "d"}], "a": "ä\0\u{10fffd}", "": 1, "$set": {"x.y": 2}}),
        json!({"_json": "{}"}),
        json!([i64::MIN, u64::MAX]),
        json!({"nul\0key": [[[[]]]]}),
        json!({"at": "2026-11-23T04:05:06.789Z", "on": [{"at": "1969-12-31T23:59:59.999Z"}]}),
        json!([{"at": "2026-11-23T04:05:06Z"}, {"at": "-1"}, {"at": "soon"}, {"at": 7}]),
    ];
    cells.extend(jsons.map(|json| ("order", Value::from(json))));
    cells
}

pub(crate) async fn values_of_every_type_come_back(site: &Site) {
    let store = site.open().await;
    let mut hand = Hand::new(&*store, kinds(), 0, 1).await;
    let table = std::sync::Arc::clone(&hand.declaration.tables()[0]);
    let mut expected = Vec::new();
    for (number, (column, value)) in cells().into_iter().enumerate() {
        let mut row = Row::new(&table, &key("cell", number as i64));
        row.set(column, value);
        expected.push(row);
    }
    for column in [
        "words",
        "count",
        "ratio",
        "done",
        "at",
        "order",
        "last_words",
    ] {
        let mut row = Row::new(&table, &key("empty", expected.len() as i64));
        row.set(column, Value::Null);
        expected.push(row);
    }
    hand.write(expected.iter().cloned().map(Change::Put).collect())
        .await;
    let found = store.read_table(&hand.declaration, &table).await.unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());

    // The same through the rows that a fold is given.
    let keys: Vec<_> = (0..cells().len())
        .map(|number| key("cell", number as i64))
        .collect();
    let (asked, loaded) = (keys.clone(), expected);
    let told = hand.transact(keys, move |rows| {
        for (key, row) in asked.iter().zip(&loaded) {
            assert_eq!(rows.get(key).unwrap(), Some(row));
        }
        conveyor_processors::store::Outcome::Abort
    });
    assert!(!told.await.unwrap());
}

pub(crate) async fn rows_come_back_in_key_order_whatever_the_keys_hold(site: &Site) {
    let store = site.open().await;
    let mut hand = Hand::new(&*store, kinds(), 0, 1).await;
    let table = std::sync::Arc::clone(&hand.declaration.tables()[0]);
    let names = [
        "",
        "a",
        "A",
        "b",
        "aa",
        "a/b",
        "a:b",
        "a b",
        "{a}",
        "ä",
        "z",
        "😀",
        "a\0b",
        "1",
        "10",
        "2",
        "%2F",
        "\"",
        "'",
        "\\",
        "\u{10fffd}",
        "Z",
    ];
    let mut expected = BTreeMap::new();
    for name in names {
        for number in [-10, -1, 0, 2, 10, i64::MIN, i64::MAX] {
            let key = key(name, number);
            expected.insert(key.clone(), Row::new(&table, &key));
        }
    }
    hand.write(expected.values().cloned().map(Change::Put).collect())
        .await;
    let found = store.read_table(&hand.declaration, &table).await.unwrap();
    assert_eq!(found, expected.values().cloned().collect::<Vec<_>>());
    for key in expected.keys() {
        hand.write(vec![Change::Delete(key.clone())]).await;
    }
    assert_eq!(
        store.read_table(&hand.declaration, &table).await.unwrap(),
        []
    );
}

pub(crate) async fn rows_are_changed_and_deleted(site: &Site) {
    let store = site.open().await;
    let mut hand = Hand::new(&*store, kinds(), 0, 1).await;
    let table = std::sync::Arc::clone(&hand.declaration.tables()[0]);
    let mut row = Row::new(&table, &key("a", 1));
    row.set("words", "first")
        .set("at", Value::timestamp_ms(5))
        .set("done", true);
    hand.write(vec![Change::Put(row.clone())]).await;
    row.set("words", Value::Null)
        .set("done", Value::Null)
        .set("ratio", 2.5)
        .increment("count", 3);
    hand.write(vec![Change::Put(row.clone())]).await;
    let rows = store.read_table(&hand.declaration, &table).await.unwrap();
    assert_eq!(rows, [row.clone()], "what was emptied is empty");
    let absent = Change::Delete(key("never", 1));
    hand.write(vec![absent, Change::Delete(key("a", 1))]).await;
    assert_eq!(
        store.read_table(&hand.declaration, &table).await.unwrap(),
        []
    );
    hand.write(vec![Change::Put(row.clone())]).await;
    let rows = store.read_table(&hand.declaration, &table).await.unwrap();
    assert_eq!(rows, [row], "and comes back");
}

pub(crate) async fn batches_may_be_big(site: &Site) {
    let count = if site.slow { 1_500 } else { 12_000 };
    let store = site.open().await;
    let mut hand = Hand::new(&*store, kinds(), 0, 1).await;
    let table = std::sync::Arc::clone(&hand.declaration.tables()[0]);
    let mut rows: Vec<Row> = Vec::new();
    for number in 0..count {
        let mut row = Row::new(&table, &key("big", number));
        row.set("words", format!("row number {number}"))
            .set("at", Value::timestamp_ms(number))
            .set(
                "order",
                json!({"lines": [number, number + 1], "note": "x".repeat(40)}),
            );
        rows.push(row);
    }
    hand.write(rows.iter().cloned().map(Change::Put).collect())
        .await;
    assert_eq!(
        store.read_table(&hand.declaration, &table).await.unwrap(),
        rows
    );
    for row in &mut rows {
        row.increment("count", 1);
    }
    let (kept, gone) = rows.split_at(rows.len() / 2);
    let changes = kept.iter().cloned().map(Change::Put);
    let deletes = gone
        .iter()
        .map(|row| Change::Delete(key("big", row.integer("number"))));
    hand.write(changes.chain(deletes).collect()).await;
    assert_eq!(
        store.read_table(&hand.declaration, &table).await.unwrap(),
        kept
    );
}
