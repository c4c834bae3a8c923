//! A record that a projection could not take, and how it is written to `error-events`.
//!
//! The record goes there as it was, key, value and headers, with headers added that say where it
//! came from and why. Two families are written, because tools in the field read one or the other:
//! `kafka_dlt-*` (what Spring's `DeadLetterPublishingRecoverer` writes) and `kafka_original-*`. As
//! Spring does, partitions are 4 and offsets and timestamps 8 bytes, big endian; the rest is text.
//!
//! It is published *before* the position moves past the record, so that it is never lost. A crash
//! between the two publishes it a second time: (original topic, partition, offset) tells.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::record::{Header, SourceRecord};

/// Error name of a record that was read and whose event could not be applied.
pub const APPLY_ERROR: &str = "conveyor.apply.Record";

/// Header that says how often the record was tried. Spring has none for it.
const ATTEMPTS: &str = "conveyor_attempts";

/// Longest reason that is written, in bytes.
const REASON_BYTES_MAX: usize = 4096;

/// A record that a projection could not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The record, as read.
    pub record: SourceRecord,
    /// The group that read it.
    pub group_id: String,
    /// The kind of error, for programs.
    pub error_name: String,
    /// Why, for people.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl Rejected {
    /// The record's own headers, then those that say where it came from and why.
    pub fn headers(&self) -> Vec<Header> {
        let source = &self.record.source;
        let partition = Bytes::copy_from_slice(&source.partition.to_be_bytes());
        let offset = Bytes::copy_from_slice(&source.offset.value().to_be_bytes());
        let timestamp = Bytes::copy_from_slice(&source.timestamp_ms.to_be_bytes());
        let topic = text(&source.topic);
        let mut headers = self.record.headers.clone();
        for prefix in ["kafka_dlt-", "kafka_"] {
            let mut add = |name: &str, value: &Bytes| {
                let key = format!("{prefix}{name}");
                headers.push(Header {
                    key,
                    value: Some(value.clone()),
                });
            };
            add("original-topic", &topic);
            add("original-partition", &partition);
            add("original-offset", &offset);
            add("original-timestamp", &timestamp);
            add(
                "original-timestamp-type",
                &Bytes::from_static(b"CreateTime"),
            );
        }
        for (key, value) in [
            ("kafka_dlt-original-consumer-group", self.group_id.as_str()),
            ("kafka_dlt-exception-fqcn", self.error_name.as_str()),
            ("kafka_dlt-exception-message", cut(&self.reason)),
            (ATTEMPTS, self.attempts.to_string().as_str()),
        ] {
            headers.push(Header {
                key: key.to_owned(),
                value: Some(text(value)),
            });
        }
        headers
    }
}

/// The reason, cut at a character if it is too long.
fn cut(reason: &str) -> &str {
    match reason
        .char_indices()
        .find(|(at, c)| at + c.len_utf8() > REASON_BYTES_MAX)
    {
        Some((at, _)) => reason.get(..at).unwrap_or_default(),
        None => reason,
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Takes rejected records into safety.
pub trait RejectedSink: Send + Sync + 'static {
    /// Returns when all of them are durable, or why they are not. On an error some of them may be.
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>>;
}

/// Rejected records could not be published; the position stays before them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot publish {count} rejected records to {topic}: {reason}")]
pub struct PublishError {
    /// How many of them.
    pub count: usize,
    /// Where to.
    pub topic: String,
    /// What the producer said.
    pub reason: String,
    /// Whether it may work later.
    pub retriable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;

    #[test]
    fn both_header_families_say_where_the_record_came_from() {
        let rejected = Rejected {
            record: SourceRecord {
                source: Source {
                    topic: "order-events".into(),
                    partition: 3,
                    offset: 258.into(),
                    timestamp_ms: 1,
                },
                key: None,
                value: Some(Bytes::from_static(b"?")),
                headers: vec![Header {
                    key: "x".into(),
                    value: None,
                }],
            },
            group_id: "atp".into(),
            error_name: "conveyor.decode.NotJson".into(),
            attempts: 2,
            reason: "ä".repeat(REASON_BYTES_MAX),
        };
        let headers = rejected.headers();
        let find = |key: &str| {
            let header = headers
                .iter()
                .find(|h| h.key == key)
                .unwrap_or_else(|| panic!("{key}"));
            header.value.clone().unwrap_or_default()
        };
        assert_eq!(
            headers[0],
            Header {
                key: "x".into(),
                value: None
            },
            "its own come first"
        );
        for family in ["kafka_dlt-", "kafka_"] {
            assert_eq!(
                &find(&format!("{family}original-topic"))[..],
                b"order-events"
            );
            assert_eq!(
                &find(&format!("{family}original-partition"))[..],
                [0, 0, 0, 3]
            );
            assert_eq!(
                &find(&format!("{family}original-offset"))[..],
                [0, 0, 0, 0, 0, 0, 1, 2]
            );
        }
        assert_eq!(
            find("kafka_dlt-exception-message"),
            "ä".repeat(REASON_BYTES_MAX / 2)
        );
        assert_eq!(&find("kafka_dlt-original-consumer-group")[..], b"atp");
        assert_eq!(&find(ATTEMPTS)[..], b"2");
    }
}
