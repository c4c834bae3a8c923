//! Micro benches of the record format: checksum, validation, encoding, decoding, each codec.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use conveyor_benches::events::{self, produce_rules};
use conveyor_record::checksum::{crc32c, replace_prefix};
use conveyor_record::{
    Batch, BatchBuilder, BatchOptions, Codec, Compressor, Decompressor, NewRecord, Offset,
    ProduceRules, TimestampType, validate_produce, validate_stored,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 4] = [1 << 10, 16 << 10, 64 << 10, 1 << 20];
const MAX_BYTES: usize = 8 << 20;

fn batch(size: usize, codec: Codec) -> Bytes {
    events::batch(size, codec, 1).expect("size has room for an event")
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for size in SIZES {
        let bytes = batch(size, Codec::None);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(size),
            &bytes,
            |bencher, bytes| {
                bencher.iter(|| crc32c(black_box(bytes)));
            },
        );
    }
    group.finish();
    criterion.bench_function("crc32c/replace 40 bytes before 64 KiB", |bencher| {
        bencher.iter(|| replace_prefix(black_box(1), black_box(2), black_box(3), 65_475));
    });
}

fn validate(criterion: &mut Criterion) {
    let mut decompressor = Decompressor::new();
    let mut group = criterion.benchmark_group("validate");
    for size in SIZES {
        let bytes = batch(size, Codec::None);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(
            BenchmarkId::new("produce", size),
            &bytes,
            |bencher, bytes| {
                let rules = produce_rules();
                bencher.iter(|| validate_produce(black_box(bytes), &rules, &mut decompressor));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("stored", size),
            &bytes,
            |bencher, bytes| {
                bencher.iter(|| validate_stored(black_box(bytes), Offset::ZERO));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("append time", size),
            &bytes,
            |bencher, bytes| {
                let rules = ProduceRules {
                    timestamp_type: TimestampType::LogAppendTime,
                    ..produce_rules()
                };
                bencher.iter(|| validate_produce(black_box(bytes), &rules, &mut decompressor));
            },
        );
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let values: Vec<_> = (0..100)
        .map(|n| events::event(n, events::EVENT_SIZE))
        .collect();
    let total = values.iter().map(Vec::len).sum::<usize>();
    let mut compressor = Compressor::new();
    let mut group = criterion.benchmark_group("encode 100 events");
    group.throughput(Throughput::Bytes(total as u64));
    for codec in Codec::ALL {
        group.bench_function(codec.name(), |bencher| {
            let mut builder = BatchBuilder::new(BatchOptions {
                codec,
                ..BatchOptions::default()
            });
            bencher.iter(|| {
                for value in &values {
                    let record = NewRecord {
                        timestamp_ms: events::START_MS,
                        key: Some(b"order-12345"),
                        value: Some(value),
                        headers: &[],
                    };
                    builder.append(black_box(&record)).expect("fits");
                }
                builder.build(&mut compressor).expect("builds")
            });
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut decompressor = Decompressor::new();
    let plain = batch(100_000, Codec::None).len() as u64;
    let mut group = criterion.benchmark_group("decode 100 events");
    group.throughput(Throughput::Bytes(plain));
    for codec in Codec::ALL {
        let batch = Batch::parse(batch(100_000, codec)).expect("parses");
        group.bench_function(BenchmarkId::new("owned", codec), |bencher| {
            bencher.iter(|| {
                let records = batch.records(&mut decompressor, MAX_BYTES).expect("opens");
                records
                    .map(|record| record.map_or(0, |record| record.offset.value()))
                    .sum::<i64>()
            });
        });
        group.bench_function(BenchmarkId::new("lent", codec), |bencher| {
            bencher.iter(|| {
                let view = batch.view();
                let records = view.records(&mut decompressor, MAX_BYTES).expect("opens");
                records
                    .map(|record| record.map_or(0, |record| record.offset.value()))
                    .sum::<i64>()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = checksum, validate, encode, decode
}
criterion_main!(benches);
