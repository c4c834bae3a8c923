//! The SDK's transactions while the node is killed again and again, and its clients too: what is
//! committed is there whole and once, and a consume-transform-produce loop is exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{
    AdminClient, Client, ClientConfig, Consumer, ConsumerConfig, Error, IsolationLevel,
    OffsetReset, Producer, ProducerConfig, ProducerRecord, TopicPartition, TransactionFault,
};
use conveyor_tests::node::Node;
use conveyor_tests::transaction_history::{
    CommittedLog, End, Loop, Place, Transaction, TransactionHistory, check, transformed,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "4"),
    ("offsets.topic.num.partitions", "4"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.consumer.heartbeat.interval.ms", "300"),
    ("log.segment.bytes", "65536"),
    ("conveyor.segment.pool.bytes", "65536"),
];
const LEDGER: &str = "ledger";
const INPUT: &str = "input";
const OUTPUT: &str = "output";
const GROUP: &str = "loops";
const PARTITIONS: i32 = 3;
const ROUNDS: u64 = 10;
const LIMIT: Duration = Duration::from_secs(90);

/// What all clients of the run share; it outlives each of them.
#[derive(Clone)]
struct Run {
    address: String,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    committed: Arc<AtomicU64>,
    looped: Arc<AtomicU64>,
    history: Arc<Mutex<TransactionHistory>>,
}

impl Run {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn value(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn client(&self) -> Result<Client> {
        let mut config = ClientConfig::new(self.address.as_str());
        config.connect_timeout_ms = 30_000;
        config.request_timeout_ms = 5_000;
        Ok(Client::connect(config).await?)
    }

    /// Writes down what a transaction will hold, before any of it is sent.
    async fn open(&self, producer: &str, values: Vec<(Place, u64)>) -> usize {
        let mut history = self.history.lock().await;
        history.transactions.push(Transaction {
            producer: producer.to_owned(),
            values: values
                .into_iter()
                .map(|(place, value)| (place, value, false))
                .collect(),
            end: End::NotCommitted,
        });
        history.transactions.len() - 1
    }

    /// A commit is asked for. It is decided only once all values are acknowledged, so that they are
    /// all there or none.
    async fn asked(&self, transaction: usize) {
        let mut history = self.history.lock().await;
        let transaction = &mut history.transactions[transaction];
        transaction.end = End::Unknown;
        transaction
            .values
            .iter_mut()
            .for_each(|value| value.2 = true);
    }

    async fn committed(&self, transaction: usize) {
        self.history.lock().await.transactions[transaction].end = End::Committed;
        self.committed.fetch_add(1, Ordering::Relaxed);
    }

    /// The abort was answered before a commit was decided.
    async fn aborted(&self, transaction: usize) {
        self.history.lock().await.transactions[transaction].end = End::NotCommitted;
    }

    async fn producer(&self, client: &Client, id: &str) -> Result<Producer> {
        let config = ProducerConfig {
            transactional_id: Some(id.to_owned()),
            transaction_timeout_ms: 20_000,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(client, config)?;
        until_done(|| producer.init_transactions()).await?;
        Ok(producer)
    }
}

/// The same call until it is done or refused.
async fn until_done<F>(call: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let deadline = Instant::now() + LIMIT;
    loop {
        match call().await {
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

fn record(place: Place, value: u64) -> ProducerRecord {
    ProducerRecord::new(place.0)
        .partition(place.1)
        .value(value.to_be_bytes().to_vec())
}

/// Fills the input, outside transactions.
async fn feed(run: Run) -> Result<()> {
    let client = run.client().await?;
    let producer = Producer::new(&client, ProducerConfig::default())?;
    while run.goes_on() {
        let value = run.value();
        run.history.lock().await.plain.insert(value);
        let place = (INPUT, (value % PARTITIONS as u64) as i32);
        drop(producer.send(record(place, value)).await?);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    producer.flush().await;
    Ok(())
}

/// Transactions over the ledger, three of four committed.
async fn write(run: Run, number: u64) -> Result<()> {
    let id = format!("writer-{number}");
    let client = run.client().await?;
    let producer = run.producer(&client, &id).await?;
    while run.goes_on() {
        let values = (0..3 + number as i32)
            .map(|n| ((LEDGER, n % PARTITIONS), run.value()))
            .collect::<Vec<_>>();
        let transaction = run.open(&id, values.clone()).await;
        producer.begin_transaction()?;
        let mut is_whole = true;
        for (place, value) in values {
            is_whole &= producer.send(record(place, value)).await.is_ok();
        }
        if is_whole && transaction % 4 != 0 {
            run.asked(transaction).await;
            match until_done(|| producer.commit_transaction()).await {
                Ok(()) => {
                    run.committed(transaction).await;
                    continue;
                }
                Err(error) if error.transaction_fault() == Some(TransactionFault::Abortable) => {}
                Err(error) => return Err(error.into()),
            }
        }
        until_done(|| producer.abort_transaction()).await?;
        run.aborted(transaction).await;
    }
    Ok(())
}

/// Consumes, transforms and produces until the run is over or the task is killed.
async fn run_loop(run: Run, number: usize) -> Result<()> {
    let id = format!("loop-{number}");
    let client = run.client().await?;
    let producer = run.producer(&client, &id).await?;
    let mut config = ConsumerConfig::for_group(GROUP);
    config.isolation_level = IsolationLevel::ReadCommitted;
    config.auto_offset_reset = OffsetReset::Earliest;
    config.enable_auto_commit = false;
    config.max_poll_records = 40;
    let mut consumer = Consumer::new(&client, config)?;
    consumer.subscribe([INPUT])?;
    let group = consumer.group_metadata().context("a group")?;
    loop {
        let records = match consumer.poll(Duration::from_millis(100)).await {
            Ok(records) => records,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error.into()),
        };
        if records.is_empty() {
            continue;
        }
        let mut values = Vec::new();
        for (partition, record) in records.iter() {
            let value = record.value.as_deref().context("a value")?;
            let place = (OUTPUT, partition.partition);
            values.push((place, transformed(u64::from_be_bytes(value.try_into()?))));
        }
        let transaction = run.open(&id, values.clone()).await;
        producer.begin_transaction()?;
        let outcome = async {
            for (place, value) in values {
                drop(producer.send(record(place, value)).await?);
            }
            let next = records.next_offsets();
            until_done(|| producer.send_offsets_to_transaction(next.clone(), &group)).await?;
            run.asked(transaction).await;
            until_done(|| producer.commit_transaction()).await
        };
        match outcome.await {
            Ok(()) => {
                run.committed(transaction).await;
                run.looped
                    .fetch_add(records.len() as u64, Ordering::Relaxed);
            }
            Err(error) if error.transaction_fault() == Some(TransactionFault::Abortable) => {
                until_done(|| producer.abort_transaction()).await?;
                run.aborted(transaction).await;
                consumer.seek_to_committed();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn wait_for(counter: &AtomicU64, goal: u64, what: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while counter.load(Ordering::Relaxed) < goal {
        if Instant::now() > deadline {
            bail!("only {} of {goal} {what}", counter.load(Ordering::Relaxed));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Everything that a fresh reader of committed records finds in a topic.
async fn read(client: &Client, topic: &'static str, log: &mut CommittedLog) -> Result<()> {
    let mut config = ConsumerConfig::standalone();
    config.isolation_level = IsolationLevel::ReadCommitted;
    config.auto_offset_reset = OffsetReset::Earliest;
    let mut consumer = Consumer::new(client, config)?;
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|p| TopicPartition::new(topic, p))
        .collect();
    consumer.assign(partitions.clone())?;
    let ends = consumer.end_offsets(&partitions).await?;
    for partition in 0..PARTITIONS {
        log.insert((topic, partition), Vec::new());
    }
    let deadline = Instant::now() + LIMIT;
    while !ends
        .iter()
        .all(|(partition, end)| end.value() == 0 || consumer.position(partition) >= Some(*end))
    {
        if Instant::now() > deadline {
            bail!("the end of {topic} is not reached");
        }
        for (partition, record) in consumer.poll(Duration::from_millis(100)).await?.iter() {
            let value = u64::from_be_bytes(record.value.as_deref().context("a value")?.try_into()?);
            let entries = log.entry((topic, partition.partition)).or_default();
            entries.push((record.offset.value(), value));
        }
    }
    Ok(())
}

/// The end of the run: the loops have consumed all, and nothing is open any more.
async fn judge(run: &Run) -> Result<(TransactionHistory, CommittedLog)> {
    let client = run.client().await?;
    // Whatever was left open is aborted by taking the ids over.
    for id in ["writer-0", "writer-1", "loop-0", "loop-1"] {
        run.producer(&client, id).await?;
    }
    let mut log = BTreeMap::new();
    for topic in [LEDGER, INPUT, OUTPUT] {
        read(&client, topic, &mut log).await?;
    }
    let mut history = run.history.lock().await.clone();
    // What a loop has not committed it makes again, in another transaction: that it is there once and
    // in order is the rule of the loops.
    let is_made_again =
        |one: &Transaction| one.end == End::NotCommitted && one.producer.starts_with("loop");
    history.transactions.retain(|one| !is_made_again(one));
    let admin = AdminClient::new(&client);
    for (place, committed) in admin.group_offsets(GROUP, &[]).await? {
        history.loops.push(Loop {
            input: (INPUT, place.partition),
            output: (OUTPUT, place.partition),
            committed: committed?.offset.value(),
        });
    }
    Ok((history, log))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sdk_transactions_survive_the_death_of_node_and_clients() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::start(folder.path(), SETTINGS)?;
    let run = Run {
        address: node.address(),
        stop: Arc::default(),
        next: Arc::new(AtomicU64::new(1)),
        committed: Arc::default(),
        looped: Arc::default(),
        history: Arc::default(),
    };
    let admin = AdminClient::new(&run.client().await?);
    for topic in [LEDGER, INPUT, OUTPUT] {
        admin
            .create_topic(NewTopic::new(topic).partitions(PARTITIONS))
            .await?;
    }
    let feeder = tokio::spawn(feed(run.clone()));
    let writers: Vec<_> = (0..2)
        .map(|n| tokio::spawn(write(run.clone(), n)))
        .collect();
    let mut loops: Vec<JoinHandle<Result<()>>> = (0..2)
        .map(|n| tokio::spawn(run_loop(run.clone(), n)))
        .collect();
    for round in 0..ROUNDS {
        wait_for(&run.committed, round * 20 + 20, "commits").await?;
        wait_for(&run.looped, round * 20 + 20, "looped records").await?;
        // At another moment of a transaction each time.
        tokio::time::sleep(Duration::from_micros(round * 1_733)).await;
        let victim = round as usize % 2;
        if round % 3 != 2 {
            node.kill()?;
        }
        if round % 3 != 1 {
            // Its connections break off, and what it has not said is never said.
            loops[victim].abort();
            loops[victim] = tokio::spawn(run_loop(run.clone(), victim));
        }
        if round % 3 != 2 {
            node.restart()?;
        }
    }
    run.stop.store(true, Ordering::Relaxed);
    feeder.await??;
    for writer in writers {
        writer.await??;
    }
    let fed = run.history.lock().await.plain.len() as u64;
    // What a killed loop had committed without hearing of it is not counted: look for quiet instead.
    let mut before = (0, Instant::now());
    while before.1.elapsed() < Duration::from_secs(6) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = run.looped.load(Ordering::Relaxed);
        if now != before.0 {
            before = (now, Instant::now());
        }
        if now >= fed {
            break;
        }
        for one in &loops {
            assert!(!one.is_finished(), "a loop ended before its time");
        }
    }
    loops.iter().for_each(JoinHandle::abort);
    let (history, log) = judge(&run).await?;
    let violations = check(&history, &log);
    assert!(
        violations.is_empty(),
        "{} rules broken: {:#?}\n{}",
        violations.len(),
        &violations[..violations.len().min(10)],
        node.log_text()
    );
    let lying = |topic: &str| -> usize {
        let logs = log.iter().filter(|((name, _), _)| *name == topic);
        logs.map(|(_, entries)| entries.len()).sum()
    };
    assert_eq!(lying(INPUT) as u64, fed, "the feeder loses nothing");
    assert_eq!(lying(OUTPUT) as u64, fed, "every record was looped");
    println!(
        "{} transactions, {} committed for sure; {fed} records looped, {} in the ledger",
        history.transactions.len(),
        run.committed.load(Ordering::Relaxed),
        lying(LEDGER)
    );
    Ok(())
}
