//! Classic groups over real sockets: find the coordinator, join, sync, heartbeat, leave, and what
//! administrators see of them.

use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;
use conveyor_grpc::v1::group_service_client::GroupServiceClient;
use conveyor_kafka::messages::delete_groups::DeleteGroupsRequest;
use conveyor_kafka::messages::describe_groups::DescribeGroupsRequest;
use conveyor_kafka::messages::find_coordinator::FindCoordinatorRequest;
use conveyor_kafka::messages::heartbeat::HeartbeatRequest;
use conveyor_kafka::messages::join_group::JoinGroupRequest;
use conveyor_kafka::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use conveyor_kafka::messages::list_groups::ListGroupsRequest;

use crate::client::{KafkaClient, code};
use crate::harness::TestBroker;
use crate::members::{Member, QUICK, assignment, subscription};

#[tokio::test]
async fn the_coordinator_is_found_in_every_version_and_its_topic_made() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let (_, address) = broker.broker.kafka_addresses().remove(0);
    for version in 0..=3 {
        let request = FindCoordinatorRequest {
            key: "pickers".into(),
            ..FindCoordinatorRequest::default()
        };
        let found = client.call(version, &request).await;
        assert_eq!((found.error_code, found.node_id), (0, 1), "{version}");
        assert_eq!(found.port, i32::from(address.port()));
    }
    for version in 4..=5 {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec!["pickers".into(), "packers".into()],
            ..FindCoordinatorRequest::default()
        };
        let found = client.call(version, &request).await;
        let keys: Vec<&str> = found.coordinators.iter().map(|one| &*one.key).collect();
        assert_eq!(keys, ["pickers", "packers"]);
        assert!(found.coordinators.iter().all(|one| one.error_code == 0));
        let request = FindCoordinatorRequest {
            key_type: 9,
            ..request
        };
        let refused = client.call(version, &request).await;
        assert_eq!(
            refused.coordinators[0].error_code,
            code(ErrorCode::InvalidRequest)
        );
    }
    let topics = client.metadata(9, &["__consumer_offsets"]).await.topics;
    assert_eq!((topics[0].error_code, topics[0].is_internal), (0, true));
}

#[tokio::test]
async fn trap_23_versions_join_as_they_know() {
    let broker = TestBroker::start_with(QUICK).await;
    for version in 0..=9 {
        let mut member = Member::new(&broker, &format!("group-{version}")).await;
        let first = member.join_once(version).await;
        if version >= 4 {
            assert_eq!(
                first.error_code,
                code(ErrorCode::MemberIdRequired),
                "{version}"
            );
            assert!(!first.member_id.is_empty());
            assert_eq!(first.generation_id, -1);
        }
        let joined = if version >= 4 {
            member.join_once(version).await
        } else {
            first
        };
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (0, 1),
            "{version}"
        );
        assert_eq!(joined.leader, joined.member_id);
        assert!(
            joined.member_id.starts_with("raw-"),
            "it has the client's name"
        );
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, subscription("orders"));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    }
}

#[tokio::test]
async fn two_members_get_what_the_leader_assigned_and_rebalance_when_one_leaves() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 4, &[]).await;
    let mut leader = Member::new(&broker, "pickers").await;
    let mut other = Member::new(&broker, "pickers").await;
    leader.join_once(9).await;
    other.join_once(9).await;
    leader.begin_join().await;
    other.begin_join().await;
    let joined = leader.end_join().await;
    let also = other.end_join().await;
    assert_eq!((joined.error_code, also.error_code), (0, 0));
    assert_eq!(joined.generation_id, also.generation_id);
    assert_eq!(
        (joined.leader.clone(), 2),
        (also.leader, joined.members.len().max(also.members.len()))
    );
    let (mut leader, mut other) = if joined.leader.as_str() == leader.member_id {
        (leader, other)
    } else {
        (other, leader)
    };

    let waits = other.sync_request(&[]);
    other.client.send(5, &waits).await;
    assert!(other.client.is_silent(Duration::from_millis(100)).await);
    let (own, others) = (leader.member_id.clone(), other.member_id.clone());
    let parts = [
        (own.as_str(), assignment("orders", &[0, 1])),
        (others.as_str(), assignment("orders", &[2, 3])),
    ];
    let synced = leader.sync(&parts).await;
    assert_eq!(
        (synced.error_code, synced.assignment),
        (0, assignment("orders", &[0, 1]))
    );
    assert_eq!(synced.protocol_name.as_deref(), Some("range"));
    let (_, synced) = other
        .client
        .receive::<conveyor_kafka::messages::sync_group::SyncGroupRequest>(5)
        .await;
    assert_eq!(
        (synced.error_code, synced.assignment),
        (0, assignment("orders", &[2, 3]))
    );
    assert_eq!((leader.beat().await, other.beat().await), (0, 0));

    assert_eq!(leader.leave().await, 0);
    assert_eq!(other.beat().await, code(ErrorCode::RebalanceInProgress));
    let joined = other.join().await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(leader.beat().await, code(ErrorCode::UnknownMemberId));
}

#[tokio::test]
async fn trap_24_a_static_member_survives_a_restart_of_its_process_and_of_the_node() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 2, &[]).await;
    let mut first = Member::fixed(&broker, "pickers", "shelf-1").await;
    first.settle_alone(&[0, 1]).await;

    let mut second = Member::fixed(&broker, "pickers", "shelf-1").await;
    let joined = second.join().await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert!(
        joined.skip_assignment,
        "it leads, and is to leave the assignment"
    );
    let synced = second.sync(&[]).await;
    assert_eq!(
        (synced.error_code, synced.assignment),
        (0, assignment("orders", &[0, 1]))
    );
    assert_eq!(first.beat().await, code(ErrorCode::FencedInstanceId));

    let broker = broker.restart(QUICK).await;
    second.client = KafkaClient::connect(&broker).await;
    assert_eq!(second.beat().await, 0);
    let synced = second.sync(&[]).await;
    assert_eq!(
        (synced.error_code, synced.assignment),
        (0, assignment("orders", &[0, 1]))
    );
    first.client = KafkaClient::connect(&broker).await;
    assert_eq!(first.beat().await, code(ErrorCode::FencedInstanceId));

    // An operator puts it out by its instance id.
    let request = LeaveGroupRequest {
        group_id: "pickers".into(),
        members: vec![
            MemberIdentity {
                group_instance_id: Some("shelf-1".into()),
                ..MemberIdentity::default()
            },
            MemberIdentity {
                group_instance_id: Some("shelf-2".into()),
                ..MemberIdentity::default()
            },
        ],
        ..LeaveGroupRequest::default()
    };
    let left = second.client.call(3, &request).await;
    let codes: Vec<i16> = left
        .members
        .iter()
        .map(|member| member.error_code)
        .collect();
    assert_eq!(codes, [0, code(ErrorCode::UnknownMemberId)]);
    assert_eq!(second.beat().await, code(ErrorCode::UnknownMemberId));
}

#[tokio::test]
async fn trap_25_a_silent_member_is_put_out_and_the_others_go_on() {
    let broker = TestBroker::start_with(QUICK).await;
    let mut gone = Member::new(&broker, "pickers").await;
    gone.session_timeout_ms = 300;
    let mut stays = Member::new(&broker, "pickers").await;
    gone.join_once(9).await;
    stays.join_once(9).await;
    gone.begin_join().await;
    stays.begin_join().await;
    assert_eq!(gone.end_join().await.error_code, 0);
    assert_eq!(stays.end_join().await.error_code, 0);
    // Neither syncs; the one with the short session is not heard of again.
    let deadline = tokio::time::Instant::now() + crate::harness::PATIENCE;
    while stays.beat().await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody is put out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let joined = stays.join().await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(gone.beat().await, code(ErrorCode::UnknownMemberId));
}

#[tokio::test]
async fn trap_26_a_client_that_comes_in_the_middle_of_it_is_never_unknown() {
    let broker = TestBroker::start_with(QUICK).await;
    let mut members = Vec::new();
    for _ in 0..6 {
        members.push(Member::new(&broker, "crowd").await);
    }
    // All at once, each through both steps: nobody may be told that its fresh id is not known.
    let joining = members.into_iter().map(|mut member| {
        tokio::spawn(async move {
            let mut joined = member.join().await;
            while joined.error_code == code(ErrorCode::RebalanceInProgress) {
                joined = member.join().await;
            }
            (joined.error_code, joined.generation_id)
        })
    });
    for joined in joining.collect::<Vec<_>>() {
        let (error_code, generation) = joined.await.unwrap();
        assert_eq!(error_code, 0);
        assert!(generation >= 1);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_kafkas_codes() {
    let broker = TestBroker::start_with(QUICK).await;
    let mut member = Member::new(&broker, "pickers").await;
    member.settle_alone(&[]).await;
    let mut client = KafkaClient::connect(&broker).await;

    let good = Member::new(&broker, "pickers").await.join_request();
    let refused = [
        (
            JoinGroupRequest {
                group_id: "".into(),
                ..good.clone()
            },
            ErrorCode::InvalidGroupId,
        ),
        (
            JoinGroupRequest {
                session_timeout_ms: 1,
                ..good.clone()
            },
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            JoinGroupRequest {
                member_id: "x".into(),
                ..good.clone()
            },
            ErrorCode::UnknownMemberId,
        ),
        (
            JoinGroupRequest {
                protocol_type: "connect".into(),
                ..good.clone()
            },
            ErrorCode::InconsistentGroupProtocol,
        ),
    ];
    for (request, expected) in refused {
        for version in [0, 5, 9] {
            let response = client.call(version, &request).await;
            assert_eq!(response.error_code, code(expected), "{version}");
            assert_eq!(response.generation_id, -1);
        }
    }
    let unknown = HeartbeatRequest {
        group_id: "nobody".into(),
        member_id: "x".into(),
        ..HeartbeatRequest::default()
    };
    for version in 0..=4 {
        let response = client.call(version, &unknown).await;
        assert_eq!(response.error_code, code(ErrorCode::UnknownMemberId));
    }
    let leave = LeaveGroupRequest {
        group_id: "pickers".into(),
        member_id: "x".into(),
        ..LeaveGroupRequest::default()
    };
    for version in 0..=2 {
        let response = client.call(version, &leave).await;
        assert_eq!(response.error_code, code(ErrorCode::UnknownMemberId));
    }
    let mut request = member.sync_request(&[]);
    request.protocol_name = None;
    let response = member.client.call(5, &request).await;
    assert_eq!(
        response.error_code,
        code(ErrorCode::InconsistentGroupProtocol)
    );
    request.generation_id += 1;
    let response = member.client.call(4, &request).await;
    assert_eq!(response.error_code, code(ErrorCode::IllegalGeneration));
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted() {
    let broker = TestBroker::start_with(QUICK).await;
    broker.create_topic("orders", 2, &[]).await;
    let mut member = Member::fixed(&broker, "pickers", "shelf-1").await;
    member.settle_alone(&[0, 1]).await;
    let mut client = KafkaClient::connect(&broker).await;

    for version in 0..=5 {
        let listed = client.call(version, &ListGroupsRequest::default()).await;
        assert_eq!((listed.error_code, listed.groups.len()), (0, 1));
        assert_eq!(listed.groups[0].group_id.as_str(), "pickers");
        assert_eq!(listed.groups[0].protocol_type.as_str(), "consumer");
        if version >= 5 {
            assert_eq!(listed.groups[0].group_state.as_str(), "Stable");
            assert_eq!(listed.groups[0].group_type.as_str(), "classic");
        }
    }
    let filtered = |states: &[&str], types: &[&str]| ListGroupsRequest {
        states_filter: states.iter().map(|&state| state.into()).collect(),
        types_filter: types.iter().map(|&kind| kind.into()).collect(),
    };
    for (request, count) in [
        (filtered(&["stable"], &["classic"]), 1),
        (filtered(&["Empty"], &[]), 0),
        (filtered(&[], &["consumer"]), 0),
    ] {
        assert_eq!(client.call(5, &request).await.groups.len(), count);
    }

    let request = DescribeGroupsRequest {
        groups: vec!["pickers".into(), "nobody".into()],
        ..DescribeGroupsRequest::default()
    };
    for version in 0..=6 {
        let described = client.call(version, &request).await;
        let group = &described.groups[0];
        assert_eq!(group.group_state.as_str(), "Stable");
        assert_eq!(
            (&*group.protocol_type, &*group.protocol_data),
            ("consumer", "range")
        );
        let only = &group.members[0];
        assert_eq!(only.member_id.as_str(), member.member_id);
        assert_eq!(
            (&*only.client_id, &*only.client_host),
            ("raw", "/127.0.0.1")
        );
        assert_eq!(only.member_metadata, subscription("orders"));
        assert_eq!(only.member_assignment, assignment("orders", &[0, 1]));
        let nobody = &described.groups[1];
        assert_eq!(nobody.group_state.as_str(), "Dead");
        let expected = if version >= 6 {
            code(ErrorCode::GroupIdNotFound)
        } else {
            0
        };
        assert_eq!(nobody.error_code, expected);
        assert_eq!(nobody.error_message.is_some(), version >= 6);
    }
    let request = DescribeGroupsRequest {
        include_authorized_operations: true,
        ..request
    };
    let described = client.call(6, &request).await;
    assert_eq!(
        described.groups[0].authorized_operations,
        1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
    );

    // Operators see it through the other API, too, its assignment decoded.
    let address = format!("http://{}", broker.broker.grpc_address());
    let mut grpc = GroupServiceClient::connect(address).await.unwrap();
    let request = v1::DescribeGroupsRequest {
        group_ids: vec!["pickers".into()],
    };
    let told = grpc.describe_groups(request).await.unwrap().into_inner();
    let group = &told.groups[0];
    assert_eq!(
        (group.r#type.as_str(), group.protocol_type.as_str()),
        ("classic", "consumer")
    );
    assert_eq!((group.group_epoch, group.assignor.as_str()), (1, "range"));
    assert_eq!(group.members[0].instance_id, "shelf-1");
    assert_eq!(group.members[0].subscribed_topics, ["orders"]);
    let owned = &group.members[0].assignment.as_ref().unwrap().topics[0];
    assert_eq!(
        (owned.topic.as_str(), &owned.partitions[..]),
        ("orders", &[0, 1][..])
    );
    assert!(
        group
            .lag
            .iter()
            .all(|lag| lag.member_id == member.member_id)
    );

    let request = DeleteGroupsRequest {
        groups_names: vec!["pickers".into(), "nobody".into()],
    };
    let codes = |response: &conveyor_kafka::messages::delete_groups::DeleteGroupsResponse| {
        let codes = response.results.iter().map(|result| result.error_code);
        codes.collect::<Vec<_>>()
    };
    let busy = client.call(2, &request).await;
    assert_eq!(
        codes(&busy),
        [
            code(ErrorCode::NonEmptyGroup),
            code(ErrorCode::GroupIdNotFound)
        ]
    );
    assert_eq!(member.leave().await, 0);
    assert_eq!(codes(&client.call(0, &request).await)[0], 0);
    assert!(
        client
            .call(5, &ListGroupsRequest::default())
            .await
            .groups
            .is_empty()
    );
}
