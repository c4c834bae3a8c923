//! The settings of a topic: one table with names, types, defaults and documentation, and the typed
//! form that the rest of the broker works with.
//!
//! Names, defaults and meanings are Kafka's (`TopicConfig`, 4.x); ours start with `conveyor.`.
//! Settings that mean nothing here are taken and kept when they are harmless, so that tools which
//! always set them work, and their documentation says so; those that would promise what the broker
//! does not do are refused. Values are stored in normal form: sizes in bytes, times in ms.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::{parse_bytes, parse_millis};

mod table;
mod topic_config;

pub use topic_config::{CleanupPolicy, Compression, Durability, TimestampType, TopicConfig};

use SettingKind::{Boolean, List, Ratio, Word, Words};
use table::TABLE;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SettingKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number between two bounds.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A size in bytes between two bounds; `64 KiB` is understood too.
    Bytes {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A duration in milliseconds between two bounds; `7d` is understood too.
    Millis {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A fraction between 0 and 1.
    Ratio,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Some of some words, separated by commas, each at most once; possibly none.
    Words(&'static [&'static str]),
    /// A list of any words, separated by commas, possibly empty.
    List,
    /// Any text.
    Text,
}

/// Kafka's types of values (`ConfigDef.Type`), as `DescribeConfigs` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Items separated by commas.
    List,
}

/// One setting of a topic or a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Kafka's name, or ours that starts with `conveyor.`.
    pub name: &'static str,
    /// What values it takes.
    pub kind: SettingKind,
    /// The value when nobody sets it, in normal form.
    pub default: &'static str,
    /// What it does, for `topic describe` and the documentation.
    pub documentation: &'static str,
}

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum SettingError {
    /// There is no such setting.
    #[error("setting {name:?} is not known")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The value is not one that the setting takes.
    #[error("setting {name} cannot be {value:?}: {expected}")]
    InvalidValue {
        /// The setting.
        name: String,
        /// The value given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Append or subtract on a setting that is no list.
    #[error("setting {name} is no list: it can be set or deleted, not appended to")]
    NotAList {
        /// The setting.
        name: String,
    },
    /// Two settings that exclude each other.
    #[error("settings contradict each other: {reason}")]
    Contradiction {
        /// Which, and why.
        reason: String,
    },
}

/// Every setting, by name.
pub fn topic_settings() -> &'static [Setting] {
    TABLE
}

/// A setting of the table.
pub fn topic_setting(name: &str) -> Option<&'static Setting> {
    TABLE
        .binary_search_by(|setting| setting.name.cmp(name))
        .ok()
        .map(|index| &TABLE[index])
}

/// A row of a table of settings.
pub const fn setting(
    name: &'static str,
    kind: SettingKind,
    default: &'static str,
    documentation: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default,
        documentation,
    }
}

impl Setting {
    /// The normal form of a value, or why the setting cannot have it.
    pub fn normalize(&self, value: &str) -> Result<String, SettingError> {
        let value = value.trim();
        match self.kind {
            Boolean => match value.to_ascii_lowercase().as_str() {
                word @ ("true" | "false") => Ok(word.to_owned()),
                _ => Err(self.invalid(value, "expected true or false")),
            },
            SettingKind::Integer { min, max } => {
                let number = value
                    .parse::<i64>()
                    .map_err(|_| self.invalid(value, "expected a whole number"))?;
                self.in_range(value, number, min, max)
            }
            SettingKind::Bytes { min, max } => {
                let number =
                    parse_bytes(value).map_err(|error| self.invalid(value, &error.to_string()))?;
                self.in_range(value, number, min, max)
            }
            SettingKind::Millis { min, max } => {
                let number =
                    parse_millis(value).map_err(|error| self.invalid(value, &error.to_string()))?;
                self.in_range(value, number, min, max)
            }
            Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio.to_string()),
                _ => Err(self.invalid(value, "expected a number between 0 and 1")),
            },
            Word(words) if words.contains(&value) => Ok(value.to_owned()),
            Word(words) => {
                Err(self.invalid(value, &format!("expected one of {}", words.join(", "))))
            }
            Words(words) => self.normalize_words(value, words),
            List => Ok(list_items(value).join(",")),
            SettingKind::Text => Ok(value.to_owned()),
        }
    }

    fn normalize_words(&self, value: &str, words: &[&str]) -> Result<String, SettingError> {
        let items = list_items(value);
        let all_known = items.iter().all(|item| words.contains(item));
        let repeated = items
            .iter()
            .enumerate()
            .any(|(index, item)| items[..index].contains(item));
        if !all_known || repeated {
            let expected = format!(
                "expected some of {}, separated by commas, each at most once",
                words.join(", ")
            );
            return Err(self.invalid(value, &expected));
        }
        // In the order given: tools compare what they set with what they read.
        Ok(items.join(","))
    }

    /// Which of Kafka's types it has: those of numbers follow from their bounds, as in Kafka's own
    /// table.
    pub fn value_type(&self) -> ValueType {
        match self.kind {
            Boolean => ValueType::Boolean,
            SettingKind::Integer { max, .. }
            | SettingKind::Bytes { max, .. }
            | SettingKind::Millis { max, .. } => match max {
                max if max <= i64::from(i16::MAX) && is_factor_of_internal_topic(self.name) => {
                    ValueType::Short
                }
                max if max <= i64::from(i32::MAX) => ValueType::Int,
                _ => ValueType::Long,
            },
            Ratio => ValueType::Double,
            Words(_) | List => ValueType::List,
            // A switch that cannot be thrown.
            Word(&["false"]) => ValueType::Boolean,
            Word(_) | SettingKind::Text => ValueType::String,
        }
    }

    /// Whether items can be appended and subtracted.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Words(_) | List)
    }

    fn in_range(
        &self,
        value: &str,
        number: i64,
        min: i64,
        max: i64,
    ) -> Result<String, SettingError> {
        if (min..=max).contains(&number) {
            Ok(number.to_string())
        } else {
            Err(self.invalid(value, &format!("expected {min} to {max}")))
        }
    }

    fn invalid(&self, value: &str, expected: &str) -> SettingError {
        SettingError::InvalidValue {
            name: self.name.to_owned(),
            value: value.chars().take(200).collect(),
            expected: expected.to_owned(),
        }
    }
}

/// The few numbers of 16 bits in Kafka's tables.
fn is_factor_of_internal_topic(name: &str) -> bool {
    name.ends_with(".topic.replication.factor") || name.ends_with(".log.replication.factor")
}

/// The items of a comma-separated list.
pub(crate) fn list_items(value: &str) -> Vec<&str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

/// Looks a setting up and gives the normal form of a value.
pub(crate) fn normalize(name: &str, value: &str) -> Result<String, SettingError> {
    topic_setting(name)
        .ok_or_else(|| SettingError::Unknown {
            name: name.chars().take(200).collect(),
        })?
        .normalize(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_normal() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        for setting in topic_settings() {
            assert_eq!(
                setting.normalize(setting.default).as_deref(),
                Ok(setting.default)
            );
            assert_eq!(topic_setting(setting.name), Some(setting));
            assert!(setting.documentation.ends_with('.'), "{}", setting.name);
        }
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::default();
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.max_message_bytes, 1_048_588);
        assert_eq!(config.durability, Durability::Fsync);
        assert_eq!(config.message_timestamp_before_max_ms, None);
        assert!(config.cleanup_policy.delete && !config.cleanup_policy.compact);
    }

    #[test]
    fn values_are_brought_to_normal_form() {
        assert_eq!(normalize("retention.ms", "7d").as_deref(), Ok("604800000"));
        assert_eq!(
            normalize("segment.bytes", "64 MiB").as_deref(),
            Ok("67108864")
        );
        assert_eq!(
            normalize("cleanup.policy", "delete, compact").as_deref(),
            Ok("delete,compact")
        );
        assert_eq!(normalize("cleanup.policy", "").as_deref(), Ok(""));
        assert_eq!(normalize("preallocate", "TRUE").as_deref(), Ok("true"));
    }

    #[test]
    fn wrong_values_are_refused_with_the_settings_name() {
        for (name, value) in [
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("segment.bytes", "13"),
            ("segment.bytes", "2147483648"),
            ("cleanup.policy", "compact,compact"),
            ("cleanup.policy", "shred"),
            ("conveyor.durability", "hope"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("remote.storage.enable", "true"),
            ("min.insync.replicas", "0"),
        ] {
            let error = normalize(name, value).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(matches!(
            normalize("segment.byte", "1"),
            Err(SettingError::Unknown { .. })
        ));
    }

    #[test]
    fn types_are_kafkas() {
        for (name, expected) in [
            ("cleanup.policy", ValueType::List),
            ("compression.type", ValueType::String),
            ("flush.ms", ValueType::Long),
            ("index.interval.bytes", ValueType::Int),
            ("max.message.bytes", ValueType::Int),
            ("min.cleanable.dirty.ratio", ValueType::Double),
            ("preallocate", ValueType::Boolean),
            ("remote.storage.enable", ValueType::Boolean),
            ("retention.bytes", ValueType::Long),
            ("segment.bytes", ValueType::Int),
        ] {
            let setting = topic_setting(name).unwrap();
            assert_eq!(setting.value_type(), expected, "{name}");
        }
    }

    #[test]
    fn a_topics_own_value_wins_over_the_nodes() {
        let own = BTreeMap::from([("segment.bytes".to_owned(), "100".to_owned())]);
        let node = BTreeMap::from([
            ("segment.bytes".to_owned(), "200".to_owned()),
            ("retention.ms".to_owned(), "-1".to_owned()),
        ]);
        let config = TopicConfig::resolve(&own, &node);
        assert_eq!((config.segment_bytes, config.retention_ms), (100, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_normal_form_stays_as_it_is(row in 0..TABLE.len(), value in "[ -~]{0,12}|[0-9]{1,6} ?(ms|s|KiB|m)?") {
            let setting = &TABLE[row];
            if let Ok(normal) = setting.normalize(&value) {
                prop_assert_eq!(setting.normalize(&normal), Ok(normal));
            }
        }
    }
}
