//! What happens to a partition between a stop and the first append.
//!
//! After a clean stop: a look at the end of the last segment and the producer snapshot, no scan.
//! Otherwise only the last segment is read, from the recovery point on, because every other segment
//! was synced whole before its successor came to be. Three rules:
//! - Above the recovery point the log ends before the first batch that is not whole and sound; the
//!   rest, torn or a zero-filled tail, is cut.
//! - What is kept above the recovery point is *written again* and synced before anything is reported
//!   durable: after a failed sync the page cache may hold, and call clean, what the disk does not.
//! - Below the recovery point nothing is ever cut. Damage there is reported and stays in the way of
//!   readers; the scan goes on behind it.

use std::sync::Arc;
use std::time::Duration;

use conveyor_record::{Offset, read_control_record};

use crate::config::LogConfig;
use crate::data_dir::DirShared;
use crate::disk::{DiskFile, OpenMode};
use crate::epochs::LeaderEpochs;
use crate::error::{Damage, DiskError, OpenError};
use crate::folder::{self, Listing};
use crate::index::AbortedEntry;
use crate::producers::{Producers, TransactionEvent, snapshot};
use crate::scan::{BatchScanner, ScanError};
use crate::segment::{IndexBuilder, Indexes, LOG, Segment, SegmentError, SegmentHome, read_header};
use crate::transactions::Transactions;

mod tail;

use tail::Tail;

/// What opening a log had to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The last stop was clean: nothing was scanned.
    pub clean: bool,
    /// Bytes of log read and checked.
    pub bytes_scanned: u64,
    /// Bytes cut behind the last whole batch, zero-filled tail not counted.
    pub bytes_truncated: u64,
    /// Where the log ends now.
    pub log_end_offset: Offset,
    /// What was found damaged below the recovery point; it is kept as it is and never served.
    pub damage: Vec<Damage>,
    /// How long it took.
    pub duration: Duration,
}

/// A log, ready for its owner.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) builder: IndexBuilder,
    /// Bytes above the recovery point.
    pub(crate) unsaved_bytes: u64,
    pub(crate) report: RecoveryReport,
}

/// Opens what lies in a partition's folder.
pub(crate) fn open(
    dir: &DirShared,
    home: &Arc<SegmentHome>,
    config: &LogConfig,
) -> Result<Opened, OpenError> {
    let started = dir.clock.elapsed();
    let mut listing = folder::tidy(home)?;
    let checkpointed = dir.checkpoints.recovery_point(&home.partition);
    let log_start = dir.checkpoints.log_start(&home.partition);
    remove_below(home, &mut listing, log_start)?;
    if listing.segments.is_empty() {
        // Offsets that were given out once must not be given out again.
        let base = checkpointed.max(log_start).unwrap_or(Offset::ZERO);
        create_segment_file(home, base)?;
        listing.segments.push(base);
    }
    let mut opened = if dir.was_clean() {
        open_clean(home, config, &listing, checkpointed)?
    } else {
        None
    };
    if opened.is_none() {
        opened = Some(recover(
            home,
            config,
            &listing,
            checkpointed,
            dir.clock.now_ms(),
        )?);
    }
    let Some(mut opened) = opened else {
        unreachable!("one of the two ways was taken")
    };
    let first = opened
        .segments
        .first()
        .map_or(Offset::ZERO, |segment| segment.base());
    opened.log_start = log_start.unwrap_or(first).max(first);
    opened.report.log_end_offset = opened.log_end;
    opened.report.duration = dir.clock.elapsed().saturating_sub(started);
    Ok(opened)
}

/// After a clean stop: everything is as the recovery point says, or `None` if it is not.
fn open_clean(
    home: &Arc<SegmentHome>,
    config: &LogConfig,
    listing: &Listing,
    recovery_point: Option<Offset>,
) -> Result<Option<Opened>, OpenError> {
    let Some(log_end) = recovery_point else {
        return Ok(None);
    };
    let segments = existing_segments(home, listing)?;
    let Some(active) = segments.last() else {
        return Ok(None);
    };
    match active.end_offset() {
        Ok(end) if end == log_end => {}
        Ok(_) | Err(SegmentError::Damaged { .. } | SegmentError::Removed) => return Ok(None),
        Err(SegmentError::Disk(error)) => return Err(error.into()),
    }
    let producers = if log_end == Offset::ZERO {
        Some(Producers::default())
    } else {
        snapshot::read(&*home.disk, &home.folder, log_end)?
    };
    let Some(producers) = producers else {
        return Ok(None);
    };
    let Ok(latest) = active.latest_timestamp() else {
        return Ok(None);
    };
    let Ok(epochs) = LeaderEpochs::read(&*home.disk, &home.folder) else {
        return Ok(None);
    };
    let transactions = open_transactions(&producers);
    Ok(Some(Opened {
        builder: IndexBuilder::resume(config.index_interval_bytes, latest),
        log_start: Offset::ZERO,
        log_end,
        recovery_point: log_end,
        producers,
        transactions,
        epochs,
        unsaved_bytes: 0,
        report: RecoveryReport {
            clean: true,
            ..RecoveryReport::default()
        },
        segments,
    }))
}

/// After an unclean stop.
fn recover(
    home: &Arc<SegmentHome>,
    config: &LogConfig,
    listing: &Listing,
    checkpointed: Option<Offset>,
    now_ms: i64,
) -> Result<Opened, OpenError> {
    let mut segments = existing_segments(home, listing)?;
    let Some(last) = segments.pop() else {
        unreachable!("a folder was given a segment")
    };
    // Every earlier segment was synced before this one came to be.
    let recovery_point = checkpointed.unwrap_or(Offset::ZERO).max(last.base());
    let mut epochs = read_epochs(home);
    let tail = Tail::recover(
        home,
        &last,
        recovery_point,
        config.index_interval_bytes,
        &mut epochs,
    )?;
    let Tail {
        active,
        successor,
        log_end,
        builder,
        scanned_from,
        scanned,
        truncated,
        damage,
    } = tail;
    segments.push(Arc::new(active));
    segments.extend(successor.map(Arc::new));
    remove_snapshots_beyond(home, &listing.snapshots, log_end)?;
    let mut report = RecoveryReport {
        clean: false,
        bytes_scanned: scanned,
        bytes_truncated: truncated,
        damage,
        ..RecoveryReport::default()
    };
    let rebuilt = rebuild_producers(
        home,
        &segments,
        &listing.snapshots,
        scanned_from,
        log_end,
        now_ms,
    )?;
    report.bytes_scanned += rebuilt.bytes_read.saturating_sub(scanned);
    let changed = epochs.truncate_to(log_end);
    if changed || epochs != read_epochs(home) {
        epochs.write(&*home.disk, &home.folder)?;
    }
    Ok(Opened {
        builder,
        log_start: Offset::ZERO,
        log_end,
        recovery_point: recovery_point.min(log_end),
        producers: rebuilt.producers,
        transactions: rebuilt.transactions,
        epochs,
        unsaved_bytes: scanned,
        report,
        segments,
    })
}

/// The producers after everything below `end`.
#[derive(Debug)]
pub(crate) struct RebuiltProducers {
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
    bytes_read: u64,
}

/// Reads the latest sound snapshot at or below `index_from` and applies the batches behind it.
/// Aborted transactions whose marker lies at or beyond `index_from` go into the transaction index.
pub(crate) fn rebuild_producers(
    home: &SegmentHome,
    segments: &[Arc<Segment>],
    snapshots: &[Offset],
    index_from: Offset,
    end: Offset,
    now_ms: i64,
) -> Result<RebuiltProducers, DiskError> {
    let mut from = segments
        .first()
        .map_or(Offset::ZERO, |segment| segment.base());
    let mut producers = Producers::default();
    let usable = snapshots
        .iter()
        .rev()
        .filter(|offset| **offset <= index_from.min(end) && **offset >= from);
    for offset in usable {
        if let Some(found) = snapshot::read(&*home.disk, &home.folder, *offset)? {
            (producers, from) = (found, *offset);
            break;
        }
        tracing::warn!(partition = %home.partition, %offset, "producer snapshot is damaged");
    }
    let mut rebuilt = RebuiltProducers {
        transactions: open_transactions(&producers),
        producers,
        bytes_read: 0,
    };
    let first = segments
        .partition_point(|segment| segment.base() <= from)
        .saturating_sub(1);
    for segment in &segments[first..] {
        match replay(&mut rebuilt, segment, from, index_from, now_ms) {
            Ok(()) => {}
            Err(SegmentError::Disk(error)) => return Err(error),
            Err(error) => tracing::error!(
                partition = %home.partition,
                segment = %segment.base(),
                ?error,
                "producer state is incomplete behind damage"
            ),
        }
    }
    rebuilt.producers.commit();
    Ok(rebuilt)
}

/// Applies the batches of one segment from `from` on.
fn replay(
    rebuilt: &mut RebuiltProducers,
    segment: &Segment,
    from: Offset,
    index_from: Offset,
    now_ms: i64,
) -> Result<(), SegmentError> {
    let end = segment.size();
    let Some(start) = segment.seek(from, end)? else {
        return Ok(());
    };
    let start = start.position;
    let file = segment.file()?;
    let mut scanner = BatchScanner::new(&**file, start, end);
    rebuilt.bytes_read += end - start;
    loop {
        let at = scanner.position();
        let batch = match scanner.next() {
            Ok(None) => return Ok(()),
            Ok(Some((_, batch))) => batch,
            Err(error) => return Err(crate::segment::scan_failed(segment, error, at, from)),
        };
        let Ok(meta) = conveyor_record::validate_stored(batch.bytes(), Offset::ZERO) else {
            return Err(segment.damaged(at, batch.header().base_offset, "batch is damaged"));
        };
        let control = if meta.is_control {
            first_control(&batch)
        } else {
            None
        };
        match rebuilt.producers.apply(&meta, control, now_ms) {
            Some(TransactionEvent::Completed(completed)) => {
                if completed.aborted && completed.marker_offset >= index_from {
                    let entry = AbortedEntry {
                        producer_id: completed.producer_id,
                        first_offset: completed.first_offset,
                        last_offset: completed.marker_offset,
                        last_stable_offset: rebuilt.transactions.last_stable_after(&completed),
                    };
                    segment
                        .indexes()?
                        .transaction
                        .append(entry)
                        .map_err(|error| segment.disk_error("write index of", error))?;
                }
                rebuilt
                    .transactions
                    .apply(TransactionEvent::Completed(completed));
            }
            Some(event) => rebuilt.transactions.apply(event),
            None => {}
        }
        rebuilt.producers.commit();
    }
}

/// What the record of a control batch says; `None` if it is not understood.
pub(crate) fn first_control(
    batch: &conveyor_record::BatchView<'_>,
) -> Option<conveyor_record::ControlRecord> {
    let mut decompressor = conveyor_record::Decompressor::new();
    let mut records = batch.records(&mut decompressor, CONTROL_BYTES_MAX).ok()?;
    let record = records.next()?.ok()?;
    read_control_record(&record).ok()
}

/// The most bytes of records in a control batch.
const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// The open transactions that a producer state implies.
pub(crate) fn open_transactions(producers: &Producers) -> Transactions {
    let mut transactions = Transactions::default();
    for (id, producer) in producers.iter() {
        if let Some(first_offset) = producer.transaction_start {
            transactions.apply(TransactionEvent::Began {
                producer_id: *id,
                first_offset,
            });
        }
    }
    transactions
}

/// A damaged epoch checkpoint is rebuilt from what the scan sees; older epochs are lost to it, which
/// makes a replica truncate further than it must, never less.
fn read_epochs(home: &SegmentHome) -> LeaderEpochs {
    LeaderEpochs::read(&*home.disk, &home.folder).unwrap_or_else(|error| {
        tracing::error!(partition = %home.partition, %error, "leader epochs are rebuilt");
        LeaderEpochs::default()
    })
}

pub(crate) fn existing_segments(
    home: &Arc<SegmentHome>,
    listing: &Listing,
) -> Result<Vec<Arc<Segment>>, DiskError> {
    let mut segments = Vec::with_capacity(listing.segments.len());
    for base in &listing.segments {
        let path = home.path(*base, LOG);
        let info = home
            .disk
            .info(&path)
            .map_err(|error| DiskError::new("inspect", &path, error))?;
        let size = info.map_or(0, |info| info.len);
        segments.push(Arc::new(Segment::existing(home, *base, size)));
    }
    Ok(segments)
}

/// Removes segments that lie wholly below the log start: retention was interrupted.
fn remove_below(
    home: &SegmentHome,
    listing: &mut Listing,
    log_start: Option<Offset>,
) -> Result<(), DiskError> {
    let Some(log_start) = log_start else {
        return Ok(());
    };
    let keep_from = listing
        .segments
        .partition_point(|base| *base <= log_start)
        .saturating_sub(1);
    if keep_from == 0 {
        return Ok(());
    }
    for base in listing.segments.drain(..keep_from) {
        folder::remove_segment(home, base)
            .map_err(|error| DiskError::new("remove", &home.path(base, LOG), error))?;
    }
    Ok(())
}

/// Removes the snapshots above `end` and makes the folder durable: one that came back after a crash
/// would speak of records that others have replaced.
pub(crate) fn remove_snapshots_beyond(
    home: &SegmentHome,
    snapshots: &[Offset],
    end: Offset,
) -> Result<(), DiskError> {
    for offset in snapshots.iter().filter(|offset| **offset > end) {
        let path = snapshot::path(&home.folder, *offset);
        match home.disk.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::new("remove", &path, error));
            }
            _ => {}
        }
    }
    home.disk
        .sync_dir(&home.folder)
        .map_err(|error| DiskError::new("sync", &home.folder, error))
}

/// Creates an empty segment file, durably.
pub(crate) fn create_segment_file(home: &SegmentHome, base: Offset) -> Result<(), DiskError> {
    let path = home.path(base, LOG);
    home.disk
        .open(&path, OpenMode::Truncate)
        .and_then(|_| home.disk.sync_dir(&home.folder))
        .map_err(|error| DiskError::new("create", &path, error))
}

impl Segment {
    /// Offset behind the last batch: a walk over headers from the last index entry to exactly the
    /// end of the file.
    pub(crate) fn end_offset(&self) -> Result<Offset, SegmentError> {
        let end = self.size();
        if end == 0 {
            return Ok(self.base());
        }
        let entry = self
            .indexes()?
            .offset
            .last()
            .map_err(|error| self.disk_error("read index of", error))?;
        let mut position = entry.map_or(0, |entry| entry.position);
        let mut expected = self.base();
        let file = self.file()?;
        while position < end {
            let header = read_header(&**file, position, end)
                .map_err(|error| self.disk_error("read", error))?
                .map_err(|error| self.damaged(position, expected, error.to_string()))?;
            let misplaced = header.base_offset < expected || header.size() as u64 > end - position;
            if misplaced {
                return Err(self.damaged(position, expected, "batch is out of place"));
            }
            expected = header.next_offset();
            position += header.size() as u64;
        }
        Ok(expected)
    }
}

/// Writes the bytes of a range again, so that the kernel knows them as dirty.
pub(crate) fn rewrite(file: &dyn DiskFile, from: u64, to: u64) -> std::io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut position = from;
    let mut bytes = Vec::new();
    while position < to {
        bytes.clear();
        let len = PIECE.min(to - position) as usize;
        let read = file.read_at(position, &mut bytes, len)?;
        assert!(read == len, "file shrank while it was recovered");
        file.write_at(position, &bytes)?;
        position += len as u64;
    }
    Ok(())
}

/// The indexes of a segment, or none at all if they cannot be opened as they are.
pub(crate) fn open_or_create_indexes(
    home: &SegmentHome,
    base: Offset,
) -> Result<Indexes, DiskError> {
    let failed = |error| DiskError::new("open index of", &home.path(base, LOG), error);
    Indexes::open(home, base)
        .or_else(|_| Indexes::create(home, base, ""))
        .map_err(failed)
}

pub(crate) fn is_disk_error(
    error: ScanError,
) -> Result<conveyor_record::BatchError, std::io::Error> {
    match error {
        ScanError::Disk(error) => Err(error),
        ScanError::Invalid(error) => Ok(error),
    }
}
