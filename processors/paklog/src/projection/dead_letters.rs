//! `dead_letters`: what failed, why, and whether it has been replayed.
//!
//! A row for each record that could not be processed, named by the place where it first stood: several
//! consumers may have failed on it, and one may have published it twice. `failures` says for each of
//! them what went wrong; `error` and `reason` are those of the first of them by name. A record of
//! `error-events` that names no place (a service reporting an error of its own) stands for itself.
//!
//! Facts that do not depend on order: of one consumer's reports the one with most attempts stays (of
//! equal ones the greater text), the earliest replay, and payload and type, which all copies share.
//!
//! A replay is noted when a record of `error-events` carries the place and the header
//! [`REPLAYED_AT`]: whoever replays a record publishes that.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, DecodeError, Decoder, KeyPart, Projection, RowKey, Rows,
    Source, SourceRecord, Table,
};
use serde_json::json;

use super::facts::{first_at, known, last_at};
use crate::topics::Topic;

const TABLE: &str = "dead_letters";

/// Header with the time of a replay: ms since the epoch, 8 bytes big endian or decimal text.
pub const REPLAYED_AT: &str = "conveyor_replayed-at";

/// The two families of headers, the one with more in it first.
const FAMILIES: [&str; 2] = ["kafka_dlt-", "kafka_"];

/// Headers that say how often it was tried, as Spring and others write them.
const ATTEMPTS: [&str; 3] = [
    "kafka_dlt-attempts",
    "retry_topic-attempts",
    "kafka_deliveryAttempt",
];

/// What could not be processed.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadLetters;

/// A record of `error-events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record stood that could not be processed.
    pub place: FailedPlace,
    /// The failed record's own time, else that of this record.
    pub failed_ms: i64,
    /// Type of the event, if it can be told.
    pub event_type: Option<String>,
    /// Who could not process it: a consumer group or a service.
    pub consumer: String,
    /// Kind of error, for programs.
    pub error: String,
    /// What is wrong, for people.
    pub reason: String,
    /// How often it was tried, at least 1.
    pub attempts: i64,
    /// Key of the record.
    pub key: Option<String>,
    /// The record's value.
    pub payload: Option<Vec<u8>>,
    /// When it was replayed, if this is the report of that.
    pub replayed_ms: Option<i64>,
}

/// The place of a record that failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailedPlace {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i64,
    /// Offset of the record.
    pub offset: i64,
}

impl FailedPlace {
    pub(super) fn key_of(&self, table: &'static str) -> RowKey {
        let parts = [
            KeyPart::from(&self.topic),
            KeyPart::from(self.partition),
            KeyPart::from(self.offset),
        ];
        RowKey::of(table, parts)
    }

    pub(super) const COLUMNS: [(&'static str, ColumnType); 3] = [
        ("topic", ColumnType::Text),
        ("part", ColumnType::Integer),
        ("off", ColumnType::Integer),
    ];
}

/// Reads records of `error-events`. Never fails: what is wrong with them is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadLetterDecoder;

impl Decoder for DeadLetterDecoder {
    type Event = DeadLetter;

    fn decode(&self, record: &SourceRecord) -> Result<Option<DeadLetter>, DecodeError> {
        Ok(Some(DeadLetter::of(record)))
    }
}

impl DeadLetter {
    /// What a record of `error-events` says.
    pub fn of(record: &SourceRecord) -> Self {
        let source = &record.source;
        let text = |name: &str| header_text(record, name);
        let number = |name: &str| {
            FAMILIES
                .iter()
                .find_map(|family| header_number(record, &format!("{family}{name}")))
        };
        let topic = FAMILIES
            .iter()
            .find_map(|f| text(&format!("{f}original-topic")));
        let place = match (
            topic,
            number("original-partition"),
            number("original-offset"),
        ) {
            (Some(topic), Some(partition), Some(offset)) => FailedPlace {
                topic,
                partition,
                offset,
            },
            _ => FailedPlace {
                topic: source.topic.to_string(),
                partition: i64::from(source.partition),
                offset: source.offset.value(),
            },
        };
        let said = record
            .value
            .as_deref()
            .and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok());
        let field = |names: &[&str]| {
            let said = said.as_ref()?;
            let data = said.get("data").unwrap_or(said);
            names.iter().find_map(|name| {
                let found = said.get(*name).or_else(|| data.get(*name))?;
                found.as_str().map(str::to_owned)
            })
        };
        let attempts = ATTEMPTS.iter().find_map(|name| header_number(record, name));
        let attempts = attempts.or_else(|| said.as_ref()?.get("data")?.get("attempts")?.as_i64());
        let event_type = text("ce_type").or_else(|| field(&["type", "eventType", "event_type"]));
        let consumer = text("kafka_dlt-original-consumer-group")
            .or_else(|| field(&["source"]))
            .unwrap_or_default();
        Self {
            failed_ms: number("original-timestamp").unwrap_or(source.timestamp_ms),
            error: text("kafka_dlt-exception-fqcn")
                .or_else(|| event_type.clone())
                .unwrap_or_default(),
            reason: text("kafka_dlt-exception-message")
                .or_else(|| field(&["reason", "error_message", "errorMessage"]))
                .unwrap_or_default(),
            attempts: attempts.unwrap_or(1).max(1),
            key: record.key.as_deref().map(lossless),
            payload: record.value.as_deref().map(<[u8]>::to_vec),
            replayed_ms: header_number(record, REPLAYED_AT),
            place,
            event_type,
            consumer,
        }
    }
}

fn header_text(record: &SourceRecord, name: &str) -> Option<String> {
    let text = std::str::from_utf8(record.header(name)?).ok()?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// A number as Spring writes it (4 or 8 bytes, big endian) or as text. Bytes that are all digits are
/// text: as a number they would stand for partition 808,464,432 at least.
fn header_number(record: &SourceRecord, name: &str) -> Option<i64> {
    let bytes = record.header(name)?;
    let number = if bytes.iter().all(u8::is_ascii_digit) {
        std::str::from_utf8(bytes).ok()?.parse().ok()?
    } else if let Ok(bytes) = bytes.try_into() {
        i64::from(i32::from_be_bytes(bytes))
    } else {
        i64::from_be_bytes(bytes.try_into().ok()?)
    };
    Some(number).filter(|number| *number >= 0)
}

/// Text as it is; other bytes in base64, marked.
fn lossless(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => format!("base64:{}", BASE64.encode(bytes)),
    }
}

impl Projection for DeadLetters {
    type Event = DeadLetter;

    fn declaration(&self) -> Declaration {
        let table = Table::new(TABLE, &FailedPlace::COLUMNS)
            .column("type", ColumnType::Text)
            .column("error", ColumnType::Text)
            .column("reason", ColumnType::Text)
            .column("attempts", ColumnType::Integer)
            .column("key", ColumnType::Text)
            .column("payload", ColumnType::Text)
            .column("failures", ColumnType::Json)
            .column("failed_at", ColumnType::Timestamp)
            .column("first_seen_at", ColumnType::Timestamp)
            .column("last_seen_at", ColumnType::Timestamp)
            .column("replayed_at", ColumnType::Timestamp)
            .index("error")
            .index("replayed_at");
        Declaration::new(TABLE, 1)
            .source(Topic::Error.name())
            .table(table)
    }

    fn touches(&self, event: &DeadLetter, _source: &Source) -> Vec<RowKey> {
        vec![event.place.key_of(TABLE)]
    }

    fn apply(
        &self,
        event: &DeadLetter,
        source: &Source,
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        let row = rows.edit(&event.place.key_of(TABLE))?;
        known(row, "key", event.key.as_deref());
        if let Some(replayed_ms) = event.replayed_ms {
            first_at(row, "replayed_at", replayed_ms);
            return Ok(());
        }
        known(row, "type", event.event_type.as_deref());
        if let Some(payload) = &event.payload {
            known(row, "payload", Some(&lossless(payload)));
        }
        first_at(row, "failed_at", event.failed_ms);
        first_at(row, "first_seen_at", source.timestamp_ms);
        last_at(row, "last_seen_at", source.timestamp_ms);
        note_failure(row, event);
        conclude(row);
        Ok(())
    }
}

/// Notes what went wrong for one consumer.
fn note_failure(row: &mut Row, event: &DeadLetter) {
    let mut failures = match row.json("failures") {
        Some(serde_json::Value::Object(failures)) => failures.clone(),
        _ => serde_json::Map::new(),
    };
    let reported = (event.attempts, event.error.as_str(), event.reason.as_str());
    let known = failures.get(&event.consumer).map(failure_of);
    if known.is_none_or(|known| reported > known) {
        let (attempts, error, reason) = reported;
        let failure = json!({ "attempts": attempts, "error": error, "reason": reason });
        failures.insert(event.consumer.clone(), failure);
    }
    row.set("failures", serde_json::Value::Object(failures));
}

/// Attempts, error and reason of a consumer's entry.
fn failure_of(failure: &serde_json::Value) -> (i64, &str, &str) {
    let text = |name| failure.get(name).and_then(|text| text.as_str());
    (
        failure
            .get("attempts")
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(0),
        text("error").unwrap_or_default(),
        text("reason").unwrap_or_default(),
    )
}

fn conclude(row: &mut Row) {
    let Some(serde_json::Value::Object(failures)) = row.json("failures") else {
        return;
    };
    // By name, whatever order the map keeps.
    let first = failures.iter().min_by_key(|(consumer, _)| *consumer);
    let (_, error, reason) = first.map(|(_, f)| failure_of(f)).unwrap_or_default();
    let (error, reason) = (error.to_owned(), reason.to_owned());
    let attempts = failures.values().map(|failure| failure_of(failure).0).max();
    row.set("error", error)
        .set("reason", reason)
        .set("attempts", attempts);
}
