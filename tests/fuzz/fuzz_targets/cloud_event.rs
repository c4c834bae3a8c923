//! A record's value and headers as an event, in every encoding that services use.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses the headers, the rest is the value.
    let Some((&choice, value)) = data.split_first() else { return };
    let headers: &[(&str, &[u8])] = match choice % 4 {
        0 => &[],
        1 => &[("content-type", b"application/cloudevents+json; charset=UTF-8")],
        2 => &[
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", b"/test"),
            ("ce_type", b"com.paklog.fulfillment.order.received"),
        ],
        _ => &[("__TypeId__", b"com.paklog.ProductCreated")],
    };
    let decoded = conveyor_paklog::decode::decode(Some(value), headers.iter().copied());
    drop(decoded);
    let nullable = headers.iter().map(|(name, value)| (*name, Some(*value)));
    if let Ok(decoded) = conveyor_sdk::cloud_events::decode(Some(value), nullable) {
        // What was read can be written and read again, and is the same event.
        let written = decoded.event.encode_structured();
        let again = conveyor_sdk::cloud_events::decode(
            written.value.as_deref(),
            written.header_views(),
        )
        .expect("our own encoding decodes");
        assert_eq!(again.event, decoded.event);
    }
});
