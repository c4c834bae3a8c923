//! Damage anywhere: whatever byte is cut or flipped, nothing false is served and nothing good is cut.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use conveyor_log::disk::{Crash, Lies};
use conveyor_log::{GroupCommit, ReadError};
use conveyor_record::{BatchOptions, Codec, Offset};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::*;

/// A log of two segments and a recovery point inside the second one, killed.
fn killed(codec: Codec) -> (Bed, Vec<(i64, Vec<u8>)>, Offset) {
    let segment_bytes = if codec == Codec::None { 3000 } else { 1800 };
    let mut bed = Bed::new(1).segment_bytes(segment_bytes);
    bed.log_config.index_interval_bytes = 400;
    bed.dir_config.recovery_bytes_max = 700;
    let (dir, mut log) = bed.create();
    let commit = GroupCommit::new(&dir);
    for index in 0..24_u8 {
        let value = vec![b'a' + index; 60];
        append(
            &mut log,
            batch(
                BatchOptions {
                    codec,
                    ..BatchOptions::default()
                },
                START_MS,
                &[&value, b"second"],
            ),
        );
        if index < 20 {
            sync_round(&commit, &log.reader()).unwrap();
        }
    }
    let recovery_point = log.reader().recovery_point();
    let all = read_all(&log.reader());
    assert!(
        log.reader().segment_count() == 2 && recovery_point > Offset(20),
        "{recovery_point}"
    );
    bed.disk.crash(Crash::Process);
    drop((log, dir, commit));
    (bed, all, recovery_point)
}

/// Opens the log and reads from every offset: what comes is what was written, or reported damage.
fn check(bed: &Bed, all: &[(i64, Vec<u8>)], recovery_point: Offset) {
    let (dir, mut log, report) = bed.reopen();
    let reader = log.reader();
    let end = reader.log_end_offset();
    assert!(
        end >= recovery_point && end <= Offset(all.len() as i64),
        "{report:?}"
    );
    for offset in 0..end.value() {
        match reader.read(Offset(offset), end, 1, true) {
            Ok(chunk) => {
                let found = records(&chunk.bytes);
                assert!(
                    found.iter().any(|(at, _)| *at == offset),
                    "offset {offset} was passed over"
                );
                assert!(
                    found.iter().all(|record| all.contains(record)),
                    "at {offset}: {found:?}"
                );
            }
            Err(ReadError::Damaged(damage)) => {
                assert!(offset < recovery_point.value(), "{damage}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    // The log goes on, at an offset that was not given out below the recovery point.
    assert_eq!(append(&mut log, plain(1, 5)).base_offset, end);
    log.close().unwrap();
    dir.close().unwrap();
    let (_dir, log, report) = bed.reopen();
    assert!(report.clean, "{report:?}");
    assert_eq!(log.reader().log_end_offset(), end.next());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_flipped_bit_in_any_file_serves_nothing_false(
        place in any::<u64>(),
        number in any::<usize>(),
        bit in 0..8_u8,
        compressed in any::<bool>(),
    ) {
        let (bed, all, recovery_point) = killed(if compressed { Codec::Lz4 } else { Codec::None });
        // `leader-epoch-checkpoint` is left out: Kafka's format has no checksum for it.
        let files: Vec<_> = bed.disk.files().into_iter().filter(|path| path.starts_with("/data/orders-0") && path.extension().is_some()).collect();
        let path = &files[number % files.len()];
        let len = bed.disk.content(path).unwrap().len() as u64;
        if len > 0 {
            bed.disk.flip_bit(path, place % len, bit);
        }
        check(&bed, &all, recovery_point);
    }

    #[test]
    fn a_log_cut_anywhere_is_recovered_to_whole_batches(cut in any::<usize>(), zeros in 0..600_usize) {
        let (bed, all, recovery_point) = killed(Codec::None);
        let mut logs: Vec<_> = bed.disk.files().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
        let last = logs.pop().unwrap();
        let mut content = bed.disk.content(&last).unwrap();
        content.truncate(cut % (content.len() + 1));
        content.resize(content.len() + zeros, 0);
        bed.disk.set_content(&last, &content);
        check(&bed, &all, recovery_point);
    }
}

#[test]
fn a_disk_that_reads_wrong_bits_is_never_believed() {
    for seed in 0..30 {
        let bed = Bed::new(seed).segment_bytes(3000);
        let (_dir, mut log) = bed.create();
        for index in 0..40_u8 {
            append(
                &mut log,
                batch(BatchOptions::default(), START_MS, &[&[index; 80]]),
            );
        }
        let all = read_all(&log.reader());
        bed.disk.set_lies(Lies {
            reads: true,
            ..Lies::default()
        });
        let reader = log.reader();
        let mut damaged = 0;
        for offset in 0..40 {
            match reader.read(Offset(offset), Offset(40), 500, true) {
                Ok(chunk) => assert!(
                    records(&chunk.bytes)
                        .iter()
                        .all(|record| all.contains(record))
                ),
                Err(ReadError::Damaged(_)) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(damaged < 40);
    }
}
