//! The projections' figures against a plain computation of them, over the year of orders and over bad
//! days, at the end and half-way; and what no workload makes: odd events, late ones, timers.

#[path = "support/read_model.rs"]
mod read_model;
#[path = "support/reference.rs"]
mod reference;
mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use conveyor_paklog::decode::decode;
use conveyor_paklog::event::Event;
use conveyor_paklog::projection::{
    DeadLetter, DeadLetters, KpiMinute, OrderSla, PackThroughput, PickSession, SlaDue, TaskQueue,
    WorkerHourly,
};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::{Rates, Settings, WorkloadEvent};
use conveyor_processors::table::Row;
use conveyor_processors::{Fold, Header, Projection, RowKey, Source, SourceRecord};
use read_model::{Record, dead_letter, fold, fold_of, observed, records, rows_of};
use support::{run, run_with};

/// Allowed lateness of `order_sla`'s timers.
const LATENESS_MS: i64 = 120_000;

/// Everything that is compared, after so many tenths of the events.
fn compare(events: &[WorkloadEvent], tenths: &[usize]) {
    let all = records(events);
    for part in tenths {
        let records = &all[..all.len() * part / 10];
        let events: Vec<Event> = records.iter().map(|r| (*r.event).clone()).collect();
        compare_sums(records, &events);
        compare_sla(records, &events);
    }
}

fn compare_sums(records: &[Record], events: &[Event]) {
    let rows = fold(&TaskQueue, records).0;
    let found = reference::figures(&rows, "task_queue", &reference::TASK_QUEUE);
    assert_eq!(found, reference::task_queue(events));

    let rows = fold(&WorkerHourly, records).0;
    let found = reference::figures(&rows, "worker_hourly", &reference::WORKER_HOURLY);
    assert_eq!(found, reference::worker_hourly(events));

    let rows = fold(&PickSession, records).0;
    let found = reference::figures(&rows, "pick_session_view", &reference::PICK_SESSION);
    let (expected, states) = reference::pick_session(events);
    assert_eq!(found, expected);
    assert_eq!(
        reference::texts(&rows, "pick_session_view", "state"),
        states
    );

    let rows = fold(&PackThroughput, records).0;
    let found = reference::figures(&rows, "pack_throughput", &reference::PACK_THROUGHPUT);
    assert_eq!(found, reference::pack_throughput(events));

    let rows = fold_of(&KpiMinute, records, observed).0;
    let shown =
        |row: &Row| row.table().name() != "kpi_minute" || row.integer("shipments_delivered") == 0;
    let found = reference::figures(&rows, "kpi_minute", &reference::KPI_MINUTE);
    assert_eq!(found, reference::kpi_minute(events));
    assert!(
        records.len() < 10_000 || !rows.iter().all(shown),
        "something was delivered"
    );

    let failed = records.iter().filter(|record| record.topic == Topic::Error);
    let rows = fold_of(&DeadLetters, records, dead_letter).0;
    assert_eq!(rows.len(), failed.count());
}

fn compare_sla(records: &[Record], events: &[Event]) {
    let mut sla = Fold::new(&OrderSla);
    let sources = sla.declaration().sources().to_vec();
    for record in records.iter().filter(|r| sources.contains(&r.topic.name())) {
        sla.apply(&record.event, &record.source)
            .expect("an order's event");
    }
    let check = |rows: &[Row], clock_ms| {
        let (figures, statuses) = reference::order_sla(events, clock_ms);
        let found = reference::figures(rows, "order_sla", &reference::ORDER_SLA);
        assert_eq!(found, figures);
        assert_eq!(reference::texts(rows, "order_sla", "status"), statuses);
    };
    check(&rows_of(&sla), None);
    let clock_ms = records
        .last()
        .map_or(0, |record| record.source.timestamp_ms);
    sla.fire_until(clock_ms);
    check(&rows_of(&sla), Some(clock_ms - LATENESS_MS));
    compare_due(records, &rows_of(&sla));
}

/// What is due are the orders of the history that came in and neither left nor were given up.
fn compare_due(records: &[Record], history: &[Row]) {
    let is_open = |row: &&Row| {
        let at = |column| row.timestamp_ms(column).is_some();
        at("received_at")
            && !["shipped_at", "delivered_at", "cancelled_at"]
                .into_iter()
                .any(at)
    };
    let deadline = |row: &Row| {
        let order = row.text("order_id").unwrap_or_default().to_owned();
        (order, row.timestamp_ms("deadline"))
    };
    let of_table = |rows: &[Row], table: &str| -> Vec<Row> {
        let rows = rows.iter().filter(|row| row.table().name() == table);
        rows.cloned().collect()
    };
    let due = of_table(&fold(&SlaDue, records).0, "sla_due");
    let history = of_table(history, "order_sla");
    let found: BTreeMap<_, _> = due.iter().map(deadline).collect();
    let expected: BTreeMap<_, _> = history.iter().filter(is_open).map(deadline).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_figures_of_a_year_are_those_of_a_plain_computation() {
    compare(&run(1, usize::MAX).0, &[6, 10]);
}

#[test]
fn the_figures_of_bad_days_are_those_of_a_plain_computation() {
    let rates = Rates {
        cancelled_early: 150_000,
        cancelled_late: 300_000,
        invalid: 50_000,
        short_picks: 250_000,
        qc_failed: 300_000,
        carton_failed: 200_000,
        shrinkage: 300_000,
    };
    let settings = Settings {
        seed: 11,
        rates,
        ..Settings::default()
    };
    compare(&run_with(settings, 300).0, &[1, 3, 5, 7, 9, 10]);
}

#[test]
fn timers_that_fire_early_or_late_leave_no_trace_on_an_order_that_is_done() {
    let (events, _) = run(9, 80);
    let records = records(&events);
    let expected = fold(&OrderSla, &records).0;
    for every in [1, 7, 50] {
        let mut sla = Fold::new(&OrderSla);
        let mut fired = 0;
        // Carriers and packers are read before the orders are: timers are set for what is done.
        let (late, first): (Vec<_>, Vec<_>) = records
            .iter()
            .filter(|record| sla.declaration().sources().contains(&record.topic.name()))
            .partition(|record| record.topic == Topic::Order);
        for (number, record) in first[..first.len() / 2]
            .iter()
            .chain(&late)
            .chain(&first[first.len() / 2..])
            .enumerate()
        {
            sla.apply(&record.event, &record.source)
                .expect("an order's event");
            if number % every == 0 {
                fired += sla.fire_until(record.source.timestamp_ms);
            }
        }
        assert!(fired > 5, "{fired} timers fired");
        assert_eq!(rows_of(&sla), expected);
    }
}

fn event(json: &str) -> Event {
    decode(Some(json.as_bytes()), [].into_iter()).expect(json)
}

fn at(topic: Topic, offset: i64) -> Source {
    Source {
        topic: topic.name().into(),
        partition: 0,
        offset: offset.into(),
        timestamp_ms: 1_700_000_000_000 + offset,
    }
}

/// Applies events, one line of JSON each, in the order given.
fn apply<'p, P: Projection<Event = Event>>(
    projection: &'p P,
    topic: Topic,
    events: &[&str],
) -> Fold<'p, P> {
    let mut fold = Fold::new(projection);
    for (offset, json) in events.iter().enumerate() {
        fold.apply(&event(json), &at(topic, offset as i64))
            .expect(json);
    }
    fold
}

#[test]
fn a_queue_knows_its_oldest_task_whatever_order_its_tasks_are_read_in() {
    let created = |id: &str, at: &str| {
        format!(
            r#"{{"type":"com.paklog.task-execution.task.created.v1","data":{{"task_id":"{id}",
            "task_type":"PICK","warehouse_id":"WH-001","zone_id":"ZONE-A","created_at":"{at}"}}}}"#
        )
    };
    let assigned = r#"{"type":"com.paklog.task-execution.task.assigned.v1","data":{"task_id":"A",
        "assigned_at":"2025-11-03T10:02:00Z"}}"#;
    let (a, b) = (
        created("A", "2025-11-03T10:00:00Z"),
        created("B", "2025-11-03T10:01:00Z"),
    );
    for order in [
        [a.as_str(), assigned, &b],
        [&b, &a, assigned],
        [assigned, &b, &a],
    ] {
        let fold = apply(&TaskQueue, Topic::Task, &order);
        let key = ["WH-001", "ZONE-A", "PICK"].map(Into::into);
        let row = fold.row(&RowKey::of("task_queue", key)).expect("a queue");
        assert_eq!((row.integer("depth"), row.integer("taken")), (1, 1));
        assert_eq!(row.integer("waited_ms"), 120_000);
        let oldest = conveyor_paklog::event::Moment::parse("2025-11-03T10:01:00Z");
        assert_eq!(row.timestamp_ms("oldest"), oldest.map(|at| at.0));
    }
}

#[test]
fn a_pick_session_shows_the_way_that_was_gone_or_else_planned() {
    let started = r#"{"type":"com.paklog.pick-execution.pick-session.started.v1","data":{
        "session_id":"S","worker_id":"W","total_instructions":2}}"#;
    let path = r#"{"type":"com.paklog.pick-execution.pick-path.optimized.v1","data":{
        "pick_task_id":"S","optimized_path_distance_meters":81.5}}"#;
    let ended = r#"{"type":"com.paklog.pick-execution.pick-session.completed.v1","data":{
        "session_id":"S","actual_distance_meters":97.25,"duration_seconds":60}}"#;
    let distance = |events: &[&str]| {
        let fold = apply(&PickSession, Topic::Pick, events);
        let row = fold
            .row(&RowKey::new("pick_session_view", "S"))
            .expect("a session");
        (
            row.real("distance"),
            row.text("state").unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(distance(&[started]), (0.0, "IN_PROGRESS".to_owned()));
    assert_eq!(distance(&[path, started]), (81.5, "IN_PROGRESS".to_owned()));
    assert_eq!(distance(&[path]), (81.5, "CREATED".to_owned()));
    assert_eq!(
        distance(&[started, path, ended]),
        (97.25, "COMPLETED".to_owned())
    );
}

fn failed(headers: &[(&str, &[u8])], offset: i64, value: &[u8]) -> SourceRecord {
    let header = |(key, value): &(&str, &[u8])| Header {
        key: (*key).to_owned(),
        value: Some(Bytes::copy_from_slice(value)),
    };
    SourceRecord {
        source: at(Topic::Error, offset),
        key: Some(Bytes::from_static(b"SKU-1")),
        value: Some(Bytes::copy_from_slice(value)),
        headers: headers.iter().map(header).collect(),
    }
}

#[test]
fn a_failure_is_one_row_however_many_consumers_report_it_and_in_whatever_order() {
    let place: [(&str, &[u8]); 3] = [
        ("kafka_dlt-original-topic", b"inventory-events"),
        ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
        ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 2]),
    ];
    let by = |group: &'static [u8], reason: &'static [u8], offset| {
        let mut headers = place.to_vec();
        headers.push(("kafka_dlt-original-consumer-group", group));
        headers.push(("kafka_dlt-exception-fqcn", b"conveyor.decode.NoType"));
        headers.push(("kafka_dlt-exception-message", reason));
        headers.push(("kafka_dlt-attempts", b"3"));
        failed(&headers, offset, b"\x00\xff")
    };
    // The other family, numbers as text, as cartonization's listener reads them.
    let replayed = failed(
        &[
            ("kafka_original-topic", b"inventory-events"),
            ("kafka_original-partition", b"3"),
            ("kafka_original-offset", b"258"),
            (conveyor_paklog::projection::REPLAYED_AT, b"1700000099000"),
        ],
        9,
        b"",
    );
    let reports = [
        by(b"atp", b"first", 1),
        by(b"movement", b"second", 2),
        replayed,
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut fold = Fold::new(&DeadLetters);
        for index in order {
            let letter = DeadLetter::of(&reports[index]);
            fold.apply(&letter, &reports[index].source)
                .expect("a report");
        }
        let rows = rows_of(&fold);
        let [row] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        assert_eq!((row.integer("part"), row.integer("off")), (3, 258));
        assert_eq!(
            row.text("reason"),
            Some("first"),
            "of the first consumer by name"
        );
        assert_eq!(row.text("payload"), Some("base64:AP8="));
        assert_eq!(row.integer("attempts"), 3);
        assert_eq!(row.timestamp_ms("replayed_at"), Some(1_700_000_099_000));
        assert_eq!(row.timestamp_ms("last_seen_at"), Some(1_700_000_000_002));
    }
}

#[test]
fn what_waited_for_its_warehouse_moves_there_and_leaves_nothing_behind() {
    let packed = r#"{"type":"com.paklog.pack-ship.pack-session.completed.v1","data":{
        "session_id":"P","order_id":"O","worker_id":"W","items_packed":3,
        "completed_at":"2025-11-03T10:01:00Z"}}"#;
    let created = r#"{"type":"com.paklog.task-execution.task.created.v1","data":{"task_id":"T",
        "order_id":"O","task_type":"PACK","warehouse_id":"WH-007"}}"#;
    let rows = |events: &[&str]| {
        let fold = apply(&WorkerHourly, Topic::Pack, events);
        let rows = rows_of(&fold);
        reference::figures(&rows, "worker_hourly", &["packed_orders", "packed_lines"])
    };
    let hour = conveyor_paklog::event::Moment::parse("2025-11-03T10:00:00Z").expect("a time");
    let under = |warehouse: &str| {
        let figures = [("packed_orders", Some(1)), ("packed_lines", Some(3))];
        let key = format!("{warehouse}/W/{}", hour.0);
        reference::Figures::from([(key, figures.into())])
    };
    assert_eq!(rows(&[packed]), under("-"), "shown at once");
    assert_eq!(rows(&[packed, created]), under("WH-007"));
    assert_eq!(rows(&[created, packed]), under("WH-007"));
}

#[test]
fn orders_of_every_speed_have_their_time() {
    let hours = |speed| conveyor_paklog::projection::allowed_ms(speed) / 3_600_000;
    let allowed = ["CRITICAL", "EXPRESS", "RUSH", "STANDARD", "same_day", "?"].map(hours);
    assert_eq!(allowed, [4, 24, 48, 72, 4, 72]);
}
