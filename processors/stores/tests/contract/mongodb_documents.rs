//! Documents as readers find them, by the driver and not by the store: fields called as the table
//! says, nested values as documents, arrays and dates.

use conveyor_processors::{Change, ColumnType, Declaration, Row, RowKey, Table, Value};
use mongodb::Client;
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::json;

use crate::cases::Hand;
use crate::server::mongodb as server;
use crate::site::{Site, run};

fn orders() -> Declaration {
    let table = Table::new("tracking", &[("order_id", ColumnType::Text)])
        .column("status_history", ColumnType::Json)
        .column("src", ColumnType::Json)
        .column("estimated_delivery", ColumnType::Timestamp)
        .in_camel_case()
        .field("src", "_src")
        .moments_in("status_history", "timestamp")
        .index("estimated_delivery");
    Declaration::new("tracking", 1).source("topic").table(table)
}

fn documents_are_nested_and_called_as_declared(site: &Site) {
    run(async {
        let store = site.open().await;
        let mut hand = Hand::new(&*store, orders(), 0, 1).await;
        let table = std::sync::Arc::clone(&hand.declaration.tables()[0]);
        let mut row = Row::new(&table, &RowKey::new("tracking", "O-1"));
        let at = "2026-11-23T04:05:06.789Z";
        row.set(
            "status_history",
            json!([{"status": "PICKED", "timestamp": at, "notes": null}]),
        )
        .set("src", json!({"pick-events": {"3": 17}}))
        .set("estimated_delivery", Value::timestamp_ms(5));
        hand.write(vec![Change::Put(row.clone())]).await;
        assert_eq!(
            store.read_table(&hand.declaration, &table).await.unwrap(),
            [row]
        );

        let client = Client::with_uri_str(&site.url).await.unwrap();
        let view = client
            .default_database()
            .unwrap()
            .collection::<Document>("tracking");
        let mut found = view
            .find_one(doc! { "orderId": "O-1" })
            .await
            .unwrap()
            .unwrap();
        found.remove("_seq");
        let date = DateTime::from_millis(1_795_406_706_789);
        let expected = doc! {
            "_id": "O-1",
            "orderId": "O-1",
            "statusHistory": [{ "status": "PICKED", "timestamp": date, "notes": Bson::Null }],
            "_src": { "pick-events": { "3": 17i64 } },
            "estimatedDelivery": DateTime::from_millis(5),
        };
        let fields = |document: &Document| -> Vec<(String, Bson)> {
            let mut fields: Vec<_> = document.clone().into_iter().collect();
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            fields
        };
        assert_eq!(fields(&found), fields(&expected));
        let nested = doc! { "statusHistory.timestamp": date };
        assert!(
            view.find_one(nested).await.unwrap().is_some(),
            "nested fields are searched"
        );
    });
}

#[test]
fn with_transactions_documents_are_nested_and_called_as_declared() {
    documents_are_nested_and_called_as_declared(&server::site());
}

#[test]
fn without_transactions_documents_are_nested_and_called_as_declared() {
    documents_are_nested_and_called_as_declared(&server::standalone_site());
}

#[test]
fn fields_that_the_store_needs_are_refused() {
    let site = server::site();
    run(async {
        let table = Table::new("t", &[("id", ColumnType::Text)])
            .column("number", ColumnType::Integer)
            .field("number", "_seq");
        let declaration = Declaration::new("t", 1).source("topic").table(table);
        let store = site.open().await;
        let refused = crate::cases::schema::refusal(store.prepare(&declaration).await);
        assert!(
            refused.contains("_seq") && refused.contains("call it otherwise"),
            "{refused}"
        );
    });
}
