//! A coordinator with one group and the clients' requests to it, for the stories in `scenario_tests`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conveyor_record::fields::Writer;
use conveyor_record::{LeaderEpoch, Offset};
use uuid::Uuid;

use crate::classic::subscription::{read_assignment, write_assignment};
use crate::{
    Assignment, ClassicHeartbeat, ClusterTopics, CommitRequest, GroupConfig, GroupCoordinator,
    GroupError, GroupKind, HeartbeatRequest, HeartbeatResponse, JoinReply, JoinRequest, Joined,
    LeaveRequest, LeavingMember, OffsetToCommit, Protocol, Record, Reply, SyncRequest, Ticket,
    Transition,
};

pub(super) const GROUP: &str = "pickers";
pub(super) const ORDERS: Uuid = Uuid::from_u128(7);

pub(super) struct Shard {
    pub(super) coordinator: GroupCoordinator,
    cluster: ClusterTopics,
    now_ms: i64,
    last_ticket: u64,
    pub(super) replies: BTreeMap<Ticket, Reply>,
    written: Vec<Record>,
}

/// A `ConsumerProtocolSubscription` of version 1 to `orders`, owning some of it.
pub(super) fn subscription(owned: &[i32]) -> Bytes {
    let mut value = Writer::version(1);
    value.int32(1);
    value.string("orders");
    value.int32(-1);
    value.int32(1);
    value.string("orders");
    value.int32(owned.len() as i32);
    for partition in owned {
        value.int32(*partition);
    }
    Bytes::from(value.finish())
}

/// A classic member with an id, which owns some partitions.
pub(super) fn member(id: &str, owned: &[i32]) -> JoinRequest {
    JoinRequest {
        group_id: GROUP.into(),
        member_id: id.into(),
        new_member_id: format!("new-{id}"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "cooperative-sticky".into(),
            metadata: subscription(owned),
        }],
        client_id: "c".into(),
        client_host: "/h".into(),
        ..JoinRequest::default()
    }
}

/// One without an id, which is given this.
pub(super) fn newcomer(new_id: &str) -> JoinRequest {
    JoinRequest {
        new_member_id: new_id.into(),
        ..member("", &[])
    }
}

pub(super) fn partitions(parts: &[i32]) -> Assignment {
    parts.iter().map(|p| (ORDERS, *p)).collect()
}

impl Shard {
    pub(super) fn new() -> Self {
        let config = GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        };
        let mut coordinator = GroupCoordinator::new(config);
        coordinator.start(0);
        Self {
            coordinator,
            cluster: ClusterTopics::new(1).with("orders", ORDERS, 4),
            now_ms: 0,
            last_ticket: 0,
            replies: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    /// A classic group of `a`, which has 0 and 1, and `b`, which has 2 and 3, in generation 2.
    pub(super) fn classic() -> Self {
        let mut shard = Self::new();
        shard.join(&newcomer("a"));
        shard.sync("a", 1, &[]).unwrap();
        let b = shard.join(&newcomer("b"));
        let a = shard.join(&member("a", &[]));
        assert_eq!(shard.joined(a).generation, 2);
        assert_eq!(shard.joined(b).generation, 2);
        let orders = |parts: &[i32]| {
            let parts: BTreeSet<i32> = parts.iter().copied().collect();
            write_assignment(1, &BTreeMap::from([("orders".to_owned(), parts)]))
        };
        let made = [("a", orders(&[0, 1])), ("b", orders(&[2, 3]))];
        shard.sync("a", 2, &made).unwrap();
        assert_eq!(shard.sync("b", 2, &[]), Ok(vec![2, 3]));
        assert_eq!(shard.beat("a", 2), Ok(()));
        shard
    }

    pub(super) fn apply<R>(&mut self, transition: Transition<R>) -> R {
        for record in transition.records {
            let stored = record.encode();
            let read = Record::decode(&stored.key, stored.value.as_deref());
            assert_eq!(read.unwrap().unwrap(), record);
            self.coordinator.replay(&record, self.now_ms);
            self.written.push(record);
        }
        self.replies.extend(transition.replies);
        transition.response
    }

    pub(super) fn restart(&mut self) {
        let mut coordinator = GroupCoordinator::new(self.coordinator.config.clone());
        for record in &self.written {
            coordinator.replay(record, self.now_ms);
        }
        assert!(coordinator.has_same_state_as(&self.coordinator));
        coordinator.start(self.now_ms);
        self.coordinator = coordinator;
    }

    pub(super) fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
        while let Some(transition) = self.coordinator.tick(self.now_ms) {
            self.apply(transition);
        }
    }

    pub(super) fn join(&mut self, request: &JoinRequest) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let decided = self
            .coordinator
            .join_group(self.now_ms, ticket, request, &self.cluster);
        self.apply(decided);
        self.wait(0); // the first members of a group wait for others, if only for this
        ticket
    }

    pub(super) fn join_reply(&self, ticket: Ticket) -> &JoinReply {
        match self.replies.get(&ticket) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn joined(&self, ticket: Ticket) -> Joined {
        self.join_reply(ticket).outcome.clone().unwrap()
    }

    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        made: &[(&str, Bytes)],
    ) -> Result<Vec<i32>, GroupError> {
        let made = made.iter();
        self.sync_as(&SyncRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            generation,
            assignments: made.map(|(id, a)| ((*id).to_owned(), a.clone())).collect(),
            ..SyncRequest::default()
        })
    }

    pub(super) fn sync_as(&mut self, request: &SyncRequest) -> Result<Vec<i32>, GroupError> {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let decided = self.coordinator.sync_group(self.now_ms, ticket, request);
        self.apply(decided);
        match self.replies.get(&ticket) {
            Some(Reply::Sync(Ok(synced))) => {
                let read = read_assignment(&synced.assignment).unwrap();
                Ok(read.values().flatten().copied().collect())
            }
            Some(Reply::Sync(Err(error))) => Err(error.clone()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn beat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let request = ClassicHeartbeat {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            generation,
            ..ClassicHeartbeat::default()
        };
        let decided = self.coordinator.classic_heartbeat(self.now_ms, &request)?;
        self.apply(decided);
        Ok(())
    }

    /// A heartbeat by the consumer protocol.
    pub(super) fn newer(
        &mut self,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatResponse, GroupError> {
        let decided = self
            .coordinator
            .heartbeat(self.now_ms, request, &self.cluster)?;
        Ok(self.apply(decided))
    }

    pub(super) fn newer_joins(&mut self, member_id: &str) -> HeartbeatResponse {
        let request = HeartbeatRequest::join(GROUP, member_id, &["orders"]);
        self.newer(&request).unwrap()
    }

    pub(super) fn newer_leaves(&mut self, member_id: &str) {
        let request = HeartbeatRequest::keep_alive(GROUP, member_id, -1);
        self.newer(&request).unwrap();
    }

    pub(super) fn leave(&mut self, members: &[&str]) -> Vec<Result<(), GroupError>> {
        let members = members.iter().map(|id| LeavingMember {
            member_id: (*id).to_owned(),
            instance_id: None,
        });
        let request = LeaveRequest {
            group_id: GROUP.into(),
            members: members.collect(),
        };
        let decided = self.coordinator.leave_group(self.now_ms, &request).unwrap();
        let left = self.apply(decided).into_iter();
        left.map(|member| member.result).collect()
    }

    pub(super) fn commit(
        &mut self,
        member_id: &str,
        epoch: i32,
        partition: i32,
    ) -> Result<(), GroupError> {
        let request = CommitRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            member_epoch: epoch,
            offsets: vec![OffsetToCommit {
                topic: "orders".into(),
                partition,
                offset: Offset(1),
                leader_epoch: LeaderEpoch(0),
                metadata: String::new(),
            }],
            ..CommitRequest::default()
        };
        let decided = self
            .coordinator
            .commit_offsets(self.now_ms, &request, &self.cluster)?;
        self.apply(decided).remove(0).result
    }

    pub(super) fn kind(&self) -> GroupKind {
        self.coordinator.list().remove(0).kind
    }

    /// What the coordinator says a member has, and has to give up.
    pub(super) fn held(&self, member_id: &str) -> (Assignment, Assignment) {
        let group = self.coordinator.describe(GROUP).unwrap();
        let mut members = group.members.into_iter();
        let found = members.find(|member| member.member_id == member_id);
        let found = found.unwrap();
        (found.assignment, found.pending_revocation)
    }
}
