//! Why something is not a CloudEvent.

/// A record or a builder that does not make a valid CloudEvent. Trying again never helps: the bytes
/// stay what they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudEventError {
    /// Neither headers nor value look like a CloudEvent; it may be something else entirely.
    #[error(
        "not a CloudEvent: no content-type of a CloudEvent, no ce_specversion header, and the value is no JSON object with specversion"
    )]
    NotACloudEvent,

    /// The value had to be JSON and is not.
    #[error("the value is not a JSON document: {reason} at line {line}, column {column}")]
    InvalidJson {
        /// What the parser says.
        reason: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },

    /// The value is JSON but no object.
    #[error("the value is JSON but not an object, as the JSON event format demands")]
    NotAnObject,

    /// A record in structured mode needs a value.
    #[error("the record says structured mode but has no value")]
    MissingValue,

    /// A content type of a CloudEvent that is not read here, such as a batch or another format.
    #[error(
        "content type {content_type:?} is not read here: send single events as application/cloudevents+json"
    )]
    UnsupportedFormat {
        /// As found in the header.
        content_type: String,
    },

    /// A version other than [`SPEC_VERSION`](super::SPEC_VERSION).
    #[error("specversion {found:?} is not supported, only 1.0 is")]
    UnsupportedSpecVersion {
        /// As found.
        found: String,
    },

    /// A required attribute is absent.
    #[error("required attribute {attribute} is missing")]
    MissingAttribute {
        /// Its name.
        attribute: &'static str,
    },

    /// An attribute's value breaks the rules of the specification.
    #[error("attribute {attribute}: {reason}")]
    InvalidAttribute {
        /// Its name.
        attribute: String,
        /// The rule that is broken.
        reason: &'static str,
    },

    /// An extension's name is not made of `a-z` and `0-9`, or is that of another attribute.
    #[error(
        "{name:?} is not a legal extension name: use a-z and 0-9, and no name of the specification's own attributes"
    )]
    InvalidExtensionName {
        /// As found.
        name: String,
    },

    /// Both `data` and `data_base64` are there.
    #[error("both data and data_base64 are present; an event has one of them")]
    AmbiguousData,

    /// `data_base64` is not base64.
    #[error("data_base64 is not valid base64")]
    InvalidBase64,
}

impl CloudEventError {
    /// Always `false`: the same bytes give the same answer.
    pub const fn is_retriable(&self) -> bool {
        false
    }

    pub(super) fn invalid(attribute: &str, reason: &'static str) -> Self {
        Self::InvalidAttribute {
            attribute: attribute.to_owned(),
            reason,
        }
    }

    pub(super) fn json(error: &serde_json::Error) -> Self {
        // serde_json appends the place to its text; it is told apart here.
        let text = error.to_string();
        let reason = text
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        Self::InvalidJson {
            reason,
            line: error.line(),
            column: error.column(),
        }
    }
}
