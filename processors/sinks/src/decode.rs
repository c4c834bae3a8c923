//! A record as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conveyor_processors::{DecodeError, SourceRecord};
use conveyor_sdk::cloud_events::{self, CloudEvent, EventData};
use serde_json::{Map, Value};

use crate::settings::Decode;

/// What a record with a value says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The whole document.
    pub root: Map<String, Value>,
    /// When it happened: the event's own time, else the record's timestamp. ms since the epoch.
    pub time_ms: i64,
}

/// Reads a record; `None` for one without a value.
pub fn decode(how: Decode, record: &SourceRecord) -> Result<Option<Decoded>, DecodeError> {
    let time_ms = record.source.timestamp_ms;
    let root = match (how, &record.value) {
        (Decode::CloudEvents, _) => return cloud_event(record),
        (_, None) => return Ok(None),
        (Decode::Json, Some(value)) => match serde_json::from_slice(value) {
            Ok(Value::Object(root)) => root,
            Ok(other) => [("value".to_owned(), other)].into_iter().collect(),
            Err(error) => {
                let reason = format!("the value is no JSON: {error}");
                return Err(DecodeError::new("conveyor.decode.NotJson", reason));
            }
        },
        (Decode::Bytes, Some(value)) => {
            let value = Value::String(STANDARD.encode(value));
            [("value".to_owned(), value)].into_iter().collect()
        }
    };
    Ok(Some(Decoded { root, time_ms }))
}

fn cloud_event(record: &SourceRecord) -> Result<Option<Decoded>, DecodeError> {
    let headers = record.headers.iter();
    let headers = headers.map(|header| (header.key.as_str(), header.value.as_deref()));
    match cloud_events::decode(record.value.as_deref(), headers) {
        Ok(decoded) => Ok(Some(Decoded {
            time_ms: decoded
                .event
                .time()
                .map_or(record.source.timestamp_ms, jiff::Timestamp::as_millisecond),
            root: structured(decoded.event),
        })),
        // Headers alone may make an event without data; none of them: a tombstone.
        Err(_) if record.value.is_none() => Ok(None),
        Err(error) => Err(DecodeError::new(
            "conveyor.decode.NotACloudEvent",
            error.to_string(),
        )),
    }
}

/// The event in CloudEvents' JSON format, without `specversion`.
fn structured(event: CloudEvent) -> Map<String, Value> {
    let mut root = Map::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            root.insert(name.to_owned(), Value::String(value));
        }
    };
    add("id", Some(event.id().to_owned()));
    add("source", Some(event.source().to_owned()));
    add("type", Some(event.event_type().to_owned()));
    add("subject", event.subject().map(str::to_owned));
    add("time", event.time().map(|time| time.to_string()));
    add("dataschema", event.data_schema().map(str::to_owned));
    for (name, value) in event.extensions() {
        let value = match value {
            cloud_events::ExtensionValue::Boolean(it) => Value::Bool(*it),
            cloud_events::ExtensionValue::Integer(it) => Value::from(*it),
            cloud_events::ExtensionValue::String(it) => Value::String(it.clone()),
        };
        root.insert(name.to_owned(), value);
    }
    match event.into_data() {
        Some(EventData::Json(data)) => root.insert("data".to_owned(), data),
        Some(EventData::Binary(data)) => root.insert(
            "data_base64".to_owned(),
            Value::String(STANDARD.encode(data)),
        ),
        None => None,
    };
    root
}

/// The value at a path such as `data.order.id`; `None` if there is none on the way.
pub fn at_path<'v>(root: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    let mut parts = path.split('.');
    let first = root.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_object()?.get(part))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use conveyor_processors::{Header, Source};
    use serde_json::json;

    use super::*;

    fn record(value: Option<&str>, headers: &[(&str, &str)]) -> SourceRecord {
        let header = |(key, value): &(&str, &str)| Header {
            key: (*key).to_owned(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        SourceRecord {
            source: Source {
                topic: "t".into(),
                partition: 0,
                offset: 5.into(),
                timestamp_ms: 7,
            },
            key: None,
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers: headers.iter().map(header).collect(),
        }
    }

    fn root(how: Decode, record: &SourceRecord) -> Value {
        Value::Object(decode(how, record).unwrap().unwrap().root)
    }

    #[test]
    fn both_modes_of_a_cloud_event_make_the_same_document() {
        let structured = record(
            Some(
                r#"{"specversion":"1.0","id":"1","source":"/s","type":"x.v1","subject":"o",
                    "time":"1970-01-01T00:00:01Z","wave":3,"data":{"order":{"id":"A"}}}"#,
            ),
            &[],
        );
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/s"),
            ("ce_type", "x.v1"),
            ("ce_subject", "o"),
            ("ce_time", "1970-01-01T00:00:01Z"),
            ("content-type", "application/json"),
        ];
        let binary = record(Some(r#"{"order":{"id":"A"}}"#), &headers);
        let expected = json!({
            "id": "1", "source": "/s", "type": "x.v1", "subject": "o",
            "time": "1970-01-01T00:00:01Z", "data": {"order": {"id": "A"}},
        });
        assert_eq!(root(Decode::CloudEvents, &binary), expected);
        let decoded = decode(Decode::CloudEvents, &structured).unwrap().unwrap();
        assert_eq!(decoded.time_ms, 1_000);
        assert_eq!(at_path(&decoded.root, "data.order.id"), Some(&json!("A")));
        assert_eq!(at_path(&decoded.root, "data.order.id.x"), None);
    }

    #[test]
    fn what_is_not_what_was_promised_is_refused_with_its_kind() {
        let text = record(Some("no event"), &[]);
        let kind = |how| decode(how, &text).unwrap_err().name;
        assert_eq!(kind(Decode::CloudEvents), "conveyor.decode.NotACloudEvent");
        assert_eq!(kind(Decode::Json), "conveyor.decode.NotJson");
        assert_eq!(root(Decode::Bytes, &text), json!({"value": "bm8gZXZlbnQ="}));
        assert_eq!(
            root(Decode::Json, &record(Some("[1]"), &[])),
            json!({"value": [1]})
        );
        for how in [Decode::CloudEvents, Decode::Json, Decode::Bytes] {
            assert_eq!(decode(how, &record(None, &[])), Ok(None), "a tombstone");
        }
    }
}
