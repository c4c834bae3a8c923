//! The payload of an event.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::CloudEventError;

/// The payload: a JSON value, or bytes of whatever `datacontenttype` says.
#[derive(Debug, Clone, PartialEq)]
pub enum EventData {
    /// A JSON value (`datacontenttype` absent, `application/json` or `…+json`).
    Json(Value),
    /// Anything else.
    Binary(Bytes),
}

impl EventData {
    /// The payload as JSON; bytes are parsed.
    pub fn to_json(&self) -> Result<Cow<'_, Value>, CloudEventError> {
        match self {
            Self::Json(value) => Ok(Cow::Borrowed(value)),
            Self::Binary(bytes) => parse_json(bytes).map(Cow::Owned),
        }
    }

    /// The payload as a type of the caller's.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, CloudEventError> {
        match self {
            Self::Json(value) => {
                T::deserialize(value).map_err(|error| CloudEventError::json(&error))
            }
            Self::Binary(bytes) => {
                serde_json::from_slice(bytes).map_err(|error| CloudEventError::json(&error))
            }
        }
    }

    /// The payload as bytes; JSON is written compactly.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Json(value) => Bytes::from(value.to_string()),
            Self::Binary(bytes) => bytes.clone(),
        }
    }
}

impl From<Value> for EventData {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<Bytes> for EventData {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

pub(super) fn parse_json(bytes: &[u8]) -> Result<Value, CloudEventError> {
    serde_json::from_slice(bytes).map_err(|error| CloudEventError::json(&error))
}

/// `application/json`, `text/json` and everything that ends with `+json`, parameters aside.
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.eq_ignore_ascii_case("json") || ends_with_ignore_case(subtype, "+json")
}

/// Media types whose bytes are worth writing as a JSON string instead of base64.
pub(super) fn is_text(media_type: &str) -> bool {
    let essence = essence(media_type);
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    kind.eq_ignore_ascii_case("text")
        || subtype.eq_ignore_ascii_case("xml")
        || ends_with_ignore_case(subtype, "+xml")
}

/// The media type without its parameters.
pub(super) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn ends_with_ignore_case(text: &str, suffix: &str) -> bool {
    text.len() >= suffix.len()
        && text.as_bytes()[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_media_type() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.paklog+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "text/plain",
            "application/jsonlines",
            "application/xml",
            "json",
            "",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn bytes_that_hold_json_read_as_json() {
        let data = EventData::Binary(Bytes::from_static(b"{\"sku\":\"SKU-1\"}"));
        assert_eq!(data.to_json().unwrap()["sku"], "SKU-1");
        let broken = EventData::Binary(Bytes::from_static(b"{\"sku\""));
        assert!(matches!(
            broken.to_json(),
            Err(CloudEventError::InvalidJson { line: 1, .. })
        ));
    }
}
