//! A partition's folder: which files belong to it, and finishing what a crash interrupted.
//!
//! ```text
//! <base>.log .index .timeindex .txnindex     a segment
//! <offset>.snapshot                          producer state below that offset
//! <base>.<end>.log.cleaned                   compaction in progress: removed
//! <base>.<end>.log.swap, <base>.index.swap … compaction decided: replaces every segment from base
//!                                            up to (not including) end
//! leader-epoch-checkpoint, partition.metadata
//! ```

use std::io;

use conveyor_record::Offset;
use uuid::Uuid;

use crate::checkpoint::encode_partition_metadata;
use crate::data_dir::PARTITION_METADATA_FILE;
use crate::disk::OpenMode;
use crate::error::DiskError;
use crate::segment::{LOG, SUFFIXES, SegmentHome, file_name};

pub(crate) const CLEANED: &str = ".log.cleaned";
pub(crate) const SWAP: &str = ".swap";
pub(crate) const SNAPSHOT: &str = ".snapshot";
/// What is being made under a name of its own; removed at the next start.
pub(crate) const TEMPORARY: &str = ".tmp";

/// What lies in a folder, after tidying.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Base offsets of the segments, ascending.
    pub(crate) segments: Vec<Offset>,
    /// Offsets of the producer snapshots, ascending.
    pub(crate) snapshots: Vec<Offset>,
}

/// Creates the folder with its metadata and one empty segment. Durable but for the folder's own name.
pub(crate) fn create(home: &SegmentHome, topic_id: Uuid) -> Result<(), DiskError> {
    let metadata = home.folder.join(PARTITION_METADATA_FILE);
    let made = home.disk.create_dir(&home.folder).and_then(|()| {
        home.disk
            .open(&home.path(Offset::ZERO, LOG), OpenMode::Create)?;
        // The folder is new, so nothing is replaced: no temporary name is needed.
        let file = home.disk.open(&metadata, OpenMode::Truncate)?;
        file.write_at(0, &encode_partition_metadata(topic_id))?;
        file.sync_data()?;
        home.disk.sync_dir(&home.folder)
    });
    made.map_err(|error| DiskError::new("create", &home.folder, error))
}

/// Names of a swap: the range of offsets that it replaces.
pub(crate) fn swap_log_name(base: Offset, end: Offset, suffix: &str) -> String {
    format!("{:020}.{:020}{suffix}", base.value(), end.value())
}

/// Finishes or undoes what a crash interrupted, removes what belongs to no segment, and lists the
/// rest.
pub(crate) fn tidy(home: &SegmentHome) -> Result<Listing, DiskError> {
    let failed = |error| DiskError::new("tidy", &home.folder, error);
    let mut names = list(home).map_err(failed)?;
    let mut changed = false;
    for name in &names {
        if name.ends_with(CLEANED) || name.ends_with(TEMPORARY) {
            remove(home, name).map_err(failed)?;
            changed = true;
        }
    }
    for name in &names {
        if let Some((base, end)) = decided_swap(name) {
            finish_swap(home, base, end, &names).map_err(failed)?;
            changed = true;
        }
    }
    if changed {
        names = list(home).map_err(failed)?;
    }
    let mut listing = Listing {
        segments: names
            .iter()
            .filter_map(|name| offset_of(name, LOG))
            .collect(),
        snapshots: names
            .iter()
            .filter_map(|name| offset_of(name, SNAPSHOT))
            .collect(),
    };
    listing.segments.sort_unstable();
    listing.snapshots.sort_unstable();
    for name in &names {
        let orphan = SUFFIXES[1..].iter().any(|suffix| {
            offset_of(name, suffix)
                .is_some_and(|base| listing.segments.binary_search(&base).is_err())
        });
        if orphan || name.ends_with(SWAP) {
            remove(home, name).map_err(failed)?;
            changed = true;
        }
    }
    if changed {
        home.disk.sync_dir(&home.folder).map_err(failed)?;
    }
    Ok(listing)
}

/// Replaces the segments of a decided swap: the old ones go, the new files take their names, the log
/// last, so that a crash in between leaves the decision standing. The caller syncs the folder.
pub(crate) fn finish_swap(
    home: &SegmentHome,
    base: Offset,
    end: Offset,
    names: &[String],
) -> io::Result<()> {
    for name in names {
        for suffix in SUFFIXES {
            if offset_of(name, suffix).is_some_and(|old| base < old && old < end) {
                remove(home, name)?;
            }
        }
    }
    // Every kind of index has its new file, if only an empty one: where it is missing it was renamed
    // before the crash, and what bears the final name is the new one.
    for suffix in &SUFFIXES[1..] {
        let from = home.path(base, &format!("{suffix}{SWAP}"));
        match home.disk.rename(&from, &home.path(base, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // The old files must be gone for good before the decision is taken down.
    home.disk.sync_dir(&home.folder)?;
    let from = home
        .folder
        .join(swap_log_name(base, end, &format!("{LOG}{SWAP}")));
    home.disk.rename(&from, &home.path(base, LOG))
}

pub(crate) fn list(home: &SegmentHome) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = home
        .disk
        .list(&home.folder)?
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .map(|entry| entry.name)
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Removes the files of a segment, the log first: what is left of the others belongs to nothing then.
pub(crate) fn remove_segment(home: &SegmentHome, base: Offset) -> io::Result<()> {
    for suffix in SUFFIXES {
        match home.disk.remove_file(&home.path(base, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn remove(home: &SegmentHome, name: &str) -> io::Result<()> {
    match home.disk.remove_file(&home.folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The range of a decided swap, from the name of its log.
fn decided_swap(name: &str) -> Option<(Offset, Offset)> {
    let (base, end) = name
        .strip_suffix(SWAP)?
        .strip_suffix(LOG)?
        .split_once('.')?;
    Some((parse_offset(base)?, parse_offset(end)?))
}

/// The offset that a file name stands for, if it has this suffix.
pub(crate) fn offset_of(name: &str, suffix: &str) -> Option<Offset> {
    let base = parse_offset(name.strip_suffix(suffix)?)?;
    (file_name(base, suffix) == name).then_some(base)
}

fn parse_offset(text: &str) -> Option<Offset> {
    let value: i64 = text.parse().ok()?;
    (value >= 0).then_some(Offset(value))
}
