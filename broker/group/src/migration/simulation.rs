//! A seeded world of members by both protocols around one coordinator: applications that are rolled
//! from one to the other and back, die, leave, lose answers, are slow, while topics grow and the
//! coordinator restarts from its records, compacted or not.
//!
//! After every step: no partition is owned by two members that the coordinator knows, the group is of
//! one kind, epochs do not go back while there are members, and the records give the state there is.
//! In the end, when nothing happens any more, everything is owned, and the group is a classic one if no
//! member by the consumer protocol is left.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conveyor_record::fields::Writer;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::classic::subscription::{Subscription, read_assignment, write_assignment};
use crate::{
    Assignment, ClassicHeartbeat, ClusterTopics, ClusterView, EncodedRecord, GroupConfig,
    GroupCoordinator, GroupError, HeartbeatRequest, JoinReply, JoinRequest, Joined, LeaveRequest,
    LeavingMember, Protocol, Record, Reply, SyncRequest, Ticket, Transition,
};

const GROUP: &str = "billing";
const TOPICS: [&str; 2] = ["orders", "waves"];
const STEPS: usize = 400;
/// Rounds in which everybody who is alive acts once, a second apart, after which a quiet group is at
/// rest: the longest session and the longest rebalance, and some rounds to come to terms.
const ROUNDS_MAX: usize = 120;
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 15_000;

type Named = BTreeMap<String, BTreeSet<i32>>;

/// Where a classic client stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Out,
    Joining(Ticket),
    /// It is in a generation, and has to ask for its assignment; a leader brings everybody's.
    MustSync(Vec<(String, Bytes)>),
    Syncing(Ticket),
    In,
}

#[derive(Clone, Debug, Default)]
struct Client {
    is_classic: bool,
    /// The name of the application, under which it is started again.
    member_id: String,
    topics: BTreeSet<String>,
    epoch: i32,
    assigned: Assignment,
    owned: Assignment,
    phase: Phase,
    /// The version of the cluster that it has assigned by, if it is the leader.
    has_led_by: Option<u64>,
}

struct World {
    rng: ChaCha8Rng,
    /// Whether classic clients keep what they own over a join (cooperative) or give up all (eager).
    is_cooperative: bool,
    now_ms: i64,
    cluster: ClusterTopics,
    versions: u64,
    coordinator: GroupCoordinator,
    log: Vec<(EncodedRecord, i64)>,
    clients: BTreeMap<u32, Client>,
    last_client: u32,
    last_ticket: u64,
    epoch: i32,
    upgrades: usize,
    downgrades: usize,
    was_classic: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = GroupConfig {
            initial_rebalance_delay_ms: 0,
            session_timeout_ms: i64::from(SESSION_MS),
            ..GroupConfig::default()
        };
        let mut coordinator = GroupCoordinator::new(config);
        coordinator.start(0);
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            is_cooperative: seed.is_multiple_of(2),
            now_ms: 0,
            cluster: ClusterTopics::new(1)
                .with("orders", Uuid::from_u128(1), 4)
                .with("waves", Uuid::from_u128(2), 3),
            versions: 1,
            coordinator,
            log: Vec::new(),
            clients: BTreeMap::new(),
            last_client: 0,
            last_ticket: 0,
            epoch: 0,
            upgrades: 0,
            downgrades: 0,
            was_classic: true,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick(&mut self) -> Option<u32> {
        let count = self.clients.len();
        let index = (count > 0).then(|| self.rng.random_range(0..count))?;
        self.clients.keys().nth(index).copied()
    }

    fn apply<R>(&mut self, transition: Transition<R>) -> R {
        for record in &transition.records {
            let stored = record.encode();
            let read = Record::decode(&stored.key, stored.value.as_deref());
            let read = read.unwrap().unwrap();
            assert_eq!(read, *record);
            self.coordinator.replay(&read, self.now_ms);
            self.log.push((stored, self.now_ms));
        }
        for (ticket, reply) in transition.replies {
            self.hear(ticket, reply);
        }
        transition.response
    }

    fn step(&mut self) {
        self.now_ms += self.rng.random_range(1..1_000);
        match self.rng.random_range(0..100) {
            0..6 if self.clients.len() < 5 => self.begin(),
            6..80 => {
                if let Some(key) = self.pick() {
                    self.act(key);
                }
            }
            80..84 => {
                if let Some(key) = self.pick() {
                    self.leave(key);
                }
            }
            84..87 => {
                // It dies, and nobody hears of it until its session ends.
                if let Some(key) = self.pick() {
                    self.clients.remove(&key);
                }
            }
            87..89 => self.grow_topic(),
            89..93 => self.now_ms += 4_000,
            93..96 => self.restart(),
            _ => {}
        }
        self.tick();
        self.check();
    }

    fn begin(&mut self) {
        self.last_client += 1;
        let is_classic = self.chance(55);
        let both = self.chance(70);
        let topics = TOPICS.into_iter().take(if both { 2 } else { 1 });
        let client = Client {
            is_classic,
            member_id: if is_classic {
                String::new()
            } else {
                format!("m{:03}", self.last_client)
            },
            topics: topics.map(str::to_owned).collect(),
            ..Client::default()
        };
        self.clients.insert(self.last_client, client);
        self.act(self.last_client);
    }

    /// What a client's loop would do next.
    fn act(&mut self, key: u32) {
        let client = self.clients[&key].clone();
        if !client.is_classic {
            return self.beat(key);
        }
        match client.phase {
            Phase::Out => self.join(key),
            Phase::MustSync(assignments) => self.sync(key, assignments),
            Phase::Joining(_) | Phase::Syncing(_) => {}
            // A leader that sees new partitions asks for a rebalance.
            Phase::In if client.has_led_by.is_some_and(|seen| seen < self.versions) => {
                self.join(key);
            }
            Phase::In => self.classic_beat(key),
        }
    }

    fn beat(&mut self, key: u32) {
        let full = self.chance(20);
        let gives_up = self.chance(60);
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        if gives_up {
            client.owned = client.assigned.clone();
        }
        let mut request = HeartbeatRequest::keep_alive(GROUP, &client.member_id, client.epoch);
        request.owned = Some(client.owned.clone());
        if client.epoch == 0 || full {
            request.rebalance_timeout_ms = Some(REBALANCE_MS);
            request.subscribed_topic_names = Some(client.topics.clone());
        }
        let outcome = self
            .coordinator
            .heartbeat(self.now_ms, &request, &self.cluster);
        match outcome {
            Ok(transition) => {
                let response = self.apply(transition);
                if self.chance(10) {
                    return; // the answer is lost
                }
                let client = self.clients.get_mut(&key).unwrap();
                client.epoch = response.member_epoch;
                if let Some(assigned) = response.assignment {
                    client.owned.extend(assigned.iter());
                    client.assigned = assigned;
                }
            }
            Err(
                GroupError::UnknownMemberId { .. }
                | GroupError::FencedMemberEpoch { .. }
                | GroupError::NotAConsumerGroup { .. },
            ) => self.lose(key),
            Err(other) => panic!("{other}"),
        }
    }

    /// The client hears that it is out, and owns nothing any more.
    fn lose(&mut self, key: u32) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.epoch = 0;
            client.owned = Assignment::new();
            client.assigned = Assignment::new();
            client.phase = Phase::Out;
        }
    }

    fn names(&self, partitions: &Assignment) -> Named {
        let mut named = Named::new();
        for name in TOPICS {
            let id = self.cluster.topic(name).unwrap().id;
            for (topic, partition) in partitions.iter() {
                if topic == id {
                    named.entry(name.to_owned()).or_default().insert(partition);
                }
            }
        }
        named
    }

    fn join(&mut self, key: u32) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if !self.is_cooperative {
            self.clients.get_mut(&key).unwrap().owned = Assignment::new();
        }
        let client = self.clients[&key].clone();
        let protocol = Protocol {
            name: if self.is_cooperative {
                "cooperative-sticky".to_owned()
            } else {
                "range".to_owned()
            },
            metadata: subscription(&client.topics, &self.names(&client.owned)),
        };
        let request = JoinRequest {
            group_id: GROUP.to_owned(),
            member_id: client.member_id,
            new_member_id: format!("c{key:03}-{}", self.last_ticket),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol],
            requires_known_member: true,
            ..JoinRequest::default()
        };
        self.clients.get_mut(&key).unwrap().phase = Phase::Joining(ticket);
        let joined = self
            .coordinator
            .join_group(self.now_ms, ticket, &request, &self.cluster);
        self.apply(joined);
    }

    fn sync(&mut self, key: u32, assignments: Vec<(String, Bytes)>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let client = self.clients.get_mut(&key).unwrap();
        client.phase = Phase::Syncing(ticket);
        let request = SyncRequest {
            group_id: GROUP.to_owned(),
            member_id: client.member_id.clone(),
            generation: client.epoch,
            assignments,
            ..SyncRequest::default()
        };
        let synced = self.coordinator.sync_group(self.now_ms, ticket, &request);
        self.apply(synced);
    }

    fn classic_beat(&mut self, key: u32) {
        let client = &self.clients[&key];
        let request = ClassicHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: client.member_id.clone(),
            generation: client.epoch,
            ..ClassicHeartbeat::default()
        };
        match self.coordinator.classic_heartbeat(self.now_ms, &request) {
            Ok(transition) => self.apply(transition),
            Err(error) => self.refused(key, &error),
        }
    }

    /// A classic client hears an error.
    fn refused(&mut self, key: u32, error: &GroupError) {
        match error {
            GroupError::RebalanceInProgress { .. } => {
                self.clients.get_mut(&key).unwrap().phase = Phase::Out;
            }
            GroupError::IllegalGeneration { .. } => self.lose(key),
            GroupError::UnknownMemberId { .. } => {
                self.lose(key);
                self.clients.get_mut(&key).unwrap().member_id.clear();
            }
            other => panic!("{other}"),
        }
    }

    /// An answer to a join or a sync.
    fn hear(&mut self, ticket: Ticket, reply: Reply) {
        let waits = [Phase::Joining(ticket), Phase::Syncing(ticket)];
        let waiting = self.clients.iter().find(|(_, c)| waits.contains(&c.phase));
        let Some(key) = waiting.map(|(key, _)| *key) else {
            return;
        };
        match reply {
            Reply::Join(JoinReply { member_id, outcome }) => {
                let (is_lost, versions) = (self.chance(5), self.versions);
                let client = self.clients.get_mut(&key).unwrap();
                client.phase = Phase::Out;
                if is_lost {
                    return;
                }
                match outcome {
                    Ok(joined) => {
                        client.member_id.clone_from(&member_id);
                        client.epoch = joined.generation;
                        let assignments = if joined.leader == member_id {
                            self.assign(&joined)
                        } else {
                            Vec::new()
                        };
                        let client = self.clients.get_mut(&key).unwrap();
                        client.has_led_by = (joined.leader == member_id).then_some(versions);
                        client.phase = Phase::MustSync(assignments);
                    }
                    Err(GroupError::MemberIdRequired { .. }) => client.member_id = member_id,
                    Err(error) => self.refused(key, &error),
                }
            }
            Reply::Sync(Err(error)) => {
                self.clients.get_mut(&key).unwrap().phase = Phase::Out;
                self.refused(key, &error);
            }
            Reply::Sync(Ok(synced)) => {
                let named = read_assignment(&synced.assignment).unwrap();
                let assigned = super::upgrade::by_id(&named, &self.cluster);
                let client = self.clients.get_mut(&key).unwrap();
                // One that has given something up joins again at once, so that others may have it.
                let is_complete = client.owned.is_subset(&assigned);
                client.owned = assigned;
                client.phase = if is_complete { Phase::In } else { Phase::Out };
            }
        }
    }

    /// What a leader makes of its members: partitions in turn, and by the cooperative way none that
    /// another member has not given up.
    fn assign(&self, joined: &Joined) -> Vec<(String, Bytes)> {
        let told: BTreeMap<&String, Subscription> = joined
            .members
            .iter()
            .map(|m| (&m.member_id, Subscription::read(&m.metadata).unwrap()))
            .collect();
        let mut made: BTreeMap<&String, Named> =
            told.keys().map(|id| (*id, Named::new())).collect();
        for name in TOPICS {
            let wanting: Vec<&&String> = told
                .iter()
                .filter(|(_, own)| own.topics.contains(name))
                .map(|(id, _)| id)
                .collect();
            let partitions = self.cluster.topic(name).unwrap().partitions;
            for partition in (0..partitions).filter(|_| !wanting.is_empty()) {
                let winner = wanting[partition as usize % wanting.len()];
                let is_held = told.iter().any(|(id, own)| {
                    id != winner && own.owned.get(name).is_some_and(|p| p.contains(&partition))
                });
                if !(self.is_cooperative && is_held) {
                    let own = made.get_mut(*winner).unwrap();
                    own.entry(name.to_owned()).or_default().insert(partition);
                }
            }
        }
        let made = made.into_iter();
        made.map(|(id, own)| (id.clone(), write_assignment(1, &own)))
            .collect()
    }

    fn leave(&mut self, key: u32) {
        let client = self.clients.remove(&key).unwrap();
        if client.is_classic {
            let request = LeaveRequest {
                group_id: GROUP.to_owned(),
                members: vec![LeavingMember {
                    member_id: client.member_id,
                    instance_id: None,
                }],
            };
            let left = self.coordinator.leave_group(self.now_ms, &request).unwrap();
            self.apply(left);
        } else {
            let request = HeartbeatRequest::keep_alive(GROUP, &client.member_id, -1);
            let left = self
                .coordinator
                .heartbeat(self.now_ms, &request, &self.cluster);
            if let Ok(left) = left {
                self.apply(left);
            }
        }
    }

    fn grow_topic(&mut self) {
        let name = TOPICS[self.rng.random_range(0..TOPICS.len())];
        let topic = self.cluster.topic(name).unwrap();
        if topic.partitions < 9 {
            self.versions += 1;
            let cluster = std::mem::take(&mut self.cluster);
            self.cluster = cluster
                .with(name, topic.id, topic.partitions + 1)
                .at_version(self.versions);
        }
    }

    fn tick(&mut self) {
        while let Some(transition) = self.coordinator.tick(self.now_ms) {
            self.apply(transition);
        }
    }

    fn restart(&mut self) {
        if self.chance(50) {
            let mut last = BTreeMap::new();
            for (index, (record, _)) in self.log.iter().enumerate() {
                last.insert(record.key.clone(), index);
            }
            let mut index = 0;
            self.log.retain(|(record, _)| {
                index += 1;
                last[&record.key] == index - 1
            });
        }
        let restarted = self.replayed();
        assert!(
            restarted.has_same_state_as(&self.coordinator),
            "replay gives another state"
        );
        self.coordinator = restarted;
        self.coordinator.start(self.now_ms);
        // Connections end, and with them the requests that wait.
        for client in self.clients.values_mut() {
            if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                client.phase = Phase::Out;
            }
        }
        self.was_classic = self.coordinator.is_classic(GROUP);
        if self.was_classic {
            // A generation that was not settled is forgotten.
            self.epoch = 0;
        }
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.coordinator.config.clone());
        for (stored, timestamp_ms) in &self.log {
            let record = Record::decode(&stored.key, stored.value.as_deref());
            coordinator.replay(&record.unwrap().unwrap(), *timestamp_ms);
        }
        coordinator
    }

    /// The members that the coordinator knows, and the group's epoch or generation.
    fn known(&self) -> (BTreeSet<String>, i32) {
        let newer = self.coordinator.describe(GROUP);
        let classic = self.coordinator.describe_classic(GROUP);
        assert!(newer.is_err() || classic.is_err(), "it is of two kinds");
        match (newer, classic) {
            (Ok(group), _) => {
                let members = group.members.into_iter();
                (members.map(|m| m.member_id).collect(), group.epoch)
            }
            (_, Ok(group)) => {
                let members = group.members.into_iter();
                (members.map(|m| m.member_id).collect(), group.generation)
            }
            _ => (BTreeSet::new(), self.epoch),
        }
    }

    fn check(&mut self) {
        let (members, epoch) = self.known();
        if members.is_empty() {
            // The next member may begin a group of the other kind, with a count of its own.
            self.epoch = 0;
        } else {
            assert!(epoch >= self.epoch, "{epoch} after {}", self.epoch);
            self.epoch = epoch;
            let is_classic = self.coordinator.is_classic(GROUP);
            self.upgrades += usize::from(self.was_classic && !is_classic);
            self.downgrades += usize::from(!self.was_classic && is_classic);
            self.was_classic = is_classic;
        }
        let mut owners: BTreeMap<(Uuid, i32), &Client> = BTreeMap::new();
        for client in self.clients.values() {
            if !members.contains(&client.member_id) {
                continue;
            }
            for place in client.owned.iter() {
                if let Some(other) = owners.insert(place, client) {
                    panic!("{place:?} is owned by {other:?} and {client:?}");
                }
            }
        }
    }

    /// Lets everybody who is alive act until the group is at rest.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for key in self.clients.keys().copied().collect::<Vec<_>>() {
                if let Some(client) = self.clients.get_mut(&key)
                    && !client.is_classic
                {
                    client.owned = client.assigned.clone();
                }
                self.act(key);
            }
            self.now_ms += 1_000;
            self.tick();
            self.check();
            if self.is_at_rest() {
                return;
            }
        }
        panic!(
            "no rest: {:#?} {:#?} {:#?}",
            self.coordinator.describe(GROUP),
            self.coordinator.describe_classic(GROUP),
            self.clients
        );
    }

    fn is_at_rest(&self) -> bool {
        let (members, _) = self.known();
        let alive: BTreeSet<String> = self.clients.values().map(|c| c.member_id.clone()).collect();
        let wanted: BTreeSet<&String> = self.clients.values().flat_map(|c| &c.topics).collect();
        let sizes = wanted.into_iter().map(|name| self.cluster.topic(name));
        let wanted: i32 = sizes.map(|topic| topic.unwrap().partitions).sum();
        let owned: usize = self.clients.values().map(|c| c.owned.count()).sum();
        let is_classic = self.clients.values().all(|client| client.is_classic);
        members == alive
            && owned == wanted as usize
            && (alive.is_empty() || self.coordinator.is_classic(GROUP) == is_classic)
            && self
                .clients
                .values()
                .all(|client| !client.is_classic || client.phase == Phase::In)
    }
}

/// A `ConsumerProtocolSubscription` of version 1.
fn subscription(topics: &BTreeSet<String>, owned: &Named) -> Bytes {
    let mut value = Writer::version(1);
    value.int32(topics.len() as i32);
    for topic in topics {
        value.string(topic);
    }
    value.int32(-1);
    value.int32(owned.len() as i32);
    for (topic, partitions) in owned {
        value.string(topic);
        value.int32(partitions.len() as i32);
        for partition in partitions {
            value.int32(*partition);
        }
    }
    Bytes::from(value.finish())
}

fn run(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    assert!(world.replayed().has_same_state_as(&world.coordinator));
    (world.upgrades, world.downgrades)
}

#[test]
fn groups_go_from_one_protocol_to_the_other_and_back_whatever_happens() {
    let (mut upgrades, mut downgrades) = (0, 0);
    for seed in 0..200 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let (up, down) = outcome.unwrap_or_else(|_| panic!("seed {seed} fails"));
        upgrades += up;
        downgrades += down;
    }
    assert!(
        upgrades > 200 && downgrades > 200,
        "{upgrades} upgrades, {downgrades} downgrades: too few to say anything"
    );
}
