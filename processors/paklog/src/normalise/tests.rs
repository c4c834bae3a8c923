//! One record of each service as it writes it, and what becomes of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::decode;

const ORDERS: &str = "fulfillment.order_management.v1.events";
const STOCK: &str = "fulfillment.inventory.v1.events";

fn normaliser() -> Normaliser {
    with(Routes::builtin().clone())
}

fn with(routes: Routes) -> Normaliser {
    Normaliser::new(routes, AliasTable::builtin().clone(), "normaliser")
}

fn record(topic: &str, key: Option<&str>, headers: &[(&str, &str)], value: &[u8]) -> SourceRecord {
    SourceRecord {
        source: Source {
            topic: topic.into(),
            partition: 2,
            offset: 41.into(),
            timestamp_ms: 1_762_164_906_500,
        },
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value)),
        headers: headers
            .iter()
            .map(|(key, value)| Header {
                key: (*key).to_owned(),
                value: Some(Bytes::copy_from_slice(value.as_bytes())),
            })
            .collect(),
    }
}

/// Binary mode, as the CloudEvents SDK of the services writes it.
fn binary(topic: &str, key: Option<&str>, event_type: &str, data: &Value) -> SourceRecord {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "e-1"),
        ("ce_source", "/service"),
        ("ce_type", event_type),
    ];
    record(topic, key, &headers, data.to_string().as_bytes())
}

fn write(record: &SourceRecord) -> Canonical {
    match normaliser().normalise(record) {
        Outcome::Write(canonical) => canonical,
        other => panic!("{other:?}"),
    }
}

fn json_of(canonical: &Canonical) -> Value {
    serde_json::from_slice(&canonical.value).unwrap()
}

/// What a reader of the target finds.
fn as_read(canonical: &Canonical, offset: i64) -> SourceRecord {
    SourceRecord {
        source: Source {
            topic: Arc::clone(&canonical.topic),
            partition: 0,
            offset: offset.into(),
            timestamp_ms: canonical.timestamp_ms,
        },
        key: canonical.key.clone(),
        value: Some(canonical.value.clone()),
        headers: canonical.headers.clone(),
    }
}

fn header<'a>(canonical: &'a Canonical, name: &str) -> &'a str {
    let found = canonical.headers.iter().find(|header| header.key == name);
    std::str::from_utf8(found.unwrap().value.as_deref().unwrap()).unwrap()
}

fn order(order_id: &str) -> Value {
    json!({
        "order_id": order_id, "seller_fulfillment_order_id": "s-1", "shipping_speed_category": "STANDARD",
        "status": "RECEIVED", "received_date": 1_762_164_906.5, "cancellation_reason": null,
        "items": [{ "seller_sku": "SKU-1", "quantity": 2 }],
    })
}

#[test]
fn an_order_without_key_and_header_gets_both() {
    let event = json!({
        "specversion": "1.0", "id": "o-e", "source": "/fulfillment/order-management-service",
        "type": "com.paklog.fulfillment.order.received", "subject": "o-1",
        "time": "2025-11-03T10:15:06.5Z", "datacontenttype": "application/json",
        "correlationid": "c-1", "data": { "order": order("o-1") },
    });
    let canonical = write(&record(
        ORDERS,
        None,
        &[("b3", "trace")],
        event.to_string().as_bytes(),
    ));
    assert_eq!(&*canonical.topic, "order-events");
    assert_eq!(canonical.key.as_deref(), Some(&b"o-1"[..]));
    assert_eq!(canonical.timestamp_ms, 1_762_164_906_500);
    assert_eq!(header(&canonical, "content-type"), STRUCTURED_CONTENT_TYPE);
    assert_eq!(header(&canonical, SOURCE_TOPIC_HEADER), ORDERS);
    assert_eq!(header(&canonical, SOURCE_PARTITION_HEADER), "2");
    assert_eq!(header(&canonical, SOURCE_OFFSET_HEADER), "41");
    assert_eq!(
        header(&canonical, "b3"),
        "trace",
        "what is of no encoding goes along"
    );
    let written = json_of(&canonical);
    assert_eq!(written["type"], "com.paklog.fulfillment.order.received.v1");
    assert_eq!(
        (&written["id"], &written["subject"]),
        (&json!("o-e"), &json!("o-1"))
    );
    assert_eq!(written["correlationid"], "c-1");
    assert_eq!(written["time"], "2025-11-03T10:15:06.500Z");
    assert_eq!(written["data"]["order"]["items"][0]["quantity"], 2);
}

#[test]
fn binary_events_become_structured_ones_without_the_headers_of_before() {
    let data = json!({
        "sku": "SKU-9", "change_reason": "PICK",
        "previous_stock_level": { "quantity_on_hand": 9, "quantity_allocated": 3, "available_to_promise": 6 },
        "new_stock_level": { "quantity_on_hand": 8, "quantity_allocated": 2, "available_to_promise": 6 },
    });
    let event_type = "com.paklog.inventory.fulfillment.v1.product-stock.level-changed";
    let mut source = binary(STOCK, Some("SKU-9"), event_type, &data);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (key, value) in [
        ("traceparent", trace),
        ("X-Correlation-ID", "c-7"),
        ("ce_aggregateversion", "12"),
        ("ce_causationid", "e-0"),
    ] {
        source.headers.push(Header {
            key: key.to_owned(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        });
    }
    let canonical = write(&source);
    assert_eq!(&*canonical.topic, "inventory-events");
    assert_eq!(canonical.key.as_deref(), Some(&b"SKU-9"[..]));
    assert!(
        canonical
            .headers
            .iter()
            .all(|header| !header.key.starts_with("ce_"))
    );
    let written = json_of(&canonical);
    assert_eq!(
        written["type"],
        "com.paklog.inventory.stock.level-changed.v1"
    );
    assert_eq!(written["subject"], "SKU-9", "filled in from the payload");
    assert_eq!(
        (&written["traceparent"], &written["correlationid"]),
        (&json!(trace), &json!("c-7"))
    );
    assert_eq!(
        (&written["aggregateversion"], &written["causationid"]),
        (&json!(12), &json!("e-0"))
    );
    assert_eq!(written["data"]["new_stock_level"]["quantity_on_hand"], 8);
}

#[test]
fn every_service_finds_its_topic_and_key() {
    let wave = json!({ "eventId": "e", "waveId": "WAVE-1", "orderIds": ["o-1"], "assignedZone": "ZONE-A",
        "releasedAt": [2025, 11, 3, 11, 0] });
    let task = json!({ "task_id": "TASK-1", "wave_id": "WAVE-1", "order_id": "WAVE-1", "task_type": "PICK" });
    let pick =
        json!({ "pick_task_id": "P-1", "task_id": "TASK-1", "worker_id": "W", "total_items": 4 });
    let short = json!({ "pick_task_id": "P-1", "order_id": "o-1", "sku_code": "SKU-1",
        "exception_type": "SHORT", "requested_quantity": 3, "actual_quantity": 1 });
    let pack =
        json!({ "pack_task_id": "K-1", "order_id": "o-1", "worker_id": "W", "items_to_pack": 4 });
    let label = json!({ "label_id": "LABEL-1", "tracking_number": "T", "order_id": "o-1" });
    let ready = json!({ "shipment_id": "SHIP-1", "tracking_numbers": ["T"], "carton_count": 1 });
    let moved = json!({ "shipmentId": "SHIP-1", "orderId": "o-1", "carrier": "C", "trackingNumber": "T",
        "dispatchedAt": "2025-11-03T12:00:00Z" });
    let asked = json!({ "sku": "SKU-3", "quantity": 2, "order_id": "o-1" });
    let request =
        json!({ "requestId": "R-1", "targetService": "erp", "operation": "x", "payload": {} });
    for (topic, event_type, data, target, key) in [
        (
            "wave-planning-events",
            "com.paklog.wms.wave.wave.released.v1",
            &wave,
            "wave-events",
            "WAVE-1",
        ),
        (
            "warehouse-execution.task-execution.events",
            "com.paklog.wes.task-execution.task.task.created.v1",
            &task,
            "task-events",
            "TASK-1",
        ),
        (
            "picking-events",
            "com.paklog.wes.pick-execution.picking.pick-task.started.v1",
            &pick,
            "pick-events",
            "P-1",
        ),
        (
            "picking-events",
            "com.paklog.wes.pick-execution.picking.pick-task.exception.v1",
            &short,
            "pick-events",
            "P-1",
        ),
        (
            "warehouse-execution.pack-ship.events",
            "com.paklog.wes.pack-ship.packing.pack-task.started.v1",
            &pack,
            "pack-events",
            "K-1",
        ),
        (
            "warehouse-execution.pack-ship.ship-events",
            "com.paklog.wes.pack-ship.shipping.label.generated.v1",
            &label,
            "pack-events",
            "o-1",
        ),
        (
            "warehouse-execution.pack-ship.ship-events",
            "com.paklog.wes.pack-ship.shipping.shipment.ready.v1",
            &ready,
            "pack-events",
            "SHIP-1",
        ),
        (
            "fulfillment.shipment.v1.events",
            "com.paklog.shipment.dispatched.v1",
            &moved,
            "external-events",
            "SHIP-1",
        ),
        (
            "fulfillment.warehouse.v1.events",
            "com.example.fulfillment.warehouse.inventory.allocation.requested",
            &asked,
            "inventory-events",
            "SKU-3",
        ),
        (
            "wes.integration.events",
            "com.paklog.integration.request.sent.v1",
            &request,
            "external-events",
            "R-1",
        ),
    ] {
        let canonical = write(&binary(topic, None, event_type, data));
        assert_eq!(&*canonical.topic, target, "{event_type}");
        assert_eq!(
            canonical.key.as_deref(),
            Some(key.as_bytes()),
            "{event_type}"
        );
        assert_eq!(json_of(&canonical)["subject"], key, "{event_type}");
    }
}

#[test]
fn plain_json_of_java_services_gets_an_id_from_its_place() {
    let value = json!({ "type": "WaveReleasedEvent", "waveId": "WAVE-2", "orderIds": [] });
    let topic = "warehouse-execution.wave-planning.events";
    let canonical = write(&record(topic, None, &[], value.to_string().as_bytes()));
    let written = json_of(&canonical);
    assert_eq!(written["id"], format!("{topic}-2@41"));
    assert_eq!(written["source"], "paklog://wave-planning-service");
    assert_eq!(
        written["time"], "2025-11-03T10:15:06.500Z",
        "the record's own"
    );
    let typed = record(
        topic,
        None,
        &[("__TypeId__", "com.paklog.WaveReleasedEvent")],
        br#"{"waveId":"WAVE-3"}"#,
    );
    let canonical = write(&typed);
    assert_eq!(canonical.key.as_deref(), Some(&b"WAVE-3"[..]));
    assert!(
        canonical
            .headers
            .iter()
            .all(|header| header.key != "__TypeId__")
    );
}

#[test]
fn what_cannot_be_read_is_rejected_with_both_header_families() {
    for value in [
        &b"no event"[..],
        b"",
        b"{}",
        br#"{"type":"NoSuchThing"}"#,
        b"\xff",
    ] {
        let Outcome::Reject(rejected) =
            normaliser().normalise(&record(ORDERS, Some("k"), &[], value))
        else {
            panic!("{value:?} is taken")
        };
        assert_eq!(rejected.record.value.as_deref(), Some(value), "as it was");
        let headers = rejected.headers();
        for name in ["kafka_dlt-original-topic", "kafka_original-topic"] {
            assert!(headers.iter().any(|header| header.key == name), "{name}");
        }
    }
}

#[test]
fn unknown_types_are_passed_over_where_the_route_says_so() {
    let product = record(
        "order-fulfillment-core.product-catalog.events",
        None,
        &[("__TypeId__", "com.paklog.ProductCreated")],
        br#"{"productId":"p"}"#,
    );
    assert_eq!(normaliser().normalise(&product), Outcome::Skip);
    let mut tombstone = record(ORDERS, Some("k"), &[], b"");
    tombstone.value = None;
    assert_eq!(normaliser().normalise(&tombstone), Outcome::Skip);
}

#[test]
fn on_its_own_topic_a_canonical_event_is_left_alone_and_another_as_the_route_says() {
    let task = json!({ "task_id": "TASK-1", "task_type": "PICK" });
    let event_type = "com.paklog.wes.task-execution.task.task.created.v1";
    let raw = binary("task-events", Some("TASK-1"), event_type, &task);
    assert_eq!(
        normaliser().normalise(&raw),
        Outcome::LeaveAlone,
        "its readers have it"
    );
    let text = "[[source]]\ntopic = \"task-events\"\nin_place = \"republish\"";
    let republishing = with(Routes::parse(text).unwrap());
    let Outcome::Write(canonical) = republishing.normalise(&raw) else {
        panic!("it is to be written once more")
    };
    assert_eq!(&*canonical.topic, "task-events");
    let again = as_read(&canonical, 7);
    assert_eq!(
        republishing.normalise(&again),
        Outcome::LeaveAlone,
        "once, and not in circles"
    );
    // An event of another topic does not belong here, canonical as it is.
    let wave = json!({ "waveId": "WAVE-1" });
    let stray = write(&binary(
        "wave-planning-events",
        None,
        "com.paklog.wms.wave.wave.released.v1",
        &wave,
    ));
    let mut stray = as_read(&stray, 8);
    stray.source.topic = "task-events".into();
    assert_eq!(&*write(&stray).topic, "wave-events");
}

#[test]
fn targets_may_have_other_names() {
    let text = "[targets]\n\"order-events\" = \"shadow.orders\"\n[[source]]\ntopic = \"order-events\"\n\
                [[source]]\ntopic = \"shadow.orders\"";
    let shadow = with(Routes::parse(text).unwrap());
    let event = binary(
        "order-events",
        None,
        "com.paklog.fulfillment.order.cancelled",
        &json!({ "order_id": "o-5", "cancellation_reason": "r" }),
    );
    let Outcome::Write(canonical) = shadow.normalise(&event) else {
        panic!("it is to be written")
    };
    assert_eq!(&*canonical.topic, "shadow.orders");
    assert_eq!(
        shadow.normalise(&as_read(&canonical, 0)),
        Outcome::LeaveAlone
    );
}

/// Canonical events of all kinds, as the workload writes them.
fn canonical_events() -> Vec<SourceRecord> {
    let csv = "ordered_at,order_id,customer_id,store_id,sku,department,quantity\n\
               2017-01-01T00:00:00Z,1,1,367,1001,GROCERY,2\n\
               2017-01-01T00:00:00Z,1,1,367,1002,GROCERY,1\n\
               2017-01-01T00:01:00Z,2,2,367,1003,GROCERY,3\n";
    let orders = crate::workload::OrderLines::new(csv.as_bytes()).unwrap();
    let workload = crate::workload::Workload::new(orders, crate::workload::Settings::default());
    let events = workload.map(|event| event.unwrap());
    let records = events.map(|event| {
        let topic = event.event_type.topic().name();
        let headers = [("content-type", STRUCTURED_CONTENT_TYPE)];
        record(topic, Some(&event.key), &headers, &event.value)
    });
    records.collect()
}

#[test]
fn canonical_events_stay_as_they_are_to_the_byte() {
    let events = canonical_events();
    assert!(events.len() > 50, "{} events", events.len());
    for mut event in events {
        let own_topic = Arc::clone(&event.source.topic);
        let value = event.value.clone();
        event.source.topic = ORDERS.into();
        let canonical = write(&event);
        assert_eq!(Some(canonical.value.clone()), value);
        assert_eq!(canonical.topic, own_topic);
        // From there it goes nowhere.
        let everything = Topic::ALL.map(Topic::name).into_iter();
        let everything = everything.filter(|name| *name != "error-events");
        let routes: Vec<String> = everything
            .map(|name| format!("[[source]]\ntopic = \"{name}\"\nin_place = \"republish\"\n"))
            .collect();
        let all = with(Routes::parse(&routes.concat()).unwrap());
        let outcome = all.normalise(&as_read(&canonical, 1));
        if *own_topic != *"error-events" {
            assert_eq!(outcome, Outcome::LeaveAlone);
        }
    }
}

proptest! {
    /// Whatever comes, the answer is one of the four, and what is written is read again as the same
    /// event and never written once more.
    #[test]
    fn nothing_panics_and_nothing_goes_round_in_circles(
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::sample::select(canonical_events())
                .prop_flat_map(|event| {
                    let bytes = event.value.unwrap_or_default().to_vec();
                    (Just(bytes), any::<prop::sample::Index>(), any::<u8>(), any::<bool>())
                })
                .prop_map(|(mut bytes, at, byte, changes)| {
                    if changes {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                    }
                    bytes
                }),
        ],
        topic in prop::sample::select(vec![ORDERS, STOCK, "task-events", "order-fulfillment-core.product-catalog.events"]),
        content_type in prop::option::of("[ -~]{0,40}"),
        key in prop::option::of("[a-z]{0,5}"),
    ) {
        let headers: Vec<(&str, &str)> = content_type.as_deref().map(|text| ("content-type", text)).into_iter().collect();
        let record = record(topic, key.as_deref(), &headers, &value);
        let normaliser = normaliser();
        if let Outcome::Write(canonical) = normaliser.normalise(&record) {
            let again = as_read(&canonical, 3);
            let read = decode(again.value.as_deref(), again.headers.iter()
                .filter_map(|header| Some((header.key.as_str(), header.value.as_deref()?))));
            let read = read.expect("what was written is an event");
            prop_assert_eq!(read.event_type().name(), read.attributes.event_type.as_str());
            prop_assert_eq!(read.event_type().topic().name(), &*canonical.topic);
            prop_assert!(read.attributes.id.is_some_and(|id| !id.is_empty()));
            let mut elsewhere = again.clone();
            elsewhere.source.topic = ORDERS.into();
            if let Outcome::Write(twice) = normaliser.normalise(&elsewhere) {
                prop_assert_eq!(&twice.value, &canonical.value);
            } else {
                prop_assert!(false, "what was written is not taken elsewhere");
            }
            prop_assert!(!matches!(normaliser.normalise(&again), Outcome::Write(_) | Outcome::Reject(_)));
        }
    }
}
