//! Headers of a record on `error-events`: where the failed record was and why it failed.
//!
//! Two families are written, since `PakLog`'s consumers read either: Spring's recoverer writes
//! `kafka_dlt-*`, Spring Cloud Stream and the cartonization listener read `kafka_original-*`.
//! Numbers are big-endian, as Spring writes them.

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRecord<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The group that could not process it.
    pub consumer_group: &'a str,
}

/// Longest reason that is written, in bytes; a longer one is cut at a character.
const REASON_SIZE_MAX: usize = 4096;

/// The headers to put on the record in `error-events`, after the failed record's own headers. Its
/// key and value stay as they were.
pub fn error_headers(
    failed: &FailedRecord<'_>,
    error: &str,
    reason: &str,
) -> Vec<(String, Vec<u8>)> {
    let reason = cut(reason, REASON_SIZE_MAX);
    let position = [
        ("topic", failed.topic.as_bytes().to_vec()),
        ("partition", failed.partition.to_be_bytes().to_vec()),
        ("offset", failed.offset.to_be_bytes().to_vec()),
        ("timestamp", failed.timestamp_ms.to_be_bytes().to_vec()),
        ("timestamp-type", b"CreateTime".to_vec()),
    ];
    let mut headers = Vec::with_capacity(2 * position.len() + 4);
    for (name, value) in &position {
        headers.push((format!("kafka_dlt-original-{name}"), value.clone()));
    }
    headers.push(text(
        "kafka_dlt-original-consumer-group",
        failed.consumer_group,
    ));
    headers.push(text("kafka_dlt-exception-fqcn", error));
    headers.push(text("kafka_dlt-exception-message", reason));
    for (name, value) in position {
        headers.push((format!("kafka_original-{name}"), value));
    }
    headers.push(text("conveyor-reason", reason));
    headers
}

fn text(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

fn cut(text: &str, size_max: usize) -> &str {
    if text.len() <= size_max {
        return text;
    }
    let end = (0..=size_max)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_header_families_name_the_source() {
        let failed = FailedRecord {
            topic: "wave-events",
            partition: 3,
            offset: 258,
            timestamp_ms: 1,
            consumer_group: "order-tracking",
        };
        let headers = error_headers(&failed, "conveyor.UnknownType", "no such type");
        let value = |name: &str| {
            headers
                .iter()
                .find(|(header, _)| header == name)
                .map(|(_, value)| value.as_slice())
        };
        for family in ["kafka_dlt-original", "kafka_original"] {
            assert_eq!(
                value(&format!("{family}-topic")),
                Some(b"wave-events".as_slice())
            );
            assert_eq!(
                value(&format!("{family}-partition")),
                Some([0, 0, 0, 3].as_slice())
            );
            assert_eq!(
                value(&format!("{family}-offset")),
                Some([0, 0, 0, 0, 0, 0, 1, 2].as_slice())
            );
        }
        assert_eq!(
            value("kafka_dlt-exception-message"),
            Some(b"no such type".as_slice())
        );
        assert_eq!(
            value("kafka_dlt-exception-fqcn"),
            Some(b"conveyor.UnknownType".as_slice())
        );
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let reason = "ä".repeat(3000);
        let kept = cut(&reason, 4095);
        assert_eq!(kept.len(), 4094);
    }
}
