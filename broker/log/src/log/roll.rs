//! Closing the active segment and starting the next; closing the log.
//!
//! Rolling syncs the old segment, its indexes and a producer snapshot *before* the new file takes
//! its name. That costs the owner about a millisecond a segment, and buys the invariant that
//! recovery rests on: only the last segment can hold anything that was not synced.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use conveyor_record::{BatchMeta, Offset};

use super::{Active, Log};
use crate::disk::{OpenMode, write_atomically};
use crate::error::{DiskError, LogError};
use crate::folder;
use crate::health::WriteFailure;
use crate::producers::snapshot;
use crate::segment::{IndexBuilder, Indexes, LOG, Segment, SegmentError, read_header};

impl Log {
    /// Rolls the active segment if its first record is older than `segment.ms`, or than
    /// `max.compaction.lag.ms` where the log is compacted; forgets producers that have been silent too
    /// long. Returns whether it rolled.
    pub fn roll_if_due(&mut self, now_ms: i64) -> Result<bool, LogError> {
        self.producers
            .expire(now_ms, self.config.producer_id_expiration_ms);
        let age_ms = self
            .active
            .first_append_ms
            .map_or(0, |first| now_ms.saturating_sub(first));
        let compact = self.config.cleanup_policy.compact;
        let lag_ms = self.config.max_compaction_lag_ms.filter(|_| compact);
        if self.active.position == 0
            || age_ms < lag_ms.unwrap_or(i64::MAX).min(self.config.segment_ms)
        {
            if self.active.first_append_ms.is_none() && self.active.position > 0 {
                self.active.first_append_ms = Some(now_ms);
            }
            return Ok(false);
        }
        self.roll()
    }

    /// Closes the active segment and starts a new one, unless it is empty.
    pub fn roll(&mut self) -> Result<bool, LogError> {
        if self.active.position == 0 {
            return Ok(false);
        }
        self.roll_active()?;
        Ok(true)
    }

    /// Whether `meta` belongs into a new segment, behind `pending` bytes that are to be written first.
    pub(super) fn must_roll(&mut self, meta: &BatchMeta, pending: u64) -> bool {
        let filled = self.active.position + pending;
        let too_far = meta.last_offset() - self.active.segment.base() > i64::from(i32::MAX);
        if filled == 0 {
            return too_far;
        }
        let too_large = filled + meta.size as u64 > self.config.segment_limit();
        let first_ms = self.first_timestamp_ms();
        let too_old = first_ms.is_some_and(|first| {
            first >= 0 && meta.max_timestamp_ms.saturating_sub(first) > self.config.segment_ms
        });
        too_large || too_far || too_old
    }

    /// Rolls for a batch that does not fit. A log that holds nothing yet is moved to a batch that is
    /// too far away for its one segment.
    pub(super) fn roll_for(&mut self, meta: &BatchMeta) -> Result<(), WriteFailure> {
        if self.active.position > 0 {
            self.roll_active()?;
        }
        if self.must_roll(meta, 0) && self.shared.segments().len() == 1 {
            self.move_empty_log(meta.base_offset)?;
        }
        Ok(())
    }

    /// Replaces the one segment, which is empty, by one at `base`: the log begins and ends there, as
    /// it would after a restart.
    fn move_empty_log(&mut self, base: Offset) -> Result<(), WriteFailure> {
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        shared.dir.health.check()?;
        let new = self
            .create_segment(base)
            .inspect_err(|_| self.discard_segment(base))?;
        let replaced = Arc::clone(&self.active.segment);
        shared.set_segments(vec![Arc::clone(&new.segment)]);
        shared.set_log_end(base);
        shared.set_synced(base);
        shared.set_log_start(base);
        let lent_bytes = std::mem::replace(&mut self.active.lent_bytes, new.lent_bytes);
        shared.dir.pool.give_back(lent_bytes);
        self.active = Active {
            lent_bytes: new.lent_bytes,
            ..Active::new(
                new.segment,
                IndexBuilder::new(self.config.index_interval_bytes),
            )
        };
        self.changed = true;
        replaced.mark_removed();
        // Left there, it would be a closed segment that ends before its successor begins.
        folder::remove_segment(&shared.home, replaced.base())
            .and_then(|()| shared.home.disk.sync_dir(&shared.home.folder))
            .map_err(|error| {
                let error = DiskError::new("remove", replaced.path(), error);
                shared.dir.health.fail(error).into()
            })
    }

    /// Greatest timestamp of the first batch of the active segment, read once after a restart.
    fn first_timestamp_ms(&mut self) -> Option<i64> {
        if self.active.first_timestamp_ms.is_none() && self.active.position > 0 {
            let segment = &self.active.segment;
            let header = segment.file().ok().and_then(|file| {
                read_header(&**file, 0, segment.size())
                    .ok()
                    .and_then(Result::ok)
            });
            // An unreadable first batch is found by its readers; the segment then rolls by size.
            self.active.first_timestamp_ms =
                Some(header.map_or(-1, |header| header.max_timestamp_ms));
        }
        self.active.first_timestamp_ms
    }

    /// Closes the active segment, which is not empty, and starts the next. On a full volume it tries
    /// once more with the room of the pool.
    pub(super) fn roll_active(&mut self) -> Result<(), WriteFailure> {
        match self.try_roll_active() {
            Err(WriteFailure::Full(full)) if self.shared.dir.make_room(&full) => {
                self.try_roll_active()
            }
            rolled => rolled,
        }
    }

    fn try_roll_active(&mut self) -> Result<(), WriteFailure> {
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        shared.dir.health.check()?;
        let end = shared.log_end();
        assert!(
            end > self.active.segment.base(),
            "{}: an empty segment is not rolled",
            self.partition()
        );
        self.seal_active()?;
        self.write_snapshot(end)?;
        let new = self
            .create_segment(end)
            .inspect_err(|_| self.discard_segment(end))?;
        let mut segments = (**shared.segments()).clone();
        segments.push(Arc::clone(&new.segment));
        shared.set_segments(segments);
        self.saved_up_to(end);
        self.active = Active {
            lent_bytes: new.lent_bytes,
            ..Active::new(
                new.segment,
                IndexBuilder::new(self.config.index_interval_bytes),
            )
        };
        Ok(())
    }

    /// Trims and syncs the active segment and its indexes. The caller holds `sync_lock`.
    fn seal_active(&mut self) -> Result<(), WriteFailure> {
        let segment = Arc::clone(&self.active.segment);
        let health = &self.shared.dir.health;
        let failed = |operation, error| {
            health.write_failed(DiskError::new(operation, segment.path(), error))
        };
        let file = segment.file().map_err(|error| self.segment_failed(error))?;
        let indexes = segment
            .indexes()
            .map_err(|error| self.segment_failed(error))?;
        if self.active.lent_bytes > 0 {
            file.set_len(self.active.position)
                .map_err(|error| failed("trim", error))?;
            self.shared
                .dir
                .pool
                .give_back(std::mem::take(&mut self.active.lent_bytes));
        }
        // A failed sync is never a matter of a full disk: it ends the directory.
        file.sync_data()
            .map_err(|error| health.fail(DiskError::new("sync", segment.path(), error)))?;
        self.shared.set_synced(self.shared.log_end());
        self.active
            .builder
            .finish(indexes)
            .and_then(|()| indexes.write())
            .map_err(|error| failed("write index of", error))?;
        indexes.sync_written().map_err(|error| {
            health
                .fail(DiskError::new("sync index of", segment.path(), error))
                .into()
        })
    }

    fn write_snapshot(&self, offset: Offset) -> Result<(), WriteFailure> {
        let path = snapshot::path(&self.shared.home.folder, offset);
        write_atomically(
            &*self.shared.home.disk,
            &path,
            &snapshot::encode(&self.producers),
        )
        .map_err(|error| {
            self.shared
                .dir
                .health
                .write_failed(DiskError::new("write", &path, error))
        })
    }

    /// Everything below `end` is durable, indexed and in a snapshot: recovery starts there. The
    /// caller holds `sync_lock`.
    fn saved_up_to(&mut self, end: Offset) {
        self.forget_unsaved();
        self.shared.set_recovery_point(end);
        if let Some(loose) = self
            .shared
            .loose_snapshot
            .lock()
            .take()
            .filter(|loose| *loose != end)
        {
            self.shared.remove_snapshot(loose);
        }
    }

    /// A new, empty segment at `base`, from the pool if it has a file.
    pub(super) fn create_segment(&self, base: Offset) -> Result<NewSegment, WriteFailure> {
        let home = &self.shared.home;
        let path = home.path(base, LOG);
        let dir = &self.shared.dir;
        let failed = |error| {
            dir.health
                .write_failed(DiskError::new("create", &path, error))
        };
        // Whatever needs a descriptor comes before the pool's file takes the name: afterwards only a
        // failed sync is left, and that ends the directory anyway.
        let indexes = Indexes::create(home, base, "").map_err(failed)?;
        let lent = dir
            .pool
            .take(&*home.disk, &path, self.config.segment_limit())
            .map_err(failed)?;
        let (file, lent_bytes) = if let Some((file, bytes)) = lent {
            let synced = home
                .disk
                .sync_dir(&home.folder)
                .and_then(|()| home.disk.sync_dir(&dir.path));
            synced.map_err(|error| {
                // It may have replaced an empty file that is still open here: only a restart can
                // sort that out.
                dir.pool.give_back(bytes);
                dir.health.fail(DiskError::new("create", &path, error))
            })?;
            (file, bytes)
        } else {
            let made = home.disk.open(&path, OpenMode::Truncate);
            let made = made.and_then(|file| home.disk.sync_dir(&home.folder).map(|()| file));
            (made.map_err(failed)?, 0)
        };
        let segment = Arc::new(Segment::with_file(home, base, file, 0, indexes));
        Ok(NewSegment {
            segment,
            lent_bytes,
        })
    }

    /// Removes what is left of a segment that could not be created: left there, it would pass for the
    /// last one while appends go on in the one before.
    fn discard_segment(&self, base: Offset) {
        let home = &self.shared.home;
        let path = home.path(base, LOG);
        let removed = match home.disk.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if let Err(error) = removed.and_then(|()| home.disk.sync_dir(&home.folder)) {
            self.shared
                .dir
                .health
                .fail(DiskError::new("remove", &path, error));
        }
    }

    /// Before the first batch of an empty log: takes a zero-filled file, if the pool has one.
    pub(super) fn use_zeroed_file(&mut self) -> Result<(), WriteFailure> {
        if self.active.position > 0 || self.active.lent_bytes > 0 {
            return Ok(());
        }
        let base = self.active.segment.base();
        if !self.shared.dir.pool.has_file(self.config.segment_limit()) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        let new = self.create_segment(base)?;
        let mut segments = (**shared.segments()).clone();
        let replaced = segments.pop();
        segments.push(Arc::clone(&new.segment));
        shared.set_segments(segments);
        if let Some(replaced) = replaced {
            replaced.mark_removed();
        }
        self.active.segment = new.segment;
        self.active.lent_bytes = new.lent_bytes;
        Ok(())
    }

    /// The owner's segment has files that cannot be opened.
    pub(super) fn segment_failed(&self, error: SegmentError) -> WriteFailure {
        match error {
            SegmentError::Disk(error) => self.shared.dir.health.write_failed(error),
            other => unreachable!("the active segment is not removed under its owner: {other:?}"),
        }
    }

    /// Clean shutdown: sync, trim the zero-filled tail, write the producer snapshot. The next open
    /// scans nothing (once [`crate::DataDir::close`] has written its marker).
    pub fn close(mut self) -> Result<(), LogError> {
        self.close_files()?;
        self.closed = true;
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        shared.set_closed();
        Ok(())
    }

    fn close_files(&mut self) -> Result<(), WriteFailure> {
        if !self.changed {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        shared.dir.health.check()?;
        let end = shared.log_end();
        if self.active.position > 0 || self.active.lent_bytes > 0 {
            self.seal_active()?;
        }
        self.write_snapshot(end)?;
        self.saved_up_to(end);
        Ok(())
    }

    /// Gives the log up before its folder is deleted. When this returns, the flusher is done with it
    /// and the cleaner takes missing files for what they are.
    pub(crate) fn discard(mut self) {
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        for segment in self.shared.segments().iter() {
            segment.mark_removed();
        }
        let waiting = self
            .shared
            .checkpoint
            .lock()
            .take()
            .map_or(0, |checkpoint| checkpoint.bytes);
        let unsaved = waiting + std::mem::take(&mut self.unsaved_bytes);
        self.shared
            .dir
            .unsaved_bytes
            .fetch_sub(unsaved, Ordering::Relaxed);
        self.shared
            .dir
            .pool
            .give_back(std::mem::take(&mut self.active.lent_bytes));
        self.closed = true;
        self.shared.set_closed();
    }
}

/// A segment that was just created.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) lent_bytes: u64,
}
