//! A seeded cluster around the controller's rules: nodes that start, crash, lose what was not synced,
//! are wiped, get an old disk back, freeze, stop in order, drain and leave; leaders that replicate,
//! acknowledge and propose in-sync sets on what they believe to be true; requests and answers that are
//! lost or late; a controller that fails over, in the middle of a change too.
//!
//! Every node has its own image, which lags, and real logs in miniature: what is acknowledged is known,
//! and after every step each replica that may lead must have it ([`invariants`]). In the end everything
//! is healed: then every partition that anybody may lead is led, by its preferred leader, with every
//! replica in sync.
//!
//! `CONVEYOR_SIM_SEEDS` sets how many seeds are run, `CONVEYOR_SIM_SEED` runs one again. With the
//! feature `mutants` deliberate errors are tried; each must be found:
//!
//! | deliberate error | seeds until found |
//! |---|---|
//! | leader epoch stays at a change of leaders | 1 |
//! | a fenced replica stays in sync | 1 |
//! | eligible replicas stay although enough are in sync | 1 |
//! | a smaller `min.insync.replicas` keeps eligible replicas | 2 |
//! | unclean election | 6 |
//! | a replica that lost something stays eligible | 10 |
//! | an empty disk is trusted | 16 |
//! | a proposal on an older state is accepted | 176 |
//! | a member of another incarnation is accepted | 1,723 |
//! | a reassignment ends before all are in sync | 1 |
//! | a reassignment drops all who have the records | 15 |
//! | a proposal of an older leader epoch is accepted | never: each new leader epoch is a new partition epoch, which is checked too |

mod broker;
mod faults;
mod healing;
mod invariants;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use conveyor_record::{LeaderEpoch, NodeId};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use self::broker::Node;
use crate::partitions::alter::{AlterPartitionAnswer, AlterPartitionRequest};
use crate::{
    ActiveController, Answer, Change, ChangeError, ControllerSettings, MetadataImage,
    MetadataRecord, NewTopic, bootstrap,
};

const CLUSTER: &str = "simulated";
const STEPS: usize = 400;
const SEEDS: u64 = 1_000;
const SESSION_MS: i64 = 6_000;

/// A partition: its topic and its number.
type Key = (Uuid, i32);

/// What is on its way between a leader and the controller.
struct Message<T> {
    node: NodeId,
    /// The leader's number for the proposal.
    id: u64,
    key: Key,
    body: T,
}

struct World {
    rng: ChaCha8Rng,
    now_ms: i64,
    /// The records as stored and as read, and the image that they give.
    log: Vec<(Vec<u8>, MetadataRecord)>,
    /// Where transitions end: nobody ever sees one in part.
    ends: Vec<usize>,
    image: MetadataImage,
    controller: ActiveController,
    nodes: BTreeMap<NodeId, Node>,
    /// What has been acknowledged of each partition, in order.
    acked: BTreeMap<Key, Vec<u64>>,
    /// Since when a loss has been accepted: what former leaders acknowledge after that, because they
    /// have not heard of it, is part of the loss.
    recovered: BTreeMap<Key, LeaderEpoch>,
    proposals: Vec<Message<AlterPartitionRequest>>,
    answers: Vec<Message<Option<AlterPartitionAnswer>>>,
    unique: u64,
    /// Who led in which epoch of a partition.
    leaders: BTreeMap<(Key, i32), NodeId>,
    tracing: bool,
    trace: Vec<String>,
    /// Whether things go wrong by chance.
    faulty: bool,
    /// How often, and how often somebody wants something: percent of the steps.
    troubles: usize,
    counts: Counts,
}

/// What happened, to see that a run is not vacuous.
#[derive(Debug, Default)]
struct Counts {
    acked: usize,
    elections: usize,
    recoveries: usize,
    wiped: usize,
}

fn settings() -> ControllerSettings {
    ControllerSettings {
        session_timeout_ms: SESSION_MS,
        leader_imbalance_check_ms: Some(20_000),
        moves_max: 2,
        elections_max: 2,
        ..ControllerSettings::default()
    }
}

impl World {
    fn new(seed: u64, tracing: bool) -> Self {
        let image = MetadataImage::default();
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            log: Vec::new(),
            ends: Vec::new(),
            controller: ActiveController::begin(&image, settings(), 0),
            image,
            nodes: BTreeMap::new(),
            acked: BTreeMap::new(),
            recovered: BTreeMap::new(),
            proposals: Vec::new(),
            answers: Vec::new(),
            unique: 0,
            leaders: BTreeMap::new(),
            tracing,
            trace: Vec::new(),
            faulty: true,
            troubles: 0,
            counts: Counts::default(),
        };
        world.troubles = world.below(8) + 1;
        let founded = bootstrap(&world.image, CLUSTER);
        world.commit(&founded.records);
        let count = world.rng.random_range(3..6);
        for number in 1..=count {
            let rack = ["a", "b", ""][world.below(3)];
            world.nodes.insert(NodeId(number), Node::new(rack));
        }
        for number in 1..=count {
            world.start(NodeId(number));
            world.beat(NodeId(number));
        }
        world.create_topic();
        world
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn unique(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }

    fn any_node(&mut self) -> NodeId {
        let index = self.below(self.nodes.len());
        let node = self.nodes.keys().nth(index).copied();
        node.unwrap_or(NodeId::NONE)
    }

    fn any_partition(&mut self) -> Option<Key> {
        let count = self.image.partition_count();
        let index = (count > 0).then(|| self.below(count))?;
        let (topic, number, _) = self.image.partitions().nth(index)?;
        Some((topic.id, number))
    }

    fn topic_name(&self, key: Key) -> String {
        let topic = self.image.topic_by_id(key.0);
        topic.map_or_else(String::new, |topic| topic.name.clone())
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if !self.tracing {
            return;
        }
        self.trace.push(format!("{:>7} {}", self.now_ms, what()));
    }

    /// Writes records and replays them, through their stored form.
    fn commit(&mut self, records: &[MetadataRecord]) {
        let before = self.image.clone();
        for record in records {
            let stored = record.encode();
            let read = MetadataRecord::decode(&stored).unwrap();
            assert_eq!(read, *record);
            self.note(|| String::from_utf8_lossy(&stored).into_owned());
            self.image.replay(&read);
            self.log.push((stored, read));
        }
        if !records.is_empty() {
            self.ends.push(self.log.len());
            self.check_step(&before);
        }
    }

    /// Asks the active controller. Sometimes it fails over before the records are committed: then
    /// nothing has happened and nobody answers.
    fn change(&mut self, change: &Change) -> Option<Result<Answer, ChangeError>> {
        let (image, now_ms) = (&self.image, self.now_ms);
        let decided = self.controller.decide(image, change, now_ms);
        if self.faulty && self.chance(1) {
            self.fail_over();
            return None;
        }
        match decided {
            Ok(transition) => {
                self.commit(&transition.records);
                Some(Ok(transition.response))
            }
            Err(error) => {
                let text = error.to_string();
                self.note(|| format!("refused: {text}"));
                Some(Err(error))
            }
        }
    }

    fn fail_over(&mut self) {
        self.note(|| "the controller fails over".to_owned());
        self.controller = ActiveController::begin(&self.image, settings(), self.now_ms);
    }

    fn tick(&mut self) {
        // Bounded: each thing done leaves less to do.
        for _ in 0..100 {
            match self.controller.tick(&self.image, self.now_ms) {
                Some(timed) => {
                    self.note(|| format!("{:?}", timed.response));
                    self.commit(&timed.records);
                }
                None => return,
            }
        }
        panic!("the controller always finds something to do");
    }

    fn create_topic(&mut self) {
        let id = u128::from(self.unique());
        let running = self.image.brokers().filter(|node| node.takes_replicas());
        let running = running.count();
        let factor = self.below(3) + 1;
        let durability = ["fsync", "replicated"][self.below(2)];
        let topic = NewTopic {
            name: format!("topic-{id}"),
            partitions: Some(self.rng.random_range(1..4)),
            replication_factor: Some(factor.min(running.max(1)) as i32),
            configs: [
                ("conveyor.durability".to_owned(), durability.to_owned()),
                (
                    "min.insync.replicas".to_owned(),
                    self.rng.random_range(1..4).to_string(),
                ),
            ]
            .into(),
            ..NewTopic::default()
        };
        self.change(&Change::CreateTopics {
            topics: vec![(Uuid::from_u128(id), topic)],
            validate_only: false,
        });
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.now_ms += self.rng.random_range(1..400);
            self.step();
            self.check();
        }
        self.heal();
        self.check_replay();
    }

    fn step(&mut self) {
        let troubles = self.troubles;
        match self.below(100) {
            0..20 => {
                let node = self.any_node();
                self.beat(node);
            }
            20..24 => self.tick(),
            24..28 => {
                let node = self.any_node();
                self.start(node);
            }
            28..36 => {
                let node = self.any_node();
                self.learn(node);
            }
            percent if percent < 36 + troubles => self.fault(),
            percent if percent < 36 + 2 * troubles => self.command(),
            _ => self.work(),
        }
    }

    /// A leader or a message does something.
    fn work(&mut self) {
        let kind = self.below(10);
        let Some(key) = self.any_partition() else {
            return;
        };
        match kind {
            0..2 => self.produce(key),
            2..5 => self.replicate(key),
            5 => {
                for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                    if self.chance(60) {
                        self.sync(node);
                    }
                }
            }
            6..8 => self.propose(key),
            8 if self.chance(10) => self.resign(key),
            8 => self.deliver_proposal(),
            _ => self.deliver_answer(),
        }
    }
}

/// Runs a seed; if it breaks a rule, runs it again to tell how.
fn run(seed: u64) -> Result<Counts, String> {
    let attempt = |tracing| {
        let mut world = World::new(seed, tracing);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
        (outcome, world)
    };
    let (outcome, world) = attempt(false);
    if outcome.is_ok() {
        return Ok(world.counts);
    }
    let (outcome, mut world) = attempt(true);
    let last = world.trace.len().saturating_sub(80);
    let trace = world.trace.split_off(last).join("\n");
    let panic = outcome
        .err()
        .unwrap_or_else(|| Box::new("it does not happen again"));
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or_default();
    Err(format!(
        "{trace}\nseed {seed} (CONVEYOR_SIM_SEED={seed} runs it again): {text}"
    ))
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_run_of_a_cluster_breaks_a_rule() {
    let one = number_from_environment("CONVEYOR_SIM_SEED");
    let count = number_from_environment("CONVEYOR_SIM_SEEDS").unwrap_or(SEEDS);
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    let mut total = Counts::default();
    for seed in seeds {
        match run(seed) {
            Ok(counts) => {
                total.acked += counts.acked;
                total.elections += counts.elections;
                total.recoveries += counts.recoveries;
                total.wiped += counts.wiped;
            }
            Err(text) => panic!("{text}"),
        }
    }
    if one.is_none() {
        println!("{count} seeds: {total:?}");
        assert!(total.acked > 0 && total.elections > 0 && total.wiped > 0);
        assert!(total.recoveries > 0, "a vacuous run: {total:?}");
    }
}

#[test]
fn a_seed_replays_to_the_same_records() {
    for seed in 0..20 {
        let record = || {
            let mut world = World::new(seed, true);
            world.run();
            (world.log, world.trace)
        };
        assert_eq!(record(), record(), "seed {seed}");
    }
}

/// Every deliberate error is found within these seeds.
#[cfg(feature = "mutants")]
const MUTANT_SEEDS: u64 = 10_000;

/// The deliberate errors in this crate that can be found, by their names in the code.
#[cfg(feature = "mutants")]
const MUTANTS: [&str; 11] = [
    "controller: leader epoch stays",
    "controller: reassignment ends early",
    "controller: lossy replica stays eligible",
    "controller: eligible replicas stay",
    "controller: unclean election",
    "controller: stale partition epoch accepted",
    "controller: member of another incarnation accepted",
    "controller: empty disk trusted",
    "controller: fenced replica stays in sync",
    "controller: smaller min.insync.replicas keeps eligible replicas",
    "controller: reassignment drops who has the records",
];

#[cfg(feature = "mutants")]
#[test]
fn every_deliberate_error_is_found() {
    use conveyor_record::mutants;

    panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let one = std::env::var("CONVEYOR_MUTANT").ok();
    let chosen = |mutant: &&str| one.as_ref().is_none_or(|one| mutant.contains(one.as_str()));
    for mutant in MUTANTS.into_iter().filter(chosen) {
        mutants::set(Some(mutant));
        let found = (0..MUTANT_SEEDS).find_map(|seed| Some((seed, run(seed).err()?)));
        mutants::set(None);
        match found {
            Some((seed, text)) => {
                let what = text.lines().find(|line| line.starts_with("seed "));
                println!("{mutant}: {} seeds: {}", seed + 1, what.unwrap_or_default());
            }
            None => missed.push(mutant),
        }
    }
    drop(panic::take_hook());
    assert!(
        missed.is_empty(),
        "not found in {MUTANT_SEEDS} seeds: {missed:?}"
    );
}
