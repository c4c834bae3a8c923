//! Everything that removes records: retention, delete-records, truncation.
//!
//! From the front, the new log start is on disk before a segment goes, so that a crash in between
//! cannot bring an old segment back into a hole; on a full volume, where it cannot be written,
//! segments go from the first one up, each durably. From the back, the recovery point is lowered on
//! disk first, and segments go from the last one down, each durably, so that what is left is always a
//! prefix.

use std::sync::Arc;

use conveyor_record::Offset;

use super::{Active, Log};
use crate::error::{DirectoryOffline, DiskError, LogError};
use crate::folder;
use crate::health::WriteFailure;
use crate::recovery::{rebuild_producers, remove_snapshots_beyond};
use crate::segment::{IndexBuilder, LOG, Located, Segment};

impl Log {
    /// Raises the log start offset to `offset` (`DeleteRecords`); segments wholly below are removed.
    /// `offset` may be at most the high watermark. Returns the log start offset. Durable when this
    /// returns.
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<Offset, LogError> {
        let end = self.shared.high_watermark();
        if offset > end || offset < Offset::ZERO {
            return Err(self.out_of_range(offset, Offset::ZERO, end));
        }
        if offset > self.shared.log_start() {
            self.remove_below(offset)?;
        }
        Ok(self.shared.log_start())
    }

    /// Removes segments that `retention.ms` and `retention.bytes` no longer want, and those below the
    /// log start. Only below the high watermark, and only if `cleanup.policy` has `delete`. Returns
    /// the number of bytes removed.
    pub fn apply_retention(&mut self, now_ms: i64) -> Result<u64, LogError> {
        if !self.config.cleanup_policy.delete {
            return Ok(self.remove_segments_below_log_start()?);
        }
        let segments = Arc::clone(&self.shared.segments());
        let expired = self.expired_segments(&segments, now_ms)?;
        let too_many = self.segments_beyond_size(&segments);
        let doomed = expired.max(too_many);
        if doomed == segments.len() && self.active.position > 0 {
            // Even the active segment is out of date: a new one takes over first. If there is no
            // room for it, the closed ones make some for the next time.
            match self.roll_active() {
                Err(WriteFailure::Full(_)) if segments.len() > 1 => {}
                rolled => rolled?,
            }
        }
        let segments = Arc::clone(&self.shared.segments());
        let removable = doomed.min(segments.len() - 1);
        match segments.get(removable) {
            Some(first_kept) if first_kept.base() > self.shared.log_start() => {
                Ok(self.remove_below(first_kept.base())?)
            }
            _ => Ok(self.remove_segments_below_log_start()?),
        }
    }

    /// How many segments from the front hold only records older than `retention.ms`.
    fn expired_segments(&self, segments: &[Arc<Segment>], now_ms: i64) -> Result<usize, LogError> {
        let Some(retention_ms) = self.config.retention_ms else {
            return Ok(0);
        };
        let mut expired = 0;
        for segment in segments {
            if !self.is_committed(segments, expired) {
                break;
            }
            let latest = segment
                .latest_timestamp()
                .map_err(|error| segment.read_error(error))?;
            // Without timestamps, as in Kafka, the time of the last write counts.
            let latest_ms = latest
                .map(|latest| latest.timestamp_ms)
                .or_else(|| written_ms(segment));
            let old = latest_ms.is_some_and(|latest| now_ms.saturating_sub(latest) > retention_ms);
            if !old {
                break;
            }
            expired += 1;
        }
        Ok(expired)
    }

    /// How many closed segments from the front can go without falling below `retention.bytes`.
    fn segments_beyond_size(&self, segments: &[Arc<Segment>]) -> usize {
        let Some(limit) = self.config.retention_bytes else {
            return 0;
        };
        let total: u64 = segments.iter().map(|segment| segment.size()).sum();
        let mut excess = total.saturating_sub(limit);
        let mut count = 0;
        for segment in &segments[..segments.len() - 1] {
            if segment.size() > excess || !self.is_committed(segments, count) {
                break;
            }
            excess -= segment.size();
            count += 1;
        }
        count
    }

    /// Whether segment number `index` ends at or below the high watermark.
    fn is_committed(&self, segments: &[Arc<Segment>], index: usize) -> bool {
        let end = segments
            .get(index + 1)
            .map_or_else(|| self.shared.log_end(), |next| next.base());
        end <= self.shared.high_watermark()
    }

    /// Raises the log start and removes the segments wholly below it, also on a full volume: what
    /// makes room must not need any. Returns the number of bytes removed.
    fn remove_below(&mut self, start: Offset) -> Result<u64, WriteFailure> {
        let mut removed = 0;
        match self.raise_log_start(start) {
            Err(WriteFailure::Full(full)) => {
                let made_room = self.shared.dir.make_room(&full);
                removed = self.remove_one_by_one(start)?;
                if !made_room && removed == 0 {
                    return Err(WriteFailure::Full(full));
                }
                self.raise_log_start(start)?;
            }
            raised => raised?,
        }
        Ok(removed + self.remove_segments_below_log_start()?)
    }

    /// Removes the segments wholly below `start` from the first one up, each durably. What is left
    /// after a crash begins with a segment then, and that segment with the log start: the checkpoint
    /// is not needed.
    fn remove_one_by_one(&mut self, start: Offset) -> Result<u64, WriteFailure> {
        self.shared.dir.health.check()?;
        let mut removed = 0;
        loop {
            let segments = Arc::clone(&self.shared.segments());
            let [first, next, ..] = &segments[..] else {
                return Ok(removed);
            };
            if next.base() > start {
                return Ok(removed);
            }
            self.changed = true;
            self.shared
                .set_log_start(next.base().max(self.shared.log_start()));
            self.shared.set_segments(segments[1..].to_vec());
            first.mark_removed();
            self.remove_durably(first)?;
            self.shared.remove_snapshot(first.base());
            removed += first.size();
        }
    }

    /// Writes the new log start durably and publishes it.
    fn raise_log_start(&mut self, start: Offset) -> Result<(), WriteFailure> {
        let dir = &self.shared.dir;
        dir.health.check()?;
        dir.checkpoints.set_log_start(self.partition(), start);
        if let Err(error) = dir.checkpoints.write(&*dir.disk) {
            // Refused is refused: a later write of the checkpoint must not delete anything.
            dir.checkpoints
                .set_log_start(self.partition(), self.shared.log_start());
            return Err(dir.health.write_failed(error));
        }
        self.changed = true;
        self.shared.set_log_start(start);
        Ok(())
    }

    /// Removes closed segments that lie wholly below the log start.
    fn remove_segments_below_log_start(&mut self) -> Result<u64, WriteFailure> {
        let start = self.shared.log_start();
        let segments = Arc::clone(&self.shared.segments());
        let keep_from = segments
            .partition_point(|segment| segment.base() <= start)
            .saturating_sub(1);
        if keep_from == 0 {
            return Ok(0);
        }
        let (doomed, kept) = segments.split_at(keep_from);
        self.shared.set_segments(kept.to_vec());
        let home = Arc::clone(&self.shared.home);
        let mut removed = 0;
        for segment in doomed {
            segment.mark_removed();
            removed += segment.size();
            folder::remove_segment(&home, segment.base()).map_err(|error| {
                self.shared
                    .dir
                    .health
                    .write_failed(DiskError::new("remove", segment.path(), error))
            })?;
            self.shared.remove_snapshot(segment.base());
        }
        home.disk
            .sync_dir(&home.folder)
            .map_err(|error| self.offline("sync", error))?;
        let mut epochs = self.shared.epochs.write();
        if epochs.truncate_before(start) {
            epochs
                .write(&*home.disk, &home.folder)
                .map_err(|error| self.shared.dir.health.write_failed(error))?;
        }
        Ok(removed)
    }

    /// Cuts everything from `offset` on. A batch that contains `offset` goes as a whole. Durable when
    /// this returns.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), LogError> {
        let (start, end) = (self.shared.log_start(), self.shared.log_end());
        if offset >= end {
            return Ok(());
        }
        if offset < start {
            return Err(self.out_of_range(offset, start, end));
        }
        let segments = Arc::clone(&self.shared.segments());
        let index = segments
            .partition_point(|segment| segment.base() <= offset)
            .saturating_sub(1);
        let segment = Arc::clone(&segments[index]);
        let (position, new_end) =
            cut_point(&segment, offset).map_err(|error| segment.read_error(error))?;
        // Shared with what takes the segment's place: they know entries that no file has, and may be
        // mapped, so they must be cut by the one who maps them.
        let indexes = segment
            .indexes()
            .map_err(|error| segment.read_error(error))?
            .clone();
        if new_end < start {
            // The batch that holds the log start goes: nothing readable is left.
            return self.truncate_fully_and_start_at(start);
        }
        let shared = Arc::clone(&self.shared);
        // Taken first: a checkpoint of the flusher must not raise the recovery point again.
        let _sync = shared.sync_lock.lock();
        self.forget_unsaved();
        self.lower_recovery_point(new_end)?;
        for removed in &segments[index..] {
            removed.mark_removed();
        }
        shared.reset_positions(start, new_end);
        let home = &shared.home;
        for removed in segments[index + 1..].iter().rev() {
            self.remove_durably(removed)?;
        }
        let file = segment
            .home()
            .disk
            .open(segment.path(), crate::disk::OpenMode::Write);
        let file = file.map_err(|error| self.offline("open", error))?;
        file.set_len(position)
            .and_then(|()| file.sync_data())
            .map_err(|error| self.offline("cut", error))?;
        shared
            .dir
            .pool
            .give_back(std::mem::take(&mut self.active.lent_bytes));
        let cut = indexes
            .offset
            .truncate_to(new_end, position)
            .and_then(|()| indexes.time.truncate_to(new_end))
            .and_then(|()| indexes.transaction.truncate_to(new_end))
            .and_then(|()| indexes.latest_before(&*file, position));
        let latest = cut.map_err(|error| self.offline("cut index of", error))?;
        let active = Arc::new(Segment::with_file(
            home,
            segment.base(),
            file,
            position,
            indexes,
        ));
        active.set_latest_timestamp(latest);
        let builder = IndexBuilder::resume(self.config.index_interval_bytes, latest);
        let mut kept = segments[..index].to_vec();
        kept.push(Arc::clone(&active));
        shared.set_segments(kept);
        self.active = Active::new(active, builder);
        self.rebuild_state(new_end, false)
    }

    /// Drops everything and goes on at `offset` (a follower whose leader's log starts beyond ours).
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        let _sync = shared.sync_lock.lock();
        self.forget_unsaved();
        self.lower_recovery_point(Offset::ZERO)?;
        let segments = Arc::clone(&shared.segments());
        for segment in segments.iter() {
            segment.mark_removed();
        }
        for segment in segments.iter().rev() {
            self.remove_durably(segment)?;
        }
        shared
            .dir
            .pool
            .give_back(std::mem::take(&mut self.active.lent_bytes));
        shared
            .dir
            .checkpoints
            .set_log_start(self.partition(), offset);
        shared
            .dir
            .checkpoints
            .set_recovery_point(self.partition(), offset);
        shared.dir.write_checkpoints()?;
        let new = self.create_segment(offset)?;
        shared.reset_positions(offset, offset);
        shared.set_segments(vec![Arc::clone(&new.segment)]);
        self.active = Active {
            lent_bytes: new.lent_bytes,
            ..Active::new(
                new.segment,
                IndexBuilder::new(self.config.index_interval_bytes),
            )
        };
        self.rebuild_state(offset, true)?;
        shared.set_recovery_point(offset);
        Ok(())
    }

    /// The recovery point on disk is not above `end`, before anything above is written anew.
    fn lower_recovery_point(&mut self, end: Offset) -> Result<(), WriteFailure> {
        let dir = &self.shared.dir;
        dir.health.check()?;
        self.changed = true;
        let lowered = self.shared.recovery_point().min(end);
        dir.checkpoints
            .set_recovery_point(self.partition(), lowered);
        let clean = dir.checkpoints.clean_offset(self.partition());
        if let Some(clean) = clean.filter(|clean| *clean > end) {
            tracing::debug!(partition = %self.partition(), %clean, %end, "compacted part is cut");
            dir.checkpoints.set_clean_offset(self.partition(), end);
        }
        dir.checkpoints
            .write(&*dir.disk)
            .map_err(|error| dir.health.write_failed(error))
    }

    /// Drops a waiting checkpoint and the count of bytes that it and the next would have saved.
    pub(super) fn forget_unsaved(&mut self) {
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
            .fetch_sub(unsaved, std::sync::atomic::Ordering::Relaxed);
    }

    fn remove_durably(&self, segment: &Segment) -> Result<(), WriteFailure> {
        let home = &self.shared.home;
        folder::remove_segment(home, segment.base())
            .and_then(|()| home.disk.sync_dir(&home.folder))
            .map_err(|error| self.offline("remove", error).into())
    }

    /// Producers, transactions and epochs as they were at `end`, from the snapshots that are left;
    /// nothing at all of them if the log begins anew.
    fn rebuild_state(&mut self, end: Offset, anew: bool) -> Result<(), LogError> {
        let home = Arc::clone(&self.shared.home);
        let names = folder::list(&home).map_err(|error| self.offline("list", error))?;
        let mut snapshots: Vec<Offset> = names
            .iter()
            .filter_map(|name| folder::offset_of(name, folder::SNAPSHOT))
            .collect();
        snapshots.sort_unstable();
        let valid_below = if anew { Offset::NONE } else { end };
        remove_snapshots_beyond(&home, &snapshots, valid_below)
            .map_err(|error| self.shared.dir.health.fail(error))?;
        snapshots.retain(|offset| *offset <= valid_below);
        let segments = Arc::clone(&self.shared.segments());
        let now_ms = self.shared.dir.clock.now_ms();
        // The transaction index was cut at `end`: nothing is to be added to it.
        let rebuilt = rebuild_producers(&home, &segments, &snapshots, end, end, now_ms)
            .map_err(|error| self.shared.dir.health.write_failed(error))?;
        self.producers = rebuilt.producers;
        self.shared
            .with_transactions(|current| *current = rebuilt.transactions);
        *self.shared.loose_snapshot.lock() = None;
        let mut epochs = self.shared.epochs.write();
        let before = epochs.clone();
        if anew {
            epochs.clear();
        } else {
            epochs.truncate_to(end);
        }
        if *epochs != before {
            epochs
                .write(&*home.disk, &home.folder)
                .map_err(|error| self.shared.dir.health.write_failed(error))?;
        }
        Ok(())
    }

    fn out_of_range(&self, offset: Offset, start: Offset, end: Offset) -> LogError {
        LogError::OffsetOutOfRange {
            partition: self.partition().clone(),
            offset,
            start,
            end,
        }
    }

    /// A step that must not be left half done has failed.
    fn offline(&self, operation: &'static str, error: std::io::Error) -> DirectoryOffline {
        let path = self.shared.home.path(self.active.segment.base(), LOG);
        self.shared
            .dir
            .health
            .fail(DiskError::new(operation, &path, error))
    }
}

/// When the segment's file was last written, if the disk knows.
fn written_ms(segment: &Segment) -> Option<i64> {
    let info = segment.home().disk.info(segment.path()).ok()??;
    info.modified_ms
}

/// Position and base offset of the batch that holds `offset`, or the end if it lies in a gap.
fn cut_point(
    segment: &Segment,
    offset: Offset,
) -> Result<(u64, Offset), crate::segment::SegmentError> {
    let end = segment.size();
    let Some(Located { position, .. }) = segment.seek(offset, end)? else {
        return Ok((end, segment.end_offset()?));
    };
    let header = segment.header_at(position, end)?;
    let header = header.map_err(|error| segment.damaged(position, offset, error.to_string()))?;
    Ok((position, header.base_offset.min(offset)))
}
