//! Records and keys as JSON, without loss: text stays readable, other bytes become base64.
//!
//! | bytes | JSON |
//! |---|---|
//! | none | `null` |
//! | UTF-8 without control characters but tab and line ends | a string |
//! | anything else | `{"base64": "…"}` |
//!
//! Control characters are left to base64 because some stores cannot keep NUL in text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::record::{Header, Source, SourceRecord};

/// What a hidden table holds is not what this program writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a parked record is damaged: {what}; build the projection anew")]
pub struct DamagedRecord {
    /// Which part.
    pub what: String,
}

impl DamagedRecord {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

pub(super) fn bytes_to_json(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_plain) => Value::from(text),
        _ => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

pub(super) fn bytes_from_json(value: &Value) -> Result<Option<Bytes>, DamagedRecord> {
    let damaged = || DamagedRecord::new(format!("bytes are written as {value}"));
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        Value::Object(object) => {
            let text = object.get("base64").and_then(Value::as_str);
            let bytes = STANDARD.decode(text.ok_or_else(damaged)?);
            bytes.map(|b| Some(b.into())).map_err(|_| damaged())
        }
        _ => Err(damaged()),
    }
}

/// Key, value and headers; the rest of a record stands in other columns.
pub(super) fn record_to_json(record: &SourceRecord) -> Value {
    let header = |h: &Header| {
        json!([
            bytes_to_json(Some(h.key.as_bytes())),
            bytes_to_json(h.value.as_deref())
        ])
    };
    json!({
        "key": bytes_to_json(record.key.as_deref()),
        "value": bytes_to_json(record.value.as_deref()),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    })
}

/// A record for people and programs: where it stands, its time, key, value and headers.
pub fn shown(record: &SourceRecord) -> Value {
    let mut json = record_to_json(record);
    json["offset"] = record.source.offset.value().into();
    json["timestamp_ms"] = record.source.timestamp_ms.into();
    json
}

pub(super) fn record_from_json(
    value: &Value,
    source: Source,
) -> Result<SourceRecord, DamagedRecord> {
    let part = |name: &str| bytes_from_json(value.get(name).unwrap_or(&Value::Null));
    let headers = value.get("headers").and_then(Value::as_array);
    let headers = headers.ok_or_else(|| DamagedRecord::new(format!("{source} has no headers")))?;
    Ok(SourceRecord {
        key: part("key")?,
        value: part("value")?,
        headers: headers
            .iter()
            .map(header_from_json)
            .collect::<Result<_, _>>()?,
        source,
    })
}

fn header_from_json(value: &Value) -> Result<Header, DamagedRecord> {
    let damaged = || DamagedRecord::new(format!("a header is written as {value}"));
    let [key, value] = value
        .as_array()
        .and_then(|pair| <&[Value; 2]>::try_from(pair.as_slice()).ok())
        .ok_or_else(damaged)?;
    let key = bytes_from_json(key)?.ok_or_else(damaged)?;
    Ok(Header {
        key: String::from_utf8(key.into()).map_err(|_| damaged())?,
        value: bytes_from_json(value)?,
    })
}

fn is_plain(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r') || !c.is_control()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        prop_oneof![
            Just(None),
            any::<Vec<u8>>().prop_map(|b| Some(b.into())),
            any::<String>().prop_map(|text| Some(text.into())),
            Just(Some(Bytes::from_static(b"{\"base64\":\"AA==\"}"))),
        ]
    }

    proptest! {
        #[test]
        fn every_record_comes_back(
            key in bytes(),
            value in bytes(),
            headers in prop::collection::vec((any::<String>(), bytes()), 0..4),
        ) {
            let source = Source { topic: "t".into(), partition: 3, offset: 7.into(), timestamp_ms: -1 };
            let headers = headers.into_iter().map(|(key, value)| Header { key, value }).collect();
            let record = SourceRecord { source: source.clone(), key, value, headers };
            let text = record_to_json(&record).to_string();
            prop_assert!(!text.contains("\\u0000"), "some stores cannot keep it: {text}");
            let read = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(record_from_json(&read, source).unwrap(), record);
        }
    }

    #[test]
    fn text_stays_readable() {
        assert_eq!(bytes_to_json(Some("SKU-ä".as_bytes())), json!("SKU-ä"));
        assert_eq!(bytes_to_json(Some(b"\0")), json!({ "base64": "AA==" }));
    }

    #[test]
    fn what_is_damaged_is_told() {
        let damaged = [json!(7), json!({ "base64": "?" }), json!({})];
        for value in damaged {
            assert!(bytes_from_json(&value).is_err(), "{value}");
        }
    }
}
