//! The bytes of the records, as Apache Kafka writes them.
//!
//! ```text
//! key    | version i16 = 0 | transactional id |
//! value  | version i16 = 1 | producer id i64 | producer epoch i16 | time-out i32 | state i8
//!        | topics, null when Empty: name, partitions i32… | last update i64 | start i64
//!        | tags 0: previous producer id i64, 1: next producer id i64, 2: client version i16
//!        |      10000, ours: last producer epoch i16
//! ```
//! Version 0 of the value has plain lengths and no tags. Source: `TransactionLogKey.json` and
//! `TransactionLogValue.json` of Kafka 4.3. Kafka does not keep the last producer epoch, so that a
//! client whose answer to `InitProducerId` was lost with its coordinator is fenced; the tag keeps
//! that retry good, and Kafka's readers pass over it.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::fields::{DecodeError, Reader, Writer};
use conveyor_record::{ProducerEpoch, ProducerId};

use crate::{
    Producer, Record, TopicPartition, TransactionMetadata, TransactionState, TransactionVersion,
};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;
/// Kafka's longest topic name. Each partition has a copy of it, so it must not be a lie.
const TOPIC_BYTES_MAX: usize = 249;
const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;
/// Far above the tags that Kafka hands out one by one.
const LAST_PRODUCER_EPOCH: u32 = 10_000;

pub(crate) fn encode_key(transactional_id: &str) -> Vec<u8> {
    let mut key = Writer::version(KEY_VERSION);
    key.string(transactional_id);
    key.finish()
}

pub(crate) fn encode_value(metadata: &TransactionMetadata) -> Vec<u8> {
    let mut value = Writer::version(VALUE_VERSION);
    value.int64(metadata.producer.id.value());
    value.int16(metadata.producer.epoch.value());
    value.int32(metadata.timeout_ms);
    value.int8(metadata.state.code());
    if metadata.state == TransactionState::Empty {
        value.unsigned_varint(0);
    } else {
        encode_partitions(&mut value, &metadata.partitions);
    }
    value.int64(metadata.last_update_ms);
    value.int64(metadata.start_ms);

    let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
    if metadata.previous_producer_id.is_some() {
        let id = metadata.previous_producer_id.value();
        tags.push((PREVIOUS_PRODUCER_ID, id.to_be_bytes().to_vec()));
    }
    if metadata.next_producer_id.is_some() {
        let id = metadata.next_producer_id.value();
        tags.push((NEXT_PRODUCER_ID, id.to_be_bytes().to_vec()));
    }
    if metadata.client_version != TransactionVersion::V0 {
        let level = metadata.client_version.level();
        tags.push((CLIENT_VERSION, level.to_be_bytes().to_vec()));
    }
    if metadata.last_producer_epoch.is_some() {
        let epoch = metadata.last_producer_epoch.value();
        tags.push((LAST_PRODUCER_EPOCH, epoch.to_be_bytes().to_vec()));
    }
    value.unsigned_varint(tags.len() as u32);
    for (tag, bytes) in tags {
        value.tagged(tag, &bytes);
    }
    value.finish()
}

fn encode_partitions(value: &mut Writer, partitions: &BTreeSet<TopicPartition>) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for place in partitions {
        topics
            .entry(&place.topic)
            .or_default()
            .push(place.partition);
    }
    value.length(topics.len());
    for (topic, partitions) in topics {
        value.compact_string(topic);
        value.length(partitions.len());
        for partition in partitions {
            value.int32(partition);
        }
        value.unsigned_varint(0);
    }
}

pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, DecodeError> {
    let mut key = Reader::new(key);
    if key.int16("key version")? != KEY_VERSION {
        return Ok(None);
    }
    let transactional_id = key.string("transactional id")?;
    key.finish()?;
    Ok(Some(Record {
        transactional_id,
        value: value.map(decode_value).transpose()?,
    }))
}

fn decode_value(bytes: &[u8]) -> Result<TransactionMetadata, DecodeError> {
    let mut value = Reader::new(bytes);
    let version = value.int16("value version")?;
    if !(0..=VALUE_VERSION).contains(&version) {
        return Err(DecodeError::UnsupportedVersion {
            kind: "TransactionLog",
            version,
            supported: VALUE_VERSION,
        });
    }
    let flexible = version >= 1;
    let producer = Producer::new(value.int64("producer id")?, value.int16("producer epoch")?);
    let timeout_ms = value.int32("transaction time-out")?;
    let state = TransactionState::from_code(value.int8("transaction status")?).ok_or(
        DecodeError::Invalid {
            field: "transaction status",
            reason: "no state that is known",
        },
    )?;
    let partitions = decode_partitions(&mut value, flexible)?;
    let mut metadata = TransactionMetadata {
        producer,
        last_producer_epoch: ProducerEpoch::NONE,
        previous_producer_id: ProducerId::NONE,
        next_producer_id: ProducerId::NONE,
        timeout_ms,
        state,
        partitions,
        last_update_ms: value.int64("last update timestamp")?,
        start_ms: value.int64("start timestamp")?,
        client_version: TransactionVersion::V0,
    };
    if flexible {
        value.tagged_fields(|tag, field| decode_tagged(&mut metadata, tag, field))?;
    }
    value.finish()?;
    Ok(metadata)
}

fn decode_tagged(
    metadata: &mut TransactionMetadata,
    tag: u32,
    mut field: Reader<'_>,
) -> Result<(), DecodeError> {
    match tag {
        PREVIOUS_PRODUCER_ID => {
            metadata.previous_producer_id = ProducerId(field.int64("previous producer id")?);
        }
        NEXT_PRODUCER_ID => {
            metadata.next_producer_id = ProducerId(field.int64("next producer id")?);
        }
        CLIENT_VERSION => {
            let level = field.int16("client transaction version")?;
            metadata.client_version = TransactionVersion::from_level(level);
        }
        LAST_PRODUCER_EPOCH => {
            metadata.last_producer_epoch = ProducerEpoch(field.int16("last producer epoch")?);
        }
        // Newer versions add tags, which older ones pass over.
        _ => return Ok(()),
    }
    field.finish()
}

fn decode_partitions(
    value: &mut Reader<'_>,
    flexible: bool,
) -> Result<BTreeSet<TopicPartition>, DecodeError> {
    let mut partitions = BTreeSet::new();
    for _ in 0..value.nullable_length(flexible, 2, "transaction partitions")? {
        let topic = if flexible {
            value.compact_string("topic")?
        } else {
            value.string("topic")?
        };
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(DecodeError::Invalid {
                field: "topic",
                reason: "a name longer than topics may have",
            });
        }
        for _ in 0..value.nullable_length(flexible, 4, "partition ids")? {
            partitions.insert(TopicPartition::new(
                topic.as_str(),
                value.int32("partition id")?,
            ));
        }
        if flexible {
            value.tagged_fields(|_, _| Ok(()))?;
        }
    }
    Ok(partitions)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
