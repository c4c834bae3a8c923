//! Members of classic groups for the tests: a connection each, as a client library would keep it.

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::heartbeat::HeartbeatRequest;
use conveyor_kafka::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use conveyor_kafka::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use conveyor_kafka::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use conveyor_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponsePartitions,
};
use conveyor_kafka::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};

use crate::client::{KafkaClient, code};
use crate::harness::TestBroker;

/// Short waits, so that tests are quick.
pub(crate) const QUICK: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "50"),
    ("group.min.session.timeout.ms", "100"),
];

/// A member of a classic group of consumers.
#[allow(
    clippy::struct_field_names,
    reason = "member.id is the protocol's name"
)]
pub(crate) struct Member {
    pub(crate) client: KafkaClient,
    pub(crate) group_id: String,
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
    pub(crate) session_timeout_ms: i32,
}

/// A consumer's subscription to one topic, version 0.
pub(crate) fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

/// A consumer's assignment of partitions of one topic, version 0.
pub(crate) fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&(partitions.len() as i32).to_be_bytes());
    for partition in partitions {
        bytes.extend_from_slice(&partition.to_be_bytes());
    }
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

impl Member {
    pub(crate) async fn new(broker: &TestBroker, group_id: &str) -> Self {
        Self {
            client: KafkaClient::connect(broker).await,
            group_id: group_id.into(),
            member_id: String::new(),
            instance_id: None,
            generation: -1,
            session_timeout_ms: 10_000,
        }
    }

    pub(crate) async fn fixed(broker: &TestBroker, group_id: &str, instance_id: &str) -> Self {
        Self {
            instance_id: Some(instance_id.into()),
            ..Self::new(broker, group_id).await
        }
    }

    pub(crate) fn join_request(&self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.group_id.as_str().into(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: 10_000,
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.instance_id.as_deref().map(Into::into),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: subscription("orders"),
            }],
            ..JoinGroupRequest::default()
        }
    }

    /// One join in some version, and its answer.
    pub(crate) async fn join_once(&mut self, version: i16) -> JoinGroupResponse {
        let request = self.join_request();
        let response = self.client.call(version, &request).await;
        self.take(&response);
        response
    }

    fn take(&mut self, response: &JoinGroupResponse) {
        if response.error_code == code(ErrorCode::None)
            || response.error_code == code(ErrorCode::MemberIdRequired)
        {
            self.member_id = response.member_id.to_string();
            self.generation = response.generation_id;
        }
    }

    /// Joins by the newest version, with an id first.
    pub(crate) async fn join(&mut self) -> JoinGroupResponse {
        let response = self.join_once(9).await;
        if response.error_code == code(ErrorCode::MemberIdRequired) {
            return self.join_once(9).await;
        }
        response
    }

    /// Sends a join that is answered when others have joined, too.
    pub(crate) async fn begin_join(&mut self) {
        let request = self.join_request();
        self.client.send(9, &request).await;
    }

    pub(crate) async fn end_join(&mut self) -> JoinGroupResponse {
        let (_, response) = self.client.receive::<JoinGroupRequest>(9).await;
        self.take(&response);
        response
    }

    pub(crate) fn sync_request(&self, parts: &[(&str, Bytes)]) -> SyncGroupRequest {
        let assignments = parts.iter().map(|(id, part)| SyncGroupRequestAssignment {
            member_id: (*id).into(),
            assignment: part.clone(),
        });
        SyncGroupRequest {
            group_id: self.group_id.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.instance_id.as_deref().map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments.collect(),
        }
    }

    pub(crate) async fn sync(&mut self, parts: &[(&str, Bytes)]) -> SyncGroupResponse {
        let request = self.sync_request(parts);
        self.client.call(5, &request).await
    }

    /// Joins a group that nobody else is in, and takes all of its topic.
    pub(crate) async fn settle_alone(&mut self, partitions: &[i32]) {
        let joined = self.join().await;
        assert_eq!(joined.error_code, 0);
        assert_eq!(joined.leader.as_str(), self.member_id);
        let own = self.member_id.clone();
        let part = assignment("orders", partitions);
        let synced = self.sync(&[(&own, part.clone())]).await;
        assert_eq!((synced.error_code, synced.assignment), (0, part));
    }

    pub(crate) async fn beat(&mut self) -> i16 {
        let request = HeartbeatRequest {
            group_id: self.group_id.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.instance_id.as_deref().map(Into::into),
        };
        self.client.call(4, &request).await.error_code
    }

    pub(crate) async fn leave(&mut self) -> i16 {
        let request = LeaveGroupRequest {
            group_id: self.group_id.as_str().into(),
            members: vec![MemberIdentity {
                member_id: self.member_id.as_str().into(),
                group_instance_id: self.instance_id.as_deref().map(Into::into),
                reason: Some("the test is over".into()),
            }],
            ..LeaveGroupRequest::default()
        };
        let response = self.client.call(5, &request).await;
        assert_eq!(response.error_code, 0);
        response.members[0].error_code
    }

    pub(crate) async fn commit(&mut self, partition: i32, offset: i64) -> i16 {
        let mut request = commit_request(&self.group_id, partition, offset);
        request.member_id = self.member_id.as_str().into();
        request.generation_id_or_member_epoch = self.generation;
        commit(&mut self.client, 9, &request).await
    }
}

/// An offset of `orders` with an epoch and a text, from outside any group.
pub(crate) fn commit_request(group_id: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group_id.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_leader_epoch: 7,
                committed_metadata: Some("kept as it is".into()),
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

/// The code of the one partition.
pub(crate) async fn commit(
    client: &mut KafkaClient,
    version: i16,
    request: &OffsetCommitRequest,
) -> i16 {
    let response = client.call(version, request).await;
    response.topics[0].partitions[0].error_code
}

/// What a group has committed for a partition of `orders`.
pub(crate) async fn committed(
    client: &mut KafkaClient,
    group_id: &str,
    partition: i32,
    require_stable: bool,
) -> OffsetFetchResponsePartitions {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group_id.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "orders".into(),
                partition_indexes: vec![partition],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable,
        ..OffsetFetchRequest::default()
    };
    let response = client.call(9, &request).await;
    assert_eq!(response.groups[0].error_code, 0);
    response.groups[0].topics[0].partitions[0].clone()
}
