//! A seeded world of members around one coordinator: they join, leave, die, lose answers, are slow
//! to give up partitions, change what they want, while topics come, grow and go and the coordinator
//! restarts from its records, compacted or not.
//!
//! After every step: no partition is owned by two members that the coordinator knows, epochs do not
//! go back, committed offsets are those that were committed, and the records give the state there
//! is. Commits are taken from whoever holds the partition, whatever answers were lost, and never from
//! somebody after whom another member has had it, however late they come. In the end, when nothing happens any more, everybody has what the target gives it within a
//! bounded number of heartbeats, and everything is owned.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{LeaderEpoch, Offset};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::{
    Assignment, ClusterTopics, ClusterView, CommitRequest, EncodedRecord, FetchOffsetsRequest,
    GroupConfig, GroupCoordinator, GroupError, GroupState, HeartbeatRequest, OffsetToCommit,
    Record,
};

const GROUP: &str = "billing";
const TOPICS: [&str; 4] = ["waves", "orders", "tasks", "picks"];
const STEPS: usize = 300;
/// Rounds of heartbeats after which a quiet group must be at rest: one to compute the target, one
/// to learn of losses, one to tell of them, one to get the gains, and one for what a slow or fenced
/// member adds to each.
const ROUNDS_MAX: usize = 12;

/// A member as its client sees it.
#[derive(Clone, Debug, Default)]
struct Client {
    instance_id: Option<String>,
    topics: BTreeSet<String>,
    assignor: Option<String>,
    epoch: i32,
    /// What it was last told it may own.
    assigned: Assignment,
    /// What it owns: it gives up what it may not only when it gets to it.
    owned: Assignment,
}

/// A commit that is still on its way.
struct LateCommit {
    request: CommitRequest,
    /// The id of its topic.
    topic: Uuid,
    /// How many commits had been taken when it was sent.
    sent_at: usize,
}

struct World {
    rng: ChaCha8Rng,
    now_ms: i64,
    cluster: ClusterTopics,
    versions: u64,
    topic_ids: u128,
    coordinator: GroupCoordinator,
    log: Vec<(EncodedRecord, i64)>,
    clients: BTreeMap<String, Client>,
    next_member: u32,
    group_epoch: i32,
    /// Offsets that were acknowledged, by topic and partition.
    committed: BTreeMap<(String, i32), i64>,
    /// Who committed last for a partition, and the how manieth commit it was.
    committers: BTreeMap<(Uuid, i32), (String, usize)>,
    commits: usize,
    late: Vec<LateCommit>,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = GroupConfig {
            max_size: 8,
            ..GroupConfig::default()
        };
        let mut coordinator = GroupCoordinator::new(config);
        coordinator.start(0);
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            cluster: ClusterTopics::new(0),
            versions: 0,
            topic_ids: 0,
            coordinator,
            log: Vec::new(),
            clients: BTreeMap::new(),
            next_member: 0,
            group_epoch: 0,
            committed: BTreeMap::new(),
            committers: BTreeMap::new(),
            commits: 0,
            late: Vec::new(),
            trace: Vec::new(),
        };
        world.create_topic("waves", 4);
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick(&mut self) -> Option<String> {
        let count = self.clients.len();
        let index = (count > 0).then(|| self.rng.random_range(0..count))?;
        self.clients.keys().nth(index).cloned()
    }

    fn create_topic(&mut self, name: &str, partitions: i32) {
        self.topic_ids += 1;
        self.versions += 1;
        let id = Uuid::from_u128(self.topic_ids);
        let cluster = std::mem::take(&mut self.cluster);
        self.cluster = cluster.with(name, id, partitions).at_version(self.versions);
    }

    /// Writes and replays records, as a host does, and through their bytes.
    fn apply(&mut self, records: &[Record]) {
        for record in records {
            let stored = record.encode();
            let read = Record::decode(&stored.key, stored.value.as_deref())
                .unwrap()
                .unwrap();
            assert_eq!(read, *record);
            self.coordinator.replay(&read, self.now_ms);
            self.log.push((stored, self.now_ms));
        }
    }

    fn step(&mut self) {
        self.now_ms += self.rng.random_range(1..2_000);
        match self.rng.random_range(0..100) {
            0..8 => self.join(),
            8..58 => {
                if let Some(id) = self.pick() {
                    self.beat(&id);
                }
            }
            58..70 => {
                if let Some(id) = self.pick() {
                    self.revoke(&id);
                }
            }
            70..78 => {
                if let Some(id) = self.pick() {
                    self.commit(&id);
                }
            }
            78..80 => self.deliver_late_commit(),
            80..83 => self.leave(),
            83..86 => {
                // It dies, and nobody hears of it until its session ends.
                if let Some(id) = self.pick() {
                    self.clients.remove(&id);
                }
            }
            86..89 => self.resubscribe(),
            89..92 => self.change_topics(),
            92..95 => self.now_ms += 20_000,
            _ => self.restart(),
        }
        self.tick();
        self.check();
    }

    fn join(&mut self) {
        self.next_member += 1;
        let id = format!("m{:03}", self.next_member);
        let instance_id = self
            .chance(30)
            .then(|| format!("i{}", self.rng.random_range(0..4)));
        let assignor = self.chance(20).then(|| "range".to_owned());
        let topics = self.some_topics();
        let client = Client {
            instance_id,
            topics,
            assignor,
            ..Client::default()
        };
        self.clients.insert(id.clone(), client);
        self.beat(&id);
    }

    fn some_topics(&mut self) -> BTreeSet<String> {
        let mut topics =
            BTreeSet::from([TOPICS[self.rng.random_range(0..TOPICS.len())].to_owned()]);
        for topic in TOPICS {
            if self.chance(40) {
                topics.insert(topic.to_owned());
            }
        }
        topics
    }

    fn request(&mut self, id: &str, full: bool) -> HeartbeatRequest {
        let client = &self.clients[id];
        let joins = client.epoch == 0;
        let mut request = HeartbeatRequest::keep_alive(GROUP, id, client.epoch);
        request.instance_id.clone_from(&client.instance_id);
        request.server_assignor.clone_from(&client.assignor);
        if joins || full {
            request.rebalance_timeout_ms = Some(15_000);
            request.subscribed_topic_names = Some(client.topics.clone());
            request.owned = Some(client.owned.clone());
        } else if self.chance(80) {
            request.owned = Some(self.clients[id].owned.clone());
        }
        request
    }

    fn beat(&mut self, id: &str) {
        let full = self.chance(20);
        let request = self.request(id, full);
        let outcome = self
            .coordinator
            .heartbeat(self.now_ms, &request, &self.cluster);
        self.trace.push(format!(
            "{} {id} {:?}",
            self.now_ms,
            outcome.as_ref().map(|t| &t.response)
        ));
        match outcome {
            Ok(transition) => {
                self.apply(&transition.records);
                if self.chance(10) {
                    return; // the answer is lost
                }
                let Some(client) = self.clients.get_mut(id) else {
                    return;
                };
                assert!(
                    transition.response.member_epoch >= client.epoch,
                    "the epoch goes back"
                );
                client.epoch = transition.response.member_epoch;
                if let Some(assigned) = transition.response.assignment {
                    client.owned.extend(assigned.iter());
                    client.assigned = assigned;
                }
            }
            Err(GroupError::UnknownMemberId { .. } | GroupError::FencedMemberEpoch { .. }) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.epoch = 0;
                    client.owned = Assignment::new();
                    client.assigned = Assignment::new();
                }
            }
            Err(
                GroupError::FencedInstanceId { .. }
                | GroupError::UnreleasedInstanceId { .. }
                | GroupError::GroupMaxSizeReached { .. },
            ) => {
                self.clients.remove(id);
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// The member gives up what it may not own any more.
    fn revoke(&mut self, id: &str) {
        if let Some(client) = self.clients.get_mut(id) {
            client.owned = client.assigned.clone();
        }
    }

    fn commit(&mut self, id: &str) {
        let client = self.clients[id].clone();
        let Some((topic, partition)) = client.owned.iter().next() else {
            return;
        };
        let name = TOPICS.into_iter().find(|name| {
            self.cluster
                .topic(name)
                .is_some_and(|known| known.id == topic)
        });
        let Some(name) = name else { return };
        let next = self
            .committed
            .get(&(name.to_owned(), partition))
            .copied()
            .unwrap_or(0)
            + 1;
        let offset = OffsetToCommit {
            topic: name.to_owned(),
            partition,
            offset: Offset(next),
            leader_epoch: LeaderEpoch(3),
            metadata: format!("by {id}"),
        };
        let request = CommitRequest {
            group_id: GROUP.to_owned(),
            member_id: id.to_owned(),
            member_epoch: client.epoch,
            offsets: vec![offset],
            ..CommitRequest::default()
        };
        if self.chance(30) {
            let sent_at = self.commits;
            self.late.push(LateCommit {
                request,
                topic,
                sent_at,
            });
            return;
        }
        if let Err(refusal) = self.take_commit(&request) {
            let holders = self.holders(topic, partition);
            assert!(
                !holders.contains(id),
                "{id} holds {name} {partition}: {refusal}"
            );
        }
    }

    fn deliver_late_commit(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.late.len());
        let LateCommit {
            request,
            topic,
            sent_at,
        } = self.late.swap_remove(index);
        let offset = &request.offsets[0];
        let present = self.cluster.topic(&offset.topic);
        if present.is_none_or(|present| present.id != topic) {
            // Another topic has the name now. Requests that name topics by id end before here.
            return;
        }
        let place = (topic, offset.partition);
        let before = self.committers.get(&place).cloned();
        if self.take_commit(&request).is_err() {
            return;
        }
        let holders = self.holders(place.0, place.1);
        let id = &request.member_id;
        assert!(
            holders.iter().all(|holder| holder == id),
            "{id} commits what {holders:?} hold"
        );
        if let Some((committer, at)) = before {
            assert!(
                committer == *id || at <= sent_at,
                "{id} overwrites what {committer} has committed since"
            );
        }
    }

    /// The members that have a partition, or have still to give it up.
    fn holders(&self, topic: Uuid, partition: i32) -> BTreeSet<String> {
        let group = self.coordinator.describe(GROUP).ok().into_iter();
        group
            .flat_map(|group| group.members)
            .filter(|member| {
                member.assignment.contains(topic, partition)
                    || member.pending_revocation.contains(topic, partition)
            })
            .map(|member| member.member_id)
            .collect()
    }

    /// Hands a commit of one offset to the coordinator.
    fn take_commit(&mut self, request: &CommitRequest) -> Result<(), GroupError> {
        let decided = self
            .coordinator
            .commit_offsets(self.now_ms, request, &self.cluster);
        let transition = match decided {
            Ok(transition) => transition,
            Err(
                refusal @ (GroupError::StaleMemberEpoch { .. }
                | GroupError::UnknownMemberId { .. }
                | GroupError::GroupIdNotFound { .. }),
            ) => return Err(refusal),
            Err(other) => panic!("{other}"),
        };
        self.apply(&transition.records);
        transition.response[0].result.clone()?;
        self.commits += 1;
        let offset = &request.offsets[0];
        let place = (offset.topic.clone(), offset.partition);
        self.committed.insert(place, offset.offset.value());
        if let Some(topic) = self.cluster.topic(&offset.topic) {
            let committer = (request.member_id.clone(), self.commits);
            let place = (topic.id, offset.partition);
            self.committers.insert(place, committer);
        }
        Ok(())
    }

    fn leave(&mut self) {
        let Some(id) = self.pick() else { return };
        let client = self.clients[&id].clone();
        let epoch = if client.instance_id.is_some() && self.chance(60) {
            -2
        } else {
            -1
        };
        let mut request = HeartbeatRequest::keep_alive(GROUP, &id, epoch);
        request.instance_id = client.instance_id;
        if let Ok(transition) = self
            .coordinator
            .heartbeat(self.now_ms, &request, &self.cluster)
        {
            self.apply(&transition.records);
        }
        self.clients.remove(&id);
    }

    fn resubscribe(&mut self) {
        let Some(id) = self.pick() else { return };
        let topics = self.some_topics();
        if let Some(client) = self.clients.get_mut(&id) {
            client.topics.clone_from(&topics);
        }
        if self.clients[&id].epoch > 0 {
            let mut request = self.request(&id, false);
            request.subscribed_topic_names = Some(topics);
            // The answer is lost; a later heartbeat finds the change.
            if let Ok(done) = self
                .coordinator
                .heartbeat(self.now_ms, &request, &self.cluster)
            {
                self.apply(&done.records);
            }
        }
    }

    fn change_topics(&mut self) {
        let name = TOPICS[self.rng.random_range(0..TOPICS.len())];
        match self.cluster.topic(name) {
            Some(topic) if self.chance(60) => {
                self.versions += 1;
                let partitions = topic.partitions + self.rng.random_range(1..4);
                let cluster = std::mem::take(&mut self.cluster);
                self.cluster = cluster
                    .with(name, topic.id, partitions)
                    .at_version(self.versions);
            }
            Some(_) => {
                self.versions += 1;
                let cluster = std::mem::take(&mut self.cluster);
                self.cluster = cluster.without(name).at_version(self.versions);
                let forgotten = self.coordinator.forget_topics(|topic| topic == name);
                self.apply(&forgotten.records);
                self.committed.retain(|(topic, _), _| topic != name);
            }
            None => {
                let partitions = self.rng.random_range(1..7);
                self.create_topic(name, partitions);
            }
        }
    }

    fn tick(&mut self) {
        while let Some(transition) = self.coordinator.tick(self.now_ms) {
            self.trace
                .push(format!("{} {:?}", self.now_ms, transition.response));
            self.apply(&transition.records);
        }
    }

    /// Loads a coordinator from the log, which may have been compacted, and goes on with it.
    fn restart(&mut self) {
        if self.chance(50) {
            self.compact();
        }
        let restarted = self.replayed();
        assert!(
            restarted.has_same_state_as(&self.coordinator),
            "replay gives another state"
        );
        self.coordinator = restarted;
        self.coordinator.start(self.now_ms);
    }

    fn compact(&mut self) {
        let drops_tombstones = self.chance(50);
        let mut last = BTreeMap::new();
        for (index, (record, _)) in self.log.iter().enumerate() {
            last.insert(record.key.clone(), index);
        }
        let mut index = 0;
        self.log.retain(|(record, _)| {
            let is_last = last[&record.key] == index;
            index += 1;
            is_last && (record.value.is_some() || !drops_tombstones)
        });
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.coordinator.config.clone());
        for (stored, timestamp_ms) in &self.log {
            let record = Record::decode(&stored.key, stored.value.as_deref())
                .unwrap()
                .unwrap();
            coordinator.replay(&record, *timestamp_ms);
        }
        coordinator
    }

    fn check(&mut self) {
        self.check_owners();
        let group = self.coordinator.describe(GROUP).ok();
        let epoch = group.as_ref().map_or(self.group_epoch, |group| group.epoch);
        assert!(epoch >= self.group_epoch, "the group's epoch goes back");
        self.group_epoch = epoch;
        if let Some(group) = group {
            assert!(group.assignment_epoch <= group.epoch);
            assert!(
                group
                    .members
                    .iter()
                    .all(|member| member.epoch <= group.epoch)
            );
        }
        let request = FetchOffsetsRequest {
            group_id: GROUP.to_owned(),
            member_epoch: -1,
            ..FetchOffsetsRequest::default()
        };
        let fetched = self
            .coordinator
            .fetch_offsets(&request)
            .unwrap()
            .into_iter();
        let found: BTreeMap<(String, i32), i64> = fetched
            .map(|f| {
                let committed = f.committed.unwrap().unwrap();
                ((f.topic, f.partition), committed.offset.value())
            })
            .collect();
        assert_eq!(
            found, self.committed,
            "offsets are not those that were committed"
        );
    }

    /// No partition is in the hands of two members of the group. A member that was removed may not
    /// know it yet; its commits are refused.
    fn check_owners(&self) {
        let Ok(group) = self.coordinator.describe(GROUP) else {
            return;
        };
        let mut owners: BTreeMap<(Uuid, i32), &str> = BTreeMap::new();
        for member in &group.members {
            let Some(client) = self.clients.get(&member.member_id) else {
                continue;
            };
            for place in client.owned.iter() {
                if let Some(other) = owners.insert(place, &member.member_id) {
                    panic!("{place:?} is owned by {other} and {}", member.member_id);
                }
            }
        }
    }

    /// Lets everybody who is alive heartbeat until the group is at rest.
    fn settle(&mut self) {
        // Who died is found out first.
        for _ in 0..3 {
            self.now_ms += 15_001;
            self.tick();
            self.beat_all();
        }
        self.now_ms += 15_001;
        self.tick();
        for _ in 0..ROUNDS_MAX {
            self.beat_all();
            self.check();
            if self.is_at_rest() {
                return;
            }
        }
        panic!(
            "no rest: {:#?} {:#?}",
            self.coordinator.describe(GROUP),
            self.clients
        );
    }

    fn beat_all(&mut self) {
        for id in self.clients.keys().cloned().collect::<Vec<_>>() {
            self.revoke(&id);
            self.beat(&id);
        }
    }

    fn is_at_rest(&self) -> bool {
        let Ok(group) = self.coordinator.describe(GROUP) else {
            return self.clients.is_empty();
        };
        let all_agree = self.clients.iter().all(|(id, client)| {
            let member = group.members.iter().find(|member| member.member_id == *id);
            member.is_some_and(|member| {
                member.epoch == client.epoch
                    && member.assignment == client.owned
                    && member.target_assignment == client.owned
            })
        });
        let owned: usize = self
            .clients
            .values()
            .map(|client| client.owned.count())
            .sum();
        let wanted: BTreeSet<&String> = self.clients.values().flat_map(|c| &c.topics).collect();
        let partitions = wanted
            .into_iter()
            .filter_map(|topic| self.cluster.topic(topic));
        let wanted: i32 = partitions.map(|topic| topic.partitions).sum();
        let state = if self.clients.is_empty() {
            GroupState::Empty
        } else {
            GroupState::Stable
        };
        group.state == state
            && group.members.len() == self.clients.len()
            && all_agree
            && owned == wanted as usize
    }
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
fn groups_keep_their_rules_whatever_happens() {
    for seed in 0..150 {
        run_named(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for seed in [3, 1_000_003] {
        assert_eq!(run_named(seed), run_named(seed));
    }
}
