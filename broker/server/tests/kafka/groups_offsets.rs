//! Committed offsets over real sockets, those of transactions included.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::metadata::MetadataRequest;
use conveyor_kafka::messages::offset_commit::{OffsetCommitRequest, OffsetCommitRequestTopic};
use conveyor_kafka::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use conveyor_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};

use crate::client::{KafkaClient, code, metadata_request};
use crate::harness::TestBroker;
use crate::members::{Member, QUICK, commit, commit_request, committed};

#[tokio::test]
async fn trap_27_offsets_come_back_exactly_in_every_version_and_after_a_restart() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 10, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 2..=9 {
        let partition = i32::from(version);
        let request = commit_request("pickers", partition, 1 << 40);
        assert_eq!(commit(&mut client, version, &request).await, 0, "{version}");
    }
    let mut without_text = commit_request("pickers", 0, 3);
    without_text.topics[0].partitions[0].committed_metadata = None;
    assert_eq!(commit(&mut client, 8, &without_text).await, 0);

    let broker = broker.restart(QUICK).await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 2..=9 {
        let found = committed(&mut client, "pickers", version, true).await;
        assert_eq!((found.error_code, found.committed_offset), (0, 1 << 40));
        assert_eq!(found.metadata.as_deref(), Some("kept as it is"));
        // Older versions have no leader epoch to commit.
        let epoch = if version >= 6 { 7 } else { -1 };
        assert_eq!(found.committed_leader_epoch, epoch, "{version}");
    }
    let found = committed(&mut client, "pickers", 0, false).await;
    assert_eq!(
        (found.committed_offset, found.metadata.as_deref()),
        (3, Some(""))
    );
    let nothing = committed(&mut client, "pickers", 1, false).await;
    assert_eq!((nothing.error_code, nothing.committed_offset), (0, -1));
    assert_eq!(
        (nothing.committed_leader_epoch, nothing.metadata.as_deref()),
        (-1, Some(""))
    );
}

#[tokio::test]
async fn a_consumer_without_a_group_commits_under_the_empty_name() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    assert_eq!(commit(&mut client, 8, &commit_request("", 0, 5)).await, 0);
    let broker = broker.restart(QUICK).await;
    let mut client = KafkaClient::connect(&broker).await;
    let found = committed(&mut client, "", 0, false).await;
    assert_eq!((found.error_code, found.committed_offset), (0, 5));
    broker.stop().await;
}

#[tokio::test]
async fn trap_27_a_commit_needs_its_member_its_partition_and_a_text_that_is_not_too_long() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 2, &[]).await;
    let mut member = Member::new(&broker, "pickers").await;
    member.settle_alone(&[0, 1]).await;
    assert_eq!(member.commit(0, 5).await, 0);
    let generation = member.generation;
    member.generation = generation + 1;
    assert_eq!(
        member.commit(0, 6).await,
        code(ErrorCode::IllegalGeneration)
    );
    member.generation = generation;

    let mut client = KafkaClient::connect(&broker).await;
    let outside = commit_request("pickers", 0, 6);
    assert_eq!(
        commit(&mut client, 9, &outside).await,
        code(ErrorCode::UnknownMemberId)
    );
    let missing = commit_request("others", 2, 6);
    assert_eq!(
        commit(&mut client, 9, &missing).await,
        code(ErrorCode::UnknownTopicOrPartition)
    );
    let mut long = commit_request("others", 1, 6);
    long.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097).into());
    assert_eq!(
        commit(&mut client, 9, &long).await,
        code(ErrorCode::OffsetMetadataTooLarge)
    );
    let mut member_of_nothing = commit_request("others", 1, 6);
    member_of_nothing.generation_id_or_member_epoch = 3;
    member_of_nothing.member_id = "x".into();
    for (version, expected) in [
        (8, ErrorCode::IllegalGeneration),
        (9, ErrorCode::GroupIdNotFound),
    ] {
        assert_eq!(
            commit(&mut client, version, &member_of_nothing).await,
            code(expected)
        );
    }
    assert_eq!(
        committed(&mut client, "pickers", 0, false)
            .await
            .committed_offset,
        5
    );

    assert_eq!(member.leave().await, 0);
    assert_eq!(
        commit(&mut client, 9, &outside).await,
        0,
        "now the group is empty"
    );
    assert_eq!(
        committed(&mut client, "pickers", 0, false)
            .await
            .committed_offset,
        6
    );
}

#[tokio::test]
async fn offsets_are_read_by_one_group_or_many_by_name_or_all() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 3, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    for (group, partition) in [("a", 0), ("a", 2), ("b", 1)] {
        let request = commit_request(group, partition, i64::from(partition) + 10);
        assert_eq!(commit(&mut client, 9, &request).await, 0);
    }
    for version in 1..=7 {
        let request = OffsetFetchRequest {
            group_id: "a".into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "orders".into(),
                partition_indexes: vec![2, 1],
            }]),
            ..OffsetFetchRequest::default()
        };
        let response = client.call(version, &request).await;
        let told = response.topics[0].partitions.iter();
        let told: Vec<(i32, i64)> = told
            .map(|p| (p.partition_index, p.committed_offset))
            .collect();
        assert_eq!(
            (response.error_code, told),
            (0, vec![(2, 12), (1, -1)]),
            "{version}"
        );
    }
    let all = |group_id: &str| OffsetFetchRequestGroup {
        group_id: group_id.into(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    for version in 8..=9 {
        let request = OffsetFetchRequest {
            groups: vec![all("b"), all("a"), all("nobody")],
            ..OffsetFetchRequest::default()
        };
        let response = client.call(version, &request).await;
        let told = response.groups.iter().map(|group| {
            let topics = group.topics.iter().flat_map(|topic| &topic.partitions);
            let partitions: Vec<i32> = topics.map(|p| p.partition_index).collect();
            (group.group_id.to_string(), group.error_code, partitions)
        });
        let expected = [
            ("b".to_owned(), 0, vec![1]),
            ("a".to_owned(), 0, vec![0, 2]),
            ("nobody".to_owned(), 0, vec![]),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
    let old = OffsetFetchRequest {
        group_id: "a".into(),
        topics: None,
        ..OffsetFetchRequest::default()
    };
    let response = client.call(5, &old).await;
    assert_eq!(response.topics[0].partitions.len(), 2);
}

#[tokio::test]
async fn topics_may_be_named_by_id() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let request: MetadataRequest = metadata_request(&["orders"]);
    let id = client.call(12, &request).await.topics[0].topic_id;
    let unknown = uuid::Uuid::from_u128(99);
    let mut request = commit_request("pickers", 1, 8);
    request.topics[0].topic_id = id;
    request.topics.insert(
        0,
        OffsetCommitRequestTopic {
            topic_id: unknown,
            ..request.topics[0].clone()
        },
    );
    let response = client.call::<OffsetCommitRequest>(10, &request).await;
    let told = response
        .topics
        .iter()
        .map(|t| (t.topic_id, t.partitions[0].error_code));
    let expected = [(unknown, code(ErrorCode::UnknownTopicId)), (id, 0)];
    assert_eq!(told.collect::<Vec<_>>(), expected);

    let topics = [unknown, id].map(|topic_id| OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![1],
        ..OffsetFetchRequestTopics::default()
    });
    for topics in [Some(topics.to_vec()), None] {
        let is_all = topics.is_none();
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: "pickers".into(),
                topics,
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        };
        let response = client.call(10, &request).await;
        let told = &response.groups[0].topics;
        let last = told.last().unwrap();
        assert_eq!(
            (last.topic_id, last.partitions[0].committed_offset),
            (id, 8)
        );
        if !is_all {
            assert_eq!(
                told[0].partitions[0].error_code,
                code(ErrorCode::UnknownTopicId)
            );
        }
    }
}

#[tokio::test]
async fn offsets_in_use_are_not_deleted_and_others_are() {
    let broker = TestBroker::start_with(QUICK).await;
    for topic in ["orders", "waves"] {
        broker.create_topic(topic, 1, &[]).await;
    }
    let mut member = Member::new(&broker, "pickers").await;
    member.settle_alone(&[0]).await;
    assert_eq!(member.commit(0, 5).await, 0);
    let request = OffsetDeleteRequest {
        group_id: "pickers".into(),
        topics: ["orders", "waves", "none"]
            .map(|name| OffsetDeleteRequestTopic {
                name: name.into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
            })
            .to_vec(),
    };
    let told = |response: conveyor_kafka::messages::offset_delete::OffsetDeleteResponse| {
        assert_eq!(response.error_code, 0);
        let topics = response.topics.into_iter();
        topics
            .map(|topic| topic.partitions[0].error_code)
            .collect::<Vec<_>>()
    };
    let missing = code(ErrorCode::UnknownTopicOrPartition);
    let busy = member.client.call(0, &request).await;
    assert_eq!(
        told(busy),
        [code(ErrorCode::GroupSubscribedToTopic), 0, missing]
    );
    assert_eq!(member.leave().await, 0);
    let gone = member.client.call(0, &request).await;
    assert_eq!(told(gone), [0, 0, missing]);
    assert_eq!(
        committed(&mut member.client, "pickers", 0, false)
            .await
            .committed_offset,
        -1
    );
    let request = OffsetDeleteRequest {
        group_id: "nobody".into(),
        ..request
    };
    let response = member.client.call(0, &request).await;
    assert_eq!(response.error_code, code(ErrorCode::GroupIdNotFound));
}
