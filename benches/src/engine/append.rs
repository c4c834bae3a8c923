//! Append without sync: validation and [`Log::append_as_leader`](conveyor_log::Log), one batch a
//! call, beside one plain `pwritev` a batch.

use std::path::Path;

use anyhow::Result;

use super::{Rig, append_all, batches, total_size, without_flusher};
use crate::raw;
use crate::report::Case;
use crate::run::{Pairs, measure};

/// Batch sizes and how many batches a run appends: at most half a GB.
const SIZES: [(usize, usize); 4] = [(1, 131_072), (16, 32_768), (64, 8_192), (1024, 512)];

/// All sizes.
///
/// # Errors
/// Of the engine or the file system.
pub fn cases(folder: &Path, pairs: usize) -> Result<Vec<Case>> {
    let sizes = SIZES.into_iter();
    sizes
        .map(|(kib, count)| case(folder, pairs, kib, count))
        .collect()
}

fn case(folder: &Path, pairs: usize, kib: usize, count: usize) -> Result<Case> {
    let batches = batches(kib << 10)?;
    let size = total_size(&batches, count);
    let engine = || {
        let rig = Rig::new(folder, without_flusher(size))?;
        let mut log = rig.create_log()?;
        let run = measure(|| Ok((append_all(&mut log, &batches, count)?, count as u64)))?;
        log.sync()?; // so that what the kernel still has to write does not fall into the next run
        Ok(run)
    };
    let raw_path = folder.join("raw.log");
    let raw = || {
        let file = raw::prewritten_file(&raw_path, size)?;
        let run = raw::write_batches(&file, &batches, count)?;
        rustix::fs::fdatasync(&file)?;
        Ok(run)
    };
    let pairs = Pairs::take(pairs, engine, raw)?;
    std::fs::remove_file(&raw_path)?;
    Ok(Case {
        name: format!("append {kib} KiB, no sync"),
        raw: "pwritev",
        goal: Some(0.7),
        pairs,
    })
}
