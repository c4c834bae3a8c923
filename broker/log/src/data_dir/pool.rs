//! The pool of zero-filled files that become segments.
//!
//! A sync over blocks that have been written before takes half the time of one over blocks that are
//! new to the file system. So a few files are filled with zeros in the background and renamed when
//! a segment is rolled. They are never recycled segments: a stale batch behind a torn tail could
//! look valid. Whoever takes a file trims its zero tail when the segment is closed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::DirShared;
use crate::config::{BACKGROUND_INTERVAL, DataDirConfig};
use crate::disk::{Disk, DiskFile, OpenMode, write_zeros};
use crate::error::{DirectoryOffline, DiskError};

const PREFIX: &str = ".pool-";
/// The pool leaves room for at least so many of its files on the volume.
const ROOM_FILES: u64 = 4;

/// Zero-filled files ready to become segments.
#[derive(Debug)]
pub(crate) struct Pool {
    file_bytes: u64,
    files_max: usize,
    bytes_max: u64,
    ready: Mutex<Vec<PathBuf>>,
    taken: Condvar,
    /// Bytes of files that segments have taken and not yet trimmed.
    lent_bytes: AtomicU64,
    next_number: AtomicU64,
}

impl Pool {
    /// An empty pool; files of an earlier process are removed, their state is not known.
    pub(crate) fn open(
        disk: &dyn Disk,
        directory: &Path,
        config: &DataDirConfig,
    ) -> io::Result<Self> {
        for entry in disk.list(directory)? {
            if !entry.is_dir && entry.name.starts_with(PREFIX) {
                disk.remove_file(&directory.join(entry.name))?;
            }
        }
        Ok(Self {
            file_bytes: config.pool_file_bytes,
            files_max: if config.pool_file_bytes == 0 {
                0
            } else {
                config.pool_files
            },
            bytes_max: config.pool_bytes_max,
            ready: Mutex::new(Vec::new()),
            taken: Condvar::new(),
            lent_bytes: AtomicU64::new(0),
            next_number: AtomicU64::new(0),
        })
    }

    /// Renames a ready file to `path`, if there is one and it is not larger than `max_bytes`. The
    /// caller syncs both folders. Returns the file, opened before it took the name, and its length.
    pub(crate) fn take(
        &self,
        disk: &dyn Disk,
        path: &Path,
        max_bytes: u64,
    ) -> io::Result<Option<(Arc<dyn DiskFile>, u64)>> {
        if self.file_bytes > max_bytes {
            return Ok(None);
        }
        let Some(file) = self.ready.lock().pop() else {
            return Ok(None);
        };
        self.taken.notify_one();
        let opened = disk.open(&file, OpenMode::Write);
        let opened = match opened.and_then(|opened| disk.rename(&file, path).map(|()| opened)) {
            Ok(opened) => opened,
            Err(error) => {
                // Still there, so still counted.
                self.ready.lock().push(file);
                return Err(error);
            }
        };
        self.lent_bytes
            .fetch_add(self.file_bytes, Ordering::Relaxed);
        Ok(Some((opened, self.file_bytes)))
    }

    /// A taken file of `bytes` was trimmed or removed.
    pub(crate) fn give_back(&self, bytes: u64) {
        let before = self.lent_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(
            before >= bytes,
            "more bytes given back to the pool than lent"
        );
    }

    /// Whether a file of at most `max_bytes` is ready.
    pub(crate) fn has_file(&self, max_bytes: u64) -> bool {
        self.file_bytes <= max_bytes && !self.ready.lock().is_empty()
    }

    fn wants_file(&self) -> bool {
        let ready = self.ready.lock().len();
        let held = self.lent_bytes.load(Ordering::Relaxed) + ready as u64 * self.file_bytes;
        ready < self.files_max && held + self.file_bytes <= self.bytes_max
    }

    pub(crate) fn wait(&self) {
        if !self.wants_file() {
            let mut ready = self.ready.lock();
            self.taken.wait_for(&mut ready, BACKGROUND_INTERVAL);
        }
    }

    pub(crate) fn wake(&self) {
        self.taken.notify_all();
    }

    pub(crate) fn refill(&self, dir: &DirShared) -> Result<bool, DirectoryOffline> {
        dir.health.check()?;
        let mut made = false;
        while self.wants_file() && self.has_room(dir) {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            let path = dir.path.join(format!("{PREFIX}{number}"));
            match self.make(&*dir.disk, &path) {
                Ok(()) => self.ready.lock().push(path),
                Err(error) => {
                    let error = DiskError::new("fill", &path, error);
                    if !error.is_passing() {
                        return Err(dir.health.fail(error));
                    }
                    // The pool is a comfort: without room segments do without it.
                    if let Err(error) = dir.disk.remove_file(&path)
                        && error.kind() != io::ErrorKind::NotFound
                    {
                        tracing::warn!(path = %path.display(), %error, "cannot remove half-filled file");
                    }
                    return Ok(made);
                }
            }
            made = true;
        }
        Ok(made)
    }

    fn make(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let file = disk.open(path, OpenMode::Truncate)?;
        write_zeros(&*file, 0, self.file_bytes)?;
        file.sync_data()
    }

    fn has_room(&self, dir: &DirShared) -> bool {
        let needed = self.file_bytes.saturating_mul(ROOM_FILES);
        dir.disk
            .available_bytes(&dir.path)
            .is_ok_and(|available| available >= needed)
    }

    /// Removes the ready files, at a clean shutdown or when their room is needed. Whether any was
    /// removed.
    pub(crate) fn remove_files(&self, disk: &dyn Disk) -> bool {
        let mut removed = false;
        for path in self.ready.lock().drain(..) {
            match disk.remove_file(&path) {
                Ok(()) => removed = true,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove pool file");
                }
            }
        }
        removed
    }
}
