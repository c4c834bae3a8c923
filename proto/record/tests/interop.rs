//! The same bytes as other implementations: `kafka-protocol` in both directions, and golden batches
//! of kafka-python.

mod samples;

use bytes::{Bytes, BytesMut};
use conveyor_record::{
    Batch, Codec, Decompressor, Offset, ProduceRules, ProducerEpoch, ProducerId, validate_produce,
    validate_stored_deep,
};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;
use samples::{NOW_MS, Sample, build, samples};

fn rules() -> ProduceRules {
    ProduceRules {
        now_ms: NOW_MS,
        deep_check: true,
        ..ProduceRules::default()
    }
}

/// Their record for one of ours. Their headers are a map, so repeated keys are left out.
fn theirs(offset: i64, sample: &Sample) -> Record {
    let bytes = |part: &Option<Vec<u8>>| part.clone().map(Bytes::from);
    let mut headers = IndexMap::new();
    for (key, value) in &sample.headers {
        headers
            .entry(StrBytes::from_string(key.clone()))
            .or_insert_with(|| bytes(value));
    }
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 4711,
        producer_epoch: 3,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: 100 + offset as i32,
        timestamp: sample.timestamp_ms,
        key: bytes(&sample.key),
        value: bytes(&sample.value),
        headers,
    }
}

/// The sample without repeated header keys.
fn with_unique_headers(mut sample: Sample) -> Sample {
    let mut seen = Vec::new();
    sample.headers.retain(|(key, _)| {
        let new = !seen.contains(key);
        seen.push(key.clone());
        new
    });
    sample
}

fn codec_they_have() -> impl Strategy<Value = (Codec, Compression)> {
    proptest::sample::select(vec![
        (Codec::None, Compression::None),
        (Codec::Snappy, Compression::Snappy),
        (Codec::Lz4, Compression::Lz4),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn they_read_what_we_write(samples in samples(), (codec, _) in codec_they_have()) {
        let samples: Vec<_> = samples.into_iter().map(with_unique_headers).collect();
        let mut bytes = build(&samples, codec);
        let decoded = RecordBatchDecoder::decode(&mut bytes).unwrap();
        let expected: Vec<_> = (0..).zip(&samples).map(|(n, sample)| theirs(n, sample)).collect();
        prop_assert_eq!(decoded.records, expected);
    }

    #[test]
    fn we_read_what_they_write(samples in samples(), (codec, compression) in codec_they_have()) {
        let samples: Vec<_> = samples.into_iter().map(with_unique_headers).collect();
        let records: Vec<_> = (0..).zip(&samples).map(|(n, sample)| theirs(n, sample)).collect();
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        let bytes = out.freeze();

        let meta = validate_produce(&bytes, &rules(), &mut Decompressor::new()).unwrap().meta;
        prop_assert_eq!(meta.codec, codec);
        prop_assert_eq!(meta.producer_id, ProducerId(4711));
        prop_assert_eq!(meta.producer_epoch, ProducerEpoch(3));
        prop_assert_eq!(meta.base_sequence, 100);

        let batch = Batch::parse(bytes).unwrap();
        let read = batch.records(&mut Decompressor::new(), 1 << 20).unwrap();
        for (record, sample) in read.map(Result::unwrap).zip(&samples) {
            prop_assert_eq!(record.timestamp_ms, sample.timestamp_ms);
            prop_assert_eq!(record.key.as_deref(), sample.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), sample.value.as_deref());
            for (header, (key, value)) in record.headers.iter().zip(&sample.headers) {
                prop_assert_eq!(&header.key_str(), key);
                prop_assert_eq!(header.value.as_deref(), value.as_deref());
            }
        }
    }

    #[test]
    fn uncompressed_batches_are_the_same_bytes(samples in samples()) {
        let mut samples: Vec<_> = samples.into_iter().map(with_unique_headers).collect();
        // Their base timestamp is the least one, ours the first one, as in Kafka's Java client.
        samples.sort_by_key(|sample| sample.timestamp_ms);
        let records: Vec<_> = (0..).zip(&samples).map(|(n, sample)| theirs(n, sample)).collect();
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        prop_assert_eq!(build(&samples, Codec::None), out.freeze());
    }
}

/// Record `i` of the golden batches (see their README).
fn golden_sample(i: i64) -> Sample {
    let value = format!(
        "{{\"sku\":\"A-{}\",\"qty\":{i},\"note\":\"picked, packed, shipped\"}}",
        i % 5
    );
    let mut headers = Vec::new();
    if i % 3 == 0 {
        headers.push(("trace".to_owned(), Some(i.to_string().into_bytes())));
        headers.push(("trace".to_owned(), Some(b"again".to_vec())));
        headers.push(("empty".to_owned(), None));
    }
    Sample {
        timestamp_ms: 1_700_000_000_000 + i * 10 - if i % 2 == 1 { 5 } else { 0 },
        key: (i != 3).then(|| format!("order-{i}").into_bytes()),
        value: (i != 4).then(|| value.repeat(3).into_bytes()),
        headers,
    }
}

#[test]
fn golden_batches_of_kafka_python_read_as_written() {
    let batches: [(Codec, &[u8]); 5] = [
        (Codec::None, include_bytes!("golden/kafka-python-none.bin")),
        (Codec::Gzip, include_bytes!("golden/kafka-python-gzip.bin")),
        (
            Codec::Snappy,
            include_bytes!("golden/kafka-python-snappy.bin"),
        ),
        (Codec::Lz4, include_bytes!("golden/kafka-python-lz4.bin")),
        (Codec::Zstd, include_bytes!("golden/kafka-python-zstd.bin")),
    ];
    let expected: Vec<_> = (0..20).map(golden_sample).collect();
    let mut decompressor = Decompressor::new();
    for (codec, golden) in batches {
        let bytes = Bytes::from_static(golden);
        let rules = ProduceRules {
            now_ms: NOW_MS,
            ..rules()
        };
        let valid =
            validate_produce(&bytes, &rules, &mut decompressor).expect("golden batch is sound");
        assert_eq!(valid.restamped, None, "{codec}");
        assert_eq!(valid.meta.codec, codec);
        assert_eq!(valid.meta.last_sequence(), 119);
        assert_eq!(valid.meta.max_timestamp_offset_delta, 19);
        let stored = validate_stored_deep(golden, Offset::ZERO, &mut decompressor, 1 << 20);
        assert_eq!(
            stored.map(|meta| meta.max_timestamp_ms),
            Ok(1_700_000_000_185),
            "{codec}"
        );

        let batch = Batch::parse(bytes).expect("golden batch is sound");
        let read: Vec<_> = batch
            .records(&mut decompressor, 1 << 20)
            .expect("golden batch is sound")
            .map(|record| record.expect("golden batch is sound"))
            .map(|record| Sample {
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                headers: record
                    .headers
                    .into_iter()
                    .map(|header| (header.key_str().into_owned(), header.value.map(Into::into)))
                    .collect(),
            })
            .collect();
        assert_eq!(read, expected, "{codec}");
    }
}

#[test]
fn our_uncompressed_batch_is_the_one_of_kafka_python() {
    let samples: Vec<_> = (0..20).map(golden_sample).collect();
    let ours = build(&samples, Codec::None);
    let mut theirs = include_bytes!("golden/kafka-python-none.bin").to_vec();
    // They send leader epoch 0, we -1 as Kafka's Java client; the broker overwrites it.
    theirs[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    assert!(
        ours == theirs,
        "first difference at byte {:?}",
        first_difference(&ours, &theirs)
    );
}

fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    left.iter()
        .zip(right)
        .position(|(left, right)| left != right)
}
