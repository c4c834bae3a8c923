//! A disk that asks the test before it does anything: to fail it, or to let something happen first.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use conveyor_log::disk::{DirEntry, DirLock, Disk, DiskFile, FileInfo, FileMap, OpenMode};

/// What the disk is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Open,
    Write,
    Sync,
}

type Hook = dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync;

/// A disk around another.
#[derive(Clone)]
pub struct HookedDisk {
    inner: Arc<dyn Disk>,
    hook: Arc<Mutex<Option<Arc<Hook>>>>,
}

impl HookedDisk {
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            hook: Arc::default(),
        }
    }

    /// From now on, `hook` is asked first.
    pub fn set(&self, hook: impl Fn(Operation, &Path) -> io::Result<()> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        // Called without the lock: the hook may use the disk itself.
        let hook = self.hook.lock().unwrap().clone();
        hook.map_or(Ok(()), |hook| hook(operation, path))
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[derive(Debug)]
struct HookedFile {
    disk: HookedDisk,
    path: PathBuf,
    inner: Arc<dyn DiskFile>,
}

impl Disk for HookedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(Operation::Open, path)?;
        Ok(Arc::new(HookedFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            inner: self.inner.open(path, mode)?,
        }))
    }
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        self.inner.info(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn sync_volume(&self, dir: &Path) -> io::Result<bool> {
        self.inner.sync_volume(dir)
    }
    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.inner.available_bytes(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        self.inner.lock(path)
    }
}

impl DiskFile for HookedFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn read_at(&self, position: u64, out: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        self.inner.read_at(position, out, max)
    }
    fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact_at(position, out)
    }
    fn write_vectored_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.disk.ask(Operation::Write, &self.path)?;
        self.inner.write_vectored_at(position, parts)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.ask(Operation::Sync, &self.path)?;
        self.inner.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn map(&self, len: u64) -> io::Result<Option<FileMap>> {
        self.inner.map(len)
    }
}
