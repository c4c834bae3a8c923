//! Folder entries of the simulated disk: what is visible, what is durable, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::rng::SimRng;
use crate::disk::DirEntry;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// A change and the folders that have still to be synced before it is durable.
#[derive(Debug)]
struct Pending {
    change: Change,
    folders: BTreeSet<PathBuf>,
}

/// Two trees of names and the changes that only one of them has.
#[derive(Debug, Default)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Pending>,
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/")
}

impl Names {
    pub(super) fn live(&self, path: &Path) -> Option<Node> {
        if is_root(path) {
            Some(Node::Dir)
        } else {
            self.live.get(path).copied()
        }
    }

    pub(super) fn durable(&self, path: &Path) -> Option<Node> {
        self.durable.get(path).copied()
    }

    pub(super) fn live_files(&self) -> Vec<PathBuf> {
        let files = self
            .live
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn live_inodes(&self) -> BTreeSet<u64> {
        self.live
            .values()
            .filter_map(|node| match node {
                Node::File(id) => Some(*id),
                Node::Dir => None,
            })
            .collect()
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        if self.live(dir) != Some(Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Paths are ordered by their components: what lies in a folder follows it.
        let inside = self
            .live
            .range::<Path, _>((Bound::Excluded(dir), Bound::Unbounded))
            .take_while(|(path, _)| is_root(dir) || path.starts_with(dir))
            .filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|(path, node)| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some(DirEntry {
                    name,
                    is_dir: *node == Node::Dir,
                })
            })
            .collect())
    }

    pub(super) fn create(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.live(&folder(path)) != Some(Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(Change::Create(path.to_path_buf(), node));
        Ok(())
    }

    pub(super) fn create_dirs(&mut self, dir: &Path) -> io::Result<()> {
        match self.live(dir) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                self.create_dirs(&folder(dir))?;
                self.create(dir, Node::Dir)
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.live(from).is_none() || self.live(&folder(to)) != Some(Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, is_dir: bool) -> io::Result<()> {
        match self.live(path) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::Dir) if !is_dir => Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) if is_dir => Err(io::ErrorKind::NotADirectory.into()),
            Some(Node::Dir) if !self.list(path)?.is_empty() => {
                Err(io::ErrorKind::DirectoryNotEmpty.into())
            }
            Some(_) => {
                self.change(Change::Remove(path.to_path_buf()));
                Ok(())
            }
        }
    }

    /// The changes of one folder become durable; a rename between two waits for both.
    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        if self.live(dir) != Some(Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for pending in std::mem::take(&mut self.pending) {
            let Pending {
                change,
                mut folders,
            } = pending;
            folders.remove(dir);
            if folders.is_empty() {
                apply(&mut self.durable, &change);
            } else {
                self.pending.push(Pending { change, folders });
            }
        }
        Ok(())
    }

    /// Some of the changes that were not synced are kept, in their order; the rest is lost.
    pub(super) fn crash(&mut self, rng: &mut SimRng) {
        let mode = rng.below(3);
        for pending in std::mem::take(&mut self.pending) {
            if mode == 1 || (mode == 2 && rng.one_in(2)) {
                apply(&mut self.durable, &pending.change);
            }
        }
        // A name in a folder that never became durable is lost with it.
        let known: BTreeSet<PathBuf> = self.durable.keys().cloned().collect();
        self.durable.retain(|path, _| {
            path.ancestors()
                .skip(1)
                .all(|up| is_root(up) || known.contains(up))
        });
        self.live = self.durable.clone();
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        let folders = match &change {
            Change::Create(path, _) | Change::Remove(path) => BTreeSet::from([folder(path)]),
            Change::Rename(from, to) => BTreeSet::from([folder(from), folder(to)]),
        };
        self.pending.push(Pending { change, folders });
    }
}

/// Applies a change if it can be: after a crash its source may never have become durable.
fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Create(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            let Some(node) = names.remove(from) else {
                return;
            };
            names.insert(to.clone(), node);
            let behind = names.range::<Path, _>((Bound::Excluded(&**from), Bound::Unbounded));
            let inside: Vec<PathBuf> = behind
                .map(|(path, _)| path)
                .take_while(|path| path.starts_with(from))
                .cloned()
                .collect();
            for path in inside {
                if let (Some(node), Ok(rest)) = (names.remove(&path), path.strip_prefix(from)) {
                    names.insert(to.join(rest), node);
                }
            }
        }
    }
}
