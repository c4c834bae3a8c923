//! The node that hosts the controller: writes decisions down, then lets them count.
//!
//! One decision is on its way to the disk at a time; requests that come meanwhile wait. Only when the
//! decision is durable does the image change, does the answer leave and do brokers hear of it. After
//! a crash the image is what the log says, and every broker's session begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use conveyor_log::disk::{Crash, SimDisk};
use conveyor_log::{
    AppendBatch, Clock, DataDir, DataDirConfig, Log, LogConfig, SimClock, TopicPartition,
};
use conveyor_record::{
    AppendOrigin, BatchBuilder, BatchOptions, Batches, Compressor, Decompressor, LeaderEpoch,
    NewRecord, NodeId, Offset, ProduceRules, mutants, validate_produce,
};
use conveyor_replication::{Incarnation, ProposalAnswer, Refusal};
use uuid::Uuid;

use super::image::{Image, Placed, Record};
use super::rules::Decision;
use crate::broker::DIRECTORY;
use crate::clock::NodeClock;
use crate::context::Context;
use crate::message::{Address, Event, Message};
use crate::oracle::Observation;
use crate::{MS, Micros};

const TICK: Micros = 100 * MS;
/// How long a fetch of metadata waits for news.
const FETCH_WAIT: Micros = 300 * MS;
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
    /// All records, by place.
    records: Vec<Record>,
    waiting: VecDeque<(Address, Message)>,
    /// What is on its way to the disk, and who gets which answer.
    in_flight: Option<InFlight>,
    parked: BTreeMap<Address, (i64, Micros)>,
    /// When each broker was last heard of, by the controller's clock.
    heard_ms: BTreeMap<NodeId, i64>,
    balanced_ms: i64,
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
        let records = read_records(&log)?;
        let mut image = Image::default();
        for record in &records {
            image.apply(record);
        }
        // A new controller has heard of nobody yet: everybody gets the whole time.
        let heard_ms = image.brokers.keys().map(|node| (*node, now_ms)).collect();
        ctx.observe(Observation::Recovered {
            records: records.clone(),
        });
        self.running = Some(Running {
            dir,
            log,
            image,
            records,
            waiting: VecDeque::new(),
            in_flight: None,
            parked: BTreeMap::new(),
            heard_ms,
            balanced_ms: now_ms,
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
        let min_in_sync = ctx.scenario.replication.min_insync_replicas;
        let timeout_ms = ctx.scenario.session_timeout_ms;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.answer_parked(ctx, false);
        if running.in_flight.is_some() {
            return Ok(());
        }
        let mut decision = Decision::new(&running.image, min_in_sync);
        let silent = running.image.brokers.values().find(|broker| {
            let heard_ms = running
                .heard_ms
                .get(&broker.node)
                .copied()
                .unwrap_or(now_ms);
            !broker.fenced && now_ms - heard_ms > timeout_ms
        });
        if let Some(broker) = silent {
            decision.fence(broker.node);
        } else if running.wants_topic(ctx) {
            let nodes: Vec<NodeId> = ctx.scenario.nodes().collect();
            for partition in 0..ctx.scenario.partitions {
                let replicas = (0..ctx.scenario.replication_factor)
                    .map(|index| nodes[(partition as usize + index) % nodes.len()]);
                decision.create(partition, replicas.collect());
            }
        } else if now_ms - running.balanced_ms > BALANCE_INTERVAL_MS {
            decision.balance();
            running.balanced_ms = now_ms;
        }
        let records = decision.records();
        self.commit(records, None, ctx)
    }

    /// A message has come.
    pub fn deliver(
        &mut self,
        from: Address,
        message: Message,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let now_ms = self.clock.now_ms(ctx.now);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        match message {
            Message::FetchMetadata { from: place } => {
                running.parked.insert(from, (place, ctx.now));
                running.answer_parked(ctx, true);
                Ok(())
            }
            Message::Heartbeat { from: who, applied } => {
                let broker = running.image.brokers.get(&who.node);
                let Some(broker) = broker.filter(|broker| broker.epoch == who.epoch) else {
                    return Ok(());
                };
                running.heard_ms.insert(who.node, now_ms);
                if broker.fenced && applied >= broker.registered_at {
                    running
                        .waiting
                        .push_back((from, Message::Heartbeat { from: who, applied }));
                    return self.decide_next(ctx);
                }
                Ok(())
            }
            other => {
                running.waiting.push_back((from, other));
                self.decide_next(ctx)
            }
        }
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
        for record in done.records {
            let at = running.records.len() as i64;
            running.image.count_change(&record, &mut ctx.coverage);
            ctx.observe(Observation::Decided {
                at,
                record: record.clone(),
            });
            running.image.apply(&record);
            running.records.push(record);
        }
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
    /// The topic is created once every broker has come.
    fn wants_topic(&self, ctx: &Context) -> bool {
        self.image.partitions.is_empty()
            && ctx
                .scenario
                .nodes()
                .all(|node| self.image.is_unfenced(node))
    }

    /// Sends news to those who wait for them, or nothing after a while.
    fn answer_parked(&mut self, ctx: &mut Context, only_news: bool) {
        let end = self.records.len() as i64;
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
            // In pieces, so that brokers see states in between.
            let end = end.min(from + 1 + ctx.rng.below(20) as i64);
            let records = (from.max(0)..end)
                .map(|at| Placed {
                    at,
                    record: self.records[at as usize].clone(),
                })
                .collect();
            ctx.send(Address::Controller, who, Message::Metadata { records });
        }
    }

    fn decide(
        &mut self,
        message: Message,
        now_ms: i64,
        ctx: &mut Context,
    ) -> (Vec<Record>, Option<Message>) {
        let min_in_sync = ctx.scenario.replication.min_insync_replicas;
        let mut decision = Decision::new(&self.image, min_in_sync);
        let next = self.records.len() as i64;
        match message {
            Message::Register { node, start, disk } => {
                self.heard_ms.insert(node, now_ms);
                let known = self.image.brokers.get(&node);
                let (epoch, at) = match known {
                    Some(known) if known.start == start => (known.epoch, known.registered_at),
                    // An earlier start of the same broker, late.
                    Some(known) if known.start > start => return (Vec::new(), None),
                    _ => {
                        let epoch = decision.register(node, start, disk, next);
                        (epoch, epoch.value())
                    }
                };
                let answer = Message::Registered { start, epoch, at };
                (decision.records(), Some(answer))
            }
            Message::Heartbeat { from, applied } => {
                let broker = self.image.brokers.get(&from.node);
                let ready = broker.is_some_and(|broker| {
                    broker.epoch == from.epoch && broker.fenced && applied >= broker.registered_at
                });
                if ready {
                    decision.unfence(from.node);
                }
                (decision.records(), None)
            }
            Message::Propose {
                from,
                partition,
                proposal,
            } => {
                let outcome = if self.is_current(from) {
                    decision.alter(from, partition, &proposal)
                } else {
                    Err(Refusal::Superseded)
                };
                ctx.coverage.refusals += u64::from(outcome.is_err());
                let answer = ProposalAnswer {
                    sequence: proposal.sequence,
                    leader_epoch: proposal.leader_epoch,
                    outcome,
                };
                let answer = Message::ProposalAnswered { partition, answer };
                (decision.records(), Some(answer))
            }
            Message::GiveUp {
                from,
                partition,
                leader_epoch,
            } => {
                if self.is_current(from) && decision.give_up(from, partition, leader_epoch) {
                    ctx.coverage.given_up += 1;
                }
                (decision.records(), None)
            }
            _ => (Vec::new(), None),
        }
    }

    fn is_current(&self, from: Incarnation) -> bool {
        let broker = self.image.brokers.get(&from.node);
        broker.is_some_and(|broker| broker.epoch == from.epoch)
    }
}

fn open(disk: &SimDisk) -> Result<(DataDir, Log), conveyor_log::OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::at(0));
    let config = DataDirConfig {
        node_id: 0,
        cluster_id: Some("simulated".to_owned()),
        pool_files: 0,
        ..DataDirConfig::default()
    };
    let dir = DataDir::open(disk.shared(), clock, Path::new(DIRECTORY), config)?;
    let partition = TopicPartition::new("__cluster_metadata", 0);
    let config = LogConfig {
        retention_ms: None,
        ..LogConfig::default()
    };
    let log = if dir.find(&partition)?.is_some() {
        dir.open_log(&partition, config)?.0
    } else {
        dir.create_log(&partition, Uuid::from_u128(1), config)?
    };
    Ok((dir, log))
}

fn append(log: &mut Log, records: &[Record]) -> Result<(), String> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in records {
        let value = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        builder
            .append(&NewRecord {
                timestamp_ms: 0,
                key: None,
                value: Some(&value),
                headers: &[],
            })
            .map_err(|error| error.to_string())?;
    }
    let bytes = builder
        .build(&mut Compressor::new())
        .map_err(|error| error.to_string())?;
    let rules = ProduceRules {
        origin: AppendOrigin::Coordinator,
        ..ProduceRules::default()
    };
    let validated = validate_produce(&bytes, &rules, &mut Decompressor::new())
        .map_err(|error| error.to_string())?;
    let batch = AppendBatch { bytes, validated };
    for result in log.append_as_leader(&[batch], LeaderEpoch(0)) {
        result.map_err(|error| format!("controller: {error}"))?;
    }
    Ok(())
}

fn read_records(log: &Log) -> Result<Vec<Record>, String> {
    let reader = log.reader();
    let (mut from, end) = (Offset::ZERO, reader.log_end_offset());
    let mut decompressor = Decompressor::new();
    let mut records = Vec::new();
    while from < end {
        let chunk = reader
            .read(from, end, 1 << 20, true)
            .map_err(|error| error.to_string())?;
        for batch in Batches::new(&chunk.bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            let views = batch
                .records(&mut decompressor, 1 << 20)
                .map_err(|error| error.to_string())?;
            for record in views {
                let record = record.map_err(|error| error.to_string())?;
                let value = record.value.unwrap_or_default();
                records.push(serde_json::from_slice(value).map_err(|error| error.to_string())?);
            }
        }
        from = chunk.next_offset;
    }
    Ok(records)
}
