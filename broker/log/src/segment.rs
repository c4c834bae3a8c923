//! One segment: a `.log` file of batches and the indexes that lead into it.
//!
//! Segments are shared between the owner of the log and its readers. The owner writes the active
//! one, always at its end, and publishes the new size afterwards; everything below the size is never
//! changed in place. A segment that is truncated, compacted or deleted is marked as removed *before*
//! its files change and replaced by a new object, so that a reader who meets something odd can tell
//! "gone meanwhile" from "damaged". Closed segments open their files with the first use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use conveyor_record::{BatchError, BatchHeader, HEADER_SIZE, Offset};
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{Damage, DiskError, ReadError};
use crate::folder::TEMPORARY;
use crate::index::{
    Entries, MapBudget, OffsetEntry, OffsetIndex, TimeEntry, TimeIndex, TransactionIndex,
};
use crate::partition::TopicPartition;
use crate::scan::{BatchScanner, ScanError};

mod seek;

pub(crate) use seek::{Expected, Located, ReadLimits};

/// What all segments of a log share.
#[derive(Debug)]
pub(crate) struct SegmentHome {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) maps: Arc<MapBudget>,
    pub(crate) partition: TopicPartition,
    pub(crate) folder: PathBuf,
    /// Segments from this offset on have no gaps between their offsets: neither compaction nor a
    /// compacted leader has left any. There a base offset, which no CRC covers, is checked by its
    /// neighbours.
    pub(crate) gaps_below: AtomicI64,
}

impl SegmentHome {
    /// The path of a file of the segment that begins at `base`.
    pub(crate) fn path(&self, base: Offset, suffix: &str) -> PathBuf {
        self.folder.join(file_name(base, suffix))
    }
}

/// Kafka's name of a segment's file: the base offset in 20 digits.
pub(crate) fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}{suffix}", base.value())
}

pub(crate) const LOG: &str = ".log";
pub(crate) const OFFSET_INDEX: &str = ".index";
pub(crate) const TIME_INDEX: &str = ".timeindex";
pub(crate) const TRANSACTION_INDEX: &str = ".txnindex";
/// All files of a segment, the log first: without it the others mean nothing.
pub(crate) const SUFFIXES: [&str; 4] = [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX];

/// The indexes of one segment.
#[derive(Debug, Clone)]
pub(crate) struct Indexes {
    pub(crate) offset: OffsetIndex,
    pub(crate) time: TimeIndex,
    pub(crate) transaction: TransactionIndex,
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    home: Arc<SegmentHome>,
    base: Offset,
    path: PathBuf,
    file: OnceLock<Arc<dyn DiskFile>>,
    /// Bytes of whole batches; the file may have zeros behind them while the segment is active.
    size: AtomicU64,
    indexes: OnceLock<Indexes>,
    /// Held while the indexes are opened or rebuilt.
    indexes_opening: Mutex<()>,
    removed: AtomicBool,
    /// The first batch with the greatest timestamp, by its last offset. `None`: not looked up yet, or
    /// no batch has a timestamp.
    latest: Mutex<Option<TimeEntry>>,
    recent_ends: Mutex<seek::RecentEnds>,
}

/// Where something is wrong in a segment.
#[derive(Debug)]
pub(crate) enum SegmentError {
    Disk(DiskError),
    Damaged {
        position: u64,
        offset: Offset,
        what: String,
    },
    Removed,
}

impl Segment {
    /// A segment whose file holds `size` bytes of batches; nothing is opened yet.
    pub(crate) fn existing(home: &Arc<SegmentHome>, base: Offset, size: u64) -> Self {
        let path = home.path(base, LOG);
        Self::build(home, base, path, size)
    }

    /// A segment over an open file that may bear another name for now.
    pub(crate) fn with_file(
        home: &Arc<SegmentHome>,
        base: Offset,
        file: Arc<dyn DiskFile>,
        size: u64,
        indexes: Indexes,
    ) -> Self {
        let path = home.path(base, LOG);
        let segment = Self::build(home, base, path, size);
        // A fresh cell takes its value.
        drop(segment.file.set(file));
        drop(segment.indexes.set(indexes));
        segment
    }

    fn build(home: &Arc<SegmentHome>, base: Offset, path: PathBuf, size: u64) -> Self {
        Self {
            home: Arc::clone(home),
            base,
            path,
            file: OnceLock::new(),
            size: AtomicU64::new(size),
            indexes: OnceLock::new(),
            indexes_opening: Mutex::new(()),
            removed: AtomicBool::new(false),
            latest: Mutex::new(None),
            recent_ends: Mutex::default(),
        }
    }

    /// Whether each batch must begin exactly where the one before it ended.
    pub(crate) fn is_gapless(&self) -> bool {
        self.base.value() >= self.home.gaps_below.load(Ordering::Acquire)
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Publishes that the file holds `size` bytes of batches.
    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn home(&self) -> &Arc<SegmentHome> {
        &self.home
    }

    /// To be called before the files are cut, replaced or removed.
    pub(crate) fn mark_removed(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// The `.log` file, opened if it was not.
    pub(crate) fn file(&self) -> Result<&Arc<dyn DiskFile>, SegmentError> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let opened = self.home.disk.open(&self.path, OpenMode::Write);
        // The name may lead to a successor by now: the mark was set before the files changed.
        if self.is_removed() {
            return Err(SegmentError::Removed);
        }
        let file = opened.map_err(|error| self.disk_error("open", error))?;
        Ok(self.file.get_or_init(|| file))
    }

    /// The indexes, opened if they were not; rebuilt if they make no sense.
    pub(crate) fn indexes(&self) -> Result<&Indexes, SegmentError> {
        if let Some(indexes) = self.indexes.get() {
            return Ok(indexes);
        }
        let _opening = self.indexes_opening.lock();
        if let Some(indexes) = self.indexes.get() {
            return Ok(indexes);
        }
        let opened = self.open_indexes();
        if self.is_removed() {
            return Err(SegmentError::Removed);
        }
        let indexes = opened?;
        Ok(self.indexes.get_or_init(|| indexes))
    }

    fn open_indexes(&self) -> Result<Indexes, SegmentError> {
        let indexes = Indexes::open(&self.home, self.base)
            .map_err(|error| self.disk_error("open index of", error))?;
        let mut sound = indexes
            .look_sound(self.base, self.size())
            .map_err(|error| self.disk_error("read index of", error))?;
        if sound && self.size() > 0 && indexes.time.entries().len() == 0 {
            sound = self.has_no_timestamps()?;
        }
        if sound {
            Ok(indexes)
        } else {
            self.rebuild_indexes(indexes.transaction)
        }
    }

    /// Whether an empty time index may be right: the file is there and the first batch has no
    /// timestamp.
    fn has_no_timestamps(&self) -> Result<bool, SegmentError> {
        let read = |error| self.disk_error("read", error);
        let path = self.home.path(self.base, TIME_INDEX);
        if self.home.disk.info(&path).map_err(read)?.is_none() {
            return Ok(false);
        }
        let first = read_header(&**self.file()?, 0, self.size()).map_err(read)?;
        Ok(first.is_ok_and(|header| header.max_timestamp_ms < 0))
    }

    /// Reads the whole segment once and indexes it. The transaction index cannot be told from the
    /// segment alone and stays. The new files are made under temporary names: half of them would
    /// look sound, and understate the greatest timestamp.
    fn rebuild_indexes(&self, transaction: TransactionIndex) -> Result<Indexes, SegmentError> {
        tracing::warn!(partition = %self.home.partition, segment = %self.base, "rebuilding indexes");
        let indexes = Indexes::create_rebuilt(&self.home, self.base, transaction)
            .map_err(|error| self.disk_error("rebuild index of", error))?;
        let written = |result: io::Result<()>| match result
            .map_err(|error| self.disk_error("write index of", error))
        {
            // The entries stay in memory; the next start rebuilds them.
            Err(SegmentError::Disk(error)) if error.is_full() => Ok(()),
            other => other,
        };
        let file = self.file()?;
        let mut builder = IndexBuilder::new(REBUILD_INTERVAL_BYTES);
        let mut scanner = BatchScanner::new(&**file, 0, self.size());
        loop {
            match scanner.next() {
                Ok(Some((position, batch))) => {
                    written(builder.add(&indexes, batch.header(), position))?;
                }
                // Behind damage there is nothing that could be indexed; readers report it.
                Ok(None) | Err(ScanError::Invalid(_)) => break,
                Err(ScanError::Disk(error)) => return Err(self.disk_error("read", error)),
            }
        }
        written(builder.finish(&indexes))?;
        // The name may lead to a successor's files by now.
        if self.is_removed() {
            return Err(SegmentError::Removed);
        }
        written(indexes.keep_rebuilt(&self.home, self.base))?;
        Ok(indexes)
    }

    /// The first batch with the greatest timestamp, by its last offset; `None` if no batch has one.
    pub(crate) fn latest_timestamp(&self) -> Result<Option<TimeEntry>, SegmentError> {
        let known = *self.latest.lock();
        if known.is_some() || self.size() == 0 {
            return Ok(known);
        }
        let last = self
            .indexes()?
            .time
            .last()
            .map_err(|error| self.disk_error("read index of", error))?;
        *self.latest.lock() = last;
        Ok(last)
    }

    /// The greatest timestamp as the owner of the active segment knows it.
    pub(crate) fn set_latest_timestamp(&self, latest: Option<TimeEntry>) {
        *self.latest.lock() = latest;
    }

    pub(crate) fn disk_error(&self, operation: &'static str, error: io::Error) -> SegmentError {
        if self.is_removed() {
            return SegmentError::Removed;
        }
        SegmentError::Disk(DiskError::new(operation, &self.path, error))
    }

    pub(crate) fn damaged(
        &self,
        position: u64,
        offset: Offset,
        what: impl Into<String>,
    ) -> SegmentError {
        if self.is_removed() {
            return SegmentError::Removed;
        }
        SegmentError::Damaged {
            position,
            offset,
            what: what.into(),
        }
    }

    pub(crate) fn read_error(&self, error: SegmentError) -> ReadError {
        let partition = self.home.partition.clone();
        match error {
            SegmentError::Disk(source) => ReadError::Disk { partition, source },
            SegmentError::Removed => ReadError::SegmentRemoved {
                partition,
                segment: self.base,
            },
            SegmentError::Damaged {
                position,
                offset,
                what,
            } => ReadError::Damaged(Damage {
                partition,
                segment: self.base,
                position,
                offset,
                what,
            }),
        }
    }
}

/// Interval of indexes that are rebuilt without the topic's settings at hand: Kafka's default.
const REBUILD_INTERVAL_BYTES: u64 = 4096;

impl Indexes {
    /// The index files of a segment, as they are.
    pub(crate) fn open(home: &SegmentHome, base: Offset) -> io::Result<Self> {
        let path = |suffix| home.path(base, suffix);
        Ok(Self {
            offset: OffsetIndex::new(
                base,
                Entries::open(&home.disk, &home.maps, &path(OFFSET_INDEX))?,
            ),
            time: TimeIndex::new(
                base,
                Entries::open(&home.disk, &home.maps, &path(TIME_INDEX))?,
            ),
            transaction: TransactionIndex::new(Entries::open(
                &home.disk,
                &home.maps,
                &path(TRANSACTION_INDEX),
            )?),
        })
    }

    /// Empty index files; `extra` is appended to their names.
    pub(crate) fn create(home: &SegmentHome, base: Offset, extra: &str) -> io::Result<Self> {
        let path = |suffix: &str| home.path(base, &format!("{suffix}{extra}"));
        let (disk, maps) = (&home.disk, &home.maps);
        Ok(Self {
            offset: OffsetIndex::new(base, Entries::create(disk, maps, &path(OFFSET_INDEX))?),
            time: TimeIndex::new(base, Entries::create(disk, maps, &path(TIME_INDEX))?),
            transaction: TransactionIndex::new(Entries::create(
                disk,
                maps,
                &path(TRANSACTION_INDEX),
            )?),
        })
    }

    /// Offset and time index anew under temporary names, beside the transaction index as it is.
    fn create_rebuilt(
        home: &SegmentHome,
        base: Offset,
        transaction: TransactionIndex,
    ) -> io::Result<Self> {
        let path = |suffix: &str| home.path(base, &format!("{suffix}{TEMPORARY}"));
        let (disk, maps) = (&home.disk, &home.maps);
        Ok(Self {
            offset: OffsetIndex::new(base, Entries::create(disk, maps, &path(OFFSET_INDEX))?),
            time: TimeIndex::new(base, Entries::create(disk, maps, &path(TIME_INDEX))?),
            transaction,
        })
    }

    /// Gives rebuilt indexes their names once they are durable.
    fn keep_rebuilt(&self, home: &SegmentHome, base: Offset) -> io::Result<()> {
        self.offset.entries().sync()?;
        self.time.entries().sync()?;
        for suffix in [OFFSET_INDEX, TIME_INDEX] {
            let temporary = home.path(base, &format!("{suffix}{TEMPORARY}"));
            home.disk.rename(&temporary, &home.path(base, suffix))?;
        }
        home.disk.sync_dir(&home.folder)
    }

    /// Whether what can be told without reading the log looks right; no entries at all do.
    fn look_sound(&self, base: Offset, size: u64) -> io::Result<bool> {
        if size == 0 {
            return Ok(true);
        }
        let offset_sound = self
            .offset
            .last()?
            .is_none_or(|last| last.offset >= base && last.position < size);
        let time_sound = self.time.last()?.is_none_or(|last| last.offset >= base);
        Ok(offset_sound && time_sound)
    }

    /// Writes what is in memory to all index files. Without aborted transactions there is no file for
    /// them.
    pub(crate) fn write(&self) -> io::Result<()> {
        self.offset.entries().write()?;
        self.time.entries().write()?;
        if self.transaction.entries().len() > 0 {
            self.transaction.entries().write()?;
        }
        Ok(())
    }

    /// Makes durable what was written. Apart from [`Self::write`], because after a failed sync
    /// nothing may be trusted, while a failed write on a full disk may be tried again.
    pub(crate) fn sync_written(&self) -> io::Result<()> {
        self.offset.entries().sync_written()?;
        self.time.entries().sync_written()?;
        self.transaction.entries().sync_written()
    }

    /// Writes all index files durably.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.write()?;
        self.sync_written()
    }

    /// The greatest timestamp of the batches below `position`, a batch's border: the last entry's, or
    /// that of a batch behind it. There are no entries at or beyond `position`.
    pub(crate) fn latest_before(
        &self,
        file: &dyn DiskFile,
        position: u64,
    ) -> io::Result<Option<TimeEntry>> {
        let mut builder = IndexBuilder::resume(u64::MAX, self.time.last()?);
        let mut at = 0;
        if let Some(entry) = self.offset.last()?
            && let Ok(header) = read_header(file, entry.position, position)?
            && header.last_offset() == entry.offset
        {
            at = entry.position;
        }
        while at < position {
            let Ok(header) = read_header(file, at, position)? else {
                break;
            };
            builder.note(header.last_offset(), header.max_timestamp_ms);
            at += header.size() as u64;
        }
        Ok(builder.latest())
    }

    /// Drops what cannot be an entry below `offset`, and all behind it.
    pub(crate) fn keep_sound_below(&self, offset: Offset) -> io::Result<()> {
        self.offset.keep_sound_below(offset)?;
        self.time.keep_sound_below(offset)?;
        self.transaction.keep_sound_below(offset)
    }
}

/// Decides which batches get an index entry: Kafka's rule, at most one every `interval` bytes, each
/// with the greatest timestamp so far.
#[derive(Debug, Clone)]
pub(crate) struct IndexBuilder {
    interval: u64,
    bytes_since_entry: u64,
    latest: Option<TimeEntry>,
}

impl IndexBuilder {
    pub(crate) fn new(interval: u64) -> Self {
        Self {
            interval,
            bytes_since_entry: 0,
            latest: None,
        }
    }

    /// Goes on in a segment whose greatest timestamp is known.
    pub(crate) fn resume(interval: u64, latest: Option<TimeEntry>) -> Self {
        Self {
            interval,
            bytes_since_entry: 0,
            latest,
        }
    }

    pub(crate) fn set_interval(&mut self, interval: u64) {
        self.interval = interval;
    }

    pub(crate) fn latest(&self) -> Option<TimeEntry> {
        self.latest
    }

    /// Takes the next batch into account.
    pub(crate) fn add(
        &mut self,
        indexes: &Indexes,
        header: &BatchHeader,
        position: u64,
    ) -> io::Result<()> {
        self.add_batch(
            indexes,
            header.last_offset(),
            header.max_timestamp_ms,
            header.size(),
            position,
        )
    }

    pub(crate) fn add_batch(
        &mut self,
        indexes: &Indexes,
        last_offset: Offset,
        max_timestamp_ms: i64,
        size: usize,
        position: u64,
    ) -> io::Result<()> {
        self.note(last_offset, max_timestamp_ms);
        let due = self.bytes_since_entry > self.interval;
        self.bytes_since_entry = if due {
            size as u64
        } else {
            self.bytes_since_entry + size as u64
        };
        if due {
            indexes.offset.append(OffsetEntry {
                offset: last_offset,
                position,
            })?;
            self.finish(indexes)?;
        }
        Ok(())
    }

    /// Takes the timestamp of a batch into account.
    fn note(&mut self, last_offset: Offset, max_timestamp_ms: i64) {
        let later = self
            .latest
            .is_none_or(|latest| max_timestamp_ms > latest.timestamp_ms);
        if later && max_timestamp_ms >= 0 {
            self.latest = Some(TimeEntry {
                timestamp_ms: max_timestamp_ms,
                offset: last_offset,
            });
        }
    }

    /// Notes the greatest timestamp, so that the last entry of a closed segment has it.
    pub(crate) fn finish(&self, indexes: &Indexes) -> io::Result<()> {
        self.latest
            .map_or(Ok(()), |latest| indexes.time.append_if_later(latest))
    }
}

/// A scan error at `position`, where `offset` was expected.
pub(crate) fn scan_failed(
    segment: &Segment,
    error: ScanError,
    position: u64,
    offset: Offset,
) -> SegmentError {
    match error {
        ScanError::Disk(error) => segment.disk_error("read", error),
        ScanError::Invalid(error) => segment.damaged(position, offset, error.to_string()),
    }
}

/// The header at `position` of a file whose batches end at `end`.
pub(crate) fn read_header(
    file: &dyn DiskFile,
    position: u64,
    end: u64,
) -> io::Result<Result<BatchHeader, BatchError>> {
    let mut raw = Vec::with_capacity(HEADER_SIZE);
    file.read_at(
        position,
        &mut raw,
        HEADER_SIZE.min(end.saturating_sub(position) as usize),
    )?;
    Ok(BatchHeader::parse(&raw))
}
