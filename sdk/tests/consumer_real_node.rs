//! Consumers against a real node in this process: groups, offsets, time, reading while producing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{
    AdminClient, Client, ClientConfig, Consumer, ConsumerConfig, ConsumerRecords, Offset,
    OffsetAndMetadata, OffsetReset, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use conveyor_server::{Broker, BrokerConfig};
use parking_lot::Mutex;

const TOPIC: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    broker: Broker,
    client: Client,
    dir: tempfile::TempDir,
}

impl Node {
    async fn start(partitions: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(dir.path(), "127.0.0.1:0").await;
        let client = connect(&broker.grpc_address().to_string()).await;
        let topic = NewTopic::new(TOPIC).partitions(partitions);
        AdminClient::new(&client).create_topic(topic).await.unwrap();
        Self {
            broker,
            client,
            dir,
        }
    }

    /// The same node again: same folder, same address.
    async fn restart(self) -> Self {
        let address = self.broker.grpc_address().to_string();
        self.broker.shutdown().await.unwrap();
        let broker = start(self.dir.path(), &address).await;
        Self { broker, ..self }
    }

    /// Sends `count` records with values `first`, `first + 1` and so on, spread by key.
    async fn produce(&self, first: usize, count: usize) {
        let producer = Producer::new(&self.client, ProducerConfig::default()).unwrap();
        produce_with(&producer, first, count).await;
        producer.close(PATIENCE).await.unwrap();
    }

    fn consumer(&self, config: ConsumerConfig) -> Consumer {
        Consumer::new(&self.client, config).unwrap()
    }

    fn member(&self, change: impl FnOnce(&mut ConsumerConfig)) -> Consumer {
        let mut config = ConsumerConfig::for_group("g");
        config.auto_offset_reset = OffsetReset::Earliest;
        change(&mut config);
        let mut consumer = self.consumer(config);
        consumer.subscribe([TOPIC]).unwrap();
        consumer
    }

    fn reader(&self, partitions: &[TopicPartition]) -> Consumer {
        let mut config = ConsumerConfig::standalone();
        config.auto_offset_reset = OffsetReset::Earliest;
        let mut consumer = self.consumer(config);
        consumer.assign(partitions.iter().cloned()).unwrap();
        consumer
    }
}

async fn start(dir: &std::path::Path, address: &str) -> Broker {
    let pairs = [
        ("log.dirs", dir.to_str().unwrap()),
        ("node.id", "1"),
        ("listeners", ""),
        ("listeners.grpc", address),
        ("listeners.admin", ""),
        ("log.segment.bytes", "4194304"),
        ("offsets.topic.num.partitions", "4"),
        ("group.consumer.heartbeat.interval.ms", "100"),
        ("group.consumer.session.timeout.ms", "1000"),
    ];
    let config = BrokerConfig::from_pairs(pairs).unwrap();
    Broker::start(config).await.unwrap()
}

async fn connect(address: &str) -> Client {
    Client::connect(ClientConfig::new(address)).await.unwrap()
}

async fn produce_with(producer: &Producer, first: usize, count: usize) {
    let mut reports = Vec::new();
    for n in first..first + count {
        let record = ProducerRecord::new(TOPIC)
            .key(format!("k{}", n % 97))
            .value(n.to_string());
        reports.push(producer.send(record).await.unwrap());
    }
    for report in reports {
        report.await.unwrap();
    }
}

fn all(partitions: i32) -> Vec<TopicPartition> {
    (0..partitions)
        .map(|n| TopicPartition::new(TOPIC, n))
        .collect()
}

/// The values of records, in order.
fn values(records: &ConsumerRecords) -> Vec<usize> {
    records
        .iter()
        .map(|(_, record)| std::str::from_utf8(record.value.as_deref().unwrap()).unwrap())
        .map(|text| text.parse().unwrap())
        .collect()
}

/// Polls until `count` records have come.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<usize> {
    let started = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(started.elapsed() < PATIENCE, "{} of {count}", taken.len());
        taken.extend(values(
            &consumer.poll(Duration::from_millis(100)).await.unwrap(),
        ));
    }
    taken
}

fn sorted(mut values: Vec<usize>) -> Vec<usize> {
    values.sort_unstable();
    values
}

/// Members polled in a task of their own until told to stop.
struct Running {
    seen: Arc<Mutex<Vec<usize>>>,
    owned: Arc<Mutex<BTreeSet<TopicPartition>>>,
    stop: tokio::sync::oneshot::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(mut consumer: Consumer) -> Self {
        let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
        let owned: Arc<Mutex<BTreeSet<TopicPartition>>> = Arc::default();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (saw, owns) = (Arc::clone(&seen), Arc::clone(&owned));
        let task = tokio::spawn(async move {
            let closes = loop {
                let records = tokio::select! {
                    records = consumer.poll(Duration::from_millis(50)) => records.unwrap(),
                    closes = &mut stopped => break closes.unwrap(),
                };
                saw.lock().extend(values(&records));
                *owns.lock() = consumer.assignment().into_iter().collect();
            };
            owns.lock().clear();
            if closes {
                consumer.close().await.unwrap();
            }
        });
        Self {
            seen,
            owned,
            stop,
            task,
        }
    }

    /// Closes in order, or just drops.
    async fn stop(self, closes: bool) -> Vec<usize> {
        self.stop.send(closes).unwrap();
        self.task.await.unwrap();
        self.seen.lock().clone()
    }

    fn owns(&self) -> usize {
        self.owned.lock().len()
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_a_topic_and_one_takes_over_from_the_other() {
    let node = Node::start(6).await;
    node.produce(0, 1_000).await;
    let first = Running::start(node.member(|_| {}));
    until("the first owns all", || first.owns() == 6).await;
    until("the first has read all", || {
        first.seen.lock().len() == 1_000
    })
    .await;

    let second = Running::start(node.member(|_| {}));
    until("they share", || first.owns() == 3 && second.owns() == 3).await;
    node.produce(1_000, 1_000).await;
    let both = || first.seen.lock().len() + second.seen.lock().len() == 2_000;
    until("they have read all", both).await;
    assert!(!second.seen.lock().is_empty());

    let seen_by_first = first.stop(true).await;
    until("the second owns all", || second.owns() == 6).await;
    node.produce(2_000, 1_000).await;
    until("the second has read the rest", || {
        seen_by_first.len() + second.seen.lock().len() == 3_000
    })
    .await;
    let seen_by_second = second.stop(true).await;
    let seen = sorted([seen_by_first, seen_by_second].concat());
    assert_eq!(
        seen,
        (0..3_000).collect::<Vec<_>>(),
        "each record once, to one of them"
    );
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_survive_members_and_the_node() {
    let mut node = Node::start(3).await;
    node.produce(0, 500).await;
    let mut consumer = node.member(|config| config.enable_auto_commit = false);
    let mut seen = take(&mut consumer, 500).await;
    consumer.commit_sync().await.unwrap();
    let committed = consumer.committed(&all(3)).await.unwrap();
    assert_eq!(
        committed
            .values()
            .map(|offset| offset.offset.value())
            .sum::<i64>(),
        500
    );
    consumer.close().await.unwrap();

    node = node.restart().await;
    node.produce(500, 300).await;
    let mut consumer = node.member(|_| {});
    seen.extend(take(&mut consumer, 300).await);
    consumer.close().await.unwrap();
    assert_eq!(sorted(seen), (0..800).collect::<Vec<_>>());

    let description = AdminClient::new(&node.client)
        .describe_group("g")
        .await
        .unwrap();
    assert_eq!(
        description.lag_records(),
        0,
        "close has committed: {description:?}"
    );
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_goes_on_through_a_restart_of_the_node() {
    let mut node = Node::start(2).await;
    node.produce(0, 200).await;
    let running = Running::start(node.member(|_| {}));
    until("it has read all", || running.seen.lock().len() == 200).await;
    node = node.restart().await;
    node.produce(200, 200).await;
    until("it has read the rest", || running.seen.lock().len() >= 400).await;
    let seen = running.stop(true).await;
    let distinct: BTreeSet<usize> = seen.into_iter().collect();
    assert_eq!(distinct.len(), 400);
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_move_by_offset_by_time_and_to_both_ends() {
    let node = Node::start(1).await;
    let producer = Producer::new(&node.client, ProducerConfig::default()).unwrap();
    // Timestamps near now, a second apart: the node refuses none of them.
    let base = jiff::Timestamp::now().as_millisecond() - 1_000_000;
    for n in 0..100_i64 {
        let record = ProducerRecord::new(TOPIC)
            .value(n.to_string())
            .timestamp_ms(base + n * 1_000);
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();

    let partition = all(1).remove(0);
    let here = std::slice::from_ref(&partition);
    let mut consumer = node.reader(here);
    assert_eq!(take(&mut consumer, 100).await, (0..100).collect::<Vec<_>>());
    consumer.seek(&partition, 90).unwrap();
    assert_eq!(take(&mut consumer, 10).await[0], 90);
    let found = consumer.seek_to_time(here, base + 41_500).await.unwrap();
    assert_eq!(found[&partition], Offset(42));
    assert_eq!(take(&mut consumer, 58).await[0], 42);
    consumer.seek_to_beginning(here).await.unwrap();
    assert_eq!(take(&mut consumer, 100).await[0], 0);
    let end = consumer.seek_to_end(here).await.unwrap();
    assert_eq!(end[&partition], Offset(100));
    assert!(
        consumer
            .poll(Duration::from_millis(200))
            .await
            .unwrap()
            .is_empty()
    );

    consumer.seek_to_beginning(here).await.unwrap();
    consumer.pause(here).unwrap();
    assert!(
        consumer
            .poll(Duration::from_millis(200))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(consumer.position(&partition), Some(Offset(0)));
    consumer.resume(here).unwrap();
    assert_eq!(take(&mut consumer, 100).await[0], 0);
    assert_eq!(consumer.lag(&partition), Some(0));

    consumer.seek(&partition, 1_000_000).unwrap();
    assert_eq!(
        take(&mut consumer, 100).await[0],
        0,
        "out of range: reset to the earliest"
    );
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_while_they_are_written_each_once_and_in_order_of_their_key() {
    let node = Node::start(4).await;
    let client = node.client.clone();
    let writing = tokio::spawn(async move {
        let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
        for round in 0..20 {
            produce_with(&producer, round * 500, 500).await;
        }
        producer.close(PATIENCE).await.unwrap();
    });
    let mut consumer = node.reader(&all(4));
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let seen = take(&mut consumer, 10_000).await;
    for value in &seen {
        if let Some(before) = last.insert(value % 97, *value) {
            assert!(before < *value, "{before} came before {value}");
        }
    }
    writing.await.unwrap();
    assert_eq!(sorted(seen), (0..10_000).collect::<Vec<_>>());
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_finds_its_partitions_again() {
    let node = Node::start(2).await;
    let named = |config: &mut ConsumerConfig| {
        config.group_instance_id = Some("station-1".to_owned());
    };
    let first = Running::start(node.member(named));
    let other = Running::start(node.member(|_| {}));
    until("they share", || first.owns() == 1 && other.owns() == 1).await;
    let before = first.owned.lock().clone();
    first.stop(true).await;
    let again = Running::start(node.member(named));
    until("it is back", || again.owns() == 1).await;
    assert_eq!(*again.owned.lock(), before);
    again.stop(true).await;
    other.stop(true).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dies_is_replaced_after_its_session() {
    let node = Node::start(2).await;
    // Its own runtime, torn down as a killed process is: no farewell.
    let address = node.broker.grpc_address().to_string();
    let dying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = connect(&address).await;
            let mut consumer = Consumer::new(&client, ConsumerConfig::for_group("g")).unwrap();
            consumer.subscribe([TOPIC]).unwrap();
            while consumer.assignment().len() < 2 {
                consumer.poll(Duration::from_millis(20)).await.unwrap();
            }
            // Not even dropped.
            std::mem::forget(consumer);
        });
        runtime.shutdown_timeout(Duration::ZERO);
    });
    tokio::task::spawn_blocking(|| dying.join().unwrap())
        .await
        .unwrap();
    let heir = Running::start(node.member(|_| {}));
    until("the heir owns all", || heir.owns() == 2).await;
    heir.stop(true).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_from_outside_are_refused_while_the_group_has_members() {
    let node = Node::start(1).await;
    node.produce(0, 10).await;
    let partition = all(1).remove(0);
    let offset = [(partition.clone(), OffsetAndMetadata::new(3))];

    let mut config = ConsumerConfig::for_group("g");
    config.enable_auto_commit = false;
    let outsider = node.consumer(config);
    outsider.commit_offsets_sync(offset.clone()).await.unwrap();

    let mut member = node.member(|config| config.enable_auto_commit = false);
    assert_eq!(
        take(&mut member, 7).await[0],
        3,
        "begins where the group has committed"
    );
    let refused = outsider.commit_offsets_sync(offset).await.unwrap_err();
    assert!(refused.to_string().contains("group g"), "{refused}");
    member.close().await.unwrap();
    node.broker.shutdown().await.unwrap();
}
