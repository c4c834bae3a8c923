//! Members side by side without a network: what a host may rely on, and what no message may do.

use conveyor_log::disk::{Crash, SimDisk};
use conveyor_record::NodeId;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::entry::{Entry, EntryKind};
use crate::message::Body;
use crate::store::{self, Expected, Opened};

const CLUSTER: Uuid = Uuid::from_u128(5);
const DIR: &str = "/quorum";

fn members(nodes: i32) -> BTreeMap<NodeId, String> {
    (1..=nodes)
        .map(|id| (NodeId(id), format!("host-{id}:9193")))
        .collect()
}

fn config(seed: u64) -> NodeConfig {
    NodeConfig {
        tick_ms: 10,
        raft: RaftConfig {
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed,
            ..RaftConfig::default()
        },
        keep_entries: 2,
        snapshot_retry_ticks: 10,
        ..NodeConfig::default()
    }
}

fn open(disk: &SimDisk, node_id: i32) -> Opened {
    let expected = Expected {
        node_id: NodeId(node_id),
        cluster_id: Some(CLUSTER),
    };
    store::open(disk.shared(), std::path::Path::new(DIR), expected).unwrap()
}

fn identity(node_id: i32, voter_id: u64) -> Identity {
    Identity {
        cluster_id: CLUSTER,
        node_id: NodeId(node_id),
        voter_id: VoterId(voter_id),
    }
}

/// A first voter of a cluster of `nodes`.
fn founder(disk: &SimDisk, node_id: i32, nodes: i32) -> QuorumNode {
    let Opened::New(empty) = open(disk, node_id) else {
        panic!("the disk is empty");
    };
    let membership = Membership::bootstrap(&members(nodes)).unwrap();
    let identity = identity(node_id, node_id as u64);
    let (store, recovered) = empty.bootstrap(identity, membership).unwrap();
    QuorumNode::new(store, recovered, config(node_id as u64), 0).unwrap()
}

fn restarted(disk: &SimDisk, node_id: i32) -> QuorumNode {
    let Opened::Existing(store, recovered) = open(disk, node_id) else {
        panic!("there is a member");
    };
    QuorumNode::new(*store, *recovered, config(node_id as u64), 0).unwrap()
}

/// Members that reach each other at once.
#[derive(Default)]
struct Room {
    nodes: BTreeMap<VoterId, QuorumNode>,
    disks: BTreeMap<VoterId, SimDisk>,
    outputs: BTreeMap<VoterId, Vec<Output>>,
    now_ms: i64,
    /// Nobody hears this one, and it hears nobody.
    cut_off: Option<VoterId>,
}

impl Room {
    fn founded(nodes: i32) -> Self {
        let mut room = Self::default();
        for node_id in 1..=nodes {
            let disk = SimDisk::new(node_id as u64);
            room.enter(founder(&disk, node_id, nodes), disk);
        }
        room
    }

    fn enter(&mut self, node: QuorumNode, disk: SimDisk) {
        let id = node.identity().voter_id;
        self.nodes.insert(id, node);
        self.disks.insert(id, disk);
    }

    /// Delivers everything until nobody has anything to say.
    fn talk(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (id, node) in &mut self.nodes {
                while let Some(mut round) = node.begin() {
                    sent.extend(round.take_messages());
                    let outputs = node.finish(round).unwrap();
                    sent.extend(outputs.messages);
                    self.outputs.entry(*id).or_default().extend(outputs.outputs);
                }
                if node.wants_snapshot() {
                    let applied = node.status().applied;
                    node.snapshot(applied, Bytes::from_static(b"state"))
                        .unwrap();
                }
            }
            if sent.is_empty() {
                return;
            }
            for message in sent {
                let cut = self.cut_off == Some(message.from) || self.cut_off == Some(message.to);
                if let (false, Some(node)) = (cut, self.nodes.get_mut(&message.to)) {
                    node.step(message).unwrap();
                }
            }
        }
    }

    fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 10 {
            self.now_ms += 10;
            for node in self.nodes.values_mut() {
                node.tick(self.now_ms);
            }
            self.talk();
        }
    }

    fn leader(&mut self) -> &mut QuorumNode {
        for _ in 0..100 {
            let leads = |node: &QuorumNode| node.status().role == Role::Leader;
            let cut_off = self.cut_off;
            let found = self
                .nodes
                .iter()
                .find(|(id, node)| Some(**id) != cut_off && leads(node));
            if let Some(id) = found.map(|(id, _)| *id) {
                return self.nodes.get_mut(&id).unwrap();
            }
            self.pass(50);
        }
        panic!("nobody leads");
    }

    fn propose(&mut self, text: &'static str) -> LogPosition {
        let position = self.leader().propose(Bytes::from_static(text.as_bytes()));
        self.talk();
        position.unwrap()
    }

    fn applied(&self, id: VoterId) -> Vec<Bytes> {
        let outputs = self.outputs.get(&id).into_iter().flatten();
        outputs
            .filter_map(|output| match output {
                Output::Committed(Committed::Entry(entry)) if !entry.data.is_empty() => {
                    Some(entry.data.clone())
                }
                _ => None,
            })
            .collect()
    }
}

#[test]
fn one_voter_commits_by_itself_and_remembers() {
    let mut room = Room::founded(1);
    let position = room.propose("a");
    let committed = Output::Resolved {
        position,
        outcome: Outcome::Committed,
    };
    assert!(room.outputs[&VoterId(1)].contains(&committed));

    let disk = room.disks[&VoterId(1)].clone();
    disk.crash(Crash::Power);
    let mut room = Room::default();
    room.enter(restarted(&disk, 1), disk);
    room.propose("b");
    assert_eq!(room.applied(VoterId(1)), ["a", "b"]);
}

#[test]
fn all_of_three_get_what_the_leader_was_given() {
    let mut room = Room::founded(3);
    room.propose("a");
    room.propose("b");
    room.pass(100);
    for id in 1..=3 {
        assert_eq!(room.applied(VoterId(id)), ["a", "b"], "voter {id}");
    }
}

#[test]
fn a_follower_names_the_leader_instead_of_taking_a_proposal() {
    let mut room = Room::founded(3);
    room.propose("a");
    room.pass(50);
    let leader = room.leader().identity().voter_id;
    let other = room
        .nodes
        .values_mut()
        .find(|n| n.status().role == Role::Follower);
    let refused = other.unwrap().propose(Bytes::new()).unwrap_err();
    assert!(matches!(refused, Refused::NotLeader { leader: Some(found), .. } if found == leader));
    assert!(refused.is_retriable());
}

#[test]
fn a_leader_that_hears_nobody_answers_no_read_and_steps_down() {
    let mut room = Room::founded(3);
    room.propose("a");
    let old = room.leader().identity().voter_id;
    room.cut_off = Some(old);
    let read = room.nodes.get_mut(&old).unwrap().read().unwrap();
    let lost = room
        .nodes
        .get_mut(&old)
        .unwrap()
        .propose("lost".into())
        .unwrap();
    room.pass(1_000);
    assert!(room.outputs[&old].contains(&Output::ReadFailed { read }));
    assert_ne!(room.nodes[&old].status().role, Role::Leader);

    room.propose("b");
    room.cut_off = None;
    room.pass(1_000);
    let superseded = Output::Resolved {
        position: lost,
        outcome: Outcome::Superseded,
    };
    assert!(room.outputs[&old].contains(&superseded));
    assert_eq!(room.applied(old), ["a", "b"]);
}

#[test]
fn a_read_waits_for_everything_before_it() {
    let mut room = Room::founded(3);
    room.propose("a");
    let id = room.leader().identity().voter_id;
    let read = room.leader().read().unwrap();
    room.talk();
    let outputs = &room.outputs[&id];
    let place = |wanted: &dyn Fn(&Output) -> bool| outputs.iter().position(wanted).unwrap();
    let applied = place(
        &|output| matches!(output, Output::Committed(Committed::Entry(entry)) if entry.data == "a"),
    );
    assert!(place(&|output| *output == Output::ReadReady { read }) > applied);
}

#[test]
fn handing_over_costs_no_election_timeout() {
    let mut room = Room::founded(3);
    room.propose("a");
    room.pass(50);
    let to = room.leader().hand_over().unwrap();
    room.talk();
    assert_eq!(room.nodes[&to].status().role, Role::Leader);
    room.propose("b");
    assert_eq!(room.applied(to), ["a", "b"]);
}

#[test]
fn who_is_alone_cannot_hand_over() {
    let mut room = Room::founded(1);
    assert_eq!(room.leader().hand_over(), Err(Refused::NoSuccessor));
}

#[test]
fn one_grows_to_three_and_a_wiped_one_comes_back() {
    let mut room = Room::founded(1);
    room.propose("a");
    for node_id in 2..=3 {
        join(&mut room, node_id, node_id as u64);
        room.pass(200);
        let learner = VoterId(node_id as u64);
        let change = MembershipRequest::Promote(learner);
        room.leader().change_members(&change).unwrap();
        room.pass(100);
    }
    room.propose("b");
    assert_eq!(room.leader().membership().voters.len(), 3);
    assert_eq!(
        room.applied(VoterId(3)),
        ["b"],
        "the rest came as a snapshot or before"
    );

    room.nodes.remove(&VoterId(3));
    join(&mut room, 3, 4);
    room.pass(500);
    let voters = room.leader().membership().voters.clone();
    assert_eq!(voters, BTreeSet::from([VoterId(1), VoterId(2), VoterId(4)]));
    room.nodes.remove(&VoterId(2));
    room.propose("c");
    assert_eq!(room.applied(VoterId(4)).last().unwrap(), "c");
}

fn join(room: &mut Room, node_id: i32, voter_id: u64) {
    let request = MembershipRequest::Join {
        node_id: NodeId(node_id),
        directory_id: Uuid::from_u128(voter_id.into()),
        endpoint: format!("host-{node_id}:9193"),
    };
    room.leader().change_members(&request).unwrap();
    room.talk();
    let disk = SimDisk::new(voter_id);
    let Opened::New(empty) = open(&disk, node_id) else {
        panic!("the disk is empty");
    };
    let (store, recovered) = empty.join(identity(node_id, voter_id)).unwrap();
    let node = QuorumNode::new(store, recovered, config(voter_id), room.now_ms).unwrap();
    room.enter(node, disk);
    room.pass(200);
}

#[test]
fn a_learner_is_not_promoted_before_it_has_what_is_committed() {
    let mut room = Room::founded(1);
    room.propose("a");
    let request = MembershipRequest::Join {
        node_id: NodeId(2),
        directory_id: Uuid::from_u128(2),
        endpoint: "host-2:9193".to_owned(),
    };
    room.leader().change_members(&request).unwrap();
    room.talk();
    let promote = MembershipRequest::Promote(VoterId(2));
    let refused = room.leader().change_members(&promote).unwrap_err();
    assert!(matches!(refused, Refused::NotCaughtUp { .. }), "{refused}");
}

#[test]
fn a_leader_does_not_remove_itself() {
    let mut room = Room::founded(3);
    let id = room.leader().identity().voter_id;
    let refused = room
        .leader()
        .change_members(&MembershipRequest::Remove(id))
        .unwrap_err();
    assert_eq!(refused, Refused::LeaderLeaves { voter_id: id });
}

#[test]
fn a_snapshot_stands_for_what_has_come_out_and_nothing_else() {
    let mut room = Room::founded(1);
    room.propose("a");
    let node = room.leader();
    let applied = node.status().applied;
    assert!(matches!(
        node.snapshot(applied + 1, Bytes::new()),
        Err(SnapshotError::Place { .. })
    ));
    node.snapshot(applied, Bytes::from_static(b"state"))
        .unwrap();
    assert!(matches!(
        node.snapshot(applied, Bytes::new()),
        Err(SnapshotError::Place { .. })
    ));
    let disk = room.disks[&VoterId(1)].clone();
    disk.crash(Crash::Power);
    let Opened::Existing(_, recovered) = open(&disk, 1) else {
        panic!("there is a member");
    };
    let snapshot = recovered.snapshot.unwrap();
    assert_eq!(
        (snapshot.last.index, &snapshot.data[..]),
        (applied, &b"state"[..])
    );
    assert!(recovered.entries.len() <= 2);
}

#[test]
fn a_failed_sync_is_the_end() {
    let mut room = Room::founded(1);
    room.propose("a");
    room.disks[&VoterId(1)].fail_next_syncs(1);
    let node = room.leader();
    node.propose("b".into()).unwrap();
    let round = node.begin().unwrap();
    let error = node.finish(round).unwrap_err();
    assert!(matches!(error, NodeError::Store(_)));
    assert_eq!(node.death(), Some(&error));
    assert!(node.begin().is_none());
    assert!(node.propose("c".into()).is_err());
    assert!(node.snapshot(2, Bytes::new()).is_err());
}

#[test]
fn messages_of_others_are_refused_by_name() {
    let disk = SimDisk::new(1);
    let mut node = founder(&disk, 1, 3);
    let message = |cluster_id, from, to| Message {
        cluster_id,
        from: VoterId(from),
        to: VoterId(to),
        term: 1,
        body: Body::HeartbeatReply { read_round: 0 },
    };
    let mut step = |message| node.step(message).unwrap_err();
    assert!(matches!(
        step(message(Uuid::nil(), 2, 1)),
        StepError::OtherCluster { .. }
    ));
    assert!(matches!(
        step(message(CLUSTER, 2, 7)),
        StepError::OtherVoter { .. }
    ));
    assert!(matches!(
        step(message(CLUSTER, 9, 1)),
        StepError::Stranger { .. }
    ));
    assert!(matches!(
        step(message(CLUSTER, 1, 1)),
        StepError::Inconsistent { .. }
    ));
}

#[test]
fn a_heartbeat_that_commits_what_was_lost_is_refused() {
    let disk = SimDisk::new(1);
    let mut node = founder(&disk, 1, 3);
    let heartbeat = Message {
        cluster_id: CLUSTER,
        from: VoterId(2),
        to: VoterId(1),
        term: 2,
        body: Body::Heartbeat {
            commit: 9,
            read_round: 0,
        },
    };
    let error = node.step(heartbeat).unwrap_err();
    assert!(
        error.to_string().contains("has its disk lost data?"),
        "{error}"
    );
}

/// Messages that may be lies, in small numbers so that they meet.
fn lie() -> impl Strategy<Value = (u64, u64, Body)> {
    let number = || 0_u64..9;
    let position = || (number(), number()).prop_map(|(term, index)| LogPosition { term, index });
    let kind = prop_oneof![4 => Just(EntryKind::Data), 1 => Just(EntryKind::Membership)];
    let entry =
        (number(), number(), kind, any::<[u8; 3]>()).prop_map(|(index, term, kind, data)| {
            let data = match kind {
                EntryKind::Membership => Bytes::new(),
                EntryKind::Data => Bytes::copy_from_slice(&data),
            };
            Entry {
                index,
                term,
                kind,
                data,
            }
        });
    // Entries that follow their predecessor get further than any others.
    let entries = (prop::collection::vec(entry, 0..4), any::<bool>());
    let body = prop_oneof![
        4 => (position(), number(), entries).prop_map(|(previous, commit, (mut entries, tidy))| {
            let mut last = previous.term;
            for (entry, index) in entries.iter_mut().zip(previous.index + 1..) {
                if tidy {
                    entry.index = index;
                    entry.term = entry.term.max(last);
                    last = entry.term;
                }
            }
            Body::Append { previous, commit, entries }
        }),
        2 => number().prop_map(|index| Body::Accepted { index }),
        2 => (number(), position()).prop_map(|(index, hint)| Body::Rejected { index, hint }),
        2 => (any::<bool>(), any::<bool>(), position()).prop_map(|(pre_vote, by_transfer, last)| {
            Body::VoteRequest { pre_vote, by_transfer, last }
        }),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(pre_vote, granted)| Body::Vote { pre_vote, granted }),
        2 => (number(), number())
            .prop_map(|(commit, read_round)| Body::Heartbeat { commit, read_round }),
        1 => number().prop_map(|read_round| Body::HeartbeatReply { read_round }),
        1 => (position(), 1_i32..4).prop_map(|(last, nodes)| Body::Snapshot(Snapshot {
            last,
            membership: Membership::bootstrap(&members(nodes)).unwrap(),
            data: Bytes::from_static(b"state"),
        })),
        1 => Just(Body::CampaignNow),
    ];
    let term = prop_oneof![8 => number(), 1 => Just(u64::MAX), 1 => Just(1 << 62)];
    (1_u64..5, term, body)
}

#[derive(Debug, Clone)]
enum Deed {
    Hear(u64, u64, Body),
    Tick(i64),
    Propose,
    Read,
    Work,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => lie().prop_map(|(from, term, body)| Deed::Hear(from, term, body)),
        2 => (0_i64..300).prop_map(Deed::Tick),
        1 => Just(Deed::Propose),
        1 => Just(Deed::Read),
        6 => Just(Deed::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    /// Whatever others say, in whatever order: the node goes on, or stops with an error; and what it
    /// has written it can read again.
    #[test]
    fn no_lie_makes_a_node_panic(deeds in prop::collection::vec(deed(), 0..80)) {
        let disk = SimDisk::new(7);
        let mut node = founder(&disk, 1, 3);
        let mut now_ms = 0;
        for deed in deeds {
            match deed {
                Deed::Hear(from, term, body) => drop(node.step(Message {
                    cluster_id: CLUSTER,
                    from: VoterId(from),
                    to: VoterId(1),
                    term,
                    body,
                })),
                Deed::Tick(ms) => {
                    now_ms += ms;
                    node.tick(now_ms);
                }
                Deed::Propose => drop(node.propose(Bytes::from_static(b"x"))),
                Deed::Read => drop(node.read()),
                Deed::Work => while let Some(round) = node.begin() {
                    drop(node.finish(round));
                },
            }
        }
        drop(node);
        disk.crash(Crash::Power);
        let Opened::Existing(store, recovered) = open(&disk, 1) else {
            panic!("there is a member");
        };
        prop_assert!(QuorumNode::new(*store, *recovered, config(1), now_ms).is_ok());
    }
}
