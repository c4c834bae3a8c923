//! Producers' machines against the real coordinator, from one seed.
//!
//! Calls and answers are lost, copies of calls arrive late, producers are replaced by others with the
//! same transactional id and do not know it, transactions time out, markers are written late. In the
//! end: a commit that was answered has everything that its producer put into the transaction, one
//! whose answer is missing everything or nothing, all others nothing; and nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_grpc::ErrorCode;
use conveyor_record::ProducerId;
use conveyor_transaction::{
    EndTxn, InitProducerId, Initialised, Producer, TopicPartition, TransactionConfig,
    TransactionCoordinator, TransactionError, TransactionVersion, WriteMarkers,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::machine::Machine;
use super::{Identity, identity};
use crate::error::{Error, Result};

const IDS: [&str; 2] = ["a", "b"];
const PARTITIONS: usize = 3;
const STEPS: usize = 600;
const TIMEOUT_MS: i64 = 2_000;
/// Attempts before a client gives a call up.
const ATTEMPTS: usize = 4;

/// A call as it travels; copies are the same call.
#[derive(Debug, Clone)]
enum Call {
    Init {
        id: &'static str,
    },
    Produce {
        id: &'static str,
        producer: Producer,
        partition: usize,
        sequence: usize,
        value: u64,
    },
    End {
        id: &'static str,
        producer: Producer,
        commit: bool,
    },
}

/// How a transaction ended, as far as its producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotCommitted,
    Unknown,
    Committed,
}

struct Client {
    id: &'static str,
    machine: Machine,
    sequences: [usize; PARTITIONS],
    /// Values and end of each transaction.
    transactions: Vec<(Vec<u64>, End)>,
    /// The end that has been asked for and not been answered.
    ending: Option<bool>,
    is_dead: bool,
}

#[derive(Default)]
struct Partition {
    /// Values by producer id, until their marker decides.
    open: BTreeMap<i64, Vec<u64>>,
    visible: Vec<u64>,
    /// Epoch and next sequence of each producer id.
    producers: BTreeMap<i64, (i16, usize)>,
}

struct World {
    rng: ChaCha8Rng,
    now: i64,
    coordinator: TransactionCoordinator,
    partitions: Vec<Partition>,
    markers: Vec<WriteMarkers>,
    clients: Vec<Client>,
    late: Vec<Call>,
    next_id: i64,
    next_value: u64,
    /// Clients do not tell their machine of records that failed.
    hides_failures: bool,
}

impl World {
    fn new(seed: u64, hides_failures: bool) -> Self {
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: 1_000,
            coordinator: TransactionCoordinator::new(TransactionConfig::default()),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            markers: Vec::new(),
            clients: Vec::new(),
            late: Vec::new(),
            next_id: 100,
            next_value: 1,
            hides_failures,
        };
        for id in IDS {
            world.start(id);
        }
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn start(&mut self, id: &'static str) {
        self.clients.push(Client {
            id,
            machine: Machine::new(id.into(), TIMEOUT_MS as u64),
            sequences: [0; PARTITIONS],
            transactions: Vec::new(),
            ending: None,
            is_dead: false,
        });
    }

    fn step(&mut self) {
        self.now += self.rng.random_range(1..30);
        match self.rng.random_range(0..100) {
            0..70 => {
                let client = self.rng.random_range(0..self.clients.len());
                self.act(client);
            }
            70..88 => self.write_markers(),
            88..94 if !self.late.is_empty() => {
                let late = self.rng.random_range(0..self.late.len());
                let call = self.late.swap_remove(late);
                _ = self.handle(&call);
            }
            94..97 => self.let_time_pass(),
            97 => {
                let id = IDS[self.rng.random_range(0..IDS.len())];
                self.start(id);
            }
            _ => {}
        }
    }

    fn write_markers(&mut self) {
        if self.markers.is_empty() {
            return;
        }
        let one = self.rng.random_range(0..self.markers.len());
        let markers = self.markers.swap_remove(one);
        for place in &markers.partitions {
            let partition = &mut self.partitions[place.partition as usize];
            let id = markers.producer.id.value();
            let values = partition.open.remove(&id).unwrap_or_default();
            if markers.commit {
                partition.visible.extend(values);
            }
            let known = partition.producers.entry(id).or_default();
            *known = (markers.producer.epoch.value(), 0);
        }
        let done = self.coordinator.complete(self.now, &markers);
        self.coordinator.replay_all(&done.records);
    }

    fn let_time_pass(&mut self) {
        if self.chance(30) {
            self.now += TIMEOUT_MS;
        }
        let timed_out = self.coordinator.abort_timed_out(self.now);
        self.coordinator.replay_all(&timed_out.records);
        self.markers.extend(timed_out.response);
    }

    /// One thing that a client does, with all the attempts that it takes.
    fn act(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let id = client.id;
        if client.is_dead {
            return;
        }
        let Some(current) = client.machine.identity() else {
            if client.machine.init().is_ok() {
                let answer = self.ask(&Call::Init { id });
                _ = self.clients[index].machine.initialised(answer);
            }
            return;
        };
        if let Some(commit) = client.ending {
            return self.end(index, commit);
        }
        if !client.machine.is_in_transaction() {
            match client.machine.begin() {
                Ok(()) => client.transactions.push((Vec::new(), End::NotCommitted)),
                Err(_) => client.is_dead = true,
            }
            client.sequences = [0; PARTITIONS];
            return;
        }
        match self.rng.random_range(0..10) {
            0..6 => self.produce(index, current),
            6..9 => self.end(index, true),
            _ => self.end(index, false),
        }
    }

    fn produce(&mut self, index: usize, current: Identity) {
        let now = self.now as u64;
        let partition = self.rng.random_range(0..PARTITIONS);
        let value = self.next_value;
        let client = &mut self.clients[index];
        if client.machine.may_take("send").is_err() {
            return;
        }
        client.machine.used(now);
        self.next_value += 1;
        let sequence = client.sequences[partition];
        client.sequences[partition] += 1;
        if let Some((values, _)) = client.transactions.last_mut() {
            values.push(value);
        }
        let call = Call::Produce {
            id: client.id,
            producer: producer(current),
            partition,
            sequence,
            value,
        };
        if let Err(error) = self.ask(&call)
            && !self.hides_failures
        {
            let now = self.now as u64;
            self.clients[index].machine.lost(&error, now);
        }
    }

    fn end(&mut self, index: usize, commit: bool) {
        let client = &mut self.clients[index];
        if let Err(error) = client.machine.close(commit) {
            client.is_dead =
                error.transaction_fault() != Some(crate::error::TransactionFault::Abortable);
            return;
        }
        let asked = client.machine.settled();
        let Ok(Some(current)) = asked else {
            client.is_dead = asked.is_err();
            return;
        };
        client.ending = Some(commit);
        if let (true, Some((_, end))) = (commit, client.transactions.last_mut()) {
            *end = End::Unknown;
        }
        let call = Call::End {
            id: client.id,
            producer: producer(current),
            commit,
        };
        let answer = self.ask(&call);
        let client = &mut self.clients[index];
        match client.machine.ended(answer, self.now as u64) {
            Ok(()) => {
                client.ending = None;
                if let (true, Some((_, end))) = (commit, client.transactions.last_mut()) {
                    *end = End::Committed;
                }
            }
            Err(error) => client.is_dead = !error.is_retriable(),
        }
    }

    /// A call with its attempts, over a network that loses.
    fn ask(&mut self, call: &Call) -> Result<Identity> {
        let mut last = lost();
        for _ in 0..ATTEMPTS {
            self.now += self.rng.random_range(1..20);
            if self.chance(5) {
                self.late.push(call.clone());
            }
            if self.chance(15) {
                last = lost();
                continue;
            }
            let answer = self.handle(call);
            if self.chance(15) {
                last = lost();
                continue;
            }
            match answer {
                Err(error) if error.is_retriable() => {
                    last = error;
                    self.write_markers();
                }
                answer => return answer,
            }
        }
        Err(last)
    }

    fn handle(&mut self, call: &Call) -> Result<Identity> {
        match *call {
            Call::Init { id } => self.handle_init(id),
            Call::Produce {
                id,
                producer,
                partition,
                sequence,
                value,
            } => self.handle_produce(id, producer, partition, sequence, value),
            Call::End {
                id,
                producer,
                commit,
            } => {
                let version = TransactionVersion::V2;
                let end = if commit {
                    EndTxn::commit(id, producer, version)
                } else {
                    EndTxn::abort(id, producer, version)
                };
                self.next_id += 1;
                let fresh = Some(ProducerId(self.next_id));
                let ended = self.coordinator.end_txn(self.now, &end, fresh);
                let ended = ended.map_err(|error| told(&error))?;
                self.coordinator.replay_all(&ended.records);
                self.markers.extend(ended.response.markers);
                named(ended.response.producer)
            }
        }
    }

    fn handle_init(&mut self, id: &'static str) -> Result<Identity> {
        let request = InitProducerId::new(id, TIMEOUT_MS as i32);
        self.next_id += 1;
        let fresh = Some(ProducerId(self.next_id));
        let given = self.coordinator.init_producer_id(self.now, &request, fresh);
        let given = given.map_err(|error| told(&error))?;
        self.coordinator.replay_all(&given.records);
        match given.response {
            Initialised::Ready(producer) => named(producer),
            Initialised::Aborting(markers) => {
                self.markers.push(markers);
                Err(broker(ErrorCode::ConcurrentTransactions))
            }
        }
    }

    fn handle_produce(
        &mut self,
        id: &'static str,
        producer: Producer,
        partition: usize,
        sequence: usize,
        value: u64,
    ) -> Result<Identity> {
        let (number, epoch) = (producer.id.value(), producer.epoch.value());
        let place = TopicPartition::new("t", partition as i32);
        let log = &mut self.partitions[partition];
        let known = log.producers.entry(number).or_insert((epoch, 0));
        if epoch < known.0 {
            return Err(broker(ErrorCode::InvalidProducerEpoch));
        }
        let next = if epoch > known.0 { 0 } else { known.1 };
        if sequence < next {
            return named(producer);
        }
        if sequence > next {
            return Err(broker(ErrorCode::OutOfOrderSequenceNumber));
        }
        // What lies there of an earlier epoch is of a transaction that is being completed.
        if epoch > known.0 || !log.open.contains_key(&number) {
            let version = TransactionVersion::V2;
            let added = self
                .coordinator
                .add_partitions(self.now, id, producer, &[place], version);
            self.coordinator
                .replay_all(&added.map_err(|error| told(&error))?.records);
        }
        log.open.entry(number).or_default().push(value);
        log.producers.insert(number, (epoch, sequence + 1));
        named(producer)
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        for call in std::mem::take(&mut self.late) {
            _ = self.handle(&call);
        }
        for _ in 0..4 {
            self.now += TIMEOUT_MS;
            self.let_time_pass();
            while !self.markers.is_empty() {
                self.write_markers();
            }
        }
    }

    /// The rules that are broken.
    fn judge(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut visible = BTreeSet::new();
        for partition in &self.partitions {
            for value in &partition.visible {
                if !visible.insert(*value) {
                    broken.push(format!("{value} is there twice"));
                }
            }
            broken.extend(partition.open.values().map(|left| format!("{left:?} hang")));
        }
        let transactions = self.clients.iter().flat_map(|client| &client.transactions);
        for (values, end) in transactions {
            let there = values
                .iter()
                .filter(|value| visible.contains(value))
                .count();
            let is_right = match end {
                End::Committed => there == values.len(),
                End::Unknown => there == 0 || there == values.len(),
                End::NotCommitted => there == 0,
            };
            if !is_right {
                broken.push(format!("{end:?}: {there} of {values:?}"));
            }
        }
        broken
    }

    fn count(&self, wanted: End) -> usize {
        let transactions = self.clients.iter().flat_map(|client| &client.transactions);
        transactions.filter(|(_, end)| *end == wanted).count()
    }
}

fn producer(identity: Identity) -> Producer {
    Producer {
        id: identity.id,
        epoch: identity.epoch,
    }
}

fn named(producer: Producer) -> Result<Identity> {
    identity(
        "ask",
        producer.id.value(),
        i32::from(producer.epoch.value()),
    )
}

fn broker(code: ErrorCode) -> Error {
    Error::Broker {
        operation: "ask",
        place: String::new(),
        code,
        message: String::new(),
    }
}

fn lost() -> Error {
    Error::Timeout {
        operation: "ask",
        place: String::new(),
        after_ms: 1,
        reason: "no answer".to_owned(),
    }
}

/// As the broker's handlers tell it.
fn told(error: &TransactionError) -> Error {
    broker(match error {
        TransactionError::ProducerFenced { .. } => ErrorCode::ProducerFenced,
        TransactionError::ConcurrentTransactions { .. } | TransactionError::NeedsProducerId => {
            ErrorCode::ConcurrentTransactions
        }
        TransactionError::InvalidProducerIdMapping { .. } => ErrorCode::InvalidProducerIdMapping,
        TransactionError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        TransactionError::TransactionAbortable { .. } => ErrorCode::TransactionAbortable,
        TransactionError::TransactionalIdNotFound { .. }
        | TransactionError::InvalidRequest(_)
        | TransactionError::InvalidTransactionTimeout { .. } => ErrorCode::InvalidRequest,
    })
}

fn run(seed: u64, hides_failures: bool) -> World {
    let mut world = World::new(seed, hides_failures);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world
}

#[test]
fn transactions_are_whole_or_not_at_all_whatever_is_lost() {
    let (mut committed, mut unknown) = (0, 0);
    for seed in 0..500 {
        let world = run(seed, false);
        let broken = world.judge();
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        committed += world.count(End::Committed);
        unknown += world.count(End::Unknown);
    }
    println!("{committed} transactions committed, {unknown} unknown");
    assert!(committed > 2_000 && unknown > 50, "{committed} {unknown}");
}

#[test]
fn a_producer_that_hides_its_failures_is_caught() {
    let caught = (0..500).any(|seed| !run(seed, true).judge().is_empty());
    assert!(caught, "the simulation is blind");
}
