//! The owner's handle of one partition: every change of the log.
//!
//! Appends are in `log/append.rs`, rolling and closing in `log/roll.rs`, everything that removes
//! records in `log/trim.rs`. Each change first makes sure that a crash in the middle of it can be
//! told from a finished one, then changes files, then publishes through [`LogShared`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use conveyor_record::{Offset, ValidatedBatch};

use crate::config::LogConfig;
use crate::data_dir::{DirShared, read_topic_id};
use crate::error::{OpenError, SyncError};
use crate::health::WriteFailure;
use crate::partition::TopicPartition;
use crate::producers::{ActiveProducer, Producers};
use crate::reader::LogReader;
use crate::recovery::{self, Opened, RecoveryReport};
use crate::segment::{IndexBuilder, Segment, SegmentHome};
use crate::shared::{LogShared, StartPositions};

mod append;
mod clean;
mod roll;
mod trim;

/// A batch on its way into the log: the bytes as the client sent them, and what
/// [`conveyor_record::validate_produce`] said of them.
#[derive(Debug, Clone)]
pub struct AppendBatch {
    /// Exactly one batch.
    pub bytes: Bytes,
    /// The facts of it, and a new header if the broker had to set something in it.
    pub validated: ValidatedBatch,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record; wait until the synced offset (exclusive) is beyond it.
    pub last_offset: Offset,
    /// Greatest timestamp of the batch in ms, as stored.
    pub max_timestamp_ms: i64,
    /// Log start offset at that moment.
    pub log_start_offset: Offset,
    /// The batch was in the log already (one of the producer's last five): nothing was written, and
    /// the offsets are those of the first time.
    pub duplicate: bool,
}

/// One partition, as its only writer sees it. Readers hold a [`LogReader`].
#[derive(Debug)]
pub struct Log {
    shared: Arc<LogShared>,
    config: LogConfig,
    active: Active,
    producers: Producers,
    /// Bytes appended since the last checkpoint was taken.
    unsaved_bytes: u64,
    /// Something was changed since the log was opened clean.
    changed: bool,
    closed: bool,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// Where the next batch goes; the segment's published size.
    position: u64,
    builder: IndexBuilder,
    /// Length of the pool's file that the segment lies in, until its tail is trimmed.
    lent_bytes: u64,
    /// Greatest timestamp of the first batch, if it is known: rolling by time counts from it.
    first_timestamp_ms: Option<i64>,
    /// When the first batch was appended by this process, by the clock.
    first_append_ms: Option<i64>,
}

impl Active {
    fn new(segment: Arc<Segment>, builder: IndexBuilder) -> Self {
        Self {
            position: segment.size(),
            segment,
            builder,
            lent_bytes: 0,
            first_timestamp_ms: None,
            first_append_ms: None,
        }
    }
}

impl Log {
    /// Opens the folder of a partition; see [`crate::DataDir::open_log`].
    pub(crate) fn open(
        dir: &Arc<DirShared>,
        home: Arc<SegmentHome>,
        config: LogConfig,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let topic_id = read_topic_id(&*dir.disk, &home.folder)?.unwrap_or_default();
        if config.cleanup_policy.compact {
            home.gaps_below.store(i64::MAX, Ordering::Release);
        }
        let opened = recovery::open(dir, &home, &config)?;
        let Opened {
            segments,
            log_start,
            log_end,
            recovery_point,
            ..
        } = &opened;
        let Some(last) = segments.last().map(Arc::clone) else {
            unreachable!("an opened log has a segment")
        };
        // A log start beyond the end means that the tail was lost below it: go on where it says.
        let beyond = (*log_start > *log_end).then_some(*log_start);
        let positions = StartPositions {
            log_start: (*log_start).min(*log_end),
            log_end: *log_end,
            recovery_point: *recovery_point,
        };
        let shared = Arc::new(LogShared::new(
            Arc::clone(dir),
            home,
            topic_id,
            segments.clone(),
            &positions,
            opened.epochs,
            opened.transactions,
        ));
        if !opened.report.clean {
            tracing::debug!(partition = %shared.partition(), report = ?opened.report, "log recovered");
        }
        dir.unsaved_bytes
            .fetch_add(opened.unsaved_bytes, Ordering::Relaxed);
        let mut log = Self {
            active: Active::new(last, opened.builder),
            producers: opened.producers,
            unsaved_bytes: opened.unsaved_bytes,
            changed: !opened.report.clean,
            closed: false,
            shared,
            config,
        };
        let mut report = opened.report;
        if let Some(start) = beyond {
            log.truncate_fully_and_start_at(start)
                .map_err(|error| match error {
                    crate::error::LogError::Offline(offline) => OpenError::Offline(offline),
                    crate::error::LogError::Full(full) => OpenError::Full(full),
                    other => unreachable!("starting anew reads nothing: {other}"),
                })?;
            report.log_end_offset = start;
        }
        Ok((log, report))
    }

    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        self.shared.partition()
    }

    /// A handle for reading, for positions and for waiting; cheap to clone.
    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: Arc::clone(&self.shared),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<LogShared> {
        &self.shared
    }

    /// Takes new settings; they hold from the next append on.
    pub fn update_config(&mut self, config: LogConfig) {
        self.active
            .builder
            .set_interval(config.index_interval_bytes);
        let checkpoints = &self.shared.dir.checkpoints;
        let gaps_below = if config.cleanup_policy.compact {
            i64::MAX
        } else {
            checkpoints
                .gap_offset(self.partition())
                .unwrap_or_default()
                .value()
        };
        self.shared
            .home
            .gaps_below
            .store(gaps_below, Ordering::Release);
        self.config = config;
    }

    /// Notes, durably, that offsets below `end` may have gaps.
    fn allow_gaps_below(&self, end: Offset) -> Result<(), WriteFailure> {
        let dir = &self.shared.dir;
        if dir.checkpoints.gap_offset(self.partition()) >= Some(end) {
            return Ok(());
        }
        dir.checkpoints.set_gap_offset(self.partition(), end);
        self.shared
            .home
            .gaps_below
            .fetch_max(end.value(), Ordering::AcqRel);
        dir.checkpoints
            .write(&*dir.disk)
            .map_err(|error| dir.health.write_failed(error))
    }

    /// The settings.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// The producers that the log remembers, by id.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.producers.active()
    }

    /// Number of producers that the log remembers.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// Syncs what has been appended, from this thread, and publishes the synced offset. For shutdown
    /// and tools; the broker's appends go through the [`crate::Flusher`].
    pub fn sync(&mut self) -> Result<Offset, SyncError> {
        Ok(self.shared.sync()?)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.closed {
            self.shared.set_closed();
            self.shared.dir.note_abandoned();
        }
    }
}
