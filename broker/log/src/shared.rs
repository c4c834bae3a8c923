//! What the owner of a log publishes for readers and for the flusher: segments and positions.
//!
//! The owner is the only one who moves the log end, the log start and the list of segments; the
//! flusher (or the owner) moves the synced offset, under `sync_lock`; the server moves the high
//! watermark. Order of publication on append: bytes in the file, size of the segment, log end. So
//! whoever loads the log end first and the segments afterwards finds every byte below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwap;
use conveyor_record::{Offset, mutants};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::data_dir::DirShared;
use crate::disk::write_atomically;
use crate::epochs::LeaderEpochs;
use crate::error::{DirectoryOffline, DiskError};
use crate::health::WriteFailure;
use crate::partition::TopicPartition;
use crate::producers::snapshot;
use crate::segment::{Segment, SegmentError, SegmentHome};
use crate::transactions::Transactions;

/// Segments, ascending by base offset.
pub(crate) type SegmentList = Vec<Arc<Segment>>;

/// The published side of one log.
#[derive(Debug)]
pub(crate) struct LogShared {
    pub(crate) dir: Arc<DirShared>,
    pub(crate) home: Arc<SegmentHome>,
    pub(crate) topic_id: Uuid,
    /// Ascending by base offset, never empty; the last one is active.
    segments: ArcSwap<SegmentList>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    synced: AtomicI64,
    recovery_point: AtomicI64,
    high_watermark: AtomicI64,
    pub(crate) epochs: RwLock<LeaderEpochs>,
    pub(crate) transactions: Mutex<Transactions>,
    /// Spares readers the lock of `transactions` where there are none.
    any_transactions: AtomicBool,
    /// Held across every sync of the active segment and every change that cuts it. A kernel reports
    /// a write-back error once for each open file, so two syncs of one file must not overlap: one
    /// would take the error, the other would publish.
    pub(crate) sync_lock: Mutex<()>,
    /// Waits for the flusher: the recovery point moves here once everything below is synced.
    pub(crate) checkpoint: Mutex<Option<Checkpoint>>,
    /// The snapshot of the last checkpoint that does not stand at the base of a segment.
    pub(crate) loose_snapshot: Mutex<Option<Offset>>,
    /// Set under `sync_lock`: from then on the flusher leaves the log alone.
    closed: AtomicBool,
}

/// A point up to which recovery need not look, once it is written.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) offset: Offset,
    /// Producer snapshot at that offset.
    pub(crate) snapshot: Vec<u8>,
    /// The segment that was active; its indexes are synced with the checkpoint.
    pub(crate) segment: Arc<Segment>,
    /// Bytes of log that recovery is spared.
    pub(crate) bytes: u64,
}

/// Where a log stands when it is opened.
#[derive(Debug)]
pub(crate) struct StartPositions {
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) recovery_point: Offset,
}

impl LogShared {
    pub(crate) fn new(
        dir: Arc<DirShared>,
        home: Arc<SegmentHome>,
        topic_id: Uuid,
        segments: Vec<Arc<Segment>>,
        positions: &StartPositions,
        epochs: LeaderEpochs,
        transactions: Transactions,
    ) -> Self {
        assert!(!segments.is_empty(), "a log has at least one segment");
        assert!(
            positions.log_start <= positions.log_end
                && positions.recovery_point <= positions.log_end,
            "{}: impossible positions {positions:?}",
            home.partition
        );
        let any_transactions = !transactions.is_empty();
        Self {
            dir,
            home,
            topic_id,
            segments: ArcSwap::from_pointee(segments),
            log_start: AtomicI64::new(positions.log_start.value()),
            log_end: AtomicI64::new(positions.log_end.value()),
            synced: AtomicI64::new(positions.log_end.value()),
            recovery_point: AtomicI64::new(positions.recovery_point.value()),
            high_watermark: AtomicI64::new(positions.log_start.value()),
            epochs: RwLock::new(epochs),
            transactions: Mutex::new(transactions),
            any_transactions: AtomicBool::new(any_transactions),
            sync_lock: Mutex::new(()),
            checkpoint: Mutex::new(None),
            loose_snapshot: Mutex::new(None),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.home.partition
    }

    pub(crate) fn segments(&self) -> arc_swap::Guard<Arc<SegmentList>> {
        self.segments.load()
    }

    pub(crate) fn active(&self) -> Arc<Segment> {
        let segments = self.segments.load();
        match segments.last() {
            Some(last) => Arc::clone(last),
            None => unreachable!("a log has at least one segment"),
        }
    }

    /// Publishes a new list of segments.
    pub(crate) fn set_segments(&self, segments: Vec<Arc<Segment>>) {
        assert!(
            !segments.is_empty(),
            "{}: a log has at least one segment",
            self.partition()
        );
        assert!(
            segments
                .windows(2)
                .all(|pair| pair[0].base() < pair[1].base()),
            "{}: segments are not ascending",
            self.partition()
        );
        self.segments.store(Arc::new(segments));
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    pub(crate) fn synced(&self) -> Offset {
        Offset(self.synced.load(Ordering::Acquire))
    }

    pub(crate) fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Publishes an append.
    pub(crate) fn set_log_end(&self, end: Offset) {
        assert!(
            end >= self.log_end(),
            "{}: the log end only grows",
            self.partition()
        );
        self.log_end.store(end.value(), Ordering::Release);
    }

    /// Moves the log start forward; the high watermark is never below it.
    pub(crate) fn set_log_start(&self, start: Offset) {
        assert!(
            start >= self.log_start() && start <= self.log_end(),
            "{}: log start {start} is not between {} and {}",
            self.partition(),
            self.log_start(),
            self.log_end()
        );
        self.log_start.store(start.value(), Ordering::Release);
        self.high_watermark
            .fetch_max(start.value(), Ordering::AcqRel);
    }

    /// All positions after a truncation. The caller holds `sync_lock`.
    pub(crate) fn reset_positions(&self, start: Offset, end: Offset) {
        self.log_start.store(start.value(), Ordering::Release);
        self.log_end.store(end.value(), Ordering::Release);
        self.synced.store(end.value(), Ordering::Release);
        self.recovery_point.fetch_min(end.value(), Ordering::AcqRel);
        self.high_watermark.fetch_min(end.value(), Ordering::AcqRel);
        self.high_watermark
            .fetch_max(start.value(), Ordering::AcqRel);
    }

    /// Everything below `end` is durable. The caller holds `sync_lock`.
    pub(crate) fn set_synced(&self, end: Offset) {
        assert!(
            end <= self.log_end(),
            "{}: synced beyond the log end",
            self.partition()
        );
        self.synced.fetch_max(end.value(), Ordering::AcqRel);
    }

    pub(crate) fn set_recovery_point(&self, offset: Offset) {
        assert!(
            offset <= self.synced(),
            "{}: recovery point beyond synced",
            self.partition()
        );
        self.recovery_point.store(offset.value(), Ordering::Release);
        self.dir
            .checkpoints
            .set_recovery_point(self.partition(), offset);
    }

    pub(crate) fn advance_high_watermark(&self, to: Offset) -> Offset {
        let to = to.min(self.log_end());
        let before = self.high_watermark.fetch_max(to.value(), Ordering::AcqRel);
        Offset(before.max(to.value()))
    }

    /// Never below the log start, though records of an open transaction may be deleted: who is sent
    /// there must find something.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        let high_watermark = self.high_watermark();
        if !self.any_transactions.load(Ordering::Acquire) {
            return high_watermark;
        }
        let mut transactions = self.transactions.lock();
        let stable = transactions.last_stable_offset(high_watermark);
        self.any_transactions
            .store(!transactions.is_empty(), Ordering::Release);
        stable.max(self.log_start())
    }

    /// Changes the transactions before the log end that makes the change visible is published.
    pub(crate) fn with_transactions<T>(&self, change: impl FnOnce(&mut Transactions) -> T) -> T {
        let mut transactions = self.transactions.lock();
        let result = change(&mut transactions);
        self.any_transactions
            .store(!transactions.is_empty(), Ordering::Release);
        result
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Makes everything below the log end of this moment durable and publishes it.
    pub(crate) fn sync(&self) -> Result<Offset, DirectoryOffline> {
        let _sync = self.sync_lock.lock();
        self.sync_locked()
    }

    /// As [`Self::sync`], for a caller that holds `sync_lock`.
    pub(crate) fn sync_locked(&self) -> Result<Offset, DirectoryOffline> {
        // A log that is being deleted has nothing left to sync, and its files may be anywhere.
        if self.is_closed() {
            return Ok(self.synced());
        }
        // After a failure nobody may publish, even if a later sync "succeeds".
        self.dir.health.check()?;
        let end = self.log_end();
        if self.synced() >= end {
            return Ok(self.synced());
        }
        // Loaded after the end: a segment that was closed in between has been synced whole.
        let segment = self.active();
        let synced = segment.file().and_then(|file| {
            file.sync_data()
                .map_err(|error| SegmentError::Disk(DiskError::new("sync", segment.path(), error)))
        });
        match synced {
            Ok(()) => {
                self.set_synced(end);
                Ok(end)
            }
            Err(SegmentError::Disk(_)) if mutants::on("fsync-error-ignored") => {
                self.set_synced(end);
                Ok(end)
            }
            Err(SegmentError::Disk(error)) => Err(self.dir.health.fail(error)),
            Err(other) => {
                unreachable!("the active segment is open while sync_lock is held: {other:?}")
            }
        }
    }

    /// Completes the waiting checkpoint if everything below it is synced: indexes, producer
    /// snapshot, recovery point. Returns whether the recovery point moved. A full disk leaves it
    /// where it was.
    pub(crate) fn finish_checkpoint(&self) -> Result<bool, DirectoryOffline> {
        let _sync = self.sync_lock.lock();
        // A recovery point that is set now could meet a new log of the same name.
        if self.is_closed() {
            return Ok(false);
        }
        let due = self
            .checkpoint
            .lock()
            .take_if(|checkpoint| checkpoint.offset <= self.synced());
        let Some(due) = due else { return Ok(false) };
        match self.write_checkpoint(&due) {
            Ok(()) => {
                self.dir
                    .unsaved_bytes
                    .fetch_sub(due.bytes, Ordering::Relaxed);
                Ok(true)
            }
            Err(WriteFailure::Full(full)) => {
                tracing::warn!(partition = %self.partition(), %full, "checkpoint put off");
                self.dir
                    .unsaved_bytes
                    .fetch_sub(due.bytes, Ordering::Relaxed);
                Ok(false)
            }
            Err(WriteFailure::Offline(offline)) => Err(offline),
        }
    }

    fn write_checkpoint(&self, due: &Checkpoint) -> Result<(), WriteFailure> {
        self.dir.health.check()?;
        let failed = |path: &std::path::Path, error| {
            self.dir
                .health
                .write_failed(DiskError::new("write", path, error))
        };
        if let Ok(indexes) = due.segment.indexes() {
            let path = due.segment.path();
            indexes.write().map_err(|error| failed(path, error))?;
            // A failed sync is never a matter of a full disk, whatever it says.
            indexes.sync_written().map_err(|error| {
                self.dir
                    .health
                    .fail(DiskError::new("sync index of", path, error))
            })?;
        }
        let path = snapshot::path(&self.home.folder, due.offset);
        write_atomically(&*self.home.disk, &path, &due.snapshot)
            .map_err(|error| failed(&path, error))?;
        self.set_recovery_point(due.offset);
        let loose = (due.offset != due.segment.base()).then_some(due.offset);
        let outdated = std::mem::replace(&mut *self.loose_snapshot.lock(), loose);
        if let Some(outdated) = outdated.filter(|outdated| *outdated != due.offset) {
            self.remove_snapshot(outdated);
        }
        Ok(())
    }

    /// Removes a snapshot that nobody needs; a leftover does no harm.
    pub(crate) fn remove_snapshot(&self, offset: Offset) {
        let path = snapshot::path(&self.home.folder, offset);
        if let Err(error) = self.home.disk.remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove producer snapshot");
        }
    }
}
