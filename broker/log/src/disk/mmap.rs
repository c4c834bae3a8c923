//! Read-only maps of index files: the only place of the workspace with `unsafe`.
//!
//! Record data is never mapped: a page under a map that cannot be read, or that was cut off, kills
//! the process by SIGBUS. Index files are small, rebuildable, written by this process alone (the
//! data directory is locked) and never cut while a map of the cut part is in use: the index holds
//! its lock across every look into the map, and drops the map before it shortens the file.
#![allow(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; kept to this one function"
)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

/// A read-only view of the first bytes of a file.
#[derive(Debug)]
pub struct FileMap(Mmap);

impl FileMap {
    /// Maps the first `len` bytes of `file`, which must be at least that long.
    pub(super) fn new(file: &File, len: u64) -> io::Result<Self> {
        let present = file.metadata()?.len();
        if present < len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("cannot map {len} bytes of a file of {present}"),
            ));
        }
        // SAFETY: the map is read-only and within the file's present length (checked above). Only
        // this process writes in a locked data directory, and the owner of the file drops the map
        // before it cuts the file, so no mapped page disappears under a reader. Bytes below `len`
        // are index entries that are written once and not changed while mapped.
        let map = unsafe { MmapOptions::new().len(len as usize).map(file) }?;
        Ok(Self(map))
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
