//! A record on its way to a topic.

use std::sync::Arc;

use bytes::Bytes;
use conveyor_record::NewRecord;

/// Memory that a record is counted with beyond its bytes: what the batch format and the bookkeeping
/// add.
const OVERHEAD_BYTES: usize = 64;

/// A record to be produced.
///
/// ```
/// use conveyor_sdk::ProducerRecord;
///
/// let record = ProducerRecord::new("order-events")
///     .key("order-4711")
///     .value(r#"{"status":"released"}"#)
///     .header("content-type", "application/json");
/// assert_eq!(record.key.as_deref(), Some(&b"order-4711"[..]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The topic. An `Arc<str>` can be used for many records without copying.
    pub topic: Arc<str>,
    /// The partition; chosen by key or partitioner if none.
    pub partition: Option<i32>,
    /// Its time in ms since the epoch; the time of sending if none.
    pub timestamp_ms: Option<i64>,
    /// Records with equal keys keep their order.
    pub key: Option<Bytes>,
    /// The content; none deletes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// Headers, in order; keys may repeat.
    pub headers: Vec<Header>,
}

/// A header of a record to be produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its value, if it has one.
    pub value: Option<Bytes>,
}

impl ProducerRecord {
    /// A record without key, value and headers.
    pub fn new(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header {
            key: key.into(),
            value: Some(value.into()),
        });
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, ms since the epoch.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Bytes this record counts with against the producer's memory.
    pub(crate) fn memory_size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.key.len() + length(&header.value))
            .sum();
        OVERHEAD_BYTES + length(&self.key) + length(&self.value) + headers
    }

    /// Calls `encode` with the form that a batch takes.
    pub(crate) fn with_encodable<T>(
        &self,
        timestamp_ms: i64,
        encode: impl FnOnce(&NewRecord<'_>) -> T,
    ) -> T {
        let headers: Vec<(&str, Option<&[u8]>)> = self
            .headers
            .iter()
            .map(|header| (header.key.as_str(), header.value.as_deref()))
            .collect();
        encode(&NewRecord {
            timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}
