//! The settings of a topic: one table with names, types, defaults and documentation, and the typed
//! form that the rest of the broker works with.
//!
//! Names, defaults and meanings are Kafka's (`TopicConfig`, 4.x); ours start with `conveyor.`.
//! Settings that mean nothing here are taken and kept when they are harmless, so that tools which
//! always set them work, and their documentation says so; those that would promise what the broker
//! does not do are refused. Values are stored in normal form: sizes in bytes, times in ms.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::units::{parse_bytes, parse_millis};

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
    /// Some of some words, separated by commas, each at most once, at least one.
    Words(&'static [&'static str]),
    /// A list of any words, separated by commas, possibly empty.
    List,
    /// Any text.
    Text,
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
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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

/// What happens to old records (`cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// Only the newest record of each key is kept.
    pub compact: bool,
}

/// What an acknowledgement promises (`conveyor.durability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk on every in-sync replica.
    Fsync,
    /// In the page cache of every in-sync replica.
    Replicated,
}

impl Durability {
    /// The setting's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
        }
    }
}

/// Whose clock dates the records (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}

/// The settings of one topic that the broker acts on, typed. `None` stands for "no limit".
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `conveyor.durability`.
    pub durability: Durability,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: Option<i64>,
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: Option<i64>,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`.
    pub retention_ms: Option<i64>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
}

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

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

const fn bytes(min: i64, max: i64) -> SettingKind {
    SettingKind::Bytes { min, max }
}

const fn millis(min: i64, max: i64) -> SettingKind {
    SettingKind::Millis { min, max }
}

const fn integer(min: i64, max: i64) -> SettingKind {
    SettingKind::Integer { min, max }
}

use SettingKind::{Boolean, List, Ratio, Word, Words};

/// Sorted by name (a test holds it to that).
static TABLE: &[Setting] = &[
    setting(
        "cleanup.policy",
        Words(&["compact", "delete"]),
        "delete",
        "What happens to old segments: \"delete\" removes them by retention.ms and retention.bytes, \
         \"compact\" keeps the newest record of each key; both may be combined.",
    ),
    setting(
        "compression.gzip.level",
        integer(-1, 9),
        "-1",
        "Kept for compatibility: batches stay as the producer compressed them.",
    ),
    setting(
        "compression.lz4.level",
        integer(1, 17),
        "9",
        "Kept for compatibility: batches stay as the producer compressed them.",
    ),
    setting(
        "compression.type",
        Word(&["gzip", "lz4", "producer", "snappy", "uncompressed", "zstd"]),
        "producer",
        "Kept for compatibility: whatever is set, batches stay as the producer compressed them.",
    ),
    setting(
        "compression.zstd.level",
        integer(-131_072, 22),
        "3",
        "Kept for compatibility: batches stay as the producer compressed them.",
    ),
    setting(
        "conveyor.durability",
        Word(&["fsync", "replicated"]),
        "fsync",
        "What an acknowledgement promises: \"fsync\" that the records are synced to disk on every \
         in-sync replica, \"replicated\" that they are in the page cache of every in-sync replica, \
         as Kafka promises.",
    ),
    setting(
        "delete.retention.ms",
        millis(0, LONG_MAX),
        "86400000",
        "How long compaction keeps tombstones and transaction markers, so that a reader who starts \
         from the beginning still sees that a key was deleted.",
    ),
    setting(
        "file.delete.delay.ms",
        millis(0, LONG_MAX),
        "60000",
        "Kept for compatibility: removed segments are unlinked at once, open readers keep them.",
    ),
    setting(
        "flush.messages",
        integer(1, LONG_MAX),
        "9223372036854775807",
        "Kept for compatibility: conveyor.durability decides when records are synced.",
    ),
    setting(
        "flush.ms",
        millis(0, LONG_MAX),
        "9223372036854775807",
        "Kept for compatibility: conveyor.durability decides when records are synced.",
    ),
    setting(
        "follower.replication.throttled.replicas",
        List,
        "",
        "Kept for compatibility: replicas whose fetching is throttled.",
    ),
    setting(
        "index.interval.bytes",
        bytes(0, INT_MAX),
        "4096",
        "An index entry is written about every so many bytes of log.",
    ),
    setting(
        "leader.replication.throttled.replicas",
        List,
        "",
        "Kept for compatibility: replicas whose leader is throttled.",
    ),
    setting(
        "local.retention.bytes",
        bytes(-2, LONG_MAX),
        "-2",
        "Kept for compatibility: there is no tiered storage.",
    ),
    setting(
        "local.retention.ms",
        millis(-2, LONG_MAX),
        "-2",
        "Kept for compatibility: there is no tiered storage.",
    ),
    setting(
        "max.compaction.lag.ms",
        millis(1, LONG_MAX),
        "9223372036854775807",
        "Records older than this are compacted however small the dirty part is.",
    ),
    setting(
        "max.message.bytes",
        bytes(0, INT_MAX),
        "1048588",
        "The largest batch taken, compressed, with its header.",
    ),
    setting(
        "message.timestamp.after.max.ms",
        millis(0, LONG_MAX),
        "3600000",
        "How far in the future a producer's timestamp may lie; only for CreateTime.",
    ),
    setting(
        "message.timestamp.before.max.ms",
        millis(0, LONG_MAX),
        "9223372036854775807",
        "How far in the past a producer's timestamp may lie; only for CreateTime.",
    ),
    setting(
        "message.timestamp.type",
        Word(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whose clock dates the records: the producer's, or the broker's when it appends them.",
    ),
    setting(
        "min.cleanable.dirty.ratio",
        Ratio,
        "0.5",
        "How much of a compacted log must be new since the last compaction before the next one.",
    ),
    setting(
        "min.compaction.lag.ms",
        millis(0, LONG_MAX),
        "0",
        "Records younger than this are not compacted.",
    ),
    setting(
        "min.insync.replicas",
        integer(1, INT_MAX),
        "1",
        "Writes with acks=all fail while fewer replicas than this are in sync.",
    ),
    setting(
        "preallocate",
        Boolean,
        "false",
        "Kept for compatibility: segments come from a pool of zero-filled files.",
    ),
    setting(
        "remote.log.copy.disable",
        Boolean,
        "false",
        "Kept for compatibility: there is no tiered storage.",
    ),
    setting(
        "remote.log.delete.on.disable",
        Boolean,
        "false",
        "Kept for compatibility: there is no tiered storage.",
    ),
    setting(
        "remote.storage.enable",
        Word(&["false"]),
        "false",
        "There is no tiered storage, so it cannot be switched on.",
    ),
    setting(
        "retention.bytes",
        bytes(-1, LONG_MAX),
        "-1",
        "Oldest segments are removed while a partition is larger than this; -1 for no limit.",
    ),
    setting(
        "retention.ms",
        millis(-1, LONG_MAX),
        "604800000",
        "Segments whose newest record is older than this are removed; -1 for no limit.",
    ),
    setting(
        "segment.bytes",
        bytes(14, INT_MAX),
        "1073741824",
        "A new segment begins before one would grow beyond this.",
    ),
    setting(
        "segment.index.bytes",
        bytes(4, INT_MAX),
        "10485760",
        "Kept for compatibility: indexes grow as they need.",
    ),
    setting(
        "segment.ms",
        millis(1, LONG_MAX),
        "604800000",
        "A new segment begins when the first record of one is this old.",
    ),
    setting(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "Kept for compatibility: a replica that may miss acknowledged records is never elected by \
         itself.",
    ),
];

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
        let mut items = list_items(value);
        items.sort_unstable();
        let all_known = items.iter().all(|item| words.contains(item));
        let distinct = items.windows(2).all(|pair| pair[0] != pair[1]);
        if items.is_empty() || !all_known || !distinct {
            let expected = format!(
                "expected one or more of {}, separated by commas",
                words.join(", ")
            );
            return Err(self.invalid(value, &expected));
        }
        Ok(items.join(","))
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

impl TopicConfig {
    /// The settings in force for a topic: its own, else the node's defaults, else Kafka's.
    ///
    /// Both maps must hold normal forms; an unreadable value counts as not set.
    pub fn resolve(own: &BTreeMap<String, String>, node: &BTreeMap<String, String>) -> Self {
        let values = Values { own, node };
        let policy = values.text("cleanup.policy");
        Self {
            cleanup_policy: CleanupPolicy {
                delete: list_items(policy).contains(&"delete"),
                compact: list_items(policy).contains(&"compact"),
            },
            durability: if values.text("conveyor.durability") == "replicated" {
                Durability::Replicated
            } else {
                Durability::Fsync
            },
            delete_retention_ms: values.number("delete.retention.ms"),
            index_interval_bytes: values.size("index.interval.bytes"),
            max_compaction_lag_ms: values.limit("max.compaction.lag.ms"),
            max_message_bytes: values.size("max.message.bytes") as usize,
            message_timestamp_after_max_ms: values.limit("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: values.limit("message.timestamp.before.max.ms"),
            message_timestamp_type: if values.text("message.timestamp.type") == "LogAppendTime" {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            min_cleanable_dirty_ratio: values.ratio("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
            min_insync_replicas: values.size("min.insync.replicas") as usize,
            retention_bytes: values.limit("retention.bytes").map(i64::unsigned_abs),
            retention_ms: values.limit("retention.ms"),
            segment_bytes: values.size("segment.bytes"),
            segment_ms: values.number("segment.ms"),
        }
    }

    /// Rules over more than one setting.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        if let Some(max) = self.max_compaction_lag_ms
            && self.min_compaction_lag_ms > max
        {
            return Err(SettingError::Contradiction {
                reason: format!(
                    "min.compaction.lag.ms {} is greater than max.compaction.lag.ms {max}",
                    self.min_compaction_lag_ms
                ),
            });
        }
        Ok(())
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::resolve(&BTreeMap::new(), &BTreeMap::new())
    }
}

struct Values<'a> {
    own: &'a BTreeMap<String, String>,
    node: &'a BTreeMap<String, String>,
}

impl<'a> Values<'a> {
    fn text(&self, name: &str) -> &'a str {
        let set = self.own.get(name).or_else(|| self.node.get(name));
        match set {
            Some(value) => value,
            None => topic_setting(name).map_or("", |setting| setting.default),
        }
    }

    fn number(&self, name: &str) -> i64 {
        let fallback = || topic_setting(name).and_then(|setting| setting.default.parse().ok());
        self.text(name).parse().ok().or_else(fallback).unwrap_or(0)
    }

    fn size(&self, name: &str) -> u64 {
        u64::try_from(self.number(name)).unwrap_or(0)
    }

    fn ratio(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or(0.5)
    }

    /// -1 and the greatest number both stand for "no limit".
    fn limit(&self, name: &str) -> Option<i64> {
        let number = self.number(name);
        (0..LONG_MAX).contains(&number).then_some(number)
    }
}

#[cfg(test)]
mod tests {
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
            Ok("compact,delete")
        );
        assert_eq!(normalize("preallocate", "TRUE").as_deref(), Ok("true"));
    }

    #[test]
    fn wrong_values_are_refused_with_the_settings_name() {
        for (name, value) in [
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("segment.bytes", "13"),
            ("segment.bytes", "2147483648"),
            ("cleanup.policy", ""),
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
