//! The same bytes as `kafka-protocol`, an independent codec generated from Kafka's definitions, in
//! both directions.

use bytes::{Bytes, BytesMut};
use conveyor_kafka::{ApiKey, Input, request_header_version, response_header_version};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};

use crate::sample::Case;

const SEEDS: u64 = 20;

/// Requests, or requests and responses, of versions that came after the definitions that they were
/// generated from (4.1).
const NOT_THEIRS: [(ApiKey, i16, &str); 5] = [
    (ApiKey::ListOffsets, 11, "both"),
    (ApiKey::OffsetCommit, 10, "request"),
    (ApiKey::OffsetFetch, 10, "request"),
    (ApiKey::WriteTxnMarkers, 2, "both"),
    (ApiKey::DescribeLogDirs, 5, "both"),
];

fn is_theirs(case: Case) -> bool {
    !NOT_THEIRS.iter().any(|(key, version, which)| {
        (*key, *version) == (case.key, case.version) && (case.is_request || *which == "both")
    })
}

/// Reads and writes the message with their codec.
fn through_their_codec(case: Case, mut bytes: Bytes) -> anyhow::Result<Bytes> {
    let key = TheirKey::try_from(case.key.code()).expect("they know every key");
    let mut out = BytesMut::new();
    if case.is_request {
        RequestKind::decode(key, &mut bytes, case.version)?.encode(&mut out, case.version)?;
    } else {
        ResponseKind::decode(key, &mut bytes, case.version)?.encode(&mut out, case.version)?;
    }
    assert!(
        bytes.is_empty(),
        "{case:?}: they left {} bytes",
        bytes.len()
    );
    Ok(out.freeze())
}

#[test]
fn they_read_what_we_write_and_write_the_same() {
    let mut compared = 0;
    for case in Case::all().filter(|case| is_theirs(*case)) {
        for seed in 0..SEEDS {
            let sample = Bytes::from(case.sample(seed).bytes);
            let ours = case.decode(&mut Input::new(sample)).expect("it is whole");
            let written = ours
                .encode(case.version)
                .expect("it can be written")
                .into_bytes();
            let theirs = through_their_codec(case, written.clone())
                .unwrap_or_else(|e| panic!("{case:?}, seed {seed}: they say {e}: {ours:?}"));
            assert_eq!(theirs, written, "{case:?}, seed {seed}: {ours:?}");
            let read = case
                .decode(&mut Input::new(theirs))
                .expect("they write what we can read");
            assert_eq!(read, ours, "{case:?}, seed {seed}");
            compared += 1;
        }
    }
    assert!(compared > 9_000, "only {compared} messages compared");
}

#[test]
fn headers_have_the_same_versions() {
    for case in Case::all().filter(|case| is_theirs(*case)) {
        let theirs = TheirKey::try_from(case.key.code()).expect("they know every key");
        let Case { key, version, .. } = case;
        assert_eq!(
            request_header_version(key, version),
            theirs.request_header_version(version)
        );
        assert_eq!(
            response_header_version(key, version),
            theirs.response_header_version(version)
        );
    }
}

#[test]
fn versions_said_to_be_newer_are_newer() {
    for case in Case::all().filter(|case| !is_theirs(*case)) {
        let refused = |seed| through_their_codec(case, case.sample(seed).bytes.into()).is_err();
        assert!((0..SEEDS).any(refused), "{case:?}: they know it by now");
    }
}
