//! From a record to an event: which form it has, and the attributes common to both.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::attribute::ExtensionValue;
use super::data::{self, EventData};
use super::error::CloudEventError;
use super::event::CloudEvent;
use super::{ATTRIBUTE_HEADER_PREFIX, CONTENT_TYPE_HEADER, SPEC_VERSION, binary, structured};

/// The form in which an event was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON in the value, and a content type that says so.
    Structured,
    /// Attributes in `ce_…` headers.
    Binary,
    /// JSON with `specversion` in the value and no header that says so, as plain string producers
    /// send it.
    Sniffed,
}

/// An event and how it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The event.
    pub event: CloudEvent,
    /// The form it had.
    pub encoding: Encoding,
}

/// Reads a record's value and headers as a CloudEvent.
///
/// A content type of a CloudEvent decides for structured mode, else a `ce_specversion` header for
/// binary mode, else a JSON object with `specversion` in the value is taken as it is. Anything else
/// is [`CloudEventError::NotACloudEvent`], which leaves the caller free to try other encodings. Of
/// several headers of one name the last counts, as everywhere in Kafka.
pub fn decode<'a>(
    value: Option<&[u8]>,
    headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Result<Decoded, CloudEventError> {
    let mut content_type = None;
    let mut attributes = Vec::new();
    for (name, header_value) in headers {
        let Some(header_value) = header_value else {
            continue;
        };
        if name.eq_ignore_ascii_case(CONTENT_TYPE_HEADER) {
            content_type = Some(header_value);
        } else if let Some(attribute) = name.strip_prefix(ATTRIBUTE_HEADER_PREFIX) {
            attributes.push((attribute, header_value));
        }
    }
    let content_type = content_type
        .map(|text| header_text(CONTENT_TYPE_HEADER, text))
        .transpose()?;

    if let Some(media_type) = content_type.filter(|media_type| is_cloud_event(media_type)) {
        check_format(media_type)?;
        let value = value.ok_or(CloudEventError::MissingValue)?;
        let event = structured::decode(value)?;
        return Ok(Decoded {
            event,
            encoding: Encoding::Structured,
        });
    }
    if attributes.iter().any(|(name, _)| *name == "specversion") {
        let event = binary::decode(from_headers(&attributes, content_type)?, value)?;
        return Ok(Decoded {
            event,
            encoding: Encoding::Binary,
        });
    }
    match value.and_then(structured::sniff) {
        Some(event) => Ok(Decoded {
            event: event?,
            encoding: Encoding::Sniffed,
        }),
        None => Err(CloudEventError::NotACloudEvent),
    }
}

fn is_cloud_event(media_type: &str) -> bool {
    const PREFIX: &str = "application/cloudevents";
    media_type
        .as_bytes()
        .get(..PREFIX.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

fn check_format(media_type: &str) -> Result<(), CloudEventError> {
    let essence = data::essence(media_type);
    // Some producers leave `+json` out; JSON is the only format that all implementations share.
    let known = ["application/cloudevents+json", "application/cloudevents"];
    if known
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
    {
        return Ok(());
    }
    Err(CloudEventError::UnsupportedFormat {
        content_type: media_type.to_owned(),
    })
}

fn from_headers(
    headers: &[(&str, &[u8])],
    content_type: Option<&str>,
) -> Result<Attributes, CloudEventError> {
    let mut attributes = Attributes::default();
    for (name, value) in headers {
        attributes.insert(name, ExtensionValue::from(header_text(name, value)?))?;
    }
    if let Some(media_type) = content_type {
        attributes.insert("datacontenttype", ExtensionValue::from(media_type))?;
    }
    Ok(attributes)
}

fn header_text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, CloudEventError> {
    std::str::from_utf8(value)
        .map_err(|_| CloudEventError::invalid(name, "the header is not UTF-8"))
}

/// Attributes as found, before the event's rules are checked.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    spec_version: Option<String>,
    id: Option<String>,
    source: Option<String>,
    event_type: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    data_content_type: Option<String>,
    data_schema: Option<String>,
    extensions: BTreeMap<String, ExtensionValue>,
}

impl Attributes {
    /// Takes one attribute. Extension names are folded to lower case, since producers that write
    /// `aggregateId` are common and mean the same.
    pub(super) fn insert(
        &mut self,
        name: &str,
        value: ExtensionValue,
    ) -> Result<(), CloudEventError> {
        let place = match name {
            "specversion" => &mut self.spec_version,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.data_content_type,
            "dataschema" => &mut self.data_schema,
            extension => {
                self.extensions
                    .insert(extension.to_ascii_lowercase(), value);
                return Ok(());
            }
        };
        match value {
            ExtensionValue::String(text) => *place = Some(text),
            // The id is often a number, and its text is what was meant; the others are a mistake.
            ExtensionValue::Integer(number) if name == "id" => *place = Some(number.to_string()),
            ExtensionValue::Integer(_) | ExtensionValue::Boolean(_) => {
                return Err(CloudEventError::invalid(
                    name,
                    "the attribute must be a text",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn data_content_type(&self) -> Option<&str> {
        self.data_content_type.as_deref()
    }

    /// Checks everything and makes the event.
    pub(super) fn into_event(self, data: Option<EventData>) -> Result<CloudEvent, CloudEventError> {
        let missing = |attribute| move || CloudEventError::MissingAttribute { attribute };
        let spec_version = self.spec_version.ok_or_else(missing("specversion"))?;
        if spec_version != SPEC_VERSION {
            return Err(CloudEventError::UnsupportedSpecVersion {
                found: spec_version,
            });
        }
        let id = self.id.ok_or_else(missing("id"))?;
        let source = self.source.ok_or_else(missing("source"))?;
        let event_type = self.event_type.ok_or_else(missing("type"))?;
        let mut builder = CloudEvent::builder(event_type, source).id(id).data(data);
        if let Some(subject) = self.subject {
            builder = builder.subject(subject);
        }
        if let Some(time) = self.time {
            builder = builder.time(parse_time(&time)?);
        }
        if let Some(media_type) = self.data_content_type {
            builder = builder.data_content_type(media_type);
        }
        if let Some(uri) = self.data_schema {
            builder = builder.data_schema(uri);
        }
        for (name, value) in self.extensions {
            builder = builder.extension(name, value);
        }
        builder.build()
    }
}

/// RFC 3339, zone required.
fn parse_time(text: &str) -> Result<Timestamp, CloudEventError> {
    text.parse().map_err(|_| {
        CloudEventError::invalid(
            "time",
            "the time is not of RFC 3339, such as 2025-11-23T04:05:06Z",
        )
    })
}
