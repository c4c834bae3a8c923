//! Binary mode: attributes in headers, the data alone in the value.

use bytes::Bytes;

use super::data::{self, EventData};
use super::decode::Attributes;
use super::error::CloudEventError;
use super::event::{CloudEvent, EncodedEvent};
use super::{ATTRIBUTE_HEADER_PREFIX, CONTENT_TYPE_HEADER, SPEC_VERSION};

pub(super) fn encode(event: &CloudEvent) -> EncodedEvent {
    let mut headers = Vec::with_capacity(8 + event.extensions.len());
    let mut put = |name: &str, value: &str| {
        headers.push((
            format!("{ATTRIBUTE_HEADER_PREFIX}{name}"),
            Bytes::from(value.to_owned()),
        ));
    };
    put("specversion", SPEC_VERSION);
    put("id", &event.id);
    put("source", &event.source);
    put("type", &event.event_type);
    if let Some(subject) = &event.subject {
        put("subject", subject);
    }
    if let Some(time) = event.time {
        put("time", &time.to_string());
    }
    if let Some(uri) = &event.data_schema {
        put("dataschema", uri);
    }
    for (name, value) in &event.extensions {
        put(name, &value.to_text());
    }
    if let Some(media_type) = content_type(event) {
        headers.push((
            CONTENT_TYPE_HEADER.to_owned(),
            Bytes::from(media_type.to_owned()),
        ));
    }
    EncodedEvent {
        value: event.data.as_ref().map(EventData::to_bytes),
        headers,
    }
}

/// JSON says so even when the event left it to the default, since a header has no default.
fn content_type(event: &CloudEvent) -> Option<&str> {
    match (&event.data_content_type, &event.data) {
        (Some(media_type), _) => Some(media_type),
        (None, Some(EventData::Json(_))) => Some("application/json"),
        (None, _) => None,
    }
}

/// Reads attributes that were collected from headers, and the value as the data.
pub(super) fn decode(
    attributes: Attributes,
    value: Option<&[u8]>,
) -> Result<CloudEvent, CloudEventError> {
    let data = match value {
        None => None,
        Some(bytes) if attributes.data_content_type().is_some_and(data::is_json) => {
            Some(EventData::Json(data::parse_json(bytes)?))
        }
        Some(bytes) => Some(EventData::Binary(Bytes::copy_from_slice(bytes))),
    };
    attributes.into_event(data)
}
