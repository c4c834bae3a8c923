//! What `PakLog`'s people look at is called as they call it, and says what happened.

#[path = "support/read_model.rs"]
mod read_model;
mod support;

use std::collections::BTreeSet;

use conveyor_paklog::projection::{
    Atp, DeadLetters, InventoryMovement, KpiMinute, OrderSla, OrderTracking, PackThroughput,
    PickSession, SlaDue, TaskQueue, WaveProgress, WorkerHourly,
};
use conveyor_processors::table::{Row, Table};
use conveyor_processors::{Declaration, Projection};
use read_model::{fold, records};
use serde_json::Value as Json;
use support::run;

fn main_table(declaration: &Declaration) -> &Table {
    &declaration.tables()[0]
}

/// Columns, or fields of documents, of the first table of a projection.
fn names(declaration: &Declaration, documents: bool) -> BTreeSet<String> {
    let table = main_table(declaration);
    let columns = table.columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            if documents {
                table.field_of(index).to_owned()
            } else {
                column.name.to_owned()
            }
        })
        .collect()
}

#[track_caller]
fn assert_has(names: &BTreeSet<String>, wanted: &str) {
    for name in wanted.split_whitespace() {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

#[test]
fn tables_have_the_columns_of_the_contract() {
    for (declaration, columns) in [
        (
            Atp.declaration(),
            "on_hand allocated atp reason as_of part off",
        ),
        (
            InventoryMovement.declaration(),
            "topic part off sku ts on_hand_delta allocated_delta reason order_id",
        ),
        (TaskQueue.declaration(), "depth oldest avg_wait"),
        (
            WorkerHourly.declaration(),
            "wh worker hour tasks_done tasks_failed units lines short_picks busy_s accuracy uph",
        ),
        (
            PackThroughput.declaration(),
            "station minute orders items cartons weight qc_pass qc_fail p50_s p95_s",
        ),
        (
            OrderSla.declaration(),
            "order_id speed received_at deadline released_at picking_at packed_at shipped_at status \
             cycle_s",
        ),
        (KpiMinute.declaration(), "wh minute"),
    ] {
        assert_has(&names(&declaration, false), columns);
    }
    let movement = InventoryMovement.declaration();
    let key: Vec<_> = main_table(&movement)
        .key_columns()
        .iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(key, ["topic", "part", "off", "day"]);
    assert_eq!(main_table(&movement).day(), Some(3));
}

#[test]
fn documents_have_the_fields_of_the_contract() {
    for (declaration, fields) in [
        (
            OrderTracking.declaration(),
            "trackingId orderId customerId currentStatus currentLocation statusHistory \
             estimatedDelivery actualDelivery carrierInfo trackingNumber waveId stage _src",
        ),
        (
            WaveProgress.declaration(),
            "waveId status totalOrders completedOrders inProgressOrders pendingOrders \
             completionPercentage estimatedTimeRemaining activePickers bottlenecks zone cutoff \
             released_at",
        ),
        (
            PickSession.declaration(),
            "sessionId instructions done short distance accuracy state",
        ),
        (
            DeadLetters.declaration(),
            "topic part off type error attempts payload replayed_at",
        ),
    ] {
        assert_has(&names(&declaration, true), fields);
    }
    assert_eq!(
        main_table(&PickSession.declaration()).name(),
        "pick_session_view"
    );
}

#[test]
fn rows_and_lists_have_the_names_of_the_contract() {
    let row_name = |declaration: &Declaration| main_table(declaration).row_name().text().to_owned();
    let lists = |declaration: &Declaration| -> Vec<String> {
        let tables = declaration.tables().iter();
        let lists = tables.flat_map(|table| table.lists().iter().map(|list| list.describe(table)));
        lists.collect()
    };
    let (atp, queue, due) = (
        Atp.declaration(),
        TaskQueue.declaration(),
        SlaDue.declaration(),
    );
    assert_eq!(row_name(&atp), "atp:{sku}");
    assert_eq!(lists(&atp), ["sku in atp:out where atp <= 0"]);
    assert_eq!(
        row_name(&queue),
        "tq:{warehouse_id}:{zone_id}:{task_type}:stats"
    );
    let waiting = "task_id in tq:{warehouse_id}:{zone_id}:{task_type} by waiting_since";
    assert_eq!(lists(&queue), [waiting]);
    assert_eq!(lists(&due), ["order_id in sla:due by deadline"]);
}

/// The rows of one table of a fold.
fn of<'r>(rows: &'r [Row], table: &str) -> Vec<&'r Row> {
    rows.iter()
        .filter(|row| row.table().name() == table)
        .collect()
}

#[test]
fn a_customer_is_told_the_whole_way_of_an_order() {
    let records = records(&run(3, 120).0);
    let rows = fold(&OrderTracking, &records).0;
    let mut delivered = 0;
    for row in of(&rows, "order_tracking") {
        let history = row
            .json("status_history")
            .and_then(Json::as_array)
            .expect("a history");
        let field = |entry: &Json, name: &str| entry[name].as_str().map(str::to_owned);
        let times: Vec<_> = history
            .iter()
            .map(|entry| field(entry, "timestamp"))
            .collect();
        assert!(
            times.is_sorted() && times.iter().all(Option::is_some),
            "{history:?}"
        );
        let order = row.text("order_id").expect("an order");
        assert_eq!(row.text("tracking_id"), Some(&*format!("TRACK-{order}")));
        let src = row.json("src").and_then(Json::as_object).expect("sources");
        let last = |topic: &str| {
            let partitions = src.get(topic).and_then(Json::as_object)?;
            partitions.values().filter_map(Json::as_i64).max()
        };
        let of_order = records.iter().filter(|record| {
            record.topic.name() == "order-events"
                && record.event.attributes.subject.as_deref() == Some(order)
        });
        let offset = of_order.map(|record| record.source.offset.value()).max();
        assert_eq!(last("order-events"), offset, "{order}");
        if row.text("stage") == Some("DELIVERED") {
            delivered += 1;
            assert_eq!(row.text("current_status"), Some("DELIVERED"));
            assert!(row.timestamp_ms("actual_delivery").is_some());
            assert_eq!(row.text("current_location"), row.text("destination"));
            let carrier = row.json("carrier_info").expect("a carrier");
            assert_eq!(carrier["carrier"].as_str(), row.text("carrier"));
            let stages: Vec<_> = history
                .iter()
                .filter_map(|entry| field(entry, "status"))
                .collect();
            let way = [
                "RECEIVED",
                "ALLOCATED",
                "PICKING",
                "PICKED",
                "PACKED",
                "SHIPPED",
                "DELIVERED",
            ];
            assert!(
                way.iter().all(|stage| stages.iter().any(|s| s == stage)),
                "{stages:?}"
            );
        }
    }
    assert!(delivered > 50, "{delivered} only");
}

#[test]
fn open_waves_tell_how_long_they_take_and_what_they_wait_for() {
    let all = records(&run(4, 400).0);
    let (mut estimated, mut waiting) = (0, 0);
    for tenth in 1..=10 {
        let rows = fold(&WaveProgress, &all[..all.len() * tenth / 10]).0;
        for row in of(&rows, "wave_progress") {
            let ended = matches!(row.text("status"), Some("COMPLETED" | "CANCELLED"));
            let kinds = row
                .json("bottlenecks")
                .and_then(Json::as_array)
                .expect("a list");
            let open = ["open_pick_tasks", "open_pack_tasks"].map(|column| row.integer(column));
            let expected = if ended {
                0
            } else {
                open.iter().filter(|n| **n > 0).count()
            };
            assert_eq!(kinds.len(), expected);
            waiting += kinds.len();
            let remaining = row.get("estimated_time_remaining");
            let is_known = *remaining != conveyor_processors::Value::Null;
            assert_eq!(is_known, ended || row.integer("completed_orders") > 0);
            assert!(!ended || row.integer("estimated_time_remaining") == 0);
            estimated += i64::from(row.integer("estimated_time_remaining") > 0);
        }
    }
    assert!(
        estimated > 0 && waiting > 0,
        "{estimated} {waiting}: it shows nothing"
    );
}
