//! Events in every form, and what is refused.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn headers<'a>(
    pairs: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
    pairs
        .iter()
        .map(|(name, value)| (*name, Some(value.as_bytes())))
}

fn decode_value(value: &Value) -> Result<Decoded, CloudEventError> {
    decode(Some(value.to_string().as_bytes()), [])
}

fn minimal() -> Value {
    json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" })
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

#[test]
fn structured_mode_writes_the_content_type_and_the_members_of_the_json_format() {
    let event = CloudEvent::builder(
        "com.paklog.wms.wave.planned.v1",
        "paklog://wave-planning-service",
    )
    .id("e-1")
    .subject("WAVE-0A1B2C3D")
    .time("2025-11-23T04:05:06.789+01:00".parse().unwrap())
    .correlation_id("c-1")
    .aggregate_version(3)
    .json(json!({"wave_id": "WAVE-0A1B2C3D"}))
    .build()
    .unwrap();
    let encoded = event.encode_structured();
    assert_eq!(encoded.headers.len(), 1);
    assert_eq!(encoded.headers[0].0, "content-type");
    assert_eq!(
        encoded.headers[0].1,
        "application/cloudevents+json; charset=UTF-8"
    );
    let document: Value = serde_json::from_slice(&encoded.value.unwrap()).unwrap();
    assert_eq!(
        document,
        json!({
            "specversion": "1.0", "id": "e-1", "type": "com.paklog.wms.wave.planned.v1",
            "source": "paklog://wave-planning-service", "subject": "WAVE-0A1B2C3D",
            "time": "2025-11-23T03:05:06.789Z", "datacontenttype": "application/json",
            "correlationid": "c-1", "aggregateversion": 3, "data": {"wave_id": "WAVE-0A1B2C3D"},
        })
    );
}

#[test]
fn binary_mode_puts_attributes_in_headers_and_data_in_the_value() {
    let event = CloudEvent::builder("t", "/s")
        .id("1")
        .json(json!({"sku": "SKU-1"}))
        .build()
        .unwrap();
    let encoded = event.encode_binary();
    assert_eq!(encoded.value.as_deref(), Some(&br#"{"sku":"SKU-1"}"#[..]));
    let names: Vec<&str> = encoded
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "content-type"
        ]
    );
}

#[test]
fn a_content_type_of_a_cloud_event_wins_over_ce_headers() {
    let value = minimal().to_string();
    let pairs = [
        ("ce_specversion", "1.0"),
        ("Content-Type", "application/cloudevents+json"),
    ];
    let decoded = decode(Some(value.as_bytes()), headers(&pairs)).unwrap();
    assert_eq!(decoded.encoding, Encoding::Structured);
}

#[test]
fn json_with_specversion_and_no_header_is_sniffed() {
    let decoded = decode_value(&minimal()).unwrap();
    assert_eq!(decoded.encoding, Encoding::Sniffed);
    assert_eq!(decoded.event.event_type(), "t");
}

#[test]
fn what_is_no_cloud_event_is_left_to_other_decoders() {
    for value in [
        &b"{\"type\":\"WaveReleasedEvent\"}"[..],
        b"plain",
        b"[1]",
        b"{\"specversion\"",
        b"",
    ] {
        assert_eq!(
            decode(Some(value), []),
            Err(CloudEventError::NotACloudEvent),
            "{value:?}"
        );
    }
    assert_eq!(decode(None, []), Err(CloudEventError::NotACloudEvent));
    let pairs = [("content-type", "application/json"), ("ce_id", "1")];
    assert_eq!(
        decode(Some(b"{}"), headers(&pairs)),
        Err(CloudEventError::NotACloudEvent)
    );
}

#[test]
fn a_broken_cloud_event_says_what_is_wrong() {
    let missing = |attribute| Err(CloudEventError::MissingAttribute { attribute });
    assert_eq!(decode_value(&json!({"specversion": "1.0"})), missing("id"));
    let no_source = json!({"specversion": "1.0", "id": "1", "type": "t"});
    assert_eq!(decode_value(&no_source), missing("source"));
    assert_eq!(
        decode_value(&with(minimal(), "specversion", json!("0.3"))),
        Err(CloudEventError::UnsupportedSpecVersion {
            found: "0.3".to_owned()
        })
    );
    assert!(matches!(
        decode_value(&with(minimal(), "time", json!("yesterday"))),
        Err(CloudEventError::InvalidAttribute { attribute, .. }) if attribute == "time"
    ));
    assert!(matches!(
        decode_value(&with(minimal(), "subject", json!(""))),
        Err(CloudEventError::InvalidAttribute { attribute, .. }) if attribute == "subject"
    ));
    assert!(matches!(
        decode_value(&with(minimal(), "trace-parent", json!("00"))),
        Err(CloudEventError::InvalidExtensionName { name }) if name == "trace-parent"
    ));
    assert!(matches!(
        decode_value(&with(minimal(), "nested", json!({}))),
        Err(CloudEventError::InvalidAttribute { attribute, .. }) if attribute == "nested"
    ));
    let both = with(
        with(minimal(), "data", json!(1)),
        "data_base64",
        json!("AQ=="),
    );
    assert_eq!(decode_value(&both), Err(CloudEventError::AmbiguousData));
    let base64 = with(minimal(), "data_base64", json!("?"));
    assert_eq!(decode_value(&base64), Err(CloudEventError::InvalidBase64));
}

#[test]
fn a_record_that_says_structured_mode_must_hold_it() {
    let pairs = [("content-type", "application/cloudevents+json")];
    assert_eq!(
        decode(None, headers(&pairs)),
        Err(CloudEventError::MissingValue)
    );
    assert_eq!(
        decode(Some(b"[]"), headers(&pairs)),
        Err(CloudEventError::NotAnObject)
    );
    assert!(matches!(
        decode(Some(b"{\"a\":"), headers(&pairs)),
        Err(CloudEventError::InvalidJson {
            line: 1,
            column: 5,
            ..
        })
    ));
    let batch = [("content-type", "application/cloudevents-batch+json")];
    assert!(matches!(
        decode(Some(b"[]"), headers(&batch)),
        Err(CloudEventError::UnsupportedFormat { .. })
    ));
}

#[test]
fn deep_nesting_is_an_error_and_not_an_overflow() {
    let pairs = [("content-type", "application/cloudevents+json")];
    let bomb = "[".repeat(100_000);
    assert!(matches!(
        decode(Some(bomb.as_bytes()), headers(&pairs)),
        Err(CloudEventError::InvalidJson { .. })
    ));
}

#[test]
fn camel_case_extensions_of_java_producers_are_folded() {
    let decoded = decode_value(&with(minimal(), "aggregateId", json!("WAVE-1"))).unwrap();
    assert_eq!(
        decoded.event.extension("aggregateid").unwrap().as_str(),
        Some("WAVE-1")
    );
}

#[test]
fn null_members_are_absent() {
    let event = with(with(minimal(), "subject", Value::Null), "data", Value::Null);
    let event = decode_value(&event).unwrap().event;
    assert_eq!((event.subject(), event.data()), (None, None));
}

#[test]
fn text_data_of_another_media_type_is_bytes() {
    let event = with(minimal(), "datacontenttype", json!("text/xml"));
    let event = decode_value(&with(event, "data", json!("<a/>")))
        .unwrap()
        .event;
    assert_eq!(
        event.data(),
        Some(&EventData::Binary(Bytes::from_static(b"<a/>")))
    );
}

#[test]
fn headers_that_are_not_text_are_refused() {
    let pairs = [
        ("ce_specversion", Some(&b"1.0"[..])),
        ("ce_id", Some(&b"\xff"[..])),
    ];
    assert!(matches!(
        decode(None, pairs),
        Err(CloudEventError::InvalidAttribute { attribute, .. }) if attribute == "id"
    ));
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~äß🙂]{1,12}").unwrap()
}

fn uri() -> impl Strategy<Value = String> {
    "[a-z]{1,5}:/{0,2}[a-zA-Z0-9/.-]{1,12}"
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_]{1,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Debug, Clone)]
enum Payload {
    None,
    Json(Value),
    Bytes(Option<&'static str>, Vec<u8>),
}

fn payload() -> impl Strategy<Value = Payload> {
    let media_type = prop_oneof![
        Just(None),
        Just(Some("application/octet-stream")),
        Just(Some("text/plain")),
        Just(Some("application/soap+xml; charset=utf-8")),
    ];
    prop_oneof![
        Just(Payload::None),
        json_value().prop_map(Payload::Json),
        (media_type, prop::collection::vec(any::<u8>(), 0..32))
            .prop_map(|(media_type, bytes)| Payload::Bytes(media_type, bytes)),
    ]
}

fn extension() -> impl Strategy<Value = ExtensionValue> {
    prop_oneof![
        any::<bool>().prop_map(ExtensionValue::from),
        any::<i32>().prop_map(ExtensionValue::from),
        text().prop_map(ExtensionValue::from),
    ]
}

prop_compose! {
    fn cloud_event()(
        (id, event_type, source) in (text(), text(), uri()),
        subject in prop::option::of(text()),
        schema in prop::option::of(uri()),
        millis in prop::option::of(-62_000_000_000_000_i64..250_000_000_000_000),
        extensions in prop::collection::btree_map("x[a-z0-9]{0,6}", extension(), 0..4),
        payload in payload(),
    ) -> CloudEvent {
        let mut builder = CloudEvent::builder(event_type, source).id(id);
        if let Some(subject) = subject { builder = builder.subject(subject); }
        if let Some(schema) = schema { builder = builder.data_schema(schema); }
        if let Some(millis) = millis {
            builder = builder.time(jiff::Timestamp::from_millisecond(millis).unwrap());
        }
        for (name, value) in extensions { builder = builder.extension(name, value); }
        builder = match payload {
            Payload::None => builder,
            Payload::Json(value) => builder.json(value),
            Payload::Bytes(media_type, bytes) => {
                if let Some(media_type) = media_type {
                    builder = builder.data_content_type(media_type);
                }
                builder.bytes(bytes)
            }
        };
        builder.build().unwrap()
    }
}

/// Headers know no types: what comes back has the same text.
fn with_extensions_as_text(mut event: CloudEvent) -> CloudEvent {
    for value in event.extensions.values_mut() {
        *value = ExtensionValue::String(value.to_text().into_owned());
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn structured_mode_round_trips(event in cloud_event()) {
        let encoded = event.encode_structured();
        let decoded = decode(encoded.value.as_deref(), encoded.header_views()).unwrap();
        prop_assert_eq!(decoded.encoding, Encoding::Structured);
        prop_assert_eq!(&decoded.event, &event);
        let sniffed = decode(encoded.value.as_deref(), []).unwrap();
        prop_assert_eq!(sniffed.encoding, Encoding::Sniffed);
        prop_assert_eq!(sniffed.event, event);
    }

    #[test]
    fn binary_mode_round_trips(event in cloud_event()) {
        let encoded = event.encode_binary();
        let decoded = decode(encoded.value.as_deref(), encoded.header_views()).unwrap();
        prop_assert_eq!(decoded.encoding, Encoding::Binary);
        prop_assert_eq!(decoded.event, with_extensions_as_text(event));
    }

    #[test]
    fn any_bytes_decode_or_fail_without_panic(
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..64)),
        headers in prop::collection::vec(
            ("(content-type|ce_[a-z]{0,6}|ce_specversion|x)", prop::option::of(prop::collection::vec(any::<u8>(), 0..16))),
            0..6,
        ),
    ) {
        let views = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let first = decode(value.as_deref(), views.clone());
        prop_assert_eq!(first, decode(value.as_deref(), views));
    }
}
