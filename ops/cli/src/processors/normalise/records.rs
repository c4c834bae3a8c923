//! Records between the SDK and the pure part.

use std::sync::Arc;

use conveyor_paklog::normalise::Canonical;
use conveyor_processors::rejected::Rejected;
use conveyor_processors::{Header, Source, SourceRecord};
use conveyor_record::Record;
use conveyor_sdk::{ProducerRecord, TopicPartition};

/// A record as it was read.
pub(super) fn source_record(place: &TopicPartition, record: &Record) -> SourceRecord {
    SourceRecord {
        source: Source {
            topic: Arc::clone(&place.topic),
            partition: place.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        },
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter()
            .map(|header| Header {
                key: header.key_str().into_owned(),
                value: header.value.clone(),
            })
            .collect(),
    }
}

/// A canonical event on its way.
pub(super) fn canonical_record(canonical: Canonical) -> ProducerRecord {
    ProducerRecord {
        topic: canonical.topic,
        partition: None,
        timestamp_ms: Some(canonical.timestamp_ms),
        key: canonical.key,
        value: Some(canonical.value),
        headers: headers(canonical.headers),
    }
}

/// A record that could not be read, on its way to the error topic.
pub(super) fn rejected_record(topic: Arc<str>, rejected: Rejected) -> ProducerRecord {
    let headers = headers(rejected.headers());
    ProducerRecord {
        topic,
        partition: None,
        timestamp_ms: Some(rejected.record.source.timestamp_ms),
        key: rejected.record.key,
        value: rejected.record.value,
        headers,
    }
}

fn headers(headers: Vec<Header>) -> Vec<conveyor_sdk::producer::Header> {
    let header = |header: Header| conveyor_sdk::producer::Header {
        key: header.key,
        value: header.value,
    };
    headers.into_iter().map(header).collect()
}
