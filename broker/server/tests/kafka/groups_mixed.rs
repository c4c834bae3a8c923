//! One name, two protocols: a group goes from one to the other with its members and its offsets.

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;
use conveyor_grpc::v1::group_service_client::GroupServiceClient;
use conveyor_kafka::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use conveyor_kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use conveyor_kafka::messages::describe_groups::DescribeGroupsRequest;
use conveyor_kafka::messages::list_groups::ListGroupsRequest;
use tonic::transport::Channel;

use crate::client::{KafkaClient, code};
use crate::harness::TestBroker;
use crate::members::{Member, QUICK, committed};

async fn beat(
    client: &mut GroupServiceClient<Channel>,
    member_epoch: i32,
) -> v1::ConsumerGroupHeartbeatResponse {
    let joins = member_epoch == 0;
    let request = v1::ConsumerGroupHeartbeatRequest {
        group_id: "pickers".into(),
        member_id: "grpc".into(),
        member_epoch,
        rebalance_timeout_ms: 10_000,
        subscribed_topics: joins.then(|| v1::TopicNames {
            names: vec!["orders".into()],
        }),
        owned: joins.then(v1::Assignment::default),
        ..Default::default()
    };
    client
        .consumer_group_heartbeat(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn a_group_goes_to_the_newer_protocol_and_back_with_its_members_and_offsets() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 2, &[]).await;
    let address = format!("http://{}", broker.broker.grpc_address());
    let mut grpc = GroupServiceClient::connect(address).await.unwrap();

    let mut classic = Member::new(&broker, "pickers").await;
    classic.settle_alone(&[0, 1]).await;
    assert_eq!(classic.commit(1, 42).await, 0);
    let generation = classic.generation;

    // Whoever has joined by the classic protocol stays, and is told to join again.
    let joined = beat(&mut grpc, 0).await;
    assert_eq!(joined.error_code, 0, "{}", joined.error_message);
    assert_eq!(joined.member_epoch, generation + 1);
    assert!(joined.assignment.unwrap().topics.is_empty(), "all is taken");
    assert_eq!(
        classic.commit(0, 7).await,
        0,
        "what it has read still counts"
    );
    assert_eq!(classic.beat().await, code(ErrorCode::RebalanceInProgress));
    let mut client = KafkaClient::connect(&broker).await;
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["pickers".into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let described = client.call(1, &request).await;
    let kinds = described.groups[0].members.iter().map(|m| m.member_type);
    assert_eq!(
        kinds.collect::<std::collections::BTreeSet<i8>>(),
        [0, 1].into()
    );

    // It gives up everything by joining, and each of the two has one partition.
    let rejoined = classic.join().await;
    assert_eq!((rejoined.error_code, rejoined.leader.as_str()), (0, ""));
    assert_eq!(classic.sync(&[]).await.error_code, 0);
    assert_eq!(classic.beat().await, 0);
    let told = beat(&mut grpc, joined.member_epoch).await;
    let topics = told.assignment.unwrap().topics;
    assert_eq!((topics.len(), topics[0].partitions.len()), (1, 1));

    // The newer member goes, and the group is a classic one again, through a restart.
    assert_eq!(beat(&mut grpc, -1).await.error_code, 0);
    assert_eq!(classic.beat().await, code(ErrorCode::RebalanceInProgress));
    classic.settle_alone(&[0, 1]).await;
    let broker = broker.restart(QUICK).await;
    classic.client = KafkaClient::connect(&broker).await;
    assert_eq!(classic.beat().await, 0);
    for (partition, offset) in [(0, 7), (1, 42)] {
        let found = committed(&mut classic.client, "pickers", partition, true).await;
        assert_eq!(found.committed_offset, offset);
    }
}

#[tokio::test]
async fn who_waits_in_a_rebalance_hears_that_the_group_has_changed() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 2, &[]).await;
    let mut first = Member::new(&broker, "pickers").await;
    first.settle_alone(&[0, 1]).await;
    let mut second = Member::new(&broker, "pickers").await;
    second.join_once(9).await;
    second.begin_join().await;
    let mut told = 0;
    for _ in 0..500 {
        told = first.beat().await;
        if told != 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(
        told,
        code(ErrorCode::RebalanceInProgress),
        "the join has come"
    );
    let address = format!("http://{}", broker.broker.grpc_address());
    let mut grpc = GroupServiceClient::connect(address).await.unwrap();
    assert_eq!(beat(&mut grpc, 0).await.error_code, 0);
    let told = second.end_join().await;
    assert_eq!(told.error_code, code(ErrorCode::RebalanceInProgress));
    assert_eq!(told.member_id, second.member_id);
    assert_eq!(second.join().await.error_code, 0);
}

/// A heartbeat by Kafka's own message.
async fn kafka_beat(
    client: &mut KafkaClient,
    version: i16,
    member_id: &str,
    member_epoch: i32,
) -> ConsumerGroupHeartbeatResponse {
    let joins = member_epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "packers".into(),
        member_id: member_id.into(),
        member_epoch,
        rebalance_timeout_ms: if joins { 10_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["orders".into()]),
        topic_partitions: joins.then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    client.call(version, &request).await
}

#[tokio::test]
async fn members_by_the_consumer_protocol_are_served_over_kafkas_too() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    // Version 0 is given an id, version 1 brings one.
    let first = kafka_beat(&mut client, 0, "", 0).await;
    assert_eq!(first.error_code, 0, "{:?}", first.error_message);
    let id = first.member_id.clone().unwrap();
    assert_eq!(id.len(), 36);
    let parts = &first.assignment.as_ref().unwrap().topic_partitions[0];
    assert_eq!(parts.partitions, [0, 1]);
    let own = kafka_beat(&mut client, 1, "own", 0).await;
    assert_eq!((own.error_code, own.member_id.as_deref()), (0, Some("own")));
    let nameless = kafka_beat(&mut client, 1, "", 0).await;
    assert_eq!(nameless.error_code, code(ErrorCode::InvalidRequest));
    let fenced = kafka_beat(&mut client, 1, "own", 99).await;
    assert_eq!(fenced.error_code, code(ErrorCode::FencedMemberEpoch));

    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["packers".into(), "nobody".into()],
        include_authorized_operations: true,
    };
    for version in 0..=1 {
        let described = client.call(version, &request).await;
        let group = &described.groups[0];
        assert_eq!((group.error_code, group.members.len()), (0, 2));
        assert_eq!(group.assignor_name.as_str(), "uniform");
        assert!(group.members.iter().any(|member| member.member_id == id));
        assert_eq!(
            group.members[0].subscribed_topic_names[0].as_str(),
            "orders"
        );
        assert_eq!(
            described.groups[1].error_code,
            code(ErrorCode::GroupIdNotFound)
        );
    }
    // Tools that ask by the classic call are told to ask otherwise.
    let request = DescribeGroupsRequest {
        groups: vec!["packers".into()],
        ..DescribeGroupsRequest::default()
    };
    let described = client.call(6, &request).await;
    assert_eq!(
        described.groups[0].error_code,
        code(ErrorCode::GroupIdNotFound)
    );
    let listed = client.call(5, &ListGroupsRequest::default()).await;
    assert_eq!(listed.groups[0].group_type.as_str(), "consumer");

    for member_id in [id.as_str(), "own"] {
        assert_eq!(
            kafka_beat(&mut client, 1, member_id, -1).await.error_code,
            0
        );
    }
}

#[tokio::test]
async fn a_pattern_is_resolved_by_the_broker() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let by_pattern = |pattern: &str| ConsumerGroupHeartbeatRequest {
        group_id: "packers".into(),
        member_id: "own".into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_regex: Some(pattern.into()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let refused = client.call(1, &by_pattern("(")).await;
    assert_eq!(
        refused.error_code,
        code(ErrorCode::InvalidRegularExpression)
    );
    let joined = client.call(1, &by_pattern("ord.+")).await;
    assert_eq!(joined.error_code, 0, "{:?}", joined.error_message);
    let parts = joined.assignment.unwrap().topic_partitions;
    assert_eq!((parts.len(), &parts[0].partitions[..]), (1, &[0, 1][..]));
    // A topic that comes later is found with the next heartbeat; the broker's own never are.
    broker.create_topic("ordinary", 1, &[]).await;
    let told = kafka_beat(&mut client, 1, "own", joined.member_epoch).await;
    assert_eq!(told.assignment.unwrap().topic_partitions.len(), 2);
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["packers".into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let described = client.call(1, &request).await;
    let member = &described.groups[0].members[0];
    assert_eq!(member.subscribed_topic_regex.as_deref(), Some("ord.+"));
}
