//! The one narrow interface between the log engine and files.
//!
//! Everything the engine does to a disk goes through [`Disk`] and [`DiskFile`], so that a simulated
//! disk ([`SimDisk`]) can stand in for the real one ([`OsDisk`]) and decide what a crash leaves
//! behind. The contract of both, which the engine relies on:
//!
//! - A write is visible to reads at once and survives a crash only after [`DiskFile::sync_data`]
//!   has returned `Ok`. Before that, any part of it may be there, or none.
//! - After a `sync_data` that failed, nothing is known about what was written since the last one
//!   that succeeded, and a later success proves nothing either: the caller must not retry it.
//! - A created, renamed or removed name survives a crash only after [`Disk::sync_dir`] of its folder.
//! - Positions and lengths are bytes. Reads beyond the end return fewer bytes, never an error.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

mod mmap;
mod os;
mod sim;

pub use mmap::FileMap;
pub use os::OsDisk;
pub use sim::{Crash, FaultPlan, Lies, SimDisk, SimRng, SimStats};

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, read only.
    Read,
    /// Existing file, read and write.
    Write,
    /// Read and write; created empty if missing.
    Create,
    /// Read and write; whatever was there is cut to nothing.
    Truncate,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without the folder. Names that are not UTF-8 are left out of listings.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// What is known of a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Length in bytes; 0 for a folder.
    pub len: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// When it was last written, in ms since the epoch, if this disk knows.
    pub modified_ms: Option<i64>,
}

/// Held while a process owns a data directory; dropping it gives the lock back.
pub trait DirLock: Send + Sync + fmt::Debug {}

/// A file system, or a simulation of one.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Length and kind of a path, `None` if nothing is there.
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>>;
    /// The names in a folder, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a folder and its parents; no error if it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or folder, replacing a file of the new name in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. An open [`DiskFile`] of it stays readable.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything on the volume that holds `dir` durable (`syncfs`). `Ok(false)` if this disk
    /// cannot do that in a way that reports errors; the caller then syncs file by file.
    fn sync_volume(&self, dir: &Path) -> io::Result<bool>;
    /// Bytes that can still be written on the volume that holds `dir`.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the lock file at `path` without waiting; `None` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>>;
    /// Whether syncing several files from several threads can be faster (a simulated disk says no:
    /// its faults must come in one order).
    fn syncs_in_parallel(&self) -> bool {
        false
    }
}

/// An open file. All access is by position, so one handle serves many threads.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Present length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Appends up to `max` bytes from `position` to `out` and returns how many; fewer only at the
    /// end of the file.
    fn read_at(&self, position: u64, out: &mut Vec<u8>, max: usize) -> io::Result<usize>;
    /// Fills `out` from `position`; `UnexpectedEof` if the file ends first.
    fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all parts one after another at `position`. On an error any prefix may have been
    /// written.
    fn write_vectored_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Writes `bytes` at `position`.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_vectored_at(position, &mut [IoSlice::new(bytes)])
    }
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file, or extends it with a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Maps the first `len` bytes read-only, `None` where this disk has no maps. The caller keeps
    /// the file at least `len` long as long as the map lives.
    fn map(&self, len: u64) -> io::Result<Option<FileMap>>;
}

/// Writes `len` zero bytes from `position`, in pieces of up to 1 MiB.
///
/// Written zeros, unlike a hole or a preallocated extent, make a later sync of the same blocks cheap:
/// no extent has to be converted and no journal commit is needed.
pub fn write_zeros(file: &dyn DiskFile, position: u64, len: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    const PARTS_MAX: u64 = 16;
    let mut done = 0;
    while done < len {
        let mut parts = Vec::with_capacity(PARTS_MAX as usize);
        let mut piece = 0;
        while parts.len() < PARTS_MAX as usize && done + piece < len {
            let size = (len - done - piece).min(ZEROS.len() as u64);
            parts.push(IoSlice::new(&ZEROS[..size as usize]));
            piece += size;
        }
        file.write_vectored_at(position + done, &mut parts)?;
        done += piece;
    }
    Ok(())
}

/// Replaces the file at `path` in one durable step: temporary file, sync, rename, sync of the folder.
pub fn write_atomically(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no folder"))?;
    let mut name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no file name"))?
        .to_os_string();
    name.push(".tmp");
    let temporary = folder.join(name);
    let file = disk.open(&temporary, OpenMode::Truncate)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(folder)
}

/// Reads a whole small file, `None` if it is not there. Files above `max` bytes are refused, so that
/// a damaged length cannot make us allocate without bound.
pub fn read_small(disk: &dyn Disk, path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.size()?;
    if size > max as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("file is larger than {max} bytes"),
        ));
    }
    let mut bytes = Vec::new();
    file.read_at(0, &mut bytes, size as usize)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_take_the_memory_they_need() {
        let disk = SimDisk::new(1);
        let path = Path::new("/file");
        assert_eq!(read_small(&disk, path, 10).unwrap(), None);
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_at(0, b"0123456789").unwrap();
        assert_eq!(read_small(&disk, path, 10).unwrap().unwrap(), b"0123456789");
        let error = read_small(&disk, path, 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let bytes = read_small(&OsDisk::default(), &path, 1 << 30).unwrap();
        assert!(bytes.unwrap().capacity() < 4096);
    }
}
