//! Bytes that lie. What they cost in memory is measured in `tests/memory.rs`.

use bytes::Bytes;
use conveyor_kafka::messages::metadata::MetadataRequest;
use conveyor_kafka::messages::produce::ProduceRequest;
use conveyor_kafka::{Fault, Input, Message, RequestHeader, frame};

use crate::sample::Case;

/// The body that makes a decoder ask for 154 GB if it believes the count of topics.
#[test]
fn five_bytes_of_metadata_do_not_allocate_for_the_count_they_announce() {
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 1]);
    let error = MetadataRequest::decode(4, &mut Input::new(body)).unwrap_err();
    let fault = Fault::Count {
        count: 0x7fff_ffff,
        left: 1,
    };
    assert_eq!((error.fault, error.position), (fault, 4));
}

/// The body that makes a decoder ask for 206 GB if it believes the count of topics.
#[test]
fn twelve_bytes_of_produce_do_not_allocate_for_the_count_they_announce() {
    let body = [0xff, 0xff, 0, 1, 0, 0, 0, 100, 0x7f, 0xff, 0xff, 0xff];
    let error = ProduceRequest::decode(3, &mut Input::new(body.to_vec().into())).unwrap_err();
    let fault = Fault::Count {
        count: 0x7fff_ffff,
        left: 0,
    };
    assert_eq!((error.fault, error.position), (fault, 12));
}

#[test]
fn a_frame_cannot_fill_memory_with_empty_elements() {
    // 2 MiB of texts of no bytes, which would take 32 times as much as structures.
    let count = 2u32 << 20;
    let mut body = crate::sample::varint(count + 1);
    body.resize(body.len() + count as usize, 1);
    let error = MetadataRequest::decode(9, &mut Input::new(body.into())).unwrap_err();
    let count = count as usize;
    assert_eq!(error.fault, Fault::Memory { count });
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    for case in Case::all() {
        let bytes = Bytes::from(case.sample(3).bytes);
        for size in 0..bytes.len() {
            let read = case.decode(&mut Input::new(bytes.slice(..size)));
            assert!(read.is_err(), "{case:?} cut at {size} of {}", bytes.len());
        }
    }
}

#[test]
fn no_length_that_lies_makes_it_panic() {
    for case in Case::all() {
        for seed in 0..4 {
            let sample = case.sample(seed);
            for length in &sample.lengths {
                for lie in sample.lies(*length) {
                    let bytes = sample.with_length(*length, &lie);
                    // An error or another message: both are fine.
                    drop(case.decode(&mut Input::new(bytes.into())));
                }
            }
        }
    }
}

#[test]
fn no_flipped_byte_makes_it_panic_and_what_is_read_can_be_written() {
    for case in Case::all() {
        let bytes = case.sample(5).bytes;
        for position in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[position] ^= 0xff;
            if let Ok(message) = case.decode(&mut Input::new(bytes.into())) {
                message
                    .encode(case.version)
                    .expect("what was read can be written");
            }
        }
    }
}

#[test]
fn headers_cut_anywhere_are_errors() {
    let header = RequestHeader {
        api_key: conveyor_kafka::ApiKey::ApiVersions,
        api_version: 99,
        correlation_id: 7,
        client_id: Some("someone".into()),
    };
    let bytes = frame::frame(|out| header.encode(out)).unwrap().into_bytes();
    let bytes = bytes.slice(frame::PREFIX_SIZE..);
    assert_eq!(
        RequestHeader::decode(&mut Input::new(bytes.clone())),
        Ok(header)
    );
    for size in 0..bytes.len() {
        assert!(RequestHeader::decode(&mut Input::new(bytes.slice(..size))).is_err());
    }
    let unknown = RequestHeader::decode(&mut Input::new(Bytes::from_static(&[0x7f; 20])));
    assert_eq!(unknown.unwrap_err().fault, Fault::UnknownApi(0x7f7f));
}
