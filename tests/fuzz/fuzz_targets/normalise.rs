//! A record of a source topic, made canonical: what is written is read again and goes nowhere.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use conveyor_paklog::decode::{AliasTable, decode};
use conveyor_paklog::normalise::{Normaliser, Outcome, Routes};
use conveyor_processors::{Header, Source, SourceRecord};
use libfuzzer_sys::fuzz_target;

static NORMALISER: LazyLock<Normaliser> = LazyLock::new(|| {
    let routes = Routes::builtin().clone();
    Normaliser::new(routes, AliasTable::builtin().clone(), "fuzz")
});

fn record(topic: &str, key: Option<Bytes>, headers: Vec<Header>, value: Bytes) -> SourceRecord {
    SourceRecord {
        source: Source {
            topic: topic.into(),
            partition: 0,
            offset: 1.into(),
            timestamp_ms: 1_762_164_906_500,
        },
        key,
        value: Some(value),
        headers,
    }
}

fuzz_target!(|data: &[u8]| {
    // The first byte chooses topic and headers, the rest is the value.
    let Some((&choice, value)) = data.split_first() else { return };
    let topics = ["fulfillment.order_management.v1.events", "task-events", "tracking-events"];
    let topic = topics[usize::from(choice >> 2) % topics.len()];
    let given: &[(&str, &str)] = match choice % 4 {
        0 => &[],
        1 => &[("content-type", "application/cloudevents+json; charset=UTF-8")],
        2 => &[("ce_specversion", "1.0"), ("ce_type", "com.paklog.shipment.dispatched.v1")],
        _ => &[("__TypeId__", "com.paklog.WaveReleasedEvent"), ("traceparent", "00-1-2-01")],
    };
    let header = |(key, value): &(&str, &str)| Header {
        key: (*key).to_owned(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    };
    let headers = given.iter().map(header).collect();
    let source = record(topic, None, headers, Bytes::copy_from_slice(value));
    let Outcome::Write(canonical) = NORMALISER.normalise(&source) else { return };
    let written = canonical.headers.iter();
    let written = written.filter_map(|header| Some((header.key.as_str(), header.value.as_deref()?)));
    let event = decode(Some(&canonical.value), written).expect("what was written is an event");
    assert_eq!(event.event_type().topic().name(), &*canonical.topic);
    let again = record(&canonical.topic, canonical.key, canonical.headers, canonical.value);
    let outcome = NORMALISER.normalise(&again);
    assert!(matches!(outcome, Outcome::LeaveAlone | Outcome::Skip), "{outcome:?}");
});
