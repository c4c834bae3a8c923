//! Partitions while the node runs: one handle each, the writer of each data directory, who waits.
//!
//! A [`Partition`] is what handlers hold. Appends go through the [`writer`] of its data directory,
//! the only thread that appends; other changes of the log (retention, truncation by clients,
//! compaction's swap) take the same short lock from background threads. Reads go past both, through
//! the log's reader.
//!
//! Invariants: the high watermark moves only in [`Partition::advance`], to what is synced (or, for
//! `conveyor.durability=replicated`, written); a producer with `acks=all` is answered after it has
//! moved past its batch; a watcher is woken after every move.

mod append;
mod directory;
mod registry;
mod transactions;
mod watch;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use conveyor_controller::{Durability, TimestampType, TopicConfig};
use conveyor_log::{ActiveProducer, AppendBatch, Log, LogConfig, LogReader};
use conveyor_record::{AppendOrigin, LeaderEpoch, Offset, ProduceRules};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub(crate) use append::{
    Acknowledge, Acks, Append, AppendFailure, AppendResult, Appended, Permits, Reply,
};
pub(crate) use directory::Directory;
pub use directory::DirectoryError;
pub(crate) use registry::{PartitionLookupError, Partitions, Slot, TopicPartitions};
pub(crate) use transactions::Admission;
pub(crate) use watch::WakeSet;

/// One partition of which this node has a log.
#[derive(Debug)]
pub(crate) struct Partition {
    topic: Arc<str>,
    index: i32,
    name: Arc<str>,
    leader_epoch: AtomicI32,
    reader: LogReader,
    log: Mutex<Option<Log>>,
    config: ArcSwap<TopicConfig>,
    directory: Arc<Directory>,
    watchers: watch::Watchers,
    transactions: transactions::OpenTransactions,
    closed: AtomicBool,
    /// What recovery found damaged; empty for a healthy log.
    fault: String,
}

/// A watch on a partition; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    partition: Arc<Partition>,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.partition.watchers.remove(self.id);
    }
}

impl Partition {
    /// Around an open log. Everything that is synced becomes readable.
    pub(crate) fn new(
        log: Log,
        leader_epoch: LeaderEpoch,
        config: TopicConfig,
        directory: Arc<Directory>,
        fault: String,
    ) -> Arc<Self> {
        let reader = log.reader();
        reader.advance_high_watermark(reader.synced_offset());
        let name = reader.partition();
        Arc::new(Self {
            topic: Arc::clone(&name.topic),
            index: name.partition,
            name: name.to_string().into(),
            leader_epoch: AtomicI32::new(leader_epoch.value()),
            reader,
            log: Mutex::new(Some(log)),
            config: ArcSwap::from_pointee(config),
            directory,
            watchers: watch::Watchers::default(),
            transactions: transactions::OpenTransactions::default(),
            closed: AtomicBool::new(false),
            fault,
        })
    }

    /// The topic's name.
    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition's number.
    pub(crate) fn index(&self) -> i32 {
        self.index
    }

    /// `topic-partition`.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The term in which this node leads it.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch.load(Ordering::Acquire))
    }

    /// Reads, positions, look-ups by time.
    pub(crate) fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// The topic's settings in force.
    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    /// Its data directory.
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// What recovery found damaged; empty for a healthy log.
    pub(crate) fn fault(&self) -> &str {
        &self.fault
    }

    /// Whether its topic was deleted or the node is stopping.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What a batch must fulfil now.
    pub(crate) fn produce_rules(&self, origin: AppendOrigin, now_ms: i64) -> ProduceRules {
        let config = self.config.load();
        ProduceRules {
            origin,
            max_message_bytes: config.max_message_bytes,
            timestamp_type: match config.message_timestamp_type {
                TimestampType::CreateTime => conveyor_record::TimestampType::CreateTime,
                TimestampType::LogAppendTime => conveyor_record::TimestampType::LogAppendTime,
            },
            timestamp_before_max_ms: config.message_timestamp_before_max_ms.unwrap_or(i64::MAX),
            timestamp_after_max_ms: config.message_timestamp_after_max_ms.unwrap_or(i64::MAX),
            now_ms,
            require_keys: config.cleanup_policy.compact && origin == AppendOrigin::Client,
            // What is compressed anew vouches for its records.
            deep_check: config.compression.is_some(),
            ..ProduceRules::default()
        }
    }

    /// A share of the directory's queue for a batch of `size` bytes; waits while it is full.
    pub(crate) async fn permit(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        self.directory.permit(size).await
    }

    /// Queues a batch; appends of one partition are done in the order of these calls.
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: AppendBatch,
        acks: Acks,
        reply: Reply,
        permits: Permits,
    ) {
        let by_broker = self.config.load().message_timestamp_type == TimestampType::LogAppendTime;
        let stamped = batch.validated.meta.max_timestamp_ms;
        self.directory.submit(Append {
            partition: Arc::clone(self),
            batch,
            acks,
            log_append_timestamp_ms: if by_broker { stamped } else { -1 },
            reply,
            permits,
            queued: Instant::now(),
        });
    }

    /// Appends a batch and waits until it is durable: for coordinators and the metadata log.
    pub(crate) async fn append_durably(self: &Arc<Self>, batch: AppendBatch) -> AppendResult {
        let permits = Permits::new(self.permit(batch.bytes.len()).await, None);
        let (sender, receiver) = oneshot::channel();
        self.append(batch, Acks::All, Reply::Once(sender), permits);
        let closed = || AppendFailure::Closed {
            partition: Arc::clone(&self.name),
        };
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Wakes `wake` with `key` whenever there is more to read, or the partition closes.
    pub(crate) fn watch(self: &Arc<Self>, wake: &Arc<WakeSet>, key: u64) -> Watch {
        let id = self.watchers.add(Arc::clone(wake), key);
        Watch {
            partition: Arc::clone(self),
            id,
        }
    }

    /// Moves the high watermark forward and wakes who waits for it.
    pub(crate) fn advance(&self, to: Offset) {
        if to > self.reader.high_watermark() {
            self.reader.advance_high_watermark(to);
            self.watchers.wake();
        }
    }

    /// Whether an acknowledgement has to wait for a sync.
    pub(crate) fn syncs_before_ack(&self) -> bool {
        self.config.load().durability == Durability::Fsync
    }

    /// Takes new settings.
    pub(crate) fn update_config(&self, config: TopicConfig, producer_id_expiration_ms: i64) {
        let log_config = log_config(&config, producer_id_expiration_ms);
        self.config.store(Arc::new(config));
        self.with_log(|log| log.update_config(log_config));
    }

    /// Runs a change of the log; `None` once it is closed. Blocks on the disk: never call it from
    /// an async task.
    pub(crate) fn with_log<R>(&self, change: impl FnOnce(&mut Log) -> R) -> Option<R> {
        self.log.lock().as_mut().map(change)
    }

    /// The producers that its log remembers; none once it is closed. Blocks while something is
    /// appended: never call it from an async task.
    pub(crate) fn active_producers(&self) -> Vec<ActiveProducer> {
        self.with_log(|log| log.active_producers())
            .unwrap_or_default()
    }

    /// Takes the log out for good; later appends are refused, watchers are woken to see it.
    pub(crate) fn close(&self) -> Option<Log> {
        self.closed.store(true, Ordering::Release);
        let log = self.log.lock().take();
        self.watchers.wake();
        log
    }
}

/// The engine's settings from the topic's.
pub(crate) fn log_config(config: &TopicConfig, producer_id_expiration_ms: i64) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        max_message_bytes: config.max_message_bytes,
        index_interval_bytes: config.index_interval_bytes,
        cleanup_policy: conveyor_log::CleanupPolicy {
            delete: config.cleanup_policy.delete,
            compact: config.cleanup_policy.compact,
        },
        delete_retention_ms: config.delete_retention_ms,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        message_timestamp_type: match config.message_timestamp_type {
            TimestampType::CreateTime => conveyor_log::MessageTimestampType::CreateTime,
            TimestampType::LogAppendTime => conveyor_log::MessageTimestampType::LogAppendTime,
        },
        message_timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        message_timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        durability: match config.durability {
            Durability::Fsync => conveyor_log::Durability::Fsync,
            Durability::Replicated => conveyor_log::Durability::Replicated,
        },
        producer_id_expiration_ms,
    }
}
