//! Deletion in the middle of other work, and syncs of indexes that fail: what ends the directory and
//! what must not.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod hooked;
mod support;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use conveyor_log::{
    Cleaner, CleanerConfig, CleanupPolicy, Clock, CompactionError, DataDir, GroupCommit, Log,
    LogError,
};
use conveyor_record::BatchOptions;
use hooked::{HookedDisk, Operation};
use support::*;
use uuid::Uuid;

/// As [`Bed::create`], on a disk that can be hooked into.
fn create(bed: &Bed) -> (HookedDisk, Arc<DataDir>, Log) {
    let disk = HookedDisk::new(bed.disk.shared());
    let clock: Arc<dyn Clock> = bed.clock.clone();
    let dir = DataDir::open(
        Arc::new(disk.clone()),
        clock,
        Path::new(DIRECTORY),
        bed.dir_config.clone(),
    )
    .unwrap();
    let log = dir
        .create_log(&partition(), Uuid::from_u128(7), bed.log_config.clone())
        .unwrap();
    (disk, Arc::new(dir), log)
}

fn ends_with(path: &Path, suffix: &str) -> bool {
    path.to_string_lossy().ends_with(suffix)
}

/// A compacted log with a few closed segments that are worth cleaning.
fn compactable() -> (HookedDisk, Arc<DataDir>, Log) {
    let mut bed = Bed::new(1);
    bed.log_config.cleanup_policy = CleanupPolicy::COMPACT;
    bed.log_config.min_cleanable_dirty_ratio = 0.0;
    let (disk, dir, mut log) = create(&bed);
    for value in [&b"1"[..], b"2", b"3"] {
        let record = (Some(&b"key"[..]), Some(value));
        append(
            &mut log,
            keyed(BatchOptions::default(), START_MS, &[record]),
        );
        log.roll().unwrap();
    }
    log.sync().unwrap();
    let end = log.reader().log_end_offset();
    log.reader().advance_high_watermark(end);
    (disk, dir, log)
}

/// The directory goes on, and the name can be used again.
fn check_usable(dir: &DataDir) {
    assert!(dir.offline().is_none(), "{:?}", dir.offline());
    let mut log = dir
        .create_log(
            &partition(),
            Uuid::from_u128(8),
            conveyor_log::LogConfig::default(),
        )
        .unwrap();
    append(&mut log, plain(1, 10));
    log.sync().unwrap();
    assert_eq!(read_all(&log.reader()).len(), 1);
    log.close().unwrap();
}

#[test]
fn a_log_deleted_between_two_batches_of_a_cleaning_stops_it() {
    let (_disk, dir, log) = compactable();
    let plan = log.plan_compaction(START_MS).unwrap().unwrap();
    let mut slot = Some(log);
    let cleaned = Cleaner::new(CleanerConfig::default()).clean(&plan, &mut |_| {
        if let Some(log) = slot.take() {
            dir.delete_log(log).unwrap();
        }
        true
    });
    assert!(
        matches!(cleaned, Err(CompactionError::Stopped)),
        "{cleaned:?}"
    );
    check_usable(&dir);
}

#[test]
fn a_log_deleted_before_the_cleaned_segment_is_made_does_not_end_the_directory() {
    for moment in [".log.cleaned", ".timeindex.swap"] {
        let (disk, dir, log) = compactable();
        let plan = log.plan_compaction(START_MS).unwrap().unwrap();
        let slot = Mutex::new(Some(log));
        let deleting = Arc::clone(&dir);
        disk.set(move |_, path| {
            let log = if ends_with(path, moment) {
                slot.lock().unwrap().take()
            } else {
                None
            };
            if let Some(log) = log {
                deleting.delete_log(log).unwrap();
            }
            Ok(())
        });
        let cleaned = Cleaner::new(CleanerConfig::default()).clean(&plan, &mut |_| true);
        assert!(
            matches!(cleaned, Err(CompactionError::Stopped)),
            "{cleaned:?}"
        );
        check_usable(&dir);
    }
}

#[test]
fn a_log_deleted_during_a_checkpoint_leaves_no_recovery_point_behind() {
    let mut bed = Bed::new(1);
    bed.dir_config.recovery_bytes_max = 1000;
    let (disk, dir, mut log) = create(&bed);
    let commit = GroupCommit::new(&dir);
    append(&mut log, plain(50, 100));
    let (reached, arrived) = mpsc::channel();
    let first = AtomicBool::new(true);
    disk.set(move |_, path| {
        if ends_with(path, ".snapshot.tmp") && first.swap(false, Ordering::SeqCst) {
            reached.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    });
    let reader = log.reader();
    std::thread::scope(|scope| {
        scope.spawn(|| sync_round(&commit, &reader).unwrap());
        arrived.recv().unwrap();
        dir.delete_log(log).unwrap();
        check_usable(&dir);
    });
    // The log that took the name has one record: a recovery point beyond it would be the old one's.
    drop((commit, reader));
    dir.write_checkpoints().unwrap();
    drop(dir);
    let (_dir, log, report) = bed.reopen();
    assert_eq!(report.damage, []);
    assert_eq!(log.reader().recovery_point().value(), 1);
}

#[test]
fn a_sync_of_an_index_that_fails_for_want_of_room_ends_the_directory() {
    let (disk, dir, mut log) = create(&Bed::new(1));
    append(&mut log, plain(1, 10));
    let failing = AtomicBool::new(true);
    disk.set(move |operation, path| {
        let fails = operation == Operation::Sync
            && ends_with(path, ".timeindex")
            && failing.swap(false, Ordering::SeqCst);
        if fails {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    });
    let error = log.roll().unwrap_err();
    assert!(matches!(error, LogError::Offline(_)), "{error}");
    assert!(dir.offline().is_some());
    assert!(log.roll().is_err(), "it is not tried again");
}

#[test]
fn a_sync_of_an_index_that_fails_in_a_checkpoint_ends_the_directory() {
    let mut bed = Bed::new(1);
    bed.dir_config.recovery_bytes_max = 1000;
    let (disk, dir, mut log) = create(&bed);
    let commit = GroupCommit::new(&dir);
    append(&mut log, plain(50, 100));
    disk.set(|operation, path| {
        if operation == Operation::Sync && ends_with(path, ".index") {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    });
    sync_round(&commit, &log.reader()).unwrap();
    assert!(dir.offline().is_some());
    assert_eq!(log.reader().recovery_point().value(), 0);
}
