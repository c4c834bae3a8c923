//! Topics and partitions by Kafka's protocol: created, grown, deleted, described in pages.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use conveyor_kafka::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use conveyor_kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use conveyor_kafka::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use conveyor_kafka::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use uuid::Uuid;

use crate::client::{KafkaClient, code};
use crate::harness::{TestBroker, batch};

fn topic(name: &str, num_partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    });
    CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: -1,
        configs: configs.collect(),
        ..CreatableTopic::default()
    }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments
        .iter()
        .map(|(partition, nodes)| CreatableReplicaAssignment {
            partition_index: *partition,
            broker_ids: nodes.to_vec(),
        });
    CreatableTopic {
        assignments: assignments.collect(),
        ..topic(name, -1, &[])
    }
}

async fn create(
    client: &mut KafkaClient,
    version: i16,
    topics: Vec<CreatableTopic>,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest {
        topics,
        timeout_ms: 20_000,
        validate_only: false,
    };
    client.call(version, &request).await.topics
}

#[tokio::test]
async fn trap_11_settings_without_effect_are_kept_and_every_setting_is_returned() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let harmless = [
        ("compression.zstd.level", "7"),
        ("file.delete.delay.ms", "1000"),
        ("flush.messages", "1"),
        ("flush.ms", "1000"),
        ("follower.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1"),
        ("local.retention.ms", "-2"),
        ("min.insync.replicas", "1"),
        ("preallocate", "true"),
        ("remote.storage.enable", "false"),
        ("segment.jitter.ms", "10"),
        ("unclean.leader.election.enable", "false"),
    ];
    let created = create(&mut client, 7, vec![topic("t", 2, &harmless)]).await;
    let [created] = &created[..] else {
        panic!("{created:?}");
    };
    assert_eq!(created.error_code, 0, "{:?}", created.error_message);
    assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
    assert!(!created.topic_id.is_nil());
    let configs = created.configs.as_ref().unwrap();
    assert!(configs.len() >= 34, "{}", configs.len());
    for (name, value) in harmless {
        let shown = configs.iter().find(|config| config.name == name).unwrap();
        assert_eq!(shown.value.as_deref(), Some(value), "{name}");
        assert_eq!(shown.config_source, 1, "{name} is set on the topic");
    }
    let retention = configs.iter().find(|config| config.name == "retention.ms");
    assert_eq!(retention.unwrap().config_source, 5, "nobody has set it");
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_can_be_written_to_as_soon_as_it_is_created() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 2..=7 {
        let name = format!("t{version}");
        let created = create(&mut client, version, vec![topic(&name, 1, &[])]).await;
        assert_eq!(created[0].error_code, 0);
        let produced = client.produce(&name, 0, batch(&["a"])).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, 0));
    }
    broker.stop().await;
}

#[tokio::test]
async fn each_topic_is_refused_for_its_own_reason() {
    let broker = TestBroker::start().await;
    broker.create_topic("taken", 1, &[]).await;
    broker.create_topic("with.dot", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let counted = CreatableTopic {
        num_partitions: 1,
        ..assigned("counted", &[(0, &[1])])
    };
    let cases = vec![
        (topic("taken", 1, &[]), ErrorCode::TopicAlreadyExists),
        (topic("", 1, &[]), ErrorCode::InvalidTopic),
        (topic("bad name", 1, &[]), ErrorCode::InvalidTopic),
        (topic("with_dot", 1, &[]), ErrorCode::InvalidTopic),
        (topic("none", 0, &[]), ErrorCode::InvalidPartitions),
        (
            topic("s", 1, &[("retention.ms", "soon")]),
            ErrorCode::InvalidConfig,
        ),
        (
            topic("u", 1, &[("no.such.setting", "1")]),
            ErrorCode::InvalidConfig,
        ),
        (
            CreatableTopic {
                replication_factor: 3,
                ..topic("r", 1, &[])
            },
            ErrorCode::InvalidReplicationFactor,
        ),
        (
            assigned("gap", &[(0, &[1]), (2, &[1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            assigned("nobody", &[(0, &[7])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (counted, ErrorCode::InvalidRequest),
        (assigned("fine", &[(1, &[1]), (0, &[1])]), ErrorCode::None),
    ];
    let (topics, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let names: Vec<Text> = topics.iter().map(|topic| topic.name.clone()).collect();
    let created = create(&mut client, 5, topics).await;
    assert_eq!(created.len(), names.len());
    for ((created, name), expected) in created.iter().zip(names).zip(expected) {
        assert_eq!(created.name, name, "in the order of the request");
        assert_eq!(created.error_code, code(expected), "{created:?}");
        assert_eq!(created.error_message.is_some(), expected != ErrorCode::None);
    }
    let twice = create(
        &mut client,
        5,
        vec![topic("two", 1, &[]), topic("two", 1, &[])],
    )
    .await;
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].error_code, code(ErrorCode::InvalidRequest));
    let checked = CreateTopicsRequest {
        topics: vec![topic("checked", 3, &[])],
        timeout_ms: 20_000,
        validate_only: true,
    };
    let checked = client.call(7, &checked).await.topics;
    assert_eq!((checked[0].error_code, checked[0].num_partitions), (0, 3));
    assert!(checked[0].topic_id.is_nil());
    let missing = client.metadata(9, &["checked"]).await;
    assert_eq!(
        missing.topics[0].error_code,
        code(ErrorCode::UnknownTopicOrPartition)
    );
    broker.stop().await;
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 1..=5 {
        let name = format!("t{version}");
        broker.create_topic(&name, 1, &[]).await;
        let request = DeleteTopicsRequest {
            topic_names: vec![name.as_str().into(), "missing".into()],
            timeout_ms: 20_000,
            ..DeleteTopicsRequest::default()
        };
        let deleted = client.call(version, &request).await.responses;
        let codes: Vec<i16> = deleted.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, code(ErrorCode::UnknownTopicOrPartition)]);
    }
    let created = create(&mut client, 7, vec![topic("by-id", 1, &[])]).await;
    let by_id = |topic_id| DeleteTopicState {
        name: None,
        topic_id,
    };
    let both = DeleteTopicState {
        name: Some("by-id".into()),
        topic_id: created[0].topic_id,
    };
    let request = DeleteTopicsRequest {
        topics: vec![
            by_id(Uuid::from_u128(4711)),
            by_id(Uuid::nil()),
            both,
            by_id(created[0].topic_id),
        ],
        timeout_ms: 20_000,
        ..DeleteTopicsRequest::default()
    };
    let deleted = client.call(6, &request).await.responses;
    let codes: Vec<i16> = deleted.iter().map(|topic| topic.error_code).collect();
    let invalid = code(ErrorCode::InvalidRequest);
    assert_eq!(
        codes,
        [code(ErrorCode::UnknownTopicId), invalid, invalid, 0]
    );
    assert_eq!(deleted[3].name.as_deref(), Some("by-id"));
    broker.stop().await;
}

#[tokio::test]
async fn deletion_can_be_switched_off() {
    let broker = TestBroker::start_with(&[("delete.topic.enable", "false")]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let request = DeleteTopicsRequest {
        topic_names: vec!["t".into()],
        timeout_ms: 20_000,
        ..DeleteTopicsRequest::default()
    };
    for (version, expected) in [
        (2, ErrorCode::InvalidRequest),
        (5, ErrorCode::TopicDeletionDisabled),
    ] {
        let deleted = client.call(version, &request).await.responses;
        assert_eq!(deleted[0].error_code, code(expected));
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_12_partitions_are_added_and_every_topic_is_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.produce_values("t", 0, &["a"]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let grow = |name: &str, count, nodes: Option<&[i32]>| CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: nodes.map(|nodes| {
            let broker_ids = nodes.to_vec();
            vec![CreatePartitionsAssignment { broker_ids }]
        }),
    };
    for (version, count) in (0..=3).zip(2..) {
        let request = CreatePartitionsRequest {
            topics: vec![grow("t", count, Some(&[1])), grow("missing", 2, None)],
            timeout_ms: 20_000,
            validate_only: false,
        };
        let results = client.call(version, &request).await.results;
        let codes: Vec<i16> = results.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, code(ErrorCode::UnknownTopicOrPartition)]);
        let produced = client.produce("t", count - 1, batch(&["a"])).await;
        assert_eq!(produced.error_code, 0);
    }
    for (wanted, expected) in [
        (grow("t", 5, None), ErrorCode::InvalidPartitions),
        (
            grow("t", 6, Some(&[9])),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            grow("t", 7, Some(&[1])),
            ErrorCode::InvalidReplicaAssignment,
        ),
    ] {
        let request = CreatePartitionsRequest {
            topics: vec![wanted],
            timeout_ms: 20_000,
            validate_only: false,
        };
        let results = client.call(3, &request).await.results;
        assert_eq!(results[0].error_code, code(expected), "{results:?}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_12_deleted_records_are_answered_with_where_the_log_begins() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.produce_values("t", 0, &["a", "b", "c"]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let partition = |partition_index, offset| DeleteRecordsPartition {
        partition_index,
        offset,
    };
    for (version, offset, begins) in [(0, 1, 1), (1, 2, 2), (2, -1, 3)] {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "t".into(),
                partitions: vec![partition(0, offset), partition(9, 0)],
            }],
            timeout_ms: 20_000,
        };
        let topics = client.call(version, &request).await.topics;
        let [deleted, missing] = &topics[0].partitions[..] else {
            panic!("{topics:?}");
        };
        assert_eq!((deleted.error_code, deleted.low_watermark), (0, begins));
        assert_eq!(missing.error_code, code(ErrorCode::UnknownTopicOrPartition));
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_13_batches_larger_than_the_topic_allows_are_refused() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let small = topic("small", 1, &[("max.message.bytes", "200")]);
    assert_eq!(create(&mut client, 4, vec![small]).await[0].error_code, 0);
    let large = "x".repeat(300);
    let refused = client.produce("small", 0, batch(&[&large])).await;
    assert_eq!(refused.error_code, code(ErrorCode::MessageTooLarge));
    let taken = client.produce("small", 0, batch(&["x"])).await;
    assert_eq!(taken.error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn partitions_are_described_in_pages() {
    let broker = TestBroker::start().await;
    for (name, partitions) in [("a", 3), ("b", 2), ("c", 1)] {
        broker.create_topic(name, partitions, &[]).await;
    }
    let mut client = KafkaClient::connect(&broker).await;
    let mut seen = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for _ in 0..10 {
        let request = DescribeTopicPartitionsRequest {
            topics: Vec::new(),
            response_partition_limit: 2,
            cursor: cursor.clone(),
        };
        let page = client.call(0, &request).await;
        for topic in &page.topics {
            let name = topic.name.as_deref().unwrap();
            assert_eq!(topic.error_code, 0);
            assert_eq!(topic.topic_authorized_operations, 0b1101_1111_1000);
            for partition in &topic.partitions {
                assert_eq!(partition.leader_id, 1);
                seen.push(format!("{name}-{}", partition.partition_index));
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a-0", "a-1", "a-2", "b-0", "b-1", "c-0"]);
    let named = |name: &str| TopicRequest { name: name.into() };
    let request = DescribeTopicPartitionsRequest {
        topics: vec![named("missing"), named("a"), named("bad name")],
        ..DescribeTopicPartitionsRequest::default()
    };
    let topics = client.call(0, &request).await.topics;
    let codes: Vec<i16> = topics.iter().map(|topic| topic.error_code).collect();
    let unknown = code(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(codes, [0, code(ErrorCode::InvalidTopic), unknown]);
    broker.stop().await;
}
