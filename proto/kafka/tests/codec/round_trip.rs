//! What is written is read again, bit for bit, in every version.

use bytes::Bytes;
use conveyor_kafka::messages::fetch::{FetchRequest, FetchResponse};
use conveyor_kafka::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use conveyor_kafka::{ApiKey, EncodeError, Fault, Gather, Input, Message};

use crate::sample::{Case, Shape};

const SEEDS: u64 = 30;

#[test]
fn every_version_of_every_message_round_trips() {
    let mut cases = 0;
    for case in Case::all() {
        for seed in 0..SEEDS {
            let bytes = Bytes::from(case.sample(seed).bytes);
            let mut input = Input::new(bytes.clone());
            let message = case
                .decode(&mut input)
                .unwrap_or_else(|e| panic!("{case:?} {seed}: {e}"));
            assert_eq!(
                input.remaining(),
                0,
                "{case:?}, seed {seed}: bytes left over"
            );
            let again = message
                .encode(case.version)
                .expect("what was read can be written");
            assert_eq!(
                again.into_bytes(),
                bytes,
                "{case:?}, seed {seed}: {message:?}"
            );
        }
        cases += 1;
    }
    assert!(cases > 480, "only {cases} versions of messages");
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let shape = Shape {
        unknown_tags: 2,
        ..Shape::default()
    };
    let flexible = Case::all().filter(|case| case.layout().flexible);
    for case in flexible {
        for seed in 0..SEEDS {
            let plain = case.sample(seed).bytes;
            let extended = case.sample_with(seed, &shape).bytes;
            assert!(extended.len() > plain.len());
            let plain = case
                .decode(&mut Input::new(plain.into()))
                .expect("it is whole");
            let mut input = Input::new(extended.into());
            let read = case
                .decode(&mut input)
                .unwrap_or_else(|e| panic!("{case:?} {seed}: {e}"));
            assert_eq!(input.remaining(), 0);
            assert_eq!(read, plain, "{case:?}, seed {seed}");
        }
    }
}

#[test]
fn tags_stand_in_order() {
    for case in Case::all() {
        let tags: Vec<_> = case.table().fields.iter().map(|field| field.tag).collect();
        let first_tagged = tags.iter().position(Option::is_some).unwrap_or(tags.len());
        let expected = (0..).map(Some).take(tags.len() - first_tagged);
        let sorted = tags[first_tagged..].is_sorted();
        assert!(sorted, "{:?}", case.key);
        assert!(
            expected.eq(tags[first_tagged..].iter().copied()),
            "{:?}",
            case.key
        );
    }
}

#[test]
fn versions_outside_the_tables_are_refused() {
    let error = FetchRequest::decode(3, &mut Input::new(Bytes::new())).unwrap_err();
    assert!(matches!(
        error.fault,
        Fault::UnsupportedVersion { version: 3, .. }
    ));
    let error = FetchResponse::default()
        .encode(19, &mut Gather::new())
        .unwrap_err();
    assert!(matches!(
        error,
        EncodeError::UnsupportedVersion { version: 19, .. }
    ));
    assert_eq!(
        error.to_string(),
        "FetchResponse has no version 19, only 4-18"
    );
}

#[test]
fn a_value_without_a_place_is_dropped_only_if_kafka_says_so() {
    let with_rack = FetchRequest {
        rack_id: "r1".into(),
        ..Default::default()
    };
    assert!(
        with_rack.encode(4, &mut Gather::new()).is_ok(),
        "rack_id is ignorable"
    );
    let auto_creation_off = MetadataRequest {
        allow_auto_topic_creation: false,
        topics: Some(Vec::new()),
        ..Default::default()
    };
    let error = auto_creation_off.encode(3, &mut Gather::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MetadataRequest.allow_auto_topic_creation is set, but version 3 has no place for it"
    );
}

#[test]
fn null_is_refused_where_a_version_has_none() {
    let by_id = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic::default()]),
        ..Default::default()
    };
    let error = by_id.encode(9, &mut Gather::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MetadataRequestTopic.name is null, which version 9 does not allow"
    );
    // Version 0 has no null array: an empty one means all topics.
    let error = MetadataRequest::decode(0, &mut Input::new(Bytes::from_static(&[0xff; 4])));
    assert_eq!(error.unwrap_err().fault, Fault::Null(0));
}

#[test]
fn errors_say_where() {
    // A topic whose name has 100 bytes, of which there is one, behind four numbers and a count.
    let mut bytes = vec![0; 17];
    bytes.extend([0, 0, 0, 1, 0, 100, b'x']);
    let error = FetchRequest::decode(4, &mut Input::new(bytes.into())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "byte 23, FetchTopic.topic: 100 bytes are needed, 1 are left"
    );
}

#[test]
fn every_key_has_its_number() {
    for key in ApiKey::ALL {
        assert_eq!(ApiKey::from_code(key.code()), Some(*key));
    }
    assert_eq!(ApiKey::from_code(-1), None);
    assert_eq!(ApiKey::from_code(i16::MAX), None);
    assert_eq!(ApiKey::Produce.to_string(), "Produce");
}
