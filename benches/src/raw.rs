//! The raw limits: plain positional writes, reads and syncs, with nothing around them.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use anyhow::{Result, ensure};
use bytes::Bytes;
use conveyor_record::HEADER_SIZE;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::{pread, pwrite, pwritev};

use crate::run::{Run, measure};

/// Bytes of one write when a file is prepared or copied through.
const STEP: usize = 1 << 20;

/// A file of `size` bytes of zeros, written and synced, so that its blocks exist: what the engine's
/// pool hands out.
///
/// # Errors
/// Of the file system.
pub fn prewritten_file(path: &Path, size: u64) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, size)?;
    let zeros = vec![0; STEP];
    let mut position = 0;
    while position < size {
        let step = (size - position).min(STEP as u64) as usize;
        pwrite(&file, &zeros[..step], position)?;
        position += step as u64;
    }
    fdatasync(&file)?;
    Ok(file)
}

/// One thread writes `count` batches one after the other, header and rest as two parts of one
/// vectored write, taking them in turn from `batches`; no sync.
///
/// # Errors
/// Of the file system.
pub fn write_batches(file: &File, batches: &[Bytes], count: usize) -> Result<Run> {
    measure(|| {
        let mut position = 0;
        for batch in batches.iter().cycle().take(count) {
            let (header, rest) = batch.split_at(HEADER_SIZE);
            let parts = [IoSlice::new(header), IoSlice::new(rest)];
            let written = pwritev(file, &parts, position)?;
            ensure!(written == batch.len(), "short write");
            position += written as u64;
        }
        Ok((position, count as u64))
    })
}

/// `threads` threads write a batch and sync it, again and again until `count` are written by all;
/// each has a stretch of the file to itself.
///
/// # Errors
/// Of the file system.
pub fn write_and_sync_batches(
    file: &File,
    batches: &[Bytes],
    count: usize,
    threads: usize,
) -> Result<Run> {
    let batch_size = batches.iter().map(Bytes::len).max().unwrap_or(0);
    let each = count / threads;
    let start = Barrier::new(threads);
    measure(|| {
        let bytes = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|worker| {
                    let start = &start;
                    scope.spawn(move || -> Result<u64> {
                        start.wait();
                        let first = (worker * each * batch_size) as u64;
                        let mut position = first;
                        for n in 0..each {
                            let batch = &batches[(worker + n * threads) % batches.len()];
                            pwrite(file, batch, position)?;
                            fdatasync(file)?;
                            position += batch.len() as u64;
                        }
                        Ok(position - first)
                    })
                })
                .collect();
            sum_of(workers)
        })?;
        Ok((bytes, (each * threads) as u64))
    })
}

fn sum_of(workers: Vec<thread::ScopedJoinHandle<'_, Result<u64>>>) -> Result<u64> {
    let mut sum = 0;
    for worker in workers {
        sum += worker
            .join()
            .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
    }
    Ok(sum)
}

/// One thread writes `group` batches by one vectored write and syncs them, again and again: a group
/// commit without anybody to wait for or to wake.
///
/// # Errors
/// Of the file system.
pub fn write_and_sync_groups(
    file: &File,
    batches: &[Bytes],
    count: usize,
    group: usize,
) -> Result<Run> {
    measure(|| {
        let mut position = 0;
        let mut next = batches.iter().cycle();
        for _ in 0..count / group {
            let parts: Vec<_> = next
                .by_ref()
                .take(group)
                .map(|batch| IoSlice::new(batch))
                .collect();
            let size: usize = parts.iter().map(|part| part.len()).sum();
            let written = pwritev(file, &parts, position)?;
            ensure!(written == size, "short write");
            fdatasync(file)?;
            position += written as u64;
        }
        Ok((position, (count / group * group) as u64))
    })
}

/// Reads `size` bytes from the start in steps of `step` into one buffer.
///
/// # Errors
/// Of the file system.
pub fn read_through(file: &File, size: u64, step: usize) -> Result<Run> {
    let mut buffer = vec![0; step];
    measure(|| {
        let (mut position, mut reads) = (0, 0);
        while position < size {
            let wanted = (size - position).min(step as u64) as usize;
            let read = pread(file, &mut buffer[..wanted], position)?;
            ensure!(read > 0, "file ends at {position}");
            position += read as u64;
            reads += 1;
        }
        Ok((position, reads))
    })
}

/// Reads `size` bytes from the start in steps of `step`, each into memory of its own that lives on,
/// as bytes do that are sent to somebody.
///
/// # Errors
/// Of the file system.
pub fn read_through_into_new(file: &File, size: u64, step: usize) -> Result<Run> {
    measure(|| {
        let (mut position, mut reads) = (0, 0);
        while position < size {
            let wanted = (size - position).min(step as u64) as usize;
            let mut buffer = Vec::with_capacity(wanted);
            pread(file, rustix::buffer::spare_capacity(&mut buffer), position)?;
            ensure!(!buffer.is_empty(), "file ends at {position}");
            position += buffer.len() as u64;
            reads += 1;
            std::hint::black_box(&buffer);
        }
        Ok((position, reads))
    })
}

/// Reads `size` bytes at each of `positions` into one buffer.
///
/// # Errors
/// Of the file system.
pub fn read_at(file: &File, positions: &[u64], size: usize) -> Result<Run> {
    let mut buffer = vec![0; size];
    measure(|| {
        let mut bytes = 0;
        for &position in positions {
            bytes += pread(file, &mut buffer[..], position)? as u64;
        }
        Ok((bytes, positions.len() as u64))
    })
}
