//! The offline views: they see what the engine wrote, and what somebody damaged.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use conveyor_log::tools::{PartitionFolder, ScanEnd, Severity, VerifyOptions};
use conveyor_record::{BatchOptions, Codec, Decompressor, LeaderEpoch, Offset};
use support::*;

fn filled() -> Bed {
    let mut bed = Bed::new(1).segment_bytes(4000);
    bed.log_config.index_interval_bytes = 300;
    let (dir, mut log) = bed.create();
    for sequence in 0..30 {
        append(&mut log, from_producer(4, 1, sequence * 8, 8));
    }
    append(
        &mut log,
        batch(
            BatchOptions {
                codec: Codec::Zstd,
                ..BatchOptions::default()
            },
            START_MS + 5,
            &[b"a", b"b"],
        ),
    );
    log.close().unwrap();
    dir.close().unwrap();
    bed
}

fn folder(bed: &Bed) -> PartitionFolder {
    PartitionFolder::open(shared(&bed.disk), Path::new("/data/orders-0")).unwrap()
}

const DEEP: VerifyOptions = VerifyOptions {
    gaps_allowed: false,
    deep: true,
    max_decompressed_bytes: 1 << 20,
    findings_max: 100,
};

#[test]
fn a_sound_folder_has_no_findings() {
    let bed = filled();
    let folder = folder(&bed);
    let report = folder.verify(&DEEP).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.batches, report.records, report.end_offset),
        (31, 242, Offset(242))
    );
    assert_eq!(report.segments, folder.segments().len() as u64);
    assert_eq!(folder.topic_id().unwrap(), Some(uuid::Uuid::from_u128(7)));
    assert_eq!(
        folder.leader_epochs().unwrap(),
        [(LeaderEpoch(0), Offset(0))]
    );
    let producers = folder
        .producers(*folder.snapshots().last().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(
        (producers[0].producer_id.value(), producers[0].last_sequence),
        (4, 239)
    );
    assert!(folder.offset_index(Offset(0)).unwrap().unwrap().len() > 2);
    assert!(folder.transaction_index(Offset(0)).unwrap().is_none());

    let mut last = None;
    let segment = *folder.segments().last().unwrap();
    let end = folder
        .scan(segment, |batch, _| {
            last = Some(batch);
            true
        })
        .unwrap();
    assert_eq!(end, ScanEnd::Complete);
    let last = last.unwrap();
    assert!(last.crc_is_right);
    let batch = folder.batch_at(segment, last.position).unwrap().unwrap();
    let records: Vec<_> = batch
        .records(&mut Decompressor::new(), 1000)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(records[1].value.as_deref(), Some(&b"b"[..]));
    assert!(
        folder
            .batch_at(segment, last.position + 1)
            .unwrap()
            .is_err()
    );
}

#[test]
fn damage_is_found_wherever_it_is() {
    let bed = filled();
    bed.disk.flip_bit(&log_file(0), 700, 2);
    let report = folder(&bed).verify(&DEEP).unwrap();
    assert!(!report.is_sound());
    let finding = &report.findings[0];
    assert_eq!(finding.severity, Severity::Error);
    assert!(
        finding
            .to_string()
            .starts_with("error: 00000000000000000000.log at position"),
        "{finding}"
    );

    let bed = filled();
    bed.disk.flip_bit(&file("00000000000000000000.index"), 7, 1);
    bed.disk
        .flip_bit(&file("00000000000000000000.timeindex"), 6, 1);
    let report = folder(&bed).verify(&DEEP).unwrap();
    assert!(
        report.is_sound(),
        "indexes are rebuilt, so this is no loss: {:?}",
        report.findings
    );
    assert!(report.findings.len() >= 2);

    let bed = filled();
    let second = folder(&bed).segments()[1];
    let content = bed.disk.content(&log_file(0)).unwrap();
    bed.disk
        .set_content(&log_file(0), &content[..content.len() - 40]);
    let report = folder(&bed).verify(&DEEP).unwrap();
    let errors: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors[1].offset, Some(second));

    let bed = filled();
    bed.disk
        .set_content(&file("leader-epoch-checkpoint"), b"0\n2\n0 0\n");
    assert!(!folder(&bed).verify(&DEEP).unwrap().is_sound());
}

#[test]
fn a_zero_tail_is_no_damage() {
    let mut bed = Bed::new(1);
    bed.dir_config.pool_files = 1;
    bed.dir_config.pool_file_bytes = 8192;
    let (dir, mut log) = bed.create();
    dir.refill_pool().unwrap();
    append(&mut log, plain(2, 100));
    let report = folder(&bed).verify(&DEEP).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.end_offset, Offset(2));
    assert!(report.zero_tail_bytes > 7000);
}
