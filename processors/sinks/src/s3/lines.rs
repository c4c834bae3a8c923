//! Records as both formats hold them. Pure.

use bytes::Bytes;
use conveyor_processors::{DecodeError, Header, Source, SourceRecord};
use serde_json::{Map, Value};

use crate::decode::{Decoded, decode};
use crate::settings::Decode;

/// A record, and what its event says of itself.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) source: Source,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    /// Of a `CloudEvent`.
    pub(super) event_type: Option<String>,
    /// Of a `CloudEvent`.
    pub(super) subject: Option<String>,
    /// When it happened, ms since the epoch: the event's time, else the record's.
    pub(super) time_ms: i64,
}

/// Reads records; those that are not what was promised by their index, and why.
pub(super) fn read(
    how: Decode,
    records: &[SourceRecord],
) -> (Vec<Line>, Vec<(usize, DecodeError)>) {
    let (mut lines, mut rejected) = (Vec::with_capacity(records.len()), Vec::new());
    for (index, record) in records.iter().enumerate() {
        match decode(how, record) {
            Ok(decoded) => lines.push(Line::new(how, record, decoded)),
            Err(error) => rejected.push((index, error)),
        }
    }
    (lines, rejected)
}

impl Line {
    fn new(how: Decode, record: &SourceRecord, decoded: Option<Decoded>) -> Self {
        let time_ms = decoded.as_ref().map(|decoded| decoded.time_ms);
        let mut root = match how {
            Decode::CloudEvents => decoded.map_or_else(Map::new, |decoded| decoded.root),
            Decode::Json | Decode::Bytes => Map::new(),
        };
        let mut text = |name: &str| match root.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Self {
            source: record.source.clone(),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            event_type: text("type"),
            subject: text("subject"),
            time_ms: time_ms.unwrap_or(record.source.timestamp_ms),
        }
    }
}

/// The hour in UTC as a path, `dt=2026-11-23/hour=04`. Times that no calendar has count as the epoch.
pub(super) fn hour_of(time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
    time.strftime("dt=%Y-%m-%d/hour=%H").to_string()
}

/// Bytes as text, if they are.
pub(super) fn text_of(bytes: Option<&Bytes>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}

/// Headers as JSON: a list, as names may repeat; values that are no text in base64.
pub(super) fn headers_of(headers: &[Header]) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let header = |header: &Header| {
        let mut object = Map::new();
        object.insert("key".to_owned(), Value::String(header.key.clone()));
        match (text_of(header.value.as_ref()), &header.value) {
            (Some(text), _) => object.insert("value".to_owned(), text.into()),
            (None, Some(bytes)) => {
                object.insert("value_base64".to_owned(), STANDARD.encode(bytes).into())
            }
            (None, None) => object.insert("value".to_owned(), Value::Null),
        };
        Value::Object(object)
    };
    headers.iter().map(header).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::s3) fn line(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Line {
        Line {
            source: Source {
                topic: "orders".into(),
                partition: 3,
                offset: offset.into(),
                timestamp_ms: 7,
            },
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: vec![Header {
                key: "h".to_owned(),
                value: Some(Bytes::from_static(&[0xff])),
            }],
            event_type: Some("x.v1".to_owned()),
            subject: None,
            time_ms: 1_795_406_400_000 + offset,
        }
    }

    #[test]
    fn hours_are_those_of_the_event_in_utc() {
        assert_eq!(hour_of(1_795_406_400_000), "dt=2026-11-23/hour=04");
        assert_eq!(hour_of(i64::MIN), "dt=1970-01-01/hour=00");
    }

    #[test]
    fn what_is_not_promised_is_rejected_and_the_rest_is_read() {
        let record = |offset: i64, value: Option<&'static [u8]>| SourceRecord {
            source: line(offset, None, None).source,
            key: None,
            value: value.map(Bytes::from_static),
            headers: Vec::new(),
        };
        let records = [
            record(0, Some(b"{}")),
            record(1, Some(b"{")),
            record(2, None),
        ];
        let (lines, rejected) = read(Decode::Json, &records);
        assert_eq!((lines.len(), rejected.len(), rejected[0].0), (2, 1, 1));
        assert_eq!(lines[0].time_ms, 7, "the record's own time");
    }
}
