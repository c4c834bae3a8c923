//! A seeded world of classic members around one coordinator: they join, sync slowly or never, lose
//! answers, change what they tell, crash, come back under their instance ids or as somebody new, while
//! the coordinator restarts from its records.
//!
//! After every step: one leader a generation, everybody who is told of an assignment gets what the
//! leader of that generation made for it, a settled generation is never settled again, a ticket is
//! answered once and none waits longer than the time-outs allow, what is live agrees with what is
//! written wherever the group is settled, and the records give the state there is. In the end, when
//! nothing happens any more, all who are alive are in one settled generation and nobody else is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::group::ClassicGroup;
use super::*;
use crate::{ClusterTopics, EncodedRecord, GroupConfig, GroupCoordinator, GroupState};

const GROUP: &str = "pickers";
const STEPS: usize = 400;
const SLOTS: usize = 6;
const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 20_000;
const INITIAL_DELAY_MS: i64 = 3_000;
const HEARTBEAT_MS: i64 = 3_000;
/// The longest that an answer may wait: a whole rebalance with its first wait, or the silence of a
/// leader, and a round more for members that joined in between.
const ANSWER_MS: i64 = 4 * REBALANCE_MS + INITIAL_DELAY_MS + 2 * SESSION_MS;

/// What a client is waiting for.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// To join when its time comes.
    Out,
    Joining(Ticket),
    /// To sync when its time comes: as the leader, with these members.
    Joined {
        members: Vec<String>,
    },
    Syncing(Ticket),
    /// With an assignment.
    In,
}

/// A member as its client sees it.
#[derive(Clone, Debug)]
struct Client {
    /// Its place among all, which stays when ids come and go.
    slot: usize,
    instance_id: Option<String>,
    member_id: String,
    generation: i32,
    phase: Phase,
    /// Its next act: join, sync or heartbeat.
    next_ms: i64,
    protocols: Vec<Protocol>,
    is_old_version: bool,
}

struct World {
    rng: ChaCha8Rng,
    now_ms: i64,
    coordinator: GroupCoordinator,
    log: Vec<(EncodedRecord, i64)>,
    clients: Vec<Client>,
    next_ticket: u64,
    next_id: u32,
    /// When each ticket that waits was given.
    waiting: BTreeMap<Ticket, i64>,
    /// The leader's slot, by generation, since the last restart.
    leaders: BTreeMap<i32, usize>,
    /// What a leader has sent with a sync that is not answered yet.
    proposed: BTreeMap<Ticket, (i32, BTreeMap<usize, Bytes>)>,
    /// Assignments by generation and slot, as the leader made them.
    settled: BTreeMap<i32, BTreeMap<usize, Bytes>>,
    /// Whether anything may go wrong.
    is_rough: bool,
    trace: Vec<String>,
}

fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: INITIAL_DELAY_MS,
        min_session_timeout_ms: 1,
        ..GroupConfig::default()
    }
}

/// The slot is written into each member id.
fn slot_of(member_id: &str) -> usize {
    let digits = member_id.split('-').next().unwrap_or_default();
    digits
        .parse()
        .expect("ids of this world begin with the slot")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut coordinator = GroupCoordinator::new(config());
        coordinator.start(0);
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            coordinator,
            log: Vec::new(),
            clients: Vec::new(),
            next_ticket: 0,
            next_id: 0,
            waiting: BTreeMap::new(),
            leaders: BTreeMap::new(),
            proposed: BTreeMap::new(),
            settled: BTreeMap::new(),
            is_rough: true,
            trace: Vec::new(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.is_rough && self.rng.random_range(0..100) < percent
    }

    fn note(&mut self, text: &str) {
        self.trace.push(format!("{} {text}", self.now_ms));
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..6 => self.start_client(),
            6..9 => self.crash(),
            9..11 => self.leave(),
            11..13 => self.change_metadata(),
            13..15 => self.restart(),
            15..17 => self.now_ms += self.rng.random_range(0..2 * REBALANCE_MS),
            _ => self.now_ms += self.rng.random_range(0..1_500),
        }
        self.run_until_now();
        self.check();
    }

    /// Lets time-outs and clients act in the order of their times.
    fn run_until_now(&mut self) {
        while let Some(decided) = self.coordinator.tick(self.now_ms) {
            self.apply(decided);
        }
        for slot in 0..SLOTS {
            // One that is fenced on the way ends.
            let index = self.clients.iter().position(|client| client.slot == slot);
            if let Some(index) = index
                && self.clients[index].next_ms <= self.now_ms
            {
                self.act(index);
            }
        }
    }

    fn start_client(&mut self) {
        let used: BTreeSet<usize> = self.clients.iter().map(|client| client.slot).collect();
        let Some(slot) = (0..SLOTS).find(|slot| !used.contains(slot)) else {
            return;
        };
        // The first half of the slots are static members, known again after a crash.
        let instance_id = (slot < SLOTS / 2).then(|| format!("instance-{slot}"));
        let is_old_version = self.chance(30);
        self.note(&format!("start {slot}"));
        self.clients.push(Client {
            slot,
            instance_id,
            member_id: String::new(),
            generation: -1,
            phase: Phase::Out,
            next_ms: self.now_ms,
            protocols: protocols(0),
            is_old_version,
        });
    }

    fn pick(&mut self) -> Option<usize> {
        let count = self.clients.len();
        (count > 0).then(|| self.rng.random_range(0..count))
    }

    fn crash(&mut self) {
        if let Some(index) = self.pick() {
            let client = self.clients.remove(index);
            self.note(&format!("crash {}", client.slot));
        }
    }

    fn leave(&mut self) {
        let Some(index) = self.pick() else { return };
        let client = self.clients.remove(index);
        self.note(&format!("leave {}", client.slot));
        let request = LeaveRequest {
            group_id: GROUP.into(),
            members: vec![LeavingMember {
                member_id: client.member_id,
                instance_id: client.instance_id,
            }],
        };
        let decided = self.coordinator.leave_group(self.now_ms, &request).unwrap();
        self.apply(decided);
    }

    fn change_metadata(&mut self) {
        let Some(index) = self.pick() else { return };
        self.next_id += 1;
        self.clients[index].protocols = protocols(self.next_id);
        self.clients[index].phase = Phase::Out;
        self.clients[index].next_ms = self.now_ms;
        self.note(&format!("change {}", self.clients[index].slot));
    }

    /// The coordinator is gone and comes back from its log; who waits for it hears of nothing but that
    /// the connection is gone.
    fn restart(&mut self) {
        self.note("restart");
        let replayed = self.replayed();
        assert!(replayed.has_same_state_as(&self.coordinator));
        self.coordinator = replayed;
        self.coordinator.start(self.now_ms);
        self.waiting.clear();
        self.proposed.clear();
        self.leaders.clear();
        for client in &mut self.clients {
            if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                client.phase = Phase::Out;
                client.next_ms = self.now_ms + 100;
            }
        }
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(config());
        for (stored, timestamp) in &self.log {
            let read = Record::decode(&stored.key, stored.value.as_deref()).unwrap();
            coordinator.replay(&read.unwrap(), *timestamp);
        }
        coordinator
    }

    fn act(&mut self, index: usize) {
        match self.clients[index].phase.clone() {
            Phase::Out => self.join(index),
            // Its request timed out: the client tries again on another connection.
            Phase::Joining(_) | Phase::Syncing(_) => self.join(index),
            Phase::Joined { members } => self.sync(index, &members),
            Phase::In => self.beat(index),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.waiting.insert(ticket, self.now_ms);
        ticket
    }

    fn join(&mut self, index: usize) {
        let ticket = self.ticket();
        self.next_id += 1;
        let client = &mut self.clients[index];
        let request = JoinRequest {
            group_id: GROUP.into(),
            member_id: client.member_id.clone(),
            new_member_id: format!("{}-{}", client.slot, self.next_id),
            instance_id: client.instance_id.clone(),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: REBALANCE_MS as i32,
            protocol_type: "consumer".into(),
            protocols: client.protocols.clone(),
            requires_known_member: !client.is_old_version,
            supports_skipping_assignment: true,
            client_id: "c".into(),
            client_host: "/h".into(),
        };
        client.phase = Phase::Joining(ticket);
        client.next_ms = self.now_ms + ANSWER_MS;
        self.trace.push(format!(
            "{} join {} {}",
            self.now_ms, client.slot, client.member_id
        ));
        let decided =
            self.coordinator
                .join_group(self.now_ms, ticket, &request, &ClusterTopics::new(1));
        self.apply(decided);
    }

    fn sync(&mut self, index: usize, members: &[String]) {
        if self.chance(3) {
            // It hangs for a while, perhaps for too long.
            self.clients[index].next_ms = self.now_ms + self.rng.random_range(0..2 * REBALANCE_MS);
            return;
        }
        let ticket = self.ticket();
        let client = &mut self.clients[index];
        let generation = client.generation;
        let assignments: Vec<(String, Bytes)> = members
            .iter()
            .map(|id| {
                let part = format!("{generation} by {} ({}) for {id}", client.slot, ticket.0);
                (id.clone(), part.into())
            })
            .collect();
        if !members.is_empty() {
            let by_slot = assignments
                .iter()
                .map(|(id, part)| (slot_of(id), part.clone()));
            self.proposed
                .insert(ticket, (generation, by_slot.collect()));
        }
        let request = SyncRequest {
            group_id: GROUP.into(),
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            generation,
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments,
        };
        client.phase = Phase::Syncing(ticket);
        client.next_ms = self.now_ms + ANSWER_MS;
        let decided = self.coordinator.sync_group(self.now_ms, ticket, &request);
        self.apply(decided);
    }

    fn beat(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.next_ms = self.now_ms + HEARTBEAT_MS;
        let request = ClassicHeartbeat {
            group_id: GROUP.into(),
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            generation: client.generation,
        };
        let outcome = self.coordinator.classic_heartbeat(self.now_ms, &request);
        match outcome {
            Ok(decided) => self.apply(decided),
            Err(error) => self.refused(index, &error),
        }
    }

    /// What clients do about an error.
    fn refused(&mut self, index: usize, error: &GroupError) {
        let now_ms = self.now_ms;
        self.note(&format!("refused {} {error}", self.clients[index].slot));
        let client = &mut self.clients[index];
        match error {
            GroupError::UnknownMemberId { .. } | GroupError::IllegalGeneration { .. } => {
                client.member_id.clear();
            }
            GroupError::RebalanceInProgress { .. } => {}
            GroupError::FencedInstanceId { .. } => {
                // Somebody else runs under its instance id: this one ends.
                self.clients.remove(index);
                return;
            }
            other => panic!("{other}"),
        }
        client.phase = Phase::Out;
        client.next_ms = now_ms + 50;
    }

    fn apply<R>(&mut self, transition: Transition<R>) {
        for record in &transition.records {
            let stored = record.encode();
            let read = Record::decode(&stored.key, stored.value.as_deref()).unwrap();
            self.coordinator.replay(&read.unwrap(), self.now_ms);
            self.log.push((stored, self.now_ms));
        }
        // What the leader is told settles what the others may be told.
        for (ticket, reply) in &transition.replies {
            if let (Some((generation, parts)), Reply::Sync(Ok(_))) =
                (self.proposed.get(ticket), reply)
            {
                let (generation, parts) = (*generation, parts.clone());
                if self.leaders.get(&generation) == parts_leader(&parts).as_ref()
                    && !self.settled.contains_key(&generation)
                {
                    let newest = self.settled.keys().next_back();
                    assert!(newest.is_none_or(|newest| *newest < generation));
                    self.settled.insert(generation, parts);
                }
            }
        }
        for (ticket, reply) in transition.replies {
            assert!(
                self.waiting.remove(&ticket).is_some(),
                "{ticket:?} is answered twice"
            );
            self.deliver(ticket, reply);
        }
    }

    fn deliver(&mut self, ticket: Ticket, reply: Reply) {
        let waits = |client: &Client| {
            client.phase == Phase::Joining(ticket) || client.phase == Phase::Syncing(ticket)
        };
        let index = self.clients.iter().position(waits);
        if let Reply::Join(JoinReply {
            outcome: Ok(joined),
            ..
        }) = &reply
        {
            self.check_leader(joined);
        }
        let Some(index) = index else { return };
        if self.chance(4) {
            self.note(&format!("answer lost {}", self.clients[index].slot));
            self.clients[index].next_ms = self.now_ms + self.rng.random_range(100..SESSION_MS);
            return;
        }
        match reply {
            Reply::Join(reply) => self.joined(index, reply),
            Reply::Sync(Ok(synced)) => {
                let client = &mut self.clients[index];
                let made = self.settled.get(&client.generation);
                let own = made.and_then(|made| made.get(&client.slot));
                assert_eq!(
                    Some(&synced.assignment),
                    own.or(Some(&Bytes::new())),
                    "slot {} in generation {} has what the leader did not make for it",
                    client.slot,
                    client.generation
                );
                client.phase = Phase::In;
                client.next_ms = self.now_ms + HEARTBEAT_MS;
            }
            Reply::Sync(Err(error)) => self.refused(index, &error),
        }
    }

    fn joined(&mut self, index: usize, reply: JoinReply) {
        let is_late = self.chance(10);
        let late_ms = self.rng.random_range(0..SESSION_MS);
        let client = &mut self.clients[index];
        match reply.outcome {
            Ok(joined) => {
                client.member_id.clone_from(&reply.member_id);
                client.generation = joined.generation;
                let leads = joined.leader == reply.member_id && !joined.skip_assignment;
                let members = joined.members.into_iter().map(|member| member.member_id);
                let members = members.filter(|_| leads).collect();
                client.phase = Phase::Joined { members };
                client.next_ms = self.now_ms + if is_late { late_ms } else { 20 };
            }
            Err(GroupError::MemberIdRequired { .. }) => {
                client.member_id = reply.member_id;
                client.phase = Phase::Out;
                client.next_ms = self.now_ms;
            }
            Err(error) => self.refused(index, &error),
        }
    }

    fn check_leader(&mut self, joined: &Joined) {
        let slot = slot_of(&joined.leader);
        let leader = *self.leaders.entry(joined.generation).or_insert(slot);
        assert_eq!(
            leader, slot,
            "two leaders in generation {}",
            joined.generation
        );
    }

    fn check(&mut self) {
        for (ticket, since) in &self.waiting {
            let waits = self.now_ms - since;
            assert!(
                waits <= ANSWER_MS + REBALANCE_MS,
                "{ticket:?} waits {waits} ms"
            );
        }
        let stored = self
            .coordinator
            .groups
            .get(GROUP)
            .and_then(|g| g.classic.as_ref());
        let live = self.coordinator.classic.get(GROUP);
        assert!(stored.is_none() || live.is_some(), "a group is lost");
        if let (Some(stored), Some(live)) = (stored, live) {
            let restored = ClassicGroup::restore(stored);
            if live.state == ClassicState::Stable
                || (live.state == ClassicState::Empty && live.pending.is_empty())
            {
                assert_eq!(restored.to_metadata(), live.to_metadata());
                assert_eq!(restored.state, live.state);
                assert_eq!(restored.subscribed_topics, live.subscribed_topics);
            }
            assert!(restored.generation <= live.generation);
        }
    }

    /// Nothing goes wrong any more: everybody alive must come together, and only they.
    fn settle(&mut self) {
        self.is_rough = false;
        let until = self.now_ms + 3 * ANSWER_MS;
        while self.now_ms < until {
            self.now_ms += 500;
            self.run_until_now();
            self.check();
        }
        let slots: BTreeSet<usize> = self.clients.iter().map(|client| client.slot).collect();
        let Ok(group) = self.coordinator.describe_classic(GROUP) else {
            assert!(slots.is_empty());
            return;
        };
        let members: BTreeSet<usize> = group
            .members
            .iter()
            .map(|m| slot_of(&m.member_id))
            .collect();
        assert_eq!(members, slots, "not everybody is in the group, or more are");
        assert_eq!(group.members.len(), slots.len());
        let state = if slots.is_empty() {
            GroupState::Empty
        } else {
            GroupState::Stable
        };
        assert_eq!(group.state, state);
        for client in &self.clients {
            assert_eq!(client.phase, Phase::In, "slot {} is stuck", client.slot);
            assert_eq!(client.generation, group.generation);
        }
        assert!(self.waiting.is_empty(), "requests of nobody wait");
    }
}

/// Who made an assignment, as it says itself.
fn parts_leader(parts: &BTreeMap<usize, Bytes>) -> Option<usize> {
    let text = std::str::from_utf8(parts.values().next()?).ok()?;
    text.split(' ').nth(2)?.parse().ok()
}

fn protocols(version: u32) -> Vec<Protocol> {
    let subscription = |topic: String| {
        let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&[0xff; 4]);
        Bytes::from(bytes)
    };
    ["range", "sticky"]
        .map(|name| Protocol {
            name: name.into(),
            metadata: subscription(format!("topic-{version}")),
        })
        .into()
}

fn run(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    assert!(world.replayed().has_same_state_as(&world.coordinator));
    world.trace
}

/// Runs one seed, and names it when it fails.
fn run_named(seed: u64) -> Vec<String> {
    let outcome = std::panic::catch_unwind(|| run(seed));
    outcome.unwrap_or_else(|_| panic!("seed {seed} fails"))
}

#[test]
fn classic_groups_keep_their_rules_whatever_happens() {
    for seed in 0..200 {
        run_named(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for seed in [5, 2_000_003] {
        assert_eq!(run_named(seed), run_named(seed));
    }
}

#[test]
fn the_stories_have_what_they_are_about() {
    let told: Vec<String> = (0..20).flat_map(run_named).collect();
    let count = |word: &str| told.iter().filter(|line| line.contains(word)).count();
    for word in [
        "crash",
        "restart",
        "leave",
        "change",
        "answer lost",
        "rebalancing",
        "join 0 ",
    ] {
        assert!(count(word) > 20, "{word}: {}", count(word));
    }
}
