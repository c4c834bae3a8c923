//! A sink as people write it in TOML. Unknown keys are refused; what TOML cannot check is checked by
//! [`SinkSettings::check`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::text::Text;

/// One sink: what it reads, what it makes of a record, where it writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// The topics to read.
    pub topics: Vec<Text>,
    /// The consumer group; its own name if none is given.
    #[serde(default)]
    pub group: Option<Text>,
    /// Where records go that can never be written. Default `error-events`.
    #[serde(default)]
    pub error_topic: Option<Text>,
    /// What the values of the records are.
    #[serde(default)]
    pub decode: Decode,
    /// What becomes of a record; for targets that keep documents.
    #[serde(default)]
    pub document: DocumentSettings,
    /// How many records are written at once.
    #[serde(default)]
    pub batch: BatchSettings,
    /// Writes to `MongoDB`.
    #[serde(default)]
    pub mongodb: Option<MongodbSettings>,
    /// Writes to Elasticsearch or `OpenSearch`.
    #[serde(default)]
    pub elasticsearch: Option<ElasticsearchSettings>,
    /// Writes objects to S3.
    #[serde(default)]
    pub s3: Option<S3Settings>,
}

/// What the value of a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// A `CloudEvent`, structured or binary: the document holds its attributes and its `data`.
    #[default]
    CloudEvents,
    /// A JSON value: an object is the document, anything else its field `value`.
    Json,
    /// Anything: the document's field `value` holds it in base64.
    Bytes,
}

/// What becomes of a record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentSettings {
    /// `source`, `key`, or the path of a field.
    pub id: DocumentId,
    /// New name → path of the field it holds; none: the whole document.
    pub fields: BTreeMap<String, String>,
    /// What a record without a value does.
    pub tombstones: Tombstones,
}

/// What names a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum DocumentId {
    /// Its place in the log, `topic-partition-offset`: one document a record.
    #[default]
    Source,
    /// The record's key: one document a key, the last record wins.
    Key,
    /// A field: one document a value of that field, the last record wins. All records of one value
    /// must be in one partition.
    Field(String),
}

impl From<String> for DocumentId {
    fn from(text: String) -> Self {
        match text.as_str() {
            "source" => Self::Source,
            "key" => Self::Key,
            _ => Self::Field(text),
        }
    }
}

/// What a record without a value does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tombstones {
    /// Deletes the document of its key. Where documents are not named by the key: nothing.
    #[default]
    Delete,
    /// Nothing.
    Skip,
}

/// How many records are written at once: whichever limit is met first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Records, from 1. Default 1,000; for S3 100,000 an object.
    pub records_max: Option<usize>,
    /// Bytes of keys, values and headers, from 1. Default 4 MiB; for S3 64 MiB an object.
    pub bytes_max: Option<usize>,
    /// The longest that a record waits for others, ms. Default 100; for S3 ten minutes.
    pub wait_ms: Option<u64>,
}

/// Where and how to write to `MongoDB`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MongodbSettings {
    /// `mongodb://USER:PASSWORD@HOST/DATABASE`, with the driver's own settings.
    pub url: Text,
    /// The collection; `{topic}` stands for the record's topic.
    pub collection: Text,
    /// How long a deleted document is remembered, so that no late writer brings it back, s.
    #[serde(default = "deleted_kept_s")]
    pub deleted_kept_s: u32,
}

/// Where and how to write to Elasticsearch or `OpenSearch`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchSettings {
    /// `https://HOST:9200`; several for several nodes, tried in turn.
    pub urls: Vec<Text>,
    /// The index; `{topic}` stands for the record's topic, `{date}` for the day of the event in UTC
    /// (`2026.11.23`), `{month}` for its month (`2026.11`).
    pub index: Text,
    /// For basic authentication, together with `password`.
    #[serde(default)]
    pub user: Option<Text>,
    /// For basic authentication, together with `user`.
    #[serde(default)]
    pub password: Option<Text>,
    /// An API key as the server gives it out, in base64.
    #[serde(default)]
    pub api_key: Option<Text>,
    /// A PEM file with the certificates that may sign the server's; none: those of the system.
    #[serde(default)]
    pub ca: Option<Text>,
    /// The longest that one request may take, ms.
    #[serde(default = "request_timeout_ms")]
    pub request_timeout_ms: u64,
}

/// Where and how to write objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// `s3://BUCKET/PREFIX`, or `file:///PATH`.
    pub url: Text,
    /// What the objects hold.
    #[serde(default)]
    pub format: ObjectFormat,
    /// How JSON lines are compressed. Parquet is always compressed by Snappy.
    #[serde(default)]
    pub compression: Compression,
    /// The region of the bucket. Default `us-east-1`.
    #[serde(default)]
    pub region: Option<Text>,
    /// Another service than Amazon's: `http://HOST:PORT`.
    #[serde(default)]
    pub endpoint: Option<Text>,
    /// Who asks.
    #[serde(default)]
    pub access_key_id: Option<Text>,
    /// Their secret.
    #[serde(default)]
    pub secret_access_key: Option<Text>,
    /// Of credentials for a time.
    #[serde(default)]
    pub session_token: Option<Text>,
    /// A PEM file with the certificates that may sign the server's; none: those of the system.
    #[serde(default)]
    pub ca: Option<Text>,
    /// The longest that one request may take, ms.
    #[serde(default = "request_timeout_ms")]
    pub request_timeout_ms: u64,
}

const fn deleted_kept_s() -> u32 {
    86_400
}

const fn request_timeout_ms() -> u64 {
    30_000
}

/// What an object holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

/// How JSON lines are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard, `.zst`.
    #[default]
    Zstd,
    /// gzip, `.gz`.
    Gzip,
    /// Not at all.
    None,
}

/// Which of the targets a sink has.
#[derive(Clone, Debug)]
pub enum TargetSettings {
    /// `MongoDB`.
    Mongodb(MongodbSettings),
    /// Elasticsearch or `OpenSearch`.
    Elasticsearch(ElasticsearchSettings),
    /// S3 or a folder.
    S3(S3Settings),
}

/// Settings that do not go together. Names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct SettingsError {
    /// The key, from the sink's own table on.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl SettingsError {
    pub(crate) fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self {
            key,
            reason: reason.into(),
        }
    }
}

/// The limits of one batch, all of them set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records at most.
    pub records_max: usize,
    /// Bytes after which it is full.
    pub bytes_max: usize,
    /// The longest that its first record waits.
    pub wait: Duration,
}

impl SinkSettings {
    /// Refuses what cannot work; returns the one target.
    pub fn check(&self) -> Result<TargetSettings, SettingsError> {
        if self.topics.is_empty() {
            let reason = "names no topic: list those to read, [\"order-events\"]";
            return Err(SettingsError::new("topics", reason));
        }
        self.check_batch()?;
        let target = self.target()?;
        match &target {
            TargetSettings::Mongodb(mongodb) => self.check_mongodb(mongodb)?,
            TargetSettings::Elasticsearch(elasticsearch) => {
                self.check_elasticsearch(elasticsearch)?;
            }
            TargetSettings::S3(s3) => self.check_s3(s3)?,
        }
        Ok(target)
    }

    /// The limits of a batch, with the defaults of its target.
    pub fn batch_limits(&self) -> BatchLimits {
        let (records_max, bytes_max, wait_ms) = match self.s3 {
            Some(_) => (100_000, 64 << 20, 600_000),
            None => (1_000, 4 << 20, 100),
        };
        BatchLimits {
            records_max: self.batch.records_max.unwrap_or(records_max),
            bytes_max: self.batch.bytes_max.unwrap_or(bytes_max),
            wait: Duration::from_millis(self.batch.wait_ms.unwrap_or(wait_ms)),
        }
    }

    /// Where it writes, for people, without secrets.
    pub fn shown_target(&self) -> String {
        match self.target() {
            Ok(TargetSettings::Mongodb(it)) => {
                format!("mongodb {} {}", it.url.shown(), it.collection.written())
            }
            Ok(TargetSettings::Elasticsearch(it)) => {
                let urls: Vec<_> = it.urls.iter().map(Text::shown).collect();
                format!("elasticsearch {} {}", urls.join(","), it.index.written())
            }
            Ok(TargetSettings::S3(it)) => format!("s3 {}", it.url.shown()),
            Err(error) => error.to_string(),
        }
    }

    fn check_batch(&self) -> Result<(), SettingsError> {
        for (key, value) in [
            ("batch.records_max", self.batch.records_max),
            ("batch.bytes_max", self.batch.bytes_max),
        ] {
            if value == Some(0) {
                return Err(SettingsError::new(key, "must be 1 or more"));
            }
        }
        Ok(())
    }

    fn target(&self) -> Result<TargetSettings, SettingsError> {
        let all = [
            self.mongodb.clone().map(TargetSettings::Mongodb),
            self.elasticsearch
                .clone()
                .map(TargetSettings::Elasticsearch),
            self.s3.clone().map(TargetSettings::S3),
        ];
        let mut targets: Vec<_> = all.into_iter().flatten().collect();
        match (targets.pop(), targets.is_empty()) {
            (Some(target), true) => Ok(target),
            (None, _) => Err(SettingsError::new(
                "target",
                "there is none: add a table mongodb, elasticsearch or s3",
            )),
            (Some(_), false) => Err(SettingsError::new(
                "target",
                "there are several: a sink writes to one of mongodb, elasticsearch and s3; make \
                 a sink for each",
            )),
        }
    }

    /// Documents named by keys of several topics would run into each other: offsets of different
    /// topics cannot be compared.
    fn check_topics_apart(&self, key: &'static str, pattern: &str) -> Result<(), SettingsError> {
        let named_by_source = self.document.id == DocumentId::Source;
        if named_by_source || self.topics.len() == 1 || pattern.contains("{topic}") {
            return Ok(());
        }
        let reason = "documents of several topics, named by key or field, would overwrite each \
                      other: put {topic} into it, or make a sink for each topic";
        Err(SettingsError::new(key, reason))
    }

    fn check_mongodb(&self, mongodb: &MongodbSettings) -> Result<(), SettingsError> {
        let pattern = mongodb.collection.as_str();
        check_pattern("mongodb.collection", pattern, &["topic"])?;
        self.check_topics_apart("mongodb.collection", pattern)
    }

    fn check_elasticsearch(&self, target: &ElasticsearchSettings) -> Result<(), SettingsError> {
        let pattern = target.index.as_str();
        check_pattern("elasticsearch.index", pattern, &["topic", "date", "month"])?;
        self.check_topics_apart("elasticsearch.index", pattern)?;
        let dated = pattern.contains("{date}") || pattern.contains("{month}");
        if dated && self.document.id != DocumentId::Source {
            let reason = "with a date in it, records of one document would lie in several \
                          indices: leave the date out, or set document.id = \"source\"";
            return Err(SettingsError::new("elasticsearch.index", reason));
        }
        if target.urls.is_empty() {
            let reason = "names no server: [\"https://localhost:9200\"]";
            return Err(SettingsError::new("elasticsearch.urls", reason));
        }
        match (&target.user, &target.password, &target.api_key) {
            (Some(_), None, _) | (None, Some(_), _) => Err(SettingsError::new(
                "elasticsearch.user",
                "user and password go together",
            )),
            (Some(_), _, Some(_)) => Err(SettingsError::new(
                "elasticsearch.api_key",
                "either api_key, or user and password",
            )),
            _ => Ok(()),
        }
    }

    fn check_s3(&self, target: &S3Settings) -> Result<(), SettingsError> {
        let url = target.url.as_str();
        if !url.starts_with("s3://") && !url.starts_with("file:///") {
            let reason = "write s3://BUCKET/PREFIX, or file:///PATH for a folder";
            return Err(SettingsError::new("s3.url", reason));
        }
        if target.access_key_id.is_some() != target.secret_access_key.is_some() {
            let reason = "access_key_id and secret_access_key go together";
            return Err(SettingsError::new("s3.access_key_id", reason));
        }
        if self.document.id != DocumentId::Source || !self.document.fields.is_empty() {
            let reason = "objects hold records as they are: leave id and fields out";
            return Err(SettingsError::new("document", reason));
        }
        Ok(())
    }
}

/// Refuses placeholders that nothing would fill.
fn check_pattern(key: &'static str, pattern: &str, known: &[&str]) -> Result<(), SettingsError> {
    if pattern.is_empty() {
        return Err(SettingsError::new(key, "is empty"));
    }
    for part in pattern.split('{').skip(1) {
        let name = part.split_once('}').map(|(name, _)| name);
        if !name.is_some_and(|name| known.contains(&name)) {
            let allowed: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
            let reason = format!(
                "{pattern:?} has an unknown placeholder: {}",
                allowed.join(", ")
            );
            return Err(SettingsError::new(key, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> SinkSettings {
        toml::from_str(text).unwrap()
    }

    fn refused(text: &str) -> String {
        settings(text).check().unwrap_err().to_string()
    }

    #[test]
    fn a_sink_has_one_target() {
        assert!(refused("topics = ['t']").starts_with("target: there is none"));
        let both = "topics = ['t']\nmongodb = { url = 'mongodb://h', collection = 'c' }\n\
                    s3.url = 'file:///x'";
        assert!(refused(both).starts_with("target: there are several"));
        assert!(matches!(
            settings("topics = ['t']\ns3.url = 's3://b/p'").check(),
            Ok(TargetSettings::S3(_))
        ));
    }

    #[test]
    fn settings_that_would_lose_documents_are_refused() {
        let mongodb = "topics = ['a', 'b']\ndocument.id = 'key'\n\
                       mongodb = { url = 'mongodb://h', collection = 'c' }";
        assert!(refused(mongodb).starts_with("mongodb.collection: documents of several topics"));
        let dated = "topics = ['a']\ndocument.id = 'key'\n\
                     elasticsearch = { urls = ['http://h'], index = 'a-{date}' }";
        assert!(refused(dated).starts_with("elasticsearch.index: with a date"));
        let unknown = "topics = ['a']\nelasticsearch = { urls = ['http://h'], index = '{day}' }";
        assert!(refused(unknown).contains("{topic}, {date}, {month}"));
    }

    #[test]
    fn limits_depend_on_the_target_and_can_be_set() {
        let s3 = settings("topics = ['t']\nbatch.records_max = 5\ns3.url = 's3://b/p'");
        assert_eq!(s3.batch_limits().records_max, 5);
        assert_eq!(s3.batch_limits().wait, Duration::from_mins(10));
        let none = "topics = ['t']\nbatch.bytes_max = 0\ns3.url = 's3://b/p'";
        assert_eq!(refused(none), "batch.bytes_max: must be 1 or more");
    }
}
