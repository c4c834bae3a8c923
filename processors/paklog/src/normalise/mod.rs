//! Makes canonical events of what `PakLog`'s services write, wherever and however they write it.
//!
//! One record in, at most one record out; pure, so that the same record always becomes the same one.
//! The type decides on the topic, the payload on the key ([`Topic::key_rule`]), [`Routes`] on what is
//! read. The event is written as structured CloudEvents JSON; it keeps its id, time, subject and
//! extensions, and its record's timestamp. What an event does not say itself is filled in: id and time
//! from the source position and timestamp, subject from the payload, source from the route. Headers
//! `conveyor-source-topic`, `-partition` and `-offset` name the record that it was made from; those of
//! the record that belong to no encoding go along.
//!
//! Fields of the data that the catalogue does not know are left out: canonical data are those of
//! [`crate::event::payload`].
//!
//! **No circles.** An event on its own canonical topic, with the structured content type and its
//! canonical type name, is left alone. Everything that is written is of this form and goes there, so
//! that nothing that was written is ever written again, also where a topic is source and target. The
//! error topic is never a source.

mod key;
mod routes;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_processors::rejected::Rejected;
use conveyor_processors::{Header, Source, SourceRecord};
use serde::Deserialize;

pub use routes::{InPlace, Routes, RoutesError, SourceTopic, Unknown};

use crate::decode::{AliasTable, DecodeError, decode_with, is_structured};
use crate::event::{
    Attributes, CONTENT_TYPE_HEADER, Event, EventType, Moment, STRUCTURED_CONTENT_TYPE, structured,
};
use crate::topics::Topic;

/// Header: the topic of the record that an event was made from.
pub const SOURCE_TOPIC_HEADER: &str = "conveyor-source-topic";
/// Header: its partition, in decimal digits.
pub const SOURCE_PARTITION_HEADER: &str = "conveyor-source-partition";
/// Header: its offset, in decimal digits.
pub const SOURCE_OFFSET_HEADER: &str = "conveyor-source-offset";

/// Error name of an event that cannot be written as JSON.
const WRITE_ERROR: &str = "conveyor.normalise.Write";

/// A canonical record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// Where to.
    pub topic: Arc<str>,
    /// Its key; without one it goes anywhere.
    pub key: Option<Bytes>,
    /// The event.
    pub value: Bytes,
    /// Content type and source position first.
    pub headers: Vec<Header>,
    /// That of the record it was made from, ms since the epoch.
    pub timestamp_ms: i64,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is to be written.
    Write(Canonical),
    /// It is where it belongs already.
    LeaveAlone,
    /// It says nothing that has a canonical form: a tombstone, a type to be passed over.
    Skip,
    /// It cannot be read: to the error topic, with both families of Spring's headers.
    Reject(Rejected),
}

/// Makes canonical events.
#[derive(Clone, Debug)]
pub struct Normaliser {
    routes: Routes,
    aliases: AliasTable,
    group_id: String,
}

impl Normaliser {
    /// With these routes and type names; the group is named in rejected records.
    pub fn new(routes: Routes, aliases: AliasTable, group_id: impl Into<String>) -> Self {
        Self {
            routes,
            aliases,
            group_id: group_id.into(),
        }
    }

    /// What is read, and where it goes.
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// What becomes of a record.
    pub fn normalise(&self, record: &SourceRecord) -> Outcome {
        let (Some(value), Some(source)) = (&record.value, self.routes.source(&record.source.topic))
        else {
            return Outcome::Skip;
        };
        if self.is_canonical_in_its_place(record, value) {
            return Outcome::LeaveAlone;
        }
        let headers = record
            .headers
            .iter()
            .filter_map(|header| Some((header.key.as_str(), header.value.as_deref()?)));
        match decode_with(&self.aliases, Some(value), headers) {
            Err(DecodeError::UnknownType(_)) if source.unknown == Unknown::Skip => Outcome::Skip,
            Err(error) => self.reject(record, error.name(), error.to_string()),
            Ok(event) => self.written(record, source, event),
        }
    }

    /// A record that could not be written where it belongs, for the error topic.
    pub fn reject(
        &self,
        record: &SourceRecord,
        error_name: &'static str,
        reason: String,
    ) -> Outcome {
        Outcome::Reject(Rejected {
            record: record.clone(),
            group_id: self.group_id.clone(),
            error_name: error_name.to_owned(),
            reason,
            attempts: 1,
        })
    }

    fn is_canonical_in_its_place(&self, record: &SourceRecord, value: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow, rename = "type")]
            event_type: Cow<'a, str>,
        }
        let content_type = record.header(CONTENT_TYPE_HEADER);
        let content_type = content_type.and_then(|bytes| std::str::from_utf8(bytes).ok());
        if !content_type.is_some_and(is_structured) {
            return false;
        }
        let Ok(named) = serde_json::from_slice::<Named<'_>>(value) else {
            return false;
        };
        let canonical = EventType::ALL
            .iter()
            .find(|event_type| event_type.name() == named.event_type);
        canonical.is_some_and(|found| **self.routes.target(found.topic()) == *record.source.topic)
    }

    fn written(&self, record: &SourceRecord, source: &SourceTopic, event: Event) -> Outcome {
        let topic = event.event_type().topic();
        let target = self.routes.target(topic);
        let is_in_place = **target == *record.source.topic;
        if is_in_place && source.in_place == InPlace::Leave {
            return Outcome::LeaveAlone;
        }
        let Event {
            attributes,
            payload,
        } = event;
        let attributes = completed(attributes, key::aggregate_id(&payload), record, source);
        let value = match structured(&attributes, &payload) {
            Ok(value) => value,
            Err(error) => return self.reject(record, WRITE_ERROR, error.to_string()),
        };
        let subject = attributes.subject.as_deref();
        let key = key::key(topic, &payload, subject, record.key.as_deref());
        Outcome::Write(Canonical {
            topic: Arc::clone(target),
            key: key.map(Bytes::copy_from_slice),
            value: value.into(),
            headers: headers(record),
            timestamp_ms: record.source.timestamp_ms,
        })
    }

    /// The name of the error topic.
    pub fn error_topic(&self) -> &Arc<str> {
        self.routes.target(Topic::Error)
    }
}

/// The attributes with what the event does not say itself.
fn completed(
    attributes: Attributes,
    aggregate_id: Option<&str>,
    record: &SourceRecord,
    source: &SourceTopic,
) -> Attributes {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let header = |name: &str| {
        let named = record.headers.iter().rev();
        let mut named = named.filter(|header| header.key.eq_ignore_ascii_case(name));
        let value = named.next()?.value.as_deref()?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    };
    let position: &Source = &record.source;
    Attributes {
        id: given(attributes.id).or_else(|| Some(position.to_string())),
        source: given(attributes.source)
            .or_else(|| source.service.clone())
            .or_else(|| Some(format!("urn:conveyor:topic:{}", position.topic))),
        subject: given(attributes.subject).or_else(|| aggregate_id.map(str::to_owned)),
        time: attributes.time.or(Some(Moment(position.timestamp_ms))),
        correlation_id: given(attributes.correlation_id).or_else(|| header("x-correlation-id")),
        trace_parent: given(attributes.trace_parent).or_else(|| header("traceparent")),
        ..attributes
    }
}

/// Content type and source position, then what the record has beside its encoding.
fn headers(record: &SourceRecord) -> Vec<Header> {
    let source = &record.source;
    let text = |key: &str, value: &str| Header {
        key: key.to_owned(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    };
    let mut headers = vec![
        text(CONTENT_TYPE_HEADER, STRUCTURED_CONTENT_TYPE),
        text(SOURCE_TOPIC_HEADER, &source.topic),
        text(SOURCE_PARTITION_HEADER, &source.partition.to_string()),
        text(SOURCE_OFFSET_HEADER, &source.offset.value().to_string()),
    ];
    let others = record.headers.iter();
    headers.extend(
        others
            .filter(|header| !is_of_the_encoding(&header.key))
            .cloned(),
    );
    headers
}

fn is_of_the_encoding(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("ce_")
        || name.starts_with("conveyor-source-")
        || name == CONTENT_TYPE_HEADER
        || name == "__typeid__"
}

#[cfg(test)]
mod tests;
