//! The engine through its public interface: append, read, roll, trim, recover, one rule a test.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use conveyor_log::disk::Crash;
use conveyor_log::{AppendError, CleanupPolicy, GroupCommit, ReadError};
use conveyor_record::{
    BatchOptions, Codec, ControlRecord, ControlType, LeaderEpoch, Offset, ProducerEpoch,
    ProducerId, build_end_txn_marker,
};
use support::*;

#[test]
fn what_is_appended_is_read_back() {
    let bed = Bed::new(1);
    let (_dir, mut log) = bed.create();
    let reader = log.reader();
    for (index, codec) in [
        Codec::None,
        Codec::Lz4,
        Codec::Zstd,
        Codec::Snappy,
        Codec::Gzip,
    ]
    .into_iter()
    .enumerate()
    {
        let info = append(
            &mut log,
            batch(compressed(codec), START_MS, &[b"a", b"b", b"c"]),
        );
        assert_eq!(info.base_offset, Offset(index as i64 * 3));
        assert_eq!(info.last_offset, Offset(index as i64 * 3 + 2));
        assert!(!info.duplicate);
    }
    let expected: Vec<(i64, Vec<u8>)> = (0..15)
        .map(|offset| (offset, vec![b"abc"[offset as usize % 3]]))
        .collect();
    assert_eq!(read_all(&reader), expected);
    log.close().unwrap();
}

#[test]
fn an_offset_within_a_batch_gives_the_whole_batch() {
    let (_dir, mut log) = Bed::new(1).create();
    for _ in 0..4 {
        append(&mut log, plain(10, 50));
    }
    let reader = log.reader();
    let chunk = reader.read(Offset(17), Offset(40), 1 << 20, true).unwrap();
    assert_eq!(
        (chunk.first_offset, chunk.next_offset, chunk.batch_count),
        (Offset(10), Offset(40), 3)
    );
    let chunk = reader.read(Offset(17), Offset(20), 1 << 20, true).unwrap();
    assert_eq!(
        (chunk.first_offset, chunk.next_offset),
        (Offset(10), Offset(20))
    );
}

#[test]
fn limits_leave_whole_batches() {
    let (_dir, mut log) = Bed::new(1).create();
    let one = plain(10, 100);
    let size = one.bytes.len();
    for _ in 0..4 {
        append(&mut log, one.clone());
    }
    let reader = log.reader();
    let read = |max, min_one| reader.read(Offset(0), Offset(40), max, min_one).unwrap();
    assert_eq!(read(size * 2, false).batch_count, 2);
    assert_eq!(read(size * 2 - 1, false).batch_count, 1);
    assert_eq!(read(10, true).batch_count, 1);
    assert_eq!(read(10, true).bytes.len(), size);
    assert_eq!(read(10, false).batch_count, 0);
    assert_eq!(read(0, true).batch_count, 1);
}

#[test]
fn offsets_outside_the_log_are_refused_with_the_range() {
    let (_dir, mut log) = Bed::new(1).create();
    append(&mut log, plain(10, 10));
    let reader = log.reader();
    assert_eq!(
        reader
            .read(Offset(10), Offset(10), 100, true)
            .unwrap()
            .batch_count,
        0
    );
    for (offset, bound) in [(11, 10), (-1, 10), (6, 5)] {
        let error = reader
            .read(Offset(offset), Offset(bound), 100, true)
            .unwrap_err();
        assert!(
            matches!(error, ReadError::OutOfRange { start: Offset(0), end, .. } if end == Offset(bound)),
            "{error}"
        );
    }
}

#[test]
fn segments_roll_by_size_and_reads_go_on_across_them() {
    let bed = Bed::new(1).segment_bytes(2000);
    let (_dir, mut log) = bed.create();
    for _ in 0..20 {
        append(&mut log, plain(5, 100));
    }
    assert!(log.reader().segment_count() >= 5);
    assert_eq!(read_all(&log.reader()).len(), 100);
    let mut group: Vec<_> = (0..20).map(|_| plain(5, 100)).collect();
    let results = log.append_as_leader(&group, EPOCH);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(
            result.as_ref().unwrap().base_offset,
            Offset(100 + index as i64 * 5)
        );
    }
    assert_eq!(read_all(&log.reader()).len(), 200);
    group.truncate(1);
    let huge = plain(1, 3000);
    assert!(matches!(
        log.append_as_leader(&[huge], EPOCH)[0],
        Err(AppendError::LargerThanSegment { max: 2000, .. })
    ));
}

#[test]
fn segments_roll_by_time() {
    let mut bed = Bed::new(1);
    bed.log_config.segment_ms = 1000;
    let (_dir, mut log) = bed.create();
    append(&mut log, batch(BatchOptions::default(), START_MS, &[b"a"]));
    append(
        &mut log,
        batch(BatchOptions::default(), START_MS + 1000, &[b"b"]),
    );
    assert_eq!(log.reader().segment_count(), 1);
    append(
        &mut log,
        batch(BatchOptions::default(), START_MS + 1001, &[b"c"]),
    );
    assert_eq!(log.reader().segment_count(), 2);
    assert!(!log.roll_if_due(START_MS + 500).unwrap());
    assert!(log.roll_if_due(START_MS + 1500).unwrap());
    assert!(
        !log.roll_if_due(START_MS + 9000).unwrap(),
        "an empty segment is not rolled"
    );
}

#[test]
fn a_clean_restart_scans_nothing() {
    let bed = Bed::new(1).segment_bytes(3000);
    let (dir, mut log) = bed.create();
    for sequence in 0..30 {
        append(&mut log, from_producer(1, 0, sequence * 4, 4));
    }
    let before = read_all(&log.reader());
    log.close().unwrap();
    dir.close().unwrap();

    let (dir, mut log, report) = bed.reopen();
    assert!(dir.was_clean());
    assert!(report.clean);
    assert_eq!(report.bytes_scanned, 0);
    assert_eq!(report.log_end_offset, Offset(120));
    assert_eq!(read_all(&log.reader()), before);
    assert_eq!(log.reader().topic_id(), uuid::Uuid::from_u128(7));
    // All of the producer's last five batches are still known.
    for sequence in 25..30 {
        let info = append(&mut log, from_producer(1, 0, sequence * 4, 4));
        assert!(info.duplicate);
        assert_eq!(info.base_offset, Offset(i64::from(sequence) * 4));
    }
    assert_eq!(
        append(&mut log, from_producer(1, 0, 120, 4)).base_offset,
        Offset(120)
    );
}

#[test]
fn a_log_that_was_not_closed_is_recovered() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    append(&mut log, plain(3, 10));
    drop(log);
    dir.close().unwrap();
    let (dir, log, report) = bed.reopen();
    assert!(!dir.was_clean());
    assert!(!report.clean);
    assert_eq!(report.log_end_offset, Offset(3));
    drop(log);
}

#[test]
fn a_second_process_is_refused() {
    let bed = Bed::new(1);
    let (dir, log) = bed.create();
    let error = bed.try_open_dir().unwrap_err();
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    log.close().unwrap();
    dir.close().unwrap();
    bed.open_dir();
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let mut bed = Bed::new(1);
    let (dir, log) = bed.create();
    let cluster_id = dir.cluster_id().to_owned();
    log.close().unwrap();
    dir.close().unwrap();
    bed.dir_config.node_id = 5;
    assert!(
        bed.try_open_dir()
            .unwrap_err()
            .to_string()
            .contains("belongs to node.id 0")
    );
    bed.dir_config.node_id = 0;
    bed.dir_config.cluster_id = Some("another".to_owned());
    assert!(
        bed.try_open_dir()
            .unwrap_err()
            .to_string()
            .contains("belongs to cluster.id")
    );
    bed.dir_config.cluster_id = Some(cluster_id);
    bed.open_dir();
}

#[test]
fn synced_records_survive_a_power_cut_and_the_rest_is_a_prefix() {
    for seed in 0..50 {
        let bed = Bed::new(seed);
        let (dir, mut log) = bed.create();
        let commit = GroupCommit::new(&dir);
        for _ in 0..5 {
            append(&mut log, plain(3, 400));
        }
        let synced = sync_round(&commit, &log.reader()).unwrap();
        assert_eq!(synced, Offset(15));
        for _ in 0..20 {
            append(&mut log, plain(3, 400));
        }
        bed.disk.crash(Crash::Power);
        drop((log, dir, commit));
        let (_dir, log, report) = bed.reopen();
        let end = report.log_end_offset.value();
        assert!(
            (15..=75).contains(&end) && end % 3 == 0,
            "seed {seed}: log ends at {end}"
        );
        assert_eq!(read_all(&log.reader()).len() as i64, end);
        assert_eq!(log.reader().synced_offset(), report.log_end_offset);
    }
}

#[test]
fn the_first_failed_sync_ends_the_directory_and_reads_go_on() {
    let bed = Bed::new(3);
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    append(&mut log, plain(1, 10));
    assert_eq!(sync_round(&commit, &log.reader()).unwrap(), Offset(1));
    append(&mut log, plain(1, 10));
    bed.disk.fail_next_syncs(1);
    let error = sync_round(&commit, &log.reader()).unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
    // The disk would sync again; the engine does not believe it.
    assert!(sync_round(&commit, &log.reader()).is_err());
    assert_eq!(log.reader().synced_offset(), Offset(1));
    assert!(matches!(
        log.append_as_leader(&[plain(1, 1)], EPOCH)[0],
        Err(AppendError::Offline(_))
    ));
    assert_eq!(read_all(&log.reader()).len(), 2);
    assert!(dir.offline().is_some());
    assert!(
        dir.create_log(
            &conveyor_log::TopicPartition::new("x", 0),
            uuid::Uuid::nil(),
            bed.log_config
        )
        .is_err()
    );
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_before_it_counts() {
    for seed in 0..40 {
        let bed = Bed::new(seed);
        let (dir, mut log) = bed.create();
        let commit = GroupCommit::new(&dir);
        for _ in 0..30 {
            append(&mut log, plain(1, 1000));
        }
        bed.disk.fail_next_syncs(1);
        sync_round(&commit, &log.reader()).unwrap_err();
        bed.disk.crash(Crash::Process);
        drop((log, dir, commit));
        // The cache still shows every record, and calls its pages clean.
        let (dir, log, report) = bed.reopen();
        assert_eq!(report.log_end_offset, Offset(30));
        assert_eq!(log.reader().synced_offset(), Offset(30));
        bed.disk.crash(Crash::Power);
        drop((log, dir));
        let (_dir, _log, report) = bed.reopen();
        assert_eq!(
            report.log_end_offset,
            Offset(30),
            "seed {seed}: synced records were lost"
        );
    }
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    append(&mut log, plain(1, 1000));
    bed.disk.set_capacity(Some(bed.disk.used_bytes() + 2000));
    let group = [plain(1, 800), plain(1, 800), plain(1, 800)];
    for result in log.append_as_leader(&group, EPOCH) {
        let error = result.unwrap_err();
        assert!(matches!(error, AppendError::Full(_)), "{error}");
        assert!(error.is_retriable());
    }
    assert_eq!(log.reader().log_end_offset(), Offset(1));
    assert_eq!(read_all(&log.reader()).len(), 1);
    // What fits is still taken, and with room everything goes on.
    assert_eq!(append(&mut log, plain(1, 800)).base_offset, Offset(1));
    bed.disk.set_capacity(None);
    assert_eq!(append(&mut log, plain(1, 5000)).base_offset, Offset(2));
    assert!(dir.offline().is_none());
    bed.disk.crash(Crash::Process);
    drop((log, dir));
    let (_dir, log, report) = bed.reopen();
    assert_eq!(report.log_end_offset, Offset(3));
    assert_eq!(read_all(&log.reader()).len(), 3);
}

#[test]
fn a_refused_group_leaves_no_trace_in_the_producer_state() {
    let bed = Bed::new(1);
    let (_dir, mut log) = bed.create();
    append(&mut log, from_producer(1, 0, 0, 5));
    bed.disk.set_capacity(Some(bed.disk.used_bytes() + 10));
    let group = [
        from_producer(1, 0, 5, 5),
        from_producer(1, 0, 5, 5),
        from_producer(1, 0, 10, 5),
    ];
    assert!(
        log.append_as_leader(&group, EPOCH)
            .iter()
            .all(Result::is_err)
    );
    bed.disk.set_capacity(None);
    let results = log.append_as_leader(&group, EPOCH);
    let info: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(info[0].base_offset, Offset(5));
    assert!(info[1].duplicate && info[1].base_offset == Offset(5));
    assert_eq!(info[2].base_offset, Offset(10));
}

#[test]
fn a_write_error_is_sticky() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    append(&mut log, plain(1, 10));
    bed.disk.set_faults(conveyor_log::disk::FaultPlan {
        write_errors: 1_000_000,
        ..Default::default()
    });
    assert!(matches!(
        log.append_as_leader(&[plain(1, 1)], EPOCH)[0],
        Err(AppendError::Offline(_))
    ));
    bed.disk
        .set_faults(conveyor_log::disk::FaultPlan::default());
    assert!(matches!(
        log.append_as_leader(&[plain(1, 1)], EPOCH)[0],
        Err(AppendError::Offline(_))
    ));
    assert_eq!(read_all(&log.reader()).len(), 1);
    assert!(
        dir.offline().unwrap().to_string().contains("cannot write"),
        "{}",
        dir.offline().unwrap()
    );
}

#[test]
fn older_leaders_are_fenced_and_epochs_have_ends() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    for (epoch, count) in [(0, 3), (2, 4), (5, 1)] {
        log.append_as_leader(&[plain(count, 10)], LeaderEpoch(epoch))[0]
            .as_ref()
            .unwrap();
    }
    assert!(matches!(
        log.append_as_leader(&[plain(1, 1)], LeaderEpoch(4))[0],
        Err(AppendError::FencedLeaderEpoch {
            found: LeaderEpoch(4),
            current: LeaderEpoch(5),
            ..
        })
    ));
    let reader = log.reader();
    let end = |epoch| {
        reader
            .end_offset_for_epoch(LeaderEpoch(epoch))
            .map(|end| (end.leader_epoch.0, end.end_offset.0))
    };
    assert_eq!(end(0), Some((0, 3)));
    assert_eq!(end(1), Some((0, 3)));
    assert_eq!(end(2), Some((2, 7)));
    assert_eq!(end(5), Some((5, 8)));
    assert_eq!(end(6), None);
    bed.disk.crash(Crash::Process);
    drop((log, dir));
    let (_dir, log, _) = bed.reopen();
    assert_eq!(log.reader().latest_epoch(), Some(LeaderEpoch(5)));
    assert_eq!(
        log.reader()
            .end_offset_for_epoch(LeaderEpoch(2))
            .unwrap()
            .end_offset,
        Offset(7)
    );
}

#[test]
fn truncation_cuts_whole_batches_and_the_log_goes_on() {
    let bed = Bed::new(1).segment_bytes(2000);
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    for sequence in 0..30 {
        append(&mut log, from_producer(1, 0, sequence * 5, 5));
    }
    sync_round(&commit, &log.reader()).unwrap();
    let all = read_all(&log.reader());
    log.truncate_to(Offset(62)).unwrap();
    assert_eq!(log.reader().log_end_offset(), Offset(60));
    assert_eq!(read_all(&log.reader()), all[..60]);
    // The producer goes on where the log ends now.
    assert!(log.append_as_leader(&[from_producer(1, 0, 65, 5)], EPOCH)[0].is_err());
    assert_eq!(
        append(&mut log, from_producer(1, 0, 60, 5)).base_offset,
        Offset(60)
    );
    bed.disk.crash(Crash::Power);
    drop((log, dir, commit));
    let (_dir, mut log, report) = bed.reopen();
    assert!(report.log_end_offset >= Offset(60) && report.log_end_offset <= Offset(65));
    assert_eq!(read_all(&log.reader())[..60], all[..60]);
    log.truncate_to(Offset(0)).unwrap();
    assert_eq!(log.reader().log_end_offset(), Offset(0));
    assert_eq!(append(&mut log, plain(1, 1)).base_offset, Offset(0));
}

#[test]
fn a_follower_takes_what_the_leader_sent() {
    let leader_bed = Bed::new(1).segment_bytes(2000);
    let (_dir, mut leader) = leader_bed.create();
    for epoch in 0..3 {
        for _ in 0..4 {
            leader.append_as_leader(&[plain(5, 60)], LeaderEpoch(epoch))[0]
                .as_ref()
                .unwrap();
        }
    }
    let follower_bed = Bed::new(2).segment_bytes(1500);
    let (_dir2, mut follower) = follower_bed.create();
    let reader = leader.reader();
    while follower.reader().log_end_offset() < reader.log_end_offset() {
        let from = follower.reader().log_end_offset();
        let mut bytes = reader
            .read(from, reader.log_end_offset(), 1000, true)
            .unwrap()
            .bytes;
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            let batch = conveyor_record::Batch::split_from(&mut bytes).unwrap();
            let meta = conveyor_record::validate_stored(batch.bytes(), from).unwrap();
            batches.push((batch.into_bytes(), meta));
        }
        follower.append_as_follower(&batches).unwrap();
        let again = follower.append_as_follower(&batches[..1]).unwrap_err();
        assert!(
            matches!(
                again,
                AppendError::OffsetGap { .. } | AppendError::FencedLeaderEpoch { .. }
            ),
            "{again}"
        );
    }
    assert_eq!(read_all(&follower.reader()), read_all(&reader));
    for epoch in 0..3 {
        let epoch = LeaderEpoch(epoch);
        assert_eq!(
            follower.reader().end_offset_for_epoch(epoch),
            reader.end_offset_for_epoch(epoch)
        );
    }
    follower.truncate_fully_and_start_at(Offset(1000)).unwrap();
    assert_eq!(follower.reader().log_start_offset(), Offset(1000));
    assert_eq!(append(&mut follower, plain(1, 1)).base_offset, Offset(1000));
}

#[test]
fn retention_removes_old_segments_only() {
    let mut bed = Bed::new(1).segment_bytes(1000);
    bed.log_config.retention_ms = Some(10_000);
    let (dir, mut log) = bed.create();
    for index in 0..10 {
        let at = START_MS + index * 1000;
        append(
            &mut log,
            batch(BatchOptions::default(), at, &[&[b'x'; 800]]),
        );
    }
    let now = START_MS + 13_500;
    assert_eq!(
        log.apply_retention(now).unwrap(),
        0,
        "nothing is committed yet"
    );
    log.reader().advance_high_watermark(Offset(8));
    assert!(log.apply_retention(now).unwrap() > 0);
    assert_eq!(log.reader().log_start_offset(), Offset(4));
    assert!(matches!(
        log.reader().read(Offset(3), Offset(8), 10, true),
        Err(ReadError::OutOfRange {
            start: Offset(4),
            ..
        })
    ));
    // With everything out of date even the active segment goes.
    log.reader().advance_high_watermark(Offset(10));
    log.apply_retention(now + 1_000_000).unwrap();
    assert_eq!(log.reader().log_start_offset(), Offset(10));
    assert_eq!(log.reader().size_bytes(), 0);
    assert_eq!(append(&mut log, plain(1, 1)).base_offset, Offset(10));
    bed.disk.crash(Crash::Power);
    drop((log, dir));
    let (_dir, log, _) = bed.reopen();
    assert_eq!(log.reader().log_start_offset(), Offset(10));
}

#[test]
fn retention_by_size_and_policy() {
    let mut bed = Bed::new(1).segment_bytes(1000);
    bed.log_config.retention_ms = None;
    bed.log_config.retention_bytes = Some(3000);
    let (_dir, mut log) = bed.create();
    for _ in 0..10 {
        append(&mut log, plain(1, 800));
    }
    log.reader().advance_high_watermark(Offset(10));
    bed.log_config.cleanup_policy = CleanupPolicy::COMPACT;
    log.update_config(bed.log_config.clone());
    assert_eq!(log.apply_retention(START_MS).unwrap(), 0);
    bed.log_config.cleanup_policy = CleanupPolicy::DELETE;
    log.update_config(bed.log_config);
    log.apply_retention(START_MS).unwrap();
    assert!(
        (3000..4000).contains(&log.reader().size_bytes()),
        "{}",
        log.reader().size_bytes()
    );
}

#[test]
fn deleted_records_stay_deleted() {
    let bed = Bed::new(1).segment_bytes(1000);
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    for _ in 0..10 {
        append(&mut log, plain(2, 300));
    }
    sync_round(&commit, &log.reader()).unwrap();
    assert!(
        log.delete_records_before(Offset(5)).is_err(),
        "not committed yet"
    );
    log.reader().advance_high_watermark(Offset(20));
    assert_eq!(log.delete_records_before(Offset(7)).unwrap(), Offset(7));
    assert_eq!(log.delete_records_before(Offset(3)).unwrap(), Offset(7));
    assert_eq!(read_all(&log.reader()).first().unwrap().0, 7);
    bed.disk.crash(Crash::Power);
    drop((log, dir, commit));
    let (_dir, log, _) = bed.reopen();
    assert_eq!(log.reader().log_start_offset(), Offset(7));
    assert_eq!(read_all(&log.reader()).len(), 13);
}

#[test]
fn records_are_found_by_time_inside_batches() {
    for codec in [Codec::None, Codec::Zstd] {
        let mut bed = Bed::new(1).segment_bytes(4000);
        bed.log_config.index_interval_bytes = 100;
        let (_dir, mut log) = bed.create();
        for index in 0..100_i64 {
            // Four records a batch, 1 ms apart; a batch every 10 ms.
            append(
                &mut log,
                batch(
                    compressed(codec),
                    START_MS + index * 10,
                    &[b"aaaaaaaa", b"b", b"c", b"d"],
                ),
            );
        }
        let reader = log.reader();
        let end = reader.log_end_offset();
        let find = |at: i64| {
            reader
                .offset_for_timestamp(START_MS + at, end)
                .unwrap()
                .map(|found| (found.offset.0, found.timestamp_ms - START_MS))
        };
        assert_eq!(find(-5), Some((0, 0)));
        assert_eq!(find(0), Some((0, 0)));
        assert_eq!(find(2), Some((2, 2)));
        assert_eq!(find(4), Some((4, 10)));
        assert_eq!(find(501), Some((201, 501)));
        assert_eq!(find(993), Some((399, 993)));
        assert_eq!(find(994), None);
        assert_eq!(
            reader
                .offset_for_timestamp(START_MS + 500, Offset(200))
                .unwrap(),
            None
        );
        let latest = reader.offset_of_max_timestamp(end).unwrap().unwrap();
        assert_eq!(
            (latest.offset, latest.timestamp_ms),
            (Offset(399), START_MS + 993)
        );
        let latest = reader
            .offset_of_max_timestamp(Offset(200))
            .unwrap()
            .unwrap();
        assert_eq!(
            (latest.offset, latest.timestamp_ms),
            (Offset(199), START_MS + 493)
        );
        let at = reader.timestamp_at(Offset(202)).unwrap().unwrap();
        assert_eq!((at.offset, at.timestamp_ms), (Offset(202), START_MS + 502));
        assert_eq!(reader.timestamp_at(end).unwrap(), None);
    }
}

fn transactional(producer: i64, sequence: i32, values: &[&[u8]]) -> conveyor_log::AppendBatch {
    let options = BatchOptions {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        base_sequence: sequence,
        is_transactional: true,
        ..BatchOptions::default()
    };
    batch(options, START_MS, values)
}

fn marker(producer: i64, control_type: ControlType) -> conveyor_log::AppendBatch {
    let record = ControlRecord {
        control_type,
        coordinator_epoch: 1,
    };
    validated(
        build_end_txn_marker(record, ProducerId(producer), ProducerEpoch(0), START_MS).unwrap(),
    )
}

#[test]
fn transactions_hold_the_last_stable_offset_and_aborts_are_indexed() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    append(&mut log, transactional(1, 0, &[b"a", b"b"]));
    append(&mut log, transactional(2, 0, &[b"c"]));
    let reader = log.reader();
    reader.advance_high_watermark(Offset(3));
    assert_eq!(reader.last_stable_offset(), Offset(0));
    append(&mut log, marker(1, ControlType::Abort));
    reader.advance_high_watermark(Offset(4));
    assert_eq!(reader.last_stable_offset(), Offset(2));
    append(&mut log, marker(2, ControlType::Commit));
    assert_eq!(
        reader.last_stable_offset(),
        Offset(2),
        "the marker is not committed yet"
    );
    reader.advance_high_watermark(Offset(5));
    assert_eq!(reader.last_stable_offset(), Offset(5));
    let check = |reader: &conveyor_log::LogReader| {
        let aborted = reader.aborted_transactions(Offset(0), Offset(5)).unwrap();
        assert_eq!(aborted.len(), 1);
        assert_eq!(
            (aborted[0].producer_id, aborted[0].first_offset),
            (ProducerId(1), Offset(0))
        );
        assert!(
            reader
                .aborted_transactions(Offset(4), Offset(5))
                .unwrap()
                .is_empty()
        );
    };
    check(&reader);
    append(&mut log, transactional(3, 0, &[b"d"]));
    bed.disk.crash(Crash::Process);
    drop((log, dir));
    let (dir, log, _) = bed.reopen();
    log.reader().advance_high_watermark(Offset(6));
    assert_eq!(
        log.reader().last_stable_offset(),
        Offset(5),
        "an open transaction survives a crash"
    );
    check(&log.reader());
    log.close().unwrap();
    dir.close().unwrap();
    let (_dir, log, report) = bed.reopen();
    assert!(report.clean);
    log.reader().advance_high_watermark(Offset(6));
    assert_eq!(
        log.reader().last_stable_offset(),
        Offset(5),
        "and a clean restart"
    );
    check(&log.reader());
}

#[test]
fn the_size_of_a_read_is_known_without_it() {
    let mut bed = Bed::new(1);
    bed.log_config.index_interval_bytes = 1_000;
    let (_dir, mut log) = bed.create();
    for _ in 0..40 {
        append(&mut log, plain(1, 300));
    }
    let reader = log.reader();
    reader.advance_high_watermark(Offset(40));
    for from in 0..40 {
        for bound in from..=40 {
            let (from, bound) = (Offset(from), Offset(bound));
            let told = reader.bytes_between(from, bound).unwrap();
            let read = reader.read(from, bound, usize::MAX / 2, false).unwrap();
            let read = read.bytes.len() as u64;
            assert!(
                (read..=read + 3_000).contains(&told),
                "{from} to {bound}: {told} told, {read} read"
            );
        }
    }
    assert_eq!(reader.bytes_between(Offset(40), Offset(39)), Some(0));
    assert_eq!(reader.bytes_between(Offset(41), Offset(41)), None);
    log.delete_records_before(Offset(5)).unwrap();
    assert_eq!(reader.bytes_between(Offset(4), Offset(40)), None);
}

#[test]
fn the_last_stable_offset_is_never_below_the_log_start() {
    let bed = Bed::new(1);
    let (_dir, mut log) = bed.create();
    append(&mut log, transactional(1, 0, &[b"a", b"b"]));
    append(&mut log, plain(2, 10));
    let reader = log.reader();
    reader.advance_high_watermark(Offset(4));
    assert_eq!(reader.last_stable_offset(), Offset(0));
    log.delete_records_before(Offset(2)).unwrap();
    assert_eq!(reader.last_stable_offset(), Offset(2));
    append(&mut log, marker(1, ControlType::Abort));
    reader.advance_high_watermark(Offset(5));
    assert_eq!(reader.last_stable_offset(), Offset(5));
}

#[test]
fn damage_is_reported_with_its_place_and_never_served() {
    let mut bed = Bed::new(1);
    bed.log_config.index_interval_bytes = 200;
    let (dir, mut log) = bed.create();
    let mut positions = vec![0];
    for _ in 0..20 {
        let one = plain(3, 100);
        positions.push(positions.last().unwrap() + one.bytes.len() as u64);
        append(&mut log, one);
    }
    log.close().unwrap();
    dir.close().unwrap();
    // One bit in the records of batch 7, one in the length of batch 12.
    assert!(bed.disk.flip_bit(&log_file(0), positions[7] + 100, 3));
    assert!(bed.disk.flip_bit(&log_file(0), positions[12] + 9, 3));
    let (_dir, log, _) = bed.reopen();
    let reader = log.reader();
    let read = |from: i64| reader.read(Offset(from), Offset(60), 1 << 20, true);
    let chunk = read(0).unwrap();
    assert_eq!(
        chunk.next_offset,
        Offset(21),
        "what lies before the damage is served"
    );
    for (from, batch) in [(21, 7), (36, 12)] {
        match read(from).unwrap_err() {
            ReadError::Damaged(damage) => {
                assert_eq!(damage.position, positions[batch]);
                assert_eq!(damage.segment, Offset(0));
                assert_eq!(damage.offset, Offset(batch as i64 * 3));
                assert_eq!(damage.partition, partition());
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        read(24).unwrap().first_offset,
        Offset(24),
        "what lies behind is still readable"
    );
    assert_eq!(read(24).unwrap().next_offset, Offset(36));
    assert_eq!(read(42).unwrap().next_offset, Offset(60));
}

#[test]
fn damaged_indexes_cost_time_only() {
    let mut bed = Bed::new(1).segment_bytes(5000);
    bed.log_config.index_interval_bytes = 100;
    let (dir, mut log) = bed.create();
    for index in 0..60 {
        append(
            &mut log,
            batch(
                BatchOptions::default(),
                START_MS + index * 10,
                &[&[b'v'; 200]],
            ),
        );
    }
    let all = read_all(&log.reader());
    log.close().unwrap();
    dir.close().unwrap();
    let indexes: Vec<_> = bed
        .disk
        .files()
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|kind| kind == "index" || kind == "timeindex")
        })
        .collect();
    assert!(indexes.len() > 4);
    for (number, path) in indexes.iter().enumerate() {
        match number % 3 {
            0 => bed.disk.shared().remove_file(path).unwrap(),
            1 => bed.disk.set_content(path, &[0xff; 123]),
            _ => {
                bed.disk.flip_bit(path, 6, 1);
            }
        }
    }
    let (_dir, log, _) = bed.reopen();
    let reader = log.reader();
    assert_eq!(read_all(&reader), all);
    for offset in 0..60 {
        assert_eq!(
            reader
                .read(Offset(offset), Offset(60), 1, true)
                .unwrap()
                .first_offset,
            Offset(offset)
        );
    }
}

#[test]
fn damage_below_the_recovery_point_is_kept_and_the_log_goes_on_behind_it() {
    let mut bed = Bed::new(1);
    bed.dir_config.recovery_bytes_max = 2000;
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    let mut end = 0;
    for _ in 0..20 {
        let one = plain(1, 300);
        end += one.bytes.len() as u64;
        append(&mut log, one);
        sync_round(&commit, &log.reader()).unwrap();
    }
    let recovery_point = log.reader().recovery_point();
    assert!(recovery_point >= Offset(10), "{recovery_point}");
    bed.disk.crash(Crash::Process);
    drop((log, dir, commit));
    let size = end / 20;
    bed.disk.flip_bit(&log_file(0), 3 * size + 100, 0);
    bed.disk.flip_bit(&log_file(0), 5 * size + 8, 6);
    let (dir, mut log, report) = bed.reopen();
    assert_eq!(report.log_end_offset, Offset(20), "{report:?}");
    let reader = log.reader();
    let damaged: Vec<i64> = (0..20)
        .filter(|offset| {
            matches!(
                reader.read(Offset(*offset), Offset(20), 1, true),
                Err(ReadError::Damaged(_))
            )
        })
        .collect();
    assert_eq!(damaged, [3, 5]);
    assert_eq!(append(&mut log, plain(1, 10)).base_offset, Offset(20));
    drop((log, dir, reader));

    // The very end below the recovery point is lost: nothing is cut, no offset is given out twice.
    let content = bed.disk.content(&log_file(0)).unwrap();
    let cut = (recovery_point.value() as u64 - 1) * size + 30;
    bed.disk.set_content(&log_file(0), &content[..cut as usize]);
    let (dir, mut log, report) = bed.reopen();
    assert!(!report.damage.is_empty());
    assert_eq!(report.log_end_offset, recovery_point);
    assert_eq!(bed.disk.content(&log_file(0)).unwrap().len(), cut as usize);
    assert_eq!(append(&mut log, plain(1, 10)).base_offset, recovery_point);
    let lost = Offset(recovery_point.value() - 1);
    let read = log
        .reader()
        .read(lost, log.reader().log_end_offset(), 1, true);
    assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
    log.close().unwrap();
    dir.close().unwrap();
    let (_dir, log, report) = bed.reopen();
    assert!(report.clean);
    let read = log
        .reader()
        .read(lost, log.reader().log_end_offset(), 1, true);
    assert!(
        matches!(read, Err(ReadError::Damaged(_))),
        "after a clean restart: {read:?}"
    );
}

#[test]
fn recovery_reads_only_what_lies_above_the_recovery_point() {
    let mut bed = Bed::new(1);
    bed.dir_config.recovery_bytes_max = 10_000;
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    for sequence in 0..200 {
        append(&mut log, from_producer(1, 0, sequence * 50, 50));
        sync_round(&commit, &log.reader()).unwrap();
    }
    let size = log.reader().size_bytes();
    let all = read_all(&log.reader());
    bed.disk.crash(Crash::Power);
    drop((log, dir, commit));
    let (_dir, mut log, report) = bed.reopen();
    assert!(
        report.bytes_scanned < 15_000 && size > 100_000,
        "{} of {size}",
        report.bytes_scanned
    );
    assert_eq!(read_all(&log.reader()), all);
    for sequence in 195..200 {
        assert!(append(&mut log, from_producer(1, 0, sequence * 50, 50)).duplicate);
    }
    let snapshots = bed
        .disk
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "snapshot"))
        .count();
    assert!(snapshots <= 2, "{snapshots} snapshots pile up");
}

#[test]
fn the_pool_gives_zero_filled_segments_and_their_tails_are_trimmed() {
    let mut bed = Bed::new(1).segment_bytes(100_000);
    bed.dir_config.pool_files = 2;
    bed.dir_config.pool_file_bytes = 64 * 1024;
    let (dir, mut log) = bed.create();
    assert!(dir.refill_pool().unwrap());
    assert!(!dir.refill_pool().unwrap());
    append(&mut log, plain(1, 100));
    assert_eq!(bed.disk.content(&log_file(0)).unwrap().len(), 64 * 1024);
    assert_eq!(read_all(&log.reader()).len(), 1);
    log.roll().unwrap();
    let first = bed.disk.content(&log_file(0)).unwrap();
    assert_eq!(
        first.len() as u64,
        log.reader().size_bytes(),
        "trimmed at roll"
    );
    append(&mut log, plain(1, 100));
    assert_eq!(bed.disk.content(&log_file(1)).unwrap().len(), 64 * 1024);
    bed.disk.crash(Crash::Process);
    drop((log, dir));
    let (dir, mut log, report) = bed.reopen();
    assert_eq!(
        (report.log_end_offset, report.bytes_truncated),
        (Offset(2), 0)
    );
    append(&mut log, plain(1, 100));
    log.close().unwrap();
    dir.close().unwrap();
    let sizes: usize = [0, 1]
        .iter()
        .map(|base| bed.disk.content(&log_file(*base)).unwrap().len())
        .sum();
    let (_dir, log, report) = bed.reopen();
    assert!(report.clean);
    assert_eq!(
        sizes as u64,
        log.reader().size_bytes(),
        "trimmed at shutdown"
    );
    assert!(
        bed.disk
            .files()
            .iter()
            .all(|path| !path.to_string_lossy().contains(".pool-"))
    );
}

#[test]
fn partitions_are_listed_deleted_and_created_again() {
    let bed = Bed::new(1);
    let (dir, mut log) = bed.create();
    append(&mut log, plain(50, 10));
    let other = conveyor_log::TopicPartition::new("orders", 10);
    let second = dir
        .create_log(&other, uuid::Uuid::from_u128(9), bed.log_config.clone())
        .unwrap();
    let listed = dir.list().unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|found| found.partition.to_string())
            .collect::<Vec<_>>(),
        ["orders-0", "orders-10"]
    );
    assert_eq!(listed[1].topic_id, Some(uuid::Uuid::from_u128(9)));
    assert!(
        dir.create_log(&other, uuid::Uuid::nil(), bed.log_config.clone())
            .is_err()
    );
    assert!(
        dir.open_log(&other, bed.log_config.clone()).is_err(),
        "it is open already"
    );
    log.close().unwrap();
    let (log, _) = dir.open_log(&partition(), bed.log_config.clone()).unwrap();
    let reader = log.reader();
    dir.delete_log(log).unwrap();
    drop(reader.read(Offset(0), Offset(50), 10, true));
    let mut log = dir
        .create_log(
            &partition(),
            uuid::Uuid::from_u128(11),
            bed.log_config.clone(),
        )
        .unwrap();
    assert_eq!(append(&mut log, plain(1, 1)).base_offset, Offset(0));
    assert_eq!(log.reader().topic_id(), uuid::Uuid::from_u128(11));
    drop(second);
    let bad = conveyor_log::TopicPartition::new("../x", 0);
    assert!(
        dir.create_log(&bad, uuid::Uuid::nil(), bed.log_config)
            .is_err()
    );
}
