//! Reading: whole batches one after the other, and look-ups at random offsets, beside plain `pread`
//! of the same segment file from the page cache.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, ensure};
use conveyor_log::LogReader;
use conveyor_record::Offset;

use super::{Rig, append_all, batches, total_size, without_flusher};
use crate::raw;
use crate::report::Case;
use crate::run::{Pairs, Run, measure};

/// Bytes asked for at a time.
const STEPS_KIB: [usize; 3] = [64, 256, 1024];
/// Batches of 64 KiB in the log that is read through: half a GB.
const BATCHES_READ: usize = 8192;
/// Batches of 16 KiB in the log that is searched: a quarter of a GB.
const BATCHES_SEARCHED: usize = 16_384;
/// Look-ups in a run.
const LOOK_UPS: u64 = 50_000;

/// Reading through, and look-ups.
///
/// # Errors
/// Of the engine or the file system.
pub fn cases(folder: &Path, pairs: usize) -> Result<Vec<Case>> {
    let mut cases = sequential(folder, pairs)?;
    cases.push(look_up(folder, pairs)?);
    Ok(cases)
}

fn sequential(folder: &Path, pairs: usize) -> Result<Vec<Case>> {
    let batches = batches(64 << 10)?;
    let size = total_size(&batches, BATCHES_READ);
    let rig = Rig::new(folder, without_flusher(size))?;
    let mut log = rig.create_log()?;
    append_all(&mut log, &batches, BATCHES_READ)?;
    log.sync()?;
    let reader = log.reader();
    let file = File::open(rig.first_segment())?;

    let mut cases = Vec::new();
    for kib in STEPS_KIB {
        let engine = || read_through(&reader, kib << 10);
        cases.push(Case {
            name: format!("read {kib} KiB, cached"),
            raw: "pread into one buffer",
            goal: Some(0.8),
            pairs: Pairs::take(pairs, engine, || raw_read(&file, size, kib << 10, false))?,
        });
        cases.push(Case {
            name: format!("read {kib} KiB, cached"),
            raw: "pread into new memory",
            goal: None,
            pairs: Pairs::take(pairs, engine, || raw_read(&file, size, kib << 10, true))?,
        });
    }
    Ok(cases)
}

/// Speeds are compared by operations, so both sides count bytes of one step as one.
fn raw_read(file: &File, size: u64, step: usize, into_new: bool) -> Result<Run> {
    let run = if into_new {
        raw::read_through_into_new(file, size, step)?
    } else {
        raw::read_through(file, size, step)?
    };
    Ok(Run {
        operations: run.bytes / step as u64,
        ..run
    })
}

fn read_through(reader: &LogReader, step: usize) -> Result<Run> {
    let end = reader.log_end_offset();
    measure(|| {
        let mut next = reader.log_start_offset();
        let mut bytes = 0;
        while next < end {
            let chunk = reader.read(next, end, step, true)?;
            ensure!(!chunk.bytes.is_empty(), "nothing to read at {next}");
            bytes += chunk.bytes.len() as u64;
            next = chunk.next_offset;
        }
        Ok((bytes, bytes / step as u64))
    })
}

fn look_up(folder: &Path, pairs: usize) -> Result<Case> {
    let batches = batches(16 << 10)?;
    let size = total_size(&batches, BATCHES_SEARCHED);
    let rig = Rig::new(folder, without_flusher(size))?;
    let mut log = rig.create_log()?;
    append_all(&mut log, &batches, BATCHES_SEARCHED)?;
    log.sync()?;
    let reader = log.reader();
    let file = File::open(rig.first_segment())?;

    let end = reader.log_end_offset();
    let offsets: Vec<_> = (0..LOOK_UPS)
        .map(|n| {
            Offset((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % end.value().unsigned_abs()) as i64)
        })
        .collect();
    // Positions of batches, as near as it gets without the index: what counts is their spread.
    let batch_size = size / BATCHES_SEARCHED as u64;
    let positions: Vec<_> = offsets
        .iter()
        .map(|offset| {
            let share = offset.value() as f64 / end.value() as f64;
            (share * (size - batch_size) as f64) as u64
        })
        .collect();
    let engine = || {
        measure(|| {
            let mut bytes = 0;
            for &offset in &offsets {
                bytes += reader.read(offset, end, 1, true)?.bytes.len() as u64;
            }
            Ok((bytes, LOOK_UPS))
        })
    };
    Ok(Case {
        name: "look up an offset, read its 16 KiB batch".to_owned(),
        raw: "pread at a known position",
        goal: None,
        pairs: Pairs::take(pairs, engine, || {
            raw::read_at(&file, &positions, batch_size as usize)
        })?,
    })
}
