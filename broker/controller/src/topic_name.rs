//! Which names a topic may have: Kafka's rules (`org.apache.kafka.common.internals.Topic`).
//!
//! A name becomes a folder name and a metric label, hence the narrow alphabet.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{METADATA_TOPIC, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

/// Bytes of the longest name: a folder adds `-` and a partition number to it.
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// Why a text is no topic name.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("topic name {name:?} is not legal: {reason}")]
pub struct InvalidTopicName {
    /// The text, cut to the longest legal length.
    pub name: String,
    /// The rule it breaks.
    pub reason: Cow<'static, str>,
}

/// Checks a name by Kafka's rules.
pub fn validate_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "it names a folder"
    } else if name.len() > MAX_TOPIC_NAME_LENGTH {
        "it is longer than 249 characters"
    } else if !name.bytes().all(is_legal_byte) {
        "only ASCII letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(InvalidTopicName {
        name: name.chars().take(MAX_TOPIC_NAME_LENGTH).collect(),
        reason: Cow::Borrowed(reason),
    })
}

/// Whether the broker itself writes this topic; clients may only read it.
pub fn is_internal_topic(name: &str) -> bool {
    [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, METADATA_TOPIC].contains(&name)
}

/// The form in which two names collide: metric names turn `.` into `_`, so `a.b` and `a_b` would
/// share their figures.
pub(crate) fn collision_form(name: &str) -> String {
    name.replace('.', "_")
}

const fn is_legal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_names_are_legal() {
        for name in [
            "a",
            "orders",
            "pick.Tasks_v2-eu",
            "...",
            &"x".repeat(249),
            "__x",
        ] {
            assert_eq!(validate_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_folder_or_the_alphabet_are_refused() {
        let long = "x".repeat(250);
        for name in [
            "", ".", "..", "a/b", "../a", "a\0b", "a b", "größe", "a:b", &long,
        ] {
            let error = validate_topic_name(name).unwrap_err();
            assert!(error.name.len() <= MAX_TOPIC_NAME_LENGTH, "{error}");
        }
    }
}
