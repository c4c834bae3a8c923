//! The consumer against a node in memory that goes wrong on purpose.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod fake_log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_sdk::consumer::{Assigned, ListenerError, RebalanceListener, Revoked, StartOffsets};
use conveyor_sdk::{
    Client, ClientConfig, Codec, Consumer, ConsumerConfig, ConsumerRecord, Offset, OffsetReset,
    TopicPartition,
};
use fake_log::{FakeLog, Faults};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;

const TOPIC: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(20);

fn partition(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

async fn client(node: &FakeLog) -> Client {
    let mut config = ClientConfig::new(node.address());
    config.retry_backoff_ms = 5;
    config.retry_backoff_max_ms = 50;
    Client::connect(config).await.unwrap()
}

/// A consumer of these partitions from their beginning.
async fn reader(node: &FakeLog, partitions: &[i32]) -> Consumer {
    reader_with(node, partitions, |_| {}).await
}

async fn reader_with(
    node: &FakeLog,
    partitions: &[i32],
    change: impl FnOnce(&mut ConsumerConfig),
) -> Consumer {
    let mut config = ConsumerConfig::standalone();
    config.auto_offset_reset = OffsetReset::Earliest;
    change(&mut config);
    let mut consumer = Consumer::new(&client(node).await, config).unwrap();
    consumer
        .assign(partitions.iter().map(|&p| partition(p)))
        .unwrap();
    consumer
}

/// The offset that a record of the fake node has as its value.
fn told_offset(value: Option<&[u8]>) -> i64 {
    let text = std::str::from_utf8(value.unwrap()).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Polls until each partition has been read up to `end`, checking that every record comes once and
/// in order; retriable errors are what a caller goes on after.
async fn read_to_the_end(consumer: &mut Consumer, next: &mut BTreeMap<i32, i64>, end: i64) {
    let started = Instant::now();
    while next.values().any(|offset| *offset < end) {
        assert!(started.elapsed() < PATIENCE, "stuck at {next:?} of {end}");
        let records = match consumer.poll(Duration::from_millis(200)).await {
            Ok(records) => records,
            Err(error) if error.is_retriable() => continue,
            Err(error) => panic!("{error}"),
        };
        for group in records.partitions() {
            let expected = next.get_mut(&group.topic_partition.partition).unwrap();
            for record in &group.records {
                assert_eq!(
                    record.offset.value(),
                    *expected,
                    "{}",
                    group.topic_partition
                );
                assert_eq!(told_offset(record.value.as_deref()), *expected);
                *expected += 1;
            }
            assert_eq!(group.next_offset.value(), *expected);
        }
    }
}

/// Returns once `done` says so.
async fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_comes_once_and_in_order_whatever_goes_wrong() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let node = FakeLog::start(seed, TOPIC, 3).await;
        let codecs = [
            Codec::None,
            Codec::Zstd,
            Codec::Lz4,
            Codec::Snappy,
            Codec::Gzip,
        ];
        for (n, codec) in codecs.iter().cycle().take(60).enumerate() {
            for partition in 0..3 {
                node.append(partition, *codec, 1 + (n as i64 * 7) % 13);
            }
        }
        let end: i64 = (0..60).map(|n| 1 + (n * 7) % 13).sum();
        node.set_faults(Faults {
            not_leader: 60,
            stream_breaks: 40,
            damage: 40,
            stale: 500,
        });
        let mut consumer = reader_with(&node, &[0, 1, 2], |config| {
            config.fetch_response_bytes_max = 700;
            config.fetch_memory_bytes = 2_000;
            config.max_poll_records = 17;
        })
        .await;
        let mut next = BTreeMap::from([(0, 0), (1, 0), (2, 0)]);
        read_to_the_end(&mut consumer, &mut next, end).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_does_not_poll_holds_no_more_than_its_memory() {
    let node = FakeLog::start(1, TOPIC, 2).await;
    for _ in 0..200 {
        node.append_sized(0, Codec::None, 10, 1_000);
        node.append_sized(1, Codec::None, 10, 1_000);
    }
    let mut consumer = reader_with(&node, &[0, 1], |config| {
        config.fetch_memory_bytes = 100_000;
        config.fetch_response_bytes_max = 20_000;
        config.max_poll_records = 1;
    })
    .await;
    assert_eq!(consumer.poll(PATIENCE).await.unwrap().len(), 1);
    until("the credit is used up", || node.bytes_sent() > 80_000).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = node.bytes_sent();
    assert!(
        sent <= 100_000 + 20_000,
        "{sent} bytes were sent to a consumer that does not poll"
    );
    let mut next = BTreeMap::from([(0, 0), (1, 0)]);
    consumer.seek(&partition(0), 0).unwrap();
    consumer.seek(&partition(1), 0).unwrap();
    read_to_the_end(&mut consumer, &mut next, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_seek_nothing_stale_is_returned() {
    let node = FakeLog::start(5, TOPIC, 1).await;
    for _ in 0..100 {
        node.append(0, Codec::Lz4, 10);
    }
    node.set_faults(Faults {
        stale: 1_000,
        ..Faults::default()
    });
    let mut consumer = reader_with(&node, &[0], |c| c.max_poll_records = 5).await;
    for offset in [500, 3, 777, 0, 999, 250, 251] {
        consumer.seek(&partition(0), offset).unwrap();
        assert_eq!(consumer.position(&partition(0)), Some(Offset(offset)));
        let records = consumer.poll(PATIENCE).await.unwrap();
        assert_eq!(records.iter().next().unwrap().1.offset, Offset(offset));
    }
    let found = consumer.seek_to_time(&[partition(0)], 4_321).await.unwrap();
    assert_eq!(found[&partition(0)], Offset(433));
    let records = consumer.poll(PATIENCE).await.unwrap();
    assert_eq!(records.iter().next().unwrap().1.timestamp_ms, 4_330);
    let young = consumer
        .seek_to_time(&[partition(0)], 99_999_999)
        .await
        .unwrap();
    assert_eq!(
        young[&partition(0)],
        Offset(1_000),
        "the end, where no record is that young"
    );
    assert!(consumer.seek(&partition(7), 0).is_err(), "not assigned");
    assert!(consumer.seek(&partition(0), -5).is_err(), "no offset");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_silent_and_goes_on_where_it_was() {
    let node = FakeLog::start(6, TOPIC, 2).await;
    for _ in 0..50 {
        node.append(0, Codec::None, 10);
        node.append(1, Codec::None, 10);
    }
    let mut consumer = reader_with(&node, &[0, 1], |c| c.max_poll_records = 7).await;
    let first = consumer.poll(PATIENCE).await.unwrap();
    assert!(!first.is_empty());
    let position = consumer.position(&partition(0)).unwrap_or_default();
    consumer.pause(&[partition(0)]).unwrap();
    assert_eq!(consumer.paused(), [partition(0)]);
    let started = Instant::now();
    while consumer.position(&partition(1)) != Some(Offset(500)) {
        assert!(started.elapsed() < PATIENCE);
        let records = consumer.poll(Duration::from_millis(100)).await.unwrap();
        assert!(records.iter().all(|(name, _)| name.partition == 1));
    }
    assert_eq!(
        consumer.position(&partition(0)).unwrap_or_default(),
        position
    );
    consumer.resume(&[partition(0)]).unwrap();
    let mut next = BTreeMap::from([(0, position.value())]);
    read_to_the_end(&mut consumer, &mut next, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reset_policy_decides_where_there_is_no_position() {
    let node = FakeLog::start(7, TOPIC, 1).await;
    for _ in 0..10 {
        node.append(0, Codec::None, 10);
    }
    node.raise_start(0, 30);

    let mut latest = reader_with(&node, &[0], |c| c.auto_offset_reset = OffsetReset::Latest).await;
    assert!(
        latest
            .poll(Duration::from_millis(300))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(latest.position(&partition(0)), Some(Offset(100)));
    node.append(0, Codec::None, 1);
    let records = latest.poll(PATIENCE).await.unwrap();
    assert_eq!(records.iter().next().unwrap().1.offset, Offset(100));

    let mut earliest = reader(&node, &[0]).await;
    let records = earliest.poll(PATIENCE).await.unwrap();
    assert_eq!(records.iter().next().unwrap().1.offset, Offset(30));
    earliest.seek(&partition(0), 5).unwrap();
    let records = earliest.poll(PATIENCE).await.unwrap();
    assert_eq!(
        records.iter().next().unwrap().1.offset,
        Offset(30),
        "out of range: reset"
    );

    let mut none = reader_with(&node, &[0], |c| c.auto_offset_reset = OffsetReset::None).await;
    let error = none.poll(PATIENCE).await.unwrap_err();
    assert!(
        !error.is_retriable() && error.to_string().contains("orders-0"),
        "{error}"
    );
    none.seek(&partition(0), 5).unwrap();
    let error = none.poll(PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("OFFSET_OUT_OF_RANGE"), "{error}");
    none.seek(&partition(0), 50).unwrap();
    let records = none.poll(PATIENCE).await.unwrap();
    assert_eq!(records.iter().next().unwrap().1.offset, Offset(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_goes_on_while_records_come_and_connections_break() {
    let node = Arc::new(FakeLog::start(8, TOPIC, 1).await);
    let writer = Arc::clone(&node);
    let writing = tokio::spawn(async move {
        for n in 0..200 {
            writer.append(0, Codec::Zstd, 5);
            if n % 40 == 39 {
                writer.cut_connections();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let mut consumer = reader(&node, &[0]).await;
    let mut next = BTreeMap::from([(0, 0)]);
    read_to_the_end(&mut consumer, &mut next, 1_000).await;
    writing.await.unwrap();
    assert!(node.streams_opened() > 1);
    assert_eq!(consumer.lag(&partition(0)), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_or_poll_loses_no_record() {
    let node = FakeLog::start(9, TOPIC, 2).await;
    for _ in 0..20 {
        node.append(0, Codec::None, 10);
        node.append(1, Codec::Gzip, 10);
    }
    let mut consumer = reader(&node, &[0, 1]).await;
    let mut next = BTreeMap::from([(0, 0), (1, 0)]);
    let mut take = |record: ConsumerRecord| {
        let expected = next.get_mut(&record.partition).unwrap();
        assert_eq!(record.offset.value(), *expected);
        *expected += 1;
    };
    for _ in 0..10 {
        let mut stream = std::pin::pin!(consumer.stream().take(7));
        while let Some(record) = stream.next().await {
            take(record.unwrap());
        }
    }
    for _ in 0..50 {
        // Far too short: polls are dropped half-way.
        let poll = consumer.poll(Duration::from_secs(1));
        if let Ok(records) = tokio::time::timeout(Duration::from_micros(50), poll).await {
            records.unwrap().into_iter().for_each(&mut take);
        }
    }
    read_to_the_end(&mut consumer, &mut next, 200).await;
}

/// What a listener was told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn say(&self, what: String) {
        self.0.lock().push(what);
    }

    fn said(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

struct Listener {
    told: Told,
    /// Where to begin.
    start: Option<i64>,
    /// How often it fails first.
    failures: usize,
}

impl RebalanceListener for Listener {
    fn on_assigned<'a>(
        &'a mut self,
        assigned: Assigned<'a>,
    ) -> BoxFuture<'a, Result<StartOffsets, ListenerError>> {
        Box::pin(async move {
            if self.failures > 0 {
                self.failures -= 1;
                return Err("the store is away".into());
            }
            self.told
                .say(format!("assigned {}", names(assigned.partitions)));
            let start = |p: &TopicPartition| Some((p.clone(), Offset(self.start?)));
            Ok(assigned.partitions.iter().filter_map(start).collect())
        })
    }

    fn on_revoked<'a>(
        &'a mut self,
        revoked: Revoked<'a>,
    ) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            // Long enough for several heartbeats.
            tokio::time::sleep(Duration::from_millis(100)).await;
            for (name, position) in revoked.partitions {
                let position = position.map_or(-1, Offset::value);
                self.told.say(format!("revoked {name} at {position}"));
            }
            Ok(())
        })
    }

    fn on_lost<'a>(&'a mut self, lost: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.told.say(format!("lost {}", names(lost))) })
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

async fn member(node: &FakeLog, start: Option<i64>) -> (Consumer, Told) {
    let told = Told::default();
    let mut config = ConsumerConfig::for_group("g");
    config.auto_offset_reset = OffsetReset::Earliest;
    config.max_poll_records = 10;
    let mut consumer = Consumer::new(&client(node).await, config).unwrap();
    consumer.set_rebalance_listener(Listener {
        told: told.clone(),
        start,
        failures: 0,
    });
    consumer.subscribe([TOPIC]).unwrap();
    (consumer, told)
}

/// Polls until `done`, at most for a while.
async fn poll_until(consumer: &mut Consumer, done: impl Fn(&Consumer) -> bool) {
    let started = Instant::now();
    while !done(consumer) {
        assert!(started.elapsed() < PATIENCE, "stuck: {consumer:?}");
        consumer.poll(Duration::from_millis(10)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_commits_then_calls_back_then_tells_the_group() {
    let node = FakeLog::start(10, TOPIC, 2).await;
    for _ in 0..10 {
        node.append(0, Codec::None, 10);
        node.append(1, Codec::None, 10);
    }
    node.commit(1, 42);
    let (mut consumer, told) = member(&node, None).await;
    until("the member joins", || node.member(0).is_some()).await;
    node.target(0, &[0, 1]);
    let done = [Some(Offset(100)), Some(Offset(100))];
    let positions = |c: &Consumer| [c.position(&partition(0)), c.position(&partition(1))];
    poll_until(&mut consumer, |c| positions(c) == done).await;
    assert_eq!(told.said(), ["assigned orders-0 orders-1"]);
    let both = || node.member(0).unwrap().owned == [(TOPIC.to_owned(), vec![0, 1])];
    until("the group hears what is owned", both).await;

    node.target(0, &[1]);
    let heartbeats = node.member(0).unwrap().heartbeats;
    poll_until(&mut consumer, |c| c.assignment() == [partition(1)]).await;
    assert_eq!(told.said()[1], "revoked orders-0 at 100");
    assert_eq!(
        node.committed(0),
        Some(100),
        "committed before it was given up"
    );
    let beats = node.member(0).unwrap().heartbeats - heartbeats;
    assert!(
        beats >= 2,
        "heartbeats go on during a slow callback, there were {beats}"
    );
    until("the group hears of it", || {
        node.member(0).unwrap().owned[0].1 == [1]
    })
    .await;

    consumer.close().await.unwrap();
    assert_eq!(node.committed(1), Some(100));
    assert_eq!(told.said()[2], "revoked orders-1 at 100");
    assert_eq!(node.member(0).unwrap().left_with, Some(-1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_keeps_its_partitions() {
    let node = FakeLog::start(11, TOPIC, 1).await;
    node.append(0, Codec::None, 100);
    let (mut consumer, _) = member(&node, None).await;
    until("the member joins", || node.member(0).is_some()).await;
    node.target(0, &[0]);
    poll_until(&mut consumer, |c| {
        c.position(&partition(0)) >= Some(Offset(10))
    })
    .await;
    let before = node.member(0).unwrap().heartbeats;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(node.member(0).unwrap().heartbeats >= before + 5);
    assert_eq!(consumer.assignment(), [partition(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_member_loses_everything_and_joins_again_from_what_is_committed() {
    let node = FakeLog::start(12, TOPIC, 1).await;
    node.append(0, Codec::None, 100);
    let (mut consumer, told) = member(&node, None).await;
    until("the member joins", || node.member(0).is_some()).await;
    node.target(0, &[0]);
    poll_until(&mut consumer, |c| {
        c.position(&partition(0)) == Some(Offset(100))
    })
    .await;
    node.commit(0, 55);
    node.fence(0);
    poll_until(&mut consumer, |_| told.said().len() >= 3).await;
    assert_eq!(
        told.said(),
        ["assigned orders-0", "lost orders-0", "assigned orders-0"]
    );
    // Somebody else may have committed meanwhile: what is read next is what the group says.
    poll_until(&mut consumer, |c| {
        c.position(&partition(0)) == Some(Offset(100))
    })
    .await;
    assert_eq!(
        node.committed(0),
        Some(55),
        "nothing is committed for lost partitions"
    );
    assert_eq!(node.member(0).unwrap().epoch, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_consumer_leaves_without_a_commit() {
    let node = FakeLog::start(13, TOPIC, 1).await;
    node.append(0, Codec::None, 100);
    let (mut consumer, told) = member(&node, None).await;
    until("the member joins", || node.member(0).is_some()).await;
    node.target(0, &[0]);
    poll_until(&mut consumer, |c| {
        c.position(&partition(0)) >= Some(Offset(10))
    })
    .await;
    drop(consumer);
    until("it leaves", || {
        node.member(0).unwrap().left_with == Some(-1)
    })
    .await;
    assert_eq!(node.committed(0), None);
    assert_eq!(told.said(), ["assigned orders-0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_may_say_where_to_begin_and_may_fail_first() {
    let node = FakeLog::start(14, TOPIC, 1).await;
    node.append(0, Codec::None, 100);
    let (mut consumer, told) = member(&node, None).await;
    let listener = Listener {
        told: told.clone(),
        start: Some(64),
        failures: 2,
    };
    consumer.set_rebalance_listener(listener);
    until("the member joins", || node.member(0).is_some()).await;
    node.target(0, &[0]);
    let mut failures = 0;
    let first = loop {
        match consumer.recv().await {
            Ok(record) => break record,
            Err(error) => {
                assert!(
                    error.is_retriable() && error.to_string().contains("store"),
                    "{error}"
                );
                failures += 1;
            }
        }
    };
    assert_eq!((failures, first.offset), (2, Offset(64)));
    assert_eq!(told.said(), ["assigned orders-0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_survive_a_coordinator_that_is_loading() {
    let node = FakeLog::start(15, TOPIC, 1).await;
    node.append(0, Codec::None, 100);
    let mut consumer = reader_with(&node, &[0], |config| {
        config.group_id = Some("g".to_owned());
        config.max_poll_records = 10;
    })
    .await;
    for n in 1..=10 {
        let records = consumer.poll(PATIENCE).await.unwrap();
        assert_eq!(records.len(), 10);
        consumer.commit_sync().await.unwrap();
        assert_eq!(node.committed(0), Some(n * 10));
    }
    let committed = consumer.committed(&[partition(0)]).await.unwrap();
    assert_eq!(committed[&partition(0)].offset, Offset(100));
}

#[tokio::test]
async fn what_needs_a_group_or_partitions_says_so() {
    let node = FakeLog::start(16, TOPIC, 1).await;
    let client = client(&node).await;
    let mut consumer = Consumer::new(&client, ConsumerConfig::standalone()).unwrap();
    let refused = consumer.subscribe([TOPIC]).unwrap_err();
    assert!(refused.to_string().contains("group_id"), "{refused}");
    let refused = consumer.poll(Duration::ZERO).await.unwrap_err();
    assert!(
        refused.to_string().contains("subscribe or assign"),
        "{refused}"
    );
    assert!(
        consumer
            .commit_sync()
            .await
            .unwrap_err()
            .to_string()
            .contains("group_id")
    );
    consumer
        .assign([TopicPartition::new("missing", 0)])
        .unwrap();
    assert!(
        consumer
            .poll(Duration::from_millis(200))
            .await
            .unwrap()
            .is_empty()
    );
    consumer.assign([partition(9)]).unwrap();
    let refused = consumer.poll(PATIENCE).await.unwrap_err();
    assert!(
        refused.to_string().contains("there is no partition 9"),
        "{refused}"
    );
}

/// Prints how fast records come out of the consumer; the node behind it only copies bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run with --release -- --ignored --nocapture"]
async fn throughput_of_one_consumer() {
    for codec in [Codec::None, Codec::Zstd, Codec::Lz4] {
        let node = FakeLog::start(17, TOPIC, 1).await;
        node.bypass_proxy();
        for _ in 0..4_000 {
            node.append_sized(0, codec, 100, 1_000);
        }
        let mut consumer = reader(&node, &[0]).await;
        let (mut records, mut bytes) = (0, 0);
        let started = Instant::now();
        while records < 400_000 {
            let polled = consumer.poll(PATIENCE).await.unwrap();
            records += polled.len();
            let sizes = polled
                .iter()
                .map(|(_, record)| record.value.as_deref().map_or(0, <[u8]>::len));
            bytes += sizes.sum::<usize>();
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{codec}: {:.2} M records/s, {:.2} GB/s of values",
            records as f64 / seconds / 1e6,
            bytes as f64 / seconds / 1e9,
        );
    }
}
