//! The way from one protocol to the other rule by rule, told as short stories.

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

const GROUP: &str = "pickers";
const ORDERS: Uuid = Uuid::from_u128(7);

struct Shard {
    coordinator: GroupCoordinator,
    cluster: ClusterTopics,
    now_ms: i64,
    last_ticket: u64,
    replies: BTreeMap<Ticket, Reply>,
    written: Vec<Record>,
}

/// A `ConsumerProtocolSubscription` of version 1 to `orders`, owning some of it.
fn subscription(owned: &[i32]) -> Bytes {
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
fn member(id: &str, owned: &[i32]) -> JoinRequest {
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
fn newcomer(new_id: &str) -> JoinRequest {
    JoinRequest {
        new_member_id: new_id.into(),
        ..member("", &[])
    }
}

fn partitions(parts: &[i32]) -> Assignment {
    parts.iter().map(|p| (ORDERS, *p)).collect()
}

impl Shard {
    fn new() -> Self {
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
    fn classic() -> Self {
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

    fn apply<R>(&mut self, transition: Transition<R>) -> R {
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

    fn restart(&mut self) {
        let mut coordinator = GroupCoordinator::new(self.coordinator.config.clone());
        for record in &self.written {
            coordinator.replay(record, self.now_ms);
        }
        assert!(coordinator.has_same_state_as(&self.coordinator));
        coordinator.start(self.now_ms);
        self.coordinator = coordinator;
    }

    fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
        while let Some(transition) = self.coordinator.tick(self.now_ms) {
            self.apply(transition);
        }
    }

    fn join(&mut self, request: &JoinRequest) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let decided = self
            .coordinator
            .join_group(self.now_ms, ticket, request, &self.cluster);
        self.apply(decided);
        self.wait(0); // the first members of a group wait for others, if only for this
        ticket
    }

    fn join_reply(&self, ticket: Ticket) -> &JoinReply {
        match self.replies.get(&ticket) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn joined(&self, ticket: Ticket) -> Joined {
        self.join_reply(ticket).outcome.clone().unwrap()
    }

    fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        made: &[(&str, Bytes)],
    ) -> Result<Vec<i32>, GroupError> {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let made = made.iter();
        let request = SyncRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            generation,
            assignments: made.map(|(id, a)| ((*id).to_owned(), a.clone())).collect(),
            ..SyncRequest::default()
        };
        let decided = self.coordinator.sync_group(self.now_ms, ticket, &request);
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

    fn beat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
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
    fn newer(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatResponse, GroupError> {
        let decided = self
            .coordinator
            .heartbeat(self.now_ms, request, &self.cluster)?;
        Ok(self.apply(decided))
    }

    fn newer_joins(&mut self, member_id: &str) -> HeartbeatResponse {
        let request = HeartbeatRequest::join(GROUP, member_id, &["orders"]);
        self.newer(&request).unwrap()
    }

    fn newer_leaves(&mut self, member_id: &str) {
        let request = HeartbeatRequest::keep_alive(GROUP, member_id, -1);
        self.newer(&request).unwrap();
    }

    fn leave(&mut self, members: &[&str]) -> Vec<Result<(), GroupError>> {
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

    fn commit(&mut self, member_id: &str, epoch: i32, partition: i32) -> Result<(), GroupError> {
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

    fn kind(&self) -> GroupKind {
        self.coordinator.list().remove(0).kind
    }

    /// What the coordinator says a member has, and has to give up.
    fn held(&self, member_id: &str) -> (Assignment, Assignment) {
        let group = self.coordinator.describe(GROUP).unwrap();
        let mut members = group.members.into_iter();
        let found = members.find(|member| member.member_id == member_id);
        let found = found.unwrap();
        (found.assignment, found.pending_revocation)
    }
}

#[test]
fn a_newer_member_takes_a_classic_group_over_with_its_members_and_what_they_have() {
    let mut shard = Shard::classic();
    let joined = shard.newer_joins("n");
    assert_eq!(shard.kind(), GroupKind::Consumer);
    assert_eq!(joined.member_epoch, 3, "one line of numbers");
    assert_eq!(joined.assignment, Some(Assignment::new()));
    assert_eq!(shard.held("a").0, partitions(&[0, 1]));
    let group = shard.coordinator.describe(GROUP).unwrap();
    let kinds: Vec<bool> = group
        .members
        .iter()
        .map(|member| member.is_classic)
        .collect();
    assert_eq!(kinds, [true, true, false]);
    shard.restart();

    // Both are told to join again, and can commit what they have read until then.
    for (id, partition) in [("a", 0), ("b", 3)] {
        assert_eq!(shard.commit(id, 2, partition), Ok(()));
        let error = shard.beat(id, 2).unwrap_err();
        assert!(matches!(error, GroupError::RebalanceInProgress { .. }));
    }
    // One of them has to give something up: it is told so by a smaller assignment.
    let a = shard.join(&member("a", &[0, 1]));
    let b = shard.join(&member("b", &[2, 3]));
    let (a, b) = (shard.joined(a), shard.joined(b));
    assert_eq!((a.leader.as_str(), a.members.len()), ("", 0));
    let (giver, keeper, left) = if a.generation == 2 {
        ("a", "b", &b)
    } else {
        ("b", "a", &a)
    };
    assert_eq!(left.generation, 3);
    let kept = shard.sync(giver, 2, &[]).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(shard.sync(keeper, 3, &[]).unwrap().len(), 2);
    assert_eq!(shard.beat(keeper, 3), Ok(()));
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 3);
    assert_eq!(shard.newer(&beat).unwrap().assignment, None, "not free yet");

    // It joins again without it, and the newer member gets it.
    let again = shard.join(&member(giver, &kept));
    assert_eq!(shard.joined(again).generation, 3);
    assert_eq!(shard.sync(giver, 3, &[]).unwrap(), kept);
    let gained = shard.newer(&beat).unwrap().assignment.unwrap();
    assert_eq!(gained.count(), 1);
    for id in ["a", "b"] {
        assert_eq!(shard.beat(id, 3), Ok(()));
    }
}

#[test]
fn a_rebalance_under_way_gives_way_to_the_newer_protocol() {
    let mut shard = Shard::classic();
    let waiting = shard.join(&member("a", &[0, 1]));
    assert!(!shard.replies.contains_key(&waiting));
    shard.newer_joins("n");
    let told = shard.join_reply(waiting);
    assert_eq!(told.member_id, "a");
    assert!(matches!(
        told.outcome,
        Err(GroupError::RebalanceInProgress { .. })
    ));
    // What the last settled generation gave is still in their hands.
    assert_eq!(shard.held("a").0, partitions(&[0, 1]));
    assert_eq!(shard.held("b").0, partitions(&[2, 3]));
}

#[test]
fn who_gives_up_everything_to_join_gets_its_part_at_once() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    let tickets = ["a", "b"].map(|id| (id, shard.join(&member(id, &[]))));
    let mut owned = 0;
    for (id, ticket) in tickets {
        assert_eq!(shard.joined(ticket).generation, 3);
        owned += shard.sync(id, 3, &[]).unwrap().len();
    }
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 3);
    let gained = shard.newer(&beat).unwrap().assignment;
    assert_eq!(owned + gained.map_or(0, |gained| gained.count()), 4);
}

#[test]
fn the_last_newer_member_leaves_a_classic_group_behind() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    for id in ["a", "b"] {
        let ticket = shard.join(&member(id, &[]));
        assert_eq!(shard.joined(ticket).generation, 3);
        shard.sync(id, 3, &[]).unwrap();
    }
    shard.newer_leaves("n");
    assert_eq!(shard.kind(), GroupKind::Classic);
    for id in ["a", "b"] {
        let told = shard.beat(id, 3).unwrap_err();
        assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    }
    let tickets = ["a", "b"].map(|id| shard.join(&member(id, &[])));
    let joined = tickets.map(|ticket| shard.joined(ticket));
    assert_eq!(joined[0].generation, 4);
    assert_eq!(joined[0].leader, joined[1].leader);
    let leader = joined.iter().find(|joined| !joined.members.is_empty());
    assert_eq!(leader.unwrap().members.len(), 2);
}

#[test]
fn after_a_crash_the_members_of_a_group_that_has_become_classic_join_again() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    shard.newer_leaves("n");
    shard.restart();
    assert_eq!(shard.kind(), GroupKind::Classic);
    // The partitions of the one that has left belong to nobody: nobody may go on as if nothing were.
    let told = shard.beat("a", 2).unwrap_err();
    assert!(matches!(told, GroupError::IllegalGeneration { .. }));
}

#[test]
fn a_newer_member_that_falls_silent_leaves_a_classic_group_behind() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    for _ in 0..6 {
        shard.wait(8_000);
        for id in ["a", "b"] {
            shard.beat(id, 2).unwrap_err();
        }
    }
    assert_eq!(shard.kind(), GroupKind::Classic);
}

#[test]
fn classic_members_come_and_go_in_a_group_of_the_newer_protocol() {
    let mut shard = Shard::new();
    assert_eq!(shard.newer_joins("n").assignment.unwrap().count(), 4);
    // As a rule a member is given an id first, and comes again with it.
    let asked = JoinRequest {
        requires_known_member: true,
        ..newcomer("a")
    };
    let ticket = shard.join(&asked);
    let told = shard.join_reply(ticket);
    assert_eq!(told.member_id, "a");
    assert!(matches!(
        told.outcome,
        Err(GroupError::MemberIdRequired { .. })
    ));
    let ticket = shard.join(&member("a", &[]));
    assert_eq!(shard.joined(ticket).generation, 2);
    assert_eq!(shard.sync("a", 2, &[]), Ok(vec![]), "all is in n's hands");

    let mut beat = HeartbeatRequest::keep_alive(GROUP, "n", 1);
    let kept = shard.newer(&beat).unwrap().assignment.unwrap();
    assert_eq!(kept.count(), 2);
    assert_eq!(
        shard.beat("a", 2),
        Ok(()),
        "n has not given anything up yet"
    );
    beat.owned = Some(kept);
    assert_eq!(shard.newer(&beat).unwrap().member_epoch, 2);
    // Now there is something for it.
    let told = shard.beat("a", 2).unwrap_err();
    assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    let ticket = shard.join(&member("a", &[]));
    assert_eq!(shard.joined(ticket).generation, 2);
    assert_eq!(shard.sync("a", 2, &[]).unwrap().len(), 2);

    let unknown = shard.leave(&["n", "x", "a"]);
    assert!(
        matches!(unknown[0], Err(GroupError::UnknownMemberId { .. })),
        "no classic member"
    );
    assert!(matches!(
        unknown[1],
        Err(GroupError::UnknownMemberId { .. })
    ));
    assert_eq!(unknown[2], Ok(()));
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 2);
    assert_eq!(shard.newer(&beat).unwrap().assignment.unwrap().count(), 4);
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_put_out() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 3);
    for _ in 0..9 {
        shard.beat("a", 2).unwrap_err();
        let ticket = shard.join(&member("b", &[]));
        shard.joined(ticket);
        shard.newer(&beat).unwrap();
        shard.wait(7_000);
    }
    let gone = shard.beat("a", 2).unwrap_err();
    assert!(matches!(gone, GroupError::UnknownMemberId { .. }), "{gone}");
}

#[test]
fn wrong_generations_are_told_by_the_names_that_classic_members_know() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    for error in [
        shard.beat("a", 1).unwrap_err(),
        shard.sync("a", 1, &[]).unwrap_err(),
        shard.commit("a", 9, 0).unwrap_err(),
        shard.commit("a", 1, 0).unwrap_err(),
    ] {
        assert!(
            matches!(error, GroupError::IllegalGeneration { .. }),
            "{error}"
        );
    }
    let newer = shard.commit("n", 9, 0).unwrap_err();
    assert!(matches!(newer, GroupError::StaleMemberEpoch { .. }));
}

#[test]
fn a_static_member_is_rolled_from_one_protocol_to_the_other_and_back() {
    let mut shard = Shard::new();
    let classic = |id: &str| JoinRequest {
        instance_id: Some("shelf".into()),
        ..newcomer(id)
    };
    shard.join(&classic("old"));
    let all = BTreeMap::from([("orders".to_owned(), BTreeSet::from([0, 1, 2, 3]))]);
    shard
        .sync("old", 1, &[("old", write_assignment(1, &all))])
        .unwrap();

    // It was stopped without a word, as classic static members are.
    let request = HeartbeatRequest {
        instance_id: Some("shelf".into()),
        ..HeartbeatRequest::join(GROUP, "newer", &["orders"])
    };
    let joined = shard.newer(&request).unwrap();
    assert_eq!(joined.assignment.unwrap().count(), 4);
    let group = shard.coordinator.describe(GROUP).unwrap();
    assert_eq!(group.members.len(), 1);

    let ticket = shard.join(&classic("again"));
    assert_eq!(shard.kind(), GroupKind::Classic);
    assert_eq!(shard.joined(ticket).leader, "again");
    let beat = HeartbeatRequest::keep_alive(GROUP, "newer", joined.member_epoch);
    assert!(shard.newer(&beat).is_err());
    shard
        .sync("again", 1, &[("again", write_assignment(1, &all))])
        .unwrap();
    shard.restart();
    assert_eq!(shard.kind(), GroupKind::Classic);
    assert!(shard.coordinator.describe(GROUP).is_err());
    assert_eq!(shard.beat("again", 1), Ok(()));
}

#[test]
fn the_last_newer_member_is_rolled_back_in_its_place() {
    let mut shard = Shard::new();
    let newer = HeartbeatRequest {
        instance_id: Some("shelf".into()),
        ..HeartbeatRequest::join(GROUP, "newer", &["orders"])
    };
    shard.newer(&newer).unwrap();
    shard.join(&member("a", &[]));
    let stranger = JoinRequest {
        instance_id: Some("shelf".into()),
        protocol_type: "connect".into(),
        ..newcomer("x")
    };
    let refused = shard.join(&stranger);
    assert!(shard.join_reply(refused).outcome.is_err());
    assert_eq!(
        shard.kind(),
        GroupKind::Consumer,
        "a refusal changes nothing"
    );

    let back = JoinRequest {
        instance_id: Some("shelf".into()),
        ..newcomer("back")
    };
    let back = shard.join(&back);
    assert_eq!(shard.kind(), GroupKind::Classic);
    let told = shard.beat("a", 2).unwrap_err();
    assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    let a = shard.join(&member("a", &[]));
    assert_eq!(shard.joined(a).generation, shard.joined(back).generation);
    shard.restart();
    assert_eq!(shard.kind(), GroupKind::Classic);
}

#[test]
fn groups_whose_members_are_no_consumers_stay_as_they_are() {
    let mut shard = Shard::new();
    let worker = JoinRequest {
        protocol_type: "connect".into(),
        ..newcomer("w")
    };
    let ticket = shard.join(&worker);
    assert_eq!(shard.joined(ticket).generation, 1);
    let request = HeartbeatRequest::join(GROUP, "n", &["orders"]);
    let refused = shard.newer(&request).unwrap_err();
    assert!(matches!(
        refused,
        GroupError::NotAConsumerGroup { members: 1, .. }
    ));
    assert_eq!(shard.beat("w", 1), Ok(()));

    shard.leave(&["w"]);
    shard.newer_joins("n");
    let ticket = shard.join(&worker);
    assert!(matches!(
        shard.join_reply(ticket).outcome,
        Err(GroupError::InconsistentGroupProtocol { .. })
    ));
}
