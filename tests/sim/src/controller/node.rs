//! The node that hosts the controller: writes decisions down, then lets them count.
//!
//! One decision is on its way to the disk at a time; requests that come meanwhile wait. Only when the
//! decision is durable does the image change, does the answer leave and do brokers hear of it. After
//! a crash the image is what the log says, and every broker's session begins anew.

use std::collections::{BTreeMap, VecDeque};

use conveyor_controller::brokers::heartbeat::HeartbeatRequest;
use conveyor_controller::brokers::registration::{DiskState, RegistrationRequest};
use conveyor_controller::partitions::alter::{
    AlterPartitionError, AlterPartitionRequest, IsrMember, IsrProposal, PartitionState,
};
use conveyor_controller::partitions::resign::{LedPartition, ResignRequest};
use conveyor_controller::{
    ActiveController, Answer, Change, ChangeError, ControllerSettings, Endpoint,
    MetadataVersionRange, NewTopic, Timed, bootstrap,
};
use conveyor_log::disk::{Crash, SimDisk};
use conveyor_log::{DataDir, Log};
use conveyor_record::{LeaderEpoch, NodeId, mutants};
use conveyor_replication::{InSyncDecision, Incarnation, Proposal, ProposalAnswer, Refusal};

use super::decision_log::{CLUSTER, append, open, read_entries};
use super::view::{self, Placed, TOPIC_ID};
use super::{Image, Record};
use crate::broker::TOPIC;
use crate::clock::NodeClock;
use crate::context::Context;
use crate::message::{Address, Event, Message, PartitionId};
use crate::oracle::Observation;
use crate::scenario::Scenario;
use crate::{MS, Micros};

const TICK: Micros = 100 * MS;
/// How long a fetch of metadata waits for news.
const FETCH_WAIT: Micros = 300 * MS;
/// How often leadership goes back to the preferred replicas.
const BALANCE_INTERVAL_MS: i64 = 1_500;

/// The controller's node.
#[derive(Debug)]
pub struct ControllerNode {
    disk: SimDisk,
    /// Its clock.
    pub clock: NodeClock,
    start: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    dir: DataDir,
    log: Log,
    image: Image,
    rules: ActiveController,
    /// All decisions, in order.
    entries: Vec<Placed>,
    waiting: VecDeque<(Address, Message)>,
    /// What is on its way to the disk, and who gets which answer.
    in_flight: Option<InFlight>,
    parked: BTreeMap<Address, (i64, Micros)>,
}

#[derive(Debug)]
struct InFlight {
    records: Vec<Record>,
    answer: Option<(Address, Message)>,
}

impl ControllerNode {
    /// A controller that has decided nothing yet.
    pub fn new(seed: u64, clock: NodeClock) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock,
            start: 0,
            running: None,
        }
    }

    /// Starts from what the disk holds.
    pub fn start(&mut self, ctx: &mut Context) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        self.start += 1;
        let now_ms = self.clock.now_ms(ctx.now);
        let (dir, log) = open(&self.disk).map_err(|error| format!("controller: {error}"))?;
        let entries = read_entries(&log)?;
        let mut image = Image::default();
        for entry in &entries {
            image.replay_all(&entry.records);
        }
        ctx.observe(Observation::Recovered {
            entries: entries.clone(),
        });
        self.running = Some(Running {
            rules: ActiveController::begin(&image, settings(&ctx.scenario), now_ms),
            dir,
            log,
            image,
            entries,
            waiting: VecDeque::new(),
            in_flight: None,
            parked: BTreeMap::new(),
        });
        ctx.after(TICK, Event::ControllerTick { start: self.start });
        Ok(())
    }

    /// Whether it runs.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Goes down.
    pub fn crash(&mut self, kind: Crash) {
        self.disk.crash(kind);
        self.running = None;
    }

    /// The image, while it runs.
    pub fn image(&self) -> Option<&Image> {
        self.running.as_ref().map(|running| &running.image)
    }

    /// Its timer.
    pub fn tick(&mut self, start: u64, ctx: &mut Context) -> Result<(), String> {
        if start != self.start || self.running.is_none() {
            return Ok(());
        }
        ctx.after(TICK, Event::ControllerTick { start });
        let now_ms = self.clock.now_ms(ctx.now);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.answer_parked(ctx, false);
        if running.in_flight.is_some() {
            return Ok(());
        }
        let records = running.what_is_due(now_ms, ctx);
        self.commit(records, None, ctx)
    }

    /// A message has come.
    pub fn deliver(
        &mut self,
        from: Address,
        message: Message,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if let Message::FetchMetadata { from: place } = message {
            running.parked.insert(from, (place, ctx.now));
            running.answer_parked(ctx, true);
            return Ok(());
        }
        running.waiting.push_back((from, message));
        self.decide_next(ctx)
    }

    /// Decides about what waits until something has to be written.
    fn decide_next(&mut self, ctx: &mut Context) -> Result<(), String> {
        loop {
            let Some(running) = &mut self.running else {
                return Ok(());
            };
            if running.in_flight.is_some() {
                return Ok(());
            }
            let Some((from, message)) = running.waiting.pop_front() else {
                return Ok(());
            };
            let now_ms = self.clock.now_ms(ctx.now);
            let (records, answer) = running.decide(message, now_ms, ctx);
            let answer = answer.map(|answer| (from, answer));
            self.commit(records, answer, ctx)?;
        }
    }

    /// Writes a decision; without records the answer leaves at once.
    fn commit(
        &mut self,
        records: Vec<Record>,
        answer: Option<(Address, Message)>,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if records.is_empty() {
            if let Some((to, message)) = answer {
                ctx.send(Address::Controller, to, message);
            }
            return Ok(());
        }
        append(&mut running.log, &records)?;
        let answer = if mutants::on("decision-answered-before-sync") {
            if let Some((to, message)) = answer {
                ctx.send(Address::Controller, to, message);
            }
            None
        } else {
            answer
        };
        running.in_flight = Some(InFlight { records, answer });
        let delay = MS + ctx.chance(2 * MS);
        ctx.after(delay, Event::ControllerSynced { start: self.start });
        Ok(())
    }

    /// The disk has what was written: it counts.
    pub fn synced(&mut self, start: u64, ctx: &mut Context) -> Result<(), String> {
        if start != self.start {
            return Ok(());
        }
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running
            .log
            .sync()
            .map_err(|error| format!("controller: {error}"))?;
        let Some(done) = running.in_flight.take() else {
            return Ok(());
        };
        let before = running.image.clone();
        running.image.replay_all(&done.records);
        for (partition, after) in view::partitions(&running.image) {
            let before = view::partition(&before, partition);
            if before != Some(after) {
                view::count_change(before, after, &mut ctx.coverage);
            }
        }
        let entry = Placed {
            at: before.offset(),
            records: done.records,
        };
        ctx.observe(Observation::Decided {
            entry: entry.clone(),
        });
        running.entries.push(entry);
        if let Some((to, message)) = done.answer {
            ctx.send(Address::Controller, to, message);
        }
        running.answer_parked(ctx, false);
        self.decide_next(ctx)
    }

    /// Whether its data directory is well.
    pub fn is_well(&self) -> bool {
        self.running
            .as_ref()
            .is_none_or(|running| running.dir.offline().is_none())
    }
}

impl Running {
    /// What the controller does by itself: the cluster's beginning, the topic once every broker has
    /// come, and what the rules say is due.
    fn what_is_due(&mut self, now_ms: i64, ctx: &mut Context) -> Vec<Record> {
        if self.image.cluster_id().is_none() {
            return bootstrap(&self.image, CLUSTER).records;
        }
        let everybody = ctx.scenario.nodes().all(|node| self.image.is_active(node));
        if self.image.topic(TOPIC).is_none() && everybody {
            let change = create_topic(&ctx.scenario);
            let decided = self.rules.decide(&self.image, &change, now_ms);
            return decided.map_or_else(|_| Vec::new(), |decided| decided.records);
        }
        let due = self.rules.tick(&self.image, now_ms);
        due.map_or_else(Vec::new, |due| {
            ctx.coverage.fenced += u64::from(matches!(due.response, Timed::Fenced(_)));
            due.records
        })
    }

    /// Sends news to those who wait for them, or nothing after a while.
    fn answer_parked(&mut self, ctx: &mut Context, only_news: bool) {
        let end = self.image.offset();
        let due: Vec<(Address, i64)> = self
            .parked
            .iter()
            .filter(|(_, (from, since))| {
                *from < end || (!only_news && ctx.now - since > FETCH_WAIT)
            })
            .map(|(who, (from, _))| (*who, *from))
            .collect();
        for (who, from) in due {
            self.parked.remove(&who);
            let first = self.entries.partition_point(|entry| entry.at < from);
            // In pieces, so that brokers see states in between.
            let some = 1 + ctx.rng.below(20) as usize;
            let entries = self.entries[first..].iter().take(some).cloned().collect();
            ctx.send(Address::Controller, who, Message::Metadata { entries });
        }
    }

    /// Asks the rules about a message; the records and the answer.
    fn decide(
        &mut self,
        message: Message,
        now_ms: i64,
        ctx: &mut Context,
    ) -> (Vec<Record>, Option<Message>) {
        match message {
            // Of a process that is gone, late: by the rules it would replace its successor, whose disk
            // would then pass for another one and lose its place. A host has to keep such requests
            // away from the rules, by a count of starts on the disk.
            Message::Register { node, start, .. } if self.is_outdated(node, start) => {
                (Vec::new(), None)
            }
            Message::Register { node, start, disk } => {
                let change = Change::Register(registration(node, start, disk));
                let (records, answer) = self.ask(&change, now_ms);
                let answer = match answer {
                    Ok(Answer::Registered(registered)) => Some(Message::Registered {
                        start,
                        epoch: registered.broker_epoch,
                    }),
                    _ => None,
                };
                (records, answer)
            }
            Message::Heartbeat { from, offset } => {
                let change = Change::Heartbeat(HeartbeatRequest {
                    node_id: from.node,
                    broker_epoch: from.epoch,
                    metadata_offset: offset,
                    want_fence: false,
                    want_shutdown: false,
                });
                let (records, answer) = self.ask(&change, now_ms);
                let epoch = from.epoch;
                (
                    records,
                    answer.is_err().then_some(Message::Replaced { epoch }),
                )
            }
            Message::Propose {
                from,
                partition,
                proposal,
            } => {
                let change = Change::AlterPartition(alteration(from, partition, &proposal));
                let (records, answer) = self.ask(&change, now_ms);
                let outcome = outcome_of(answer);
                ctx.coverage.refusals += u64::from(outcome.is_err());
                let answer = ProposalAnswer {
                    sequence: proposal.sequence,
                    leader_epoch: proposal.leader_epoch,
                    outcome,
                };
                (
                    records,
                    Some(Message::ProposalAnswered { partition, answer }),
                )
            }
            Message::GiveUp {
                from,
                partition,
                leader_epoch,
            } => {
                let needed = ctx.scenario.replication.min_insync_replicas;
                if !self.others_could_lead(from, partition, leader_epoch, needed) {
                    return (Vec::new(), None);
                }
                // Its copy leaves the sets, and comes back once its disk has caught up.
                let change = Change::Resign(ResignRequest {
                    node_id: from.node,
                    broker_epoch: from.epoch,
                    partitions: vec![LedPartition {
                        topic_id: TOPIC_ID,
                        partition: partition as i32,
                        leader_epoch,
                    }],
                });
                let records = self.ask(&change, now_ms).0;
                ctx.coverage.given_up += u64::from(!records.is_empty());
                (records, None)
            }
            _ => (Vec::new(), None),
        }
    }

    fn is_outdated(&self, node: NodeId, start: u64) -> bool {
        let known = self.image.broker(node);
        known.is_some_and(|known| view::registered_start(known) > start)
    }

    fn ask(&mut self, change: &Change, now_ms: i64) -> (Vec<Record>, Result<Answer, ChangeError>) {
        match self.rules.decide(&self.image, change, now_ms) {
            Ok(decided) => (decided.records, Ok(decided.response)),
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    /// Whether enough are in sync without this leader. The rules know no other way for it to give up
    /// than to leave the sets, and with fewer one lost disk would take the last copy they know of.
    fn others_could_lead(
        &self,
        from: Incarnation,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        needed: usize,
    ) -> bool {
        view::partition(&self.image, partition).is_some_and(|state| {
            let others = state.isr.iter().filter(|node| **node != from.node);
            let others = others.filter(|node| self.image.is_active(**node)).count();
            state.leader == from.node && state.leader_epoch == leader_epoch && others >= needed
        })
    }
}

fn settings(scenario: &Scenario) -> ControllerSettings {
    ControllerSettings {
        session_timeout_ms: scenario.session_timeout_ms,
        leader_imbalance_check_ms: Some(BALANCE_INTERVAL_MS),
        ..ControllerSettings::default()
    }
}

fn create_topic(scenario: &Scenario) -> Change {
    let nodes: Vec<NodeId> = scenario.nodes().collect();
    let replicas = |partition: u32| {
        (0..scenario.replication_factor)
            .map(|index| nodes[(partition as usize + index) % nodes.len()])
            .collect()
    };
    let configs = [
        (
            "min.insync.replicas",
            scenario.replication.min_insync_replicas.to_string(),
        ),
        (
            "conveyor.durability",
            view::durability(scenario).as_str().to_owned(),
        ),
    ];
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        assignments: (0..scenario.partitions)
            .map(|partition| (partition as i32, replicas(partition)))
            .collect(),
        configs: configs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        ..NewTopic::default()
    };
    Change::CreateTopics {
        topics: vec![(TOPIC_ID, topic)],
        validate_only: false,
    }
}

fn registration(node: NodeId, start: u64, disk: DiskState) -> RegistrationRequest {
    let endpoint = Endpoint::new(format!("broker-{node}"), 9_193);
    RegistrationRequest {
        cluster_id: CLUSTER.to_owned(),
        node_id: node,
        incarnation_id: view::incarnation_id(node, start),
        disk,
        lost_replicas: Vec::new(),
        grpc: endpoint.clone(),
        broker: endpoint,
        kafka: BTreeMap::new(),
        rack: String::new(),
        metadata_versions: MetadataVersionRange::THIS_BUILD,
        cluster_wide: BTreeMap::new(),
    }
}

fn alteration(
    from: Incarnation,
    partition: PartitionId,
    proposal: &Proposal,
) -> AlterPartitionRequest {
    let isr = proposal.members.iter().map(|(node, epoch)| IsrMember {
        node_id: *node,
        broker_epoch: *epoch,
    });
    AlterPartitionRequest {
        node_id: from.node,
        broker_epoch: from.epoch,
        proposals: vec![IsrProposal {
            topic_id: TOPIC_ID,
            partition: partition as i32,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: isr.collect(),
        }],
    }
}

/// What the rules of replication make of the controller's answer.
fn outcome_of(answer: Result<Answer, ChangeError>) -> Result<InSyncDecision, Refusal> {
    let Ok(Answer::PartitionsAltered(mut outcomes)) = answer else {
        return Err(Refusal::Superseded);
    };
    match outcomes.pop() {
        Some(Ok(PartitionState {
            partition_epoch,
            isr,
            ..
        })) => Ok(InSyncDecision {
            partition_epoch,
            in_sync: isr,
        }),
        Some(Err(
            AlterPartitionError::InvalidIsr { .. } | AlterPartitionError::IneligibleReplica { .. },
        )) => Err(Refusal::NotTaken),
        _ => Err(Refusal::Superseded),
    }
}
