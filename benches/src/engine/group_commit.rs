//! Append with sync, 16 producers: as in the broker, producers validate and hand their batch to the
//! one writer of the directory, which appends what has come together by one call; the flusher syncs
//! and its callback wakes the producers.
//!
//! Beside it, on a file of the same kind: 16 threads that each write and sync for themselves (the
//! limit without group commit), and one thread that writes and syncs 16 batches at a time (a group
//! commit with nobody to wake).

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use conveyor_log::{AppendBatch, Flusher, Log, SyncError};
use conveyor_record::{Decompressor, Offset};

use super::{EPOCH, Rig, batches, data_dir_config, total_size, validated};
use crate::raw;
use crate::report::Case;
use crate::run::{Pairs, Run, measure};

/// Producers, each with one batch on the way.
const PRODUCERS: usize = 16;
/// Batch sizes and how many batches a run appends.
const SIZES: [(usize, usize); 4] = [(1, 16_384), (16, 8_192), (64, 4_096), (1024, 384)];

/// A batch on its way to the writer, and where to say that it is durable.
struct Submission {
    batch: AppendBatch,
    done: SyncSender<Result<Offset, SyncError>>,
}

/// All sizes, each against both raw limits.
///
/// # Errors
/// Of the engine or the file system.
pub fn cases(folder: &Path, pairs: usize) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (kib, count) in SIZES {
        let batches = batches(kib << 10)?;
        let size = total_size(&batches, count);
        let raw_path = folder.join("raw.log");
        let engine = || engine_run(folder, &batches, count);
        let threads = || {
            let file = raw::prewritten_file(&raw_path, size + (PRODUCERS << 20) as u64)?;
            raw::write_and_sync_batches(&file, &batches, count, PRODUCERS)
        };
        cases.push(Case {
            name: format!("append {kib} KiB, sync, 16 producers"),
            raw: "16 x pwrite + fdatasync",
            goal: Some(0.8),
            pairs: Pairs::take(pairs, engine, threads)?,
        });
        let groups = || {
            let file = raw::prewritten_file(&raw_path, size)?;
            raw::write_and_sync_groups(&file, &batches, count, PRODUCERS)
        };
        cases.push(Case {
            name: format!("append {kib} KiB, sync, 16 producers"),
            raw: "pwritev of 16 + fdatasync",
            goal: None,
            pairs: Pairs::take(pairs, engine, groups)?,
        });
        std::fs::remove_file(&raw_path)?;
    }
    Ok(cases)
}

fn engine_run(folder: &Path, batches: &[Bytes], count: usize) -> Result<Run> {
    let rig = Rig::new(folder, data_dir_config(total_size(batches, count)))?;
    let mut log = rig.create_log()?;
    let flusher = Flusher::start(rig.dir())?;
    let each = count / PRODUCERS;
    let run = measure(|| {
        let bytes = thread::scope(|scope| {
            let (submit, submissions) = sync_channel(PRODUCERS);
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|producer| {
                    let submit = submit.clone();
                    scope.spawn(move || produce(&submit, batches, producer, each))
                })
                .collect();
            drop(submit);
            write(&mut log, &flusher, &submissions)?;
            let mut bytes = 0;
            for producer in producers {
                bytes += producer
                    .join()
                    .map_err(|_| anyhow!("a producer panicked"))??;
            }
            anyhow::Ok(bytes)
        })?;
        Ok((bytes, (each * PRODUCERS) as u64))
    })?;
    flusher.stop();
    Ok(run)
}

/// Sends one batch after the other, each when the one before is durable.
fn produce(
    submit: &SyncSender<Submission>,
    batches: &[Bytes],
    producer: usize,
    count: usize,
) -> Result<u64> {
    let mut decompressor = Decompressor::new();
    let mut bytes = 0;
    for n in 0..count {
        let batch = &batches[(producer + n * PRODUCERS) % batches.len()];
        let (done, wait) = sync_channel(1);
        let batch_bytes = batch.len() as u64;
        let batch = validated(batch, &mut decompressor)?;
        submit
            .send(Submission { batch, done })
            .map_err(|_| anyhow!("the writer has gone"))?;
        wait.recv().context("no answer to a sync")??;
        bytes += batch_bytes;
    }
    Ok(bytes)
}

/// The writer: takes what has come together, appends it at once, asks for one sync.
fn write(log: &mut Log, flusher: &Flusher, submissions: &Receiver<Submission>) -> Result<()> {
    let reader = log.reader();
    while let Ok(first) = submissions.recv() {
        let group = std::iter::once(first).chain(submissions.try_iter().take(PRODUCERS - 1));
        let (batches, waiters): (Vec<_>, Vec<_>) = group
            .map(|submission| (submission.batch, submission.done))
            .unzip();
        let mut end = Offset::ZERO;
        for result in log.append_as_leader(&batches, EPOCH) {
            end = result?.last_offset.next();
        }
        flusher.request(&reader, end, move |result| {
            for waiter in waiters {
                // A producer that has gone does not want to know.
                drop(waiter.send(result.clone()));
            }
        });
    }
    Ok(())
}
