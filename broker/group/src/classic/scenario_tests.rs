//! The classic protocol rule by rule, told as short stories about a shard and its members.

use std::collections::BTreeMap;

use super::*;
use crate::{
    ClusterTopics, CommitRequest, GroupConfig, GroupCoordinator, GroupState, HeartbeatRequest,
    OffsetToCommit,
};
use conveyor_record::{LeaderEpoch, Offset};
use uuid::Uuid;

const GROUP: &str = "pickers";

/// A shard with a clock, and the answers that came so far.
struct Shard {
    coordinator: GroupCoordinator,
    cluster: ClusterTopics,
    now_ms: i64,
    last_ticket: u64,
    replies: BTreeMap<Ticket, Reply>,
    written: Vec<(Record, i64)>,
}

fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        classic_max_size: 4,
        ..GroupConfig::default()
    }
}

/// A consumer's subscription to one topic, version 0.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let protocol = |name: &&str| Protocol {
        name: (*name).to_owned(),
        metadata: subscription("orders"),
    };
    names.iter().map(protocol).collect()
}

/// A member of the newest version with the usual time-outs.
fn member(id: &str) -> JoinRequest {
    JoinRequest {
        group_id: GROUP.into(),
        member_id: id.into(),
        new_member_id: format!("new-{id}"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        requires_known_member: true,
        supports_skipping_assignment: true,
        client_id: "c".into(),
        client_host: "/h".into(),
        ..JoinRequest::default()
    }
}

/// One whose version joins without an id.
fn old_member(new_id: &str) -> JoinRequest {
    JoinRequest {
        new_member_id: new_id.into(),
        requires_known_member: false,
        supports_skipping_assignment: false,
        ..member("")
    }
}

fn static_member(instance_id: &str, new_id: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance_id.into()),
        new_member_id: new_id.into(),
        ..member("")
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            coordinator: GroupCoordinator::new(config()),
            cluster: ClusterTopics::new(1).with("orders", Uuid::from_u128(7), 8),
            now_ms: 1_000_000,
            last_ticket: 0,
            replies: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    fn apply<R>(&mut self, transition: Transition<R>) -> R {
        for record in transition.records {
            self.coordinator.replay(&record, self.now_ms);
            self.written.push((record, self.now_ms));
        }
        for (ticket, reply) in transition.replies {
            let earlier = self.replies.insert(ticket, reply);
            assert_eq!(earlier, None, "a ticket was answered twice");
        }
        transition.response
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn join(&mut self, request: &JoinRequest) -> Ticket {
        let ticket = self.ticket();
        let decided = self
            .coordinator
            .join_group(self.now_ms, ticket, request, &self.cluster);
        self.apply(decided);
        ticket
    }

    fn sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> Ticket {
        let ticket = self.ticket();
        let owned =
            |(id, part): &(&str, &str)| ((*id).to_owned(), Bytes::copy_from_slice(part.as_bytes()));
        let request = SyncRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            generation,
            assignments: assignments.iter().map(owned).collect(),
            ..SyncRequest::default()
        };
        let decided = self.coordinator.sync_group(self.now_ms, ticket, &request);
        self.apply(decided);
        ticket
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

    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<Result<(), GroupError>> {
        let leaving = |(id, instance): &(&str, Option<&str>)| LeavingMember {
            member_id: (*id).to_owned(),
            instance_id: instance.map(str::to_owned),
        };
        let request = LeaveRequest {
            group_id: GROUP.into(),
            members: members.iter().map(leaving).collect(),
        };
        let decided = self.coordinator.leave_group(self.now_ms, &request).unwrap();
        let left = self.apply(decided).into_iter();
        left.map(|member| member.result).collect()
    }

    fn commit(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let request = CommitRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            instance_id: None,
            member_epoch: generation,
            offsets: vec![OffsetToCommit {
                topic: "orders".into(),
                partition: 0,
                offset: Offset(5),
                leader_epoch: LeaderEpoch(2),
                metadata: "m".into(),
            }],
        };
        let decided = self
            .coordinator
            .commit_offsets(self.now_ms, &request, &self.cluster)?;
        self.apply(decided).remove(0).result
    }

    /// Goes on in time, timer by timer.
    fn wait(&mut self, millis: i64) {
        let until = self.now_ms + millis;
        while let Some(due) = self.coordinator.next_deadline().filter(|due| *due <= until) {
            self.now_ms = self.now_ms.max(due);
            while let Some(decided) = self.coordinator.tick(self.now_ms) {
                self.apply(decided);
            }
        }
        self.now_ms = until;
    }

    fn restart(&mut self) {
        let mut coordinator = GroupCoordinator::new(config());
        for (record, timestamp) in &self.written {
            let bytes = record.encode();
            let read = Record::decode(&bytes.key, bytes.value.as_deref()).unwrap();
            coordinator.replay(&read.unwrap(), *timestamp);
        }
        assert!(coordinator.has_same_state_as(&self.coordinator));
        coordinator.start(self.now_ms);
        self.coordinator = coordinator;
    }

    fn joined(&self, ticket: Ticket) -> &Joined {
        match self.replies.get(&ticket) {
            Some(Reply::Join(JoinReply {
                outcome: Ok(joined),
                ..
            })) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn join_refused(&self, ticket: Ticket) -> (&str, &GroupError) {
        match self.replies.get(&ticket) {
            Some(Reply::Join(JoinReply {
                outcome: Err(error),
                member_id,
            })) => (member_id, error),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn assigned(&self, ticket: Ticket) -> &[u8] {
        match self.replies.get(&ticket) {
            Some(Reply::Sync(Ok(synced))) => &synced.assignment,
            other => panic!("not synced: {other:?}"),
        }
    }

    fn sync_refused(&self, ticket: Ticket) -> &GroupError {
        match self.replies.get(&ticket) {
            Some(Reply::Sync(Err(error))) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn is_waiting(&self, ticket: Ticket) -> bool {
        !self.replies.contains_key(&ticket)
    }

    fn state(&self) -> GroupState {
        self.coordinator.describe_classic(GROUP).unwrap().state
    }

    fn member_ids(&self) -> Vec<String> {
        let described = self.coordinator.describe_classic(GROUP).unwrap();
        described.members.into_iter().map(|m| m.member_id).collect()
    }

    /// Two members `a` (leader) and `b` in a settled generation 1.
    fn settled() -> Self {
        let mut shard = Self::new();
        shard.join(&old_member("a"));
        shard.join(&old_member("b"));
        shard.wait(6_000);
        shard.sync("b", 1, &[]);
        let leader = shard.sync("a", 1, &[("a", "A1"), ("b", "B1")]);
        assert_eq!(shard.assigned(leader), b"A1");
        assert_eq!(shard.state(), GroupState::Stable);
        shard
    }
}

#[test]
fn trap_23_a_member_without_an_id_gets_one_and_has_not_joined_yet() {
    let mut shard = Shard::new();
    let asked = shard.join(&member(""));
    let (id, error) = shard.join_refused(asked);
    assert!(matches!(error, GroupError::MemberIdRequired { .. }));
    let id = id.to_owned();
    assert_eq!(shard.member_ids(), Vec::<String>::new());
    assert_eq!(shard.state(), GroupState::Empty);

    let joined = shard.join(&member(&id));
    shard.wait(3_000);
    assert_eq!(shard.joined(joined).generation, 1);
    assert_eq!(shard.joined(joined).leader, id);
}

#[test]
fn trap_23_old_versions_and_static_members_join_at_once() {
    let mut shard = Shard::new();
    let old = shard.join(&old_member("old"));
    let fixed = shard.join(&static_member("i1", "fixed"));
    shard.wait(6_000);
    assert_eq!(shard.joined(old).generation, 1);
    assert_eq!(shard.joined(fixed).generation, 1);
    assert_eq!(shard.joined(old).members.len(), 2, "the leader sees both");
    assert!(shard.joined(fixed).members.is_empty());
}

#[test]
fn trap_23_an_id_that_is_not_used_ends_with_its_session() {
    let mut shard = Shard::new();
    let asked = shard.join(&member(""));
    let id = shard.join_refused(asked).0.to_owned();
    shard.wait(10_001);
    assert!(shard.coordinator.list().is_empty(), "nothing of it is left");
    let late = shard.join(&member(&id));
    assert!(matches!(
        shard.join_refused(late).1,
        GroupError::UnknownMemberId { .. }
    ));
}

#[test]
fn trap_23_a_pending_member_is_waited_for_in_a_rebalance() {
    let mut shard = Shard::settled();
    let asked = shard.join(&member(""));
    let id = shard.join_refused(asked).0.to_owned();
    // It has no part in the group yet: nobody rebalances.
    assert_eq!(shard.beat("a", 1), Ok(()));
    let a = shard.join(&JoinRequest {
        requires_known_member: false,
        ..member("a")
    });
    let b = shard.join(&member("b"));
    assert!(shard.is_waiting(a) && shard.is_waiting(b));
    let newcomer = shard.join(&member(&id));
    assert_eq!(shard.joined(newcomer).generation, 2);
    assert_eq!(shard.joined(a).members.len(), 3);
    assert_eq!(shard.joined(b).generation, 2);
}

#[test]
fn trap_24_a_static_member_takes_its_place_again_without_a_rebalance() {
    let mut shard = Shard::new();
    let first = shard.join(&static_member("i1", "one"));
    let second = shard.join(&static_member("i2", "two"));
    shard.wait(6_000);
    let generation = shard.joined(first).generation;
    shard.sync("two", generation, &[]);
    shard.sync("one", generation, &[("one", "A"), ("two", "B")]);
    assert_eq!(shard.joined(second).leader, "one");

    let back = JoinRequest {
        client_id: "c2".into(),
        client_host: "/other".into(),
        session_timeout_ms: 20_000,
        rebalance_timeout_ms: 30_000,
        ..static_member("i2", "two-b")
    };
    let again = shard.join(&back);
    let joined = shard.joined(again);
    assert_eq!(
        (joined.generation, joined.leader.as_str()),
        (generation, "one")
    );
    assert!(!joined.skip_assignment);
    assert_eq!(shard.state(), GroupState::Stable);
    let synced = shard.sync("two-b", generation, &[]);
    assert_eq!(
        shard.assigned(synced),
        b"B",
        "with the assignment of its old id"
    );
    // All that it told is taken over, and kept.
    shard.restart();
    let kept = &shard.coordinator.groups[GROUP]
        .classic
        .as_ref()
        .unwrap()
        .members["two-b"];
    assert_eq!(
        (kept.client_id.as_str(), kept.client_host.as_str()),
        ("c2", "/other")
    );
    assert_eq!(
        (kept.session_timeout_ms, kept.rebalance_timeout_ms),
        (20_000, 30_000)
    );
    assert_eq!(kept.instance_id.as_deref(), Some("i2"));
}

#[test]
fn trap_24_whoever_uses_the_old_id_is_fenced() {
    let mut shard = Shard::new();
    shard.join(&static_member("i1", "one"));
    shard.wait(3_000);
    shard.sync("one", 1, &[("one", "A")]);
    shard.join(&static_member("i1", "two"));

    let heartbeat = ClassicHeartbeat {
        group_id: GROUP.into(),
        member_id: "one".into(),
        instance_id: Some("i1".into()),
        generation: 1,
    };
    let now_ms = shard.now_ms;
    let fenced = shard.coordinator.classic_heartbeat(now_ms, &heartbeat);
    assert!(matches!(fenced, Err(GroupError::FencedInstanceId { .. })));
    let join = shard.join(&JoinRequest {
        member_id: "one".into(),
        ..static_member("i1", "x")
    });
    assert!(matches!(
        shard.join_refused(join).1,
        GroupError::FencedInstanceId { .. }
    ));
    let left = shard.leave(&[("one", Some("i1"))]);
    assert!(matches!(
        left[..],
        [Err(GroupError::FencedInstanceId { .. })]
    ));
    assert_eq!(shard.member_ids(), ["two"]);
}

#[test]
fn trap_24_an_old_id_that_waits_is_told_at_once() {
    let mut shard = Shard::new();
    let first = shard.join(&static_member("i1", "one"));
    let second = shard.join(&static_member("i1", "two"));
    assert!(matches!(
        shard.join_refused(first).1,
        GroupError::FencedInstanceId { .. }
    ));
    shard.wait(6_000);
    assert_eq!(shard.joined(second).leader, "two");
}

#[test]
fn trap_24_a_static_member_that_comes_back_while_the_leader_assigns_starts_a_rebalance() {
    let mut shard = Shard::new();
    shard.join(&static_member("i1", "one"));
    shard.join(&static_member("i2", "two"));
    shard.wait(6_000);
    let waits = shard.sync("two", 1, &[]);
    let back = shard.join(&static_member("i2", "two-b"));
    assert!(matches!(
        shard.sync_refused(waits),
        GroupError::FencedInstanceId { .. }
    ));
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
    // The leader's assignment names the id that is gone, and comes to nothing.
    let late = shard.sync("one", 1, &[("one", "A"), ("two", "B")]);
    assert!(matches!(
        shard.sync_refused(late),
        GroupError::RebalanceInProgress { .. }
    ));
    let leader = shard.join(&JoinRequest {
        instance_id: Some("i1".into()),
        ..member("one")
    });
    assert_eq!(shard.joined(leader).generation, 2);
    let ids: Vec<&str> = shard
        .joined(leader)
        .members
        .iter()
        .map(|m| m.member_id.as_str())
        .collect();
    assert_eq!(ids, ["one", "two-b"]);
    assert_eq!(shard.joined(back).generation, 2);
}

#[test]
fn trap_24_a_static_leader_that_comes_back_keeps_the_assignment() {
    let mut shard = Shard::new();
    shard.join(&static_member("i1", "one"));
    shard.wait(3_000);
    shard.sync("one", 1, &[("one", "A")]);

    let new = shard.join(&static_member("i1", "one-b"));
    let joined = shard.joined(new);
    assert_eq!(
        (joined.leader.as_str(), joined.skip_assignment),
        ("one-b", true)
    );
    assert_eq!(joined.members.len(), 1, "it may look for new partitions");

    // A version that cannot be told to skip is not told that it leads.
    let old = JoinRequest {
        supports_skipping_assignment: false,
        ..static_member("i1", "one-c")
    };
    let old = shard.join(&old);
    let joined = shard.joined(old);
    assert_eq!(
        (joined.leader.as_str(), joined.skip_assignment),
        ("one-b", false)
    );
    assert!(joined.members.is_empty());
    let synced = shard.sync("one-c", 1, &[]);
    assert_eq!(shard.assigned(synced), b"A");
}

#[test]
fn trap_25_the_rebalance_waits_as_long_as_the_slowest_member_asks() {
    let mut shard = Shard::settled();
    let slow = JoinRequest {
        rebalance_timeout_ms: 120_000,
        ..old_member("slow")
    };
    let slow = shard.join(&slow);
    let a = shard.join(&JoinRequest {
        session_timeout_ms: 200_000,
        ..member("a")
    });
    // `b` shows that it lives, but does not join.
    for _ in 0..14 {
        shard.wait(8_000);
        assert!(matches!(
            shard.beat("b", 1),
            Err(GroupError::RebalanceInProgress { .. })
        ));
    }
    assert!(shard.is_waiting(slow) && shard.is_waiting(a));
    shard.wait(8_001);
    assert_eq!(shard.joined(slow).generation, 2);
    let members = shard.joined(a).members.len();
    assert_eq!(members, 2, "the one that did not join is out");
    assert!(matches!(
        shard.beat("b", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
}

#[test]
fn trap_25_a_member_that_joins_and_never_syncs_is_put_out() {
    let mut shard = Shard::new();
    let a = shard.join(&JoinRequest {
        session_timeout_ms: 600_000,
        ..old_member("a")
    });
    let b = shard.join(&JoinRequest {
        session_timeout_ms: 600_000,
        ..old_member("b")
    });
    shard.wait(6_000);
    assert_eq!(shard.joined(a).leader, "a");
    assert_eq!(shard.joined(b).generation, 1);
    let synced = shard.sync("a", 1, &[("a", "A"), ("b", "B")]);
    assert_eq!(shard.assigned(synced), b"A");
    shard.wait(59_999);
    assert_eq!(shard.member_ids(), ["a", "b"]);
    shard.wait(2);
    assert_eq!(shard.member_ids(), ["a"]);
    assert!(matches!(
        shard.beat("a", 1),
        Err(GroupError::RebalanceInProgress { .. })
    ));
}

#[test]
fn trap_25_the_leader_that_never_syncs_does_not_hold_the_others_for_ever() {
    let mut shard = Shard::new();
    shard.join(&old_member("a"));
    let b = shard.join(&old_member("b"));
    shard.wait(6_000);
    let waits = shard.sync("b", 1, &[]);
    assert!(shard.is_waiting(waits));
    // The leader is silent: its session ends, and the others join again.
    shard.wait(10_001);
    assert!(matches!(
        shard.sync_refused(waits),
        GroupError::RebalanceInProgress { .. }
    ));
    let again = shard.join(&member("b"));
    assert_eq!(shard.joined(again).generation, 2);
    assert_eq!(
        (
            shard.joined(b).leader.as_str(),
            shard.joined(again).leader.as_str()
        ),
        ("a", "b")
    );
}

#[test]
fn trap_25_the_protocol_is_voted_for_among_those_that_all_speak() {
    let mut shard = Shard::new();
    let speaks = |id: &str, names: &[&str]| JoinRequest {
        protocols: protocols(names),
        ..old_member(id)
    };
    let a = shard.join(&speaks("a", &["sticky", "range", "own"]));
    shard.join(&speaks("b", &["range", "sticky"]));
    shard.join(&speaks("c", &["range", "sticky"]));
    shard.wait(9_000);
    assert_eq!(shard.joined(a).protocol.as_deref(), Some("range"));

    // One that shares no protocol with all does not get in; the group does not notice.
    let stranger = shard.join(&speaks("d", &["own"]));
    assert!(matches!(
        shard.join_refused(stranger).1,
        GroupError::InconsistentGroupProtocol { .. }
    ));
    let other_kind = shard.join(&JoinRequest {
        protocol_type: "connect".into(),
        ..member("a")
    });
    assert!(matches!(
        shard.join_refused(other_kind).1,
        GroupError::InconsistentGroupProtocol { .. }
    ));
    assert_eq!(shard.state(), GroupState::CompletingRebalance);
}

#[test]
fn trap_25_a_leader_that_joins_again_and_changed_metadata_start_a_rebalance_and_nothing_else_does()
{
    let mut shard = Shard::settled();
    // A follower with what it told before only missed the answer.
    let follower = shard.join(&member("b"));
    assert_eq!(shard.joined(follower).generation, 1);
    assert_eq!(shard.state(), GroupState::Stable);

    let leader = shard.join(&member("a"));
    assert!(shard.is_waiting(leader));
    assert!(matches!(
        shard.beat("b", 1),
        Err(GroupError::RebalanceInProgress { .. })
    ));
    let follower = shard.join(&member("b"));
    assert_eq!(shard.joined(follower).generation, 2);
    assert_eq!(shard.joined(leader).members.len(), 2);
    shard.sync("b", 2, &[]);
    shard.sync("a", 2, &[]);

    let changed = JoinRequest {
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: subscription("waves"),
        }],
        ..member("b")
    };
    let changed = shard.join(&changed);
    assert!(shard.is_waiting(changed));
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
}

#[test]
fn trap_25_the_first_members_wait_for_more_but_not_for_ever() {
    let mut shard = Shard::new();
    let a = shard.join(&JoinRequest {
        rebalance_timeout_ms: 7_000,
        ..old_member("a")
    });
    shard.wait(2_999);
    let b = shard.join(&JoinRequest {
        rebalance_timeout_ms: 7_000,
        ..old_member("b")
    });
    // One came during the first wait: 3 s more, and one during the second: the rest of 7 s.
    shard.wait(2_999);
    assert!(shard.is_waiting(a));
    let c = shard.join(&JoinRequest {
        rebalance_timeout_ms: 7_000,
        ..old_member("c")
    });
    shard.wait(1_001);
    assert!(shard.is_waiting(c), "7 s have not passed");
    shard.wait(1);
    assert_eq!(shard.joined(a).members.len(), 3);
    assert_eq!(shard.joined(b).generation, shard.joined(c).generation);
}

#[test]
fn a_group_has_no_more_members_than_it_may_and_no_more_ids_are_given_out() {
    let mut shard = Shard::new();
    for id in ["a", "b", "c", "d"] {
        shard.join(&old_member(id));
    }
    shard.wait(12_000);
    let fifth = shard.join(&old_member("e"));
    let (id, error) = shard.join_refused(fifth);
    assert!(matches!(
        error,
        GroupError::GroupMaxSizeReached { max: 4, .. }
    ));
    assert_eq!(id, "");

    let mut crowd = Shard::new();
    for index in 0..4 {
        crowd.join(&JoinRequest {
            new_member_id: format!("p{index}"),
            ..member("")
        });
    }
    let fifth = crowd.join(&member(""));
    assert!(matches!(
        crowd.join_refused(fifth).1,
        GroupError::GroupMaxSizeReached { .. }
    ));
}

#[test]
fn time_outs_beyond_the_limits_and_names_beyond_the_format_are_refused() {
    let mut shard = Shard::new();
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let ticket = shard.join(&JoinRequest {
            session_timeout_ms,
            ..member("")
        });
        assert!(matches!(
            shard.join_refused(ticket).1,
            GroupError::InvalidSessionTimeout { .. }
        ));
    }
    let long = shard.join(&static_member(&"i".repeat(40_000), "x"));
    assert!(matches!(
        shard.join_refused(long).1,
        GroupError::InvalidRequest { .. }
    ));
    let nameless = shard.join(&JoinRequest {
        group_id: String::new(),
        ..member("")
    });
    assert!(matches!(
        shard.join_refused(nameless).1,
        GroupError::InvalidGroupId { .. }
    ));
    let mute = shard.join(&JoinRequest {
        protocols: vec![],
        ..member("")
    });
    assert!(matches!(
        shard.join_refused(mute).1,
        GroupError::InconsistentGroupProtocol { .. }
    ));
    assert!(shard.coordinator.list().is_empty());
}

#[test]
fn a_settled_generation_survives_a_restart_and_one_under_way_does_not() {
    let mut shard = Shard::settled();
    shard.restart();
    assert_eq!(shard.beat("a", 1), Ok(()));
    let synced = shard.sync("b", 1, &[]);
    assert_eq!(shard.assigned(synced), b"B1");

    let a = shard.join(&member("a"));
    let c = shard.join(&old_member("c"));
    assert!(shard.is_waiting(a) && shard.is_waiting(c));
    shard.restart();
    assert_eq!(shard.state(), GroupState::Stable);
    assert_eq!(shard.beat("b", 1), Ok(()));
    assert!(matches!(
        shard.beat("c", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
    // Whoever does not come back is found by its session.
    shard.wait(10_001);
    assert_eq!(shard.member_ids(), Vec::<String>::new());
    assert_eq!(shard.state(), GroupState::Empty);
}

#[test]
fn several_members_leave_at_once_by_id_or_instance() {
    let mut shard = Shard::new();
    shard.join(&static_member("i1", "one"));
    shard.join(&old_member("two"));
    shard.join(&old_member("three"));
    shard.wait(12_000);
    shard.sync("one", 1, &[]);
    shard.sync("two", 1, &[]);
    let third = shard.sync("three", 1, &[]);
    assert_eq!(shard.assigned(third), b"", "the leader made nothing for it");
    let left = shard.leave(&[
        ("", Some("i1")),
        ("nobody", None),
        ("two", None),
        ("", Some("i9")),
    ]);
    assert_eq!((&left[0], &left[2]), (&Ok(()), &Ok(())));
    assert!(matches!(left[1], Err(GroupError::UnknownMemberId { .. })));
    assert!(matches!(left[3], Err(GroupError::UnknownMemberId { .. })));
    assert_eq!(shard.member_ids(), ["three"]);
    let last = shard.join(&member("three"));
    assert_eq!(shard.joined(last).generation, 2);
    assert_eq!(shard.leave(&[("three", None)]), [Ok(())]);
    assert_eq!(shard.state(), GroupState::Empty);
    shard.restart();
    assert_eq!(shard.state(), GroupState::Empty);
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut shard = Shard::new();
    let a = shard.join(&old_member("a"));
    assert_eq!(shard.leave(&[("a", None)]), [Ok(())]);
    assert!(matches!(
        shard.join_refused(a).1,
        GroupError::UnknownMemberId { .. }
    ));
    shard.wait(3_000);
    assert_eq!(shard.state(), GroupState::Empty);
}

#[test]
fn generations_and_protocols_that_are_not_the_groups_are_refused() {
    let mut shard = Shard::settled();
    assert!(matches!(
        shard.beat("a", 2),
        Err(GroupError::IllegalGeneration { .. })
    ));
    let stale = shard.sync("a", 0, &[]);
    assert!(matches!(
        shard.sync_refused(stale),
        GroupError::IllegalGeneration { .. }
    ));
    let stranger = shard.sync("x", 1, &[]);
    assert!(matches!(
        shard.sync_refused(stranger),
        GroupError::UnknownMemberId { .. }
    ));
    let ticket = shard.ticket();
    let request = SyncRequest {
        group_id: GROUP.into(),
        member_id: "a".into(),
        generation: 1,
        protocol_type: Some("consumer".into()),
        protocol: Some("sticky".into()),
        ..SyncRequest::default()
    };
    let now_ms = shard.now_ms;
    let decided = shard.coordinator.sync_group(now_ms, ticket, &request);
    shard.apply(decided);
    assert!(matches!(
        shard.sync_refused(ticket),
        GroupError::InconsistentGroupProtocol { .. }
    ));
}

#[test]
fn trap_27_commits_need_the_generation_and_from_outside_an_empty_group() {
    let mut shard = Shard::settled();
    assert_eq!(shard.commit("a", 1), Ok(()));
    assert!(matches!(
        shard.commit("a", 2),
        Err(GroupError::IllegalGeneration { .. })
    ));
    assert!(matches!(
        shard.commit("x", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
    assert!(matches!(
        shard.commit("", -1),
        Err(GroupError::UnknownMemberId { .. })
    ));
    // While members join, they may still commit what they had.
    let leader = shard.join(&member("a"));
    assert_eq!(shard.commit("b", 1), Ok(()));
    shard.join(&member("b"));
    assert_eq!(shard.joined(leader).generation, 2);
    assert!(matches!(
        shard.commit("b", 2),
        Err(GroupError::RebalanceInProgress { .. })
    ));
    shard.leave(&[("a", None), ("b", None)]);
    assert_eq!(shard.commit("", -1), Ok(()));
    assert!(matches!(
        shard.commit("a", 2),
        Err(GroupError::UnknownMemberId { .. })
    ));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut shard = Shard::settled();
    for _ in 0..3 {
        shard.wait(8_000);
        assert_eq!(shard.commit("a", 1), Ok(()));
    }
    assert_eq!(
        shard.member_ids(),
        ["a"],
        "only the one that was silent is out"
    );
}

#[test]
fn an_empty_group_of_one_kind_becomes_the_other_and_keeps_its_offsets() {
    let mut shard = Shard::settled();
    shard.commit("a", 1).unwrap();
    let consumer = HeartbeatRequest::join(GROUP, "m", &["orders"]);
    let now_ms = shard.now_ms;
    shard.leave(&[("a", None), ("b", None)]);
    let decided = shard
        .coordinator
        .heartbeat(now_ms, &consumer, &shard.cluster)
        .unwrap();
    let response = shard.apply(decided);
    assert_eq!(response.member_epoch, 1);
    assert!(shard.coordinator.describe_classic(GROUP).is_err());
    assert_eq!(shard.coordinator.describe(GROUP).unwrap().members.len(), 1);
    shard.restart();

    let leave = HeartbeatRequest::keep_alive(GROUP, "m", crate::LEAVE_EPOCH);
    let now_ms = shard.now_ms;
    let decided = shard
        .coordinator
        .heartbeat(now_ms, &leave, &shard.cluster)
        .unwrap();
    shard.apply(decided);
    let classic = shard.join(&old_member("a"));
    shard.wait(3_000);
    assert_eq!(shard.joined(classic).generation, 1);
    shard.sync("a", 1, &[]);
    shard.restart();
    assert_eq!(shard.state(), GroupState::Stable);
    assert!(shard.coordinator.describe(GROUP).is_err());
    let offsets = &shard.coordinator.groups[GROUP].offsets["orders"];
    assert_eq!(offsets[&0].committed.offset, Offset(5));
}

#[test]
fn a_group_with_members_is_not_deleted_and_its_topics_offsets_are_in_use() {
    let mut shard = Shard::settled();
    shard.commit("a", 1).unwrap();
    let busy = shard.coordinator.delete_group(GROUP);
    assert!(matches!(
        busy,
        Err(GroupError::NonEmptyGroup {
            state: "Stable",
            ..
        })
    ));
    let delete = crate::DeleteOffsetsRequest {
        group_id: GROUP.into(),
        partitions: vec![("orders".into(), 0), ("waves".into(), 0)],
    };
    let decided = shard.coordinator.delete_offsets(&delete).unwrap();
    let results = shard.apply(decided);
    assert!(matches!(
        results[0].result,
        Err(GroupError::GroupSubscribedToTopic { .. })
    ));
    assert_eq!(results[1].result, Ok(()));
    shard.leave(&[("a", None), ("b", None)]);
    let decided = shard.coordinator.delete_group(GROUP).unwrap();
    shard.apply(decided);
    assert!(shard.coordinator.list().is_empty());
    shard.restart();
}

#[test]
fn offsets_of_a_classic_group_are_kept_while_it_lives_and_for_the_retention_after() {
    const DAY_MS: i64 = 86_400_000;
    let mut shard = Shard::settled();
    shard.commit("a", 1).unwrap();
    assert_eq!(
        shard.coordinator.expire_offsets(shard.now_ms + 30 * DAY_MS),
        None
    );
    shard.now_ms += 20 * DAY_MS;
    shard.leave(&[("a", None), ("b", None)]);
    assert_eq!(
        shard.coordinator.expire_offsets(shard.now_ms + 6 * DAY_MS),
        None
    );
    let records = shard.coordinator.expire_offsets(shard.now_ms + 8 * DAY_MS);
    shard.apply(Transition::new(records.unwrap(), ()));
    assert!(shard.coordinator.list().is_empty());
}

#[test]
fn any_type_of_protocol_will_do() {
    let mut shard = Shard::new();
    let worker = |id: &str| JoinRequest {
        protocol_type: "connect".into(),
        protocols: vec![Protocol {
            name: "sessioned".into(),
            metadata: Bytes::from_static(b"\xff"),
        }],
        ..old_member(id)
    };
    let first = shard.join(&worker("a"));
    shard.wait(3_000);
    assert_eq!(
        shard.joined(first).protocol_type.as_deref(),
        Some("connect")
    );
    shard.sync("a", 1, &[("a", "tasks")]);
    let described = shard.coordinator.describe_classic(GROUP).unwrap();
    assert_eq!(
        (
            described.protocol_type.as_str(),
            described.protocol.as_str()
        ),
        ("connect", "sessioned")
    );
    assert_eq!(described.members[0].assignment, "tasks");
    // What such members read nobody here can tell.
    let delete = crate::DeleteOffsetsRequest {
        group_id: GROUP.into(),
        partitions: vec![("orders".into(), 0)],
    };
    assert!(matches!(
        shard.coordinator.delete_offsets(&delete),
        Err(GroupError::NonEmptyGroup { .. })
    ));
}

#[test]
fn what_is_too_large_to_be_kept_is_refused_and_the_group_goes_on() {
    let mut shard = Shard::new();
    shard.join(&old_member("a"));
    shard.wait(3_000);
    let ticket = shard.ticket();
    let request = SyncRequest {
        group_id: GROUP.into(),
        member_id: "a".into(),
        generation: 1,
        assignments: vec![("a".into(), vec![0; 17 << 20].into())],
        ..SyncRequest::default()
    };
    let now_ms = shard.now_ms;
    let decided = shard.coordinator.sync_group(now_ms, ticket, &request);
    shard.apply(decided);
    assert!(matches!(
        shard.sync_refused(ticket),
        GroupError::GroupMetadataTooLarge { .. }
    ));
    let again = shard.join(&member("a"));
    assert_eq!(shard.joined(again).generation, 2);
    let synced = shard.sync("a", 2, &[("a", "A")]);
    assert_eq!(shard.assigned(synced), b"A");
}
