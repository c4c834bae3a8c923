//! Look-ups by time: the time index gives a place to start, the records decide.

use conveyor_record::{BatchView, Decompressor, LeaderEpoch, Offset};

use super::{LogReader, TimestampOffset, first_segment};
use crate::error::ReadError;
use crate::scan::BatchScanner;
use crate::segment::{Expected, Located, Segment, SegmentError, scan_failed};

/// The most bytes that a batch may decompress to when it is opened for its timestamps.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

impl LogReader {
    /// The first record with a timestamp of at least `timestamp_ms`, below `upper_bound`.
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        upper_bound: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let start = self.shared.log_start();
        let segments = self.shared.segments();
        for segment in &segments[first_segment(&segments, start)..] {
            let found = find_in_segment(segment, timestamp_ms, start, upper_bound)
                .map_err(|error| segment.read_error(error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the greatest timestamp, below `upper_bound`.
    pub fn offset_of_max_timestamp(
        &self,
        upper_bound: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let start = self.shared.log_start();
        let segments = self.shared.segments();
        let mut greatest: Option<TimestampOffset> = None;
        for segment in &segments[first_segment(&segments, start)..] {
            if segment.base() >= upper_bound {
                break;
            }
            // The greatest of the segment is a bound; below the log start or beyond the upper bound
            // it may not be there, so the records decide.
            let latest = segment
                .latest_timestamp()
                .map_err(|error| segment.read_error(error))?;
            let beaten = |bound: i64| greatest.is_some_and(|found| found.timestamp_ms >= bound);
            if latest.is_none_or(|latest| beaten(latest.timestamp_ms)) {
                continue;
            }
            let found = greatest_in_segment(segment, start, upper_bound)
                .map_err(|error| segment.read_error(error))?;
            if let Some(found) = found
                && !beaten(found.timestamp_ms)
            {
                greatest = Some(found);
            }
        }
        Ok(greatest)
    }

    /// Timestamp of the first record at or after `offset`, `None` at the log end. For lag in seconds.
    pub fn timestamp_at(&self, offset: Offset) -> Result<Option<TimestampOffset>, ReadError> {
        let end = self.shared.log_end();
        self.check_range(offset, end)?;
        let mut from = offset;
        // A batch that compaction has emptied behind `offset` holds no record: go on behind it.
        while from < end {
            let chunk = self.read(from, end, 1, true)?;
            if chunk.batch_count == 0 {
                return Ok(None);
            }
            let batch = BatchView::parse(&chunk.bytes);
            if let Some(found) = batch
                .ok()
                .and_then(|batch| first_record(&batch, |record| record.offset >= offset))
            {
                return Ok(Some(found));
            }
            from = chunk.next_offset;
        }
        Ok(None)
    }
}

fn find_in_segment(
    segment: &Segment,
    timestamp_ms: i64,
    start: Offset,
    upper_bound: Offset,
) -> Result<Option<TimestampOffset>, SegmentError> {
    let latest = segment.latest_timestamp()?;
    if latest.is_none_or(|latest| latest.timestamp_ms < timestamp_ms) {
        return Ok(None);
    }
    let entry = segment
        .indexes()?
        .time
        .lookup(timestamp_ms)
        .map_err(|error| segment.disk_error("read index of", error))?;
    // Everything before the entry's batch is older than the entry, so older than what we look for.
    let from = entry.map_or(start, |entry| entry.offset.max(start));
    scan_from(segment, from, upper_bound, |batch| {
        if batch.header().max_timestamp_ms < timestamp_ms {
            return None;
        }
        first_record(batch, |record| {
            record.offset >= start && record.timestamp_ms >= timestamp_ms
        })
    })
}

fn greatest_in_segment(
    segment: &Segment,
    start: Offset,
    upper_bound: Offset,
) -> Result<Option<TimestampOffset>, SegmentError> {
    let mut greatest: Option<TimestampOffset> = None;
    let latest = segment.latest_timestamp()?;
    // Where the batch with the greatest timestamp can be seen whole, there is nothing else to read.
    let sure = latest.filter(|latest| latest.offset < upper_bound && latest.offset >= start);
    let from = sure.map_or(start, |latest| latest.offset);
    scan_from(segment, from, upper_bound, |batch| {
        let bound = greatest.map_or(-1, |found| found.timestamp_ms);
        if batch.header().max_timestamp_ms > bound {
            let later = first_greatest_record(batch, start);
            if later.is_some_and(|later| later.timestamp_ms > bound) {
                greatest = later;
            }
        }
        // With a sure batch the first one is the answer.
        sure.and(greatest)
    })?;
    Ok(greatest)
}

/// Asks every batch from the one that holds `from` on, below `upper_bound`, until one has an answer.
fn scan_from<T>(
    segment: &Segment,
    from: Offset,
    upper_bound: Offset,
    mut ask: impl FnMut(&BatchView<'_>) -> Option<T>,
) -> Result<Option<T>, SegmentError> {
    let end = segment.size();
    let Some(Located {
        position,
        mut expected,
    }) = segment.seek(from, end)?
    else {
        return Ok(None);
    };
    let file = segment.file()?;
    let mut scanner = BatchScanner::new(&**file, position, end);
    loop {
        let at = scanner.position();
        match scanner.next() {
            Ok(None) => return Ok(None),
            Ok(Some((_, batch))) => {
                if batch.header().last_offset() >= upper_bound {
                    return Ok(None);
                }
                batch.verify_crc().map_err(|error| {
                    segment.damaged(at, batch.header().base_offset, error.to_string())
                })?;
                segment.check_place(batch.header(), at, end, expected)?;
                expected = Expected::exactly(batch.header().next_offset());
                if let Some(answer) = ask(&batch) {
                    return Ok(Some(answer));
                }
            }
            Err(error) => return Err(scan_failed(segment, error, at, expected.offset)),
        }
    }
}

/// The first record of a batch that is wanted. A batch that cannot be opened has none: its CRC is
/// right, so these are the producer's own bytes, and consumers will report them.
fn first_record(
    batch: &BatchView<'_>,
    wanted: impl Fn(&conveyor_record::RecordView<'_>) -> bool,
) -> Option<TimestampOffset> {
    let mut decompressor = Decompressor::new();
    let records = batch
        .records(&mut decompressor, DECOMPRESSED_BYTES_MAX)
        .ok()?;
    let record = records
        .map_while(Result::ok)
        .find(|record| wanted(record))?;
    Some(answer(
        record.timestamp_ms,
        record.offset,
        batch.header().leader_epoch,
    ))
}

fn first_greatest_record(batch: &BatchView<'_>, start: Offset) -> Option<TimestampOffset> {
    let mut decompressor = Decompressor::new();
    let records = batch
        .records(&mut decompressor, DECOMPRESSED_BYTES_MAX)
        .ok()?;
    let mut greatest: Option<TimestampOffset> = None;
    for record in records
        .map_while(Result::ok)
        .filter(|record| record.offset >= start)
    {
        if greatest.is_none_or(|found| record.timestamp_ms > found.timestamp_ms) {
            greatest = Some(answer(
                record.timestamp_ms,
                record.offset,
                batch.header().leader_epoch,
            ));
        }
    }
    greatest
}

const fn answer(timestamp_ms: i64, offset: Offset, leader_epoch: LeaderEpoch) -> TimestampOffset {
    TimestampOffset {
        timestamp_ms,
        offset,
        leader_epoch,
    }
}
