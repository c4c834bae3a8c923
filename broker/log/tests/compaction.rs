//! Compaction by key: what stays, what goes, and when.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use conveyor_log::disk::Crash;
use conveyor_log::{
    AppendBatch, Cleaner, CleanerConfig, CleanupPolicy, CompactionError, CompactionStats, DataDir,
    Log,
};
use conveyor_record::{
    BatchOptions, Batches, Codec, ControlRecord, ControlType, Offset, ProducerEpoch, ProducerId,
    build_end_txn_marker,
};
use support::*;

const RETENTION_MS: i64 = 10_000;

fn bed() -> Bed {
    let mut bed = Bed::new(1).segment_bytes(10_000);
    bed.log_config.cleanup_policy = CleanupPolicy::COMPACT;
    bed.log_config.min_cleanable_dirty_ratio = 0.0;
    bed.log_config.delete_retention_ms = RETENTION_MS;
    bed.log_config.index_interval_bytes = 200;
    bed
}

fn put(log: &mut Log, key: &str, value: Option<&str>) -> Offset {
    let record = (Some(key.as_bytes()), value.map(str::as_bytes));
    append(log, keyed(BatchOptions::default(), START_MS, &[record])).base_offset
}

fn commit_all(log: &mut Log) {
    log.sync().unwrap();
    log.reader()
        .advance_high_watermark(log.reader().log_end_offset());
}

fn compact_at(log: &mut Log, now_ms: i64) -> Option<CompactionStats> {
    let plan = log.plan_compaction(now_ms).unwrap()?;
    let cleaned = Cleaner::new(CleanerConfig::default())
        .clean(&plan, &mut |_| true)
        .unwrap();
    Some(log.install_compaction(cleaned).unwrap())
}

fn shown(log: &Log) -> Shown {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    read_entries(&log.reader())
        .into_iter()
        .map(|entry| {
            (
                entry.offset,
                entry.key.map(text).unwrap_or_default(),
                entry.value.map(text),
            )
        })
        .collect()
}

type Shown = Vec<(i64, String, Option<String>)>;

fn owned(expected: &[(i64, &str, Option<&str>)]) -> Shown {
    expected
        .iter()
        .map(|(offset, key, value)| (*offset, (*key).to_owned(), value.map(str::to_owned)))
        .collect()
}

#[test]
fn only_the_newest_record_of_each_key_stays_at_its_offset() {
    let bed = bed();
    let (dir, mut log) = bed.create();
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            put(&mut log, key, Some(&format!("{key}{round}")));
        }
        log.roll().unwrap();
    }
    put(&mut log, "a", Some("a3"));
    commit_all(&mut log);
    let stats = compact_at(&mut log, START_MS).unwrap();
    assert_eq!((stats.segments_before, stats.segments_after), (3, 1));
    assert_eq!((stats.records_before, stats.records_after), (9, 3));
    let expected = owned(&[
        (6, "a", Some("a2")),
        (7, "b", Some("b2")),
        (8, "c", Some("c2")),
        (9, "a", Some("a3")),
    ]);
    assert_eq!(shown(&log), expected, "the active segment is never touched");
    // Offsets in the gap lead to the next record.
    let reader = log.reader();
    assert_eq!(
        reader
            .read(Offset(2), Offset(10), 1, true)
            .unwrap()
            .first_offset,
        Offset(6)
    );
    assert!(compact_at(&mut log, START_MS).is_none(), "nothing is dirty");
    restart(&bed, dir, log, |log| assert_eq!(shown(log), expected));
}

/// Closes and opens the log, and once more after a kill.
fn restart(bed: &Bed, dir: DataDir, log: Log, check: impl Fn(&Log)) {
    log.close().unwrap();
    dir.close().unwrap();
    let (dir, log, report) = bed.reopen();
    assert!(report.clean);
    check(&log);
    bed.disk.crash(Crash::Power);
    drop((log, dir));
    let (_dir, log, _) = bed.reopen();
    check(&log);
}

#[test]
fn tombstones_stay_for_delete_retention_and_then_go() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    put(&mut log, "a", Some("1"));
    put(&mut log, "b", Some("1"));
    put(&mut log, "a", None);
    log.roll().unwrap();
    put(&mut log, "z", Some("1"));
    commit_all(&mut log);
    compact_at(&mut log, START_MS).unwrap();
    let with_tombstone = owned(&[(1, "b", Some("1")), (2, "a", None), (3, "z", Some("1"))]);
    assert_eq!(shown(&log), with_tombstone);
    // Before the horizon it stays, however often the log is cleaned.
    let dirty = |log: &mut Log, now| {
        log.roll().unwrap();
        put(log, "z", Some("2"));
        commit_all(log);
        compact_at(log, now).unwrap();
    };
    dirty(&mut log, START_MS + RETENTION_MS - 1);
    assert!(shown(&log).contains(&(2, "a".to_owned(), None)));
    dirty(&mut log, START_MS + RETENTION_MS);
    let keys: Vec<String> = shown(&log).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["b", "z", "z"]);
}

#[test]
fn records_without_a_key_vanish_and_compressed_batches_stay_compressed() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    let records: [KeyValue<'_>; 3] = [
        (Some(b"a"), Some(b"1")),
        (None, Some(b"2")),
        (Some(b"a"), Some(b"3")),
    ];
    append(&mut log, keyed(compressed(Codec::Zstd), START_MS, &records));
    log.roll().unwrap();
    put(&mut log, "z", Some("1"));
    commit_all(&mut log);
    let stats = compact_at(&mut log, START_MS).unwrap();
    assert_eq!(stats.records_without_key, 1);
    assert_eq!(
        shown(&log),
        owned(&[(2, "a", Some("3")), (3, "z", Some("1"))])
    );
    let chunk = log.reader().read(Offset(0), Offset(3), 1000, true).unwrap();
    let batch = Batches::new(&chunk.bytes).next().unwrap().unwrap();
    assert_eq!(batch.header().codec().unwrap(), Codec::Zstd);
    assert_eq!(
        (batch.header().base_offset, batch.header().last_offset()),
        (Offset(0), Offset(2))
    );
}

#[test]
fn the_lag_and_the_committed_part_are_respected() {
    let mut bed = bed();
    bed.log_config.min_compaction_lag_ms = 1000;
    let (_dir, mut log) = bed.create();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    log.roll().unwrap();
    put(&mut log, "a", Some("3"));
    log.sync().unwrap();
    assert!(
        compact_at(&mut log, START_MS + 5000).is_none(),
        "not committed"
    );
    log.reader().advance_high_watermark(Offset(3));
    assert!(compact_at(&mut log, START_MS + 999).is_none(), "too young");
    assert!(compact_at(&mut log, START_MS + 1000).is_some());
    assert_eq!(
        shown(&log),
        owned(&[(1, "a", Some("2")), (2, "a", Some("3"))])
    );
    bed.log_config.cleanup_policy = CleanupPolicy::DELETE;
    log.update_config(bed.log_config);
    log.roll().unwrap();
    commit_all(&mut log);
    assert!(
        compact_at(&mut log, START_MS + 9000).is_none(),
        "not asked for"
    );
}

#[test]
fn a_small_key_map_takes_several_rounds() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    for round in 0..2 {
        for key in 0..100 {
            put(&mut log, &format!("key-{key}"), Some(&format!("{round}")));
        }
        log.roll().unwrap();
    }
    put(&mut log, "z", Some("1"));
    commit_all(&mut log);
    let mut cleaner = Cleaner::new(CleanerConfig {
        dedupe_buffer_bytes: 24 * 40,
        ..CleanerConfig::default()
    });
    let mut rounds = 0;
    while let Some(plan) = log.plan_compaction(START_MS).unwrap() {
        let cleaned = cleaner.clean(&plan, &mut |_| true).unwrap();
        log.install_compaction(cleaned).unwrap();
        rounds += 1;
        assert!(rounds < 50, "no progress");
    }
    assert!(rounds > 3, "{rounds}");
    let left = shown(&log);
    assert_eq!(left.len(), 101);
    assert!(
        left[..100]
            .iter()
            .all(|(offset, _, value)| *offset >= 100 && value.as_deref() == Some("1"))
    );
}

#[test]
fn the_last_batch_of_a_producer_stays_as_a_header() {
    let bed = bed();
    let (dir, mut log) = bed.create();
    let from = |id: i64, sequence: i32, key: &[u8]| {
        let options = BatchOptions {
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(0),
            base_sequence: sequence,
            ..BatchOptions::default()
        };
        keyed(options, START_MS, &[(Some(key), Some(b"v"))])
    };
    append(&mut log, from(1, 0, b"a"));
    append(&mut log, from(1, 1, b"a"));
    append(&mut log, from(2, 0, b"a"));
    log.roll().unwrap();
    put(&mut log, "z", Some("1"));
    commit_all(&mut log);
    compact_at(&mut log, START_MS).unwrap();
    let chunk = log.reader().read(Offset(0), Offset(4), 1000, true).unwrap();
    let kept: Vec<(i64, i32)> = Batches::new(&chunk.bytes)
        .map(|batch| {
            (
                batch.as_ref().unwrap().header().base_offset.value(),
                batch.unwrap().header().record_count,
            )
        })
        .collect();
    assert_eq!(
        kept,
        [(1, 0), (2, 1)],
        "producer 1's last batch is empty, its first one gone"
    );
    restart(&bed, dir, log, |log| assert_eq!(log.producer_count(), 2));
}

fn transactional(producer: i64, sequence: i32, key: &str, value: &str) -> AppendBatch {
    let options = BatchOptions {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        base_sequence: sequence,
        is_transactional: true,
        ..BatchOptions::default()
    };
    keyed(
        options,
        START_MS,
        &[(Some(key.as_bytes()), Some(value.as_bytes()))],
    )
}

fn end(producer: i64, control_type: ControlType) -> AppendBatch {
    let record = ControlRecord {
        control_type,
        coordinator_epoch: 0,
    };
    validated(
        build_end_txn_marker(record, ProducerId(producer), ProducerEpoch(0), START_MS).unwrap(),
    )
}

#[test]
fn aborted_records_go_and_their_markers_follow() {
    let bed = bed();
    let (dir, mut log) = bed.create();
    put(&mut log, "a", Some("old"));
    append(&mut log, transactional(1, 0, "a", "aborted"));
    append(&mut log, end(1, ControlType::Abort));
    append(&mut log, transactional(2, 0, "b", "committed"));
    append(&mut log, end(2, ControlType::Commit));
    log.roll().unwrap();
    // The producers go on, so that nothing here is their last batch.
    append(&mut log, transactional(1, 1, "x", "1"));
    append(&mut log, end(1, ControlType::Commit));
    append(&mut log, transactional(2, 1, "y", "1"));
    append(&mut log, end(2, ControlType::Commit));
    commit_all(&mut log);
    compact_at(&mut log, START_MS).unwrap();
    let visible = owned(&[
        (0, "a", Some("old")),
        (3, "b", Some("committed")),
        (5, "x", Some("1")),
        (7, "y", Some("1")),
    ]);
    assert_eq!(
        shown(&log),
        visible,
        "an aborted record does not replace a committed one"
    );
    assert_eq!(
        log.reader()
            .aborted_transactions(Offset(0), Offset(9))
            .unwrap()
            .len(),
        1
    );
    let offsets = |log: &Log| {
        let chunk = log
            .reader()
            .read(Offset(0), Offset(5), 10_000, true)
            .unwrap();
        Batches::new(&chunk.bytes)
            .map(|batch| batch.unwrap().header().base_offset.value())
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(&log), [0, 2, 3, 4]);

    // Cleaned again, the abort marker has no transaction left: it gets a horizon, and goes behind it.
    let dirty = |log: &mut Log, now| {
        log.roll().unwrap();
        put(log, "z", Some("1"));
        commit_all(log);
        compact_at(log, now).unwrap();
    };
    dirty(&mut log, START_MS);
    assert_eq!(offsets(&log), [0, 2, 3, 4]);
    dirty(&mut log, START_MS + RETENTION_MS);
    assert_eq!(offsets(&log), [0, 3, 4]);
    let stable = log.reader().last_stable_offset();
    assert_eq!(stable, log.reader().log_end_offset());
    restart(&bed, dir, log, |log| {
        log.reader()
            .advance_high_watermark(log.reader().log_end_offset());
        assert_eq!(
            log.reader().last_stable_offset(),
            log.reader().log_end_offset()
        );
    });
}

#[test]
fn an_open_transaction_is_not_compacted() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    put(&mut log, "a", Some("1"));
    append(&mut log, transactional(1, 0, "a", "2"));
    log.roll().unwrap();
    put(&mut log, "a", Some("3"));
    commit_all(&mut log);
    assert!(log.plan_compaction(START_MS).unwrap().is_none());
}

#[test]
fn readers_go_on_during_the_swap_and_find_by_time_afterwards() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    for index in 0..50 {
        let record = (Some(&b"k"[..]), Some(&b"v"[..]));
        append(
            &mut log,
            keyed(BatchOptions::default(), START_MS + index, &[record]),
        );
    }
    log.roll().unwrap();
    put(&mut log, "k", Some("last"));
    commit_all(&mut log);
    let reader = log.reader();
    let before = reader.read(Offset(10), Offset(51), 100, true).unwrap();
    compact_at(&mut log, START_MS).unwrap();
    let after = reader
        .read(before.next_offset, Offset(51), 10_000, true)
        .unwrap();
    assert_eq!(after.first_offset, Offset(49));
    let found = reader
        .offset_for_timestamp(START_MS + 3, Offset(51))
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.offset, found.timestamp_ms),
        (Offset(49), START_MS + 49)
    );
}

#[test]
fn a_reader_with_an_old_bound_passes_over_what_compaction_removed() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    for index in 0..10 {
        put(&mut log, "a", Some(&index.to_string()));
    }
    log.roll().unwrap();
    put(&mut log, "b", Some("1"));
    commit_all(&mut log);
    compact_at(&mut log, START_MS).unwrap();
    let chunk = log.reader().read(Offset(2), Offset(7), 1000, true).unwrap();
    assert_eq!((chunk.batch_count, chunk.next_offset), (0, Offset(7)));
    let chunk = log
        .reader()
        .read(Offset(7), Offset(11), 1000, true)
        .unwrap();
    assert_eq!(chunk.first_offset, Offset(9));
}

#[test]
fn damage_stops_compaction_and_nothing_is_lost() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    for index in 0..5 {
        put(&mut log, "a", Some(&index.to_string()));
    }
    log.roll().unwrap();
    put(&mut log, "b", Some("1"));
    commit_all(&mut log);
    bed.disk.flip_bit(&log_file(0), 100, 0);
    let before = bed.disk.content(&log_file(0));
    let plan = log.plan_compaction(START_MS).unwrap().unwrap();
    let error = Cleaner::new(CleanerConfig::default())
        .clean(&plan, &mut |_| true)
        .unwrap_err();
    assert!(matches!(error, CompactionError::Damaged(_)), "{error}");
    assert_eq!(bed.disk.content(&log_file(0)), before);
}

#[test]
fn a_stopped_or_outdated_cleaning_changes_nothing() {
    let bed = bed();
    let (_dir, mut log) = bed.create();
    for index in 0..5 {
        put(&mut log, "a", Some(&index.to_string()));
    }
    log.roll().unwrap();
    put(&mut log, "b", Some("1"));
    commit_all(&mut log);
    let plan = log.plan_compaction(START_MS).unwrap().unwrap();
    let mut cleaner = Cleaner::new(CleanerConfig::default());
    assert!(matches!(
        cleaner.clean(&plan, &mut |_| false),
        Err(CompactionError::Stopped)
    ));
    let cleaned = cleaner.clean(&plan, &mut |_| true).unwrap();
    log.delete_records_before(Offset(5)).unwrap();
    log.install_compaction(cleaned).unwrap();
    assert_eq!(shown(&log), owned(&[(5, "b", Some("1"))]));
    let left = bed
        .disk
        .files()
        .iter()
        .filter(|path| path.to_string_lossy().contains(".cleaned"))
        .count();
    assert_eq!(left, 0);
}

#[test]
fn an_abort_marker_in_a_later_segment_is_known_to_the_cleaning_of_the_records() {
    for marker_is_cleaned_too in [false, true] {
        let bed = bed();
        let (dir, mut log) = bed.create();
        put(&mut log, "a", Some("old"));
        append(&mut log, transactional(1, 0, "a", "aborted"));
        log.roll().unwrap();
        append(&mut log, end(1, ControlType::Abort));
        put(&mut log, "b", Some("1"));
        if marker_is_cleaned_too {
            log.roll().unwrap();
            put(&mut log, "c", Some("1"));
        }
        commit_all(&mut log);
        compact_at(&mut log, START_MS).unwrap();
        let mut expected = owned(&[(0, "a", Some("old")), (3, "b", Some("1"))]);
        if marker_is_cleaned_too {
            expected.extend(owned(&[(4, "c", Some("1"))]));
        }
        assert_eq!(shown(&log), expected, "cleaned: {marker_is_cleaned_too}");
        restart(&bed, dir, log, |log| assert_eq!(shown(log), expected));
    }
}

#[test]
fn an_emptied_marker_opens_no_transaction() {
    let bed = bed();
    let (dir, mut log) = bed.create();
    append(&mut log, transactional(1, 0, "a", "1"));
    // A marker of the next epoch: the producer has no batch left that could speak for it.
    let record = ControlRecord {
        control_type: ControlType::Commit,
        coordinator_epoch: 0,
    };
    let marker = build_end_txn_marker(record, ProducerId(1), ProducerEpoch(1), START_MS).unwrap();
    append(&mut log, validated(marker));
    put(&mut log, "a", Some("2"));
    for round in 0..4 {
        log.roll().unwrap();
        put(&mut log, "z", Some("1"));
        commit_all(&mut log);
        compact_at(&mut log, START_MS + round * RETENTION_MS).unwrap();
    }
    let chunk = log.reader().read(Offset(0), Offset(3), 1000, true).unwrap();
    let marker = Batches::new(&chunk.bytes)
        .map(|batch| *batch.unwrap().header())
        .find(|header| header.attributes.is_control())
        .unwrap();
    assert_eq!(marker.record_count, 0, "the marker is a bare header");
    log.sync().unwrap();
    bed.disk.crash(Crash::Process);
    drop((log, dir));
    for path in bed.disk.files() {
        if path.extension().is_some_and(|kind| kind == "snapshot") {
            shared(&bed.disk).remove_file(&path).unwrap();
        }
    }
    let (_dir, log, _) = bed.reopen();
    let reader = log.reader();
    reader.advance_high_watermark(reader.log_end_offset());
    assert_eq!(reader.last_stable_offset(), reader.log_end_offset());
}

#[test]
fn a_cleaning_without_room_leaves_nothing_behind_and_succeeds_later() {
    let mut bed = bed();
    bed.log_config.segment_bytes = 4000;
    let (dir, mut log) = bed.create();
    for round in 0..3 {
        for key in 0..30 {
            put(&mut log, &format!("{round}-{key}"), Some("0123456789"));
        }
        log.roll().unwrap();
    }
    put(&mut log, "z", Some("1"));
    commit_all(&mut log);
    let plan = log.plan_compaction(START_MS).unwrap().unwrap();
    let mut cleaner = Cleaner::new(CleanerConfig::default());
    // Room for the first new segment, not for the second.
    bed.disk.set_capacity(Some(bed.disk.used_bytes() + 4500));
    let error = cleaner.clean(&plan, &mut |_| true).unwrap_err();
    assert!(matches!(error, CompactionError::Full(_)), "{error}");
    assert!(error.is_retriable());
    let left = bed.disk.files().into_iter().filter(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".cleaned") || name.ends_with(".swap")
    });
    assert_eq!(left.count(), 0);
    assert!(dir.offline().is_none());
    bed.disk.set_capacity(None);
    compact_at(&mut log, START_MS).unwrap();
    assert_eq!(shown(&log).len(), 91);
}
