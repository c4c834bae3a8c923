//! Writes a cleaned segment beside the old ones: log, indexes, in large pieces, synced at the end.

use std::io;
use std::sync::Arc;

use conveyor_record::{BatchHeader, Offset};

use crate::disk::{DiskFile, OpenMode};
use crate::error::DiskError;
use crate::folder::{CLEANED, SWAP, swap_log_name};
use crate::index::AbortedEntry;
use crate::segment::{IndexBuilder, Indexes, Segment, SegmentHome};

const PIECE_BYTES: usize = 1 << 20;

/// A new segment in the making. Its log is named `.cleaned` until the owner decides for it.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    home: Arc<SegmentHome>,
    base: Offset,
    file: Arc<dyn DiskFile>,
    indexes: Indexes,
    builder: IndexBuilder,
    written: u64,
    piece: Vec<u8>,
}

impl SegmentWriter {
    pub(super) fn create(
        home: &Arc<SegmentHome>,
        base: Offset,
        end: Offset,
        index_interval: u64,
    ) -> Result<Self, DiskError> {
        let path = home.folder.join(swap_log_name(base, end, CLEANED));
        let failed = |error| DiskError::new("create", &path, error);
        let file = home.disk.open(&path, OpenMode::Truncate).map_err(failed)?;
        let indexes = Indexes::create(home, base, SWAP).map_err(failed)?;
        Ok(Self {
            home: Arc::clone(home),
            base,
            file,
            indexes,
            builder: IndexBuilder::new(index_interval),
            written: 0,
            piece: Vec::with_capacity(PIECE_BYTES),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.written + self.piece.len() as u64
    }

    /// Appends a batch as it is.
    pub(super) fn append(&mut self, header: &BatchHeader, bytes: &[u8]) -> io::Result<()> {
        let position = self.size();
        if position + bytes.len() as u64 > i32::MAX as u64 {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "cleaned segment outgrows its index",
            ));
        }
        self.builder.add(&self.indexes, header, position)?;
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    pub(super) fn append_aborted(&mut self, entry: AbortedEntry) -> io::Result<()> {
        self.indexes.transaction.append(entry)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.piece)?;
        self.written += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Makes everything durable under its temporary names.
    pub(super) fn finish(mut self) -> Result<Segment, DiskError> {
        let path = self.home.folder.clone();
        let finished = self.flush().and_then(|()| {
            self.builder.finish(&self.indexes)?;
            self.file.sync_data()?;
            self.indexes.sync()?;
            // Each kind of index gets its file, even an empty one: see `folder::finish_swap`.
            self.indexes.transaction.entries().sync()?;
            self.home.disk.sync_dir(&self.home.folder)
        });
        finished.map_err(|error| DiskError::new("write cleaned segment in", &path, error))?;
        let segment =
            Segment::with_file(&self.home, self.base, self.file, self.written, self.indexes);
        segment.set_latest_timestamp(self.builder.latest());
        Ok(segment)
    }
}
