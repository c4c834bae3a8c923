//! `Metadata` and `DeleteRecords`.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use conveyor_kafka::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use uuid::Uuid;

use crate::client::{KafkaClient, code, fetch_of, metadata_request};
use crate::harness::{TestBroker, batch};

#[tokio::test]
async fn every_version_names_topics_partitions_and_their_leader() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 3, &[]).await;
    let (_, address) = broker.broker.kafka_addresses().remove(0);
    let mut client = KafkaClient::connect(&broker).await;
    for version in 0..=13 {
        let response = client.metadata(version, &["t"]).await;
        let [topic] = &response.topics[..] else {
            panic!("{response:?}");
        };
        assert_eq!(topic.name.as_deref(), Some("t"));
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 3));
        for (index, partition) in topic.partitions.iter().enumerate() {
            assert_eq!(partition.partition_index, index as i32);
            assert_eq!((partition.error_code, partition.leader_id), (0, 1));
            assert_eq!(partition.replica_nodes, [1]);
            assert_eq!(partition.isr_nodes, [1]);
        }
        assert_eq!(response.brokers[0].port, i32::from(address.port()));
        assert_eq!(version >= 1, response.controller_id == 1);
        assert_eq!(
            version >= 2,
            response.cluster_id == Some(broker.broker.cluster_id().into())
        );
        assert_eq!(version >= 10, !topic.topic_id.is_nil());
    }
    broker.stop().await;
}

#[tokio::test]
async fn all_topics_are_asked_for_as_each_version_has_it() {
    let broker = TestBroker::start().await;
    broker.create_topic("a", 1, &[]).await;
    broker.create_topic("b", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let all = MetadataRequest {
        topics: None,
        ..metadata_request(&[])
    };
    assert_eq!(client.metadata(0, &[]).await.topics.len(), 2);
    for version in [4, 9, 13] {
        assert_eq!(client.metadata(version, &[]).await.topics.len(), 0);
        assert_eq!(client.call(version, &all).await.topics.len(), 2);
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_06_every_topic_asked_about_is_answered_in_order() {
    let broker = TestBroker::start().await;
    broker.create_topic("b", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let response = client.metadata(9, &["z", "b", "a b", "a", "b"]).await;
    let told: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_deref().unwrap(), topic.error_code))
        .collect();
    let unknown = code(ErrorCode::UnknownTopicOrPartition);
    let invalid = code(ErrorCode::InvalidTopic);
    assert_eq!(
        told,
        [("z", unknown), ("b", 0), ("a b", invalid), ("a", unknown)],
        "each once"
    );
    broker.stop().await;
}

#[tokio::test]
async fn topics_are_found_by_id() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let topic_id = client.metadata(12, &["t"]).await.topics[0].topic_id;
    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            topic_id,
            name: None,
        }]),
        ..metadata_request(&[])
    };
    let found = client.call(12, &by_id(topic_id)).await;
    assert_eq!(found.topics[0].name.as_deref(), Some("t"));
    let unknown = client.call(13, &by_id(Uuid::from_u128(1))).await;
    assert_eq!(
        unknown.topics[0].error_code,
        code(ErrorCode::UnknownTopicId)
    );
    assert_eq!(unknown.topics[0].name, None);
    broker.stop().await;
}

#[tokio::test]
async fn trap_09_a_topic_is_created_if_allowed_and_asked_and_is_there_then() {
    let broker = TestBroker::start_with(&[("auto.create.topics.enable", "true")]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let unknown = client.metadata(9, &["fresh"]).await;
    assert_eq!(
        unknown.topics[0].error_code,
        code(ErrorCode::UnknownTopicOrPartition)
    );
    let asked = MetadataRequest {
        allow_auto_topic_creation: true,
        ..metadata_request(&["fresh", "not a name"])
    };
    let created = client.call(9, &asked).await;
    assert_eq!(created.topics[0].error_code, 0);
    assert_eq!(created.topics[0].partitions[0].leader_id, 1);
    assert_eq!(created.topics[1].error_code, code(ErrorCode::InvalidTopic));
    let produced = client.produce("fresh", 0, batch(&["at once"])).await;
    assert_eq!(produced.error_code, 0);
    drop(broker.stop().await);

    let broker = TestBroker::start_with(&[("auto.create.topics.enable", "false")]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let refused = client.call(9, &asked).await;
    assert_eq!(
        refused.topics[0].error_code,
        code(ErrorCode::UnknownTopicOrPartition)
    );
    broker.stop().await;
}

#[tokio::test]
async fn operations_are_told_when_asked_for() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let plain = client.metadata(8, &["t"]).await;
    assert_eq!(plain.cluster_authorized_operations, i32::MIN);
    assert_eq!(plain.topics[0].topic_authorized_operations, i32::MIN);
    let asked = MetadataRequest {
        include_cluster_authorized_operations: true,
        include_topic_authorized_operations: true,
        ..metadata_request(&["t"])
    };
    let told = client.call(8, &asked).await;
    // Read, write, create, delete, alter, describe, describe and alter configs: bits 3 to 8, 10, 11.
    assert_eq!(told.topics[0].topic_authorized_operations, 0b1101_1111_1000);
    assert_eq!(told.cluster_authorized_operations, 0b1_1111_1010_0000);
    broker.stop().await;
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker
        .create_topic("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let mut client = KafkaClient::connect(&broker).await;
    for value in ["a", "b", "c"] {
        client.produce("t", 0, batch(&[value])).await;
    }
    let delete = |name: &str, partition_index, offset| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: name.into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 1_000,
    };
    for version in 0..=2 {
        let wanted = i64::from(version);
        let response = client.call(version, &delete("t", 0, wanted)).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.low_watermark), (0, wanted));
    }
    let all = client.call(2, &delete("t", 0, -1)).await;
    assert_eq!(all.topics[0].partitions[0].low_watermark, 3);
    for (request, error) in [
        (delete("t", 0, 4), ErrorCode::OffsetOutOfRange),
        (delete("t", 7, 0), ErrorCode::UnknownTopicOrPartition),
        (delete("compacted", 0, 0), ErrorCode::PolicyViolation),
    ] {
        let response = client.call(2, &request).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(
            (partition.error_code, partition.low_watermark),
            (code(error), -1)
        );
    }
    broker.stop().await;
}

#[tokio::test]
async fn what_is_asked_about_again_and_again_is_told_once() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 3, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let names = ["t", "nowhere", "t", "nowhere", "t"];
    for version in [1, 9, 12] {
        let metadata = client.metadata(version, &names).await;
        let told = metadata.topics.iter();
        let told: Vec<&str> = told.map(|topic| topic.name.as_deref().unwrap()).collect();
        assert_eq!(told, ["t", "nowhere"]);
    }
    let twice = fetch_of("t", &[(0, 7), (1, 0), (0, 0)]);
    let response = client.call(12, &twice).await;
    let told = response.responses[0].partitions.iter();
    let told: Vec<(i32, i16)> = told.map(|p| (p.partition_index, p.error_code)).collect();
    assert_eq!(told, [(0, 0), (1, 0)], "the last offset named counts");
    broker.stop().await;
}
