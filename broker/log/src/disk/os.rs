//! The real file system: positional vectored I/O by rustix, fdatasync, directory fsync, flock.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{DirEntry, DirLock, Disk, DiskFile, FileInfo, FileMap, OpenMode};

/// Most parts that one `pwritev` takes on Linux (`IOV_MAX`).
const PARTS_PER_WRITE_MAX: usize = 1024;

/// The file system of the machine.
#[derive(Debug, Default)]
pub struct OsDisk {
    /// Descriptors for [`Disk::sync_volume`], kept open: `syncfs` reports the write-back errors that
    /// happened since its descriptor was opened, so one opened just before would miss them.
    volumes: Mutex<BTreeMap<PathBuf, Arc<File>>>,
    /// A descriptor held back for [`Disk::sync_dir`]: a name that was changed must become durable
    /// also when the process has no other descriptor left.
    spare: Mutex<Option<File>>,
}

impl OsDisk {
    /// The real disk, ready to be shared.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self::default())
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::Truncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(OsFile {
            file: options.open(path)?,
        }))
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(FileInfo {
                len: if found.is_dir() { 0 } else { found.len() },
                is_dir: found.is_dir(),
                modified_ms: modified_ms(&found),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    is_dir: entry.file_type()?.is_dir(),
                });
            }
        }
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir) {
            Ok(folder) => {
                let mut spare = self.spare.lock();
                if spare.is_none() {
                    *spare = folder.try_clone().ok();
                }
                drop(spare);
                folder.sync_all()
            }
            Err(error) if is_out_of_descriptors(&error) => {
                let mut spare = self.spare.lock();
                drop(spare.take());
                let folder = File::open(dir)?;
                let synced = folder.sync_all();
                *spare = Some(folder);
                synced
            }
            Err(error) => Err(error),
        }
    }

    fn sync_volume(&self, dir: &Path) -> io::Result<bool> {
        let known = self.volumes.lock().get(dir).cloned();
        let Some(volume) = known else {
            // The first call only opens the descriptor: what failed before it was opened would not
            // be reported.
            self.volumes
                .lock()
                .insert(dir.to_path_buf(), Arc::new(File::open(dir)?));
            return Ok(false);
        };
        rustix::fs::syncfs(&*volume)?;
        Ok(true)
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stats = rustix::fs::statvfs(dir)?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(OsLock { _file: file }))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn syncs_in_parallel(&self) -> bool {
        true
    }
}

fn modified_ms(found: &fs::Metadata) -> Option<i64> {
    let since_epoch = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since_epoch.as_millis()).ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

/// The descriptor carries the flock; closing it gives the lock back, also when the process dies.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl DirLock for OsLock {}

#[derive(Debug)]
struct OsFile {
    file: File,
}

impl DiskFile for OsFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, position: u64, out: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        out.reserve_exact(max);
        let mut done = 0;
        while done < max {
            // The spare room may be larger than asked for: read into a part of it by a second,
            // shorter view when the last piece is due.
            let room = out.capacity() - out.len();
            let read = if room <= max - done {
                rustix::io::pread(
                    &self.file,
                    rustix::buffer::spare_capacity(out),
                    position + done as u64,
                )
            } else {
                let start = out.len();
                out.resize(start + (max - done), 0);
                let read = rustix::io::pread(&self.file, &mut out[start..], position + done as u64);
                out.truncate(start + read.unwrap_or(0));
                read
            };
            match read {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, position)
    }

    fn write_vectored_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = parts;
        let mut position = position;
        // Skips leading empty parts, so that a write of nothing is no write.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = rest.len().min(PARTS_PER_WRITE_MAX);
            match rustix::io::pwritev(&self.file, &rest[..count], position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn map(&self, len: u64) -> io::Result<Option<FileMap>> {
        FileMap::new(&self.file, len).map(Some)
    }
}
