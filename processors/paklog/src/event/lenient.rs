//! Fields that services write in several ways.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// A text, also where a number or a truth value stands.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        scalar @ (Value::Number(_) | Value::Bool(_)) => Ok(scalar.to_string()),
        other => Err(de::Error::custom(format!("expected a text, found {other}"))),
    }
}

/// [`text`], or nothing.
pub(super) fn optional_text<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    text(deserializer).map(Some)
}

/// Seconds: a number, of which the fraction is dropped, or Java's `PT1M30S`.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let seconds = match &value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text
            .parse::<SignedDuration>()
            .ok()
            .map(|duration| duration.as_secs()),
        _ => None,
    };
    seconds.ok_or_else(|| de::Error::custom(format!("expected a duration, found {value}")))
}

/// A place: its name, or an object with aisle, bay, level and position, which become its name.
pub(super) fn place<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Place {
        Named(String),
        Parts {
            aisle: Value,
            bay: Value,
            level: Value,
            position: Value,
        },
    }
    let part = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(Some(match Place::deserialize(deserializer)? {
        Place::Named(name) => name,
        Place::Parts {
            aisle,
            bay,
            level,
            position,
        } => [aisle, bay, level, position].map(part).join("-"),
    }))
}
