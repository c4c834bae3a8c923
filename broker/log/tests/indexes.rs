//! Indexes after damage, crashes and truncation: what they hold must stay true.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conveyor_log::disk::{Crash, OsDisk};
use conveyor_log::{
    AppendBatch, DataDir, DataDirConfig, GroupCommit, Log, LogConfig, LogReader, SimClock,
};
use conveyor_record::{
    BatchOptions, ControlRecord, ControlType, Offset, ProducerEpoch, ProducerId,
    build_end_txn_marker,
};
use support::*;
use uuid::Uuid;

fn transactional(sequence: i32) -> AppendBatch {
    let options = BatchOptions {
        producer_id: ProducerId(1),
        producer_epoch: ProducerEpoch(0),
        base_sequence: sequence,
        is_transactional: true,
        ..BatchOptions::default()
    };
    batch(options, START_MS, &[b"transactional"])
}

fn abort() -> AppendBatch {
    let record = ControlRecord {
        control_type: ControlType::Abort,
        coordinator_epoch: 0,
    };
    validated(build_end_txn_marker(record, ProducerId(1), ProducerEpoch(0), START_MS).unwrap())
}

/// One record at `timestamp_ms`.
fn at(log: &mut Log, timestamp_ms: i64) -> Offset {
    append(log, batch(BatchOptions::default(), timestamp_ms, &[b"x"])).base_offset
}

fn index_file(suffix: &str) -> PathBuf {
    file(&format!("{:020}{suffix}", 0))
}

fn find(reader: &LogReader, timestamp_ms: i64) -> Option<Offset> {
    reader
        .offset_for_timestamp(timestamp_ms, reader.log_end_offset())
        .unwrap()
        .map(|found| found.offset)
}

#[test]
fn rebuilt_indexes_are_whole_durable_and_leave_the_transactions_alone() {
    let bed = Bed::new(1);
    // Each batch gets its entry, and the entries do not fill their last page.
    let value = [b'x'; 5000];
    let (dir, mut log) = bed.create();
    append(&mut log, transactional(0));
    append(&mut log, abort());
    for index in 1..=600 {
        append(
            &mut log,
            batch(BatchOptions::default(), START_MS + index, &[&value]),
        );
    }
    log.roll().unwrap();
    at(&mut log, START_MS + 1000);
    log.close().unwrap();
    dir.close().unwrap();
    let entries = bed.disk.content(&index_file(".timeindex")).unwrap();
    assert!(entries.len() > 590 * 12, "{} bytes", entries.len());
    let shared = bed.disk.shared();
    shared.remove_file(&index_file(".timeindex")).unwrap();
    shared.sync_dir(&file("")).unwrap();
    let check = |log: &Log| {
        let reader = log.reader();
        reader.advance_high_watermark(reader.log_end_offset());
        assert_eq!(find(&reader, START_MS + 598), Some(Offset(599)));
        let aborted = reader.aborted_transactions(Offset(0), Offset(10)).unwrap();
        assert_eq!(aborted.len(), 1);
    };
    let (dir, log, _) = bed.reopen();
    check(&log);
    assert!(bed.disk.content(&index_file(".timeindex")).unwrap() == entries);
    let left = bed.disk.files();
    assert!(
        left.iter()
            .all(|path| path.extension().is_none_or(|kind| kind != "tmp"))
    );
    drop((log, dir));
    bed.disk.crash(Crash::Power);
    let (_dir, log, _) = bed.reopen();
    check(&log);
    assert!(bed.disk.content(&index_file(".timeindex")).unwrap() == entries);
}

#[test]
fn a_segment_without_timestamps_is_not_indexed_again_and_again() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    let value = [b'x'; 5000];
    for _ in 0..10 {
        append(&mut log, batch(BatchOptions::default(), -1, &[&value]));
    }
    log.roll().unwrap();
    at(&mut log, -1);
    log.close().unwrap();
    dir.close().unwrap();
    let (_dir, mut log, _) = bed.reopen();
    log.reader().advance_high_watermark(Offset(11));
    let before = bed.disk.stats().bytes_read;
    assert_eq!(log.apply_retention(START_MS).unwrap(), 0);
    let read = bed.disk.stats().bytes_read - before;
    assert!(read < 1000, "{read} bytes read: indexed anew");
}

#[test]
fn what_a_crash_left_behind_the_synced_entries_is_no_entry() {
    let mut bed = Bed::new(1);
    bed.log_config.index_interval_bytes = 100;
    bed.dir_config.recovery_bytes_max = 1000;
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    for index in 0..200 {
        at(&mut log, START_MS + index);
        sync_round(&commit, &log.reader()).unwrap();
    }
    log.reader().advance_high_watermark(Offset(200));
    assert!(log.reader().recovery_point() > Offset(150));
    bed.disk.crash(Crash::Process);
    drop((log, dir, commit));
    // The length of a later write came through, its pages did not.
    for suffix in [".index", ".timeindex"] {
        let mut bytes = bed.disk.content(&index_file(suffix)).unwrap();
        bytes.resize(bytes.len() + 12 * 8 * 400, 0);
        bed.disk.set_content(&index_file(suffix), &bytes);
    }
    let (_dir, mut log, _) = bed.reopen();
    log.roll().unwrap();
    at(&mut log, START_MS + 1000);
    log.sync().unwrap();
    log.reader().advance_high_watermark(Offset(201));
    assert_eq!(log.apply_retention(START_MS + 1000).unwrap(), 0);
    for (suffix, size) in [(".index", 8), (".timeindex", 12)] {
        let bytes = bed.disk.content(&index_file(suffix)).unwrap();
        let entries: Vec<&[u8]> = bytes.chunks(size).collect();
        assert!(entries.len() > 50, "{suffix} has {} entries", entries.len());
        assert!(
            entries.windows(2).all(|pair| pair[0] < pair[1]),
            "{suffix} ascends"
        );
    }
    assert_eq!(find(&log.reader(), START_MS + 120), Some(Offset(120)));
}

#[test]
fn truncation_keeps_the_aborted_transactions_that_no_file_has_yet() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    append(&mut log, transactional(0));
    append(&mut log, abort());
    at(&mut log, START_MS + 5);
    at(&mut log, START_MS + 6);
    log.truncate_to(Offset(3)).unwrap();
    let check = |log: &Log| {
        let aborted = log.reader().aborted_transactions(Offset(0), Offset(3));
        assert_eq!(aborted.unwrap().len(), 1);
    };
    check(&log);
    log.close().unwrap();
    dir.close().unwrap();
    check(&bed.reopen().1);
}

#[test]
fn readers_look_up_while_the_mapped_indexes_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(
        OsDisk::shared(),
        Arc::new(SimClock::at(START_MS)),
        folder.path(),
        DataDirConfig::default(),
    )
    .unwrap();
    let config = LogConfig {
        index_interval_bytes: 1,
        ..LogConfig::default()
    };
    let id = Uuid::from_u128(7);
    let mut log = dir.create_log(&partition(), id, config).unwrap();
    let reader = log.reader();
    let stop = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut found = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for offset in (0..3000).step_by(7) {
                    // The log may be cut meanwhile; what is found must be right.
                    let end = reader.log_end_offset();
                    let wanted = START_MS + offset;
                    if let Ok(Some(at)) = reader.offset_for_timestamp(wanted, end) {
                        assert_eq!((at.offset, at.timestamp_ms), (Offset(offset), wanted));
                        found += 1;
                    }
                }
            }
            found
        });
        for _ in 0..10 {
            let first = reader.log_end_offset().value();
            for offset in first..3000 {
                at(&mut log, START_MS + offset);
            }
            log.truncate_to(Offset(100)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    });
    assert!(found > 0);
    log.close().unwrap();
}

#[test]
fn truncation_keeps_the_greatest_timestamp_of_what_stays() {
    let mut bed = Bed::new(1);
    bed.log_config.index_interval_bytes = 1;
    let (_dir, mut log) = bed.create();
    at(&mut log, START_MS);
    at(&mut log, START_MS + 10);
    bed.log_config.index_interval_bytes = 1 << 20;
    log.update_config(bed.log_config);
    at(&mut log, START_MS + 50);
    at(&mut log, START_MS + 60);
    log.truncate_to(Offset(3)).unwrap();
    at(&mut log, START_MS + 20);
    log.roll().unwrap();
    assert_eq!(find(&log.reader(), START_MS + 30), Some(Offset(2)));
}
