//! Every setting of a topic: name, values, default, documentation.

use super::SettingKind::{self, Boolean, List, Ratio, Word, Words};
use super::{Setting, setting};

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

const fn bytes(min: i64, max: i64) -> SettingKind {
    SettingKind::Bytes { min, max }
}

const fn millis(min: i64, max: i64) -> SettingKind {
    SettingKind::Millis { min, max }
}

const fn integer(min: i64, max: i64) -> SettingKind {
    SettingKind::Integer { min, max }
}

/// Sorted by name (a test holds it to that).
pub(super) static TABLE: &[Setting] = &[
    setting(
        "cleanup.policy",
        Words(&["compact", "delete"]),
        "delete",
        "What happens to old segments: \"delete\" removes them by retention.ms and retention.bytes, \
         \"compact\" keeps the newest record of each key; both may be combined, and none of them keeps \
         everything.",
    ),
    setting(
        "compression.gzip.level",
        integer(-1, 9),
        "-1",
        "Level of gzip where compression.type says gzip; -1 for the usual one.",
    ),
    setting(
        "compression.lz4.level",
        integer(1, 17),
        "9",
        "Kept for compatibility: LZ4 has one level here.",
    ),
    setting(
        "compression.type",
        Word(&["gzip", "lz4", "producer", "snappy", "uncompressed", "zstd"]),
        "producer",
        "How batches are compressed in the log: as the producer did (\"producer\"), not at all, or by \
         this codec, for which the broker compresses them anew.",
    ),
    setting(
        "compression.zstd.level",
        integer(-131_072, 22),
        "3",
        "Level of Zstandard where compression.type says zstd.",
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
        "segment.jitter.ms",
        millis(0, LONG_MAX),
        "0",
        "Kept for compatibility: segments roll when they are due; what a roll costs is paid beforehand \
         by the pool of segment files.",
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
