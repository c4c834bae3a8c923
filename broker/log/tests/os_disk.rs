//! The engine on the real file system: many threads at once, and a process that is killed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use conveyor_log::disk::OsDisk;
use conveyor_log::{
    Cleaner, CleanerConfig, CleanupPolicy, DataDir, DataDirConfig, Flusher, Log, LogConfig,
    ReadError, SystemClock, TopicPartition,
};
use conveyor_record::{BatchOptions, Offset};
use support::*;

fn open(path: &Path) -> DataDir {
    let config = DataDirConfig {
        pool_file_bytes: 256 * 1024,
        recovery_bytes_max: 128 * 1024,
        parallel_sync_files_min: 3,
        ..DataDirConfig::default()
    };
    DataDir::open(
        OsDisk::shared(),
        Arc::new(SystemClock::default()),
        path,
        config,
    )
    .unwrap()
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 300 * 1024,
        retention_ms: None,
        ..LogConfig::default()
    }
}

fn create(dir: &DataDir, number: i32, config: LogConfig) -> Log {
    dir.create_log(
        &TopicPartition::new("orders", number),
        uuid::Uuid::nil(),
        config,
    )
    .unwrap()
}

#[test]
fn appends_reads_syncs_and_compaction_run_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(folder.path());
    dir.refill_pool().unwrap();
    let config = LogConfig {
        cleanup_policy: CleanupPolicy::COMPACT,
        min_cleanable_dirty_ratio: 0.0,
        retention_ms: None,
        segment_bytes: 300 * 1024,
        ..LogConfig::default()
    };
    let mut log = create(&dir, 0, config);
    let flusher = Flusher::start(&dir).unwrap();
    let done = AtomicBool::new(false);
    let reader = log.reader();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (reader, done) = (reader.clone(), &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let (mut from, end) = (reader.log_start_offset(), reader.log_end_offset());
                    while from < end {
                        match reader.read(from, end, 100_000, true) {
                            Ok(chunk) => {
                                entries(&chunk.bytes);
                                assert!(
                                    chunk.next_offset > from,
                                    "no progress at {from} of {end}: {chunk:?}"
                                );
                                from = chunk.next_offset;
                            }
                            Err(error @ ReadError::SegmentRemoved { .. }) => {
                                assert!(error.is_retriable());
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
        let (dir, done) = (&dir, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                dir.refill_pool().unwrap();
                dir.write_checkpoints().unwrap();
            }
        });
        let mut cleaner = Cleaner::new(CleanerConfig::default());
        let value = vec![b'v'; 3000];
        let (sender, synced) = mpsc::channel();
        for round in 0..400_i64 {
            let key = format!("key-{}", round % 50);
            let record = (Some(key.as_bytes()), Some(&value[..]));
            let info = append(
                &mut log,
                keyed(BatchOptions::default(), START_MS + round, &[record; 5]),
            );
            let sender = sender.clone();
            flusher.request(&reader, info.last_offset.next(), move |result| {
                sender.send(result.unwrap()).unwrap();
            });
            if round % 10 == 9 {
                for _ in 0..10 {
                    reader.advance_high_watermark(
                        synced.recv_timeout(Duration::from_secs(20)).unwrap(),
                    );
                }
            }
            if round % 60 == 59
                && let Some(plan) = log.plan_compaction(START_MS).unwrap()
            {
                let cleaned = cleaner.clean(&plan, &mut |_| true).unwrap();
                log.install_compaction(cleaned).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(reader.synced_offset(), Offset(2000));
    assert!(
        flusher.stats().syncs >= 40 && flusher.stats().requests >= 400,
        "{:?}",
        flusher.stats()
    );
    let before = read_entries(&reader);
    flusher.stop();
    log.close().unwrap();
    dir.close().unwrap();
    let dir = open(folder.path());
    let (log, report) = dir
        .open_log(&TopicPartition::new("orders", 0), config_compact())
        .unwrap();
    assert!(report.clean);
    assert_eq!(read_entries(&log.reader()), before);
}

fn config_compact() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy::COMPACT,
        ..config()
    }
}

#[test]
fn many_logs_are_synced_in_one_round_by_several_threads() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(folder.path());
    let mut logs: Vec<Log> = (0..20)
        .map(|number| create(&dir, number, config()))
        .collect();
    let flusher = Flusher::start(&dir).unwrap();
    let (sender, answers) = mpsc::channel();
    for _ in 0..10 {
        for log in &mut logs {
            let end = append(log, plain(1, 100)).last_offset.next();
            let sender = sender.clone();
            flusher.request(&log.reader(), end, move |result| {
                sender.send(result.unwrap() >= end).unwrap();
            });
        }
    }
    for _ in 0..200 {
        assert!(answers.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    assert!(
        logs.iter()
            .all(|log| log.reader().synced_offset() == Offset(10))
    );
}

#[test]
fn a_second_process_cannot_take_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(folder.path());
    let again = DataDir::open(
        OsDisk::shared(),
        Arc::new(SystemClock::default()),
        folder.path(),
        DataDirConfig::default(),
    );
    assert!(again.unwrap_err().to_string().contains("in use"));
    drop(dir);
}

#[test]
fn a_thousand_clean_partitions_open_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(folder.path());
    let mut log = create(&dir, 0, config());
    append(&mut log, plain(1, 50));
    log.close().unwrap();
    dir.close().unwrap();
    // The other 999 are copies: creating them durably is not what is measured.
    let first = folder.path().join("orders-0");
    for number in 1..1000 {
        let copy = folder.path().join(format!("orders-{number}"));
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(&first).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let points: Vec<String> = (0..1000)
        .map(|number| format!("orders {number} 1\n"))
        .collect();
    let checkpoint = folder.path().join("recovery-point-offset-checkpoint");
    std::fs::write(checkpoint, format!("0\n1000\n{}", points.concat())).unwrap();
    let started = std::time::Instant::now();
    let dir = open(folder.path());
    assert!(dir.was_clean());
    let logs: Vec<Log> = dir
        .list()
        .unwrap()
        .into_iter()
        .map(|found| {
            let (log, report) = dir.open_log(&found.partition, config()).unwrap();
            assert!(report.clean && report.bytes_scanned == 0);
            log
        })
        .collect();
    let took = started.elapsed();
    println!("1,000 clean partitions opened in {took:?}");
    assert_eq!(logs.len(), 1000);
    // Generous: other tests share the machine.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

const CHILD_FOLDER: &str = "CONVEYOR_CRASH_TEST_FOLDER";

/// Not a test of its own: the process that `a_killed_process_loses_nothing_acknowledged` kills. It
/// appends and prints each offset once it is synced.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let dir = open(Path::new(&folder));
    let partition = TopicPartition::new("orders", 0);
    let mut log = if dir.list().unwrap().is_empty() {
        create(&dir, 0, config())
    } else {
        dir.open_log(&partition, config()).unwrap().0
    };
    let flusher = Flusher::start(&dir).unwrap();
    let reader = log.reader();
    println!("start {}", reader.log_end_offset());
    let synced = Arc::new(AtomicI64::new(reader.log_end_offset().value()));
    loop {
        let from = reader.log_end_offset().value();
        if from - synced.load(Ordering::Acquire) > 200 {
            std::thread::yield_now();
            continue;
        }
        let value = format!("value-{from}-{}", "x".repeat((from % 700) as usize));
        append(
            &mut log,
            batch(BatchOptions::default(), START_MS, &[value.as_bytes()]),
        );
        let synced = Arc::clone(&synced);
        flusher.request(&reader, Offset(from + 1), move |result| {
            let end = result.unwrap();
            synced.fetch_max(end.value(), Ordering::AcqRel);
            println!("synced {end}");
        });
        if from % 16 == 0 {
            dir.refill_pool().unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "child_that_appends_until_it_is_killed",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 50 + round * 137;
        let mut seen = 0;
        while seen < wanted {
            let line = lines
                .next()
                .expect("the child prints until it is killed")
                .unwrap();
            if let Some(end) = line.strip_prefix("synced ") {
                acknowledged = acknowledged.max(end.parse::<i64>().unwrap());
                seen += 1;
            } else if let Some(start) = line.strip_prefix("start ") {
                assert!(
                    start.parse::<i64>().unwrap() >= acknowledged,
                    "acknowledged records are gone"
                );
            }
        }
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(end) = line
                .strip_prefix("synced ")
                .and_then(|end| end.parse::<i64>().ok())
            {
                acknowledged = acknowledged.max(end);
            }
        }
        child.wait().unwrap();
    }
    let dir = open(folder.path());
    let (log, report) = dir
        .open_log(&TopicPartition::new("orders", 0), config())
        .unwrap();
    assert!(
        report.log_end_offset.value() >= acknowledged,
        "{report:?}, acknowledged {acknowledged}"
    );
    assert!(report.bytes_scanned < 400 * 1024, "{report:?}");
    let found = read_all(&log.reader());
    assert_eq!(found.len() as i64, report.log_end_offset.value());
    for (offset, value) in found {
        let expected = format!("value-{offset}-{}", "x".repeat((offset % 700) as usize));
        assert_eq!(value, expected.as_bytes());
    }
    assert!(
        log.reader().segment_count() > 1,
        "the test should cross segments"
    );
}
