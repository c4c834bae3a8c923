//! The world: what happens next, and what everybody makes of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use conveyor_log::disk::{Crash, SimRng};
use conveyor_quorum::consensus::Committed;
use conveyor_quorum::node::{Outcome, Outputs, SnapshotError};
use conveyor_quorum::{Message, Output, QuorumNode, Role, StepError, VoterId};
use conveyor_record::NodeId;
use uuid::Uuid;

use super::machine::{Life, Machine, TICK_MS};
use super::network::{Network, Packet};
use super::oracle::{Oracle, hash, write_state};

pub(crate) const CLUSTER: Uuid = Uuid::from_u128(0xc0);
const CHAOS_MS: i64 = 9_000;
const HEAL_MS: i64 = 30_000;
pub(crate) const NODES: i32 = 5;

/// What runs had in them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) trace: u64,
    pub(crate) simulated_ms: i64,
    pub(crate) steps: u64,
    pub(crate) terms: u64,
    pub(crate) committed: u64,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) superseded: u64,
    pub(crate) kills: u64,
    pub(crate) power_cuts: u64,
    pub(crate) power_cuts_of_all: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) halts: u64,
    pub(crate) wiped: u64,
    pub(crate) rotten: u64,
    pub(crate) refused_damage: u64,
    pub(crate) splits: u64,
    pub(crate) freezes: u64,
    pub(crate) transfers: u64,
    pub(crate) membership_changes: u64,
    pub(crate) snapshots_taken: u64,
    pub(crate) snapshots_installed: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.trace ^= other.trace;
        self.simulated_ms += other.simulated_ms;
        self.steps += other.steps;
        for (sum, part) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum += part;
        }
    }

    fn counts_mut(&mut self) -> [&mut u64; 19] {
        [
            &mut self.terms,
            &mut self.committed,
            &mut self.acknowledged,
            &mut self.reads,
            &mut self.superseded,
            &mut self.kills,
            &mut self.power_cuts,
            &mut self.power_cuts_of_all,
            &mut self.failed_syncs,
            &mut self.halts,
            &mut self.wiped,
            &mut self.rotten,
            &mut self.refused_damage,
            &mut self.splits,
            &mut self.freezes,
            &mut self.transfers,
            &mut self.membership_changes,
            &mut self.snapshots_taken,
            &mut self.snapshots_installed,
        ]
    }

    fn counts(&self) -> [u64; 19] {
        self.clone().counts_mut().map(|count| *count)
    }

    /// Everything that a run can have in it has come often enough.
    pub(crate) fn check_variety(&self, seeds: u64) {
        for (place, count) in self.counts().into_iter().enumerate() {
            assert!(
                count * 20 >= seeds,
                "count {place} is only {count} in {seeds} seeds: {self:#?}"
            );
        }
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Arrives { from: i32, to: i32, packet: Packet },
    Tick(i32),
    Pump(i32),
    Start(i32),
    Thaw(i32),
    Client,
    Fault,
    Operator,
}

/// What the operator is at; one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Nothing,
    /// A node is to become a voter.
    Grow(i32),
    /// A member is to leave.
    Shrink(i32, VoterId),
    /// A disk is lost; the node's successor is to become a voter.
    Replace,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: SimRng,
    pub(crate) now_ms: i64,
    pub(crate) events: BTreeMap<(i64, u64), Event>,
    pub(crate) next_event: u64,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) oracle: Oracle,
    /// The list of first voters in everybody's settings.
    pub(crate) founders: BTreeMap<NodeId, String>,
    pub(crate) work: Work,
    /// Longest pause between two faults in ms; some worlds are calmer.
    pub(crate) fault_pause_ms: u64,
    pub(crate) healing: bool,
    pub(crate) proposals: u64,
    pub(crate) report: Report,
}

pub(crate) fn endpoint(node_id: i32) -> String {
    format!("node-{node_id}:9193")
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(hash(&[b"world", &seed.to_be_bytes()]));
        let founders = [1, 3, 3, 3, 5][rng.below(5) as usize];
        let machines = (1..=NODES)
            .map(|id| Machine::new(id, rng.next_u64()))
            .collect();
        let bad = rng.below(4);
        let fault_pause_ms = [150, 400, 1_000, 2_500][rng.below(4) as usize];
        let network = Network {
            loss: [0, 5, 50, 150][bad as usize],
            doubles: rng.below(100),
            late: [0, 5, 20, 100][rng.below(4) as usize],
            ..Network::default()
        };
        let mut world = Self {
            seed,
            rng,
            now_ms: 0,
            events: BTreeMap::new(),
            next_event: 0,
            machines,
            network,
            oracle: Oracle::new(),
            founders: (1..=founders)
                .map(|id| (NodeId(id), endpoint(id)))
                .collect(),
            work: Work::Nothing,
            fault_pause_ms,
            healing: false,
            proposals: 0,
            report: Report::default(),
        };
        world.begin(founders);
        world
    }

    fn begin(&mut self, founders: i32) {
        for node in 1..=NODES {
            let speed = 900 + self.rng.below(201) as i64;
            self.machine(node).speed = speed;
            let first = self.rng.below(TICK_MS as u64) as i64;
            self.plan(first, Event::Tick(node));
        }
        for node in 1..=founders {
            self.machine(node).life = Life::Down;
            let delay = self.rng.below(300) as i64;
            self.plan(delay, Event::Start(node));
        }
        self.plan(0, Event::Client);
        self.plan(500, Event::Fault);
        self.plan(100, Event::Operator);
    }

    pub(crate) fn machine(&mut self, node: i32) -> &mut Machine {
        &mut self.machines[node as usize - 1]
    }

    pub(crate) fn plan(&mut self, delay_ms: i64, event: Event) {
        self.next_event += 1;
        self.events
            .insert((self.now_ms + delay_ms, self.next_event), event);
    }

    pub(crate) fn note(&mut self, parts: &[&[u8]]) {
        let so_far = self.report.trace.to_be_bytes();
        let now = self.now_ms.to_be_bytes();
        let this = hash(parts).to_be_bytes();
        self.report.trace = hash(&[&so_far, &now, &this]);
    }

    /// Plays the run to its end.
    pub(crate) fn run(mut self) -> Result<Report, String> {
        while self.now_ms < CHAOS_MS {
            self.step()?;
        }
        self.heal();
        while !self.is_settled() {
            if self.now_ms > CHAOS_MS + HEAL_MS {
                return Err(format!("it does not heal: {}", self.picture()));
            }
            self.step()?;
        }
        self.report.simulated_ms = self.now_ms;
        self.report.terms = self.oracle.terms();
        self.report.committed = self.oracle.last_committed();
        Ok(self.report)
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.events.pop_first() else {
            return Err("nothing happens any more".to_owned());
        };
        self.now_ms = at;
        self.report.steps += 1;
        let done = self.handle(event);
        done.map_err(|violation| format!("at {at} ms: {violation}"))
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrives { from, to, packet } => self.arrives(from, to, packet),
            Event::Tick(node) => {
                self.plan(TICK_MS, Event::Tick(node));
                self.tick(node)
            }
            Event::Pump(node) => {
                self.machine(node).pump_planned = false;
                self.pump(node)
            }
            Event::Start(node) => self.start(node),
            Event::Thaw(node) => self.thaw(node),
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Operator => self.operate(),
        }
    }

    // Time and messages.

    pub(crate) fn tick(&mut self, node: i32) -> Result<(), String> {
        let now_ms = self.now_ms;
        let ask = self.rng.one_in(5);
        let machine = self.machine(node);
        let clock = machine.clock(now_ms);
        if machine.frozen {
            return Ok(());
        }
        match &mut machine.life {
            Life::Running(node) => node.tick(clock),
            Life::Forming(_) if ask => self.ask_around(node),
            _ => {}
        }
        self.pump_soon(node)
    }

    pub(crate) fn send(&mut self, from: i32, to: i32, packet: &Packet) {
        for delay in self.network.send(&mut self.rng, from, to) {
            let packet = packet.clone();
            self.plan(delay, Event::Arrives { from, to, packet });
        }
    }

    pub(crate) fn arrives(&mut self, from: i32, to: i32, packet: Packet) -> Result<(), String> {
        let machine = self.machine(to);
        if machine.frozen {
            machine.inbox.push((from, packet));
            return Ok(());
        }
        match packet {
            Packet::Quorum(bytes) => self.receive(from, to, &bytes),
            Packet::Ask => {
                let life = self.machine(from).lives;
                let probe = match &self.machine(to).life {
                    Life::Running(node) => node.probe(),
                    Life::Forming(forming) => forming.1.answer(),
                    _ => return Ok(()),
                };
                self.send(to, from, &Packet::Answer { life, probe });
                Ok(())
            }
            Packet::Answer { life, probe } => {
                let machine = self.machine(to);
                if let (Life::Forming(forming), true) = (&mut machine.life, machine.lives == life) {
                    let answered = forming.1.answered(NodeId(from), probe);
                    answered.map_err(|error| error.to_string())?;
                    return self.form(to);
                }
                Ok(())
            }
            Packet::Join { directory_id } => self.take_in(from, to, directory_id),
            Packet::Joined {
                directory_id,
                identity,
            } => self.joined(to, directory_id, identity),
        }
    }

    fn receive(&mut self, from: i32, to: i32, bytes: &Bytes) -> Result<(), String> {
        self.note(&[b"receive", &from.to_be_bytes(), &to.to_be_bytes(), bytes]);
        let message = Message::decode(bytes).map_err(|error| error.to_string())?;
        let machine = self.machine(to);
        machine.routes.insert(message.from, from);
        let Some(node) = machine.node() else {
            return Ok(());
        };
        match node.step(message) {
            Err(error @ (StepError::Inconsistent { .. } | StepError::OtherCluster { .. })) => {
                Err(format!("node {to}: {error}"))
            }
            _ => self.pump_soon(to),
        }
    }

    /// Lets several inputs share a round now and then.
    pub(crate) fn pump_soon(&mut self, node: i32) -> Result<(), String> {
        if self.machine(node).pump_planned {
            return Ok(());
        }
        if self.rng.below(10) < 6 {
            return self.pump(node);
        }
        self.machine(node).pump_planned = true;
        let delay = 1 + self.rng.below(15) as i64;
        self.plan(delay, Event::Pump(node));
        Ok(())
    }

    /// Does all the work that a node has.
    pub(crate) fn pump(&mut self, id: i32) -> Result<(), String> {
        for _ in 0..1_000 {
            let machine = self.machine(id);
            if machine.frozen {
                return Ok(());
            }
            let Some(node) = machine.node() else {
                return Ok(());
            };
            let Some(mut round) = node.begin() else {
                return self.snapshot(id);
            };
            let messages = round.take_messages();
            let finished = node.finish(round);
            self.send_all(id, messages)?;
            match finished {
                Ok(outputs) => self.take_outputs(id, outputs)?,
                Err(error) => return self.died(id, &error),
            }
        }
        Err(format!("node {id} finds no end of its work"))
    }

    fn send_all(&mut self, from: i32, messages: Vec<Message>) -> Result<(), String> {
        for message in messages {
            self.oracle.sent(&message)?;
            let machine = self.machine(from);
            let known = machine.routes.get(&message.to).copied();
            let member = |machine: &mut Machine| {
                let member = machine.node()?.membership().member(message.to)?;
                Some(member.node_id.0)
            };
            let Some(to) = member(machine).or(known) else {
                continue;
            };
            self.send(from, to, &Packet::Quorum(message.encode()));
        }
        Ok(())
    }

    fn take_outputs(&mut self, id: i32, outputs: Outputs) -> Result<(), String> {
        self.send_all(id, outputs.messages)?;
        for output in outputs.outputs {
            self.take_output(id, output)
                .map_err(|violation| format!("node {id}: {violation}"))?;
        }
        Ok(())
    }

    fn take_output(&mut self, id: i32, output: Output) -> Result<(), String> {
        let place = id as usize - 1;
        match output {
            Output::Committed(committed) => {
                let machine = &mut self.machines[place];
                let state = self
                    .oracle
                    .handed_out(machine.applied, machine.state, &committed)?;
                machine.state = state;
                machine.applied = committed.position().index;
                match committed {
                    Committed::Snapshot(_) => self.report.snapshots_installed += 1,
                    Committed::Membership { .. } => self.report.membership_changes += 1,
                    Committed::Entry(_) => {}
                }
                let applied = machine.applied;
                self.note(&[
                    b"applied",
                    &id.to_be_bytes(),
                    &applied.to_be_bytes(),
                    &state.to_be_bytes(),
                ]);
            }
            Output::Resolved { position, outcome } => {
                let joining = self.machines[place].joining.remove(&position);
                match outcome {
                    Outcome::Committed => {
                        self.oracle.acknowledged(position)?;
                        self.report.acknowledged += 1;
                        if let Some((node, directory_id)) = joining {
                            return self.take_in(node, id, directory_id);
                        }
                    }
                    Outcome::Superseded => {
                        self.oracle.superseded(position)?;
                        self.report.superseded += 1;
                    }
                    Outcome::Unknown => {}
                }
            }
            Output::ReadReady { read } => {
                let machine = &mut self.machines[place];
                let must_see = machine.reads.remove(&read).ok_or("a read comes twice")?;
                if machine.applied < must_see {
                    return Err(format!(
                        "a read sees {} entries, {must_see} were acknowledged before it",
                        machine.applied
                    ));
                }
                self.report.reads += 1;
            }
            Output::ReadFailed { read } => drop(self.machines[place].reads.remove(&read)),
            Output::LeaderChanged { term, role, .. } => {
                self.note(&[b"leader", &id.to_be_bytes(), &term.to_be_bytes()]);
                let machine = &mut self.machines[place];
                if let (Role::Leader, Some(node)) = (role, machine.node()) {
                    let last = node.status().last;
                    let voter_id = node.identity().voter_id;
                    self.oracle.leads(term, voter_id)?;
                    let Life::Running(node) = &self.machines[place].life else {
                        return Ok(());
                    };
                    self.oracle
                        .is_complete(term, last, |index| node.term_of(index))?;
                }
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, id: i32) -> Result<(), String> {
        let padding = self.rng.below(6_000) as usize;
        let eager = self.rng.one_in(400);
        let machine = self.machine(id);
        let (applied, state) = (machine.applied, machine.state);
        let Some(node) = machine.node() else {
            return Ok(());
        };
        if !(node.wants_snapshot() || eager) {
            return Ok(());
        }
        match node.snapshot(applied, write_state(state, padding).into()) {
            Ok(()) => self.report.snapshots_taken += 1,
            Err(SnapshotError::Dead(error)) => return self.died(id, &error),
            Err(SnapshotError::Place { .. }) if eager => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    // Clients.

    fn client(&mut self) -> Result<(), String> {
        let pause = 1 + self.rng.below(25) as i64;
        self.plan(pause, Event::Client);
        let id = 1 + self.rng.below(NODES as u64) as i32;
        let reads = self.rng.one_in(4);
        let size = if self.rng.one_in(20) { 6_000 } else { 60 };
        let padding = self.rng.below(size) as usize;
        self.proposals += 1;
        let mut value = self.proposals.to_be_bytes().to_vec();
        value.resize(8 + padding, 0xa5);
        let must_see = self.oracle.acknowledged;
        let machine = self.machine(id);
        if machine.frozen {
            return Ok(());
        }
        let Some(node) = machine.node() else {
            return Ok(());
        };
        if reads {
            if let Ok(read) = node.read() {
                machine.reads.insert(read, must_see);
            }
        } else {
            // Refused by all but the leader.
            drop(node.propose(value.into()));
        }
        self.pump_soon(id)
    }

    // The end.

    fn heal(&mut self) {
        self.healing = true;
        self.network.join();
        self.network.loss = 0;
        self.network.late = 0;
        for id in 1..=NODES {
            let machine = self.machine(id);
            let halted = machine.disk.is_halted();
            machine.disk.fail_next_syncs(0);
            // A crash also takes away a halt that is still to come.
            if halted || matches!(machine.life, Life::Down) {
                machine.disk.crash(Crash::Process);
                if !matches!(machine.life, Life::Away | Life::Refused) {
                    machine.forget();
                }
            }
            machine.disk.halt_after(u64::MAX);
            self.plan(0, Event::Start(id));
            self.plan(0, Event::Thaw(id));
        }
    }

    fn is_settled(&mut self) -> bool {
        let (_, members) = self.oracle.members.clone();
        if self.now_ms < CHAOS_MS + 500 || !self.is_whole(&members) || self.work != Work::Nothing {
            return false;
        }
        let last = self.oracle.last_committed();
        // Something must have been acknowledged since all faults ended.
        let nodes: Vec<_> = self.machines.iter().filter_map(running).collect();
        let leaders = nodes.iter().filter(|n| n.status().role == Role::Leader);
        let far = |n: &&QuorumNode| n.status().applied + 5 >= last;
        leaders.count() == 1
            && nodes.len() == members.voters().len()
            && nodes.iter().all(far)
            && self.oracle.acknowledged + 5 >= last
            && self.report.acknowledged > 10
            && self.report.reads > 0
    }

    fn picture(&self) -> String {
        let machines = self.machines.iter().map(|machine| match &machine.life {
            Life::Running(node) => format!(
                "\n  node {}: voter {} {:?} joint {} frozen {}",
                machine.node_id,
                node.identity().voter_id,
                node.status(),
                node.membership().is_joint(),
                machine.frozen,
            ),
            other => format!(
                "\n  node {}: {}",
                machine.node_id,
                format!("{other:?}").chars().take(40).collect::<String>()
            ),
        });
        format!(
            "seed {}, {:?}, members {:?}, last committed {}, acknowledged {} of {}, {} reads{}",
            self.seed,
            self.work,
            self.oracle.members,
            self.oracle.last_committed(),
            self.oracle.acknowledged,
            self.proposals,
            self.report.reads,
            machines.collect::<String>()
        )
    }
}

fn running(machine: &Machine) -> Option<&QuorumNode> {
    match &machine.life {
        Life::Running(node) => Some(node),
        _ => None,
    }
}
