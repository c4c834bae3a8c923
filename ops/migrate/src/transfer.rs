//! Brings folders over: copied, linked or moved, each under a name of its own until it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use conveyor_log::data_dir::IMPORT_FILE;

use crate::plan::{Mode, Plan, PlannedPartition};
use crate::{ImportError, Progress, Step};

/// Ends the name of a folder that is not whole yet.
const UNFINISHED: &str = ".importing";
/// Ends the names of segments.
const LOG: &str = ".log";
/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

impl Plan {
    /// Brings every folder over. Folders that a former run has brought over are left as they are.
    pub fn transfer(&self, progress: Progress<'_>) -> Result<(), ImportError> {
        assert!(
            self.is_possible(),
            "a plan with problems is not carried out"
        );
        let stage = match self.mode {
            Mode::Copy => "copying",
            Mode::Link => "linking",
            Mode::Move => "moving",
        };
        progress(Step::Begin {
            stage,
            bytes: self.bytes,
        });
        for directory in &self.directories {
            prepare(&directory.data_dir, self)?;
        }
        for topic in &self.topics {
            for partition in &topic.partitions {
                if !progress(Step::Partition(
                    &topic.partition_name(partition).folder_name(),
                )) {
                    return Err(ImportError::Interrupted);
                }
                if partition.done {
                    progress(Step::Bytes(partition.bytes));
                } else {
                    bring_over(partition, self.mode, progress)?;
                }
            }
        }
        Ok(())
    }
}

/// Makes a data directory ours and removes what a former run has not finished.
fn prepare(directory: &Path, plan: &Plan) -> Result<(), ImportError> {
    fs::create_dir_all(directory).map_err(ImportError::io("create", directory))?;
    let marker = directory.join(IMPORT_FILE);
    let text = format!("cluster.id={}\nnode.id={}\n", plan.cluster_id, plan.node_id);
    fs::write(&marker, text).map_err(ImportError::io("write", &marker))?;
    sync(&marker)?;
    for entry in fs::read_dir(directory).map_err(ImportError::io("list", directory))? {
        let path = entry.map_err(ImportError::io("list", directory))?.path();
        if path.to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_dir_all(&path).map_err(ImportError::io("remove", &path))?;
        }
    }
    sync(directory)
}

fn bring_over(
    partition: &PlannedPartition,
    mode: Mode,
    progress: Progress<'_>,
) -> Result<(), ImportError> {
    if mode == Mode::Move {
        match fs::rename(&partition.source, &partition.target) {
            Ok(()) => {
                progress(Step::Bytes(partition.bytes));
                return sync_parent(&partition.target);
            }
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
            Err(error) => return Err(ImportError::io("move", &partition.source)(error)),
        }
    }
    let mut unfinished = partition.target.clone().into_os_string();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    fs::create_dir(&unfinished).map_err(ImportError::io("create", &unfinished))?;
    for (file, is_closed) in files(&partition.source)? {
        let (from, to) = (partition.source.join(&file), unfinished.join(&file));
        if mode == Mode::Link && is_closed {
            fs::hard_link(&from, &to).map_err(ImportError::io("link", &from))?;
            let info = from.metadata().map_err(ImportError::io("inspect", &from))?;
            progress(Step::Bytes(info.len()));
        } else {
            copy(&from, &to, progress)?;
        }
    }
    sync(&unfinished)?;
    fs::rename(&unfinished, &partition.target).map_err(ImportError::io("rename", &unfinished))?;
    sync_parent(&partition.target)?;
    if mode == Mode::Move {
        fs::remove_dir_all(&partition.source)
            .map_err(ImportError::io("remove", &partition.source))?;
    }
    Ok(())
}

/// The files of a folder that belong to its log, and whether nobody will write to them any more:
/// the segments but the last.
fn files(folder: &Path) -> Result<Vec<(String, bool)>, ImportError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImportError::io("list", folder))? {
        let entry = entry.map_err(ImportError::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What Kafka was about to remove, or had not finished.
        let is_waste = [".deleted", ".cleaned", ".tmp"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
        if entry.path().is_file() && !is_waste {
            names.push(name);
        }
    }
    names.sort();
    let last = names.iter().rfind(|name| name.ends_with(LOG)).cloned();
    let files = names.into_iter().map(|name| {
        let is_closed = name.ends_with(LOG) && Some(&name) != last.as_ref();
        (name, is_closed)
    });
    Ok(files.collect())
}

/// Copies a file durably.
fn copy(from: &Path, to: &Path, progress: Progress<'_>) -> Result<(), ImportError> {
    let mut source = File::open(from).map_err(ImportError::io("open", from))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(ImportError::io("create", to))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = read_some(&mut source, &mut piece).map_err(ImportError::io("read", from))?;
        if read == 0 {
            break;
        }
        target
            .write_all(&piece[..read])
            .map_err(ImportError::io("write", to))?;
        if !progress(Step::Bytes(read as u64)) {
            return Err(ImportError::Interrupted);
        }
    }
    target.sync_all().map_err(ImportError::io("sync", to))
}

fn read_some(source: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn sync(path: &Path) -> Result<(), ImportError> {
    let file = File::open(path).map_err(ImportError::io("open", path))?;
    file.sync_all().map_err(ImportError::io("sync", path))
}

fn sync_parent(path: &Path) -> Result<(), ImportError> {
    path.parent().map_or(Ok(()), sync)
}
