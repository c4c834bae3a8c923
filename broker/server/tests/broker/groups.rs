//! Consumer groups: members over real sockets, each on a connection of its own.

use std::time::Duration;

use conveyor_grpc::v1::group_service_client::GroupServiceClient;
use conveyor_grpc::{ErrorCode, v1};
use conveyor_log::disk::SimDisk;
use conveyor_server::Parts;
use tonic::transport::Channel;

use crate::harness::{BatchSpec, PATIENCE, TestBroker, batch_with, now_ms};

/// A member, as a client library would keep it.
#[allow(clippy::struct_field_names, reason = "the contract's names")]
struct Member {
    client: GroupServiceClient<Channel>,
    group_id: String,
    member_id: String,
    instance_id: String,
    topics: Vec<String>,
    epoch: i32,
    owned: Vec<v1::AssignedTopic>,
}

async fn connect(broker: &TestBroker) -> GroupServiceClient<Channel> {
    let address = format!("http://{}", broker.broker.grpc_address());
    let channel = Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    GroupServiceClient::new(channel)
}

impl Member {
    async fn new(broker: &TestBroker, group_id: &str, member_id: &str, topics: &[&str]) -> Self {
        Self {
            client: connect(broker).await,
            group_id: group_id.into(),
            member_id: member_id.into(),
            instance_id: String::new(),
            topics: topics.iter().map(|&topic| topic.into()).collect(),
            epoch: 0,
            owned: Vec::new(),
        }
    }

    /// The same member after its node has come back elsewhere.
    async fn reconnected(self, broker: &TestBroker) -> Self {
        Self {
            client: connect(broker).await,
            ..self
        }
    }

    async fn beat_with_epoch(&mut self, epoch: i32) -> v1::ConsumerGroupHeartbeatResponse {
        let joins = epoch == 0;
        let request = v1::ConsumerGroupHeartbeatRequest {
            group_id: self.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: epoch,
            instance_id: self.instance_id.clone(),
            rebalance_timeout_ms: if joins { 10_000 } else { -1 },
            subscribed_topics: joins.then(|| v1::TopicNames {
                names: self.topics.clone(),
            }),
            owned: Some(v1::Assignment {
                topics: self.owned.clone(),
            }),
            ..Default::default()
        };
        self.client
            .consumer_group_heartbeat(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Tells what it owns, takes what it is given.
    async fn beat(&mut self) {
        let response = self.beat_with_epoch(self.epoch).await;
        assert_eq!(response.error_code, 0, "{}", response.error_message);
        self.epoch = response.member_epoch;
        if let Some(assignment) = response.assignment {
            self.owned = assignment.topics;
        }
    }

    async fn leave(&mut self, epoch: i32) {
        let response = self.beat_with_epoch(epoch).await;
        assert_eq!(response.error_code, 0, "{}", response.error_message);
        self.owned.clear();
        self.epoch = 0;
    }

    fn count(&self) -> usize {
        self.owned.iter().map(|topic| topic.partitions.len()).sum()
    }

    fn partitions(&self) -> Vec<i32> {
        self.owned
            .iter()
            .flat_map(|topic| topic.partitions.clone())
            .collect()
    }

    async fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> ErrorCode {
        let (member_id, epoch) = (self.member_id.clone(), self.epoch);
        commit(
            &mut self.client,
            &self.group_id,
            (&member_id, epoch),
            topic,
            partition,
            offset,
        )
        .await
    }
}

async fn commit(
    client: &mut GroupServiceClient<Channel>,
    group_id: &str,
    (member_id, member_epoch): (&str, i32),
    topic: &str,
    partition: i32,
    offset: i64,
) -> ErrorCode {
    let offset = v1::OffsetToCommit {
        topic: topic.into(),
        partition,
        offset,
        leader_epoch: 5,
        metadata: format!("at {offset}"),
    };
    let request = v1::CommitOffsetsRequest {
        group_id: group_id.into(),
        member_id: member_id.into(),
        member_epoch,
        offsets: vec![offset],
    };
    let response = client.commit_offsets(request).await.unwrap().into_inner();
    ErrorCode::from_code(response.results[0].error_code)
}

async fn committed(
    client: &mut GroupServiceClient<Channel>,
    group_id: &str,
) -> Vec<(String, i32, i64, i32, String)> {
    let request = v1::FetchOffsetsRequest {
        group_id: group_id.into(),
        member_epoch: -1,
        ..Default::default()
    };
    let response = client.fetch_offsets(request).await.unwrap().into_inner();
    assert_eq!(response.error_code, 0, "{}", response.error_message);
    response
        .offsets
        .into_iter()
        .map(|o| (o.topic, o.partition, o.offset, o.leader_epoch, o.metadata))
        .collect()
}

async fn describe(client: &mut GroupServiceClient<Channel>, group_id: &str) -> v1::DescribedGroup {
    let request = v1::DescribeGroupsRequest {
        group_ids: vec![group_id.into()],
    };
    client
        .describe_groups(request)
        .await
        .unwrap()
        .into_inner()
        .groups
        .remove(0)
}

/// Beats both until they share everything of a topic.
async fn share(one: &mut Member, other: &mut Member, partitions: usize) {
    for _ in 0..6 {
        one.beat().await;
        other.beat().await;
        let both = [one.partitions(), other.partitions()].concat();
        let mut distinct = both.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(
            both.len(),
            distinct.len(),
            "a partition has two owners: {both:?}"
        );
        if both.len() == partitions && one.count().abs_diff(other.count()) <= 1 {
            return;
        }
    }
    panic!("no agreement: {:?} {:?}", one.owned, other.owned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_a_topic_and_hand_over_step_by_step() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 4, &[]).await;
    let mut one = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    let mut two = Member::new(&broker, "billing", "m-2", &["orders"]).await;
    one.beat().await;
    assert_eq!((one.count(), one.owned[0].topic.as_str()), (4, "orders"));
    two.beat().await;
    assert_eq!(two.count(), 0, "nothing is given before it was given up");
    share(&mut one, &mut two, 4).await;
    let group = describe(&mut one.client, "billing").await;
    assert_eq!(
        (group.state.as_str(), group.assignor.as_str()),
        ("Stable", "uniform")
    );
    assert_eq!(group.members.len(), 2);
    assert_eq!(group.members[0].client_host, "127.0.0.1");
    assert_eq!(
        group.members[0].assignment,
        group.members[0].target_assignment
    );

    one.leave(-1).await;
    two.beat().await;
    assert_eq!(two.count(), 4, "who stays takes over at once");
    assert_eq!(
        ErrorCode::from_code(one.beat_with_epoch(3).await.error_code),
        ErrorCode::UnknownMemberId
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_needs_the_members_epoch_and_a_partition_that_exists() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    let mut member = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    assert_eq!(
        member.commit("orders", 0, 1).await,
        ErrorCode::GroupIdNotFound
    );
    member.beat().await;
    assert_eq!(member.commit("orders", 0, 7).await, ErrorCode::None);
    assert_eq!(
        member.commit("orders", 2, 7).await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        member.commit("none", 0, 7).await,
        ErrorCode::UnknownTopicOrPartition
    );
    let epoch = std::mem::replace(&mut member.epoch, 99);
    assert_eq!(
        member.commit("orders", 0, 8).await,
        ErrorCode::StaleMemberEpoch
    );
    assert_eq!(
        ErrorCode::from_code(member.beat_with_epoch(99).await.error_code),
        ErrorCode::FencedMemberEpoch
    );
    let outside = commit(&mut member.client, "billing", ("", -1), "orders", 0, 0).await;
    assert_eq!(
        outside,
        ErrorCode::UnknownMemberId,
        "the group has a member"
    );
    assert_eq!(
        committed(&mut member.client, "billing").await,
        [("orders".into(), 0, 7, 5, "at 7".into())]
    );

    member.epoch = epoch;
    member.leave(-1).await;
    let outside = commit(&mut member.client, "billing", ("", -1), "orders", 0, 0).await;
    assert_eq!(
        outside,
        ErrorCode::None,
        "a reset of a group that nobody is in"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_offsets_are_there_after_a_restart() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 4, &[]).await;
    let mut one = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    let mut two = Member::new(&broker, "billing", "m-2", &["orders"]).await;
    share(&mut one, &mut two, 4).await;
    for round in 0..20 {
        let partition = one.partitions()[0];
        assert_eq!(
            one.commit("orders", partition, round).await,
            ErrorCode::None
        );
    }
    let (epoch, partitions) = (one.epoch, one.partitions());

    let broker = broker.restart(&[]).await;
    let mut one = one.reconnected(&broker).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let response = one.beat_with_epoch(epoch).await;
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => {
                assert_eq!(
                    response.member_epoch, epoch,
                    "nobody rebalances for a restart"
                );
                break;
            }
            ErrorCode::CoordinatorLoadInProgress if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => panic!("{other:?}: {}", response.error_message),
        }
    }
    assert_eq!(one.partitions(), partitions);
    assert_eq!(
        committed(&mut one.client, "billing").await,
        [("orders".into(), partitions[0], 19, 5, "at 19".into())]
    );
    assert_eq!(
        one.commit("orders", partitions[0], 20).await,
        ErrorCode::None
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_member_loses_its_partitions_to_the_others() {
    let broker = TestBroker::start_with(&[
        ("group.consumer.session.timeout.ms", "600"),
        ("group.consumer.heartbeat.interval.ms", "100"),
    ])
    .await;
    broker.create_topic("orders", 4, &[]).await;
    let mut one = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    let mut two = Member::new(&broker, "billing", "m-2", &["orders"]).await;
    share(&mut one, &mut two, 4).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while two.count() < 4 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the silent member is still there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        two.beat().await;
    }
    let response = one.beat_with_epoch(one.epoch).await;
    assert_eq!(
        ErrorCode::from_code(response.error_code),
        ErrorCode::UnknownMemberId
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_comes_back_to_its_partitions_without_a_rebalance() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 4, &[]).await;
    let mut one = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    one.instance_id = "picker-7".into();
    let mut two = Member::new(&broker, "billing", "m-2", &["orders"]).await;
    share(&mut one, &mut two, 4).await;
    let (mine, others_epoch) = (one.partitions(), two.epoch);
    let mut again = Member::new(&broker, "billing", "m-3", &["orders"]).await;
    again.instance_id = "picker-7".into();
    let refused = again.beat_with_epoch(0).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::UnreleasedInstanceId
    );

    let epoch = one.epoch;
    one.leave(-2).await;
    again.beat().await;
    two.beat().await;
    assert_eq!((again.partitions(), two.epoch), (mine, others_epoch));
    let fenced = one.beat_with_epoch(epoch).await;
    assert_eq!(
        ErrorCode::from_code(fenced.error_code),
        ErrorCode::FencedInstanceId
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_told_in_records_and_in_seconds() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    let at = |timestamp_ms| BatchSpec {
        timestamp_ms,
        ..BatchSpec::default()
    };
    let now = now_ms();
    broker
        .produce("orders", 0, batch_with(&["a", "b"], at(now - 60_000)))
        .await;
    broker
        .produce("orders", 0, batch_with(&["c"], at(now - 30_000)))
        .await;
    let mut member = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    member.beat().await;
    assert_eq!(member.commit("orders", 0, 2).await, ErrorCode::None);
    let group = describe(&mut member.client, "billing").await;
    let (behind, unread) = (&group.lag[0], &group.lag[1]);
    assert_eq!(
        (
            behind.committed_offset,
            behind.end_offset,
            behind.lag_records
        ),
        (2, 3, 1)
    );
    assert!(
        (30.0..50.0).contains(&behind.lag_seconds),
        "{}",
        behind.lag_seconds
    );
    assert_eq!(
        (behind.member_id.as_str(), behind.metadata.as_str()),
        ("m-1", "at 2")
    );
    assert_eq!((unread.committed_offset, unread.lag_records), (-1, -1));

    assert_eq!(member.commit("orders", 0, 3).await, ErrorCode::None);
    let group = describe(&mut member.client, "billing").await;
    assert_eq!(
        (group.lag[0].lag_records, group.lag[0].lag_seconds),
        (0, 0.0)
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_listed_described_and_deleted() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    broker.create_topic("old", 1, &[]).await;
    let mut client = connect(&broker).await;
    let nobody = describe(&mut client, "billing").await;
    assert_eq!(
        ErrorCode::from_code(nobody.error_code),
        ErrorCode::GroupIdNotFound
    );
    assert_eq!(nobody.state, "Dead");
    assert_eq!(
        commit(&mut client, "reports", ("", -1), "old", 0, 3).await,
        ErrorCode::None
    );
    assert_eq!(
        commit(&mut client, "billing", ("", -1), "old", 0, 3).await,
        ErrorCode::None
    );
    let mut member = Member::new(&broker, "billing", "m-1", &["orders"]).await;
    member.beat().await;
    assert_eq!(member.commit("orders", 0, 3).await, ErrorCode::None);

    let listed = client
        .list_groups(v1::ListGroupsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let listed: Vec<_> = listed
        .groups
        .into_iter()
        .map(|g| (g.group_id, g.state))
        .collect();
    assert_eq!(
        listed,
        [
            ("billing".into(), "Stable".into()),
            ("reports".into(), "Empty".into())
        ]
    );
    let stable = v1::ListGroupsRequest {
        states: vec!["stable".into()],
    };
    assert_eq!(
        client
            .list_groups(stable)
            .await
            .unwrap()
            .into_inner()
            .groups
            .len(),
        1
    );

    let place = |topic: &str| v1::TopicPartition {
        topic: topic.into(),
        partition: 0,
    };
    let request = v1::DeleteOffsetsRequest {
        group_id: "billing".into(),
        partitions: vec![place("orders"), place("old")],
    };
    let deleted = client.delete_offsets(request).await.unwrap().into_inner();
    let codes: Vec<_> = deleted
        .results
        .iter()
        .map(|result| ErrorCode::from_code(result.error_code))
        .collect();
    assert_eq!(codes, [ErrorCode::GroupSubscribedToTopic, ErrorCode::None]);
    assert_eq!(committed(&mut client, "billing").await.len(), 1);

    let request = v1::DeleteGroupsRequest {
        group_ids: vec!["billing".into(), "reports".into(), "none".into()],
    };
    let deleted = client.delete_groups(request).await.unwrap().into_inner();
    let codes: Vec<_> = deleted
        .results
        .iter()
        .map(|result| ErrorCode::from_code(result.error_code))
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::NonEmptyGroup,
            ErrorCode::None,
            ErrorCode::GroupIdNotFound
        ]
    );
    assert_eq!(committed(&mut client, "reports").await, []);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_starts_without_the_old_ones_offsets() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut client = connect(&broker).await;
    assert_eq!(
        commit(&mut client, "billing", ("", -1), "orders", 0, 3).await,
        ErrorCode::None
    );
    let request = v1::DeleteTopicsRequest {
        topics: vec!["orders".into()],
        ..Default::default()
    };
    broker.admin().delete_topics(request).await.unwrap();
    broker.create_topic("orders", 1, &[]).await;
    assert_eq!(committed(&mut client, "billing").await, []);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_at_a_time_are_all_there_after_a_restart() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 8, &[]).await;
    let client = connect(&broker).await;
    let commits = (0..200).map(|index| {
        let mut client = client.clone();
        async move {
            let group_id = format!("group-{}", index % 20);
            let code = commit(&mut client, &group_id, ("", -1), "orders", index / 25, 1).await;
            assert_eq!(code, ErrorCode::None);
        }
    });
    futures::future::join_all(commits).await;
    let mut before = Vec::new();
    let mut client = client;
    for index in 0..20 {
        before.push(committed(&mut client, &format!("group-{index}")).await);
    }
    assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 160);

    let broker = broker.restart(&[]).await;
    let mut client = connect(&broker).await;
    for (index, expected) in before.into_iter().enumerate() {
        let group_id = format!("group-{index}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while describe(&mut client, &group_id).await.error_code != 0 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{group_id} is not loaded"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(committed(&mut client, &group_id).await, expected);
    }
    broker.stop().await;
}

/// A node on a simulated disk, with offset 1 committed, and a connection to it.
async fn on_simulated_disk(disk: &SimDisk) -> (TestBroker, GroupServiceClient<Channel>) {
    let parts = Parts {
        disk: disk.shared(),
        ..Parts::default()
    };
    let broker = TestBroker::start_parts(tempfile::TempDir::new().unwrap(), &[], parts).await;
    broker.create_topic("orders", 1, &[]).await;
    let mut client = connect(&broker).await;
    let code = commit(&mut client, "billing", ("", -1), "orders", 0, 1).await;
    assert_eq!(code, ErrorCode::None);
    (broker, client)
}

/// Commits with so much text that it does not fit where little is left.
async fn commit_much(client: &mut GroupServiceClient<Channel>, offset: i64) -> ErrorCode {
    let offset = v1::OffsetToCommit {
        topic: "orders".into(),
        partition: 0,
        offset,
        leader_epoch: -1,
        metadata: "x".repeat(4_000),
    };
    let request = v1::CommitOffsetsRequest {
        group_id: "billing".into(),
        member_epoch: -1,
        offsets: vec![offset; 25],
        ..Default::default()
    };
    let response = client.commit_offsets(request).await.unwrap().into_inner();
    ErrorCode::from_code(response.results[0].error_code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_disk_did_not_take_is_not_committed() {
    let disk = SimDisk::new(3);
    let (broker, mut client) = on_simulated_disk(&disk).await;
    disk.set_capacity(Some(disk.used_bytes()));
    let code = commit_much(&mut client, 2).await;
    assert_eq!(code, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(committed(&mut client, "billing").await[0].2, 1);
    disk.set_capacity(None);
    assert_eq!(commit_much(&mut client, 3).await, ErrorCode::None);
    assert_eq!(committed(&mut client, "billing").await[0].2, 3);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_synced_is_neither_acknowledged_nor_shown() {
    let disk = SimDisk::new(4);
    let (broker, mut client) = on_simulated_disk(&disk).await;
    disk.fail_next_syncs(1);
    let code = commit(&mut client, "billing", ("", -1), "orders", 0, 2).await;
    assert_eq!(code, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(committed(&mut client, "billing").await[0].2, 1);
    let code = commit(&mut client, "billing", ("", -1), "orders", 0, 3).await;
    assert_eq!(code, ErrorCode::CoordinatorNotAvailable);
    assert!(
        broker.broker.shutdown().await.is_err(),
        "it cannot be closed in order"
    );
}
