//! Decoding of fetched bytes: aborted transactions, damage, limits.

use conveyor_record::{
    BatchBuilder, BatchOptions, Codec, Compressor, ControlRecord, NewRecord, ProducerEpoch,
    ProducerId, build_end_txn_marker, stamp_header,
};

use super::*;

/// A log being built, batch after batch.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    end: i64,
}

impl Log {
    fn stamped(&mut self, batch: &Bytes, count: i64) {
        let stamped = stamp_header(batch, Offset(self.end), LeaderEpoch(3));
        self.bytes.extend_from_slice(&stamped);
        self.bytes.extend_from_slice(&batch[stamped.len()..]);
        self.end += count;
    }

    fn batch(&mut self, codec: Codec, producer: Option<i64>, count: i64) -> &mut Self {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            producer_id: producer.map_or(ProducerId::NONE, ProducerId),
            producer_epoch: producer.map_or(ProducerEpoch(-1), |_| ProducerEpoch(0)),
            base_sequence: producer.map_or(-1, |_| 0),
            is_transactional: producer.is_some(),
            ..BatchOptions::default()
        });
        for n in 0..count {
            let value = format!("value {}", self.end + n);
            let record = NewRecord {
                timestamp_ms: 1_000 + self.end + n,
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
            };
            builder.append(&record).unwrap();
        }
        let batch = builder.build(&mut Compressor::new()).unwrap();
        self.stamped(&batch, count);
        self
    }

    fn plain(&mut self, count: i64) -> &mut Self {
        self.batch(Codec::None, None, count)
    }

    fn marker(&mut self, producer: i64, control_type: ControlType) -> &mut Self {
        let marker = ControlRecord {
            control_type,
            coordinator_epoch: 0,
        };
        let batch =
            build_end_txn_marker(marker, ProducerId(producer), ProducerEpoch(0), 0).unwrap();
        self.stamped(&batch, 1);
        self
    }

    fn chunk(&self, aborted: &[(i64, i64)]) -> Chunk {
        let aborted = aborted
            .iter()
            .map(|&(producer_id, first_offset)| v1::AbortedTransaction {
                producer_id,
                first_offset,
            })
            .collect();
        Chunk::new(
            Bytes::copy_from_slice(&self.bytes),
            Offset(self.end),
            aborted,
        )
    }
}

fn decoder(isolation_level: IsolationLevel) -> Decoder {
    Decoder::new(&ConsumerConfig {
        isolation_level,
        ..ConsumerConfig::standalone()
    })
}

fn from(position: i64) -> Progress {
    Progress {
        position: Offset(position),
        leader_epoch: LeaderEpoch::NONE,
    }
}

/// Reads to the end; gives the offsets read and where the partition stands then.
fn read_all(mut chunk: Chunk, level: IsolationLevel, position: i64) -> (Vec<i64>, i64) {
    let mut decoder = decoder(level);
    let mut progress = from(position);
    let mut out = Vec::new();
    assert!(
        chunk
            .read(&mut decoder, &mut progress, usize::MAX, &mut out)
            .unwrap()
    );
    for record in &out {
        let expected = format!("value {}", record.offset);
        assert_eq!(record.value.as_deref(), Some(expected.as_bytes()));
    }
    (
        out.iter().map(|record| record.offset.value()).collect(),
        progress.position.value(),
    )
}

#[test]
fn records_below_the_position_are_skipped() {
    let mut log = Log::default();
    log.plain(3).batch(Codec::Zstd, None, 4).plain(2);
    let (offsets, end) = read_all(log.chunk(&[]), IsolationLevel::ReadUncommitted, 5);
    assert_eq!((offsets, end), (vec![5, 6, 7, 8], 9));
}

#[test]
fn a_limit_stops_within_a_batch_and_reading_goes_on_there() {
    let mut log = Log::default();
    log.batch(Codec::Lz4, None, 5).plain(3);
    let mut chunk = log.chunk(&[]);
    let mut decoder = decoder(IsolationLevel::ReadUncommitted);
    let mut progress = from(0);
    let mut sizes = Vec::new();
    loop {
        let mut out = Vec::new();
        let done = chunk
            .read(&mut decoder, &mut progress, 3, &mut out)
            .unwrap();
        sizes.push(out.len());
        assert_eq!(progress.leader_epoch, LeaderEpoch(3));
        if done {
            break;
        }
    }
    assert_eq!(sizes, [3, 3, 2]);
    assert_eq!(progress.position, Offset(8));
}

#[test]
fn a_gap_that_compaction_left_at_the_end_is_passed() {
    let mut log = Log::default();
    log.plain(2);
    let chunk = Chunk::new(Bytes::copy_from_slice(&log.bytes), Offset(40), Vec::new());
    assert_eq!(
        read_all(chunk, IsolationLevel::ReadUncommitted, 0),
        (vec![0, 1], 40)
    );
}

#[test]
fn aborted_transactions_and_markers_are_left_out_when_reading_committed() {
    let mut log = Log::default();
    log.batch(Codec::None, Some(1), 2); // 0, 1: aborted
    log.batch(Codec::None, Some(2), 2); // 2, 3: committed
    log.plain(1); // 4
    log.marker(1, ControlType::Abort); // 5
    log.batch(Codec::None, Some(1), 1); // 6: the next transaction of the same producer
    log.marker(2, ControlType::Commit); // 7
    log.marker(1, ControlType::Commit); // 8
    let committed = read_all(log.chunk(&[(1, 0)]), IsolationLevel::ReadCommitted, 0);
    assert_eq!(committed, (vec![2, 3, 4, 6], 9));
    let uncommitted = read_all(log.chunk(&[]), IsolationLevel::ReadUncommitted, 0);
    assert_eq!(uncommitted, (vec![0, 1, 2, 3, 4, 6], 9));
}

#[test]
fn an_abort_marker_below_the_position_still_ends_its_transaction() {
    let mut log = Log::default();
    log.batch(Codec::None, Some(1), 1); // 0: aborted
    log.marker(1, ControlType::Abort); // 1
    log.batch(Codec::None, Some(1), 1); // 2: committed
    let (offsets, _) = read_all(log.chunk(&[(1, 0)]), IsolationLevel::ReadCommitted, 2);
    assert_eq!(offsets, [2]);
}

#[test]
fn a_damaged_batch_fails_after_the_records_before_it() {
    let mut log = Log::default();
    log.plain(2).plain(2);
    let last = log.bytes.len() - 1;
    log.bytes[last] ^= 1;
    let mut chunk = log.chunk(&[]);
    let mut progress = from(0);
    let mut out = Vec::new();
    let mut decoder = decoder(IsolationLevel::ReadUncommitted);
    let error = chunk
        .read(&mut decoder, &mut progress, usize::MAX, &mut out)
        .unwrap_err();
    assert!(matches!(error, BatchError::CorruptCrc(_)), "{error}");
    assert_eq!((out.len(), progress.position), (2, Offset(2)));
}

#[test]
fn a_batch_that_decompresses_beyond_the_limit_is_refused() {
    let mut log = Log::default();
    log.batch(Codec::Zstd, None, 1_000);
    let config = ConsumerConfig {
        batch_decompressed_bytes_max: 1_000,
        ..ConsumerConfig::standalone()
    };
    let mut out = Vec::new();
    let mut progress = from(0);
    let error = log
        .chunk(&[])
        .read(
            &mut Decoder::new(&config),
            &mut progress,
            usize::MAX,
            &mut out,
        )
        .unwrap_err();
    assert!(
        matches!(error, BatchError::DecompressedTooLarge(_)),
        "{error}"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_read_or_fail_without_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        flips in proptest::collection::vec((0usize..300, proptest::prelude::any::<u8>()), 0..4),
        check_crcs in proptest::prelude::any::<bool>(),
    ) {
        let mut log = Log::default();
        log.plain(3).batch(Codec::Lz4, Some(1), 2).marker(1, ControlType::Abort);
        for (place, byte) in flips {
            let place = place % log.bytes.len();
            log.bytes[place] = byte;
        }
        let config = ConsumerConfig {
            check_crcs,
            isolation_level: IsolationLevel::ReadCommitted,
            batch_decompressed_bytes_max: 1 << 20,
            ..ConsumerConfig::standalone()
        };
        let mut decoder = Decoder::new(&config);
        for bytes in [Bytes::from(bytes), Bytes::copy_from_slice(&log.bytes)] {
            let aborted = vec![v1::AbortedTransaction { producer_id: 1, first_offset: 0 }];
            let mut chunk = Chunk::new(bytes, Offset(0), aborted);
            let (mut progress, mut out) = (from(0), Vec::new());
            while let Ok(false) = chunk.read(&mut decoder, &mut progress, 2, &mut out) {}
        }
    }
}
