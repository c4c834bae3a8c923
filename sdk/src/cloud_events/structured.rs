//! Structured mode: CloudEvents' JSON event format in the value.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::attribute::ExtensionValue;
use super::data::{self, EventData};
use super::decode::Attributes;
use super::error::CloudEventError;
use super::event::{CloudEvent, EncodedEvent};
use super::{CONTENT_TYPE_HEADER, SPEC_VERSION, STRUCTURED_CONTENT_TYPE};

pub(super) fn encode(event: &CloudEvent) -> EncodedEvent {
    let content_type = Bytes::from_static(STRUCTURED_CONTENT_TYPE.as_bytes());
    EncodedEvent {
        value: Some(Bytes::from(to_json(event).to_string())),
        headers: vec![(CONTENT_TYPE_HEADER.to_owned(), content_type)],
    }
}

fn to_json(event: &CloudEvent) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: &str| members.insert(name.to_owned(), Value::from(value));
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
    if let Some(media_type) = &event.data_content_type {
        put("datacontenttype", media_type);
    }
    if let Some(uri) = &event.data_schema {
        put("dataschema", uri);
    }
    for (name, value) in &event.extensions {
        members.insert(name.clone(), value.to_json());
    }
    match &event.data {
        None => {}
        // Data that is JSON null and no data at all look the same in this format.
        Some(EventData::Json(value)) => {
            members.insert("data".to_owned(), value.clone());
        }
        Some(EventData::Binary(bytes)) => {
            let (name, text) = binary_member(event.data_content_type.as_deref(), bytes);
            members.insert(name.to_owned(), Value::String(text));
        }
    }
    Value::Object(members)
}

/// Bytes of a textual media type stay readable; all others become base64.
fn binary_member(media_type: Option<&str>, bytes: &Bytes) -> (&'static str, String) {
    let text = media_type.filter(|media_type| data::is_text(media_type));
    match text.and_then(|_| std::str::from_utf8(bytes).ok()) {
        Some(text) => ("data", text.to_owned()),
        None => ("data_base64", STANDARD.encode(bytes)),
    }
}

/// Reads the JSON document of a record whose headers say structured mode.
pub(super) fn decode(value: &[u8]) -> Result<CloudEvent, CloudEventError> {
    match data::parse_json(value)? {
        Value::Object(members) => from_members(members),
        _ => Err(CloudEventError::NotAnObject),
    }
}

/// Reads a value without headers, if it is a JSON object with `specversion`; `None` if it is
/// something else, whatever that may be.
pub(super) fn sniff(value: &[u8]) -> Option<Result<CloudEvent, CloudEventError>> {
    let first = value
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())?;
    if first != b'{' {
        return None;
    }
    match data::parse_json(value) {
        Ok(Value::Object(members)) if members.contains_key("specversion") => {
            Some(from_members(members))
        }
        _ => None,
    }
}

fn from_members(mut members: Map<String, Value>) -> Result<CloudEvent, CloudEventError> {
    let json = members.remove("data").filter(|data| !data.is_null());
    let base64 = members.remove("data_base64").filter(|data| !data.is_null());
    let mut attributes = Attributes::default();
    for (name, value) in members {
        if let Some(value) = ExtensionValue::from_json(&name, value)? {
            attributes.insert(&name, value)?;
        }
    }
    let data = match (json, base64) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err(CloudEventError::AmbiguousData),
        (Some(value), None) => Some(json_data(attributes.data_content_type(), value)),
        (None, Some(value)) => Some(base64_data(&value)?),
    };
    attributes.into_event(data)
}

/// With a media type that is not JSON's, a JSON string is the text of the payload.
fn json_data(media_type: Option<&str>, value: Value) -> EventData {
    let is_json = media_type.is_none_or(data::is_json);
    match value {
        Value::String(text) if !is_json => EventData::Binary(Bytes::from(text)),
        value => EventData::Json(value),
    }
}

fn base64_data(value: &Value) -> Result<EventData, CloudEventError> {
    let text = value.as_str().ok_or(CloudEventError::InvalidBase64)?;
    let bytes = STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .map_err(|_| CloudEventError::InvalidBase64)?;
    Ok(EventData::Binary(Bytes::from(bytes)))
}
