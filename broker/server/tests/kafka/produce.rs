//! `Produce`: what is taken, what is refused and how that is told.

use std::time::Duration;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::produce::{PartitionProduceData, ProduceRequest};
use conveyor_record::Codec;

use crate::client::{KafkaClient, code, produce_request};
use crate::harness::{BatchSpec, PATIENCE, TestBroker, batch, batch_with, now_ms};

#[tokio::test]
async fn every_version_writes_what_grpc_reads() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 3..=11 {
        let value = format!("v{version}");
        let response = client
            .call(version, &produce_request("t", 0, batch(&[&value])))
            .await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        assert_eq!(partition.base_offset, i64::from(version) - 3);
        assert_eq!(partition.log_append_time_ms, -1);
        let start = if version < 5 { -1 } else { 0 };
        assert_eq!(partition.log_start_offset, start);
    }
    assert_eq!(broker.values("t", 0, 7).await, ["v10", "v11"]);
    broker.stop().await;
}

#[tokio::test]
async fn trap_06_every_partition_is_answered_in_order() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let mut request = produce_request("t", 1, batch(&["a"]));
    for (index, records) in [
        (7, Some(batch(&["b"]))),
        (0, None),
        (0, Some(batch(&["c"]))),
    ] {
        let partitions = &mut request.topic_data[0].partition_data;
        partitions.push(PartitionProduceData { index, records });
    }
    let mut elsewhere = produce_request("nowhere", 0, batch(&["d"])).topic_data;
    request.topic_data.append(&mut elsewhere);
    let response = client.call(9, &request).await;
    let told: Vec<(i32, i16, i64)> = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|partition| (partition.index, partition.error_code, partition.base_offset))
        .collect();
    let unknown = code(ErrorCode::UnknownTopicOrPartition);
    let invalid = code(ErrorCode::InvalidRecord);
    assert_eq!(
        told,
        [
            (1, 0, 0),
            (7, unknown, -1),
            (0, invalid, -1),
            (0, 0, 0),
            (0, unknown, -1)
        ]
    );
    broker.stop().await;
}

#[tokio::test]
async fn acknowledgements_that_do_not_exist_are_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for (acks, error) in [(-1, 0), (1, 0), (2, code(ErrorCode::InvalidRequiredAcks))] {
        let request = ProduceRequest {
            acks,
            ..produce_request("t", 0, batch(&["a"]))
        };
        let response = client.call(9, &request).await;
        assert_eq!(
            response.responses[0].partition_responses[0].error_code,
            error
        );
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_03_a_batch_that_the_log_refuses_closes_the_connection_too() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for (sequence, value) in [(0, "a"), (5, "f")] {
        let spec = BatchSpec {
            producer: Some((7, 0, sequence)),
            ..BatchSpec::default()
        };
        let silent = ProduceRequest {
            acks: 0,
            ..produce_request("t", 0, batch_with(&[value], spec))
        };
        client.send(9, &silent).await;
    }
    assert!(client.is_closed().await, "the second is out of order");
    let values = async {
        while broker.values("t", 0, 0).await != ["a"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, values).await.unwrap();
    broker.stop().await;
}

/// A batch with its CRC made right after a change.
fn changed(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = conveyor_record::checksum::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[tokio::test]
async fn batches_that_are_none_are_refused_with_the_reason() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("t", 1, &[("max.message.bytes", "1000")])
        .await;
    let mut client = KafkaClient::connect(&broker).await;
    let good = batch(&["a"]);
    let mut corrupt = good.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut old_magic = good.to_vec();
    old_magic[16] = 1;
    let twice = [good.clone(), good.clone()].concat();
    let large = batch(&["x".repeat(1_000).as_str()]);
    let future = BatchSpec {
        timestamp_ms: now_ms() + 7_200_000,
        ..BatchSpec::default()
    };
    let control = changed(&good, |bytes| bytes[22] |= 1 << 5);
    let by_broker = changed(&good, |bytes| bytes[22] |= 1 << 3);
    let miscounted = changed(&good, |bytes| bytes[60] = 2);
    for (records, error) in [
        (Bytes::new(), ErrorCode::InvalidRecord),
        (Bytes::from(corrupt), ErrorCode::CorruptMessage),
        (
            Bytes::from(old_magic),
            ErrorCode::UnsupportedForMessageFormat,
        ),
        (Bytes::from(twice), ErrorCode::InvalidRecord),
        (large, ErrorCode::MessageTooLarge),
        (batch_with(&["a"], future), ErrorCode::InvalidTimestamp),
        (control, ErrorCode::InvalidRecord),
        (by_broker, ErrorCode::InvalidRecord),
        (miscounted, ErrorCode::InvalidRecord),
    ] {
        let answered = client.produce("t", 0, records).await;
        assert_eq!(
            answered.error_code,
            code(error),
            "{:?}",
            answered.error_message
        );
        assert_eq!(answered.base_offset, -1);
        assert!(answered.error_message.is_some());
    }
    assert_eq!(client.produce("t", 0, good).await.base_offset, 0);
    broker.stop().await;
}

#[tokio::test]
async fn trap_13_records_without_key_are_named_one_by_one() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("t", 1, &[("cleanup.policy", "compact")])
        .await;
    let mut client = KafkaClient::connect(&broker).await;
    let keyless = BatchSpec {
        keyed: false,
        ..BatchSpec::default()
    };
    let request = produce_request("t", 0, batch_with(&["a", "b"], keyless));
    let response = client.call(8, &request).await;
    let refused = &response.responses[0].partition_responses[0];
    assert_eq!(refused.error_code, code(ErrorCode::InvalidRecord));
    let named: Vec<i32> = refused
        .record_errors
        .iter()
        .map(|error| error.batch_index)
        .collect();
    assert_eq!(named, [0, 1]);
    let response = client.call(7, &request).await;
    let refused = &response.responses[0].partition_responses[0];
    assert_eq!(refused.error_code, code(ErrorCode::InvalidRecord));
    assert!(
        refused.record_errors.is_empty(),
        "older versions have no place for them"
    );
    broker.stop().await;
}

#[tokio::test]
async fn a_max_timestamp_that_is_wrong_or_unset_is_set_right() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let time = now_ms() - 1_000;
    for (partition, codec) in [(0, Codec::None), (1, Codec::Lz4)] {
        let spec = BatchSpec {
            codec,
            timestamp_ms: time,
            ..BatchSpec::default()
        };
        let unset = changed(&batch_with(&["a"], spec), |bytes| {
            bytes[35..43].copy_from_slice(&(-1i64).to_be_bytes());
        });
        assert_eq!(client.produce("t", partition, unset).await.error_code, 0);
        let stored = client.fetch("t", partition, 0).await.records.unwrap();
        assert_eq!(stored[35..43], time.to_be_bytes());
        crate::harness::decode(&stored); // checks the CRC
        assert_eq!(client.offset("t", partition, time).await.offset, 0);
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_may_say_how_its_batches_are_compressed() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    for (setting, codec) in [
        ("uncompressed", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ] {
        broker
            .create_topic(setting, 1, &[("compression.type", setting)])
            .await;
        for sent in [Codec::None, Codec::Lz4] {
            let spec = BatchSpec {
                codec: sent,
                ..BatchSpec::default()
            };
            let produced = client
                .produce(setting, 0, batch_with(&["a", "b"], spec))
                .await;
            assert_eq!(produced.error_code, 0);
            let stored = client
                .fetch(setting, 0, produced.base_offset)
                .await
                .records
                .unwrap();
            assert_eq!(stored[22] & 7, codec.id(), "{sent} in a topic of {setting}");
            let values = crate::harness::decode(&stored);
            let values: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, ["a", "b"]);
        }
    }
    broker.stop().await;
}
