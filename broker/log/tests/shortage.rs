//! What runs out: room on the volume, descriptors, letters in a name. Nothing is lost by it, no
//! directory goes offline, and what makes room works without any.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use conveyor_log::disk::{Crash, OsDisk};
use conveyor_log::{
    AppendError, DataDir, DataDirConfig, Log, LogConfig, LogError, OpenError, SystemClock,
    TopicPartition,
};
use conveyor_record::{BatchOptions, Offset};
use support::*;
use uuid::Uuid;

const DAY_MS: i64 = 24 * 3600 * 1000;

#[test]
fn a_topic_with_the_longest_name_is_deleted_and_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let config = DataDirConfig {
        pool_files: 0,
        ..DataDirConfig::default()
    };
    let dir = DataDir::open(OsDisk::shared(), clock, folder.path(), config).unwrap();
    let long = TopicPartition::new("x".repeat(249), 99_999);
    let create = |partition: &TopicPartition| {
        dir.create_log(partition, Uuid::from_u128(3), LogConfig::default())
            .unwrap()
    };
    let mut log = create(&long);
    append(&mut log, plain(1, 10));
    dir.delete_log(log).unwrap();
    assert_eq!(dir.list().unwrap(), []);

    create(&long).close().unwrap();
    let aside = dir.move_aside(&long).unwrap();
    assert!(aside.is_dir());
    assert_eq!(dir.list().unwrap(), [], "what was moved aside is no log");
    assert!(dir.find(&long).unwrap().is_none());

    let mut other = create(&TopicPartition::new("orders", 0));
    append(&mut other, plain(1, 10));
    other.sync().unwrap();
    let impossible = TopicPartition::new("x".repeat(249), 100_000);
    let refused = dir.create_log(&impossible, Uuid::nil(), LogConfig::default());
    assert!(matches!(refused, Err(OpenError::InvalidTopicName { .. })));
    assert!(dir.offline().is_none());
}

#[test]
fn a_folder_that_cannot_be_moved_away_touches_no_other_partition() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let config = DataDirConfig::default();
    let dir = DataDir::open(OsDisk::shared(), clock, folder.path(), config).unwrap();
    let partition = TopicPartition::new("orders", 0);
    let log = dir
        .create_log(&partition, Uuid::nil(), LogConfig::default())
        .unwrap();
    std::fs::rename(folder.path().join("orders-0"), folder.path().join("gone")).unwrap();
    let error = dir.delete_log(log).unwrap_err();
    assert!(matches!(error, LogError::NotRemoved { .. }), "{error}");
    assert!(dir.offline().is_none());
    let mut other = dir
        .create_log(&partition, Uuid::nil(), LogConfig::default())
        .unwrap();
    append(&mut other, plain(1, 10));
}

#[test]
fn an_open_log_is_not_moved_aside() {
    let bed = Bed::new(1);
    let (dir, log) = bed.create();
    let refused = dir.move_aside(&partition());
    assert!(matches!(refused, Err(OpenError::Exists { .. })));
    log.close().unwrap();
    dir.move_aside(&partition()).unwrap();
    assert!(dir.find(&partition()).unwrap().is_none());
}

#[test]
fn a_creation_that_is_cut_short_can_be_finished() {
    let id = Uuid::from_u128(7);
    let mut without_id = 0;
    for (changes, kind) in (1..40).flat_map(|n| [(n, Crash::Process), (n, Crash::Power)]) {
        let bed = Bed::new(changes);
        let dir = bed.open_dir();
        bed.disk.halt_after(changes);
        drop(dir.create_log(&partition(), id, bed.log_config.clone()));
        bed.disk.crash(kind);
        drop(dir);
        let dir = bed.open_dir();
        let config = bed.log_config.clone();
        let Some(found) = dir.find(&partition()).unwrap() else {
            dir.create_log(&partition(), id, config).unwrap();
            continue;
        };
        if found.topic_id.is_none() {
            without_id += 1;
            dir.set_topic_id(&partition(), id).unwrap();
        }
        let (mut log, _) = dir.open_log(&partition(), config).unwrap();
        assert_eq!(log.reader().topic_id(), id, "{changes}");
        append(&mut log, plain(1, 10));
        log.sync().unwrap();
        bed.disk.crash(Crash::Power);
        drop((log, dir));
        let (dir, _log, report) = bed.reopen();
        assert_eq!(report.log_end_offset, Offset(1), "{changes}");
        // An id that was seen and not yet durable is missing again, never wrong.
        let found = dir.find(&partition()).unwrap().unwrap();
        assert!(found.topic_id.is_none_or(|found| found == id), "{changes}");
    }
    assert!(without_id > 0, "no crash came between folder and topic id");
}

#[test]
fn segments_without_timestamps_expire_by_the_time_of_their_last_write() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let config = DataDirConfig {
        pool_files: 0,
        ..DataDirConfig::default()
    };
    let dir = DataDir::open(OsDisk::shared(), clock, folder.path(), config).unwrap();
    let config = LogConfig {
        retention_ms: Some(DAY_MS),
        ..LogConfig::default()
    };
    let mut log = dir.create_log(&partition(), Uuid::nil(), config).unwrap();
    for _ in 0..2 {
        append(&mut log, batch(BatchOptions::default(), -1, &[b"no time"]));
        log.roll().unwrap();
    }
    log.sync().unwrap();
    log.reader().advance_high_watermark(Offset(2));
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_ms = since.as_millis() as i64;
    assert_eq!(log.apply_retention(now_ms).unwrap(), 0);
    let first = folder.path().join("orders-0/00000000000000000000.log");
    let file = std::fs::File::options().write(true).open(first).unwrap();
    file.set_modified(now - std::time::Duration::from_hours(48))
        .unwrap();
    assert!(log.apply_retention(now_ms).unwrap() > 0);
    assert_eq!(log.reader().log_start_offset(), Offset(1));
}

/// Four closed segments of old records and a little in the active one.
fn old_segments(bed: &Bed) -> (DataDir, Log) {
    let (dir, mut log) = bed.create();
    for _ in 0..4 {
        append(&mut log, plain(1, 5000));
        log.roll().unwrap();
    }
    append(&mut log, plain(1, 100));
    log.sync().unwrap();
    log.reader().advance_high_watermark(Offset(5));
    (dir, log)
}

#[test]
fn retention_frees_a_volume_that_is_full_to_the_last_byte() {
    for with_pool in [false, true] {
        let mut bed = Bed::new(1).segment_bytes(100_000);
        bed.log_config.retention_ms = Some(DAY_MS);
        if with_pool {
            bed.dir_config.pool_files = 2;
            bed.dir_config.pool_file_bytes = 64 * 1024;
        }
        let (dir, mut log) = old_segments(&bed);
        assert_eq!(dir.refill_pool().unwrap(), with_pool);
        bed.disk.set_capacity(Some(bed.disk.used_bytes()));
        if !with_pool {
            let refused = log.append_as_leader(&[plain(1, 5000)], EPOCH).remove(0);
            assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
        }
        let removed = log.apply_retention(START_MS + 2 * DAY_MS).unwrap();
        assert!(removed > 20_000, "{removed} bytes, pool: {with_pool}");
        let end = log.reader().log_end_offset();
        assert!(log.reader().log_start_offset() >= Offset(4));
        assert_eq!(append(&mut log, plain(1, 5000)).base_offset, end);
        assert!(dir.offline().is_none());

        bed.disk.crash(Crash::Process);
        drop((log, dir));
        let (_dir, log, report) = bed.reopen();
        assert_eq!(report.log_end_offset, end + 1);
        assert!(log.reader().log_start_offset() >= Offset(4));
    }
}

#[test]
fn retention_on_a_full_volume_leaves_no_hole_wherever_the_power_goes() {
    for changes in 1..40 {
        let mut bed = Bed::new(changes).segment_bytes(100_000);
        bed.log_config.retention_ms = Some(DAY_MS);
        let (dir, mut log) = old_segments(&bed);
        bed.disk.set_capacity(Some(bed.disk.used_bytes()));
        bed.disk.halt_after(changes);
        drop(log.apply_retention(START_MS + 2 * DAY_MS));
        bed.disk.crash(Crash::Power);
        drop((log, dir));
        bed.disk.set_capacity(None);
        let (_dir, log, report) = bed.reopen();
        assert!(report.damage.is_empty(), "{changes}: {report:?}");
        assert_eq!(report.log_end_offset, Offset(5), "{changes}");
        let start = log.reader().log_start_offset().value();
        let found: Vec<i64> = read_all(&log.reader()).iter().map(|(at, _)| *at).collect();
        assert_eq!(found, (start..5).collect::<Vec<_>>(), "{changes}");
    }
}

#[test]
fn records_are_deleted_on_a_full_volume() {
    let bed = Bed::new(1).segment_bytes(100_000);
    let (dir, mut log) = old_segments(&bed);
    bed.disk.set_capacity(Some(bed.disk.used_bytes()));
    assert_eq!(log.delete_records_before(Offset(3)).unwrap(), Offset(3));
    assert_eq!(read_all(&log.reader()).len(), 2);
    assert!(dir.offline().is_none());
    bed.disk.crash(Crash::Power);
    drop((log, dir));
    let (_dir, log, _) = bed.reopen();
    assert_eq!(log.reader().log_start_offset(), Offset(3));
}

#[test]
fn appends_take_the_room_of_the_pool() {
    let mut bed = Bed::new(1).segment_bytes(100_000);
    bed.dir_config.pool_files = 2;
    bed.dir_config.pool_file_bytes = 64 * 1024;
    let (dir, mut log) = bed.create();
    append(&mut log, plain(1, 100));
    dir.refill_pool().unwrap();
    bed.disk.set_capacity(Some(bed.disk.used_bytes()));
    assert_eq!(append(&mut log, plain(1, 80_000)).base_offset, Offset(1));
    assert!(!dir.refill_pool().unwrap(), "there is no room for a pool");
    assert_eq!(read_all(&log.reader()).len(), 2);
}

#[test]
fn a_process_without_descriptors_refuses_and_goes_on() {
    for pool_files in [0, 2] {
        for opens in 1..12 {
            let mut bed = Bed::new(1).segment_bytes(12_000);
            bed.dir_config.pool_files = pool_files;
            bed.dir_config.pool_file_bytes = 8 * 1024;
            let (dir, mut log) = bed.create();
            let mut taken = 0;
            for round in 0..40 {
                dir.refill_pool().unwrap();
                if round % 4 == 2 {
                    bed.disk.fail_next_opens(opens);
                }
                match log.append_as_leader(&[plain(1, 5000)], EPOCH).remove(0) {
                    Ok(_) => taken += 1,
                    Err(error) => {
                        assert!(error.is_retriable(), "{error}");
                        assert!(error.to_string().contains("open files"), "{error}");
                    }
                }
                dir.write_checkpoints().unwrap();
                assert!(dir.offline().is_none(), "{opens}: {:?}", dir.offline());
            }
            assert!((1..40).contains(&taken), "{taken} with {opens}");
            bed.disk.fail_next_opens(0);
            append(&mut log, plain(1, 100));
            log.sync().unwrap();
            bed.disk.crash(Crash::Power);
            drop((log, dir));
            let (_dir, log, report) = bed.reopen();
            assert_eq!(report.log_end_offset, Offset(taken + 1));
            assert_eq!(read_all(&log.reader()).len() as i64, taken + 1);
        }
    }
}
