//! `ListOffsets` and `OffsetForLeaderEpoch`.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use conveyor_kafka::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use conveyor_record::Codec;

use crate::client::{KafkaClient, code};
use crate::harness::{BatchSpec, TestBroker, batch, batch_with, now_ms};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

fn request(timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    }
}

fn at(timestamp_ms: i64, codec: Codec) -> BatchSpec {
    BatchSpec {
        codec,
        timestamp_ms,
        ..BatchSpec::default()
    }
}

#[tokio::test]
async fn trap_22_positions_and_times_find_their_record() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let start = now_ms() - 10_000;
    // Offsets 0-1 at +0, 2-3 at +100 packed, 4 at +50, 5 at +100.
    for (values, time, codec) in [
        (&["a", "b"][..], 0, Codec::None),
        (&["c", "d"], 100, Codec::Zstd),
        (&["e"], 50, Codec::None),
        (&["f"], 100, Codec::Lz4),
    ] {
        client
            .produce("t", 0, batch_with(values, at(start + time, codec)))
            .await;
    }
    let epoch = client.metadata(9, &["t"]).await.topics[0].partitions[0].leader_epoch;
    for (timestamp, expected) in [
        (LATEST, (6, -1, epoch)),
        (EARLIEST, (0, -1, epoch)),
        (EARLIEST_LOCAL, (0, -1, epoch)),
        (LATEST_TIERED, (-1, -1, -1)),
        (MAX_TIMESTAMP, (2, start + 100, epoch)),
        (0, (0, start, epoch)),
        (start, (0, start, epoch)),
        (start + 1, (2, start + 100, epoch)),
        (start + 100, (2, start + 100, epoch)),
        (start + 101, (-1, -1, -1)),
    ] {
        let found = client.offset("t", 0, timestamp).await;
        assert_eq!(found.error_code, 0);
        let told = (found.offset, found.timestamp, found.leader_epoch);
        assert_eq!(told, expected, "timestamp {timestamp}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_22_a_time_within_a_batch_finds_the_record() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let start = now_ms() - 10_000;
    for (partition, codec) in [(0, Codec::None), (1, Codec::Gzip)] {
        let mut builder = conveyor_record::BatchBuilder::new(conveyor_record::BatchOptions {
            codec,
            size_limit: 1 << 20,
            ..conveyor_record::BatchOptions::default()
        });
        for delta in [0, 10, 20] {
            let record = conveyor_record::NewRecord {
                timestamp_ms: start + delta,
                key: None,
                value: Some(b"v"),
                headers: &[],
            };
            builder.append(&record).unwrap();
        }
        let bytes = builder
            .build(&mut conveyor_record::Compressor::new())
            .unwrap();
        assert_eq!(client.produce("t", partition, bytes).await.error_code, 0);
        let found = client.offset("t", partition, start + 11).await;
        assert_eq!((found.offset, found.timestamp), (2, start + 20));
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_22_the_broker_s_time_is_that_of_the_batch() {
    let broker = TestBroker::start().await;
    let by_broker = [("message.timestamp.type", "LogAppendTime")];
    broker.create_topic("t", 1, &by_broker).await;
    let mut client = KafkaClient::connect(&broker).await;
    let before = now_ms();
    let produced = client
        .produce("t", 0, batch_with(&["a", "b"], at(5, Codec::None)))
        .await;
    let appended = produced.log_append_time_ms;
    assert!((before..=now_ms()).contains(&appended), "{appended}");
    let found = client.offset("t", 0, before).await;
    assert_eq!((found.offset, found.timestamp), (0, appended));
    assert_eq!(client.offset("t", 0, appended + 1).await.offset, -1);
    broker.stop().await;
}

#[tokio::test]
async fn special_timestamps_have_a_version_since_which_they_are_known() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for (timestamp, since) in [
        (LATEST, 1),
        (EARLIEST, 1),
        (MAX_TIMESTAMP, 7),
        (EARLIEST_LOCAL, 8),
        (LATEST_TIERED, 9),
        (-6, 99),
        (0, 1),
    ] {
        for version in 1..=10 {
            let response = client.call(version, &request(timestamp)).await;
            let found = &response.topics[0].partitions[0];
            let expected = if version >= since {
                0
            } else {
                code(ErrorCode::UnsupportedVersion)
            };
            assert_eq!(
                found.error_code, expected,
                "{timestamp} in version {version}"
            );
        }
    }
    broker.stop().await;
}

#[tokio::test]
async fn partitions_that_cannot_be_looked_into_say_why() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let unknown = client.offset("t", 1, LATEST).await;
    assert_eq!(unknown.error_code, code(ErrorCode::UnknownTopicOrPartition));
    assert_eq!((unknown.offset, unknown.timestamp), (-1, -1));
    let mut newer = request(LATEST);
    newer.topics[0].partitions[0].current_leader_epoch = 1_000;
    let response = client.call(10, &newer).await;
    let refused = &response.topics[0].partitions[0];
    assert_eq!(refused.error_code, code(ErrorCode::UnknownLeaderEpoch));
    let mut twice = request(LATEST);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let response = client.call(10, &twice).await;
    let codes: Vec<i16> = response.topics[0]
        .partitions
        .iter()
        .map(|found| found.error_code)
        .collect();
    assert_eq!(codes, [0, code(ErrorCode::InvalidRequest)]);
    broker.stop().await;
}

async fn end_of(client: &mut KafkaClient, current: i32, epoch: i32) -> EpochEndOffset {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: current,
                leader_epoch: epoch,
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    let mut told = Vec::new();
    for version in 2..=4 {
        let response = client.call(version, &request).await;
        told.push(response.topics[0].partitions[0].clone());
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]));
    told.remove(0)
}

#[tokio::test]
async fn trap_21_the_end_of_an_epoch() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let epoch = client.metadata(9, &["t"]).await.topics[0].partitions[0].leader_epoch;
    let empty = end_of(&mut client, -1, epoch).await;
    assert_eq!(
        (empty.error_code, empty.leader_epoch, empty.end_offset),
        (0, epoch, 0)
    );
    client.produce("t", 0, batch(&["a", "b"])).await;
    let present = end_of(&mut client, epoch, epoch).await;
    assert_eq!((present.leader_epoch, present.end_offset), (epoch, 2));
    let future = end_of(&mut client, -1, epoch + 1).await;
    assert_eq!(
        (future.error_code, future.leader_epoch, future.end_offset),
        (0, -1, -1)
    );
    let unknown = end_of(&mut client, epoch + 1, epoch).await;
    assert_eq!(unknown.error_code, code(ErrorCode::UnknownLeaderEpoch));
    broker.stop().await;
}
