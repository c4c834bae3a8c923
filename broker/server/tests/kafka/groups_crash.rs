//! Classic groups on a node that is killed again and again: members go on in their generation with
//! the assignment they had, and no acknowledged offset is ever gone.
//!
//! The node is this test binary, started once more as a process of its own.

use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use conveyor_kafka::messages::heartbeat::HeartbeatRequest;
use conveyor_kafka::messages::offset_commit::OffsetCommitRequest;
use tempfile::TempDir;

use crate::client::{KafkaClient, code};
use crate::harness::PATIENCE;
use crate::members::{Member, QUICK, assignment, commit_request, committed};
use crate::node_process::{self, NodeProcess};

const GROUPS: usize = 4;
const KILLS: usize = 4;

/// Not a test: the node that the test below starts and kills. Does nothing without its folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that another test starts"]
async fn node_process() {
    node_process::serve(QUICK, |broker| broker.kafka_addresses().remove(0).1).await;
}

/// Commits one offset after the other until the node is gone; what was acknowledged and what was
/// tried last.
async fn commit_until_killed(member: &mut Member, from: i64) -> (i64, i64) {
    let mut acknowledged = from;
    loop {
        let next = acknowledged + 1;
        let mut request = commit_request(&member.group_id, 0, next);
        request.member_id = member.member_id.as_str().into();
        request.generation_id_or_member_epoch = member.generation;
        let frame = member.client.frame(9, &request);
        let sent = tokio::io::AsyncWriteExt::write_all(&mut member.client.stream, &frame).await;
        let answer = match sent {
            Ok(()) => member.client.try_frame().await,
            Err(_) => None,
        };
        let Some(answer) = answer else {
            return (acknowledged, next);
        };
        let read = conveyor_kafka::frame::read_response::<OffsetCommitRequest>(9, answer);
        let (_, response) = read.unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
        acknowledged = next;
    }
}

/// A heartbeat in the generation it had is taken.
async fn go_on(member: &mut Member) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let request = HeartbeatRequest {
        group_id: member.group_id.as_str().into(),
        generation_id: member.generation,
        member_id: member.member_id.as_str().into(),
        ..HeartbeatRequest::default()
    };
    loop {
        let response = member.client.call(3, &request).await;
        if response.error_code == 0 {
            return;
        }
        assert_eq!(
            response.error_code,
            code(ErrorCode::CoordinatorLoadInProgress)
        );
        assert!(tokio::time::Instant::now() < deadline, "it loads for ever");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classic_groups_go_on_with_their_generation_and_offsets_after_each_sigkill() {
    let mut node = NodeProcess::start(TempDir::new().unwrap());
    let mut admin = KafkaClient::connect_to(node.address().await).await;
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "orders".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    assert_eq!(admin.call(5, &create).await.topics[0].error_code, 0);

    let mut members = Vec::new();
    for index in 0..GROUPS {
        let mut member = Member {
            client: KafkaClient::connect_to(node.address().await).await,
            group_id: format!("group-{index}"),
            member_id: String::new(),
            instance_id: None,
            generation: -1,
            session_timeout_ms: 60_000,
        };
        member.settle_alone(&[0]).await;
        members.push((member, 0_i64));
    }
    for kill in 0..KILLS {
        let committing = members.into_iter().map(|(mut member, offset)| {
            tokio::spawn(async move {
                let reached = commit_until_killed(&mut member, offset).await;
                (member, reached)
            })
        });
        let committing: Vec<_> = committing.collect();
        tokio::time::sleep(Duration::from_millis(100 + 50 * kill as u64)).await;
        node = NodeProcess::start(node.kill());
        let address = node.address().await;
        members = Vec::new();
        for done in committing {
            let (mut member, (acknowledged, tried)) = done.await.unwrap();
            assert!(acknowledged > 0, "nothing was committed before the kill");
            member.client = KafkaClient::connect_to(address).await;
            go_on(&mut member).await;
            let synced = member.sync(&[]).await;
            assert_eq!(
                (synced.error_code, synced.assignment),
                (0, assignment("orders", &[0]))
            );
            let group_id = member.group_id.clone();
            let found = committed(&mut member.client, &group_id, 0, true).await;
            assert!(
                (acknowledged..=tried).contains(&found.committed_offset),
                "{group_id}: {acknowledged} was acknowledged, {} is there",
                found.committed_offset
            );
            assert_eq!(found.metadata.as_deref(), Some("kept as it is"));
            members.push((member, found.committed_offset));
        }
    }
    drop(node.kill());
}
