//! The rules for names and values of attributes, and the value of an extension.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::error::CloudEventError;

/// The attributes of the specification and the two data members of its JSON format: no extension
/// may have these names.
const RESERVED: [&str; 10] = [
    "id",
    "source",
    "specversion",
    "type",
    "datacontenttype",
    "dataschema",
    "subject",
    "time",
    "data",
    "data_base64",
];

/// The value of an extension attribute.
///
/// The type survives structured mode only: headers are text, so in binary mode everything comes
/// back as [`ExtensionValue::String`]. The accessors read either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExtensionValue {
    /// `true` or `false`.
    Boolean(bool),
    /// CloudEvents' `Integer`: 32 bits. Larger whole numbers travel as text.
    Integer(i32),
    /// Everything else, times and URIs included, in its canonical text.
    String(String),
}

impl ExtensionValue {
    /// The canonical text of the value, as it stands in a header.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::String(text) => Cow::Borrowed(text),
        }
    }

    /// The text, if the value is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Boolean(_) | Self::Integer(_) => None,
        }
    }

    /// The value as a whole number, also when it came as text.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(i64::from(*number)),
            Self::String(text) => text.parse().ok(),
            Self::Boolean(_) => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Boolean(value) => Value::Bool(*value),
            Self::Integer(number) => Value::from(*number),
            Self::String(text) => Value::String(text.clone()),
        }
    }

    /// `None` for JSON null, which means that the attribute is absent.
    pub(super) fn from_json(name: &str, value: Value) -> Result<Option<Self>, CloudEventError> {
        Ok(Some(match value {
            Value::Null => return Ok(None),
            Value::Bool(value) => Self::Boolean(value),
            Value::Number(number) => match number.as_i64().and_then(|n| i32::try_from(n).ok()) {
                Some(number) => Self::Integer(number),
                None => Self::String(number.to_string()),
            },
            Value::String(text) => Self::String(text),
            Value::Array(_) | Value::Object(_) => {
                return Err(CloudEventError::invalid(
                    name,
                    "an attribute cannot be an array or an object",
                ));
            }
        }))
    }
}

impl fmt::Display for ExtensionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl From<bool> for ExtensionValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for ExtensionValue {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<i64> for ExtensionValue {
    fn from(value: i64) -> Self {
        i32::try_from(value).map_or_else(|_| Self::String(value.to_string()), Self::Integer)
    }
}

impl From<&str> for ExtensionValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for ExtensionValue {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

/// Checks an extension's name: lower-case ASCII letters and digits, none of the reserved ones.
pub(super) fn check_extension_name(name: &str) -> Result<(), CloudEventError> {
    let legal = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if legal && !RESERVED.contains(&name) {
        Ok(())
    } else {
        Err(CloudEventError::InvalidExtensionName {
            name: name.to_owned(),
        })
    }
}

/// The specification's `String`: no control characters and no Unicode noncharacters.
pub(super) fn check_text(attribute: &str, text: &str) -> Result<(), CloudEventError> {
    let illegal = |c: char| c.is_control() || is_noncharacter(c);
    if text.chars().any(illegal) {
        return Err(CloudEventError::invalid(
            attribute,
            "the text holds control characters or Unicode noncharacters",
        ));
    }
    Ok(())
}

/// A text that, when it is there, must say something.
pub(super) fn check_non_empty(attribute: &str, text: &str) -> Result<(), CloudEventError> {
    if text.is_empty() {
        return Err(CloudEventError::invalid(attribute, "the text is empty"));
    }
    check_text(attribute, text)
}

/// A URI or URI reference. Only what would break readers is refused: emptiness and white space.
pub(super) fn check_uri(attribute: &str, text: &str) -> Result<(), CloudEventError> {
    check_non_empty(attribute, text)?;
    if text.chars().any(char::is_whitespace) {
        return Err(CloudEventError::invalid(
            attribute,
            "a URI cannot hold white space",
        ));
    }
    Ok(())
}

/// A media type: `type/subtype`, parameters allowed.
pub(super) fn check_media_type(attribute: &str, text: &str) -> Result<(), CloudEventError> {
    check_non_empty(attribute, text)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence.split_once('/') {
        Some((kind, subtype)) if !kind.is_empty() && !subtype.is_empty() => Ok(()),
        _ => Err(CloudEventError::invalid(
            attribute,
            "a media type reads type/subtype",
        )),
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = c as u32;
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_names_are_lower_case_letters_and_digits() {
        for name in ["correlationid", "a", "trace2"] {
            assert_eq!(check_extension_name(name), Ok(()));
        }
        for name in [
            "",
            "correlationId",
            "trace-parent",
            "überid",
            "id",
            "data",
            "data_base64",
        ] {
            assert!(check_extension_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_number_beyond_32_bits_travels_as_text_and_still_reads_as_a_number() {
        let large = ExtensionValue::from(1_i64 << 40);
        assert_eq!(large, ExtensionValue::String("1099511627776".to_owned()));
        assert_eq!(large.as_i64(), Some(1 << 40));
        assert_eq!(ExtensionValue::from(7_i64), ExtensionValue::Integer(7));
    }

    #[test]
    fn noncharacters_and_controls_are_no_text() {
        for text in ["a\u{0}b", "\u{7f}", "\u{85}", "\u{fdd0}", "\u{1fffe}"] {
            assert!(check_text("subject", text).is_err(), "{text:?}");
        }
        assert_eq!(check_text("subject", "Straße 🙂"), Ok(()));
    }

    #[test]
    fn a_media_type_has_two_parts() {
        assert_eq!(
            check_media_type("datacontenttype", "application/json; charset=UTF-8"),
            Ok(())
        );
        for text in ["", "json", "/json", "application/"] {
            assert!(
                check_media_type("datacontenttype", text).is_err(),
                "{text:?}"
            );
        }
    }
}
