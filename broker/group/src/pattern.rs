//! A pattern of topic names that a member subscribes to, and the broker resolves (KIP-848).
//!
//! Kafka's patterns are RE2's: without look-around and back references, matched in linear time
//! against the whole name. A pattern that was stored but cannot be read matches nothing.

use regex::{Regex, RegexBuilder};

use crate::error::GroupError;

/// The most that a compiled pattern may take, in bytes: a short text can ask for very much.
const SIZE_MAX: usize = 1 << 20;

/// A pattern, compiled once. Two are equal when their texts are.
#[derive(Clone, Debug)]
pub struct TopicPattern {
    text: String,
    regex: Option<Regex>,
}

impl TopicPattern {
    /// The pattern of a request.
    ///
    /// # Errors
    /// [`GroupError::InvalidRegularExpression`] when it is none, or a very large one.
    pub fn parse(text: &str) -> Result<Self, GroupError> {
        match compile(text) {
            Ok(regex) => Ok(Self {
                text: text.to_owned(),
                regex: Some(regex),
            }),
            Err(error) => Err(GroupError::InvalidRegularExpression {
                pattern: text.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// The pattern of a record.
    pub fn stored(text: String) -> Self {
        let regex = compile(&text).ok();
        Self { text, regex }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of a topic's name.
    pub fn matches(&self, topic: &str) -> bool {
        self.regex
            .as_ref()
            .is_some_and(|regex| regex.is_match(topic))
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    // Alone first, so that no bracket in it closes the group around it.
    Regex::new(text)?;
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(SIZE_MAX)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_must_match() {
        let pattern = TopicPattern::parse("wave-events|orders?\\.v[0-9]+").unwrap();
        assert!(pattern.matches("wave-events") && pattern.matches("order.v12"));
        assert!(!pattern.matches("old-wave-events") && !pattern.matches("orders.v1.retry"));
        assert!(!TopicPattern::parse("").unwrap().matches("orders"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "(unclosed",
            "a)(b",
            "[z-a]",
            "(?=look)ahead",
            "(a{1000}){1000}",
        ] {
            let refused = TopicPattern::parse(text);
            assert!(
                matches!(refused, Err(GroupError::InvalidRegularExpression { .. })),
                "{text}"
            );
            assert!(!TopicPattern::stored(text.to_owned()).matches("aaa"));
        }
    }
}
