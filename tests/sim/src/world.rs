//! The world: all nodes and clients, the loop over what happens, and the end of it.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use conveyor_log::disk::{Crash, SimRng};
use conveyor_record::{NodeId, Offset};

use crate::broker::BrokerNode;
use crate::clients::{Consumer, Producer};
use crate::clock::NodeClock;
use crate::context::Context;
use crate::controller::{ControllerNode, view};
use crate::coverage::Coverage;
use crate::faults::Ongoing;
use crate::message::{Address, Event, Message, PartitionId};
use crate::oracle::Oracle;
use crate::scenario::Scenario;
use crate::{MS, Micros, SECOND};

/// Within so long after the last fault everything must be well again.
const HEAL_TIME: Micros = 30 * SECOND;
/// Batches that each producer must get acknowledged in that time.
const FRESH_BATCHES: u64 = 5;
/// How many events a failure shows.
const LAST_EVENTS: usize = 200;

/// How a run is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Whether every event is written out: for the hash of the whole run, and to show the last ones.
    pub traced: bool,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// A number that two equal runs share.
    pub hash: u32,
    /// Events that happened.
    pub events: u64,
    /// Simulated time.
    pub simulated: Micros,
    /// What happened.
    pub coverage: Coverage,
}

/// A run that went wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was violated.
    pub what: String,
    /// When, in simulated time.
    pub at: Micros,
    /// The last events before, if the run was traced.
    pub last_events: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64, settings: Settings) -> Result<Report, Failure> {
    let mut world = World::new(seed, settings);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.go()));
    let what = match outcome {
        Ok(Ok(())) => return Ok(world.report()),
        Ok(Err(what)) => what,
        Err(panic) => panic_text(&*panic),
    };
    Err(Failure {
        seed,
        what,
        at: world.ctx.now,
        last_events: world.last_events.into_iter().collect(),
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a text"))
}

/// The world of one seed.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) brokers: BTreeMap<NodeId, BrokerNode>,
    controller: ControllerNode,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    oracle: Oracle,
    next_disk: u64,
    /// Since when all faults are over.
    healing_since: Option<Micros>,
    well: bool,
    hash: crc32fast::Hasher,
    events: u64,
    traced: bool,
    last_events: VecDeque<String>,
}

impl World {
    fn new(seed: u64, settings: Settings) -> Self {
        let mut rng = SimRng::new(seed ^ 0x5eed_c0de);
        let scenario = Scenario::draw(&mut rng);
        let mut next_disk = seed.wrapping_mul(0x9e37_79b9).wrapping_add(17);
        let clock = |rng: &mut SimRng| {
            let skew = rng.below(2 * scenario.skew_ppm as u64 + 1) as i64 - scenario.skew_ppm;
            NodeClock::new(skew, rng.below(100_000_000) as Micros)
        };
        let mut brokers = BTreeMap::new();
        for node in scenario.nodes() {
            next_disk += 1;
            brokers.insert(node, BrokerNode::new(node, next_disk, clock(&mut rng)));
        }
        next_disk += 1;
        let controller = ControllerNode::new(next_disk, clock(&mut rng));
        let partitions = scenario.partitions;
        let per_partition = scenario.producers;
        let producers = (0..partitions as usize * per_partition)
            .map(|index| Producer::new(index, index as PartitionId % partitions))
            .collect();
        let consumers = (0..partitions as usize)
            .map(|index| Consumer::new(index, index as PartitionId))
            .collect();
        Self {
            oracle: Oracle::new(&scenario),
            ctx: Context::new(scenario, rng),
            brokers,
            controller,
            producers,
            consumers,
            next_disk,
            healing_since: None,
            well: false,
            hash: crc32fast::Hasher::new(),
            events: 0,
            traced: settings.traced,
            last_events: VecDeque::new(),
        }
    }

    fn go(&mut self) -> Result<(), String> {
        self.controller.start(&mut self.ctx)?;
        for broker in self.brokers.values_mut() {
            broker.start(&mut self.ctx)?;
        }
        for index in 0..self.producers.len() {
            self.ctx.after(MS, Event::ProducerTick(index));
        }
        for index in 0..self.consumers.len() {
            self.ctx.after(MS, Event::ConsumerTick(index));
        }
        // The cluster comes up first: a topic needs all brokers.
        self.ctx.after(SECOND, Event::Fault);
        let chaos = SECOND + self.ctx.scenario.chaos;
        self.ctx.after(chaos, Event::FaultEnds(Ongoing::Chaos));
        while !self.well {
            let Some(event) = self.ctx.next_event() else {
                return Err("nothing happens any more".to_owned());
            };
            if self
                .healing_since
                .is_some_and(|since| self.ctx.now - since > HEAL_TIME)
            {
                return Err(format!(
                    "I19: not well after 30 s: {}",
                    self.what_is_wrong()
                ));
            }
            self.note(&event);
            self.handle(event)?;
            self.check()?;
        }
        self.compare_logs()
    }

    fn note(&mut self, event: &Event) {
        self.events += 1;
        self.hash.update(&self.ctx.now.to_le_bytes());
        if self.traced {
            let line = format!("{:>10} {event:?}", self.ctx.now);
            self.hash.update(line.as_bytes());
            if self.last_events.len() == LAST_EVENTS {
                self.last_events.pop_front();
            }
            self.last_events.push_back(line);
        }
    }

    fn report(&self) -> Report {
        Report {
            hash: self.hash.clone().finalize(),
            events: self.events,
            simulated: self.ctx.now,
            coverage: self.ctx.coverage.clone(),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        if let Some(node) = broker_of(&event) {
            return self.handle_at_broker(node, event);
        }
        let ctx = &mut self.ctx;
        match event {
            Event::Deliver { from, to, message } => match to {
                Address::Controller => self.controller.deliver(from, *message, ctx)?,
                Address::Producer(index) => return self.tell_producer(index, &message),
                Address::Consumer(index) => return self.tell_consumer(index, *message),
                Address::Broker(_) => {}
            },
            Event::ControllerTick { start } => {
                self.controller.tick(start, ctx)?;
                self.well = self.healing_since.is_some() && self.what_is_wrong().is_empty();
            }
            Event::ControllerSynced { start } => self.controller.synced(start, ctx)?,
            Event::ControllerStarts => self.controller.start(ctx)?,
            Event::ProducerTick(index) => {
                let producer = &mut self.producers[index];
                let acknowledged = self.oracle.acknowledged(producer.partition);
                producer.tick(acknowledged, ctx)?;
            }
            Event::ConsumerTick(index) => self.consumers[index].tick(ctx),
            Event::Fault => {
                if self.healing_since.is_none() {
                    self.fault()?;
                }
            }
            Event::FaultEnds(ongoing) => self.fault_ends(ongoing),
            Event::BrokerTick { .. } | Event::BrokerSynced { .. } | Event::BrokerStarts { .. } => {}
        }
        Ok(())
    }

    fn handle_at_broker(&mut self, node: NodeId, event: Event) -> Result<(), String> {
        let Some(broker) = self.brokers.get_mut(&node) else {
            return Ok(());
        };
        if broker.paused_until > self.ctx.now {
            // It happens once the node goes on.
            let rest = broker.paused_until - self.ctx.now;
            self.ctx.after(rest, event);
            return Ok(());
        }
        let ctx = &mut self.ctx;
        let faults = broker.disk.stats().faults;
        let outcome = match event {
            Event::Deliver { from, message, .. } => broker.deliver(from, *message, ctx),
            Event::BrokerTick { start, .. } => broker.tick(start, ctx),
            Event::BrokerSynced { start, .. } => broker.synced(start, ctx),
            Event::BrokerStarts { .. } => broker.start(ctx),
            _ => Ok(()),
        };
        let halted = broker.disk.is_halted();
        let failed_to_start = !broker.is_running() && broker.disk.stats().faults > faults;
        if broker.must_stop() || failed_to_start {
            // What a machine says that stands still, or whose disk fails, is not to be judged.
            self.ctx.coverage.halts += u64::from(halted);
            if !halted && !failed_to_start {
                outcome?;
            }
            let kind = if halted && self.ctx.rng.one_in(2) {
                Crash::Power
            } else {
                Crash::Process
            };
            self.crash(node, kind);
            return Ok(());
        }
        outcome
    }

    /// Shows the oracle what the step has done.
    fn check(&mut self) -> Result<(), String> {
        for observation in std::mem::take(&mut self.ctx.observed) {
            self.oracle.check(observation, &self.brokers)?;
        }
        Ok(())
    }

    fn tell_producer(&mut self, index: usize, message: &Message) -> Result<(), String> {
        let Message::Produced { batch, result } = *message else {
            return Ok(());
        };
        let producer = &mut self.producers[index];
        let told = producer.answered(batch, result, &mut self.ctx);
        let (partition, id) = (producer.partition, producer.id());
        match told {
            Some((offset, after)) => self.oracle.told(partition, id, offset, after),
            None => Ok(()),
        }
    }

    fn tell_consumer(&mut self, index: usize, message: Message) -> Result<(), String> {
        let Message::ReadAnswer {
            request,
            result,
            log_start,
        } = message
        else {
            return Ok(());
        };
        let consumer = &mut self.consumers[index];
        let entries = consumer.answered(request, result, log_start, &mut self.ctx)?;
        let partition = consumer.partition;
        self.oracle.read(partition, &entries)
    }

    /// A node goes down, and comes up again after a while.
    pub(crate) fn crash(&mut self, node: NodeId, kind: Crash) {
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.crash(kind);
        }
        let healing = self.healing_since.is_some();
        let most = if healing { 200 * MS } else { 3 * SECOND };
        let delay = 20 * MS + self.ctx.chance(most);
        self.ctx.after(delay, Event::BrokerStarts { node });
    }

    pub(crate) fn crash_controller(&mut self) {
        self.ctx.coverage.controller_crashes += 1;
        let kind = if self.ctx.rng.one_in(2) {
            Crash::Power
        } else {
            Crash::Process
        };
        self.controller.crash(kind);
        let delay = 20 * MS + self.ctx.chance(2 * SECOND);
        self.ctx.after(delay, Event::ControllerStarts);
    }

    pub(crate) fn pause(&mut self, node: NodeId, time: Micros) {
        let until = self.ctx.now + time;
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.paused_until = until;
        }
    }

    pub(crate) fn set_sync_time(&mut self, node: NodeId, time: Micros) {
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.sync_time = time;
        }
    }

    pub(crate) fn restore_disk(&mut self, node: NodeId) {
        self.set_sync_time(node, crate::broker::SYNC_TIME);
    }

    pub(crate) fn jump_clock(&mut self, node: NodeId, by: Micros) {
        if self.ctx.rng.one_in(6) {
            self.controller.clock.jump(by);
        } else if let Some(broker) = self.brokers.get_mut(&node) {
            broker.clock.jump(by);
        }
    }

    /// Who leads by the controller's word, if anybody does.
    pub(crate) fn leader(&self, partition: PartitionId) -> Option<NodeId> {
        let leader = view::partition(self.oracle.image(), partition)?.leader;
        leader.is_some().then_some(leader)
    }

    pub(crate) fn leads_anything(&self, node: NodeId) -> bool {
        let image = self.oracle.image();
        let by_record = view::partitions(image).any(|(_, state)| state.leader == node);
        let by_itself = (0..self.ctx.scenario.partitions)
            .any(|partition| self.brokers[&node].leadership(partition).is_some());
        by_record || by_itself
    }

    /// Brokers whose disk was lost and that are not in sync everywhere again.
    pub(crate) fn wiped_and_not_back(&self) -> Vec<NodeId> {
        let image = self.oracle.image();
        let not_back = |broker: &&BrokerNode| {
            let in_sync = view::partitions(image).all(|(_, state)| {
                !state.replicas.contains(&broker.node) || state.isr.contains(&broker.node)
            });
            broker.was_wiped() && !(self.oracle.has_told(broker) && in_sync)
        };
        let brokers = self.brokers.values().filter(not_back);
        brokers.map(|broker| broker.node).collect()
    }

    pub(crate) fn wipe_disk(&mut self, node: NodeId) {
        self.next_disk += 1;
        let disk = self.next_disk;
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.wipe(disk);
        }
    }

    pub(crate) fn delete_records(&mut self) -> Result<(), String> {
        let partition = self.ctx.rng.below(u64::from(self.ctx.scenario.partitions)) as PartitionId;
        let leader = self.leader(partition);
        let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader)) else {
            return Ok(());
        };
        broker.delete_records(partition, &mut self.ctx)
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        let now = self.ctx.now;
        self.healing_since = Some(now);
        self.ctx.network.mend_all();
        for broker in self.brokers.values_mut() {
            broker.paused_until = now;
            broker.sync_time = crate::broker::SYNC_TIME;
            broker.disk.fail_next_syncs(0);
            broker.disk.halt_after(u64::MAX);
            let delay = self.ctx.rng.below(200_000) as Micros;
            let node = broker.node;
            self.ctx.after(delay, Event::BrokerStarts { node });
        }
        self.ctx.after(0, Event::ControllerStarts);
        // Everybody must get something new through.
        for producer in &mut self.producers {
            producer.enough = producer.acknowledged + FRESH_BATCHES;
        }
    }

    /// What is not as it should be at the end; empty if all is well.
    fn what_is_wrong(&self) -> String {
        let mut wrong = Vec::new();
        for producer in &self.producers {
            if !producer.has_enough() || !producer.is_idle() {
                wrong.push(format!("producer {} is not done", producer.id()));
            }
        }
        for consumer in &self.consumers {
            let end = self.oracle.committed_end(consumer.partition);
            if consumer.position < end {
                wrong.push(format!("a consumer is at {} of {end}", consumer.position));
            }
        }
        for (partition, record) in view::partitions(self.oracle.image()) {
            if record.isr.len() != record.replicas.len() || !record.leader.is_some() {
                wrong.push(format!("{record:?}"));
            }
            let states: Vec<_> = record
                .replicas
                .iter()
                .map(|node| self.brokers[node].log_state(partition))
                .collect();
            let equal = states.iter().all(|state| {
                state.is_some_and(|state| {
                    let first = states[0].unwrap_or(state);
                    state.end == first.end
                        && state.high_watermark == state.end
                        && state.synced == state.end
                })
            });
            if !equal {
                wrong.push(format!("partition {partition}: {states:?}"));
            }
        }
        if self.oracle.image().partition_count() == 0 {
            wrong.push("there is no topic".to_owned());
        }
        wrong.join("; ")
    }

    /// In the end all copies are equal, byte for byte.
    fn compare_logs(&mut self) -> Result<(), String> {
        for (partition, record) in view::partitions(self.oracle.image()) {
            let mut first: Option<Vec<u8>> = None;
            // A leader that fell may have deleted more from the front than others have heard of.
            let states = record.replicas.iter().filter_map(|node| {
                let broker = &self.brokers[node];
                broker.log_state(partition)
            });
            let start = states.map(|state| state.start).max().unwrap_or_default();
            for node in &record.replicas {
                let Some(reader) = self.brokers[node].reader(partition) else {
                    return Err(format!("broker {node} has no log"));
                };
                let bytes = read_bytes(&reader, start)?;
                self.hash.update(&bytes);
                match &first {
                    Some(first) if *first != bytes => {
                        return Err(format!("I9: the log of broker {node} differs at the end"));
                    }
                    Some(_) => {}
                    None => first = Some(bytes),
                }
            }
        }
        Ok(())
    }
}

fn read_bytes(reader: &conveyor_log::LogReader, start: Offset) -> Result<Vec<u8>, String> {
    let (mut from, end) = (start, reader.log_end_offset());
    let mut bytes = Vec::new();
    while from < end {
        let chunk = reader
            .read(from, end, 1 << 20, true)
            .map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&chunk.bytes);
        from = chunk.next_offset;
    }
    Ok(bytes)
}

fn broker_of(event: &Event) -> Option<NodeId> {
    match event {
        Event::Deliver {
            to: Address::Broker(node),
            ..
        }
        | Event::BrokerTick { node, .. }
        | Event::BrokerSynced { node, .. }
        | Event::BrokerStarts { node } => Some(*node),
        _ => None,
    }
}
