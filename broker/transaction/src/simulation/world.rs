//! The world of the simulation: what can happen in it, and what must hold of it in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use conveyor_record::ProducerId;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::Rules;
use super::client::{Answer, Call, Client, Outcome};
use super::partition::{Guard, Partition, Refused};
use crate::{
    EncodedRecord, EndTxn, InitProducerId, Initialised, Producer, Record, TopicPartition,
    TransactionConfig, TransactionCoordinator, WriteMarkers,
};

const IDS: [&str; 2] = ["orders", "waves"];
const PARTITIONS: usize = 3;
const TIMEOUT_MS: i32 = 20_000;
const EXPIRATION_MS: i64 = 200_000;

/// A call on its way.
#[derive(Clone, Debug)]
struct Message {
    client: usize,
    number: u64,
    producer: Option<Producer>,
    call: Call,
}

/// What happens once the coordinator's log is durable up to a point.
#[derive(Debug)]
enum Then {
    Answer(Message, Answer),
    Append(Message, Guard),
    Write(WriteMarkers),
    Nothing,
}

pub(super) struct World {
    rng: ChaCha8Rng,
    rules: Rules,
    now_ms: i64,
    coordinator: TransactionCoordinator,
    log: Vec<EncodedRecord>,
    durable: usize,
    in_line: VecDeque<(usize, Then)>,
    partitions: Vec<Partition>,
    /// Records that the coordinator has let in.
    verified: Vec<(Message, Guard)>,
    /// Records that wait for their partition's sync.
    appended: Vec<(usize, usize, Message)>,
    /// Markers still to be written, and those that wait for their partition's sync.
    writing: Vec<(WriteMarkers, Vec<(usize, usize)>)>,
    network: Vec<Message>,
    clients: Vec<Client>,
    next_number: u64,
    next_value: u64,
    next_producer_id: i64,
    /// Who was given each producer at its start.
    given: BTreeMap<Producer, usize>,
    pub(super) trace: Vec<String>,
}

fn config() -> TransactionConfig {
    TransactionConfig {
        expiration_ms: EXPIRATION_MS,
        ..TransactionConfig::default()
    }
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules) -> Self {
        let partitions = (0..PARTITIONS).map(|_| Partition::new(rules.is_guarded));
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            rules,
            now_ms: 1_000,
            coordinator: TransactionCoordinator::new(config()),
            log: Vec::new(),
            durable: 0,
            in_line: VecDeque::new(),
            partitions: partitions.collect(),
            verified: Vec::new(),
            appended: Vec::new(),
            writing: Vec::new(),
            network: Vec::new(),
            clients: Vec::new(),
            next_number: 0,
            next_value: 0,
            next_producer_id: 0,
            given: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn index(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.rng.random_range(0..count))
    }

    pub(super) fn step(&mut self) {
        self.now_ms += self.rng.random_range(0..40);
        match self.rng.random_range(0..1_000) {
            0..4 => self.start_client(),
            4..250 => self.act(),
            250..520 => self.deliver(),
            520..680 => self.sync_coordinator(),
            680..780 => self.append_one(),
            780..890 => self.sync_partitions(),
            890..980 => self.write_marker(),
            980..984 => self.time_passes(),
            984..988 => self.resume(),
            988..992 => self.kill_client(),
            _ => self.crash(),
        }
        self.check();
    }

    // Clients.

    fn start_client(&mut self) {
        let id = IDS[self.rng.random_range(0..IDS.len())].to_owned();
        self.clients.push(Client::new(id, self.rules.version));
    }

    /// A producer that is gone without a word; its calls may still be on their way.
    fn kill_client(&mut self) {
        if let Some(index) = self.index(self.clients.len()) {
            self.clients[index].is_dead = true;
        }
    }

    /// A client makes its next call, or repeats the one that was not answered.
    fn act(&mut self) {
        let is_impatient = self.chance(10);
        let alive: Vec<usize> = (0..self.clients.len())
            .filter(|index| !self.clients[*index].is_dead)
            .collect();
        if alive.is_empty() {
            return self.start_client();
        }
        let ready: Vec<usize> = alive
            .into_iter()
            .filter(|index| self.clients[*index].waiting.is_some() == is_impatient)
            .collect();
        let Some(index) = self.index(ready.len()) else {
            return;
        };
        let client = ready[index];
        let gives_up = self.chance(20);
        let call = match self.clients[client].waiting {
            Some((Call::Produce { .. }, _)) if gives_up => self.clients[client].give_up(),
            Some((call, _)) => call,
            None => {
                let partition = self.rng.random_range(0..PARTITIONS);
                let end = self.chance(40).then(|| self.rng.random_range(0..100) < 70);
                self.next_value += 1;
                let value = self.next_value;
                self.clients[client].next_call(partition, value, end)
            }
        };
        self.send(client, call);
    }

    fn send(&mut self, client: usize, call: Call) {
        self.next_number += 1;
        // A repeated call replaces the earlier copy, unless that one is only late.
        if matches!(call, Call::End { .. }) && !self.rules.delays_ends {
            self.network.retain(|message| message.client != client);
        }
        self.clients[client].waiting = Some((call, self.next_number));
        self.network.push(Message {
            client,
            number: self.next_number,
            producer: self.clients[client].producer,
            call,
        });
    }

    fn answer(&mut self, message: &Message, answer: Answer) {
        self.trace.push(format!(
            "{} {} {:?} {answer:?}",
            self.now_ms, message.client, message.call
        ));
        if let Answer::Initialised(producer) = answer {
            let owner = *self.given.entry(producer).or_insert(message.client);
            assert_eq!(owner, message.client, "{producer} is given twice");
        }
        let client = &mut self.clients[message.client];
        if client.is_dead || client.waiting != Some((message.call, message.number)) {
            return;
        }
        client.waiting = None;
        if let Some(call) = client.take(message.call, answer) {
            self.send(message.client, call);
        }
    }

    // The broker.

    fn deliver(&mut self) {
        let Some(index) = self.index(self.network.len()) else {
            return;
        };
        let is_end = matches!(self.network[index].call, Call::End { .. });
        let stays = if is_end {
            self.rules.delays_ends && self.chance(40)
        } else {
            self.chance(15)
        };
        let message = if stays {
            self.network[index].clone()
        } else {
            self.network.swap_remove(index)
        };
        match message.call {
            Call::Init => self.init(message),
            Call::Add { partition } => self.add(message, partition),
            Call::Produce { partition, .. } => self.produce(message, partition),
            Call::End { commit } => self.end(message, commit),
        }
    }

    fn fresh(&mut self) -> ProducerId {
        self.next_producer_id += 1;
        ProducerId(self.next_producer_id)
    }

    fn init(&mut self, message: Message) {
        let id = self.clients[message.client].transactional_id.clone();
        let fresh = Some(self.fresh());
        let request = InitProducerId::new(id, TIMEOUT_MS);
        match self
            .coordinator
            .init_producer_id(self.now_ms, &request, fresh)
        {
            Err(error) => self.answer_in_line(message, error.into()),
            Ok(transition) => match transition.response {
                Initialised::Ready(producer) => {
                    let then = Then::Answer(message, Answer::Initialised(producer));
                    self.write(&transition.records, then);
                }
                Initialised::Aborting(markers) => {
                    self.write(&transition.records, Then::Write(markers));
                    self.answer_in_line(message, Answer::TryAgain);
                }
            },
        }
    }

    fn add(&mut self, message: Message, partition: usize) {
        match self.add_at_coordinator(&message, partition) {
            Ok(records) => self.write(&records, Then::Answer(message, Answer::Done)),
            Err(answer) => self.answer_in_line(message, answer),
        }
    }

    fn add_at_coordinator(
        &self,
        message: &Message,
        partition: usize,
    ) -> Result<Vec<Record>, Answer> {
        let client = &self.clients[message.client];
        let producer = message.producer.ok_or(Answer::Fatal)?;
        let transition = self.coordinator.add_partitions(
            self.now_ms,
            &client.transactional_id,
            producer,
            &[place(partition)],
            client.version,
        )?;
        Ok(transition.records)
    }

    fn produce(&mut self, message: Message, partition: usize) {
        let Some(producer) = message.producer else {
            return;
        };
        if self.partitions[partition].is_open_for(producer) {
            return self.append(message, None);
        }
        let guard = self.partitions[partition].guard(producer);
        if self.rules.version.bumps_epoch() {
            return match self.add_at_coordinator(&message, partition) {
                Ok(records) => self.write(&records, Then::Append(message, guard)),
                Err(answer) => self.answer_in_line(message, answer),
            };
        }
        let id = &self.clients[message.client].transactional_id;
        let found = self
            .coordinator
            .verify_partitions(id, producer, &[place(partition)])
            .and_then(|results| results.into_iter().collect::<Result<Vec<()>, _>>());
        match found {
            Ok(_) => self.write(&[], Then::Append(message, guard)),
            Err(error) => self.answer_in_line(message, error.into()),
        }
    }

    /// A broker goes on with a record some time after the coordinator has answered.
    fn append_one(&mut self) {
        if let Some(index) = self.index(self.verified.len()) {
            let (message, guard) = self.verified.swap_remove(index);
            self.append(message, Some(guard));
        }
    }

    fn append(&mut self, message: Message, guard: Option<Guard>) {
        let Call::Produce {
            partition,
            sequence,
            value,
        } = message.call
        else {
            return;
        };
        let Some(producer) = message.producer else {
            return;
        };
        match self.partitions[partition].append(producer, sequence, value, guard) {
            Ok(()) => {
                let end = self.partitions[partition].end();
                self.appended.push((partition, end, message));
            }
            Err(Refused::InvalidTxnState) => self.answer(&message, Answer::Abortable),
            Err(Refused::InvalidProducerEpoch | Refused::OutOfOrderSequence) => {
                self.answer(&message, Answer::Fatal);
            }
        }
    }

    fn end(&mut self, message: Message, commit: bool) {
        let (Some(producer), id) = (
            message.producer,
            self.clients[message.client].transactional_id.clone(),
        ) else {
            return;
        };
        let fresh = Some(self.fresh());
        let mut request = EndTxn::commit(id, producer, self.rules.version);
        request.commit = commit;
        match self.coordinator.end_txn(self.now_ms, &request, fresh) {
            Err(error) => self.answer_in_line(message, error.into()),
            Ok(transition) => {
                let ended = transition.response;
                let then = Then::Answer(message, Answer::Ended(ended.producer));
                self.write(&transition.records, then);
                if let Some(markers) = ended.markers {
                    self.write(&[], Then::Write(markers));
                }
            }
        }
    }

    fn answer_in_line(&mut self, message: Message, answer: Answer) {
        self.write(&[], Then::Answer(message, answer));
    }

    // The coordinator's log.

    /// Replays records at once and acts when they are durable, as the host does.
    fn write(&mut self, records: &[Record], then: Then) {
        for record in records {
            let stored = record.encode();
            let read = Record::decode(&stored.key, stored.value.as_deref())
                .unwrap()
                .unwrap();
            assert_eq!(read, *record);
            self.coordinator.replay(&read);
            self.log.push(stored);
        }
        self.in_line.push_back((self.log.len(), then));
    }

    fn sync_coordinator(&mut self) {
        self.durable = self.log.len();
        while let Some((_, then)) = self
            .in_line
            .pop_front_if(|(needed, _)| *needed <= self.durable)
        {
            match then {
                Then::Answer(message, answer) => self.answer(&message, answer),
                Then::Append(message, guard) => self.verified.push((message, guard)),
                Then::Write(markers) => self.start_writing(markers),
                Then::Nothing => {}
            }
        }
    }

    fn sync_partitions(&mut self) {
        for partition in 0..PARTITIONS {
            if self.chance(60) {
                self.sync_partition(partition);
            }
        }
    }

    fn sync_partition(&mut self, partition: usize) {
        self.partitions[partition].sync();
        let durable = self.partitions[partition].durable();
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.appended)
            .into_iter()
            .partition(|(at, end, _)| *at == partition && *end <= durable);
        self.appended = rest;
        for (_, _, message) in done {
            self.answer(&message, Answer::Done);
        }
        self.complete();
    }

    // Markers.

    fn start_writing(&mut self, markers: WriteMarkers) {
        self.writing.push((markers, Vec::new()));
    }

    /// One marker of some transaction gets into its partition.
    fn write_marker(&mut self) {
        let Some(index) = self.index(self.writing.len()) else {
            return;
        };
        let again = self.chance(10);
        let (markers, written) = &mut self.writing[index];
        let open: Vec<usize> = markers
            .partitions
            .iter()
            .map(|place| place.partition as usize)
            .filter(|partition| again || written.iter().all(|(at, _)| at != partition))
            .collect();
        let (producer, commit) = (markers.producer, markers.commit);
        if let Some(partition) = open.first().copied() {
            self.partitions[partition].append_marker(producer, commit);
            let end = self.partitions[partition].end();
            self.writing[index].1.push((partition, end));
        }
        self.complete();
    }

    /// Transactions whose markers are all durable are complete.
    fn complete(&mut self) {
        let partitions = &self.partitions;
        let is_done = |(markers, written): &(WriteMarkers, Vec<(usize, usize)>)| {
            markers.partitions.iter().all(|place| {
                let at = place.partition as usize;
                written
                    .iter()
                    .any(|(partition, end)| *partition == at && *end <= partitions[at].durable())
            })
        };
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.writing)
            .into_iter()
            .partition(is_done);
        self.writing = rest;
        for (markers, _) in done {
            let transition = self.coordinator.complete(self.now_ms, &markers);
            self.write(&transition.records, Then::Nothing);
        }
    }

    /// A look for what is decided and not completed finds each such transaction, once more if it is
    /// being written already.
    fn resume(&mut self) {
        let durable = self.replayed(self.durable);
        for markers in durable.unfinished() {
            let is_new = !self.writing.iter().any(|(other, _)| *other == markers);
            let is_same = self.coordinator.unfinished().any(|other| other == markers);
            if is_new && is_same {
                self.start_writing(markers);
            }
        }
    }

    fn time_passes(&mut self) {
        if self.chance(10) {
            self.now_ms += EXPIRATION_MS;
        } else if self.chance(40) {
            self.now_ms += i64::from(TIMEOUT_MS);
        }
        let aborted = self.coordinator.abort_timed_out(self.now_ms);
        self.write(&aborted.records, Then::Nothing);
        for markers in aborted.response {
            self.write(&[], Then::Write(markers));
        }
        let expired = self.coordinator.expire_ids(self.now_ms);
        self.write(&expired.records, Then::Nothing);
    }

    // Crashes.

    fn crash(&mut self) {
        let kept = self.rng.random_range(self.durable..=self.log.len());
        self.log.truncate(kept);
        self.durable = kept;
        self.in_line.clear();
        self.verified.clear();
        self.appended.clear();
        self.writing.clear();
        if self.chance(30) {
            self.compact();
        }
        self.coordinator = self.replayed(self.log.len());
        for index in 0..PARTITIONS {
            let partition = &self.partitions[index];
            let end = self.rng.random_range(partition.durable()..=partition.end());
            self.partitions[index].crash(end);
        }
        self.resume();
    }

    fn compact(&mut self) {
        let mut last = BTreeMap::new();
        for (index, record) in self.log.iter().enumerate() {
            last.insert(record.key.clone(), index);
        }
        let mut index = 0;
        self.log.retain(|record| {
            index += 1;
            last[&record.key] == index - 1
        });
        self.durable = self.log.len();
    }

    fn replayed(&self, end: usize) -> TransactionCoordinator {
        let mut coordinator = TransactionCoordinator::new(config());
        for stored in &self.log[..end] {
            let record = Record::decode(&stored.key, stored.value.as_deref());
            coordinator.replay(&record.unwrap().unwrap());
        }
        coordinator
    }

    // Checks.

    fn check(&self) {
        for listed in self.coordinator.list() {
            let found = self.coordinator.describe(&listed.transactional_id).unwrap();
            assert!(found.producer.id.is_some() && found.producer.epoch.is_some());
            assert!(!found.state.is_idle() || found.partitions.is_empty());
        }
    }

    /// Nobody calls any more; everything that was begun comes to its end.
    pub(super) fn settle(&mut self) {
        self.network.clear();
        self.verified.clear();
        for client in &mut self.clients {
            client.is_dead = true;
        }
        let mut rounds = 0;
        while !self.is_at_rest() {
            self.now_ms += i64::from(TIMEOUT_MS) / 4;
            let aborted = self.coordinator.abort_timed_out(self.now_ms);
            self.write(&aborted.records, Then::Nothing);
            self.sync_coordinator();
            self.resume();
            for _ in 0..self.writing.len() * PARTITIONS {
                self.write_marker();
            }
            for partition in 0..PARTITIONS {
                self.sync_partition(partition);
            }
            self.sync_coordinator();
            rounds += 1;
            assert!(rounds < 100, "transactions do not end");
        }
    }

    fn is_at_rest(&self) -> bool {
        self.in_line.is_empty()
            && self.coordinator.list().all(|listed| listed.state.is_idle())
            && !self.partitions.iter().any(Partition::has_open_transactions)
    }

    pub(super) fn judge(&self) {
        let restarted = self.replayed(self.log.len());
        assert!(restarted.has_same_state_as(&self.coordinator));
        let mut seen = BTreeSet::new();
        for partition in &self.partitions {
            seen.extend(partition.committed());
        }
        for (client, transaction) in self
            .clients
            .iter()
            .enumerate()
            .flat_map(|(index, client)| client.transactions.iter().map(move |t| (index, t)))
        {
            let count = transaction.sent.iter().filter(|v| seen.contains(v)).count();
            let whole = transaction.acknowledged.iter().all(|v| seen.contains(v));
            match transaction.outcome {
                Outcome::Committed => {
                    assert!(whole, "{client} lost part of {transaction:?}");
                }
                Outcome::Open | Outcome::Aborted => {
                    assert!(count == 0, "{client} did not commit {transaction:?}");
                }
                Outcome::Committing => {
                    assert!(count == 0 || whole, "{client} tore {transaction:?}");
                }
            }
        }
    }

    pub(super) fn outcomes(&self) -> usize {
        let transactions = self.clients.iter().flat_map(|client| &client.transactions);
        transactions
            .filter(|transaction| transaction.outcome == Outcome::Committed)
            .count()
    }
}

fn place(partition: usize) -> TopicPartition {
    TopicPartition::new("events", partition as i32)
}
