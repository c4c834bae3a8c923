//! Opening a log of 1 GiB after a kill: with all of it above the recovery point, so that every byte
//! is scanned, beside plain `pread` of the same bytes; and as the broker runs, where the recovery
//! point follows the syncs.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use anyhow::{Result, ensure};
use conveyor_log::Flusher;

use super::{Rig, append_all, batches, data_dir_config, log_config, open_dir, partition};
use crate::raw;
use crate::report::Case;
use crate::run::{Pairs, Run, measure};

/// Batches of 64 KiB in the log.
const BATCHES: usize = 16_384;
/// Bytes of one raw read.
const STEP: usize = 1 << 20;

/// Batches between two syncs and checkpoints while the log is written: 16 MiB.
const BATCHES_PER_SYNC: usize = 256;
/// Where the engine keeps the recovery points, by Kafka's name.
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";

/// A full scan, and a usual recovery, of the same log.
///
/// # Errors
/// Of the engine or the file system.
pub fn cases(folder: &Path, pairs: usize) -> Result<Vec<Case>> {
    let rig = Rig::new(folder, data_dir_config(0))?;
    let file_path = rig.first_segment();
    let size = write_log(&rig)?;
    let killed = rig.kill();
    let file = File::open(file_path)?;
    let raw = || {
        let run = raw::read_through(&file, size, STEP)?;
        Ok(Run {
            operations: 1,
            ..run
        })
    };

    let usual = Case {
        name: "recover 1 GiB, usual recovery point".to_owned(),
        raw: "pread of all of it",
        goal: None,
        pairs: Pairs::take(pairs, || recover(killed.path(), size), raw)?,
    };
    let scan = || {
        let points = killed.path().join(RECOVERY_POINTS);
        if points.exists() {
            std::fs::remove_file(points)?;
        }
        recover(killed.path(), size)
    };
    let full = Case {
        name: "recover 1 GiB, all of it scanned".to_owned(),
        raw: "pread of all of it",
        goal: None,
        pairs: Pairs::take(pairs, scan, raw)?,
    };
    Ok(vec![usual, full])
}

/// Writes 1 GiB as the broker does: the flusher syncs and moves the recovery point. Returns the
/// bytes.
fn write_log(rig: &Rig) -> Result<u64> {
    let batches = batches(64 << 10)?;
    let mut log = rig.create_log()?;
    let reader = log.reader();
    let flusher = Flusher::start(rig.dir())?;
    let mut bytes = 0;
    for _ in 0..BATCHES / BATCHES_PER_SYNC {
        bytes += append_all(&mut log, &batches, BATCHES_PER_SYNC)?;
        let (done, wait) = sync_channel(1);
        flusher.request(&reader, reader.log_end_offset(), move |result| {
            drop(done.send(result));
        });
        wait.recv()??;
        rig.dir().write_checkpoints()?;
    }
    flusher.stop();
    Ok(bytes)
}

/// Opens the log, as a broker does at start, up to the moment when it can be appended to; then lets
/// go of it without closing it, as another kill.
fn recover(folder: &Path, size: u64) -> Result<Run> {
    measure(|| {
        let dir = open_dir(folder, data_dir_config(0))?;
        let (log, report) = dir.open_log(&partition(), log_config())?;
        ensure!(
            !report.clean,
            "the log was closed in order, there is nothing to recover"
        );
        ensure!(
            log.reader().size_bytes() == size,
            "recovery has lost something"
        );
        Ok((size, 1))
    })
}
