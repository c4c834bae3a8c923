//! The event and its builder.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::attribute::{self, ExtensionValue};
use super::data::EventData;
use super::error::CloudEventError;
use super::{binary, structured};
use crate::producer::ProducerRecord;

/// A valid CloudEvent of version 1.0.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) event_type: String,
    pub(super) subject: Option<String>,
    pub(super) time: Option<Timestamp>,
    pub(super) data_content_type: Option<String>,
    pub(super) data_schema: Option<String>,
    pub(super) extensions: BTreeMap<String, ExtensionValue>,
    pub(super) data: Option<EventData>,
}

/// An event as the value and the headers of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// `None` for an event without data in binary mode.
    pub value: Option<Bytes>,
    /// In the order in which they are to be written.
    pub headers: Vec<(String, Bytes)>,
}

impl EncodedEvent {
    /// The headers in the form that [`decode`](super::decode) takes.
    pub fn header_views(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.as_ref())))
    }
}

impl EncodedEvent {
    /// The event as a record of this topic. Give it a key (usually the aggregate's id), so that
    /// events of one aggregate keep their order.
    pub fn into_record(self, topic: impl Into<Arc<str>>) -> ProducerRecord {
        let mut record = ProducerRecord::new(topic);
        record.value = self.value;
        for (name, value) in self.headers {
            record = record.header(name, value);
        }
        record
    }
}

impl CloudEvent {
    /// Starts an event of this `type` from this `source`; both are required.
    pub fn builder(event_type: impl Into<String>, source: impl Into<String>) -> CloudEventBuilder {
        CloudEventBuilder::new(event_type.into(), source.into())
    }

    /// Together with the source it names the event.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the event comes from, a URI reference.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What happened, such as `com.paklog.order.received.v1`.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// What it happened to, within the source.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When it happened. Some producers put the time of publishing here: not for ordering.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The media type of the data; `None` stands for JSON.
    pub fn data_content_type(&self) -> Option<&str> {
        self.data_content_type.as_deref()
    }

    /// The schema of the data, a URI.
    pub fn data_schema(&self) -> Option<&str> {
        self.data_schema.as_deref()
    }

    /// The payload.
    pub fn data(&self) -> Option<&EventData> {
        self.data.as_ref()
    }

    /// Gives up the event for its payload.
    pub fn into_data(self) -> Option<EventData> {
        self.data
    }

    /// One extension attribute by its lower-case name.
    pub fn extension(&self, name: &str) -> Option<&ExtensionValue> {
        self.extensions.get(name)
    }

    /// All extension attributes in the order of their names.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &ExtensionValue)> {
        self.extensions
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Extension `correlationid`: what belongs together across services.
    pub fn correlation_id(&self) -> Option<&str> {
        self.extension("correlationid")?.as_str()
    }

    /// Extension `causationid`: the id of the event that led to this one.
    pub fn causation_id(&self) -> Option<&str> {
        self.extension("causationid")?.as_str()
    }

    /// Extension `traceparent`: the W3C trace context.
    pub fn traceparent(&self) -> Option<&str> {
        self.extension("traceparent")?.as_str()
    }

    /// Extension `aggregateversion`: how many events the aggregate has had, this one included.
    pub fn aggregate_version(&self) -> Option<i64> {
        self.extension("aggregateversion")?.as_i64()
    }

    /// The event as one JSON document in the value, with the content type that says so. The default
    /// form: readers that see values only understand it.
    pub fn encode_structured(&self) -> EncodedEvent {
        structured::encode(self)
    }

    /// Attributes in `ce_…` headers, the data alone in the value.
    pub fn encode_binary(&self) -> EncodedEvent {
        binary::encode(self)
    }
}

/// Collects the attributes of a [`CloudEvent`]; [`CloudEventBuilder::build`] checks them.
#[derive(Debug, Clone)]
#[must_use = "call build to get the event"]
pub struct CloudEventBuilder {
    id: Option<String>,
    source: String,
    event_type: String,
    subject: Option<String>,
    time: Option<Timestamp>,
    data_content_type: Option<String>,
    data_schema: Option<String>,
    extensions: BTreeMap<String, ExtensionValue>,
    data: Option<EventData>,
}

impl CloudEventBuilder {
    fn new(event_type: String, source: String) -> Self {
        Self {
            id: None,
            source,
            event_type,
            subject: None,
            time: None,
            data_content_type: None,
            data_schema: None,
            extensions: BTreeMap::new(),
            data: None,
        }
    }

    /// The id; without it a random UUID of version 7 is taken.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What the event is about, usually the aggregate's id.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// When it happened.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// The media type of the data, needed for bytes.
    pub fn data_content_type(mut self, media_type: impl Into<String>) -> Self {
        self.data_content_type = Some(media_type.into());
        self
    }

    /// The schema of the data, a URI.
    pub fn data_schema(mut self, uri: impl Into<String>) -> Self {
        self.data_schema = Some(uri.into());
        self
    }

    /// An extension attribute; the name is made of `a-z` and `0-9`.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<ExtensionValue>) -> Self {
        self.extensions.insert(name.into(), value.into());
        self
    }

    /// Extension `correlationid`.
    pub fn correlation_id(self, id: impl Into<String>) -> Self {
        self.extension("correlationid", id.into())
    }

    /// Extension `causationid`.
    pub fn causation_id(self, id: impl Into<String>) -> Self {
        self.extension("causationid", id.into())
    }

    /// Extension `traceparent`.
    pub fn traceparent(self, traceparent: impl Into<String>) -> Self {
        self.extension("traceparent", traceparent.into())
    }

    /// Extension `aggregateversion`.
    pub fn aggregate_version(self, version: i64) -> Self {
        self.extension("aggregateversion", version)
    }

    /// A JSON payload; `datacontenttype` becomes `application/json` unless it is set.
    pub fn json(mut self, data: Value) -> Self {
        self.data = Some(EventData::Json(data));
        if self.data_content_type.is_none() {
            self.data_content_type = Some("application/json".to_owned());
        }
        self
    }

    /// A payload of bytes; say what they are with [`CloudEventBuilder::data_content_type`].
    pub fn bytes(mut self, data: impl Into<Bytes>) -> Self {
        self.data = Some(EventData::Binary(data.into()));
        self
    }

    pub(super) fn data(mut self, data: Option<EventData>) -> Self {
        self.data = data;
        self
    }

    /// Checks every attribute by the rules of the specification.
    pub fn build(self) -> Result<CloudEvent, CloudEventError> {
        let id = self.id.unwrap_or_else(|| Uuid::now_v7().to_string());
        attribute::check_non_empty("id", &id)?;
        attribute::check_uri("source", &self.source)?;
        attribute::check_non_empty("type", &self.event_type)?;
        if let Some(subject) = &self.subject {
            attribute::check_non_empty("subject", subject)?;
        }
        if let Some(media_type) = &self.data_content_type {
            attribute::check_media_type("datacontenttype", media_type)?;
        }
        if let Some(uri) = &self.data_schema {
            attribute::check_uri("dataschema", uri)?;
        }
        for (name, value) in &self.extensions {
            attribute::check_extension_name(name)?;
            attribute::check_text(name, &value.to_text())?;
        }
        Ok(CloudEvent {
            id,
            source: self.source,
            event_type: self.event_type,
            subject: self.subject,
            time: self.time,
            data_content_type: self.data_content_type,
            data_schema: self.data_schema,
            extensions: self.extensions,
            data: self.data,
        })
    }
}
