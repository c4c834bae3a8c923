//! Transactional producers, loops and readers that write down everything they do, while a test hurts
//! the node.
//!
//! Writers put a few values into random partitions in each transaction and commit or abort it; now
//! and then one is abandoned, or taken over by a successor while it still commits. A feeder fills the
//! input of the loops, each of which consumes, transforms and produces with its offset in the same
//! transaction. Readers of committed records follow everything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_kafka::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use conveyor_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use conveyor_record::{Decompressor, OwnedBatches};
use conveyor_sdk::ErrorCode;
use tokio::task::JoinHandle;

use crate::kafka_client::KafkaClient;
use crate::transaction_client::{Protocol, Step, TransactionClient};
use crate::transaction_history::{
    CommittedLog, End, Loop, Place, Transaction, TransactionHistory, transformed,
};

/// What writers write to.
pub const LEDGER: &str = "ledger";
/// What loops read.
pub const INPUT: &str = "input";
/// What loops write.
pub const OUTPUT: &str = "output";
/// Partitions of each topic.
pub const PARTITIONS: i32 = 3;
const WRITERS: u64 = 3;
const LOOPS: i32 = 2;
const GROUP: &str = "loops";
/// How long the end of a run may take.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(1);

/// A load going on until [`TransactionLoad::finish`].
#[derive(Debug)]
pub struct TransactionLoad {
    run: Run,
    tasks: Vec<JoinHandle<Result<TransactionHistory>>>,
}

/// What all tasks of a run share.
#[derive(Debug, Clone)]
struct Run {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    next_value: Arc<AtomicU64>,
}

impl Run {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn value(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }
}

impl TransactionLoad {
    /// Starts on topics that are there.
    pub fn start(address: SocketAddr, seed: u64) -> Self {
        let run = Run {
            address,
            stop: Arc::default(),
            committed: Arc::default(),
            next_value: Arc::new(AtomicU64::new(1)),
        };
        let mut tasks = vec![tokio::spawn(feed(run.clone(), Dice(seed)))];
        for number in 0..WRITERS {
            let dice = Dice(seed + 100 + number);
            tasks.push(tokio::spawn(write(run.clone(), number, dice)));
        }
        for partition in 0..LOOPS {
            let dice = Dice(seed + 200 + partition as u64);
            tasks.push(tokio::spawn(run_loop(run.clone(), partition, dice)));
        }
        for place in places() {
            tasks.push(tokio::spawn(read(run.clone(), place)));
        }
        Self { run, tasks }
    }

    /// Waits until `more` further transactions are committed: the node makes progress.
    pub async fn progress(&self, more: u64) -> Result<()> {
        let goal = self.run.committed.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.run.committed.load(Ordering::Relaxed) < goal {
            if Instant::now() > deadline {
                bail!("fewer than {goal} transactions are committed");
            }
            if let Some(ended) = self.tasks.iter().find(|task| task.is_finished()) {
                bail!("a client ended before its time: {ended:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Stops the load, has what was left open aborted, and reads everything from the start.
    pub async fn finish(self) -> Result<(TransactionHistory, CommittedLog)> {
        self.run.stop.store(true, Ordering::Relaxed);
        let mut history = TransactionHistory::default();
        for task in self.tasks {
            let part = task.await??;
            history.transactions.extend(part.transactions);
            history.plain.extend(part.plain);
            history.seen.extend(part.seen);
        }
        let address = self.run.address;
        let writers = (0..WRITERS).map(writer_id);
        for id in writers.chain((0..LOOPS).map(loop_id)) {
            TransactionClient::start(address, Some(&id), Protocol::Second).await?;
        }
        let mut kafka = KafkaClient::new(address);
        for partition in 0..LOOPS {
            history.loops.push(Loop {
                input: (INPUT, partition),
                output: (OUTPUT, partition),
                committed: committed_offset(&mut kafka, partition).await?,
            });
        }
        let mut log = CommittedLog::new();
        for place in places() {
            log.insert(place, read_all(&mut kafka, place).await?);
        }
        Ok((history, log))
    }
}

fn places() -> impl Iterator<Item = Place> {
    [LEDGER, INPUT, OUTPUT]
        .into_iter()
        .flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
}

fn writer_id(number: u64) -> String {
    format!("writer-{number}")
}

fn loop_id(partition: i32) -> String {
    format!("loop-{partition}")
}

/// Chance from a seed (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn protocol(&mut self) -> Protocol {
        if self.chance(50) {
            Protocol::First
        } else {
            Protocol::Second
        }
    }
}

/// Fills the input of the loops, outside transactions.
async fn feed(run: Run, mut dice: Dice) -> Result<TransactionHistory> {
    let mut history = TransactionHistory::default();
    let mut client = TransactionClient::start(run.address, None, Protocol::First).await?;
    while run.goes_on() {
        let place = (INPUT, dice.roll(LOOPS as u64) as i32);
        let values: Vec<u64> = (0..=dice.roll(4)).map(|_| run.value()).collect();
        history.plain.extend(&values);
        if client.write(place, &values).await? == Step::Lost {
            bail!("the feeder's values are refused");
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    Ok(history)
}

/// Transactions over the ledger under one id.
async fn write(run: Run, number: u64, mut dice: Dice) -> Result<TransactionHistory> {
    let id = writer_id(number);
    let mut history = TransactionHistory::default();
    while run.goes_on() {
        let protocol = dice.protocol();
        let mut client = TransactionClient::start(run.address, Some(&id), protocol).await?;
        let mut step = Step::Done;
        while step == Step::Done && run.goes_on() {
            let mut transaction = begin(format!("{id} {protocol:?}"));
            step = write_one(&run, &id, &mut client, &mut dice, &mut transaction).await?;
            history.transactions.push(transaction);
        }
    }
    Ok(history)
}

fn begin(producer: String) -> Transaction {
    Transaction {
        producer,
        values: Vec::new(),
        end: End::NotCommitted,
    }
}

async fn write_one(
    run: &Run,
    id: &str,
    client: &mut TransactionClient,
    dice: &mut Dice,
    transaction: &mut Transaction,
) -> Result<Step> {
    for _ in 0..=dice.roll(4) {
        let place = (LEDGER, dice.roll(PARTITIONS as u64) as i32);
        let value = run.value();
        transaction.values.push((place, value, false));
        if client.write(place, &[value]).await? == Step::Lost {
            return Ok(Step::Lost);
        }
        if let Some(last) = transaction.values.last_mut() {
            last.2 = true;
        }
    }
    let commit = dice.chance(75);
    match dice.roll(100) {
        // Nobody ends it; the next start under the id finds it open.
        0..4 => Ok(Step::Lost),
        // A successor starts at the same time.
        4..8 => {
            let successor = TransactionClient::start(run.address, Some(id), Protocol::Second);
            let own = end(run, client, commit, transaction);
            let (successor, own) = tokio::join!(successor, own);
            successor?;
            own
        }
        _ => end(run, client, commit, transaction).await,
    }
}

async fn end(
    run: &Run,
    client: &mut TransactionClient,
    commit: bool,
    transaction: &mut Transaction,
) -> Result<Step> {
    if commit {
        transaction.end = End::Unknown;
    }
    let step = client.end(commit).await?;
    if commit && step == Step::Done {
        transaction.end = End::Committed;
        run.committed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(step)
}

/// Consumes, transforms and produces one partition, its offset in the same transaction.
async fn run_loop(run: Run, partition: i32, mut dice: Dice) -> Result<TransactionHistory> {
    let id = loop_id(partition);
    let mut history = TransactionHistory::default();
    let mut reader = KafkaClient::new(run.address);
    while run.goes_on() {
        let protocol = dice.protocol();
        let mut client = TransactionClient::start(run.address, Some(&id), protocol).await?;
        let mut position = committed_offset(&mut reader, partition).await?;
        let mut step = Step::Done;
        while step == Step::Done && run.goes_on() {
            let found = fetch(&mut reader, (INPUT, partition), position, false).await?;
            let Some((last, _)) = found.values.last().copied() else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let mut transaction = begin(format!("{id} {protocol:?}"));
            let commit = dice.chance(85);
            let output = found.values.iter().map(|(_, value)| transformed(*value));
            let output: Vec<u64> = output.collect();
            step = pass_on(
                &run,
                &mut client,
                partition,
                &output,
                last + 1,
                commit,
                &mut transaction,
            )
            .await?;
            history.transactions.push(transaction);
            if step == Step::Done && commit {
                position = last + 1;
            }
            if dice.chance(5) {
                break;
            }
        }
    }
    Ok(history)
}

async fn pass_on(
    run: &Run,
    client: &mut TransactionClient,
    partition: i32,
    values: &[u64],
    next: i64,
    commit: bool,
    transaction: &mut Transaction,
) -> Result<Step> {
    let place = (OUTPUT, partition);
    if client.write(place, values).await? == Step::Lost
        || client
            .commit_offset(GROUP, (INPUT, partition), next)
            .await?
            == Step::Lost
    {
        return Ok(Step::Lost);
    }
    let step = end(run, client, commit, transaction).await?;
    // A loop that aborts makes the same values again, so that they count for the transaction that
    // commits them only.
    if transaction.end != End::NotCommitted {
        let acknowledged = transaction.end == End::Committed;
        let values = values.iter().map(|value| (place, *value, acknowledged));
        transaction.values = values.collect();
    }
    Ok(step)
}

/// Follows one partition as a reader of committed records.
async fn read(run: Run, place: Place) -> Result<TransactionHistory> {
    let mut history = TransactionHistory::default();
    let mut kafka = KafkaClient::new(run.address);
    let mut position = 0;
    while run.goes_on() {
        let found = fetch(&mut kafka, place, position, true).await?;
        if found.next == position {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        position = found.next;
        let seen = found.values.into_iter();
        history
            .seen
            .extend(seen.map(|(offset, value)| (place, offset, value)));
    }
    Ok(history)
}

/// Everything that a reader of committed records finds, once nothing is open any more.
async fn read_all(kafka: &mut KafkaClient, place: Place) -> Result<Vec<(i64, u64)>> {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    let mut values = Vec::new();
    let mut position = 0;
    loop {
        let found = fetch(kafka, place, position, true).await?;
        values.extend(found.values);
        position = found.next;
        if position >= found.end {
            return Ok(values);
        }
        if Instant::now() > deadline {
            bail!("{place:?} stays undecided from offset {position} on");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The next record that a loop has to read.
async fn committed_offset(kafka: &mut KafkaClient, partition: i32) -> Result<i64> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: INPUT.into(),
                partition_indexes: vec![partition],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let answer = kafka
        .call_until(8, &request, |answer| {
            let group = &answer.groups[0];
            let partitions = group.topics.first().map(|topic| &topic.partitions[0]);
            group.error_code == 0 && partitions.is_some_and(|found| found.error_code == 0)
        })
        .await?;
    let offset = answer.groups[0].topics[0].partitions[0].committed_offset;
    Ok(offset.max(0))
}

/// What one fetch found.
#[derive(Debug)]
struct Found {
    values: Vec<(i64, u64)>,
    /// Where to read on.
    next: i64,
    /// The high watermark.
    end: i64,
}

async fn fetch(
    kafka: &mut KafkaClient,
    place: Place,
    from: i64,
    committed_only: bool,
) -> Result<Found> {
    let request = FetchRequest {
        max_bytes: 1 << 20,
        isolation_level: i8::from(committed_only),
        topics: vec![FetchTopic {
            topic: place.0.into(),
            partitions: vec![FetchPartition {
                partition: place.1,
                fetch_offset: from,
                partition_max_bytes: 2_000,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let answer = kafka
        .call_until(12, &request, |answer| {
            let retriable = ErrorCode::UnknownTopicOrPartition.code();
            answer.error_code == 0
                && i32::from(answer.responses[0].partitions[0].error_code) != retriable
        })
        .await?;
    let data = &answer.responses[0].partitions[0];
    if data.error_code != 0 {
        bail!(
            "{place:?} cannot be read from {from}: error {}",
            data.error_code
        );
    }
    values_of(data, from).with_context(|| format!("{place:?} from offset {from}"))
}

/// The values that a consumer keeps: what lies between the first offset of an aborted transaction
/// and its marker is left out.
fn values_of(data: &PartitionData, from: i64) -> Result<Found> {
    let aborted = data.aborted_transactions.iter().flatten();
    let mut aborted: Vec<(i64, i64)> = aborted
        .map(|one| (one.first_offset, one.producer_id))
        .collect();
    aborted.sort_unstable();
    let mut aborted = aborted.into_iter().peekable();
    let mut left_out = BTreeSet::new();
    let mut found = Found {
        values: Vec::new(),
        next: from,
        end: data.high_watermark,
    };
    let mut decompressor = Decompressor::new();
    for batch in OwnedBatches::new(data.records.clone().unwrap_or_default()) {
        let batch = batch?;
        batch.verify_crc()?;
        let (header, producer) = (*batch.header(), batch.header().producer_id.value());
        found.next = header.last_offset().next().value();
        while let Some((_, id)) = aborted.next_if(|(first, _)| *first < found.next) {
            left_out.insert(id);
        }
        if header.attributes.is_control() {
            left_out.remove(&producer);
            continue;
        }
        if header.attributes.is_transactional() && left_out.contains(&producer) {
            continue;
        }
        for record in batch.records(&mut decompressor, 1 << 20)? {
            let record = record?;
            let offset = record.offset.value();
            let value = record.value.as_deref().unwrap_or_default();
            let value = value.try_into().context("a value of 8 bytes")?;
            if offset >= from {
                found.values.push((offset, u64::from_be_bytes(value)));
            }
        }
    }
    Ok(found)
}
