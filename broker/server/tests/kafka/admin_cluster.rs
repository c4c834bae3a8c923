//! The cluster by Kafka's protocol: nodes, directories, quorum, elections, reassignments, quotas and
//! access rules, as a single node without an authorizer has them.

use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::alter_client_quotas::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use conveyor_kafka::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use conveyor_kafka::messages::create_acls::{AclCreation, CreateAclsRequest};
use conveyor_kafka::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use conveyor_kafka::messages::describe_acls::DescribeAclsRequest;
use conveyor_kafka::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest,
};
use conveyor_kafka::messages::describe_cluster::DescribeClusterRequest;
use conveyor_kafka::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use conveyor_kafka::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData};
use conveyor_kafka::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use conveyor_kafka::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use conveyor_kafka::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;

use crate::client::{CLIENT_ID, KafkaClient, code, produce_request};
use crate::harness::{TestBroker, batch};

#[tokio::test]
async fn the_cluster_has_one_node_at_the_address_of_the_listener() {
    let broker = TestBroker::start_with(&[("broker.rack", "r1")]).await;
    let (_, address) = broker.broker.kafka_addresses().remove(0);
    let mut client = KafkaClient::connect(&broker).await;
    for version in 0..=2 {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..DescribeClusterRequest::default()
        };
        let cluster = client.call(version, &request).await;
        assert_eq!(cluster.error_code, 0);
        assert_eq!(cluster.cluster_id, broker.broker.cluster_id());
        assert_eq!(cluster.controller_id, 1);
        assert_eq!(cluster.cluster_authorized_operations, 0b1_1111_1010_0000);
        let [node] = &cluster.brokers[..] else {
            panic!("{cluster:?}");
        };
        assert_eq!((node.broker_id, node.port), (1, i32::from(address.port())));
        assert_eq!(node.rack.as_deref(), Some("r1"));
    }
    let controllers = DescribeClusterRequest {
        endpoint_type: 2,
        ..DescribeClusterRequest::default()
    };
    let refused = client.call(1, &controllers).await;
    assert_eq!(refused.error_code, code(ErrorCode::MismatchedEndpointType));
    broker.stop().await;
}

#[tokio::test]
async fn directories_tell_what_lies_in_them() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    broker.produce_values("t", 1, &["a", "b"]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 1..=5 {
        let all = client.call(version, &DescribeLogDirsRequest { topics: None });
        let all = all.await.results;
        let [directory] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!(directory.error_code, 0);
        let path = broker.dir.path().display().to_string();
        assert!(
            directory.log_dir.starts_with(&path),
            "{}",
            directory.log_dir
        );
        assert_eq!(version >= 4, directory.total_bytes > 0);
        let topic = directory.topics.iter().find(|topic| topic.name == "t");
        let sizes: Vec<_> = topic.unwrap().partitions.iter().collect();
        assert_eq!(sizes[0].partition_size, 0);
        assert!(sizes[1].partition_size > 0);
        assert_eq!(sizes[1].offset_lag, 0);
    }
    let one = DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic {
            topic: "t".into(),
            partitions: vec![1, 9],
        }]),
    };
    let directories = client.call(4, &one).await.results;
    assert_eq!(directories[0].topics[0].partitions.len(), 1);
    broker.stop().await;
}

#[tokio::test]
async fn this_node_alone_keeps_the_metadata() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let topic = |name: &str| TopicData {
        topic_name: name.into(),
        partitions: vec![PartitionData { partition_index: 0 }],
    };
    for version in 0..=2 {
        let request = DescribeQuorumRequest {
            topics: vec![topic("__cluster_metadata"), topic("other")],
        };
        let quorum = client.call(version, &request).await;
        assert_eq!(quorum.error_code, 0);
        let metadata = &quorum.topics[0].partitions[0];
        assert_eq!((metadata.error_code, metadata.leader_id), (0, 1));
        assert!(metadata.high_watermark > 0);
        let [voter] = &metadata.current_voters[..] else {
            panic!("{metadata:?}");
        };
        assert_eq!(voter.replica_id, 1);
        assert_eq!(voter.log_end_offset, metadata.high_watermark);
        assert_eq!(version >= 2, !voter.replica_directory_id.is_nil());
        assert_eq!(quorum.nodes.len(), usize::from(version >= 2));
        let other = quorum.topics[1].partitions[0].error_code;
        assert_eq!(other, code(ErrorCode::UnknownTopicOrPartition));
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_single_node_needs_no_election_and_moves_nothing() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 0..=2 {
        let elect = |topics| ElectLeadersRequest {
            election_type: 0,
            topic_partitions: topics,
            timeout_ms: 20_000,
        };
        let named = elect(Some(vec![TopicPartitions {
            topic: "t".into(),
            partitions: vec![0, 9],
        }]));
        let results = client.call(version, &named).await.replica_election_results;
        let codes = results[0].partition_result.iter().map(|it| it.error_code);
        let unknown = code(ErrorCode::UnknownTopicOrPartition);
        let codes: Vec<i16> = codes.collect();
        assert_eq!(codes, [code(ErrorCode::ElectionNotNeeded), unknown]);
        let all = client.call(version, &elect(None)).await;
        assert_eq!((all.error_code, all.replica_election_results.len()), (0, 0));
    }
    let wanted = |partition_index, replicas: Option<&[i32]>| ReassignablePartition {
        partition_index,
        replicas: replicas.map(<[i32]>::to_vec),
    };
    let request = AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: "t".into(),
            partitions: vec![
                wanted(0, Some(&[1])),
                wanted(0, Some(&[7])),
                wanted(0, None),
                wanted(9, Some(&[1])),
            ],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    };
    for version in 0..=1 {
        let answer = client.call(version, &request).await.responses;
        let codes = answer[0].partitions.iter().map(|it| it.error_code);
        let expected = [
            ErrorCode::None,
            ErrorCode::InvalidReplicaAssignment,
            ErrorCode::NoReassignmentInProgress,
            ErrorCode::UnknownTopicOrPartition,
        ];
        assert_eq!(codes.collect::<Vec<_>>(), expected.map(code));
    }
    let list = ListPartitionReassignmentsRequest::default();
    assert_eq!(client.call(0, &list).await.topics, []);
    broker.stop().await;
}

fn entity(parts: &[(&str, Option<&str>)]) -> Vec<EntityData> {
    let parts = parts.iter().map(|(kind, name)| EntityData {
        entity_type: (*kind).into(),
        entity_name: name.map(Into::into),
    });
    parts.collect()
}

async fn limit(
    client: &mut KafkaClient,
    parts: &[(&str, Option<&str>)],
    key: &str,
    rate: Option<f64>,
) -> i16 {
    let request = AlterClientQuotasRequest {
        entries: vec![EntryData {
            entity: entity(parts),
            ops: vec![OpData {
                key: key.into(),
                value: rate.unwrap_or_default(),
                remove: rate.is_none(),
            }],
        }],
        validate_only: false,
    };
    client.call(1, &request).await.entries[0].error_code
}

#[tokio::test]
async fn a_client_quota_is_in_force_at_once_and_outlives_a_restart() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let request = produce_request("t", 0, batch(&[&"x".repeat(2_000)]));
    assert_eq!(client.call(9, &request).await.throttle_time_ms, 0);
    let mine = [("client-id", Some(CLIENT_ID))];
    let set = limit(&mut client, &mine, "producer_byte_rate", Some(1_000.0)).await;
    assert_eq!(set, 0);
    let throttled = client.call(9, &request).await;
    assert!(throttled.throttle_time_ms > 500, "{throttled:?}");

    let broker = broker.restart(&[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let filter = |kind: &str, match_type, name: Option<&str>| DescribeClientQuotasRequest {
        components: vec![ComponentData {
            entity_type: kind.into(),
            match_type,
            r#match: name.map(Into::into),
        }],
        strict: false,
    };
    for version in 0..=1 {
        let exact = filter("client-id", 0, Some(CLIENT_ID));
        let entries = client.call(version, &exact).await.entries.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(&*entries[0].values[0].key, "producer_byte_rate");
        assert!((entries[0].values[0].value - 1_000.0).abs() < f64::EPSILON);
    }
    let users = client.call(1, &filter("user", 2, None)).await;
    assert_eq!(users.entries.unwrap(), []);
    let removed = limit(&mut client, &mine, "producer_byte_rate", None).await;
    assert_eq!(removed, 0);
    assert_eq!(client.call(9, &request).await.throttle_time_ms, 0);

    let invalid = code(ErrorCode::InvalidRequest);
    for (parts, key) in [
        (&mine[..], "request_percentage"),
        (&[][..], "producer_byte_rate"),
        (&[("ip", Some("::1"))][..], "producer_byte_rate"),
        (&[("user", Some(""))][..], "producer_byte_rate"),
    ] {
        let refused = limit(&mut client, parts, key, Some(1.0)).await;
        assert_eq!(refused, invalid, "{parts:?} {key}");
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    broker.stop().await;
}

#[tokio::test]
async fn without_an_authorizer_there_are_no_access_rules_and_no_credentials() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let disabled = code(ErrorCode::SecurityDisabled);
    for version in 1..=3 {
        let describe = DescribeAclsRequest {
            resource_type_filter: 1,
            pattern_type_filter: 3,
            operation: 1,
            permission_type: 1,
            ..DescribeAclsRequest::default()
        };
        let described = client.call(version, &describe).await;
        assert_eq!(described.error_code, disabled);
        let create = CreateAclsRequest {
            creations: vec![AclCreation {
                resource_type: 2,
                resource_name: "t".into(),
                principal: "User:ann".into(),
                host: "*".into(),
                operation: 3,
                permission_type: 3,
                ..AclCreation::default()
            }],
        };
        let created = client.call(version, &create).await.results;
        assert_eq!(created[0].error_code, disabled);
        let delete = DeleteAclsRequest {
            filters: vec![DeleteAclsFilter::default()],
        };
        let deleted = client.call(version, &delete).await.filter_results;
        assert_eq!(deleted[0].error_code, disabled);
    }
    let all = DescribeUserScramCredentialsRequest { users: None };
    let all = client.call(0, &all).await;
    assert_eq!((all.error_code, all.results.len()), (0, 0));
    let ann = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName { name: "ann".into() }]),
    };
    let ann = client.call(0, &ann).await.results;
    assert_eq!(ann[0].error_code, code(ErrorCode::ResourceNotFound));
    broker.stop().await;
}
