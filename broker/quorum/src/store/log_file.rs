//! The log of entries: one file, written at its end.
//!
//! ```text
//! quorum-log-<number, 20 digits>:
//!     header: magic "CVQL" | version int16 | cluster id uuid | voter id int64
//!             | the entry before the first: index, term int64 | crc32
//!     entry:  size of data int32 | checksum int32 | index int64 | term int64 | kind int8 | data
//! ```
//! Numbers are big-endian. The checksum of an entry is CRC-32 over the checksum before it (of the
//! entry before, or of the header) and all of the entry but the checksum itself, so that an entry is
//! only right behind the one it was written behind.
//!
//! How far the file counts is not found out by looking for where it stops making sense: the
//! superblock vouches for it, to the byte, after the bytes were synced and before anybody is told of
//! them. What lies behind that end was never acknowledged and is overwritten. What lies before it was,
//! and if it cannot be read it is damage, which is never mended by cutting it off.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use conveyor_log::disk::{Disk, DiskFile, OpenMode};
use conveyor_record::fields::{Reader, Writer};

use super::{Identity, OpenError, StoreError};
use crate::entry::{ENTRY_BYTES_MAX, Entry, LogPosition};
use crate::membership::{VoterId, number};
use crate::message::{kind_code, read_kind};
use crate::mutant::{self, Mutant};

const MAGIC: i32 = i32::from_be_bytes(*b"CVQL");
const VERSION: i16 = 0;
const NAME_PREFIX: &str = "quorum-log-";
const HEADER_CONTENT_BYTES: usize = 46;
pub(super) const HEADER_BYTES: usize = HEADER_CONTENT_BYTES + 4;
/// Size of an entry without its data.
const ENTRY_HEADER_BYTES: usize = 25;
/// A round of entries is written in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// The end of the log: where it is, what the last entry is, and the checksum up to there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogEnd {
    pub(super) position: u64,
    pub(super) last: LogPosition,
    pub(super) checksum: u32,
}

/// The open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// The end before the first entry.
    base: LogEnd,
    /// The end behind each entry.
    ends: VecDeque<LogEnd>,
}

pub(super) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:020}")
}

/// The number in a name of a log file, `None` for other files.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(NAME_PREFIX)?.parse().ok()
}

fn header(identity: &Identity, base: LogPosition) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.int32(MAGIC);
    writer.int16(VERSION);
    writer.uuid(identity.cluster_id);
    writer.int64(identity.voter_id.0 as i64);
    writer.int64(base.index as i64);
    writer.int64(base.term as i64);
    let mut bytes = writer.finish();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

fn checksum(before: u32, size: u32, content: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&before.to_be_bytes());
    hasher.update(&size.to_be_bytes());
    for part in content {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Appends the stored form of an entry and returns its checksum.
fn write_entry(out: &mut Vec<u8>, entry: &Entry, before: u32) -> u32 {
    let mut writer = Writer::default();
    writer.int64(entry.index as i64);
    writer.int64(entry.term as i64);
    writer.int8(kind_code(entry.kind));
    let fixed = writer.finish();
    let size = entry.data.len() as u32;
    let checksum = checksum(before, size, &[&fixed, &entry.data]);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(&entry.data);
    checksum
}

/// Reads one stored entry off the front of `bytes`, which follows an entry with checksum `before`.
/// Returns it with its checksum and its size in the file; `None` if it is not whole or not right.
pub(super) fn read_entry(bytes: &[u8], before: u32) -> Option<(Entry, u32, usize)> {
    let (header, rest) = bytes.split_first_chunk::<ENTRY_HEADER_BYTES>()?;
    let (sizes, fixed) = header.split_at(8);
    let mut reader = Reader::new(sizes);
    let size = reader.int32("size").ok()? as u32;
    let stored = reader.int32("checksum").ok()? as u32;
    if size as usize > ENTRY_BYTES_MAX {
        return None;
    }
    let data = rest.get(..size as usize)?;
    if checksum(before, size, &[fixed, data]) != stored {
        return None;
    }
    let mut reader = Reader::new(fixed);
    let entry = Entry {
        index: number(&mut reader, "index").ok()?,
        term: number(&mut reader, "term").ok()?,
        kind: read_kind(reader.int8("kind").ok()?).ok()?,
        data: Bytes::copy_from_slice(data),
    };
    Some((entry, stored, ENTRY_HEADER_BYTES + size as usize))
}

impl LogFile {
    /// Creates a log file with entries, and syncs it, though not its name.
    pub(super) fn create<'a>(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        identity: &Identity,
        base: LogPosition,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<Self, StoreError> {
        let path = dir.join(file_name(number));
        let fail = |error: &_| StoreError::new("create", &path, error);
        let file = disk
            .open(&path, OpenMode::Truncate)
            .map_err(|error| fail(&error))?;
        let header = header(identity, base);
        file.write_at(0, &header).map_err(|error| fail(&error))?;
        let mut log = Self {
            file,
            path,
            base: LogEnd {
                position: HEADER_BYTES as u64,
                last: base,
                checksum: header_checksum(&header),
            },
            ends: VecDeque::new(),
        };
        log.write(entries)?;
        log.sync()?;
        Ok(log)
    }

    /// Opens the file and reads all entries up to `end`, each checked. Whatever follows is left alone.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        identity: &Identity,
        end: &mut LogEnd,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let path = dir.join(file_name(number));
        let io_error = |action, error| OpenError::io(action, &path, error);
        let damaged = |what: String| OpenError::Damaged {
            path: path.clone(),
            what,
        };
        let file = disk
            .open(&path, OpenMode::Write)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    damaged("it is missing, though the superblock names it".to_owned())
                }
                _ => io_error("open", error),
            })?;
        let mut head = vec![0; HEADER_BYTES];
        file.read_exact_at(0, &mut head)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged("it ends in its header".to_owned()),
                _ => io_error("read", error),
            })?;
        let base = read_header(&head, identity, &path)?;
        let base = LogEnd {
            position: HEADER_BYTES as u64,
            last: base,
            checksum: header_checksum(&head),
        };
        let mut log = Self {
            file,
            path: path.clone(),
            base,
            ends: VecDeque::new(),
        };
        let mut scan = Scan::new(Arc::clone(&log.file), base.position, end.position);
        let mut entries = Vec::new();
        while log.end().position < end.position {
            let before = log.end();
            let found = scan
                .next(before.checksum)
                .map_err(|error| io_error("read", error))?;
            let fits = found.filter(|(entry, _, size)| {
                entry.index == before.last.index + 1
                    && before.position + *size as u64 <= end.position
            });
            let Some((entry, checksum, size)) = fits else {
                if mutant::active(Mutant::DamageCut) {
                    *end = before;
                    break;
                }
                return Err(damaged(format!(
                    "entry {} at byte {} fails its checksum, though everything up to entry {} at \
                     byte {} was synced",
                    before.last.index + 1,
                    before.position,
                    end.last.index,
                    end.position
                )));
            };
            log.push(&entry, checksum, size);
            entries.push(entry);
        }
        if log.end() != *end {
            return Err(damaged(format!(
                "it ends with entry {} of term {}, but the superblock vouches for entry {} of term {}",
                log.end().last.index,
                log.end().last.term,
                end.last.index,
                end.last.term
            )));
        }
        Ok((log, entries))
    }

    fn push(&mut self, entry: &Entry, checksum: u32, size: usize) {
        let position = self.end().position + size as u64;
        self.ends.push_back(LogEnd {
            position,
            last: LogPosition {
                term: entry.term,
                index: entry.index,
            },
            checksum,
        });
    }

    /// The entry before the first.
    pub(super) fn base(&self) -> LogPosition {
        self.base.last
    }

    /// Where the next entry goes.
    pub(super) fn end(&self) -> LogEnd {
        *self.ends.back().unwrap_or(&self.base)
    }

    /// Forgets the entries from `index` on; the file is not touched.
    pub(super) fn forget_from(&mut self, index: u64) {
        let keep = index.saturating_sub(self.base.last.index + 1);
        self.ends.truncate(keep as usize);
    }

    /// Writes entries at the end, without a sync.
    pub(super) fn write<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), StoreError> {
        let mut piece = Vec::new();
        let mut at = self.end().position;
        for entry in entries {
            let start = piece.len();
            let checksum = write_entry(&mut piece, entry, self.end().checksum);
            self.push(entry, checksum, piece.len() - start);
            if piece.len() >= PIECE_BYTES {
                at = self.put(at, &mut piece)?;
            }
        }
        self.put(at, &mut piece)?;
        Ok(())
    }

    fn put(&self, at: u64, piece: &mut Vec<u8>) -> Result<u64, StoreError> {
        if !piece.is_empty() {
            self.file
                .write_at(at, piece)
                .map_err(|error| StoreError::new("write", &self.path, &error))?;
        }
        let end = at + piece.len() as u64;
        piece.clear();
        Ok(end)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        if mutant::active(Mutant::EntriesNotSynced) {
            return Ok(());
        }
        super::sync(&*self.file).map_err(|error| StoreError::new("sync", &self.path, &error))
    }
}

fn header_checksum(header: &[u8]) -> u32 {
    header
        .last_chunk()
        .map_or(0, |crc| u32::from_be_bytes(*crc))
}

fn read_header(head: &[u8], identity: &Identity, path: &Path) -> Result<LogPosition, OpenError> {
    let damaged = |what: &str| OpenError::Damaged {
        path: path.to_path_buf(),
        what: what.to_owned(),
    };
    let content = &head[..HEADER_CONTENT_BYTES];
    let mut reader = Reader::new(content);
    let mut read = || {
        let magic = reader.int32("magic")?;
        let version = reader.int16("version")?;
        let cluster_id = reader.uuid("cluster id")?;
        let voter_id = VoterId(number(&mut reader, "voter id")?);
        let index = number(&mut reader, "index")?;
        let term = number(&mut reader, "term")?;
        Ok::<_, conveyor_record::fields::DecodeError>((
            magic,
            version,
            cluster_id,
            voter_id,
            LogPosition { term, index },
        ))
    };
    let (magic, version, cluster_id, voter_id, base) =
        read().map_err(|_| damaged("its header cannot be read"))?;
    if magic != MAGIC {
        return Err(damaged("it is no quorum log"));
    }
    // First, so that a rotten version number is not taken for a later one. A later version says so in
    // its superblock already.
    if header_checksum(head) != crc32fast::hash(content) {
        return Err(damaged("its header fails its checksum"));
    }
    if version > VERSION {
        return Err(OpenError::NewerVersion {
            path: path.to_path_buf(),
            found: version,
            supported: VERSION,
        });
    }
    if (cluster_id, voter_id) != (identity.cluster_id, identity.voter_id) {
        return Err(damaged(
            "it belongs to another voter than the superblock beside it",
        ));
    }
    Ok(base)
}

/// Reads a file front to back through a buffer that holds one entry at most, or a piece.
struct Scan {
    file: Arc<dyn DiskFile>,
    /// Where the buffer's end lies in the file.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    used: usize,
}

impl Scan {
    fn new(file: Arc<dyn DiskFile>, start: u64, end: u64) -> Self {
        Self {
            file,
            position: start,
            end,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// The next entry; `None` if what is there is none.
    fn next(&mut self, before: u32) -> io::Result<Option<(Entry, u32, usize)>> {
        if let Some(found) = read_entry(&self.buffer[self.used..], before) {
            self.used += found.2;
            return Ok(Some(found));
        }
        self.fill(ENTRY_HEADER_BYTES)?;
        let left = &self.buffer[self.used..];
        let size = left
            .first_chunk()
            .map_or(0, |size| u32::from_be_bytes(*size)) as usize;
        // A size that lies asks for an entry's most, and gets what the file has.
        self.fill(ENTRY_HEADER_BYTES + size.min(ENTRY_BYTES_MAX))?;
        let found = read_entry(&self.buffer[self.used..], before);
        self.used += found.as_ref().map_or(0, |found| found.2);
        Ok(found)
    }

    /// Has at least `wanted` unread bytes in the buffer, if the file has them.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let unread = self.buffer.len() - self.used;
        if unread >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let rest = self.end.saturating_sub(self.position);
        let max = ((wanted - unread).max(PIECE_BYTES) as u64).min(rest) as usize;
        let read = self.file.read_at(self.position, &mut self.buffer, max)?;
        self.position += read as u64;
        Ok(())
    }
}
