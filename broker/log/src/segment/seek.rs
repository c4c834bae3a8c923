//! From an offset to whole batches: index, short walk over headers, one positional read.

use bytes::Bytes;
use conveyor_record::{BatchError, BatchHeader, BatchView, HEADER_SIZE, Offset};

use super::{Segment, SegmentError};
use crate::disk::DiskFile;
use crate::scan::find_batch;

/// Where recent reads ended: the next read of the same consumer starts there without a look-up.
#[derive(Debug, Default)]
pub(super) struct RecentEnds {
    ends: [Option<(Offset, u64)>; 8],
    next: usize,
}

impl RecentEnds {
    fn position_of(&self, offset: Offset) -> Option<u64> {
        self.ends
            .iter()
            .flatten()
            .find(|(end, _)| *end == offset)
            .map(|(_, position)| *position)
    }

    fn note(&mut self, offset: Offset, position: u64) {
        if self.position_of(offset).is_none() {
            self.ends[self.next] = Some((offset, position));
            self.next = (self.next + 1) % self.ends.len();
        }
    }
}

/// Whole batches of one segment.
#[derive(Debug)]
pub(crate) struct SegmentRead {
    pub(crate) bytes: Bytes,
    pub(crate) first_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) batch_count: usize,
}

/// Where the batch begins that was looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    pub(crate) position: u64,
    /// What its base offset must be.
    pub(crate) expected: Expected,
}

/// What a base offset must be: the CRC does not cover it, but its neighbours tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Not less than this.
    pub(crate) offset: Offset,
    /// The batch before is known to end here: without gaps, exactly this.
    pub(crate) exact: bool,
}

impl Expected {
    pub(crate) const fn exactly(offset: Offset) -> Self {
        Self {
            offset,
            exact: true,
        }
    }

    pub(crate) const fn at_least(offset: Offset) -> Self {
        Self {
            offset,
            exact: false,
        }
    }
}

/// What limits a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    /// Batches that reach this offset are left out.
    pub(crate) upper_bound: Offset,
    pub(crate) max_bytes: usize,
    /// The first batch comes whole even if it is larger than `max_bytes`.
    pub(crate) min_one_batch: bool,
}

/// Headers are read in pieces of this size while batches are small.
const HEADER_WINDOW: usize = 4096;

impl Segment {
    /// Batches from the one that holds `from`, or the first behind it; `None` if there is none in
    /// this segment. The bytes are empty when the limits leave nothing.
    pub(crate) fn read(
        &self,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Option<SegmentRead>, SegmentError> {
        let end = self.size();
        let Some(mut located) = self.seek(from, end)? else {
            return Ok(None);
        };
        loop {
            match self.read_at(located, from, end, limits) {
                Err(SegmentError::Damaged {
                    position,
                    offset,
                    what,
                }) if offset < from => {
                    // The damaged header may have claimed offsets that others hold.
                    let number = self.entries_up_to(from)?;
                    let resumed = self.resume_behind(position, offset, from, number, end)?;
                    let found = resumed.map(|position| Located {
                        position,
                        expected: Expected::at_least(offset),
                    });
                    let found = match found {
                        Some(start) => self.walk_to(from, start, end)?,
                        None => None,
                    };
                    let Some(found) = found else {
                        return Err(SegmentError::Damaged {
                            position,
                            offset,
                            what,
                        });
                    };
                    assert!(
                        found.position > position,
                        "{}: no way around damage",
                        self.base()
                    );
                    located = found;
                }
                other => return other.map(Some),
            }
        }
    }

    fn read_at(
        &self,
        located: Located,
        from: Offset,
        end: u64,
        limits: ReadLimits,
    ) -> Result<SegmentRead, SegmentError> {
        let position = located.position;
        let file = self.file()?;
        let mut bytes = Vec::new();
        let wanted = limits.max_bytes.clamp(
            HEADER_SIZE,
            (end - position).max(HEADER_SIZE as u64) as usize,
        );
        self.fill(
            &**file,
            &mut bytes,
            position,
            wanted.min((end - position) as usize),
        )?;
        if let Err(BatchError::Truncated(cut)) = BatchView::parse(&bytes)
            && limits.min_one_batch
            && cut.needed as u64 <= end - position
        {
            bytes.clear();
            self.fill(&**file, &mut bytes, position, cut.needed)?;
        }
        let chosen = self.choose(&bytes, from, located, end, limits)?;
        bytes.truncate(chosen.size);
        let bytes = Bytes::from(bytes);
        if chosen.batch_count > 0
            && let Some(mut ends) = self.recent_ends.try_lock()
        {
            ends.note(chosen.next_offset, position + chosen.size as u64);
        }
        Ok(SegmentRead {
            bytes,
            first_offset: chosen.first_offset,
            next_offset: chosen.next_offset,
            batch_count: chosen.batch_count,
        })
    }

    /// How many bytes a read from `from` up to `bound` would bring, by the index alone: never too few,
    /// and too many by no more than lies between two of its entries at either end.
    pub(crate) fn bytes_between(&self, from: Offset, bound: Offset) -> Result<u64, SegmentError> {
        let size = self.size();
        let index = &self.indexes()?.offset;
        let lookup = |target| {
            let found = index.lookup(target);
            found.map_err(|error| self.disk_error("read index of", error))
        };
        let known = self.recent_ends.lock().position_of(from);
        let begin = match known {
            Some(position) => position,
            None => lookup(from)?.map_or(0, |(_, entry)| entry.position),
        };
        // The first entry at or behind the bound: entries are at last offsets.
        let number = lookup(Offset(bound.value() - 1))?.map_or(0, |(number, _)| number);
        let end = self
            .index_entry(number)?
            .map_or(size, |entry| entry.position);
        Ok(end.min(size).saturating_sub(begin))
    }

    /// The first batch whose last offset is at least `target`; `None` if there is none below `end`.
    pub(crate) fn seek(&self, target: Offset, end: u64) -> Result<Option<Located>, SegmentError> {
        if let Some(position) = self.recent_ends.lock().position_of(target)
            && position < end
        {
            return Ok(Some(Located {
                position,
                expected: Expected::exactly(target),
            }));
        }
        if target <= self.base() {
            let first = Located {
                position: 0,
                expected: Expected::exactly(self.base()),
            };
            return Ok((end > 0).then_some(first));
        }
        let (start, number) = self.start_by_index(target, end)?;
        let mut start = start;
        loop {
            match self.walk_to(target, start, end) {
                Err(SegmentError::Damaged {
                    position,
                    offset,
                    what,
                }) => {
                    let resumed = self.resume_behind(position, offset, target, number, end)?;
                    let Some(resumed) = resumed else {
                        return Err(SegmentError::Damaged {
                            position,
                            offset,
                            what,
                        });
                    };
                    assert!(resumed > position, "{}: no way around damage", self.base());
                    start = Located {
                        position: resumed,
                        expected: Expected::at_least(offset),
                    };
                }
                other => return other,
            }
        }
    }

    /// The first sound batch behind damage that does not lie beyond `target`: what is good stays
    /// readable. Looks no further than the next index entry.
    fn resume_behind(
        &self,
        damage: u64,
        offset: Offset,
        target: Offset,
        number: usize,
        end: u64,
    ) -> Result<Option<u64>, SegmentError> {
        let next_entry = self
            .index_entry(number)?
            .filter(|entry| entry.position > damage);
        let limit = next_entry.map_or(end, |entry| entry.position).min(end);
        let file = self.file()?;
        let accepts = |header: &BatchHeader| (offset..=target).contains(&header.base_offset);
        let found = find_batch(&**file, damage + 1, limit, accepts)
            .map_err(|error| self.disk_error("read", error))?;
        if found.is_some() {
            return Ok(found);
        }
        let Some(entry) = next_entry.filter(|entry| entry.position < end) else {
            return Ok(None);
        };
        let header = self.header_at(entry.position, end)?;
        let reaches = header.is_ok_and(|header| {
            header.base_offset <= target && header.last_offset() == entry.offset
        });
        Ok(reaches.then_some(entry.position))
    }

    /// Where to start looking for `target`: an index entry that holds what it promises, or 0. Also
    /// the number of the index entry that follows.
    fn start_by_index(&self, target: Offset, end: u64) -> Result<(Located, usize), SegmentError> {
        let from_start = Located {
            position: 0,
            expected: Expected::exactly(self.base()),
        };
        // The entry's own batch has been looked at when this returns, so if it ends before the target
        // the way starts behind it.
        let found = self
            .indexes()?
            .offset
            .lookup(target)
            .map_err(|error| self.disk_error("read index of", error))?;
        let Some((number, entry)) = found else {
            return Ok((from_start, 0));
        };
        if entry.position < end
            && let Ok(header) = self.header_at(entry.position, end)?
            && header.last_offset() == entry.offset
            && header.base_offset >= self.base()
        {
            let start = if entry.offset < target {
                Located {
                    position: entry.position + header.size() as u64,
                    expected: Expected::exactly(header.next_offset()),
                }
            } else {
                Located {
                    position: entry.position,
                    expected: Expected::at_least(self.base()),
                }
            };
            return Ok((start, number));
        }
        if !self.is_removed() {
            tracing::warn!(
                partition = %self.home().partition,
                segment = %self.base(),
                offset = %entry.offset,
                position = entry.position,
                "index entry leads to no such batch; reading the segment from its start"
            );
        }
        Ok((from_start, number))
    }

    /// Number of index entries at or below `target`.
    fn entries_up_to(&self, target: Offset) -> Result<usize, SegmentError> {
        let found = self
            .indexes()?
            .offset
            .lookup(target)
            .map_err(|error| self.disk_error("read index of", error))?;
        Ok(found.map_or(0, |(number, _)| number))
    }

    fn index_entry(
        &self,
        number: usize,
    ) -> Result<Option<crate::index::OffsetEntry>, SegmentError> {
        self.indexes()?
            .offset
            .get(number)
            .map_err(|error| self.disk_error("read index of", error))
    }

    pub(crate) fn header_at(
        &self,
        position: u64,
        end: u64,
    ) -> Result<Result<BatchHeader, BatchError>, SegmentError> {
        super::read_header(&**self.file()?, position, end)
            .map_err(|error| self.disk_error("read", error))
    }

    /// Walks over headers from the batch at `start` to the first one that reaches `target`.
    fn walk_to(
        &self,
        target: Offset,
        start: Located,
        end: u64,
    ) -> Result<Option<Located>, SegmentError> {
        let file = self.file()?;
        let Located {
            mut position,
            mut expected,
        } = start;
        let (mut window, mut window_start) = (Vec::new(), position);
        // Small at first: mostly the batch that is looked for is the first one, and large.
        let mut piece = HEADER_SIZE;
        while position < end {
            let inside = (position - window_start) as usize;
            if window.len() < inside + HEADER_SIZE {
                window.clear();
                window_start = position;
                self.fill(
                    &**file,
                    &mut window,
                    position,
                    piece.min((end - position) as usize),
                )?;
            }
            let header = BatchHeader::parse(&window[(position - window_start) as usize..])
                .map_err(|error| self.damaged(position, expected.offset, error.to_string()))?;
            self.check_place(&header, position, end, expected)?;
            if header.last_offset() >= target {
                return Ok(Some(Located { position, expected }));
            }
            position += header.size() as u64;
            expected = Expected::exactly(header.next_offset());
            piece = if header.size() < HEADER_WINDOW / 2 {
                HEADER_WINDOW
            } else {
                HEADER_SIZE
            };
        }
        Ok(None)
    }

    /// Whether a header can belong where it was found.
    pub(crate) fn check_place(
        &self,
        header: &BatchHeader,
        position: u64,
        end: u64,
        expected: Expected,
    ) -> Result<(), SegmentError> {
        let Expected {
            offset: expected,
            exact,
        } = expected;
        let misplaced = header.base_offset < expected
            || (exact && header.base_offset > expected && self.is_gapless());
        if misplaced {
            let what = format!(
                "batch has base offset {}, expected {expected}",
                header.base_offset
            );
            return Err(self.damaged(position, expected, what));
        }
        if header.size() as u64 > end - position {
            let what = format!(
                "batch of {} bytes reaches beyond the segment",
                header.size()
            );
            return Err(self.damaged(position, expected, what));
        }
        Ok(())
    }

    /// The whole, sound batches at the start of `bytes` that the limits allow.
    fn choose(
        &self,
        bytes: &[u8],
        from: Offset,
        located: Located,
        end: u64,
        limits: ReadLimits,
    ) -> Result<Chosen, SegmentError> {
        let Located {
            position,
            mut expected,
        } = located;
        let mut chosen = Chosen {
            size: 0,
            first_offset: from,
            next_offset: from,
            batch_count: 0,
        };
        while chosen.size < bytes.len() {
            let at = position + chosen.size as u64;
            let batch = match BatchView::parse(&bytes[chosen.size..]) {
                Ok(batch) => batch,
                // Cut by the limit of this read, not by the end of the segment.
                Err(BatchError::Truncated(cut)) if cut.needed as u64 <= end - at => break,
                Err(error) => {
                    return chosen.or_damage(self.damaged(
                        at,
                        expected.offset.max(from),
                        error.to_string(),
                    ));
                }
            };
            let header = batch.header();
            if let Err(error) = self.check_place(header, at, end, expected) {
                return chosen.or_damage(error);
            }
            let first = chosen.batch_count == 0;
            if header.last_offset() >= limits.upper_bound {
                // A damaged header may claim any end: without this look a reader would wait for ever.
                if first {
                    self.check_crc(&batch, at, expected.offset)?;
                    // Compaction has left nothing below the bound: that is progress too.
                    if header.base_offset >= limits.upper_bound {
                        chosen.next_offset = limits.upper_bound;
                    }
                }
                break;
            }
            if !first && chosen.size + batch.bytes().len() > limits.max_bytes {
                break;
            }
            if first && batch.bytes().len() > limits.max_bytes && !limits.min_one_batch {
                break;
            }
            if let Err(error) = self.check_crc(&batch, at, expected.offset) {
                return chosen.or_damage(error);
            }
            if first {
                if header.last_offset() < from {
                    return Err(self.damaged(
                        at,
                        from,
                        "batch lies before the offset that led to it",
                    ));
                }
                chosen.first_offset = header.base_offset;
            }
            chosen.size += batch.bytes().len();
            chosen.batch_count += 1;
            chosen.next_offset = header.next_offset();
            expected = Expected::exactly(header.next_offset());
        }
        Ok(chosen)
    }

    fn check_crc(
        &self,
        batch: &BatchView<'_>,
        position: u64,
        offset: Offset,
    ) -> Result<(), SegmentError> {
        batch
            .verify_crc()
            .map_err(|error| self.damaged(position, offset, error.to_string()))
    }

    fn fill(
        &self,
        file: &dyn DiskFile,
        out: &mut Vec<u8>,
        position: u64,
        len: usize,
    ) -> Result<(), SegmentError> {
        let read = file
            .read_at(position, out, len)
            .map_err(|error| self.disk_error("read", error))?;
        if read < len {
            let what = format!(
                "file ends at {}, inside the segment",
                position + read as u64
            );
            return Err(self.damaged(position, self.base(), what));
        }
        Ok(())
    }
}

/// Batches chosen so far.
struct Chosen {
    size: usize,
    first_offset: Offset,
    next_offset: Offset,
    batch_count: usize,
}

impl Chosen {
    /// What is good comes first; the next read meets the damage at its start and reports it.
    fn or_damage(self, error: SegmentError) -> Result<Self, SegmentError> {
        if self.batch_count > 0 && matches!(error, SegmentError::Damaged { .. }) {
            Ok(self)
        } else {
            Err(error)
        }
    }
}
