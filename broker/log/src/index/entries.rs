//! A file of fixed-size entries: appended in memory, written in pages, looked up through a map.
//!
//! The owner appends; readers look up meanwhile. New entries collect in a short tail in memory and
//! go to the file a page at a time, so that the append path does no I/O for most of them. Entries in
//! the file are looked up through a read-only map where the disk has one, by positional reads
//! otherwise. Only recently used files are mapped: [`MapBudget`] bounds their number.
//!
//! Invariant: entries `0..written` are in the file, the rest is in the tail, in order. The file is cut
//! only under the write lock, after the map was dropped.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::disk::{Disk, DiskFile, FileMap, OpenMode};

/// Entries that collect in memory before they are written.
const TAIL_ENTRIES_MAX: usize = 512;
/// Files with fewer entries are not worth a map.
const MAP_ENTRIES_MIN: usize = 64;

/// Bounds the number of index files that are mapped at a time: the oldest map goes first.
#[derive(Debug)]
pub(crate) struct MapBudget {
    max: usize,
    mapped: Mutex<VecDeque<Weak<dyn Unmap>>>,
}

/// Something whose map can be taken away.
trait Unmap: Send + Sync + std::fmt::Debug {
    fn unmap(&self);
}

impl MapBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            mapped: Mutex::new(VecDeque::new()),
        })
    }

    fn admit(&self, file: Weak<dyn Unmap>) {
        let evicted = {
            let mut mapped = self.mapped.lock();
            mapped.push_back(file);
            if mapped.len() > self.max {
                mapped.pop_front()
            } else {
                None
            }
        };
        // Outside the lock: the evicted file takes its own lock.
        if let Some(file) = evicted.and_then(|file| file.upgrade()) {
            file.unmap();
        }
    }
}

/// The entries of one index file, `N` bytes each.
#[derive(Debug)]
pub(crate) struct Entries<const N: usize> {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    budget: Arc<MapBudget>,
    myself: Weak<Self>,
    state: RwLock<State<N>>,
    /// A map is being made or there: keeps readers from queueing for the write lock.
    map_asked: AtomicBool,
}

#[derive(Debug)]
struct State<const N: usize> {
    /// Opened or created with the first write or read that needs it.
    file: Option<Arc<dyn DiskFile>>,
    written: usize,
    tail: Vec<[u8; N]>,
    map: Option<FileMap>,
}

impl<const N: usize> Entries<N> {
    /// The entries of the file at `path`; a file that is not there has none. A torn last entry does
    /// not count.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        budget: &Arc<MapBudget>,
        path: &Path,
    ) -> io::Result<Arc<Self>> {
        let written = disk.info(path)?.map_or(0, |info| info.len as usize / N);
        Ok(Self::new(disk, budget, path, written))
    }

    /// No entries, whatever the file holds: it is cut before anything is written to it.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        budget: &Arc<MapBudget>,
        path: &Path,
    ) -> io::Result<Arc<Self>> {
        let entries = Self::new(disk, budget, path, 0);
        if disk.info(path)?.is_some_and(|info| info.len > 0) {
            disk.open(path, OpenMode::Truncate)?;
        }
        Ok(entries)
    }

    fn new(
        disk: &Arc<dyn Disk>,
        budget: &Arc<MapBudget>,
        path: &Path,
        written: usize,
    ) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            path: path.to_path_buf(),
            disk: Arc::clone(disk),
            budget: Arc::clone(budget),
            myself: Weak::clone(myself),
            state: RwLock::new(State {
                file: None,
                written,
                tail: Vec::new(),
                map: None,
            }),
            map_asked: AtomicBool::new(false),
        })
    }

    pub(crate) fn len(&self) -> usize {
        let state = self.state.read();
        state.written + state.tail.len()
    }

    /// Adds an entry. A page of entries is written now and then; on an error the entries stay in
    /// memory and the next append tries again.
    pub(crate) fn append(&self, entry: [u8; N]) -> io::Result<()> {
        let mut state = self.state.write();
        state.tail.push(entry);
        if state.tail.len().is_multiple_of(TAIL_ENTRIES_MAX) {
            self.write_tail(&mut state)
        } else {
            Ok(())
        }
    }

    /// The last entry.
    pub(crate) fn last(&self) -> io::Result<Option<[u8; N]>> {
        let count = self.len();
        if count == 0 {
            Ok(None)
        } else {
            self.get(count - 1)
        }
    }

    /// Entry number `index`, if there is one.
    pub(crate) fn get(&self, index: usize) -> io::Result<Option<[u8; N]>> {
        self.ensure_open()?;
        self.state.read().get(index)
    }

    /// Number of leading entries for which `is_before` holds, by binary search: it must hold for a
    /// prefix of the entries.
    pub(crate) fn partition_point(
        &self,
        is_before: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<usize> {
        self.ensure_open()?;
        self.ensure_mapped();
        let state = self.state.read();
        let (mut low, mut high) = (0, state.written + state.tail.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match state.get(middle)? {
                Some(entry) if is_before(&entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Keeps the first `count` entries.
    pub(crate) fn truncate(&self, count: usize) -> io::Result<()> {
        let mut state = self.state.write();
        if count >= state.written {
            let keep = count - state.written;
            state.tail.truncate(keep);
            return Ok(());
        }
        state.map = None;
        self.map_asked.store(false, Ordering::Relaxed);
        state.tail.clear();
        state.written = count;
        let file = self.file(&mut state, OpenMode::Create)?;
        file.set_len((count * N) as u64)
    }

    /// Writes what is in memory. May be tried again after an error, such as a full disk.
    pub(crate) fn write(&self) -> io::Result<()> {
        let mut state = self.state.write();
        self.write_tail(&mut state)?;
        // Also an index without entries has its file: Kafka's tools expect one.
        self.file(&mut state, OpenMode::Create).map(drop)
    }

    /// Makes durable what was written. Must not be tried again after an error.
    pub(crate) fn sync_written(&self) -> io::Result<()> {
        let file = self.state.read().file.clone();
        file.map_or(Ok(()), |file| file.sync_data())
    }

    /// Writes what is in memory and makes the file durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.write()?;
        self.sync_written()
    }

    /// Keeps the longest prefix for which `follows` holds between each entry and the one before it,
    /// by reading them one after another: for a file whose end may hold anything.
    pub(crate) fn truncate_to_prefix(
        &self,
        follows: impl Fn(Option<&[u8; N]>, &[u8; N]) -> bool,
    ) -> io::Result<()> {
        let count = self.len();
        let (mut kept, mut before) = (0, None);
        while kept < count {
            let Some(entry) = self.get(kept)? else { break };
            if !follows(before.as_ref(), &entry) {
                break;
            }
            before = Some(entry);
            kept += 1;
        }
        if kept == count {
            return Ok(());
        }
        self.truncate(kept)
    }

    fn write_tail(&self, state: &mut State<N>) -> io::Result<()> {
        if state.tail.is_empty() {
            return Ok(());
        }
        let file = self.file(state, OpenMode::Create)?;
        file.write_at((state.written * N) as u64, state.tail.as_flattened())?;
        state.written += state.tail.len();
        state.tail.clear();
        Ok(())
    }

    fn file(&self, state: &mut State<N>, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path, mode)?;
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn ensure_open(&self) -> io::Result<()> {
        let missing = {
            let state = self.state.read();
            state.file.is_none() && state.written > 0
        };
        if missing {
            self.file(&mut self.state.write(), OpenMode::Write)?;
        }
        Ok(())
    }

    /// Maps the file if it is large enough and has grown to twice of what is mapped.
    fn ensure_mapped(&self) {
        let wanted = {
            let state = self.state.read();
            let mapped = state.map.as_ref().map_or(0, |map| map.len() / N);
            state.written >= MAP_ENTRIES_MIN && state.written >= 2 * mapped
        };
        if !wanted || self.map_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.write();
        let had_map = state.map.is_some();
        let len = (state.written * N) as u64;
        // Without a map look-ups read by position, so a failure costs time only. `map_asked` then
        // stays set: a disk without maps is not asked again.
        if let Some(Ok(Some(map))) = state.file.as_ref().map(|file| file.map(len)) {
            state.map = Some(map);
            drop(state);
            self.map_asked.store(false, Ordering::Relaxed);
            if !had_map {
                let myself: Weak<Self> = Weak::clone(&self.myself);
                self.budget.admit(myself);
            }
        }
    }
}

impl<const N: usize> Unmap for Entries<N> {
    fn unmap(&self) {
        self.state.write().map = None;
    }
}

impl<const N: usize> State<N> {
    fn get(&self, index: usize) -> io::Result<Option<[u8; N]>> {
        if index >= self.written {
            return Ok(self.tail.get(index - self.written).copied());
        }
        let start = index * N;
        if let Some(entry) = self
            .map
            .as_ref()
            .and_then(|map| map.get(start..))
            .and_then(|rest| rest.first_chunk::<N>())
        {
            return Ok(Some(*entry));
        }
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut entry = [0; N];
        file.read_exact_at(start as u64, &mut entry)?;
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{OsDisk, SimDisk};

    fn check(disk: &Arc<dyn Disk>, path: &Path) {
        let budget = MapBudget::new(1);
        let entries = Entries::<8>::create(disk, &budget, path).unwrap();
        for value in 0..2000_u64 {
            entries.append(value.to_be_bytes()).unwrap();
        }
        let find = |entries: &Entries<8>, target: u64| {
            entries
                .partition_point(|entry| u64::from_be_bytes(*entry) < target)
                .unwrap()
        };
        for target in [0, 1, 511, 512, 1999, 2000] {
            assert_eq!(find(&entries, target), target as usize);
        }
        entries.sync().unwrap();
        assert_eq!(disk.info(path).unwrap().unwrap().len, 16_000);

        let reopened = Entries::<8>::open(disk, &budget, path).unwrap();
        assert_eq!(reopened.len(), 2000);
        assert_eq!(find(&reopened, 1234), 1234);
        reopened.truncate(700).unwrap();
        assert_eq!(find(&reopened, 1234), 700);
        assert_eq!(reopened.last().unwrap(), Some(699_u64.to_be_bytes()));
        reopened.append(5000_u64.to_be_bytes()).unwrap();
        assert_eq!(find(&reopened, 5000), 700);
        reopened.truncate(700).unwrap();
        assert_eq!(reopened.len(), 700);
    }

    #[test]
    fn entries_are_found_in_tail_file_and_map() {
        let folder = tempfile::tempdir().unwrap();
        check(&OsDisk::shared(), &folder.path().join("a.index"));
        check(&SimDisk::new(1).shared(), Path::new("/a.index"));
    }

    #[test]
    fn the_number_of_maps_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let disk = OsDisk::shared();
        let budget = MapBudget::new(2);
        let files: Vec<_> = (0..5)
            .map(|number| {
                let path = folder.path().join(format!("{number}.index"));
                let entries = Entries::<8>::create(&disk, &budget, &path).unwrap();
                for value in 0..512_u64 {
                    entries.append(value.to_be_bytes()).unwrap();
                }
                assert_eq!(
                    entries
                        .partition_point(|e| u64::from_be_bytes(*e) < 9)
                        .unwrap(),
                    9
                );
                entries
            })
            .collect();
        let mapped = files
            .iter()
            .filter(|file| file.state.read().map.is_some())
            .count();
        assert_eq!(mapped, 2);
        for file in &files {
            assert_eq!(
                file.partition_point(|e| u64::from_be_bytes(*e) < 100)
                    .unwrap(),
                100
            );
        }
    }
}
