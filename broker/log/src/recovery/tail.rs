//! Recovery of the last segment: where it ends, what is damaged, its indexes.

use std::sync::Arc;

use conveyor_record::{BatchHeader, BatchView, Offset, mutants, validate_stored};

use super::{create_segment_file, is_disk_error, open_or_create_indexes, rewrite};
use crate::disk::{DiskFile, OpenMode};
use crate::epochs::LeaderEpochs;
use crate::error::{Damage, DiskError};
use crate::scan::{BatchScanner, find_batch};
use crate::segment::{IndexBuilder, Indexes, LOG, Segment, SegmentHome, read_header};

/// The last segment, recovered.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) active: Segment,
    /// An empty segment that takes over, because damage makes the end of `active` unsure.
    pub(super) successor: Option<Segment>,
    pub(super) log_end: Offset,
    pub(super) builder: IndexBuilder,
    /// Offset from which on the batches were read, and indexed again.
    pub(super) scanned_from: Offset,
    pub(super) scanned: u64,
    pub(super) truncated: u64,
    pub(super) damage: Vec<Damage>,
}

/// A scan under way.
struct Scan<'a> {
    home: &'a SegmentHome,
    file: Arc<dyn DiskFile>,
    file_len: u64,
    base: Offset,
    recovery_point: Offset,
    indexes: Indexes,
    builder: IndexBuilder,
    /// Where the next batch is expected, and its least offset.
    position: u64,
    expected: Offset,
    damage: Vec<Damage>,
    /// Offsets have no gaps here: see `SegmentHome::gaps_below`.
    gapless: bool,
    /// The batch before the present position is sound, so `expected` is exact.
    exact: bool,
    learn_epochs: bool,
}

impl Tail {
    pub(super) fn recover(
        home: &Arc<SegmentHome>,
        last: &Segment,
        recovery_point: Offset,
        interval: u64,
        epochs: &mut LeaderEpochs,
    ) -> Result<Self, DiskError> {
        let base = last.base();
        let path = home.path(base, LOG);
        let failed = |operation| {
            let path = path.clone();
            move |error| DiskError::new(operation, &path, error)
        };
        let file = home
            .disk
            .open(&path, OpenMode::Write)
            .map_err(failed("open"))?;
        let file_len = file.size().map_err(failed("inspect"))?;
        let indexes = open_or_create_indexes(home, base)?;
        // Before anything is looked up: a binary search over what a crash left behind finds anything.
        indexes
            .keep_sound_below(recovery_point)
            .map_err(failed("cut index of"))?;
        let start =
            locate(&*file, file_len, &indexes, base, recovery_point).map_err(failed("read"))?;
        let (position, expected) = start.unwrap_or((0, base));
        indexes
            .offset
            .truncate_to(expected, position)
            .map_err(failed("cut index of"))?;
        indexes
            .time
            .truncate_to(expected)
            .map_err(failed("cut index of"))?;
        indexes
            .transaction
            .truncate_to(expected)
            .map_err(failed("cut index of"))?;
        let latest = indexes
            .latest_before(&*file, position)
            .map_err(failed("read"))?;
        let mut scan = Scan {
            home,
            file: Arc::clone(&file),
            file_len,
            base,
            recovery_point,
            indexes,
            builder: IndexBuilder::resume(interval, latest),
            position,
            expected,
            damage: Vec::new(),
            gapless: last.is_gapless(),
            exact: true,
            learn_epochs: epochs.latest().is_none(),
        };
        let lost_end = scan.run(epochs).map_err(failed("recover"))?;
        let truncated = torn_bytes(&*file, scan.position, file_len).map_err(failed("read"))?;
        let end = scan.position;
        let trusts_the_cache = mutants::on("recovered-tail-not-synced");
        if lost_end.is_none() && !trusts_the_cache {
            rewrite(&*file, position, end).map_err(failed("rewrite"))?;
            if end != file_len {
                file.set_len(end).map_err(failed("cut"))?;
            }
        }
        // Even if nothing changed: the length may be one that the last process set and never synced.
        if !trusts_the_cache {
            file.sync_data().map_err(failed("sync"))?;
        }
        let Scan {
            indexes,
            builder,
            damage,
            expected: log_end,
            ..
        } = scan;
        let size = lost_end.unwrap_or(end);
        let active = Segment::with_file(home, base, file, size, indexes);
        active.set_latest_timestamp(builder.latest());
        let mut tail = Self {
            active,
            successor: None,
            log_end,
            builder,
            scanned_from: expected,
            scanned: end - position,
            truncated: if lost_end.is_some() { 0 } else { truncated },
            damage,
        };
        if lost_end.is_some() {
            tail.succeed(home, recovery_point, interval)?;
        }
        Ok(tail)
    }

    /// Leaves the damaged segment as it is and goes on in a new one, at the first offset that was
    /// surely not given out.
    fn succeed(
        &mut self,
        home: &Arc<SegmentHome>,
        recovery_point: Offset,
        interval: u64,
    ) -> Result<(), DiskError> {
        let base = self.log_end.max(recovery_point);
        create_segment_file(home, base)?;
        self.successor = Some(Segment::existing(home, base, 0));
        self.log_end = base;
        self.builder = IndexBuilder::new(interval);
        Ok(())
    }
}

/// Position of the batch that begins exactly at `recovery_point`; `None` if the way there is damaged.
fn locate(
    file: &dyn DiskFile,
    file_len: u64,
    indexes: &Indexes,
    base: Offset,
    recovery_point: Offset,
) -> std::io::Result<Option<(u64, Offset)>> {
    if recovery_point <= base {
        return Ok(Some((0, base)));
    }
    // Entries above the recovery point were perhaps never synced; those below were.
    let entry = indexes
        .offset
        .lookup(recovery_point - 1)?
        .map(|(_, entry)| entry);
    let mut position = 0;
    if let Some(entry) = entry
        && let Ok(header) = read_header(file, entry.position, file_len)?
        && header.last_offset() == entry.offset
    {
        position = entry.position;
    }
    let mut expected = base;
    while position < file_len && expected < recovery_point {
        let Ok(header) = read_header(file, position, file_len)? else {
            return Ok(None);
        };
        if header.base_offset < expected || header.size() as u64 > file_len - position {
            return Ok(None);
        }
        expected = header.next_offset();
        position += header.size() as u64;
    }
    Ok((expected == recovery_point).then_some((position, expected)))
}

impl Scan<'_> {
    /// Reads on to the end of the sound batches. Returns a size that keeps the damage in view if the
    /// end is lost in damage below the recovery point.
    fn run(&mut self, epochs: &mut LeaderEpochs) -> std::io::Result<Option<u64>> {
        let file = Arc::clone(&self.file);
        let mut scanner = BatchScanner::new(&*file, self.position, self.file_len);
        loop {
            let fault = match scanner.next() {
                Ok(None) if self.expected >= self.recovery_point => return Ok(None),
                Ok(None) => "file ends below the recovery point".to_owned(),
                Ok(Some((position, batch))) => match self.check(&batch) {
                    Ok(()) => {
                        self.take(&batch, position, epochs)?;
                        continue;
                    }
                    Err(fault) => fault,
                },
                Err(error) => is_disk_error(error)?.to_string(),
            };
            if self.expected >= self.recovery_point {
                return Ok(None);
            }
            self.report(fault);
            match self.find_next()? {
                Some(position) => {
                    self.exact = false;
                    self.position = position;
                    scanner.jump_to(position);
                }
                None => return Ok(Some(self.damaged_size()?)),
            }
        }
    }

    fn check(&self, batch: &BatchView<'_>) -> Result<(), String> {
        let header = batch.header();
        validate_stored(batch.bytes(), self.expected).map_err(|error| error.to_string())?;
        if self.gapless && self.exact && header.base_offset > self.expected {
            return Err(format!(
                "batch has base offset {}, expected {}",
                header.base_offset, self.expected
            ));
        }
        if header.last_offset() - self.base > i64::from(i32::MAX) {
            return Err("offset is beyond what a segment holds".to_owned());
        }
        Ok(())
    }

    fn take(
        &mut self,
        batch: &BatchView<'_>,
        position: u64,
        epochs: &mut LeaderEpochs,
    ) -> std::io::Result<()> {
        let header = batch.header();
        // The checkpoint is written before the first batch of an epoch, so it knows better than a
        // header field that no CRC covers. Only where there is none are the batches asked.
        if self.learn_epochs {
            epochs.assign(header.leader_epoch, header.base_offset);
        }
        self.builder.add(&self.indexes, header, position)?;
        self.expected = header.next_offset();
        self.exact = true;
        self.position = position + header.size() as u64;
        Ok(())
    }

    fn report(&mut self, what: String) {
        let damage = Damage {
            partition: self.home.partition.clone(),
            segment: self.base,
            position: self.position,
            offset: self.expected,
            what,
        };
        tracing::error!(%damage, "log is damaged below the recovery point");
        self.damage.push(damage);
    }

    /// The next sound batch behind the one at the present position.
    fn find_next(&self) -> std::io::Result<Option<u64>> {
        let expected = self.expected;
        let accepts = |header: &BatchHeader| {
            header.base_offset >= expected
                && header.last_offset() - self.base <= i64::from(i32::MAX)
        };
        // If only the content is damaged, the next batch begins where the header says.
        if let Ok(header) = read_header(&*self.file, self.position, self.file_len)? {
            let next = self.position + header.size() as u64;
            let at_next = find_batch(&*self.file, next, self.file_len, accepts)?;
            if at_next == Some(next) {
                return Ok(at_next);
            }
        }
        find_batch(&*self.file, self.position + 1, self.file_len, accepts)
    }

    /// A size that includes everything that is not zero, and at least a byte of the damage, so that
    /// readers run into it.
    fn damaged_size(&self) -> std::io::Result<u64> {
        let torn = torn_bytes(&*self.file, self.position, self.file_len)?;
        Ok(self.position + torn.max(1))
    }
}

/// Bytes from `from` to the last one that is not zero; looks no further than the first long stretch
/// of zeros.
fn torn_bytes(file: &dyn DiskFile, from: u64, end: u64) -> std::io::Result<u64> {
    const STRETCH: u64 = 1 << 20;
    let mut last = from;
    let mut position = from;
    let mut piece = Vec::new();
    while position < end && position - last < STRETCH {
        piece.clear();
        let read = file.read_at(
            position,
            &mut piece,
            (256 * 1024).min(end - position) as usize,
        )?;
        if read == 0 {
            break;
        }
        if let Some(index) = piece.iter().rposition(|byte| *byte != 0) {
            last = position + index as u64 + 1;
        }
        position += read as u64;
    }
    Ok(last - from)
}
