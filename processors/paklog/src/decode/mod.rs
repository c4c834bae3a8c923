//! Reads a record as a `PakLog` event, whichever service wrote it.
//!
//! Tried in this order, and the first that applies decides:
//! 1. header `content-type: application/cloudevents+json`: the value is a whole cloud event;
//! 2. header `ce_specversion`: attributes in `ce_*` headers, the value is the data;
//! 3. no such header, but the value is a JSON object with `specversion`: as 1;
//! 4. a JSON object with `type` or `eventType`, or a `__TypeId__` header: plain JSON;
//! 5. anything else cannot be read, and the error says why: such a record goes to `error-events`, with
//!    headers that the projection runtime writes.
//!
//! Type names go through the [`AliasTable`]; field names may be in camelCase or `snake_case`.

mod alias;
mod spelling;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub use alias::{AliasError, AliasTable};

use crate::event::{Attributes, CONTENT_TYPE_HEADER, Event, Moment, Payload};

/// Media type of a structured cloud event, without parameters.
const CLOUD_EVENT_MEDIA_TYPE: &str = "application/cloudevents+json";

/// Why a record is not an event. None of them goes away by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A tombstone or an empty value.
    #[error("the value is empty")]
    Empty,
    /// Not JSON, or not a JSON object, where one has to be.
    #[error("the value is not a JSON object: {0}")]
    NotJson(String),
    /// Nothing says what kind of event it is.
    #[error("nothing names the event's type: no cloud event, no type, eventType or __TypeId__")]
    NoType,
    /// A type that is neither canonical nor in the alias table.
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    /// The type is known, the data do not fit it.
    #[error("data of {event_type}: {reason}")]
    Data {
        /// The canonical type.
        event_type: &'static str,
        /// What does not fit.
        reason: String,
    },
}

impl DecodeError {
    /// A short name for metrics and error headers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "conveyor.decode.Empty",
            Self::NotJson(_) => "conveyor.decode.NotJson",
            Self::NoType => "conveyor.decode.NoType",
            Self::UnknownType(_) => "conveyor.decode.UnknownType",
            Self::Data { .. } => "conveyor.decode.Data",
        }
    }
}

/// Reads one record with the built-in alias table.
pub fn decode<'a>(
    value: Option<&'a [u8]>,
    headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) -> Result<Event, DecodeError> {
    decode_with(AliasTable::builtin(), value, headers)
}

/// Reads one record with an alias table of the caller's.
pub fn decode_with<'a>(
    aliases: &AliasTable,
    value: Option<&'a [u8]>,
    headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) -> Result<Event, DecodeError> {
    // The last of several headers with one name counts, as for Kafka's clients.
    let header = move |name: &str| {
        let named = headers
            .clone()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named
            .last()
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or(DecodeError::Empty)?;
    if header(CONTENT_TYPE_HEADER).is_some_and(is_structured) {
        return structured(aliases, value);
    }
    if header("ce_specversion").is_some() {
        return binary(aliases, value, header);
    }
    let text = json_text(value)?;
    let sniffed: Sniffed<'_> =
        serde_json::from_str(text).map_err(|error| DecodeError::NotJson(error.to_string()))?;
    if sniffed.specversion.is_some() {
        return structured(aliases, value);
    }
    plain(aliases, text, &sniffed, header("__TypeId__"))
}

pub(crate) fn is_structured(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(CLOUD_EVENT_MEDIA_TYPE)
}

fn json_text(value: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(value).map_err(|error| DecodeError::NotJson(error.to_string()))
}

/// What tells plain JSON from a cloud event without header.
#[derive(Deserialize)]
struct Sniffed<'a> {
    #[serde(borrow, default)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "eventType", alias = "event_type")]
    java_event_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// The attributes of a structured cloud event. The wave relay has no subject, but `aggregateId`.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "aggregateId")]
    aggregateid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "correlationId")]
    correlationid: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "causationId")]
    causationid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "aggregateVersion")]
    aggregateversion: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

fn structured(aliases: &AliasTable, value: &[u8]) -> Result<Event, DecodeError> {
    let text = json_text(value)?;
    let envelope: Envelope<'_> =
        serde_json::from_str(text).map_err(|error| DecodeError::NotJson(error.to_string()))?;
    let name = envelope.event_type.ok_or(DecodeError::NoType)?;
    let payload = payload(aliases, &name, envelope.data.map_or("{}", RawValue::get))?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let attributes = Attributes {
        id: owned(envelope.id),
        source: owned(envelope.source),
        event_type: name.into_owned(),
        subject: owned(envelope.subject.or(envelope.aggregateid)),
        time: envelope
            .time
            .and_then(|time| serde_json::from_str::<Moment>(time.get()).ok()),
        correlation_id: owned(envelope.correlationid),
        causation_id: owned(envelope.causationid),
        trace_parent: owned(envelope.traceparent),
        aggregate_version: envelope
            .aggregateversion
            .and_then(|version| integer(version.get())),
    };
    Ok(Event {
        attributes,
        payload,
    })
}

fn binary<'a>(
    aliases: &AliasTable,
    value: &'a [u8],
    header: impl Fn(&str) -> Option<&'a str>,
) -> Result<Event, DecodeError> {
    let name = header("ce_type").ok_or(DecodeError::NoType)?;
    let payload = payload(aliases, name, json_text(value)?)?;
    let owned = |name: &str| header(name).map(str::to_owned);
    let attributes = Attributes {
        id: owned("ce_id"),
        source: owned("ce_source"),
        event_type: name.to_owned(),
        subject: owned("ce_subject").or_else(|| owned("ce_aggregateid")),
        time: header("ce_time").and_then(Moment::parse),
        correlation_id: owned("ce_correlationid"),
        causation_id: owned("ce_causationid"),
        trace_parent: owned("ce_traceparent").or_else(|| owned("traceparent")),
        aggregate_version: header("ce_aggregateversion").and_then(integer),
    };
    Ok(Event {
        attributes,
        payload,
    })
}

/// Plain JSON. Some services wrap the fields in `data` or `payload`, some write them bare.
fn plain(
    aliases: &AliasTable,
    text: &str,
    sniffed: &Sniffed<'_>,
    type_id: Option<&str>,
) -> Result<Event, DecodeError> {
    let names = [
        sniffed.event_type.as_deref(),
        sniffed.java_event_type.as_deref(),
        type_id,
    ];
    let mut names = names.into_iter().flatten();
    let first = names.next().ok_or(DecodeError::NoType)?;
    // A bare `type` may be a field of the payload (a task's, say): any of the three may be the one.
    let name = std::iter::once(first)
        .chain(names)
        .find(|name| aliases.resolve(name).is_some())
        .ok_or_else(|| DecodeError::UnknownType(first.to_owned()))?;
    let data = sniffed.data.or(sniffed.payload).map(RawValue::get);
    let data = data.filter(|data| data.starts_with('{')).unwrap_or(text);
    let payload = payload(aliases, name, data)?;
    let outer: PlainAttributes = serde_json::from_str(text).unwrap_or_default();
    let attributes = Attributes {
        id: outer.event_id,
        event_type: name.to_owned(),
        subject: outer.aggregate_id,
        time: outer.occurred_on,
        correlation_id: outer.correlation_id,
        ..Attributes::default()
    };
    Ok(Event {
        attributes,
        payload,
    })
}

/// What plain events say about themselves.
#[derive(Default, Deserialize)]
struct PlainAttributes {
    #[serde(default, rename = "eventId", alias = "event_id", alias = "id")]
    event_id: Option<String>,
    #[serde(default, rename = "aggregateId", alias = "aggregate_id")]
    aggregate_id: Option<String>,
    #[serde(
        default,
        rename = "occurredOn",
        alias = "occurred_on",
        alias = "timestamp"
    )]
    occurred_on: Option<Moment>,
    #[serde(default, rename = "correlationId", alias = "correlation_id")]
    correlation_id: Option<String>,
}

/// Reads `data` as the payload of the type that `name` means.
///
/// Canonical data are read straight from the text; what has camelCase fields, or does not fit
/// as it stands (nulls, say), takes the longer way over a tree with its fields renamed.
fn payload(aliases: &AliasTable, name: &str, data: &str) -> Result<Payload, DecodeError> {
    let event_type = aliases
        .resolve(name)
        .ok_or_else(|| DecodeError::UnknownType(name.to_owned()))?;
    let unfit = |error: serde_json::Error| DecodeError::Data {
        event_type: event_type.name(),
        reason: error.to_string(),
    };
    let read = if spelling::has_camel_case_fields(data) {
        None
    } else {
        Payload::from_json_text(event_type, data).ok()
    };
    let payload = if let Some(payload) = read {
        payload
    } else {
        let tree: Value = serde_json::from_str(data).map_err(unfit)?;
        Payload::from_json_tree(event_type, spelling::to_snake_case(tree)).map_err(unfit)?
    };
    Ok(mended(payload))
}

/// The task service writes the wave's id where the order's belongs: then the order is not known.
fn mended(mut payload: Payload) -> Payload {
    match &mut payload {
        Payload::TaskCreated(task) | Payload::TaskAssigned(task) | Payload::TaskCompleted(task)
            if task.order_id.is_some() && task.order_id == task.wave_id =>
        {
            task.order_id = None;
        }
        _ => {}
    }
    payload
}

/// Reads an integer that may stand in quotes.
fn integer(text: &str) -> Option<i64> {
    text.trim().trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod catalogue_tests;
