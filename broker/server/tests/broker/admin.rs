//! Topics, settings, records: created, described, altered, deleted.

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, AlterOperation, ConfigResourceType, ConfigSource};

use crate::harness::{TestBroker, batch, fetch_request};

async fn metadata(broker: &TestBroker, topics: &[&str], create: bool) -> v1::GetMetadataResponse {
    let request = v1::GetMetadataRequest {
        topics: topics.iter().map(|name| (*name).into()).collect(),
        all_topics: topics.is_empty(),
        allow_auto_topic_creation: create,
    };
    broker
        .metadata()
        .get_metadata(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_tells_where_to_connect_and_what_there_is() {
    let broker = TestBroker::start_with(&[("node.id", "7"), ("broker.rack", "r1")]).await;
    broker.create_topic("orders", 3, &[]).await;
    broker.create_topic("inventory", 1, &[]).await;
    let all = metadata(&broker, &[], false).await;
    assert_eq!(all.cluster_id, broker.broker.cluster_id());
    assert_eq!((all.nodes.len(), all.controller_id), (1, 7));
    let node = &all.nodes[0];
    assert_eq!(node.port, i32::from(broker.broker.grpc_address().port()));
    assert_eq!(
        (&*node.host, node.node_id, &*node.rack),
        ("127.0.0.1", 7, "r1")
    );
    let names: Vec<&str> = all.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["inventory", "orders"]);
    let orders = &all.topics[1];
    assert_eq!(orders.topic_id.len(), 16);
    for (index, partition) in orders.partitions.iter().enumerate() {
        assert_eq!(partition.partition, index as i32);
        assert_eq!((partition.leader_id, partition.leader_epoch), (7, 0));
        assert_eq!(
            (&*partition.replicas, &*partition.in_sync_replicas),
            (&[7][..], &[7][..])
        );
    }
    let some = metadata(&broker, &["nothing", "orders", "a/b"], true).await;
    let codes: Vec<i32> = some.topics.iter().map(|topic| topic.error_code).collect();
    let expected = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::None,
        ErrorCode::InvalidTopic,
    ];
    assert_eq!(codes, expected.map(ErrorCode::code));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_topics_are_created_where_that_is_allowed() {
    let settings = [
        ("auto.create.topics.enable", "true"),
        ("num.partitions", "4"),
    ];
    let broker = TestBroker::start_with(&settings).await;
    let asked = metadata(&broker, &["fresh"], false).await;
    assert_eq!(
        asked.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let created = metadata(&broker, &["fresh", "bad/name", "fresh"], true).await;
    assert_eq!(
        (
            created.topics[0].error_code,
            created.topics[0].partitions.len()
        ),
        (0, 4)
    );
    assert_eq!(created.topics[1].error_code, ErrorCode::InvalidTopic.code());
    assert_eq!(broker.produce_values("fresh", 3, &["at once"]).await, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_topics_are_refused_with_the_reason() {
    let broker = TestBroker::start().await;
    broker.create_topic("taken", 1, &[]).await;
    type Case<'a> = (&'a str, i32, &'a [(&'a str, &'a str)], ErrorCode);
    let cases: [Case<'_>; 8] = [
        ("taken", 1, &[], ErrorCode::TopicAlreadyExists),
        ("", 1, &[], ErrorCode::InvalidTopic),
        ("../escape", 1, &[], ErrorCode::InvalidTopic),
        ("__cluster_metadata", 1, &[], ErrorCode::InvalidTopic),
        ("none", 0, &[], ErrorCode::InvalidPartitions),
        ("huge", 2_000_000_000, &[], ErrorCode::InvalidPartitions),
        (
            "odd",
            1,
            &[("retention.ms", "soon")],
            ErrorCode::InvalidConfig,
        ),
        (
            "odd",
            1,
            &[("retention.days", "1")],
            ErrorCode::InvalidConfig,
        ),
    ];
    for (name, partitions, configs, code) in cases {
        let refused = broker.try_create_topic(name, partitions, configs).await;
        assert_eq!(
            ErrorCode::from_code(refused.error_code),
            code,
            "{name}: {}",
            refused.error_message
        );
        assert!(!refused.error_message.is_empty());
    }
    assert_eq!(metadata(&broker, &[], false).await.topics.len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checking_a_topic_creates_nothing() {
    let broker = TestBroker::start().await;
    let topic = v1::NewTopic {
        name: "a".into(),
        partitions: 2,
        replication_factor: -1,
        ..Default::default()
    };
    let request = v1::CreateTopicsRequest {
        topics: vec![topic.clone(), topic],
        validate_only: true,
        timeout_ms: 0,
    };
    let response = broker
        .admin()
        .create_topics(request)
        .await
        .unwrap()
        .into_inner();
    let codes: Vec<i32> = response
        .topics
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(
        codes,
        [0, ErrorCode::TopicAlreadyExists.code()],
        "twice in one request collides"
    );
    assert!(metadata(&broker, &[], false).await.topics.is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_is_gone_with_its_files_and_may_come_back_empty() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    broker.produce_values("orders", 0, &["a"]).await;
    let before = metadata(&broker, &["orders"], false).await.topics[0]
        .topic_id
        .clone();
    let folder = broker.dir.path().join("data/orders-0");
    assert!(folder.is_dir());
    let request = v1::DeleteTopicsRequest {
        topics: vec!["orders".into(), "nothing".into()],
        timeout_ms: 0,
    };
    let response = broker
        .admin()
        .delete_topics(request)
        .await
        .unwrap()
        .into_inner();
    let codes: Vec<i32> = response
        .topics
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    assert!(!folder.exists());
    let refused = broker.produce("orders", 0, batch(&["b"])).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );

    broker.create_topic("orders", 1, &[]).await;
    assert!(broker.values("orders", 0, 0).await.is_empty());
    assert_ne!(
        metadata(&broker, &["orders"], false).await.topics[0].topic_id,
        before
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_added_to_empty_topics_or_by_force() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let grow = async |total_count: i32, force: bool| {
        let request = v1::CreatePartitionsRequest {
            topic: "orders".into(),
            total_count,
            force,
            validate_only: false,
        };
        let response = broker
            .admin()
            .create_partitions(request)
            .await
            .unwrap()
            .into_inner();
        response.error.map_or(0, |error| error.error_code)
    };
    assert_eq!(grow(2, false).await, 0);
    broker.produce_values("orders", 1, &["a"]).await;
    assert_eq!(grow(3, false).await, ErrorCode::InvalidRequest.code());
    assert_eq!(grow(3, true).await, 0);
    assert_eq!(grow(3, true).await, ErrorCode::InvalidPartitions.code());
    broker.produce_values("orders", 2, &["b"]).await;
    assert_eq!(broker.values("orders", 1, 0).await, ["a"]);
    broker.stop().await;
}

async fn configs(
    broker: &TestBroker,
    kind: ConfigResourceType,
    name: &str,
) -> Vec<v1::ConfigEntry> {
    let request = v1::DescribeConfigsRequest {
        resource_type: kind.into(),
        resource_name: name.into(),
        config_names: Vec::new(),
    };
    let response = broker
        .admin()
        .describe_configs(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(response.error, None);
    response.entries
}

async fn alter(broker: &TestBroker, name: &str, operation: AlterOperation, value: &str) -> i32 {
    let alteration = v1::ConfigAlteration {
        name: name.into(),
        operation: operation.into(),
        value: value.into(),
    };
    let request = v1::IncrementalAlterConfigsRequest {
        resource_type: ConfigResourceType::Topic.into(),
        resource_name: "orders".into(),
        alterations: vec![alteration],
        validate_only: false,
    };
    let response = broker
        .admin()
        .incremental_alter_configs(request)
        .await
        .unwrap()
        .into_inner();
    response.error.map_or(0, |error| error.error_code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_have_a_source_and_take_effect_at_once() {
    let broker = TestBroker::start_with(&[("log.segment.bytes", "8 MiB")]).await;
    broker
        .create_topic("orders", 1, &[("retention.ms", "2d")])
        .await;
    let entries = configs(&broker, ConfigResourceType::Topic, "orders").await;
    let entry = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(
        (
            entry("retention.ms").value.as_str(),
            entry("retention.ms").source()
        ),
        ("172800000", ConfigSource::Topic)
    );
    assert_eq!(
        (
            entry("segment.bytes").value.as_str(),
            entry("segment.bytes").source()
        ),
        ("8388608", ConfigSource::StaticBroker)
    );
    assert_eq!(entry("cleanup.policy").source(), ConfigSource::Default);
    assert!(entries.len() >= 30 && entries.iter().all(|entry| !entry.documentation.is_empty()));

    assert_eq!(
        alter(&broker, "max.message.bytes", AlterOperation::Set, "200").await,
        0
    );
    let refused = broker
        .produce("orders", 0, batch(&[&"x".repeat(500)]))
        .await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code());
    assert_eq!(
        alter(&broker, "max.message.bytes", AlterOperation::Delete, "").await,
        0
    );
    broker
        .produce_values("orders", 0, &[&"x".repeat(500)])
        .await;
    assert_eq!(
        alter(&broker, "retention.ms", AlterOperation::Set, "x").await,
        ErrorCode::InvalidConfig.code()
    );
    assert_eq!(
        alter(&broker, "retention.ms", AlterOperation::Append, "1").await,
        ErrorCode::InvalidConfig.code()
    );

    let node = configs(&broker, ConfigResourceType::Broker, "1").await;
    let segment = node
        .iter()
        .find(|entry| entry.name == "log.segment.bytes")
        .unwrap();
    assert_eq!(
        (segment.value.as_str(), segment.read_only),
        ("8388608", true)
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_gone_for_readers_at_once() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    for value in ["a", "b", "c", "d"] {
        broker.produce_values("orders", 0, &[value]).await;
    }
    let delete = async |before_offset: i64| {
        let wanted = v1::DeleteRecordsPartition {
            topic: "orders".into(),
            partition: 0,
            before_offset,
        };
        let request = v1::DeleteRecordsRequest {
            partitions: vec![wanted],
        };
        let response = broker
            .admin()
            .delete_records(request)
            .await
            .unwrap()
            .into_inner();
        let result = response.partitions.into_iter().next().unwrap();
        (result.error_code, result.low_watermark)
    };
    assert_eq!(delete(2).await, (0, 2));
    assert_eq!(delete(99).await, (ErrorCode::OffsetOutOfRange.code(), -1));
    let below = broker.fetch_one(fetch_request("orders", 0, 1)).await;
    assert_eq!(
        (below.error_code, below.log_start_offset),
        (ErrorCode::OffsetOutOfRange.code(), 2)
    );
    assert_eq!(broker.values("orders", 0, 2).await, ["c", "d"]);
    assert_eq!(broker.offset("orders", 0, -2).await.offset, 2);
    assert_eq!(delete(-1).await, (0, 4));
    let broker = broker.restart(&[]).await;
    assert_eq!(
        broker.offset("orders", 0, -2).await.offset,
        4,
        "it stays so after a restart"
    );
    assert_eq!(broker.produce_values("orders", 0, &["e"]).await, 4);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_cluster_are_described() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("orders", 2, &[("conveyor.durability", "replicated")])
        .await;
    broker.produce_values("orders", 0, &["a", "b"]).await;
    let log = broker.log("orders").await;
    assert_eq!(
        (log.log_start_offset, log.high_watermark, log.log_end_offset),
        (0, 2, 2)
    );
    assert_eq!(
        (
            log.durability.as_str(),
            log.segment_count,
            log.fault.as_str()
        ),
        ("replicated", 1, "")
    );
    assert!(log.size_bytes > 61 && log.data_dir.ends_with("data"));
    let response = broker
        .admin()
        .describe_cluster(v1::DescribeClusterRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(response.cluster_id, broker.broker.cluster_id());
    let node = &response.nodes[0];
    assert_eq!((node.node_id, node.partition_count), (1, 2));
    assert!(node.data_dirs[0].online && node.data_dirs[0].available_bytes > 0);
    broker.stop().await;
}
