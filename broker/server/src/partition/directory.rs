//! One data directory of the node: its files, its writer, its share of memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conveyor_log::{DataDir, DirectoryOffline, Flusher, LogError, OpenError};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::writer::Writer;
use super::{Append, Partition};
use crate::metrics::Metrics;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The engine refuses it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread for data directory {}: {source}", path.display())]
    Thread {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Size of the volume under a data directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VolumeRoom {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
}

/// A data directory with its writer and flusher.
#[derive(Debug)]
pub(crate) struct Directory {
    dir: DataDir,
    writer: Writer,
    /// Bytes of batches that may be between socket and answer. Producers wait for it before their
    /// batch is queued, and no further message is read from their stream meanwhile.
    room: Arc<Semaphore>,
    room_bytes: usize,
    /// Partitions with records that nobody waits to be synced.
    unsynced: Mutex<Vec<Arc<Partition>>>,
    partition_count: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Directory {
    /// Starts the threads of an open directory.
    pub(crate) fn start(
        dir: DataDir,
        room_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, DirectoryError> {
        let thread_error = |source| DirectoryError::Thread {
            path: dir.path().to_owned(),
            source,
        };
        let flusher = Flusher::start(&dir).map_err(thread_error)?;
        let name = dir
            .path()
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let writer = Writer::start(&name, flusher).map_err(thread_error)?;
        Ok(Arc::new(Self {
            writer,
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
            unsynced: Mutex::new(Vec::new()),
            partition_count: AtomicUsize::new(0),
            metrics,
            dir,
        }))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The engine's handle.
    pub(crate) fn data_dir(&self) -> &DataDir {
        &self.dir
    }

    /// Why writes are refused, if they are.
    pub(crate) fn offline(&self) -> Option<DirectoryOffline> {
        self.dir.offline()
    }

    /// A share of the room for `size` bytes; a batch larger than all of it takes all of it. `None`
    /// only when the node is stopping.
    pub(super) async fn permit(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        let size = size.min(self.room_bytes) as u32;
        match Arc::clone(&self.room).try_acquire_many_owned(size) {
            Ok(permit) => Some(permit),
            Err(_) => Arc::clone(&self.room).acquire_many_owned(size).await.ok(),
        }
    }

    /// Bytes queued or not answered yet.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.room_bytes - self.room.available_permits().min(self.room_bytes)
    }

    /// Measures an append from queue to answer.
    pub(super) fn record_append(&self, duration: Duration) {
        self.metrics.append.record(duration);
    }

    /// How large its volume is; `None` if the system does not say.
    pub(crate) fn room(&self) -> Option<VolumeRoom> {
        let volume = rustix::fs::statvfs(self.path()).ok()?;
        Some(VolumeRoom {
            total_bytes: volume.f_blocks.saturating_mul(volume.f_frsize),
            available_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
        })
    }

    /// Logs in it.
    pub(crate) fn partition_count(&self) -> usize {
        self.partition_count.load(Ordering::Relaxed)
    }

    /// Counts logs that were added (or, below 0, removed).
    pub(crate) fn count_partitions(&self, by: isize) {
        self.partition_count
            .fetch_add(by.cast_unsigned(), Ordering::Relaxed);
    }

    pub(super) fn submit(&self, append: Append) {
        self.writer.submit(append);
    }

    pub(super) fn mark_unsynced(&self, partition: &Arc<Partition>) {
        let mut unsynced = self.unsynced.lock();
        if !unsynced.iter().any(|known| Arc::ptr_eq(known, partition)) {
            unsynced.push(Arc::clone(partition));
        }
    }

    /// Syncs, soon, what was acknowledged from the page cache.
    pub(crate) fn sync_unsynced(&self) {
        for partition in std::mem::take(&mut *self.unsynced.lock()) {
            self.writer.request_sync(partition);
        }
    }

    /// Appends and syncs what is queued and ends the threads; appends are refused from now on.
    pub(crate) fn stop_writer(&self) {
        self.writer.stop();
        self.unsynced.lock().clear();
    }

    /// Checkpoints, clean marker, lock; after every log was closed.
    pub(crate) fn close(&self) -> Result<(), LogError> {
        self.dir.clone().close()
    }
}
