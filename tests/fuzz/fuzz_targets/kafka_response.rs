//! A response of any API and version: the first two bytes say which.
#![no_main]

use bytes::Bytes;
use conveyor_kafka::api::AnyResponse;
use conveyor_kafka::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, read_versioned,
};
use conveyor_kafka::{ApiKey, Gather, Input, ResponseHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [key, version, data @ ..] = data else {
        return;
    };
    let data = Bytes::copy_from_slice(data);
    let _ = read_versioned::<ConsumerProtocolSubscription>(data.clone());
    let _ = read_versioned::<ConsumerProtocolAssignment>(data.clone());
    let Some(key) = ApiKey::from_code(i16::from(*key)) else {
        return;
    };
    let version = i16::from(*version);
    let mut input = Input::new(data);
    if ResponseHeader::decode(key, version, &mut input).is_err() {
        return;
    }
    let Some(Ok(response)) = AnyResponse::decode(key, version, &mut input) else {
        return;
    };
    let write = |response: &AnyResponse| {
        let mut out = Gather::new();
        response
            .encode(version, &mut out)
            .expect("what was read can be written");
        out.into_bytes()
    };
    // The first writing is in canonical form: from then on nothing changes any more. Bytes are
    // compared, since a number may be NaN.
    let bytes = write(&response);
    let again = AnyResponse::decode(key, version, &mut Input::new(bytes.clone()));
    let again = again
        .expect("it has tables")
        .expect("what was written can be read");
    assert_eq!(write(&again), bytes);
});
