//! The offset checkpoints of a data directory, in memory and on disk: recovery points, log starts, and
//! how far compaction has come.
//!
//! Losing them costs time, not records: without a recovery point the last segment is read from its
//! start. So a damaged file is reported and taken as missing. Only a *lowered* recovery point must be
//! on disk before the log is cut, or the next recovery would not look at what is written in its place.

use std::path::{Path, PathBuf};

use conveyor_record::Offset;
use parking_lot::Mutex;

use crate::checkpoint::{OffsetCheckpoint, encode_offsets, read_offsets};
use crate::disk::{Disk, write_atomically};
use crate::error::{DiskError, OpenError};
use crate::partition::TopicPartition;

const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
const LOG_START_FILE: &str = "log-start-offset-checkpoint";
const CLEANER_FILE: &str = "cleaner-offset-checkpoint";
/// Ours: Kafka does not check whether offsets are complete.
const GAP_FILE: &str = "conveyor-gap-offset-checkpoint";

/// The checkpoints of a data directory.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    recovery_points: CheckpointFile,
    log_starts: CheckpointFile,
    clean_offsets: CheckpointFile,
    gap_offsets: CheckpointFile,
}

#[derive(Debug)]
struct CheckpointFile {
    path: PathBuf,
    state: Mutex<State>,
    /// Held while the file is written, so that an older state never replaces a newer one.
    writing: Mutex<()>,
    was_damaged: bool,
}

#[derive(Debug, Default)]
struct State {
    offsets: OffsetCheckpoint,
    changed: bool,
}

impl Checkpoints {
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            recovery_points: CheckpointFile::read(disk, directory.join(RECOVERY_POINT_FILE))?,
            log_starts: CheckpointFile::read(disk, directory.join(LOG_START_FILE))?,
            clean_offsets: CheckpointFile::read(disk, directory.join(CLEANER_FILE))?,
            gap_offsets: CheckpointFile::read(disk, directory.join(GAP_FILE))?,
        })
    }

    pub(crate) fn recovery_point(&self, partition: &TopicPartition) -> Option<Offset> {
        self.recovery_points.get(partition)
    }

    pub(crate) fn set_recovery_point(&self, partition: &TopicPartition, offset: Offset) {
        self.recovery_points.set(partition, offset);
    }

    pub(crate) fn log_start(&self, partition: &TopicPartition) -> Option<Offset> {
        self.log_starts.get(partition)
    }

    pub(crate) fn set_log_start(&self, partition: &TopicPartition, offset: Offset) {
        self.log_starts.set(partition, offset);
    }

    /// Up to where compaction has left each key once.
    pub(crate) fn clean_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        self.clean_offsets.get(partition)
    }

    pub(crate) fn set_clean_offset(&self, partition: &TopicPartition, offset: Offset) {
        self.clean_offsets.set(partition, offset);
    }

    /// Below it, offsets may have gaps. A damaged file says "everywhere": a gap that is taken for
    /// damage would be worse than damage that is taken for a gap.
    pub(crate) fn gap_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        let everywhere = self.gap_offsets.was_damaged.then_some(Offset(i64::MAX));
        everywhere
            .or_else(|| self.gap_offsets.get(partition))
            .max(self.clean_offset(partition))
    }

    pub(crate) fn set_gap_offset(&self, partition: &TopicPartition, offset: Offset) {
        self.gap_offsets.set(partition, offset);
    }

    pub(crate) fn forget(&self, partition: &TopicPartition) {
        self.recovery_points.forget(partition);
        self.log_starts.forget(partition);
        self.clean_offsets.forget(partition);
        self.gap_offsets.forget(partition);
    }

    /// Writes what has changed, durably.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        self.recovery_points.write(disk)?;
        self.log_starts.write(disk)?;
        self.clean_offsets.write(disk)?;
        self.gap_offsets.write(disk)
    }
}

impl CheckpointFile {
    fn read(disk: &dyn Disk, path: PathBuf) -> Result<Self, OpenError> {
        let mut was_damaged = false;
        let offsets = match read_offsets(disk, &path) {
            Ok(offsets) => offsets,
            Err(OpenError::InvalidFile { path, what }) => {
                tracing::error!(path = %path.display(), what, "damaged checkpoint is taken as missing");
                was_damaged = true;
                OffsetCheckpoint::new()
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            path,
            state: Mutex::new(State {
                offsets,
                changed: false,
            }),
            writing: Mutex::new(()),
            was_damaged,
        })
    }

    fn get(&self, partition: &TopicPartition) -> Option<Offset> {
        self.state.lock().offsets.get(partition).copied()
    }

    fn set(&self, partition: &TopicPartition, offset: Offset) {
        let mut state = self.state.lock();
        if let Some(known) = state.offsets.get_mut(partition) {
            let changed = std::mem::replace(known, offset) != offset;
            state.changed |= changed;
        } else {
            state.offsets.insert(partition.clone(), offset);
            state.changed = true;
        }
    }

    fn forget(&self, partition: &TopicPartition) {
        let mut state = self.state.lock();
        let known = state.offsets.remove(partition).is_some();
        state.changed |= known;
    }

    fn write(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        let _writing = self.writing.lock();
        let bytes = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            encode_offsets(&state.offsets)
        };
        write_atomically(disk, &self.path, &bytes).map_err(|error| {
            self.state.lock().changed = true;
            DiskError::new("write", &self.path, error)
        })
    }
}
