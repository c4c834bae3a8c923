//! Walks the batches of a `.log` file from a position on, through one reused window.
//!
//! Used where many batches are looked at: recovery, rebuilding indexes, look-ups by time, cleaning,
//! verification. Checks structure only; whoever needs the CRC asks the view for it. Allocates what a
//! header claims only when the file is that long.

use std::io;

use conveyor_record::{BatchError, BatchHeader, BatchView, HEADER_SIZE};

use crate::disk::DiskFile;

/// Bytes read at a time when batches are small.
const WINDOW_BYTES: usize = 256 * 1024;

/// Why a scan cannot go on.
#[derive(Debug)]
pub(crate) enum ScanError {
    Disk(io::Error),
    /// The bytes at the scanner's position are no batch.
    Invalid(BatchError),
}

/// A walk over a file, from batch to batch.
pub(crate) struct BatchScanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> BatchScanner<'a> {
    /// Walks from `position`, which must be the start of a batch, to `end`.
    pub(crate) fn new(file: &'a dyn DiskFile, position: u64, end: u64) -> Self {
        Self {
            file,
            position,
            end,
            window: Vec::new(),
            window_start: position,
        }
    }

    /// Where the next batch starts; after an error, where the faulty one does.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at another position.
    pub(crate) fn jump_to(&mut self, position: u64) {
        self.position = position;
    }

    /// The next batch and its position; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, BatchView<'_>)>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let size = {
            let head = self.bytes(HEADER_SIZE)?;
            BatchHeader::parse(head).map_err(ScanError::Invalid)?.size()
        };
        let position = self.position;
        let available = self.end - position;
        let wanted = if size as u64 <= available {
            size
        } else {
            HEADER_SIZE
        };
        let parsed = BatchView::parse(self.bytes(wanted)?).map(|view| view.bytes().len());
        let len = parsed.map_err(ScanError::Invalid)?;
        self.position += len as u64;
        let start = (position - self.window_start) as usize;
        let view =
            BatchView::parse(&self.window[start..start + len]).map_err(ScanError::Invalid)?;
        Ok(Some((position, view)))
    }

    /// At least `wanted` bytes at the present position, fewer at the end of the file.
    fn bytes(&mut self, wanted: usize) -> Result<&[u8], ScanError> {
        let wanted = wanted.min((self.end - self.position) as usize);
        let window_end = self.window_start + self.window.len() as u64;
        let inside =
            self.position >= self.window_start && self.position + wanted as u64 <= window_end;
        if !inside {
            let ask = wanted
                .max(WINDOW_BYTES)
                .min((self.end - self.position) as usize);
            self.window.clear();
            self.window_start = self.position;
            self.file
                .read_at(self.position, &mut self.window, ask)
                .map_err(ScanError::Disk)?;
        }
        let start = ((self.position - self.window_start) as usize).min(self.window.len());
        let end = (start + wanted).min(self.window.len());
        Ok(&self.window[start..end])
    }
}

/// Finds the next whole batch with a right CRC at or behind `from`, whatever lies between; for going
/// on behind damage. `accepts` says whether a header can belong there.
pub(crate) fn find_batch(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    accepts: impl Fn(&BatchHeader) -> bool,
) -> io::Result<Option<u64>> {
    const MAGIC_POSITION: usize = 16;
    let mut start = from;
    let mut window = Vec::new();
    while start + HEADER_SIZE as u64 <= end {
        window.clear();
        file.read_at(start, &mut window, WINDOW_BYTES.min((end - start) as usize))?;
        if window.len() < HEADER_SIZE {
            break;
        }
        let last = window.len() - HEADER_SIZE;
        for offset in 0..=last {
            if window[offset + MAGIC_POSITION] != 2 {
                continue;
            }
            let Ok(header) = BatchHeader::parse(&window[offset..]) else {
                continue;
            };
            let position = start + offset as u64;
            if !accepts(&header) || header.size() as u64 > end - position {
                continue;
            }
            let mut batch = Vec::new();
            file.read_at(position, &mut batch, header.size())?;
            if BatchView::parse(&batch).is_ok_and(|view| view.verify_crc().is_ok()) {
                return Ok(Some(position));
            }
        }
        start += last as u64 + 1;
    }
    Ok(None)
}
