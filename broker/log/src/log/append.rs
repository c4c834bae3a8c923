//! Append: decide, write once, publish.
//!
//! A group of batches becomes one or more runs, one for each segment touched; a run is one vectored
//! positional write of header copies and payload slices. Producer state is staged while the run is
//! collected and rolled back if its write fails, so that a refused batch leaves no trace.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use conveyor_record::{
    BatchMeta, BatchView, ControlRecord, HEADER_SIZE, LeaderEpoch, Offset, mutants, stamp_header,
};

use super::{AppendBatch, AppendInfo, Log};
use crate::error::{AppendError, DiskError};
use crate::health::WriteFailure;
use crate::index::AbortedEntry;
use crate::producers::{TransactionEvent, Verdict, snapshot};
use crate::recovery::first_control;
use crate::shared::Checkpoint;

/// A busy log takes part in bounding the recovery of the whole directory from so many bytes on.
const CHECKPOINT_BYTES_MIN: u64 = 1 << 20;
/// All logs together may have so many times `recovery_bytes_max` above their recovery points.
const DIRECTORY_RECOVERY_FACTOR: u64 = 4;

/// Batches that will be written together.
#[derive(Default)]
struct Run<'a> {
    headers: Vec<[u8; HEADER_SIZE]>,
    payloads: Vec<&'a [u8]>,
    metas: Vec<BatchMeta>,
    events: Vec<TransactionEvent>,
    bytes: u64,
    /// Places in the results that depend on the write.
    results: Vec<usize>,
}

impl Log {
    /// Appends validated batches in order, as the leader of `leader_epoch`: gives them offsets and
    /// writes those that are accepted by one vectored write (one for each segment touched). The
    /// result has one entry a batch, in order; a refused batch does not keep the next from being
    /// appended. Batches are visible to readers when this returns, and durable when the synced
    /// offset has passed them.
    pub fn append_as_leader(
        &mut self,
        batches: &[AppendBatch],
        leader_epoch: LeaderEpoch,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        if let Err(error) = self.may_append(leader_epoch) {
            return batches.iter().map(|_| Err(error.clone())).collect();
        }
        let now_ms = self.shared.dir.clock.now_ms();
        let mut results: Vec<Result<AppendInfo, AppendError>> = Vec::with_capacity(batches.len());
        let mut run = Run::default();
        let mut next_offset = self.shared.log_end();
        let mut failed = None;
        for batch in batches {
            if let Some(failure) = failed.clone() {
                results.push(Err(failure));
                continue;
            }
            let meta = batch.validated.meta.at(next_offset, leader_epoch);
            assert!(
                batch.bytes.len() == meta.size,
                "bytes are not those that were validated"
            );
            let control = control_of(&meta, &batch.bytes);
            match self.admit(&meta, control) {
                Err(error) => results.push(Err(error)),
                Ok(Verdict::Duplicate(first)) => {
                    if first.base_offset >= self.shared.log_end() {
                        run.results.push(results.len());
                    }
                    results.push(Ok(self.duplicate_info(
                        first.base_offset,
                        first.last_offset,
                        first.timestamp_ms,
                    )));
                }
                Ok(Verdict::Append) => {
                    if self.must_roll(&meta, run.bytes) {
                        let rolled = self.write_run(&mut run).and_then(|()| self.roll_for(&meta));
                        if let Err(failure) = rolled {
                            fail_results(&mut results, &mut run, &failure);
                            results.push(Err(failure.clone().into()));
                            failed = Some(failure.into());
                            continue;
                        }
                    }
                    let header = stamp_header(
                        batch.validated.header(&batch.bytes),
                        next_offset,
                        leader_epoch,
                    );
                    run.results.push(results.len());
                    results.push(Ok(AppendInfo {
                        base_offset: meta.base_offset,
                        last_offset: meta.last_offset(),
                        max_timestamp_ms: meta.max_timestamp_ms,
                        log_start_offset: self.shared.log_start(),
                        duplicate: false,
                    }));
                    run.add(header, &batch.bytes[HEADER_SIZE..], meta);
                    run.events
                        .extend(self.producers.apply(&meta, control, now_ms));
                    next_offset = meta.next_offset();
                }
            }
        }
        if let Err(failure) = self.write_run(&mut run) {
            fail_results(&mut results, &mut run, &failure);
        }
        results
    }

    /// Appends batches that a leader has given offsets and epochs to, byte for byte. They must
    /// continue the log in order (gaps that compaction left are allowed). All are appended, or the
    /// error says which was the first that was not.
    pub fn append_as_follower(
        &mut self,
        batches: &[(Bytes, BatchMeta)],
    ) -> Result<(), AppendError> {
        let now_ms = self.shared.dir.clock.now_ms();
        let mut run = Run::default();
        for (bytes, meta) in batches {
            let outcome = self.add_replicated(bytes, meta, &mut run, now_ms);
            if let Err(error) = outcome {
                // What came before is sound and stays.
                self.write_run(&mut run)?;
                return Err(error);
            }
        }
        Ok(self.write_run(&mut run)?)
    }

    fn add_replicated<'a>(
        &mut self,
        bytes: &'a Bytes,
        meta: &BatchMeta,
        run: &mut Run<'a>,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        self.may_append(meta.leader_epoch)?;
        assert!(
            bytes.len() == meta.size,
            "bytes are not those that were validated"
        );
        let expected = run
            .metas
            .last()
            .map_or_else(|| self.shared.log_end(), BatchMeta::next_offset);
        if meta.base_offset < expected {
            return Err(AppendError::OffsetGap {
                partition: self.partition().clone(),
                found: meta.base_offset,
                expected,
            });
        }
        if meta.base_offset > expected {
            self.allow_gaps_below(meta.next_offset())?;
        }
        self.check_size(meta)?;
        let newer = self
            .shared
            .epochs
            .read()
            .latest()
            .is_none_or(|latest| meta.leader_epoch > latest);
        if self.must_roll(meta, run.bytes) {
            self.write_run(run)?;
            self.roll_for(meta)?;
            if self.must_roll(meta, 0) {
                // Segments join without a gap, and none holds more than 2^31 offsets.
                return Err(AppendError::OffsetGap {
                    partition: self.partition().clone(),
                    found: meta.base_offset,
                    expected: self.shared.log_end(),
                });
            }
        } else if newer {
            self.write_run(run)?;
        }
        self.note_epoch(meta.leader_epoch, meta.base_offset)?;
        let control = control_of(meta, bytes);
        let header = stamp_header(bytes, meta.base_offset, meta.leader_epoch);
        run.add(header, &bytes[HEADER_SIZE..], *meta);
        if !mutants::on("producers-unknown-to-followers") {
            run.events
                .extend(self.producers.apply(meta, control, now_ms));
        }
        Ok(())
    }

    fn may_append(&self, leader_epoch: LeaderEpoch) -> Result<(), AppendError> {
        self.shared.dir.health.check()?;
        let current = self.shared.epochs.read().latest();
        match current {
            Some(current) if leader_epoch.is_some() && leader_epoch < current => {
                Err(AppendError::FencedLeaderEpoch {
                    partition: self.partition().clone(),
                    found: leader_epoch,
                    current,
                })
            }
            _ => Ok(()),
        }
    }

    fn admit(
        &self,
        meta: &BatchMeta,
        control: Option<ControlRecord>,
    ) -> Result<Verdict, AppendError> {
        self.check_size(meta)?;
        self.producers.check(self.partition(), meta, control)
    }

    fn check_size(&self, meta: &BatchMeta) -> Result<(), AppendError> {
        let max = self.config.segment_limit();
        if meta.size as u64 > max {
            return Err(AppendError::LargerThanSegment {
                partition: self.partition().clone(),
                size: meta.size,
                max,
            });
        }
        Ok(())
    }

    fn duplicate_info(
        &self,
        base_offset: Offset,
        last_offset: Offset,
        max_timestamp_ms: i64,
    ) -> AppendInfo {
        AppendInfo {
            base_offset,
            last_offset,
            max_timestamp_ms,
            log_start_offset: self.shared.log_start(),
            duplicate: true,
        }
    }

    /// The epoch is on disk before the first batch that carries it.
    fn note_epoch(&mut self, epoch: LeaderEpoch, start: Offset) -> Result<(), WriteFailure> {
        let known = self.shared.epochs.read().latest();
        if known.is_some_and(|known| known >= epoch) {
            return Ok(());
        }
        let mut epochs = self.shared.epochs.write();
        let before = epochs.clone();
        if !epochs.assign(epoch, start) {
            return Ok(());
        }
        self.changed = true;
        let home = &self.shared.home;
        epochs.write(&*home.disk, &home.folder).map_err(|error| {
            *epochs = before;
            self.shared.dir.health.write_failed(error)
        })
    }

    /// Writes the run at the end of the active segment and publishes it. On a failure nothing of it
    /// is in the log, and the producers are as they were.
    fn write_run(&mut self, run: &mut Run<'_>) -> Result<(), WriteFailure> {
        let Some(first) = run.metas.first().copied() else {
            return Ok(());
        };
        let written = self
            .note_epoch(first.leader_epoch, first.base_offset)
            .and_then(|()| self.use_zeroed_file())
            .and_then(|()| self.write_bytes(run));
        if let Err(failure) = written {
            self.producers.roll_back();
            // The caller answers by `results`; the batches must not be tried again without the
            // producer state that was just rolled back.
            *run = Run {
                results: std::mem::take(&mut run.results),
                ..Run::default()
            };
            return Err(failure);
        }
        self.publish(run);
        *run = Run::default();
        self.take_checkpoint_if_due();
        Ok(())
    }

    /// Writes the run's bytes; on a full volume once more, with the room of the pool.
    fn write_bytes(&mut self, run: &Run<'_>) -> Result<(), WriteFailure> {
        match self.try_write_bytes(run) {
            Err(WriteFailure::Full(full)) if self.shared.dir.make_room(&full) => {
                self.try_write_bytes(run)
            }
            written => written,
        }
    }

    fn try_write_bytes(&mut self, run: &Run<'_>) -> Result<(), WriteFailure> {
        assert!(
            self.active.position == self.active.segment.size(),
            "{}: position of the owner is not the published size",
            self.partition()
        );
        self.shared.dir.health.check()?;
        let segment = Arc::clone(&self.active.segment);
        let file = segment.file().map_err(|error| self.segment_failed(error))?;
        // Opened before anything is written: publishing must not fail on them.
        segment
            .indexes()
            .map_err(|error| self.segment_failed(error))?;
        let mut parts = Vec::with_capacity(run.headers.len() * 2);
        for (header, payload) in run.headers.iter().zip(&run.payloads) {
            parts.push(IoSlice::new(header));
            parts.push(IoSlice::new(payload));
        }
        let Err(error) = file.write_vectored_at(self.active.position, &mut parts) else {
            return Ok(());
        };
        let error = DiskError::new("write", segment.path(), error);
        let failure = self.shared.dir.health.write_failed(error);
        if matches!(failure, WriteFailure::Full(_)) {
            // What was written in part must not come back: a whole batch of it would look valid.
            let cut = file.set_len(self.active.position).and_then(|()| {
                self.shared
                    .dir
                    .pool
                    .give_back(std::mem::take(&mut self.active.lent_bytes));
                let _sync = self.shared.sync_lock.lock();
                file.sync_data()
            });
            if let Err(error) = cut {
                let error = DiskError::new("cut", segment.path(), error);
                return Err(self.shared.dir.health.fail(error).into());
            }
        }
        Err(failure)
    }

    /// Indexes and publishes what has been written: size first, log end last.
    fn publish(&mut self, run: &mut Run<'_>) {
        let segment = Arc::clone(&self.active.segment);
        let Ok(indexes) = segment.indexes() else {
            unreachable!("the indexes of the active segment are open")
        };
        let mut position = self.active.position;
        let mut indexed = Ok(());
        for meta in &run.metas {
            let added = self.active.builder.add_batch(
                indexes,
                meta.last_offset(),
                meta.max_timestamp_ms,
                meta.size,
                position,
            );
            indexed = indexed.and(added);
            position += meta.size as u64;
        }
        for event in run.events.drain(..) {
            let entry = self.shared.with_transactions(|transactions| {
                let entry = aborted_entry(&event, |completed| {
                    transactions.last_stable_after(completed)
                });
                transactions.apply(event);
                entry
            });
            if let Some(entry) = entry {
                let added = indexes.transaction.append(entry);
                indexed = indexed.and(added);
            }
        }
        if let Err(error) = indexed {
            // The entries stay in memory. A full disk is no harm; anything else ends the directory,
            // and the batch will never be reported as synced.
            let error = DiskError::new("write index of", segment.path(), error);
            drop(self.shared.dir.health.write_failed(error));
        }
        let Some(last) = run.metas.last() else {
            unreachable!("only runs with batches are published")
        };
        if self.active.first_append_ms.is_none() {
            self.active.first_append_ms = Some(self.shared.dir.clock.now_ms());
        }
        if self.active.position == 0 {
            self.active.first_timestamp_ms = run.metas.first().map(|meta| meta.max_timestamp_ms);
        }
        segment.set_latest_timestamp(self.active.builder.latest());
        segment.set_size(position);
        self.active.position = position;
        self.producers.commit();
        self.changed = true;
        self.unsaved_bytes += run.bytes;
        self.shared
            .dir
            .unsaved_bytes
            .fetch_add(run.bytes, Ordering::Relaxed);
        self.shared.set_log_end(last.next_offset());
    }

    /// Takes a checkpoint when recovery would have to read too much; the flusher completes it.
    fn take_checkpoint_if_due(&mut self) {
        let max = self.shared.dir.config.recovery_bytes_max;
        let in_directory = self.shared.dir.unsaved_bytes.load(Ordering::Relaxed);
        let due = self.unsaved_bytes >= max
            || (self.unsaved_bytes >= CHECKPOINT_BYTES_MIN.min(max)
                && in_directory >= max.saturating_mul(DIRECTORY_RECOVERY_FACTOR));
        if !due || self.shared.checkpoint.lock().is_some() {
            return;
        }
        if let Ok(indexes) = self.active.segment.indexes()
            && let Err(error) = self.active.builder.finish(indexes)
        {
            let error = DiskError::new("write index of", self.active.segment.path(), error);
            drop(self.shared.dir.health.write_failed(error));
        }
        let offset = self.shared.log_end();
        *self.shared.checkpoint.lock() = Some(Checkpoint {
            offset,
            snapshot: snapshot::encode(&self.producers),
            segment: Arc::clone(&self.active.segment),
            bytes: std::mem::take(&mut self.unsaved_bytes),
        });
        self.shared.dir.commits.request(&self.shared, offset, None);
    }
}

impl<'a> Run<'a> {
    fn add(&mut self, header: [u8; HEADER_SIZE], payload: &'a [u8], meta: BatchMeta) {
        self.headers.push(header);
        self.payloads.push(payload);
        self.bytes += meta.size as u64;
        self.metas.push(meta);
    }
}

/// The results that stood for the run say why it was not written.
fn fail_results(
    results: &mut [Result<AppendInfo, AppendError>],
    run: &mut Run<'_>,
    failure: &WriteFailure,
) {
    for place in run.results.drain(..) {
        results[place] = Err(failure.clone().into());
    }
    *run = Run::default();
}

fn control_of(meta: &BatchMeta, bytes: &[u8]) -> Option<ControlRecord> {
    if !meta.is_control {
        return None;
    }
    BatchView::parse(bytes)
        .ok()
        .and_then(|batch| first_control(&batch))
}

fn aborted_entry(
    event: &TransactionEvent,
    last_stable_after: impl Fn(&crate::producers::CompletedTransaction) -> Offset,
) -> Option<AbortedEntry> {
    match event {
        TransactionEvent::Completed(completed) if completed.aborted => Some(AbortedEntry {
            producer_id: completed.producer_id,
            first_offset: completed.first_offset,
            last_offset: completed.marker_offset,
            last_stable_offset: last_stable_after(completed),
        }),
        _ => None,
    }
}
