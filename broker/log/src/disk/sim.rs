//! A disk in memory that forgets what was not synced, and fails when it is told to.
//!
//! Each file has what the page cache holds and what the platter holds, and the set of dirty 4 KiB
//! pages between them. Folder entries have the same two sides, with the list of changes in between.
//! - [`Crash::Process`] (SIGKILL): the cache survives, open handles do not.
//! - [`Crash::Power`]: each dirty page is kept, dropped, or torn by 512-byte sector; lengths and
//!   folder changes that were not synced may or may not be there.
//! - A failing sync behaves like ext4: the pages are called clean, some of them never reached the
//!   platter, reads still see them, and the next sync succeeds.
//!
//! Everything random comes from the seed, in the order of the calls: the same calls give the same
//! disk. It belongs to the engine, not to its tests, so that the cluster simulator can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, DirLock, Disk, DiskFile, FileInfo, FileMap, OpenMode};

mod inode;
mod names;
mod rng;

use inode::Inode;
use names::{Names, Node};
pub use rng::SimRng;

/// How a simulated machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: the page cache survives.
    Process,
    /// The power is cut: what was not synced may be gone, whole or in part.
    Power,
}

/// Faults by chance, each as a number of calls in a million; all 0 by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Reads that fail with EIO.
    pub read_errors: u32,
    /// Writes that fail with EIO after a part was written.
    pub write_errors: u32,
    /// Syncs of files that fail with EIO and lose some pages for good, as on ext4.
    pub sync_errors: u32,
}

/// Promises that the disk makes and does not keep. An engine on such a disk must lose records; a test
/// that does not notice tests nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    /// Syncs of files succeed and do nothing.
    pub file_syncs: bool,
    /// Syncs of folders succeed and do nothing.
    pub dir_syncs: bool,
    /// Reads flip a bit now and then.
    pub reads: bool,
}

/// What the disk has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Read calls.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Write calls.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Successful syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
    /// Faults injected.
    pub faults: u64,
}

/// The simulated disk; clones are handles of the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    rng: SimRng,
    names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Counts crashes: handles of an earlier life are dead.
    life: u64,
    locks: BTreeSet<PathBuf>,
    faults: FaultPlan,
    fail_next_syncs: u32,
    fail_next_opens: u32,
    /// Changes that still succeed before the machine stands still.
    halt_in: Option<u64>,
    lies: Lies,
    capacity: Option<u64>,
    stats: SimStats,
}

impl SimDisk {
    /// An empty disk whose faults and crashes are decided by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                rng: SimRng::new(seed),
                names: Names::default(),
                inodes: BTreeMap::new(),
                next_inode: 0,
                life: 0,
                locks: BTreeSet::new(),
                faults: FaultPlan::default(),
                fail_next_syncs: 0,
                fail_next_opens: 0,
                halt_in: None,
                lies: Lies::default(),
                capacity: None,
                stats: SimStats::default(),
            })),
        }
    }

    /// The disk as the engine takes it.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Sets the chances of faults.
    pub fn set_faults(&self, faults: FaultPlan) {
        self.state.lock().faults = faults;
    }

    /// Lets the disk lie.
    pub fn set_lies(&self, lies: Lies) {
        self.state.lock().lies = lies;
    }

    /// Lets the next `count` syncs of files fail.
    pub fn fail_next_syncs(&self, count: u32) {
        self.state.lock().fail_next_syncs = count;
    }

    /// Lets the next `count` opens of files fail for want of a descriptor (EMFILE).
    pub fn fail_next_opens(&self, count: u32) {
        self.state.lock().fail_next_opens = count;
    }

    /// Lets the machine stand still after `changes` more changes (writes, syncs, names): every call
    /// fails from then on, until [`Self::crash`]. So a crash can come in the middle of anything.
    pub fn halt_after(&self, changes: u64) {
        self.state.lock().halt_in = Some(changes);
    }

    /// Whether the machine stands still.
    pub fn is_halted(&self) -> bool {
        self.state.lock().halt_in == Some(0)
    }

    /// Sets the size of the volume; writes beyond it fail with ENOSPC after a part was written.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes in all files.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// What the disk has done so far.
    pub fn stats(&self) -> SimStats {
        self.state.lock().stats
    }

    /// Takes the machine down. Every open handle and lock is dead afterwards.
    pub fn crash(&self, kind: Crash) {
        let mut state = self.state.lock();
        state.life += 1;
        state.locks.clear();
        state.fail_next_syncs = 0;
        state.fail_next_opens = 0;
        state.halt_in = None;
        if kind == Crash::Power {
            state.lose_power();
        }
    }

    /// Flips one bit of a file, on the platter and in the cache. `false` if there is no such byte.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> bool {
        let mut state = self.state.lock();
        let Some(Node::File(inode)) = state.names.live(path) else {
            return false;
        };
        state
            .inodes
            .get_mut(&inode)
            .is_some_and(|inode| inode.flip_bit(position, bit))
    }

    /// Content of a file as reads see it, `None` if there is no such file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        match state.names.live(path) {
            Some(Node::File(inode)) => state.inodes.get(&inode).map(|inode| inode.cache().to_vec()),
            _ => None,
        }
    }

    /// A part of a file as the platter holds it under a name that is durable: what would surely be
    /// there if the power went now. `None` if there is no such file or it is shorter.
    pub fn durable_content(&self, path: &Path, position: u64, len: usize) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.names.durable(path) else {
            return None;
        };
        let platter = state.inodes.get(&inode)?.platter();
        let start = position as usize;
        platter
            .get(start..start.checked_add(len)?)
            .map(<[u8]>::to_vec)
    }

    /// Replaces a file's content, on the platter and in the cache: damage done from outside.
    pub fn set_content(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state.lock();
        if let Some(Node::File(inode)) = state.names.live(path)
            && let Some(inode) = state.inodes.get_mut(&inode)
        {
            inode.replace(bytes);
        }
    }

    /// All files, sorted by path.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().names.live_files()
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.live_inodes();
        self.inodes
            .iter()
            .filter(|(id, _)| live.contains(id))
            .map(|(_, inode)| inode.cache().len() as u64)
            .sum()
    }

    fn lose_power(&mut self) {
        self.names.crash(&mut self.rng);
        for inode in self.inodes.values_mut() {
            inode.crash(&mut self.rng);
        }
        let live = self.names.live_inodes();
        self.inodes.retain(|id, _| live.contains(id));
    }

    /// Counts a change; `Err` if the machine stands still.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.halt_in {
            None => Ok(()),
            Some(0) => Err(eio()),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(eio()) } else { Ok(()) }
            }
        }
    }

    fn fault(&mut self, per_million: u32) -> bool {
        let hit = per_million > 0 && self.rng.below(1_000_000) < u64::from(per_million);
        self.stats.faults += u64::from(hit);
        hit
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        if state.halt_in == Some(0) {
            return Err(eio());
        }
        if state.fail_next_opens > 0 {
            state.fail_next_opens -= 1;
            state.stats.faults += 1;
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::MFILE.raw_os_error(),
            ));
        }
        let id = match state.names.live(path) {
            Some(Node::File(id)) => {
                if mode == OpenMode::Truncate {
                    state.change()?;
                    state.inodes.get_mut(&id).ok_or_else(not_found)?.set_len(0);
                }
                id
            }
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None if matches!(mode, OpenMode::Create | OpenMode::Truncate) => {
                state.change()?;
                let id = state.next_inode;
                state.next_inode += 1;
                state.names.create(path, Node::File(id))?;
                state.inodes.insert(id, Inode::default());
                id
            }
            None => return Err(not_found()),
        };
        Ok(Arc::new(SimFile {
            state: Arc::clone(&self.state),
            inode: id,
            life: state.life,
            writable: mode != OpenMode::Read,
        }))
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        let state = self.state.lock();
        Ok(match state.names.live(path) {
            None => None,
            Some(Node::Dir) => Some(FileInfo {
                len: 0,
                is_dir: true,
                modified_ms: None,
            }),
            Some(Node::File(id)) => {
                let len = state
                    .inodes
                    .get(&id)
                    .map_or(0, |inode| inode.cache().len() as u64);
                Some(FileInfo {
                    len,
                    is_dir: false,
                    modified_ms: None,
                })
            }
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.state.lock().names.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.create_dirs(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.remove(path, false)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.remove(dir, true)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.stats.dir_syncs += 1;
        if state.lies.dir_syncs {
            return Ok(());
        }
        state.names.sync(dir)
    }

    fn sync_volume(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(state.used_bytes())
        }))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let mut state = self.state.lock();
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock {
            state: Arc::clone(&self.state),
            path: path.to_path_buf(),
            life: state.life,
        })))
    }
}

#[derive(Debug)]
struct SimLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    life: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    life: u64,
    writable: bool,
}

impl SimFile {
    /// Runs `act` on the file, unless the machine has crashed since the file was opened.
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.life != self.life || state.halt_in == Some(0) {
            return Err(eio());
        }
        act(&mut state, self.inode)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|state, id| Ok(state.inodes[&id].cache().len() as u64))
    }

    fn read_at(&self, position: u64, out: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        self.with(|state, id| {
            let errors = state.faults.read_errors;
            if state.fault(errors) {
                return Err(eio());
            }
            let cache = state.inodes[&id].cache();
            let start = (position as usize).min(cache.len());
            let end = start.saturating_add(max).min(cache.len());
            out.extend_from_slice(&cache[start..end]);
            if state.lies.reads && end > start && state.rng.one_in(20) {
                let bit = state.rng.below(8);
                let place = out.len() - 1 - state.rng.below((end - start) as u64) as usize;
                out[place] ^= 1 << bit;
            }
            state.stats.reads += 1;
            state.stats.bytes_read += (end - start) as u64;
            Ok(end - start)
        })
    }

    fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.read_at(position, &mut bytes, out.len())? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn write_vectored_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|state, id| {
            let halted = state.change().is_err();
            let mut bytes = Vec::new();
            for part in parts.iter() {
                bytes.extend_from_slice(part);
            }
            let mut result = Ok(());
            let len = state.inodes[&id].cache().len() as u64;
            let growth = (position + bytes.len() as u64).saturating_sub(len);
            if let Some(capacity) = state.capacity {
                let room = capacity.saturating_sub(state.used_bytes());
                if growth > room {
                    let missing = (growth - room).min(bytes.len() as u64) as usize;
                    bytes.truncate(bytes.len() - missing);
                    result = Err(enospc());
                }
            }
            let errors = state.faults.write_errors;
            if result.is_ok() && (halted || state.fault(errors)) {
                let part = state.rng.below(bytes.len() as u64 + 1) as usize;
                bytes.truncate(part);
                result = Err(eio());
            }
            state.stats.writes += 1;
            state.stats.bytes_written += bytes.len() as u64;
            if !bytes.is_empty()
                && let Some(inode) = state.inodes.get_mut(&id)
            {
                inode.write(position, &bytes);
            }
            result
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            let errors = state.faults.sync_errors;
            let planned = state.fail_next_syncs > 0;
            if planned {
                state.fail_next_syncs -= 1;
                state.stats.faults += 1;
            }
            let fails = planned || state.fault(errors);
            let State {
                rng,
                inodes,
                stats,
                lies,
                ..
            } = state;
            let inode = inodes.get_mut(&id).ok_or_else(not_found)?;
            if fails {
                inode.fail_sync(rng);
                return Err(eio());
            }
            if !lies.file_syncs {
                inode.sync();
            }
            stats.syncs += 1;
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state, id| {
            state
                .inodes
                .get_mut(&id)
                .ok_or_else(not_found)?
                .set_len(len as usize);
            Ok(())
        })
    }

    fn map(&self, _len: u64) -> io::Result<Option<FileMap>> {
        Ok(None)
    }
}
