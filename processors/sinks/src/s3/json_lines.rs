//! Records as JSON lines: one object a line, the value as it stood in the record.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::lines::{Line, headers_of, text_of};
use crate::settings::Compression;

/// The level of both compressions.
const ZSTD_LEVEL: i32 = 3;

/// The lines, compressed.
pub(super) fn encode(lines: &[Line], compression: Compression) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    for line in lines {
        push(line, &mut text);
    }
    let failed = |error: std::io::Error| format!("compression failed: {error}");
    match compression {
        Compression::None => Ok(text),
        Compression::Zstd => zstd::encode_all(&*text, ZSTD_LEVEL).map_err(failed),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&text).map_err(failed)?;
            encoder.finish().map_err(failed)
        }
    }
}

fn push(line: &Line, text: &mut Vec<u8>) {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
    add("topic", json!(*line.source.topic));
    add("partition", json!(line.source.partition));
    add("offset", json!(line.source.offset.value()));
    add("timestamp", json!(line.source.timestamp_ms));
    add("time", json!(line.time_ms));
    for (name, value) in [("type", &line.event_type), ("subject", &line.subject)] {
        if let Some(value) = value {
            add(name, json!(value));
        }
    }
    match (text_of(line.key.as_ref()), &line.key) {
        (Some(key), _) => add("key", json!(key)),
        (None, Some(key)) => add("key_base64", json!(STANDARD.encode(key))),
        (None, None) => add("key", Value::Null),
    };
    add("headers", headers_of(&line.headers));
    let raw = line.value.as_ref().filter(|value| is_json(value));
    if let (None, Some(value)) = (raw, &line.value) {
        add("value_base64", json!(STANDARD.encode(value)));
    }
    let head = Value::Object(object).to_string();
    match raw {
        Some(raw) => {
            text.extend_from_slice(head.trim_end_matches('}').as_bytes());
            // `headers` comes last and ends with a bracket: only the object's own brace is gone.
            text.extend_from_slice(b",\"value\":");
            // Outside of texts a line break is only space; within them JSON has none.
            text.extend(raw.iter().map(|byte| match byte {
                b'\n' | b'\r' => b' ',
                other => *other,
            }));
            text.push(b'}');
        }
        None => text.extend_from_slice(head.as_bytes()),
    }
    text.push(b'\n');
}

fn is_json(value: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::lines::tests::line;
    use super::*;

    fn rows(text: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(text).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_holds_the_record_and_its_value_to_the_last_digit() {
        let value = b"{\n \"n\": 123456789012345678901234567890.10,\r\n \"t\": \"}\" }";
        let lines = [
            line(1, Some(b"k"), Some(value)),
            line(2, Some(b"\xff"), Some(b"\xfe")),
            line(3, None, None),
        ];
        let text = encode(&lines, Compression::None).unwrap();
        assert!(String::from_utf8_lossy(&text).contains("123456789012345678901234567890.10"));
        let rows = rows(&text);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0]["value"]["t"], "}");
        let fields = ["topic", "partition", "offset", "timestamp", "type", "key"];
        let found: Vec<_> = fields.iter().map(|name| rows[0][name].clone()).collect();
        assert_eq!(Value::Array(found), json!(["orders", 3, 1, 7, "x.v1", "k"]));
        assert_eq!(
            rows[0]["headers"],
            json!([{"key": "h", "value_base64": "/w=="}])
        );
        assert_eq!(
            (&rows[1]["key_base64"], &rows[1]["value_base64"]),
            (&json!("/w=="), &json!("/g=="))
        );
        assert!(
            rows[2]["key"].is_null() && rows[2].get("value").is_none(),
            "a tombstone"
        );
    }

    #[test]
    fn compressed_lines_are_the_same_bytes_every_time() {
        let lines: Vec<_> = (0..500)
            .map(|n| line(n, Some(b"k"), Some(b"{\"a\":1}")))
            .collect();
        let plain = encode(&lines, Compression::None).unwrap();
        let zstd = encode(&lines, Compression::Zstd).unwrap();
        assert_eq!(zstd::decode_all(&*zstd).unwrap(), plain);
        assert_eq!(encode(&lines, Compression::Zstd).unwrap(), zstd);
        let gzip = encode(&lines, Compression::Gzip).unwrap();
        let mut decoded = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&*gzip);
        std::io::Read::read_to_end(&mut decoder, &mut decoded).unwrap();
        assert_eq!(decoded, plain);
        assert_eq!(encode(&lines, Compression::Gzip).unwrap(), gzip);
    }
}
