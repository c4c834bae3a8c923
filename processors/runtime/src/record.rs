//! A record of the log as decoders and projections see it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_record::Offset;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    /// As Kafka writes it: `order-events-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where an event came from. The only thing about a record that is unique and never changes:
/// services re-issue event ids and stamp the time of publishing, so projections that need an
/// identity use this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
    /// Offset of the record.
    pub offset: Offset,
    /// The record's own timestamp, ms since the Unix epoch.
    pub timestamp_ms: i64,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its value; `None` is not the same as empty.
    pub value: Option<Bytes>,
}

/// A record as it was read, not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// Where it stands in the log.
    pub source: Source,
    /// Its key, if any.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in the order written; names may repeat.
    pub headers: Vec<Header>,
}

impl SourceRecord {
    /// A record as it was read from `from`.
    pub fn new(from: &TopicPartition, record: conveyor_record::Record) -> Self {
        let headers = record.headers.into_iter().map(|header| Header {
            key: header.key_str().into_owned(),
            value: header.value,
        });
        Self {
            source: Source {
                topic: Arc::clone(&from.topic),
                partition: from.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
            },
            headers: headers.collect(),
            key: record.key,
            value: record.value,
        }
    }

    /// The partition it was read from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic: Arc::clone(&self.source.topic),
            partition: self.source.partition,
        }
    }

    /// The last header of that name, as Kafka's clients look headers up.
    pub fn header(&self, key: &str) -> Option<&[u8]> {
        let header = self.headers.iter().rev().find(|h| h.key == key)?;
        header.value.as_deref()
    }

    /// Bytes of key, value and headers, for limits on memory.
    pub fn size_bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.key.len() + len(&h.value))
            .sum();
        len(&self.key) + len(&self.value) + headers
    }
}

/// Makes events of records. Pure: the same record gives the same event.
pub trait Decoder: Send + Sync + 'static {
    /// What the projections understand.
    type Event: Send + Sync + 'static;

    /// Reads one record. `Ok(None)` for a record that is well formed and says nothing (a
    /// tombstone); an error sends the record to `error-events` with that reason.
    fn decode(&self, record: &SourceRecord) -> Result<Option<Self::Event>, DecodeError>;
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode record: {reason}")]
pub struct DecodeError {
    /// The kind of error, for programs: `conveyor.decode.NoType`. Stands in `error-events` where
    /// Spring puts the name of the exception's class.
    pub name: &'static str,
    /// What is wrong with it, for people.
    pub reason: String,
}

impl DecodeError {
    /// An error with its kind and its reason.
    pub fn new(name: &'static str, reason: impl Into<String>) -> Self {
        Self {
            name,
            reason: reason.into(),
        }
    }
}
