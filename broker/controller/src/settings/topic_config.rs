//! The settings of a topic in typed form, as the rest of the broker works with them.

use std::collections::BTreeMap;

use conveyor_record::Codec;

use super::{SettingError, list_items, topic_setting};

/// Stands for the level that gzip uses when nobody says.
const GZIP_LEVEL_USUAL: i32 = -1;

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

/// How the broker compresses batches anew (`compression.type` other than "producer").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// By this codec; `Codec::None` for not at all.
    pub codec: Codec,
    /// At this level of its scale; `None` for the usual one.
    pub level: Option<i32>,
}

/// The settings of one topic that the broker acts on, typed. `None` stands for "no limit".
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` and the level of its codec; `None` for "producer".
    pub compression: Option<Compression>,
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
            compression: compression(&values),
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

fn compression(values: &Values<'_>) -> Option<Compression> {
    let level = |name| i32::try_from(values.number(name)).ok();
    let (codec, level) = match values.text("compression.type") {
        "uncompressed" => (Codec::None, None),
        "gzip" => {
            let level = level("compression.gzip.level");
            (
                Codec::Gzip,
                level.filter(|level| *level != GZIP_LEVEL_USUAL),
            )
        }
        "snappy" => (Codec::Snappy, None),
        "lz4" => (Codec::Lz4, None),
        "zstd" => (Codec::Zstd, level("compression.zstd.level")),
        _ => return None,
    };
    Some(Compression { codec, level })
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
        (0..i64::MAX).contains(&number).then_some(number)
    }
}
