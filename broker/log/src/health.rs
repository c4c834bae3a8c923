//! Whether a data directory can be written to. Its first failed write or sync is its last.
//!
//! After a failed `fdatasync` the kernel may call pages clean that never reached the disk, and a
//! second call then succeeds: nothing that is written afterwards could be trusted. So a failure is
//! sticky. Only a full volume is not one, and a process without descriptors or memory: nothing is
//! lost by it, and room may come back.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{AppendError, DirectoryFull, DirectoryOffline, DiskError, LogError, OpenError};

/// The health of one data directory.
#[derive(Debug)]
pub(crate) struct Health {
    directory: PathBuf,
    offline: OnceLock<DirectoryOffline>,
}

/// Why a write was not done.
#[derive(Debug, Clone)]
pub(crate) enum WriteFailure {
    Offline(DirectoryOffline),
    Full(DirectoryFull),
}

impl Health {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            offline: OnceLock::new(),
        }
    }

    /// `Err` once the directory is offline.
    pub(crate) fn check(&self) -> Result<(), DirectoryOffline> {
        self.offline
            .get()
            .map_or(Ok(()), |offline| Err(offline.clone()))
    }

    pub(crate) fn offline(&self) -> Option<&DirectoryOffline> {
        self.offline.get()
    }

    /// Takes the directory offline; the first reason stays.
    pub(crate) fn fail(&self, reason: DiskError) -> DirectoryOffline {
        let mut first = false;
        let offline = self.offline.get_or_init(|| {
            first = true;
            DirectoryOffline {
                directory: self.directory.clone(),
                reason,
            }
        });
        if first {
            tracing::error!(
                directory = %self.directory.display(),
                reason = %offline.reason,
                "data directory taken offline; restart the node to recover it"
            );
        }
        offline.clone()
    }

    /// A failed write or change of names: full, or the end of the directory. Not for syncs of what
    /// readers have seen: those end the directory whatever the reason.
    pub(crate) fn write_failed(&self, error: DiskError) -> WriteFailure {
        if error.is_passing() {
            WriteFailure::Full(DirectoryFull {
                directory: self.directory.clone(),
                source: error,
            })
        } else {
            WriteFailure::Offline(self.fail(error))
        }
    }
}

impl From<DirectoryOffline> for WriteFailure {
    fn from(offline: DirectoryOffline) -> Self {
        Self::Offline(offline)
    }
}

macro_rules! from_write_failure {
    ($($error:ident),*) => {$(
        impl From<WriteFailure> for $error {
            fn from(failure: WriteFailure) -> Self {
                match failure {
                    WriteFailure::Offline(offline) => Self::Offline(offline),
                    WriteFailure::Full(full) => Self::Full(full),
                }
            }
        }
    )*};
}

from_write_failure!(AppendError, LogError, OpenError);
