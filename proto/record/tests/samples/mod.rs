//! Records of every shape, for property tests.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use bytes::Bytes;
use conveyor_record::{
    BatchBuilder, BatchOptions, Codec, Compressor, NewRecord, ProducerEpoch, ProducerId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The time at which sample records are made, in ms since the epoch.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(crate) fn sample() -> impl Strategy<Value = Sample> {
    let header = ("[a-c]{0,3}|ce_type", option::of(vec(any::<u8>(), 0..6)));
    (
        (NOW_MS - 100_000)..=NOW_MS,
        option::of(vec(any::<u8>(), 0..12)),
        option::of(prop_oneof![
            vec(any::<u8>(), 0..150),
            vec(Just(b'x'), 0..3000),
        ]),
        vec(header, 0..4),
    )
        .prop_map(|(timestamp_ms, key, value, headers)| Sample {
            timestamp_ms,
            key,
            value,
            headers,
        })
}

pub(crate) fn samples() -> impl Strategy<Value = Vec<Sample>> {
    vec(sample(), 1..20)
}

pub(crate) fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(Codec::ALL.to_vec())
}

/// Builds a batch of an idempotent producer.
pub(crate) fn build(samples: &[Sample], codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        codec,
        producer_id: ProducerId(4711),
        producer_epoch: ProducerEpoch(3),
        base_sequence: 100,
        ..BatchOptions::default()
    });
    for sample in samples {
        let headers: Vec<_> = sample
            .headers
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        builder
            .append(&NewRecord {
                timestamp_ms: sample.timestamp_ms,
                key: sample.key.as_deref(),
                value: sample.value.as_deref(),
                headers: &headers,
            })
            .expect("sample fits");
    }
    builder
        .build(&mut Compressor::new())
        .expect("sample builds")
}
