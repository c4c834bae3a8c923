//! Records: produced, fetched, looked for, deleted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use conveyor_kafka::ApiKey;
use conveyor_kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use conveyor_kafka::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use conveyor_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use conveyor_kafka::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use conveyor_kafka::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use conveyor_record::{BatchBuilder, BatchOptions, Codec, Compressor, NewRecord};
use uuid::Uuid;

use super::topics::{create_topic, create_topic_with};
use crate::side::Side;

const BASE_TIMESTAMP_MS: i64 = 1_700_000_000_000;

pub(super) fn play(side: &mut Side) -> Result<()> {
    let id = create_topic(side, "records", 2)?;
    create_topic_with(side, "compacted", 1, &[("cleanup.policy", "compact")])?;
    create_topic_with(
        side,
        "stamped",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    )?;
    create_topic_with(side, "small", 1, &[("max.message.bytes", "300")])?;
    produce(side)?;
    produce_badly(side)?;
    fetch(side, id)?;
    fetch_sessions(side, id)?;
    list_offsets(side)?;
    leader_epochs(side)?;
    delete_records(side)
}

/// A batch of this many records, a second apart.
pub(super) fn batch(records: i64, options: BatchOptions) -> Result<Bytes> {
    let mut builder = BatchBuilder::new(options);
    for n in 0..records {
        builder.append(&NewRecord {
            timestamp_ms: BASE_TIMESTAMP_MS + n * 1000,
            key: Some(format!("key-{n}").as_bytes()),
            value: Some(format!("value-{n}").as_bytes()),
            headers: &[("name", Some(b"header"))],
        })?;
    }
    Ok(builder.build(&mut Compressor::new())?)
}

/// A request for all replicas; topics are named by their ids from version 13 on.
pub(super) fn produce_request(
    version: i16,
    ids: &BTreeMap<String, Uuid>,
    topic: &str,
    partition: i32,
    records: &Bytes,
) -> ProduceRequest {
    let unknown = Uuid::from_u128(7);
    ProduceRequest {
        acks: -1,
        timeout_ms: 15_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            topic_id: if version < 13 {
                Uuid::nil()
            } else {
                *ids.get(topic).unwrap_or(&unknown)
            },
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(records.clone()),
            }],
        }],
        ..Default::default()
    }
}

fn produce(side: &mut Side) -> Result<()> {
    let ids = side.topic_ids();
    let ask = |version, topic: &str, partition, records: &Bytes| {
        produce_request(version, &ids, topic, partition, records)
    };
    let plain = batch(3, BatchOptions::default())?;
    side.ask_all("a batch", |version| ask(version, "records", 0, &plain))?;
    side.ask_all("a batch, acknowledged by the leader", |version| {
        ProduceRequest {
            acks: 1,
            ..ask(version, "records", 1, &plain)
        }
    })?;
    for (codec, step) in [
        (Codec::Gzip, "a batch of gzip"),
        (Codec::Snappy, "a batch of snappy"),
        (Codec::Lz4, "a batch of lz4"),
        (Codec::Zstd, "a batch of zstd"),
    ] {
        let options = BatchOptions {
            codec,
            ..BatchOptions::default()
        };
        let compressed = batch(5, options)?;
        side.ask_all(step, |version| ask(version, "records", 0, &compressed))?;
    }
    side.ask_all("a batch that the broker stamps", |version| {
        ask(version, "stamped", 0, &plain)
    })?;
    side.ask_all("a batch with keys on a compacted topic", |version| {
        ask(version, "compacted", 0, &plain)
    })
}

fn produce_badly(side: &mut Side) -> Result<()> {
    let ids = side.topic_ids();
    let ask = |version, topic: &str, partition, records: &Bytes| {
        produce_request(version, &ids, topic, partition, records)
    };
    let plain = batch(3, BatchOptions::default())?;
    side.ask_all("a topic that does not exist", |version| {
        ask(version, "nobody", 0, &plain)
    })?;
    side.ask_all("a partition that does not exist", |version| {
        ask(version, "records", 9, &plain)
    })?;
    side.ask_all("acks that mean nothing", |version| ProduceRequest {
        acks: 2,
        ..ask(version, "records", 0, &plain)
    })?;
    let mut broken = plain.to_vec();
    *broken.last_mut().context("it has bytes")? ^= 0xff;
    let broken = Bytes::from(broken);
    side.ask_all("a batch that is damaged", |version| {
        ask(version, "records", 0, &broken)
    })?;
    let cut = plain.slice(..plain.len() - 5);
    side.ask_all("a batch that is cut off", |version| {
        ask(version, "records", 0, &cut)
    })?;
    let two = Bytes::from([&plain[..], &plain[..]].concat());
    side.ask_all("two batches", |version| ask(version, "records", 0, &two))?;
    let mut old = plain.to_vec();
    old[16] = 1;
    let old = Bytes::from(old);
    side.ask_all("a batch of an old format", |version| {
        ask(version, "records", 0, &old)
    })?;
    let large = batch(20, BatchOptions::default())?;
    side.ask_all("a batch too large for its topic", |version| {
        ask(version, "small", 0, &large)
    })?;
    side.ask_all("nothing", |version| {
        ask(version, "records", 0, &Bytes::new())
    })?;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for key in [Some(&b"key"[..]), None, Some(b"another"), None] {
        builder.append(&NewRecord {
            timestamp_ms: BASE_TIMESTAMP_MS,
            key,
            value: Some(b"value"),
            headers: &[],
        })?;
    }
    let without_keys = builder.build(&mut Compressor::new())?;
    side.ask_all("records without keys on a compacted topic", |version| {
        ask(version, "compacted", 0, &without_keys)
    })?;
    side.ask_all("no topics", |version| ProduceRequest {
        topic_data: Vec::new(),
        ..ask(version, "records", 0, &plain)
    })?;
    side.ask_all("good and bad partitions together", |version| {
        let mut request = ask(version, "records", 0, &plain);
        request.topic_data[0].partition_data.extend([
            PartitionProduceData {
                index: 7,
                records: Some(plain.clone()),
            },
            PartitionProduceData {
                index: 1,
                records: Some(broken.clone()),
            },
        ]);
        request
            .topic_data
            .extend(ask(version, "nobody", 0, &plain).topic_data);
        request
    })
}

/// A fetch without a session of partition 0 of a topic.
pub(super) fn fetch_request(version: i16, name: &str, id: Uuid, offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: name.into(),
            topic_id: if version >= 13 { id } else { Uuid::nil() },
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

fn fetch(side: &mut Side, id: Uuid) -> Result<()> {
    let ask = move |version, offset| fetch_request(version, "records", id, offset);
    side.ask_all("from the beginning", |version| ask(version, 0))?;
    side.ask_all("from within a batch", |version| ask(version, 4))?;
    side.ask_all("committed records only", |version| FetchRequest {
        isolation_level: 1,
        ..ask(version, 0)
    })?;
    side.ask_all("one byte at most", |version| FetchRequest {
        max_bytes: 1,
        ..ask(version, 0)
    })?;
    side.ask_all("one byte at most of the partition", |version| {
        let mut request = ask(version, 0);
        request.topics[0].partitions[0].partition_max_bytes = 1;
        request
    })?;
    side.ask_all("from behind the end", |version| ask(version, 1_000_000))?;
    side.ask_all("from before the beginning", |version| ask(version, -5))?;
    side.ask_all("a partition that does not exist", |version| {
        let mut request = ask(version, 0);
        request.topics[0].partitions[0].partition = 9;
        request
    })?;
    side.ask_all("a topic that does not exist", |version| {
        fetch_request(version, "nobody", Uuid::from_u128(7), 0)
    })?;
    for version in side.versions(ApiKey::Fetch).filter(|version| *version >= 9) {
        for (step, epoch) in [("of the leader's epoch", 0), ("of an epoch to come", 5)] {
            let mut request = ask(version, 0);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            side.ask(step, version, &request)?;
        }
    }
    for version in side
        .versions(ApiKey::Fetch)
        .filter(|version| *version >= 12)
    {
        for (step, epoch) in [
            ("having read of the epoch", 0),
            ("having read of another epoch", 3),
        ] {
            let mut request = ask(version, 3);
            request.topics[0].partitions[0].current_leader_epoch = 0;
            request.topics[0].partitions[0].last_fetched_epoch = epoch;
            side.ask(step, version, &request)?;
        }
    }
    Ok(())
}

fn fetch_sessions(side: &mut Side, id: Uuid) -> Result<()> {
    for version in side.versions(ApiKey::Fetch).filter(|version| *version >= 7) {
        let whole = FetchRequest {
            session_epoch: 0,
            ..fetch_request(version, "records", id, 0)
        };
        let opened = side
            .ask("a session is opened", version, &whole)?
            .context("it answers")?;
        let within = |session_epoch| FetchRequest {
            session_id: opened.session_id,
            session_epoch,
            max_wait_ms: 20,
            topics: Vec::new(),
            ..fetch_request(version, "records", id, 0)
        };
        side.ask("nothing new in the session", version, &within(1))?;
        let moved = FetchRequest {
            topics: fetch_request(version, "records", id, 3).topics,
            ..within(2)
        };
        side.ask("another offset in the session", version, &moved)?;
        side.ask("an epoch of the session left out", version, &within(7))?;
        let forgotten = FetchRequest {
            forgotten_topics_data: vec![ForgottenTopic {
                topic: "records".into(),
                topic_id: if version >= 13 { id } else { Uuid::nil() },
                partitions: vec![0],
            }],
            ..within(3)
        };
        side.ask("a partition leaves the session", version, &forgotten)?;
        side.ask("the session is closed", version, &within(-1))?;
        side.ask("a session that is closed", version, &within(1))?;
    }
    Ok(())
}

fn list_offsets(side: &mut Side) -> Result<()> {
    let ask = |topic: &str, partition_index, timestamp| ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    for (step, timestamp) in [
        ("the latest offset", -1),
        ("the earliest offset", -2),
        ("the offset of the greatest timestamp", -3),
        ("the earliest local offset", -4),
        ("the latest tiered offset", -5),
        ("a special offset that does not exist", -9),
        ("by a timestamp before all records", 5),
        ("by the timestamp of a record", BASE_TIMESTAMP_MS + 1000),
        (
            "by a timestamp between two records",
            BASE_TIMESTAMP_MS + 1500,
        ),
        ("by a timestamp behind all records", BASE_TIMESTAMP_MS * 2),
    ] {
        side.ask_all(step, |_| ask("records", 0, timestamp))?;
    }
    side.ask_all("in a topic that does not exist", |_| ask("nobody", 0, -1))?;
    side.ask_all("in a partition that does not exist", |_| {
        ask("records", 9, -1)
    })?;
    for version in side
        .versions(ApiKey::ListOffsets)
        .filter(|version| *version >= 4)
    {
        let mut request = ask("records", 0, -1);
        request.topics[0].partitions[0].current_leader_epoch = 5;
        side.ask("of an epoch to come", version, &request)?;
    }
    for version in side
        .versions(ApiKey::ListOffsets)
        .filter(|version| *version >= 2)
    {
        let request = ListOffsetsRequest {
            isolation_level: 1,
            ..ask("records", 0, -1)
        };
        side.ask("the latest committed offset", version, &request)?;
    }
    Ok(())
}

fn leader_epochs(side: &mut Side) -> Result<()> {
    let ask =
        |topic: &str, partition, current_leader_epoch, leader_epoch| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: topic.into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch,
                    leader_epoch,
                }],
            }],
        };
    side.ask_all("the leader's epoch", |_| ask("records", 0, 0, 0))?;
    side.ask_all("without the current epoch", |_| ask("records", 0, -1, 0))?;
    side.ask_all("an epoch to come", |_| ask("records", 0, 0, 4))?;
    side.ask_all("believing in an epoch to come", |_| ask("records", 0, 3, 0))?;
    side.ask_all("no epoch", |_| ask("records", 0, -1, -1))?;
    side.ask_all("of a topic that does not exist", |_| {
        ask("nobody", 0, -1, 0)
    })?;
    side.ask_all("of a partition that does not exist", |_| {
        ask("records", 9, -1, 0)
    })
}

fn delete_records(side: &mut Side) -> Result<()> {
    let ask = |topic: &str, partition_index, offset| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 15_000,
    };
    side.ask_all("up to an offset", |version| {
        ask("records", 0, 3 + i64::from(version))
    })?;
    side.ask_all("up to an offset that is gone already", |_| {
        ask("records", 0, 1)
    })?;
    side.ask_all("up to an offset behind the end", |_| {
        ask("records", 0, 1_000_000)
    })?;
    side.ask_all("up to a negative offset", |_| ask("records", 0, -7))?;
    side.ask_all("in a topic that does not exist", |_| ask("nobody", 0, 1))?;
    side.ask_all("in a partition that does not exist", |_| {
        ask("records", 9, 1)
    })?;
    side.ask_all("in a compacted topic", |_| ask("compacted", 0, 1))?;
    side.ask_all("up to the end", |_| ask("records", 1, -1))
}
