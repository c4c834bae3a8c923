//! A follower's log: writes that fail half-way, and offsets far away.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod hooked;
mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use conveyor_log::disk::Crash;
use conveyor_log::{AppendBatch, AppendError, DataDir};
use conveyor_record::{BatchMeta, Offset, stamp_header, validate_stored};
use hooked::{HookedDisk, Operation};
use support::*;
use uuid::Uuid;

/// A batch as a leader would send it.
fn replicated(batch: &AppendBatch, base: i64) -> (Bytes, BatchMeta) {
    let header = stamp_header(&batch.bytes, Offset(base), EPOCH);
    let mut bytes = batch.bytes.to_vec();
    bytes[..header.len()].copy_from_slice(&header);
    let meta = validate_stored(&bytes, Offset(base)).unwrap();
    (Bytes::from(bytes), meta)
}

#[test]
fn a_failed_write_is_not_repeated_without_its_producers() {
    let bed = Bed::new(1);
    let disk = HookedDisk::new(bed.disk.shared());
    let dir = DataDir::open(
        Arc::new(disk.clone()),
        bed.clock.clone(),
        Path::new(DIRECTORY),
        bed.dir_config.clone(),
    )
    .unwrap();
    let id = Uuid::from_u128(7);
    let mut log = dir.create_log(&partition(), id, bed.log_config).unwrap();
    let good = replicated(&from_producer(1, 0, 0, 50), 0);
    // The second batch rolls, so the first is written in the middle of the call.
    let far = replicated(&from_producer(1, 0, 50, 1), 1 << 32);
    let full = AtomicBool::new(true);
    disk.set(move |operation, path| {
        let is_log = path.extension().is_some_and(|kind| kind == "log");
        if operation == Operation::Write && is_log && full.swap(false, Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    });
    let error = log.append_as_follower(&[good.clone(), far]).unwrap_err();
    assert!(matches!(error, AppendError::Full(_)), "{error}");
    assert_eq!(log.reader().log_end_offset(), Offset(0), "all or nothing");
    log.append_as_follower(&[good]).unwrap();
    assert_eq!(log.producer_count(), 1);
    assert!(append(&mut log, from_producer(1, 0, 0, 50)).duplicate);
}

#[test]
fn a_first_batch_far_away_moves_the_empty_segment() {
    let base = 3 << 32;
    let mut bed = Bed::new(1);
    bed.log_config.index_interval_bytes = 1;
    let (dir, mut log) = bed.create();
    log.append_as_follower(&[
        replicated(&plain(1, 10), base),
        replicated(&plain(1, 10), base + 1),
        replicated(&plain(1, 10), base + 2),
    ])
    .unwrap();
    let all = read_all(&log.reader());
    assert_eq!(all.len(), 3);
    assert_eq!(log.reader().log_start_offset(), Offset(base));
    // Behind records, where segments have to join, it is refused.
    let error = log
        .append_as_follower(&[replicated(&plain(1, 10), 2 * base)])
        .unwrap_err();
    assert!(matches!(error, AppendError::OffsetGap { .. }), "{error}");
    assert_eq!(read_all(&log.reader()), all);
    log.sync().unwrap();
    bed.disk.crash(Crash::Power);
    drop((log, dir));
    let (_dir, log, report) = bed.reopen();
    assert_eq!(report.damage, []);
    assert_eq!(read_all(&log.reader()), all);
}
