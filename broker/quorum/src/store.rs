//! What a member of the quorum must not forget: term, vote, log and snapshot, in one folder.
//!
//! ```text
//! quorum/
//!   .lock                         one process at a time
//!   quorum-state                  who this is, term, vote, how far the rest is vouched for
//!   quorum-log-<number>           entries since the snapshot, and some before it
//!   quorum-snapshot-<index>-<term>
//! ```
//! The formats are in [`superblock`], [`log_file`] and [`snapshot_file`], each with its version. The
//! superblock ties them: a log file or a snapshot counts because it is named there, and a log counts
//! up to where it says.
//!
//! What holds:
//! - [`Store::persist`] returns a [`Synced`] only after everything it was given has been synced, the
//!   superblock that vouches for it included. Nothing else makes one, and consensus lets nothing out
//!   without one.
//! - A log is replaced by a new file that is whole and synced before the superblock names it. Entries
//!   that another leader's replace are written over only after the superblock has stopped vouching
//!   for them.
//! - The first failed write or sync ends it: every later call fails with the same reason and nothing
//!   is tried again, since after a failed sync the kernel may call pages clean that never arrived.
//! - A start trusts nothing that was merely in the page cache: the log below the superblock's mark was
//!   synced before the mark was written, and the superblock itself is written again.
//! - Damage to what was synced is refused. A voter that forgot an entry it has acknowledged could
//!   help to elect a leader without it, so its log is never cut to where it still makes sense; such
//!   a node is wiped and joins again under a new voter id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_log::disk::{DirLock, Disk, DiskFile};
use conveyor_record::NodeId;
use uuid::Uuid;

mod log_file;
mod snapshot_file;
mod superblock;
#[cfg(test)]
mod tests;

use log_file::LogFile;
use superblock::{State, Superblock};

use crate::consensus::Write;
use crate::entry::{Entry, HardState, LogPosition, Snapshot};
use crate::membership::{Membership, VoterId};
use crate::mutant::{self, Mutant};

const LOCK_NAME: &str = ".lock";

/// Whose folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The node.
    pub node_id: NodeId,
    /// Under which id this node with this disk votes.
    pub voter_id: VoterId,
}

/// Whose folder it should be, as far as the settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The node.
    pub node_id: NodeId,
    /// The cluster, if the settings name it.
    pub cluster_id: Option<Uuid>,
}

/// Why a folder cannot be used. Nothing in it has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process; stop that one first", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It belongs to another cluster.
    #[error("{} belongs to cluster {found}, the settings say {expected}; point the settings to this node's own folder, or correct the cluster id", .path.display())]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Its cluster.
        found: Uuid,
        /// The one expected.
        expected: Uuid,
    },
    /// It belongs to another node.
    #[error("{} belongs to node {found}, the settings say node {expected}; two nodes must not share an id or a folder", .path.display())]
    OtherNode {
        /// The folder.
        path: PathBuf,
        /// Its node.
        found: NodeId,
        /// The one expected.
        expected: NodeId,
    },
    /// A later version has written it.
    #[error("{} has format version {found}, this program reads up to {supported}; run the version that wrote it", .path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i16,
        /// The newest that can be read.
        supported: i16,
    },
    /// What was synced cannot be read any more.
    #[error("{} is damaged: {what}. It is not mended, since this voter may have acknowledged what is lost: check the disk, move the folder away, and let the node join again as a new member", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The disk does not do what it should.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder could not be prepared.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// The disk failed. The node must stop; nothing is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {}: {reason}; the quorum's store is closed until the disk is sound and the node is started again", .path.display())]
pub struct StoreError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system says.
    pub reason: String,
}

impl StoreError {
    fn new(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self {
            action,
            path: path.to_path_buf(),
            reason: error.to_string(),
        }
    }
}

/// Proof that a round was written and synced. Only [`Store::persist`] makes it.
#[derive(Debug)]
pub struct Synced(());

/// What was found in a folder.
#[derive(Debug)]
pub struct Recovered {
    /// Whose it is.
    pub identity: Identity,
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// The newest snapshot; `None` for a learner that has not got one yet.
    pub snapshot: Option<Snapshot>,
    /// The entry before the first of `entries`.
    pub base: LogPosition,
    /// The log, which may reach back to before the snapshot.
    pub entries: Vec<Entry>,
}

/// What a folder turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// Nothing yet: this node is new, or its disk was wiped.
    New(EmptyStore),
    /// A member's.
    Existing(Box<Store>, Box<Recovered>),
}

/// A locked folder that no member has used yet.
#[derive(Debug)]
pub struct EmptyStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lock: Box<dyn DirLock>,
}

/// The open store of one member.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    superblock: Superblock,
    log: LogFile,
    failed: Option<StoreError>,
    _lock: Box<dyn DirLock>,
}

/// A sync, unless a mutant plays with it.
fn sync(file: &dyn DiskFile) -> io::Result<()> {
    match file.sync_data() {
        Err(_) if mutant::active(Mutant::SyncErrorIgnored) => Ok(()),
        result => result,
    }
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    if mutant::active(Mutant::FolderNotSynced) {
        return Ok(());
    }
    let synced = disk.sync_dir(dir);
    synced.map_err(|error| StoreError::new("sync the folder", dir, &error))
}

/// Makes the folder's own name durable, and those of the folders above it, which may be as new. Above
/// what this process may not even read, nothing is new.
fn sync_names_above(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    for above in dir.ancestors().skip(1) {
        let is_here = above == Path::new("");
        let above = if is_here { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => {
                synced.map_err(|error| StoreError::new("sync the folder", above, &error))?;
            }
        }
    }
    Ok(())
}

/// Opens the folder `dir`, creating it if need be.
pub fn open(disk: Arc<dyn Disk>, dir: &Path, expected: Expected) -> Result<Opened, OpenError> {
    disk.create_dir(dir)
        .map_err(|error| OpenError::io("create", dir, error))?;
    let lock = disk
        .lock(&dir.join(LOCK_NAME))
        .map_err(|error| OpenError::io("lock", dir, error))?
        .ok_or_else(|| OpenError::InUse {
            path: dir.to_path_buf(),
        })?;
    let empty = EmptyStore {
        disk,
        dir: dir.to_path_buf(),
        lock,
    };
    if Superblock::exists(&*empty.disk, dir)? {
        empty.open_existing(expected)
    } else {
        Ok(Opened::New(empty))
    }
}

impl EmptyStore {
    fn open_existing(self, expected: Expected) -> Result<Opened, OpenError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        let mut superblock = Superblock::open(disk, dir)?;
        let mut state = *superblock.state();
        let identity = state.identity;
        check_owner(dir, identity, expected)?;
        let (log, entries) = LogFile::open(disk, dir, state.log, &identity, &mut state.log_end)?;
        let snapshot = match state.snapshot.index {
            0 => None,
            _ => Some(snapshot_file::read(
                disk,
                dir,
                identity.cluster_id,
                state.snapshot,
            )?),
        };
        check_reach(dir, &state, log.base())?;
        // Everything fits: only now is something written. Names may have come from the cache as well.
        superblock.renew()?;
        sync_dir(disk, dir)?;
        if state != *superblock.state() {
            superblock.write(state)?;
        }
        let mut hard_state = state.hard_state;
        hard_state.commit = hard_state.commit.max(state.snapshot.index);
        let recovered = Recovered {
            identity,
            hard_state,
            snapshot,
            base: log.base(),
            entries,
        };
        let store = self.filled(superblock, log);
        Ok(Opened::Existing(Box::new(store), Box::new(recovered)))
    }

    /// Makes this the folder of a first voter of a new cluster. All first voters must be given the
    /// same members.
    ///
    /// The log begins behind entry 1 of term 1, which stands for the first members, so that whoever
    /// joins later gets them with a snapshot.
    pub fn bootstrap(
        self,
        identity: Identity,
        membership: Membership,
    ) -> Result<(Store, Recovered), OpenError> {
        let first = LogPosition { term: 1, index: 1 };
        let snapshot = Snapshot {
            last: first,
            membership,
            data: bytes::Bytes::new(),
        };
        self.create(identity, Some(snapshot))
    }

    /// Makes this the folder of a member that joins: it knows nothing but who it is, and gets the
    /// rest from the leader.
    pub fn join(self, identity: Identity) -> Result<(Store, Recovered), OpenError> {
        self.create(identity, None)
    }

    /// The store of a folder that has all it needs; what a crash left behind goes.
    fn filled(self, superblock: Superblock, log: LogFile) -> Store {
        let store = Store {
            disk: self.disk,
            dir: self.dir,
            superblock,
            log,
            failed: None,
            _lock: self.lock,
        };
        store.remove_leftovers();
        store
    }

    fn create(
        self,
        identity: Identity,
        snapshot: Option<Snapshot>,
    ) -> Result<(Store, Recovered), OpenError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        sync_names_above(disk, dir)?;
        let base = snapshot
            .as_ref()
            .map_or_else(LogPosition::default, |s| s.last);
        if let Some(snapshot) = &snapshot {
            snapshot_file::write(disk, dir, identity.cluster_id, snapshot)?;
        }
        let log = LogFile::create(disk, dir, 1, &identity, base, std::iter::empty())?;
        sync_dir(disk, dir)?;
        let hard_state = HardState {
            term: base.term,
            vote: 0,
            commit: base.index,
        };
        let state = State {
            generation: 1,
            identity,
            hard_state,
            log: 1,
            log_end: log.end(),
            snapshot: base,
        };
        let superblock = Superblock::create(disk, dir, state)?;
        let store = self.filled(superblock, log);
        let recovered = Recovered {
            identity,
            hard_state,
            snapshot,
            base,
            entries: Vec::new(),
        };
        Ok((store, recovered))
    }
}

fn check_owner(dir: &Path, found: Identity, expected: Expected) -> Result<(), OpenError> {
    let path = || dir.to_path_buf();
    if let Some(cluster_id) = expected.cluster_id.filter(|id| *id != found.cluster_id) {
        return Err(OpenError::OtherCluster {
            path: path(),
            found: found.cluster_id,
            expected: cluster_id,
        });
    }
    if found.node_id != expected.node_id {
        return Err(OpenError::OtherNode {
            path: path(),
            found: found.node_id,
            expected: expected.node_id,
        });
    }
    Ok(())
}

/// The snapshot and the log must meet, and what is committed must be there.
fn check_reach(dir: &Path, state: &State, base: LogPosition) -> Result<(), OpenError> {
    let (snapshot, last) = (state.snapshot.index, state.log_end.last.index);
    let committed = state.hard_state.commit;
    if base.index <= snapshot && snapshot <= last && committed <= last {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: dir.to_path_buf(),
        what: format!(
            "its log has entries {} to {last}, its snapshot goes up to entry {snapshot}, and entry \
             {committed} is committed",
            base.index + 1
        ),
    })
}

impl Store {
    /// Whose it is.
    pub fn identity(&self) -> Identity {
        self.superblock.state().identity
    }

    /// Why the store is closed, if it is.
    pub fn failure(&self) -> Option<&StoreError> {
        self.failed.as_ref()
    }

    /// Writes a round and syncs it. After an error the store is closed.
    pub fn persist(&mut self, write: &Write) -> Result<Synced, StoreError> {
        self.guarded(|store| store.write_round(write))?;
        Ok(Synced(()))
    }

    /// Remembers that the log is committed up to `index`, which must be in it.
    ///
    /// Otherwise the commit index is only written along with other things, and a start may find an
    /// older one. That does not do for changes of the members: a node that forgets that one was
    /// committed asks the former members for their votes, some of whom may be gone for good.
    pub fn record_commit(&mut self, index: u64) -> Result<(), StoreError> {
        self.guarded(|store| {
            let mut state = *store.superblock.state();
            if state.hard_state.commit >= index || mutant::active(Mutant::ChangeForgotten) {
                return Ok(());
            }
            state.hard_state.commit = index;
            store.superblock.write(state)
        })
    }

    /// Puts a snapshot of what was applied in place of the log up to it, except for its last `keep`
    /// entries, so that members who lag a little need not be sent the whole. `entries` are those
    /// behind the place where the log will begin.
    pub fn save_snapshot(
        &mut self,
        snapshot: &Snapshot,
        base: LogPosition,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        self.guarded(|store| {
            let state = *store.superblock.state();
            store.replace_log(state, snapshot, base, entries)
        })
    }

    fn guarded<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        act(self).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn write_round(&mut self, write: &Write) -> Result<(), StoreError> {
        let mut state = *self.superblock.state();
        let before = state.hard_state;
        state.hard_state = write.hard_state.unwrap_or(before);
        if let Some(snapshot) = &write.snapshot {
            return self.replace_log(state, snapshot, snapshot.last, &write.entries);
        }
        let Some(first) = write.entries.first() else {
            let vote = |state: HardState| (state.term, state.vote);
            if vote(state.hard_state) != vote(before) {
                self.superblock.write(state)?;
            }
            return Ok(());
        };
        if first.index <= state.log_end.last.index {
            self.log.forget_from(first.index);
            state.log_end = self.log.end();
            if !mutant::active(Mutant::OverwrittenWhileVouchedFor) {
                // What the new entries commit is not there yet.
                let hard_state = HardState {
                    commit: state.hard_state.commit.min(state.log_end.last.index),
                    ..state.hard_state
                };
                self.superblock.write(State {
                    hard_state,
                    ..state
                })?;
            }
        }
        self.log.write(write.entries.iter())?;
        self.log.sync()?;
        state.log_end = self.log.end();
        self.superblock.write(state)
    }

    fn replace_log(
        &mut self,
        mut state: State,
        snapshot: &Snapshot,
        base: LogPosition,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        snapshot_file::write(disk, dir, state.identity.cluster_id, snapshot)?;
        state.log += 1;
        let log = LogFile::create(disk, dir, state.log, &state.identity, base, entries.iter())?;
        sync_dir(disk, dir)?;
        state.log_end = log.end();
        state.snapshot = snapshot.last;
        state.hard_state.commit = state.hard_state.commit.max(snapshot.last.index);
        self.superblock.write(state)?;
        self.log = log;
        self.remove_leftovers();
        Ok(())
    }

    /// Removes what the superblock does not name. Nothing depends on its success.
    fn remove_leftovers(&self) {
        let state = self.superblock.state();
        let log = log_file::file_name(state.log);
        let snapshot = snapshot_file::file_name(state.snapshot);
        let Ok(found) = self.disk.list(&self.dir) else {
            return;
        };
        let mut names: Vec<String> = found.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        for name in names {
            let ours = log_file::number_of(&name).is_some() || snapshot_file::is_name(&name);
            if ours && name != log && name != snapshot {
                drop(self.disk.remove_file(&self.dir.join(name)));
            }
        }
    }
}

/// Entry points for tests that feed the readers of stored bytes with anything at all.
#[doc(hidden)]
pub mod decoders {
    use bytes::Bytes;

    /// Reads one slot of a superblock; whether it made sense.
    pub fn slot(bytes: &[u8]) -> bool {
        matches!(
            super::superblock::read_slot(bytes),
            super::superblock::Slot::State(_)
        )
    }

    /// Reads stored entries one behind the other; how many made sense.
    pub fn entries(mut bytes: &[u8], mut checksum: u32) -> usize {
        let mut count = 0;
        while let Some((_, next, size)) = super::log_file::read_entry(bytes, checksum) {
            bytes = &bytes[size..];
            checksum = next;
            count += 1;
        }
        count
    }

    /// Reads a snapshot file; whether it made sense.
    pub fn snapshot(bytes: &Bytes) -> bool {
        super::snapshot_file::decode(bytes).is_ok()
    }
}
