//! Members against the real coordinator, on a simulated network and clock, from one seed.
//!
//! Messages are late or lost, members crash, freeze past their session, change their mind and come
//! back, topics grow, the coordinator is reloaded from its records. After every step no partition is
//! read by two members that the group counts in; when all is quiet, every partition is read by one,
//! and heartbeats come no more often than the server asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use conveyor_group::{
    Assignment, ClusterTopics, ClusterView as _, Expired, GroupConfig, GroupCoordinator,
    GroupError, HeartbeatRequest, HeartbeatResponse, Record,
};
use conveyor_grpc::{ErrorCode, v1};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use super::membership::{
    AssignedPartition, Command, Event, MemberConfig, Membership, Millis, assignment_of,
    partitions_of,
};

const GROUP: &str = "g";
const TOPICS: [&str; 2] = ["orders", "tasks"];
const SESSION_MS: i64 = 3_000;
const INTERVAL_MS: i32 = 300;
const REBALANCE_MS: i32 = 2_000;
const ANSWER_TIMEOUT_MS: Millis = 500;
const CHURN_MS: Millis = 60_000;
const QUIET_MS: Millis = 30_000;
/// Part of the quiet time in which nothing happens any more.
const CALM_MS: Millis = 10_000;

type Request = Box<v1::ConsumerGroupHeartbeatRequest>;
type Response = v1::ConsumerGroupHeartbeatResponse;

#[derive(Debug)]
enum Happening {
    Arrives {
        name: String,
        ticket: u64,
        request: Request,
        answer_lost: bool,
    },
    Answered {
        name: String,
        ticket: u64,
        response: Box<Response>,
    },
    Unanswered {
        name: String,
        ticket: u64,
    },
    CallbackDone {
        name: String,
    },
    Tick {
        name: String,
    },
    CoordinatorTick,
    Churn,
}

struct Member {
    membership: Membership,
    topics: BTreeSet<String>,
    /// What it reads, or is about to read.
    reads: BTreeSet<AssignedPartition>,
    revoking: BTreeSet<AssignedPartition>,
    /// The heartbeat under way; answers to others come too late.
    ticket: u64,
    /// The group has removed it, and it does not know yet.
    is_zombie: bool,
    /// Nothing reaches it and nothing leaves it before this.
    frozen_until: Millis,
    closing: bool,
    heartbeats: u64,
}

struct World {
    rng: ChaCha8Rng,
    now: Millis,
    queue: BTreeMap<(Millis, u64), Happening>,
    sequence: u64,
    coordinator: GroupCoordinator,
    records: Vec<Record>,
    cluster: ClusterTopics,
    partitions: BTreeMap<&'static str, i32>,
    members: BTreeMap<String, Member>,
    born: u64,
    is_quiet: bool,
    trace: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: 10_000,
            queue: BTreeMap::new(),
            sequence: 0,
            coordinator: GroupCoordinator::new(config()),
            records: Vec::new(),
            cluster: ClusterTopics::new(1),
            partitions: BTreeMap::from([(TOPICS[0], 6), (TOPICS[1], 3)]),
            members: BTreeMap::new(),
            born: 0,
            is_quiet: false,
            trace: String::new(),
        };
        world.grow(TOPICS[0], 0);
        world.coordinator.start(world.now as i64);
        world.after(0, Happening::CoordinatorTick);
        world.after(1, Happening::Churn);
        world
    }

    /// Churn, then quiet; checks the end. Returns what happened, line by line.
    fn run(mut self) -> String {
        let end_of_churn = self.now + CHURN_MS;
        self.run_until(end_of_churn);
        self.is_quiet = true;
        self.ensure_readers();
        self.run_until(end_of_churn + QUIET_MS - CALM_MS);
        let before: BTreeMap<String, u64> = self
            .members
            .iter()
            .map(|(name, member)| (name.clone(), member.heartbeats))
            .collect();
        self.run_until(end_of_churn + QUIET_MS);
        self.check_convergence();
        for (name, member) in &self.members {
            let beats = member.heartbeats - before.get(name).copied().unwrap_or_default();
            let allowed = CALM_MS / Millis::from(INTERVAL_MS.unsigned_abs()) + 2;
            assert!(
                beats <= allowed,
                "{name} sent {beats} heartbeats when nothing happened"
            );
        }
        self.trace
    }

    fn run_until(&mut self, end: Millis) {
        while let Some((&(at, _), _)) = self.queue.first_key_value()
            && at <= end
        {
            let Some((_, happening)) = self.queue.pop_first() else {
                break;
            };
            self.now = at;
            self.happen(happening);
            self.check_exclusive();
        }
        self.now = end;
    }

    fn after(&mut self, delay: Millis, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((self.now + delay, self.sequence), happening);
    }

    fn note(&mut self, line: &str) {
        _ = writeln!(self.trace, "{} {line}", self.now);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives {
                name,
                ticket,
                request,
                answer_lost,
            } => {
                self.on_arrival(name, ticket, &request, answer_lost);
            }
            Happening::Answered {
                name,
                ticket,
                response,
            } => {
                self.note(&format!(
                    "{name} hears {} {}",
                    response.error_code, response.member_epoch
                ));
                self.feed_ticket(&name, ticket, Event::Answered(*response));
            }
            Happening::Unanswered { name, ticket } => {
                self.feed_ticket(&name, ticket, Event::Unanswered);
            }
            Happening::CallbackDone { name } => {
                if let Some(member) = self.members.get_mut(&name) {
                    let revoked = std::mem::take(&mut member.revoking);
                    member
                        .reads
                        .retain(|partition| !revoked.contains(partition));
                }
                self.feed(&name, Event::CallbackDone);
            }
            Happening::Tick { name } => self.feed(&name, Event::Tick),
            Happening::CoordinatorTick => self.coordinator_tick(),
            Happening::Churn => self.churn(),
        }
    }

    /// A heartbeat reaches the coordinator.
    fn on_arrival(&mut self, name: String, ticket: u64, request: &Request, answer_lost: bool) {
        let now = self.now as i64;
        let asked = request_from_wire(request);
        let leaves = asked.member_epoch < 0;
        let response = match self.coordinator.heartbeat(now, &asked, &self.cluster) {
            Ok(transition) => {
                self.replay(transition.records);
                if !leaves && let Some(member) = self.members.get_mut(&name) {
                    member.is_zombie = false;
                }
                response_to_wire(&transition.response)
            }
            Err(error) => refusal(&error),
        };
        if !answer_lost {
            let response = Box::new(response);
            let delay = self.latency();
            self.after(
                delay,
                Happening::Answered {
                    name,
                    ticket,
                    response,
                },
            );
        }
    }

    fn replay(&mut self, records: Vec<Record>) {
        for record in records {
            self.coordinator.replay(&record, self.now as i64);
            self.records.push(record);
        }
    }

    fn coordinator_tick(&mut self) {
        while let Some(transition) = self.coordinator.tick(self.now as i64) {
            if let Expired::Session { member_id, .. } | Expired::Rebalance { member_id, .. } =
                &transition.response
            {
                self.note(&format!("{member_id} expires"));
                if let Some(member) = self.members.get_mut(member_id) {
                    member.is_zombie = true;
                }
            }
            self.replay(transition.records);
        }
        self.after(20, Happening::CoordinatorTick);
    }

    /// Gives an answer to a member, if it still waits for it.
    fn feed_ticket(&mut self, name: &str, ticket: u64, event: Event) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if member.ticket != ticket {
            return;
        }
        member.ticket = 0;
        self.feed(name, event);
    }

    fn feed(&mut self, name: &str, event: Event) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if self.now < member.frozen_until {
            // Nothing runs in a frozen process; what it would have heard, it hears afterwards.
            let thaw = member.frozen_until - self.now;
            let name = name.to_owned();
            match event {
                Event::Tick => self.after(thaw, Happening::Tick { name }),
                Event::CallbackDone => self.after(thaw, Happening::CallbackDone { name }),
                Event::Answered(response) => {
                    self.sequence += 1;
                    let ticket = self.sequence;
                    member_ticket(&mut self.members, &name, ticket);
                    let response = Box::new(response);
                    self.after(
                        thaw,
                        Happening::Answered {
                            name,
                            ticket,
                            response,
                        },
                    );
                }
                Event::Unanswered => {
                    self.sequence += 1;
                    let ticket = self.sequence;
                    member_ticket(&mut self.members, &name, ticket);
                    self.after(thaw, Happening::Unanswered { name, ticket });
                }
                Event::Subscribe(_) | Event::Close => {}
            }
            return;
        }
        let mut commands = Vec::new();
        member.membership.step(self.now, event, &mut commands);
        let tick = member.membership.next_tick();
        for command in commands {
            self.perform(name, command);
        }
        if let Some(at) = tick {
            let delay = at.saturating_sub(self.now).max(1);
            self.after(
                delay,
                Happening::Tick {
                    name: name.to_owned(),
                },
            );
        }
    }

    fn perform(&mut self, name: &str, command: Command) {
        let callback = if self.is_quiet {
            10
        } else {
            self.rng.random_range(0..600)
        };
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        match command {
            Command::Heartbeat(request) => self.send(name, request),
            Command::Revoke(partitions) => {
                member.revoking = partitions;
                self.after(
                    callback,
                    Happening::CallbackDone {
                        name: name.to_owned(),
                    },
                );
            }
            Command::Assign(partitions) => {
                member.reads.extend(partitions);
                self.after(
                    callback,
                    Happening::CallbackDone {
                        name: name.to_owned(),
                    },
                );
            }
            Command::Lose(_) => {
                member.reads.clear();
                self.after(
                    callback,
                    Happening::CallbackDone {
                        name: name.to_owned(),
                    },
                );
            }
            Command::Left => {
                assert!(member.reads.is_empty(), "{name} left while it reads");
                assert!(member.closing, "{name} left without being told to");
                self.members.remove(name);
            }
            Command::Fail(refused) => panic!("{name} was refused: {refused:?}"),
        }
    }

    fn send(&mut self, name: &str, request: Request) {
        self.sequence += 1;
        let ticket = self.sequence;
        if let Some(member) = self.members.get_mut(name) {
            assert_eq!(member.ticket, 0, "{name} has two heartbeats under way");
            member.ticket = ticket;
            member.heartbeats += 1;
        }
        let epoch = request.member_epoch;
        let owned = request
            .owned
            .as_ref()
            .map(|owned| partitions_of(owned).len());
        self.note(&format!("{name} says {epoch} owning {owned:?}"));
        let (lost, answer_lost) = (self.loses(), self.loses());
        let delay = self.latency();
        let name = name.to_owned();
        if !lost {
            let name = name.clone();
            self.after(
                delay,
                Happening::Arrives {
                    name,
                    ticket,
                    request,
                    answer_lost,
                },
            );
        }
        self.after(ANSWER_TIMEOUT_MS, Happening::Unanswered { name, ticket });
    }

    fn latency(&mut self) -> Millis {
        if self.is_quiet {
            2
        } else {
            self.rng.random_range(1..120)
        }
    }

    fn loses(&mut self) -> bool {
        !self.is_quiet && self.rng.random_range(0..100) < 6
    }

    /// One thing goes on in the world outside.
    fn churn(&mut self) {
        if self.is_quiet {
            return;
        }
        let names: Vec<String> = self.members.keys().cloned().collect();
        let chosen = names
            .get(self.rng.random_range(0..names.len().max(1)))
            .cloned();
        match (self.rng.random_range(0..100), chosen) {
            (0..35, _) if names.len() < 5 => self.join(),
            (35..50, Some(name)) => self.close(&name),
            (50..58, Some(name)) => {
                self.note(&format!("{name} crashes"));
                self.members.remove(&name);
            }
            (58..70, Some(name)) => self.resubscribe(&name),
            (70..76, Some(name)) => {
                let freeze = self.rng.random_range(500..6_000);
                self.note(&format!("{name} freezes for {freeze}"));
                if let Some(member) = self.members.get_mut(&name) {
                    member.frozen_until = self.now + freeze;
                }
            }
            (76..82, _) => self.grow(TOPICS[1], 1),
            (82..88, _) => self.reload_coordinator(),
            _ => {}
        }
        let pause = self.rng.random_range(50..2_500);
        self.after(pause, Happening::Churn);
    }

    fn join(&mut self) {
        self.born += 1;
        let name = format!("m{}", self.born);
        let config = MemberConfig {
            group_id: GROUP.to_owned(),
            member_id: name.clone(),
            instance_id: String::new(),
            rack_id: String::new(),
            rebalance_timeout_ms: REBALANCE_MS,
            server_assignor: String::new(),
        };
        let member = Member {
            membership: Membership::new(config),
            topics: BTreeSet::new(),
            reads: BTreeSet::new(),
            revoking: BTreeSet::new(),
            ticket: 0,
            is_zombie: false,
            frozen_until: 0,
            closing: false,
            heartbeats: 0,
        };
        self.members.insert(name.clone(), member);
        self.resubscribe(&name);
    }

    fn resubscribe(&mut self, name: &str) {
        let choice = self.rng.random_range(0..3);
        let topics: BTreeSet<String> = match choice {
            0 => BTreeSet::from([TOPICS[0].to_owned()]),
            1 => BTreeSet::from([TOPICS[1].to_owned()]),
            _ => TOPICS.iter().map(|&topic| topic.to_owned()).collect(),
        };
        self.subscribe(name, topics);
    }

    fn subscribe(&mut self, name: &str, topics: BTreeSet<String>) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if self.now < member.frozen_until || member.closing {
            return;
        }
        member.topics.clone_from(&topics);
        self.note(&format!("{name} subscribes to {topics:?}"));
        self.feed(name, Event::Subscribe(topics));
    }

    fn close(&mut self, name: &str) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if self.now < member.frozen_until {
            return;
        }
        member.closing = true;
        self.note(&format!("{name} closes"));
        self.feed(name, Event::Close);
    }

    /// More partitions, under a new version of the metadata.
    fn grow(&mut self, topic: &'static str, by: i32) {
        if let Some(count) = self.partitions.get_mut(topic) {
            *count += by;
        }
        let mut cluster = ClusterTopics::new(self.cluster.version() + 1);
        for (index, topic) in TOPICS.iter().enumerate() {
            cluster = cluster.with(topic, topic_id(index), self.partitions[topic]);
        }
        self.cluster = cluster;
    }

    fn reload_coordinator(&mut self) {
        self.note("the coordinator is reloaded");
        let mut coordinator = GroupCoordinator::new(config());
        for record in &self.records {
            coordinator.replay(record, self.now as i64);
        }
        coordinator.start(self.now as i64);
        self.coordinator = coordinator;
    }

    /// Somebody stays who wants everything, and nobody is frozen any more.
    fn ensure_readers(&mut self) {
        let all: BTreeSet<String> = TOPICS.iter().map(|&topic| topic.to_owned()).collect();
        self.join();
        let name = format!("m{}", self.born);
        self.subscribe(&name, all);
    }

    fn check_exclusive(&self) {
        let mut readers: BTreeMap<&AssignedPartition, &str> = BTreeMap::new();
        for (name, member) in &self.members {
            if member.is_zombie {
                continue;
            }
            for partition in &member.reads {
                if let Some(other) = readers.insert(partition, name) {
                    panic!(
                        "{partition:?} is read by {other} and {name} at {}\n{}",
                        self.now, self.trace
                    );
                }
            }
        }
    }

    fn check_convergence(&self) {
        let mut read: BTreeSet<AssignedPartition> = BTreeSet::new();
        for (name, member) in &self.members {
            assert_eq!(
                member.reads,
                *member.membership.owned(),
                "{name} is in the middle of it"
            );
            for partition in &member.reads {
                assert!(
                    member.topics.contains(&*partition.topic),
                    "{name} never asked for that"
                );
            }
            read.extend(member.reads.iter().cloned());
        }
        let expected: usize = self.partitions.values().map(|count| *count as usize).sum();
        assert_eq!(
            read.len(),
            expected,
            "not every partition is read\n{}",
            self.trace
        );
    }
}

fn response_to_wire(response: &HeartbeatResponse) -> Response {
    v1::ConsumerGroupHeartbeatResponse {
        member_id: response.member_id.clone(),
        member_epoch: response.member_epoch,
        heartbeat_interval_ms: response.heartbeat_interval_ms,
        assignment: response.assignment.as_ref().map(assignment_to_wire),
        ..Response::default()
    }
}

fn member_ticket(members: &mut BTreeMap<String, Member>, name: &str, ticket: u64) {
    if let Some(member) = members.get_mut(name) {
        member.ticket = ticket;
    }
}

fn config() -> GroupConfig {
    GroupConfig {
        session_timeout_ms: SESSION_MS,
        heartbeat_interval_ms: INTERVAL_MS,
        ..GroupConfig::default()
    }
}

fn topic_id(index: usize) -> Uuid {
    Uuid::from_u128(100 + index as u128)
}

fn topic_name(id: Uuid) -> &'static str {
    TOPICS[(id.as_u128() - 100) as usize]
}

fn assignment_to_wire(assignment: &Assignment) -> v1::Assignment {
    let partitions: BTreeSet<AssignedPartition> = assignment
        .iter()
        .map(|(topic_id, partition)| AssignedPartition {
            topic: topic_name(topic_id).into(),
            topic_id,
            partition,
        })
        .collect();
    assignment_of(&partitions)
}

fn request_from_wire(request: &v1::ConsumerGroupHeartbeatRequest) -> HeartbeatRequest {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    HeartbeatRequest {
        group_id: request.group_id.clone(),
        member_id: request.member_id.clone(),
        member_epoch: request.member_epoch,
        instance_id: text(&request.instance_id),
        rack_id: text(&request.rack_id),
        rebalance_timeout_ms: (request.rebalance_timeout_ms >= 0)
            .then_some(request.rebalance_timeout_ms),
        subscribed_topic_names: request
            .subscribed_topics
            .as_ref()
            .map(|topics| topics.names.iter().cloned().collect()),
        server_assignor: text(&request.server_assignor),
        owned: request.owned.as_ref().map(|owned| {
            let mut assignment = Assignment::new();
            for partition in partitions_of(owned) {
                assignment.insert(partition.topic_id, partition.partition);
            }
            assignment
        }),
        ..HeartbeatRequest::default()
    }
}

fn refusal(error: &GroupError) -> Response {
    let code = match error {
        GroupError::UnknownMemberId { .. } => ErrorCode::UnknownMemberId,
        GroupError::FencedMemberEpoch { .. } => ErrorCode::FencedMemberEpoch,
        other => panic!("a member that keeps the protocol meets no {other}"),
    };
    Response {
        error_code: code.code(),
        error_message: error.to_string(),
        ..Response::default()
    }
}

#[test]
fn members_share_every_partition_and_never_one_between_two() {
    for seed in seeds() {
        println!("seed {seed}");
        World::new(seed).run();
    }
}

/// `CONVEYOR_SEEDS=a..b` runs those; without it a few.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("CONVEYOR_SEEDS") else {
        return 0..40;
    };
    let bounds = text
        .split_once("..")
        .and_then(|(from, to)| from.parse().ok().zip(to.parse().ok()));
    let (from, to) = bounds.expect("CONVEYOR_SEEDS reads like 0..1000");
    from..to
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let trace = World::new(7).run();
    assert!(trace.lines().count() > 200, "something happened");
    assert_eq!(trace, World::new(7).run());
}
