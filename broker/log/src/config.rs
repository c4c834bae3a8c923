//! Settings of one log, named and defaulted as in Kafka's topic settings.

use std::time::Duration;

/// What happens to old records (`cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// Only the newest record of each key is kept.
    pub compact: bool,
}

impl CleanupPolicy {
    /// `delete`.
    pub const DELETE: Self = Self {
        delete: true,
        compact: false,
    };
    /// `compact`.
    pub const COMPACT: Self = Self {
        delete: false,
        compact: true,
    };
    /// `compact,delete`.
    pub const COMPACT_AND_DELETE: Self = Self {
        delete: true,
        compact: true,
    };
}

/// When an append counts as done (`conveyor.durability`). The engine itself never waits; it says how
/// far it is synced, and this tells the server which position to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync` on every in-sync replica.
    Fsync,
    /// In the page cache of every in-sync replica, Kafka's own promise.
    Replicated,
}

/// Whose clock sets the records' time (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageTimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}

/// Settings of one log. Times are milliseconds, sizes bytes; `None` means without limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it would grow beyond this. At most 2 GiB − 1,
    /// because positions in the index are 32 bits.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is rolled when its first record is this old.
    pub segment_ms: i64,
    /// `retention.ms`.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `max.message.bytes`: largest batch. Checked by whoever validates the batch.
    pub max_message_bytes: usize,
    /// `index.interval.bytes`: an index entry at least every so many bytes of log.
    pub index_interval_bytes: u64,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `delete.retention.ms`: how long compaction keeps tombstones and transaction markers.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: younger records are not compacted.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: older records are compacted whatever the dirty ratio.
    pub max_compaction_lag_ms: Option<i64>,
    /// `min.cleanable.dirty.ratio`: bytes not yet compacted by all bytes, from which on it is worth it.
    pub min_cleanable_dirty_ratio: f64,
    /// `message.timestamp.type`.
    pub message_timestamp_type: MessageTimestampType,
    /// `message.timestamp.before.max.ms`. Checked by whoever validates the batch.
    pub message_timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.after.max.ms`. Checked by whoever validates the batch.
    pub message_timestamp_after_max_ms: Option<i64>,
    /// `conveyor.durability`.
    pub durability: Durability,
    /// `producer.id.expiration.ms` (a broker setting): a producer that has been silent this long is
    /// forgotten.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        const HOUR_MS: i64 = 3_600_000;
        const DAY_MS: i64 = 24 * HOUR_MS;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            max_message_bytes: 1_048_588,
            index_interval_bytes: 4096,
            cleanup_policy: CleanupPolicy::DELETE,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: None,
            min_cleanable_dirty_ratio: 0.5,
            message_timestamp_type: MessageTimestampType::CreateTime,
            message_timestamp_before_max_ms: None,
            message_timestamp_after_max_ms: Some(HOUR_MS),
            durability: Durability::Fsync,
            producer_id_expiration_ms: DAY_MS,
        }
    }
}

/// Largest `segment.bytes`: index entries hold positions in 31 bits.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

impl LogConfig {
    /// `segment.bytes` within what the index can address.
    pub(crate) fn segment_limit(&self) -> u64 {
        self.segment_bytes.min(SEGMENT_BYTES_MAX)
    }
}

/// Settings of one data directory.
#[derive(Debug, Clone)]
pub struct DataDirConfig {
    /// `node.id`, checked against `meta.properties`.
    pub node_id: i32,
    /// `cluster.id`, checked against `meta.properties`; `None` takes whatever is there, and makes up
    /// a new one in an empty directory.
    pub cluster_id: Option<String>,
    /// Open a directory that an import has begun to fill and not finished: only the import itself does.
    pub importing: bool,
    /// How many zero-filled segment files are kept ready; 0 switches the pool off.
    pub pool_files: usize,
    /// Size of each of them in bytes. A segment that outgrows its file simply goes on growing.
    pub pool_file_bytes: u64,
    /// Most bytes of zero-filled files in the pool and in the segments that took one. Partitions
    /// beyond that get plain files, so that many small partitions do not fill the disk with zeros.
    pub pool_bytes_max: u64,
    /// Bytes a log may have above its recovery point before the recovery point is moved. Bounds
    /// what recovery has to read after a crash.
    pub recovery_bytes_max: u64,
    /// Whether the directory has a volume of its own, so that one `syncfs` may replace many
    /// `fdatasync`.
    pub own_volume: bool,
    /// Dirty files in one round from which on files are synced by several threads, or by `syncfs`.
    pub parallel_sync_files_min: usize,
    /// Threads that sync files in a round with many of them.
    pub sync_threads: usize,
    /// Index files that may be mapped into memory at a time.
    pub index_maps_max: usize,
}

impl Default for DataDirConfig {
    fn default() -> Self {
        Self {
            node_id: 0,
            cluster_id: None,
            importing: false,
            pool_files: 2,
            pool_file_bytes: 16 << 20,
            pool_bytes_max: 1 << 30,
            recovery_bytes_max: 64 << 20,
            own_volume: false,
            parallel_sync_files_min: 8,
            sync_threads: 4,
            index_maps_max: 1024,
        }
    }
}

/// How often the background work of a data directory looks for something to do when nobody wakes it.
pub const BACKGROUND_INTERVAL: Duration = Duration::from_secs(1);
