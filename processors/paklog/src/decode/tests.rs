//! Encodings that `PakLog`'s services write, and what must never happen.

use proptest::prelude::*;

use super::*;
use crate::event::{EventType, STRUCTURED_CONTENT_TYPE, structured};

type Headers<'a> = &'a [(&'a str, &'a str)];

fn read(value: &str, headers: Headers<'_>) -> Result<Event, DecodeError> {
    decode(
        Some(value.as_bytes()),
        headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes())),
    )
}

fn level_changed(event: &Event) -> (&str, i64) {
    match &event.payload {
        Payload::StockLevelChanged(change) => (
            change.sku.as_str(),
            change.new_stock_level.available_to_promise,
        ),
        other => panic!("expected a stock level, got {other:?}"),
    }
}

const LEVEL: &str = r#"{"sku":"SKU-1","previous_stock_level":{"quantity_on_hand":5,"quantity_allocated":0,"available_to_promise":5},"new_stock_level":{"quantity_on_hand":5,"quantity_allocated":2,"available_to_promise":3},"change_reason":"ALLOCATION"}"#;

#[test]
fn structured_with_header() {
    let value = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"com.paklog.inventory.stock.level-changed.v1","subject":"SKU-1","time":"2025-11-03T10:15:06Z","aggregateversion":7,"correlationid":"o","data":{LEVEL}}}"#
    );
    let event = read(&value, &[("content-type", STRUCTURED_CONTENT_TYPE)]).expect("an event");
    assert_eq!(level_changed(&event), ("SKU-1", 3));
    assert_eq!(event.attributes.aggregate_version, Some(7));
    assert_eq!(event.attributes.correlation_id.as_deref(), Some("o"));
    assert_eq!(event.attributes.time, Moment::parse("2025-11-03T10:15:06Z"));
}

#[test]
fn binary_with_headers_and_an_old_type() {
    let headers = [
        ("ce_specversion", "1.0"),
        (
            "ce_type",
            "com.paklog.inventory.fulfillment.v1.product-stock.level-changed",
        ),
        ("ce_id", "9"),
        ("ce_subject", "SKU-1"),
        ("ce_time", "2025-11-03T10:15:06+00:00"),
        ("content-type", "application/json"),
    ];
    let event = read(LEVEL, &headers).expect("an event");
    assert_eq!(level_changed(&event), ("SKU-1", 3));
    assert_eq!(event.attributes.id.as_deref(), Some("9"));
    assert_eq!(
        event.event_type().name(),
        "com.paklog.inventory.stock.level-changed.v1"
    );
}

#[test]
fn json_with_specversion_and_no_header() {
    let value = r#"{"specversion":"1.0","id":"1","source":"/fulfillment/order-management-service",
        "type":"com.paklog.fulfillment.order.cancelled","subject":"o-1",
        "data":{"order_id":"o-1","reason":"changed mind"}}"#;
    let event = read(value, &[]).expect("an event");
    let Payload::OrderCancelled(closed) = &event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(
        (
            closed.order_id.as_str(),
            closed.cancellation_reason.as_str()
        ),
        ("o-1", "changed mind")
    );
}

#[test]
fn plain_json_by_type_event_type_or_type_id() {
    let wave = |event: &Event| match &event.payload {
        Payload::WaveReleased(wave) => {
            (wave.wave_id.clone(), wave.zone_id.clone(), wave.released_at)
        }
        other => panic!("{other:?}"),
    };
    let expected = (
        "WAVE-1".to_owned(),
        "ZONE-A".to_owned(),
        Moment::parse("2025-11-03T10:15:06Z"),
    );
    let fields = r#""eventId":"e","waveId":"WAVE-1","orderIds":["o"],"assignedZone":"ZONE-A","releasedAt":[2025,11,3,10,15,6],"priority":null"#;
    let by_type = read(&format!(r#"{{"type":"WaveReleasedEvent",{fields}}}"#), &[]).expect("type");
    assert_eq!(wave(&by_type), expected);
    assert_eq!(by_type.attributes.id.as_deref(), Some("e"));
    let wrapped = format!(r#"{{"eventType":"WaveReleasedEvent","payload":{{{fields}}}}}"#);
    assert_eq!(wave(&read(&wrapped, &[]).expect("eventType")), expected);
    let headers = [("__TypeId__", "com.paklog.wave.domain.WaveReleasedEvent")];
    assert_eq!(
        wave(&read(&format!("{{{fields}}}"), &headers).expect("__TypeId__")),
        expected
    );
}

#[test]
fn the_wave_id_in_a_tasks_order_id_is_not_an_order() {
    let value = r#"{"specversion":"1.0","type":"com.paklog.wes.task-execution.task.task.created.v1",
        "data":{"task_id":"TASK-1","wave_id":"WAVE-1","order_id":"WAVE-1","task_type":"PICK"}}"#;
    let event = read(value, &[]).expect("an event");
    let Payload::TaskCreated(task) = &event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(
        (task.wave_id.as_deref(), task.order_id.as_deref()),
        (Some("WAVE-1"), None)
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    assert_eq!(decode(None, std::iter::empty()), Err(DecodeError::Empty));
    assert_eq!(read("", &[]), Err(DecodeError::Empty));
    assert!(matches!(
        read("\u{1}Avro", &[]),
        Err(DecodeError::NotJson(_))
    ));
    assert!(matches!(read("[1]", &[]), Err(DecodeError::NotJson(_))));
    assert_eq!(read("{}", &[]), Err(DecodeError::NoType));
    assert_eq!(
        read(r#"{"type":"ProductCreated"}"#, &[]),
        Err(DecodeError::UnknownType("ProductCreated".to_owned()))
    );
    let no_sku = read(r#"{"type":"StockLevelChangedEvent"}"#, &[]);
    assert!(
        matches!(no_sku, Err(DecodeError::Data { .. })),
        "{no_sku:?}"
    );
    let error = no_sku.expect_err("an error").to_string();
    assert!(
        error.contains("level-changed") && error.contains("sku"),
        "{error}"
    );
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    let deep = format!(
        r#"{{"type":"TaskCreated","taskId":"T","x":{}{}}}"#,
        "[".repeat(9000),
        "]".repeat(9000)
    );
    assert!(read(&deep, &[]).is_err());
}

fn any_level() -> impl Strategy<Value = Payload> {
    (
        "SKU-[0-9]{1,8}",
        any::<[i32; 4]>(),
        "[ -~]{0,20}",
        proptest::option::of("[a-f0-9-]{1,36}"),
    )
        .prop_map(|(sku, n, reason, order_id)| {
            let level = |a: i32, b: i32| crate::event::payload::StockLevel {
                quantity_on_hand: i64::from(a),
                quantity_allocated: i64::from(b),
                available_to_promise: i64::from(a) - i64::from(b),
            };
            Payload::StockLevelChanged(crate::event::payload::StockLevelChanged {
                sku,
                previous_stock_level: level(n[0], n[1]),
                new_stock_level: level(n[2], n[3]),
                change_reason: reason,
                order_id,
            })
        })
}

fn any_wave() -> impl Strategy<Value = Payload> {
    (
        "WAVE-[0-9A-F]{8}",
        proptest::collection::vec("[a-f0-9-]{36}", 0..40),
        0_i64..4_000_000_000_000,
    )
        .prop_map(|(wave_id, order_ids, at)| {
            Payload::WaveReleased(crate::event::payload::WaveReleased {
                wave_id,
                order_ids,
                warehouse_id: "WH-001".to_owned(),
                zone_id: "ZONE-A".to_owned(),
                priority: "NORMAL".to_owned(),
                total_lines: 3,
                released_at: Some(Moment(at)),
                carrier_cutoff: None,
            })
        })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        value in proptest::collection::vec(any::<u8>(), 0..200),
        content_type in "[ -~]{0,40}",
        ce_type in "[ -~]{0,40}",
    ) {
        let headers = [("content-type", content_type.as_bytes()), ("ce_type", ce_type.as_bytes())];
        drop(decode(Some(&value), std::iter::empty()));
        drop(decode(Some(&value), headers.into_iter()));
        let headers = [("content-type", STRUCTURED_CONTENT_TYPE.as_bytes())];
        drop(decode(Some(&value), headers.into_iter()));
    }

    #[test]
    fn damaged_events_never_panic(
        position in 0..LEVEL.len(),
        byte in any::<u8>(),
        name in 0..EventType::ALL.len(),
    ) {
        let mut value = LEVEL.as_bytes().to_vec();
        value[position] = byte;
        let name = EventType::ALL[name].name();
        let headers = [("ce_specversion", b"1.0".as_slice()), ("ce_type", name.as_bytes())];
        drop(decode(Some(&value), headers.into_iter()));
    }

    #[test]
    fn what_is_written_is_read_back(payload in prop_oneof![any_level(), any_wave()], version in 1_i64..1_000_000) {
        let attributes = Attributes {
            id: Some("id".to_owned()),
            source: Some("/source".to_owned()),
            event_type: payload.event_type().name().to_owned(),
            subject: Some("subject".to_owned()),
            time: Some(Moment(1_762_164_906_500)),
            correlation_id: Some("c".to_owned()),
            causation_id: None,
            trace_parent: Some("00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01".to_owned()),
            aggregate_version: Some(version),
        };
        let bytes = structured(&attributes, &payload).expect("JSON");
        let headers = [(CONTENT_TYPE_HEADER, STRUCTURED_CONTENT_TYPE.as_bytes())];
        let event = decode(Some(&bytes), headers.into_iter()).expect("an event");
        prop_assert_eq!(event, Event { attributes, payload });
    }
}
