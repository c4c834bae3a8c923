//! What a `PakLog` event is: a canonical type, CloudEvents attributes, a typed payload.
//!
//! [`Event`] is what the decoder returns and the projections read; [`structured`] writes one as
//! CloudEvents 1.0 in structured mode, the canonical form on the topics.

mod kind;
mod lenient;
mod moment;
pub mod payload;

use serde::Serialize;

pub use kind::{EventType, Payload};
pub use moment::Moment;

/// Header that says that the value is a whole cloud event.
pub const CONTENT_TYPE_HEADER: &str = "content-type";

/// Value of [`CONTENT_TYPE_HEADER`] for structured mode.
pub const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// The CloudEvents attributes of an event, as far as its encoding has them.
///
/// `id` and `time` are for people: services issue ids anew on a retry and stamp the time of
/// publishing. Exactness comes from the source position alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Id of the event.
    pub id: Option<String>,
    /// Who says it.
    pub source: Option<String>,
    /// The type as it was written, canonical or not.
    pub event_type: String,
    /// Id of the aggregate that it is about.
    pub subject: Option<String>,
    /// When it was published.
    pub time: Option<Moment>,
    /// What it belongs to: the order, or the wave.
    pub correlation_id: Option<String>,
    /// Id of the event that caused it.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub trace_parent: Option<String>,
    /// Version of the aggregate after the event, from 1.
    pub aggregate_version: Option<i64>,
}

/// A decoded event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// CloudEvents attributes.
    pub attributes: Attributes,
    /// What happened.
    pub payload: Payload,
}

impl Event {
    /// The canonical type.
    pub const fn event_type(&self) -> EventType {
        self.payload.event_type()
    }
}

/// The structured form; field order is the order in the JSON text.
#[derive(Serialize)]
struct Structured<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Moment>,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregateversion: Option<i64>,
    data: &'a Payload,
}

/// Writes an event as canonical structured CloudEvents JSON.
///
/// The `type` is the payload's canonical one, whatever [`Attributes::event_type`] says. A missing id
/// or source is written as an empty string, which CloudEvents forbids: give both.
///
/// # Errors
/// Only a payload with a number that JSON cannot write (NaN) fails.
pub fn structured(attributes: &Attributes, payload: &Payload) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(768);
    serde_json::to_writer(
        &mut bytes,
        &Structured {
            specversion: "1.0",
            id: attributes.id.as_deref().unwrap_or_default(),
            source: attributes.source.as_deref().unwrap_or_default(),
            event_type: payload.event_type().name(),
            subject: attributes.subject.as_deref(),
            time: attributes.time,
            datacontenttype: "application/json",
            correlationid: attributes.correlation_id.as_deref(),
            causationid: attributes.causation_id.as_deref(),
            traceparent: attributes.trace_parent.as_deref(),
            aggregateversion: attributes.aggregate_version,
            data: payload,
        },
    )?;
    Ok(bytes)
}
