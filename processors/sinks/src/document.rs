//! What becomes of a record in a target that keeps documents. Pure.

use std::sync::Arc;

use conveyor_processors::{DecodeError, Source, SourceRecord};
use serde_json::{Map, Value, json};

use crate::decode::{Decoded, at_path, decode};
use crate::settings::{Decode, DocumentId, DocumentSettings, Tombstones};

/// The field in which every document says where it came from.
pub const ORIGIN: &str = "conveyor";

/// A document to be written or deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What names it in its collection or index.
    pub id: String,
    /// Where the record stands; its offset orders the versions of one document.
    pub source: Source,
    /// When it happened, ms since the epoch.
    pub time_ms: i64,
    /// Its fields, [`ORIGIN`] among them; `None` deletes it.
    pub fields: Option<Map<String, Value>>,
}

/// Makes documents of records, as the settings say.
#[derive(Clone, Debug)]
pub struct Mapping {
    decode: Decode,
    settings: DocumentSettings,
}

impl Mapping {
    /// A mapping of these settings.
    pub const fn new(decode: Decode, settings: DocumentSettings) -> Self {
        Self { decode, settings }
    }

    /// Whether a document has more than one record: then later ones replace earlier ones.
    pub fn is_keyed(&self) -> bool {
        self.settings.id != DocumentId::Source
    }

    /// The document of a record; `None` for a record that says nothing.
    pub fn document(&self, record: &SourceRecord) -> Result<Option<Document>, DecodeError> {
        let Some(decoded) = decode(self.decode, record)? else {
            return self.tombstone(record);
        };
        let id = self.id(record, &decoded)?;
        let time_ms = decoded.time_ms;
        let mut fields = self.fields(decoded);
        fields.insert(ORIGIN.to_owned(), origin(record));
        Ok(Some(Document {
            id,
            source: record.source.clone(),
            time_ms,
            fields: Some(fields),
        }))
    }

    fn tombstone(&self, record: &SourceRecord) -> Result<Option<Document>, DecodeError> {
        let deletes = self.settings.tombstones == Tombstones::Delete;
        if !deletes || self.settings.id != DocumentId::Key {
            return Ok(None);
        }
        Ok(Some(Document {
            id: key_of(record)?,
            source: record.source.clone(),
            time_ms: record.source.timestamp_ms,
            fields: None,
        }))
    }

    fn id(&self, record: &SourceRecord, decoded: &Decoded) -> Result<String, DecodeError> {
        match &self.settings.id {
            DocumentId::Source => {
                let Source {
                    topic,
                    partition,
                    offset,
                    ..
                } = &record.source;
                Ok(format!("{topic}-{partition}-{offset}"))
            }
            DocumentId::Key => key_of(record),
            DocumentId::Field(path) => match at_path(&decoded.root, path) {
                Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
                Some(Value::Number(number)) => Ok(number.to_string()),
                Some(_) => Err(no_id(&format!("field {path} is no text and no number"))),
                None => Err(no_id(&format!("there is no field {path}"))),
            },
        }
    }

    fn fields(&self, decoded: Decoded) -> Map<String, Value> {
        if self.settings.fields.is_empty() {
            return decoded.root;
        }
        let kept = self.settings.fields.iter();
        let kept = kept
            .filter_map(|(name, path)| Some((name.clone(), at_path(&decoded.root, path)?.clone())));
        kept.collect()
    }
}

fn key_of(record: &SourceRecord) -> Result<String, DecodeError> {
    let key = record.key.as_deref().filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| no_id("the record has no key"))?;
    let key = std::str::from_utf8(key).map_err(|_| no_id("the key is not UTF-8"))?;
    Ok(key.to_owned())
}

fn no_id(reason: &str) -> DecodeError {
    DecodeError::new(
        "conveyor.decode.NoDocumentId",
        format!("the document has no id: {reason}"),
    )
}

/// Where the record came from, for people and for those who compare.
fn origin(record: &SourceRecord) -> Value {
    let key = record.key.as_deref().map(String::from_utf8_lossy);
    json!({
        "topic": *record.source.topic,
        "partition": record.source.partition,
        "offset": record.source.offset.value(),
        "timestamp": record.source.timestamp_ms,
        "key": key,
    })
}

/// The name of a collection or index, with what stands for the record filled in.
#[derive(Clone, Debug)]
pub struct Place(Arc<str>);

impl Place {
    /// A name with `{topic}`, `{date}` and `{month}` in it.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Where a document belongs.
    pub fn of(&self, document: &Document) -> String {
        let mut name = self.0.replace("{topic}", &document.source.topic);
        if name.contains('{') {
            let day = day_of(document.time_ms);
            name = name.replace("{date}", &day.replace('-', "."));
            name = name.replace("{month}", &day[..7].replace('-', "."));
        }
        name
    }
}

/// The day in UTC, `2026-11-23`. Times that no calendar has count as the epoch.
fn day_of(time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(key: Option<&str>, value: Option<&str>) -> SourceRecord {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        SourceRecord {
            source: Source {
                topic: "orders".into(),
                partition: 2,
                offset: 5.into(),
                timestamp_ms: 1_795_410_000_000,
            },
            key: key.map(bytes),
            value: value.map(bytes),
            headers: Vec::new(),
        }
    }

    fn mapping(settings: &str) -> Mapping {
        Mapping::new(Decode::Json, toml::from_str(settings).unwrap())
    }

    fn id(settings: &str, record: &SourceRecord) -> Result<String, String> {
        let document = mapping(settings).document(record);
        let document = document.map_err(|error| error.reason)?;
        Ok(document.unwrap().id)
    }

    #[test]
    fn a_document_is_named_by_place_key_or_field() {
        let it = record(Some("k"), Some(r#"{"a":{"b":7},"c":true}"#));
        assert_eq!(id("", &it).as_deref(), Ok("orders-2-5"));
        assert_eq!(id("id = 'key'", &it).as_deref(), Ok("k"));
        assert_eq!(id("id = 'a.b'", &it).as_deref(), Ok("7"));
        assert!(id("id = 'c'", &it).unwrap_err().contains("no text"));
        assert!(id("id = 'x'", &it).unwrap_err().contains("no field x"));
        let without = record(None, Some("{}"));
        assert!(id("id = 'key'", &without).unwrap_err().contains("no key"));
    }

    #[test]
    fn fields_are_kept_and_renamed_and_the_origin_is_added() {
        let it = record(Some("k"), Some(r#"{"a":{"b":7},"c":true}"#));
        let fields = |settings: &str| {
            let document = mapping(settings).document(&it).unwrap().unwrap();
            Value::Object(document.fields.unwrap())
        };
        let origin = json!({
            "topic": "orders", "partition": 2, "offset": 5,
            "timestamp": 1_795_410_000_000_i64, "key": "k",
        });
        assert_eq!(
            fields("fields = { n = 'a.b', gone = 'x' }"),
            json!({"n": 7, "conveyor": origin})
        );
        assert_eq!(fields("")["a"], json!({"b": 7}));
    }

    #[test]
    fn a_tombstone_deletes_the_document_of_its_key_and_nothing_else() {
        let tombstone = record(Some("k"), None);
        let document = |settings: &str| mapping(settings).document(&tombstone).unwrap();
        let deleted = document("id = 'key'").unwrap();
        assert_eq!((deleted.id.as_str(), deleted.fields), ("k", None));
        for settings in ["", "id = 'a'", "id = 'key'\ntombstones = 'skip'"] {
            assert_eq!(document(settings), None);
        }
    }

    #[test]
    fn a_place_depends_on_topic_and_time() {
        let it = record(None, Some("{}"));
        let document = mapping("").document(&it).unwrap().unwrap();
        let place = |pattern: &str| Place::new(pattern).of(&document);
        assert_eq!(place("all"), "all");
        assert_eq!(place("x-{topic}-{date}"), "x-orders-2026.11.23");
        assert_eq!(place("{topic}-{month}"), "orders-2026.11");
    }
}
