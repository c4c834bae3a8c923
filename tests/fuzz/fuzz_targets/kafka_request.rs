//! A frame from a client: its length, its header, the request of any API and version.
#![no_main]

use bytes::Bytes;
use conveyor_kafka::api::AnyRequest;
use conveyor_kafka::frame::{PREFIX_SIZE, frame_size};
use conveyor_kafka::{Gather, Input, RequestHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(prefix) = data.first_chunk::<PREFIX_SIZE>() {
        let _ = frame_size(*prefix, 1 << 20);
    }
    let mut input = Input::new(Bytes::copy_from_slice(data));
    let Ok(header) = RequestHeader::decode(&mut input) else {
        return;
    };
    let read = |input: &mut Input| AnyRequest::decode(header.api_key, header.api_version, input);
    let Some(Ok(request)) = read(&mut input) else {
        return;
    };
    let write = |request: &AnyRequest| {
        let mut out = Gather::new();
        request
            .encode(header.api_version, &mut out)
            .expect("what was read can be written");
        out.into_bytes()
    };
    // The first writing is in canonical form: from then on nothing changes any more. Bytes are
    // compared, since a number may be NaN.
    let bytes = write(&request);
    let again = read(&mut Input::new(bytes.clone()));
    let again = again
        .expect("it has tables")
        .expect("what was written can be read");
    assert_eq!(write(&again), bytes);
});
