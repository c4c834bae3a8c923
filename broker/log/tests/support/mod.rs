//! What the engine's tests share: batches, a data directory on a simulated disk, short-hands.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use conveyor_log::disk::{Disk, SimDisk};
use conveyor_log::{
    AppendBatch, AppendInfo, Clock, DataDir, DataDirConfig, GroupCommit, Log, LogConfig, LogReader,
    SimClock, SyncError, TopicPartition,
};
use conveyor_record::{
    AppendOrigin, BatchBuilder, BatchOptions, Batches, Codec, Compressor, Decompressor,
    LeaderEpoch, NewRecord, Offset, ProduceRules, ProducerEpoch, ProducerId, validate_produce,
};
use uuid::Uuid;

/// Where all tests put their data directory on a simulated disk.
pub const DIRECTORY: &str = "/data";

/// When simulated time begins.
pub const START_MS: i64 = 1_700_000_000_000;

/// Key and value of a record.
pub type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The same, owned.
pub type OwnedKeyValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch to be appended.
pub fn batch(options: BatchOptions, timestamp_ms: i64, values: &[&[u8]]) -> AppendBatch {
    let records: Vec<KeyValue<'_>> = values.iter().map(|value| (None, Some(*value))).collect();
    keyed(options, timestamp_ms, &records)
}

/// A batch of keyed records; a value of `None` is a tombstone.
pub fn keyed(options: BatchOptions, timestamp_ms: i64, records: &[KeyValue<'_>]) -> AppendBatch {
    let mut builder = BatchBuilder::new(BatchOptions {
        size_limit: 8 << 20,
        ..options
    });
    for (index, (key, value)) in records.iter().enumerate() {
        builder
            .append(&NewRecord {
                timestamp_ms: timestamp_ms + index as i64,
                key: *key,
                value: *value,
                headers: &[],
            })
            .unwrap();
    }
    validated(builder.build(&mut Compressor::new()).unwrap())
}

/// What the broker's validation makes of a client's bytes.
pub fn validated(bytes: Bytes) -> AppendBatch {
    let rules = ProduceRules {
        origin: AppendOrigin::Coordinator,
        now_ms: START_MS,
        max_message_bytes: 16 << 20,
        timestamp_after_max_ms: i64::MAX / 4,
        ..ProduceRules::default()
    };
    let validated = validate_produce(&bytes, &rules, &mut Decompressor::new()).unwrap();
    AppendBatch { bytes, validated }
}

/// A batch without a producer id, of `count` records of `size` bytes.
pub fn plain(count: usize, size: usize) -> AppendBatch {
    let value = vec![b'x'; size];
    let values: Vec<&[u8]> = (0..count).map(|_| &value[..]).collect();
    batch(BatchOptions::default(), START_MS, &values)
}

/// A batch of an idempotent producer.
pub fn from_producer(id: i64, epoch: i16, sequence: i32, count: usize) -> AppendBatch {
    let values: Vec<Vec<u8>> = (0..count)
        .map(|index| format!("{id}/{epoch}/{}", sequence + index as i32).into_bytes())
        .collect();
    let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
    let options = BatchOptions {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    batch(options, START_MS, &values)
}

pub fn compressed(codec: Codec) -> BatchOptions {
    BatchOptions {
        codec,
        ..BatchOptions::default()
    }
}

/// A data directory on a simulated disk, opened by as many processes as the test likes.
pub struct Bed {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub dir_config: DataDirConfig,
    pub log_config: LogConfig,
}

impl Bed {
    pub fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::at(START_MS)),
            dir_config: DataDirConfig {
                pool_files: 0,
                ..DataDirConfig::default()
            },
            log_config: LogConfig::default(),
        }
    }

    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.log_config.segment_bytes = bytes;
        self
    }

    pub fn clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub fn open_dir(&self) -> DataDir {
        self.try_open_dir().unwrap()
    }

    pub fn try_open_dir(&self) -> Result<DataDir, conveyor_log::OpenError> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        DataDir::open(
            self.disk.shared(),
            clock,
            Path::new(DIRECTORY),
            self.dir_config.clone(),
        )
    }

    /// A new directory with one new log.
    pub fn create(&self) -> (DataDir, Log) {
        let dir = self.open_dir();
        let log = dir
            .create_log(&partition(), Uuid::from_u128(7), self.log_config.clone())
            .unwrap();
        (dir, log)
    }

    /// The directory and its log, as a new process finds them.
    pub fn reopen(&self) -> (DataDir, Log, conveyor_log::RecoveryReport) {
        let dir = self.open_dir();
        let (log, report) = dir.open_log(&partition(), self.log_config.clone()).unwrap();
        (dir, log, report)
    }
}

pub fn partition() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

pub fn file(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join("orders-0").join(name)
}

pub fn log_file(base: i64) -> PathBuf {
    file(&format!("{base:020}.log"))
}

pub const EPOCH: LeaderEpoch = LeaderEpoch(0);

/// Appends one batch, which must be accepted.
pub fn append(log: &mut Log, batch: AppendBatch) -> AppendInfo {
    let mut results = log.append_as_leader(&[batch], EPOCH);
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap()
}

/// Everything in the log, as offset and value.
pub fn read_all(reader: &LogReader) -> Vec<(i64, Vec<u8>)> {
    let mut from = reader.log_start_offset();
    let end = reader.log_end_offset();
    let mut found = Vec::new();
    while from < end {
        let chunk = reader.read(from, end, 64 * 1024, true).unwrap();
        assert!(chunk.next_offset > from, "no progress at {from} of {end}");
        for (offset, value) in records(&chunk.bytes) {
            if Offset(offset) >= from {
                found.push((offset, value));
            }
        }
        from = chunk.next_offset;
    }
    found
}

/// The records of some batches.
pub fn records(bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut decompressor = Decompressor::new();
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.records(&mut decompressor, 64 << 20).unwrap() {
            let record = record.unwrap();
            found.push((
                record.offset.value(),
                record.value.unwrap_or_default().to_vec(),
            ));
        }
    }
    found
}

/// A record, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// The records of some batches, keys included, control records left out.
pub fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut decompressor = Decompressor::new();
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in batch.records(&mut decompressor, 64 << 20).unwrap() {
            let record = record.unwrap();
            found.push(Entry {
                offset: record.offset.value(),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
            });
        }
    }
    found
}

/// Everything in the log from its start on.
pub fn read_entries(reader: &LogReader) -> Vec<Entry> {
    let mut from = reader.log_start_offset();
    let (start, end) = (from.value(), reader.log_end_offset());
    let mut found = Vec::new();
    while from < end {
        let chunk = reader.read(from, end, 64 * 1024, true).unwrap();
        assert!(chunk.next_offset > from, "no progress at {from} of {end}");
        found.extend(
            entries(&chunk.bytes)
                .into_iter()
                .filter(|entry| entry.offset >= start),
        );
        from = chunk.next_offset;
    }
    found
}

/// Requests a sync and runs one round of group commit; the answer.
pub fn sync_round(commit: &GroupCommit, reader: &LogReader) -> Result<Offset, SyncError> {
    let answer = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&answer);
    commit.request(
        reader,
        reader.log_end_offset(),
        Box::new(move |result| *slot.lock().unwrap() = Some(result)),
    );
    commit.run_round();
    answer.lock().unwrap().take().expect("the round answers")
}

pub fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    disk.shared()
}
