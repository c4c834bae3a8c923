//! Transactions of the producer against a real node in this process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{
    AdminClient, Client, ClientConfig, Consumer, ConsumerConfig, ConsumerGroupMetadata, Error,
    IsolationLevel, OffsetAndMetadata, OffsetReset, Producer, ProducerConfig, ProducerRecord,
    TopicPartition, TransactionFault,
};
use conveyor_server::{Broker, BrokerConfig};

const LIMIT: Duration = Duration::from_secs(30);

struct Node {
    broker: Broker,
    client: Client,
    _dir: tempfile::TempDir,
}

async fn node(topics: &[&str]) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let pairs = [
        ("log.dirs", dir.path().to_str().unwrap()),
        ("node.id", "1"),
        ("listeners", ""),
        ("listeners.grpc", "127.0.0.1:0"),
        ("listeners.admin", ""),
        ("transaction.state.log.num.partitions", "3"),
        ("offsets.topic.num.partitions", "3"),
        (
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "50",
        ),
    ];
    let config = BrokerConfig::from_pairs(pairs).unwrap();
    let broker = Broker::start(config).await.unwrap();
    let address = broker.grpc_address().to_string();
    let client = Client::connect(ClientConfig::new(address)).await.unwrap();
    let admin = AdminClient::new(&client);
    for topic in topics {
        let topic = NewTopic::new(*topic).partitions(3);
        admin.create_topic(topic).await.unwrap();
    }
    Node {
        broker,
        client,
        _dir: dir,
    }
}

fn config(id: &str) -> ProducerConfig {
    ProducerConfig {
        transactional_id: Some(id.to_owned()),
        ..ProducerConfig::default()
    }
}

async fn producer(client: &Client, config: ProducerConfig) -> Producer {
    let producer = Producer::new(client, config).unwrap();
    producer.init_transactions().await.unwrap();
    producer
}

/// Sends one value to each partition of a topic.
async fn send(producer: &Producer, topic: &str, value: &str) {
    for partition in 0..3 {
        let record = ProducerRecord::new(topic)
            .partition(partition)
            .value(value.to_owned());
        drop(producer.send(record).await.unwrap());
    }
}

fn fault<T: std::fmt::Debug>(outcome: Result<T, Error>) -> TransactionFault {
    let error = outcome.unwrap_err();
    error
        .transaction_fault()
        .unwrap_or_else(|| panic!("{error}"))
}

/// What a new reader finds up to the end as it sees it, by partition.
async fn read(client: &Client, topic: &str, level: IsolationLevel) -> BTreeMap<i32, Vec<String>> {
    let mut config = ConsumerConfig::standalone();
    config.isolation_level = level;
    config.auto_offset_reset = OffsetReset::Earliest;
    let mut consumer = Consumer::new(client, config).unwrap();
    let partitions: Vec<_> = (0..3).map(|p| TopicPartition::new(topic, p)).collect();
    consumer.assign(partitions.clone()).unwrap();
    let ends = consumer.end_offsets(&partitions).await.unwrap();
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let deadline = Instant::now() + LIMIT;
    loop {
        let reached = ends
            .iter()
            .all(|(partition, end)| end.value() == 0 || consumer.position(partition) >= Some(*end));
        if reached {
            return values;
        }
        assert!(Instant::now() < deadline, "the end {ends:?} is not reached");
        let records = consumer.poll(Duration::from_millis(100)).await.unwrap();
        for (partition, record) in records.iter() {
            let value = String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
            values.entry(partition.partition).or_default().push(value);
        }
    }
}

async fn committed(client: &Client, topic: &str, expected: &[&str]) {
    // Markers are written soon after the commit is answered.
    let deadline = Instant::now() + LIMIT;
    let wanted: BTreeMap<i32, Vec<String>> = (0..3)
        .map(|p| (p, expected.iter().map(ToString::to_string).collect()))
        .filter(|(_, values): &(i32, Vec<String>)| !values.is_empty())
        .collect();
    loop {
        let found = read(client, topic, IsolationLevel::ReadCommitted).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn committed_records_are_read_together_and_aborted_ones_never() {
    let node = node(&["orders", "waves"]).await;
    let producer = producer(&node.client, config("loader")).await;
    for (value, commit) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        producer.begin_transaction().unwrap();
        send(&producer, "orders", value).await;
        producer.flush().await;
        send(&producer, "waves", value).await;
        if commit {
            producer.commit_transaction().await.unwrap();
        } else {
            producer.abort_transaction().await.unwrap();
        }
    }
    // One that is open is not seen, nor what lies behind it.
    producer.begin_transaction().unwrap();
    send(&producer, "orders", "e").await;
    producer.flush().await;
    committed(&node.client, "orders", &["a", "c"]).await;
    committed(&node.client, "waves", &["a", "c"]).await;
    let all = read(&node.client, "orders", IsolationLevel::ReadUncommitted).await;
    assert!(all.values().all(|values| values.contains(&"b".to_owned())));
    assert!(all.values().all(|values| values.contains(&"e".to_owned())));
    producer.close(LIMIT).await.unwrap();
    // The close has aborted it.
    let last = self::producer(&node.client, config("loader")).await;
    last.begin_transaction().unwrap();
    send(&last, "orders", "f").await;
    last.commit_transaction().await.unwrap();
    committed(&node.client, "orders", &["a", "c", "f"]).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_second_producer_with_the_same_id_fences_the_first() {
    let node = node(&["orders"]).await;
    let first = producer(&node.client, config("loader")).await;
    first.begin_transaction().unwrap();
    send(&first, "orders", "ghost").await;
    first.flush().await;
    let second = producer(&node.client, config("loader")).await;
    assert_eq!(
        fault(first.commit_transaction().await),
        TransactionFault::Fenced
    );
    assert_eq!(fault(first.begin_transaction()), TransactionFault::Fenced);
    second.begin_transaction().unwrap();
    send(&second, "orders", "real").await;
    second.commit_transaction().await.unwrap();
    committed(&node.client, "orders", &["real"]).await;
    // The next one is fenced by its records.
    second.begin_transaction().unwrap();
    let _third = producer(&node.client, config("loader")).await;
    send(&second, "orders", "ghost").await;
    assert_eq!(
        fault(second.commit_transaction().await),
        TransactionFault::Fenced
    );
    committed(&node.client, "orders", &["real"]).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_told() {
    let node = node(&["orders"]).await;
    let hasty = ProducerConfig {
        transaction_timeout_ms: 200,
        ..config("loader")
    };
    let slow = producer(&node.client, hasty).await;
    slow.begin_transaction().unwrap();
    send(&slow, "orders", "late").await;
    slow.flush().await;
    // Readers get on without it.
    let open = read(&node.client, "orders", IsolationLevel::ReadUncommitted).await;
    assert_eq!(open.len(), 3);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(
        fault(slow.commit_transaction().await),
        TransactionFault::TimedOut
    );
    let next = producer(&node.client, config("loader")).await;
    next.begin_transaction().unwrap();
    send(&next, "orders", "in time").await;
    next.commit_transaction().await.unwrap();
    committed(&node.client, "orders", &["in time"]).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn calls_that_do_not_fit_are_refused_by_name() {
    let node = node(&["orders"]).await;
    let record = || ProducerRecord::new("orders").value("v");
    let plain = Producer::new(&node.client, ProducerConfig::default()).unwrap();
    assert_eq!(fault(plain.begin_transaction()), TransactionFault::Misuse);
    let fresh = Producer::new(&node.client, config("loader")).unwrap();
    assert_eq!(fault(fresh.begin_transaction()), TransactionFault::Misuse);
    fresh.init_transactions().await.unwrap();
    assert_eq!(
        fault(fresh.init_transactions().await),
        TransactionFault::Misuse
    );
    assert_eq!(fault(fresh.send(record()).await), TransactionFault::Misuse);
    assert_eq!(
        fault(fresh.commit_transaction().await),
        TransactionFault::Misuse
    );
    fresh.begin_transaction().unwrap();
    fresh.commit_transaction().await.unwrap();
    let long = ProducerConfig {
        transaction_timeout_ms: 86_400_000,
        ..config("loader")
    };
    let long = Producer::new(&node.client, long).unwrap();
    let refused = long.init_transactions().await.unwrap_err();
    assert_eq!(refused.transaction_fault(), Some(TransactionFault::Fatal));
    assert!(
        refused.to_string().contains("transaction.max.timeout.ms"),
        "{refused}"
    );
    node.broker.shutdown().await.unwrap();
}

/// After a transaction that came to nothing the producer goes on, and readers see the next one alone.
async fn only_the_next_is_kept(node: &Node, producer: &Producer) {
    producer.begin_transaction().unwrap();
    send(producer, "orders", "kept").await;
    producer.commit_transaction().await.unwrap();
    committed(&node.client, "orders", &["kept"]).await;
}

#[tokio::test]
async fn a_record_that_is_refused_spoils_its_transaction_and_no_other() {
    let node = node(&["orders"]).await;
    let admin = AdminClient::new(&node.client);
    let small = NewTopic::new("small")
        .partitions(3)
        .config("max.message.bytes", "1000");
    admin.create_topic(small).await.unwrap();
    let producer = producer(&node.client, config("loader")).await;
    producer.begin_transaction().unwrap();
    send(&producer, "orders", "lost").await;
    // Incompressible enough.
    let large: Vec<u8> = (0..20_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let report = producer
        .send(ProducerRecord::new("small").value(large))
        .await
        .unwrap();
    assert_eq!(
        fault(producer.commit_transaction().await),
        TransactionFault::Abortable
    );
    assert!(report.await.is_err());
    let record = ProducerRecord::new("orders").value("v");
    assert_eq!(
        fault(producer.send(record).await),
        TransactionFault::Abortable
    );
    assert_eq!(
        fault(producer.commit_transaction().await),
        TransactionFault::Abortable
    );
    producer.abort_transaction().await.unwrap();
    only_the_next_is_kept(&node, &producer).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_abort_gives_up_what_is_on_its_way_and_nothing_of_it_arrives_later() {
    let node = node(&["orders"]).await;
    let producer = producer(&node.client, config("loader")).await;
    for round in 0..20 {
        producer.begin_transaction().unwrap();
        for _ in 0..30 {
            send(&producer, "orders", "aborted").await;
        }
        // At another moment of the way each time.
        tokio::time::sleep(Duration::from_micros(round * 300)).await;
        producer.abort_transaction().await.unwrap();
    }
    only_the_next_is_kept(&node, &producer).await;
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn offsets_count_with_their_transaction_and_not_before() {
    let node = node(&["orders"]).await;
    let producer = producer(&node.client, config("loader")).await;
    let group = ConsumerGroupMetadata::for_group("totals");
    let place = TopicPartition::new("orders", 0);
    let admin = AdminClient::new(&node.client);
    let offset = async || {
        let asked = [place.clone()];
        let found = admin.group_offsets("totals", &asked).await.unwrap();
        found
            .into_iter()
            .next()
            .map(|(_, found)| found.unwrap().offset.value())
    };
    let to = |offset: i64| [(place.clone(), OffsetAndMetadata::new(offset))];
    producer.begin_transaction().unwrap();
    producer
        .send_offsets_to_transaction(to(7), &group)
        .await
        .unwrap();
    assert_eq!(offset().await, None);
    // Who wants stable offsets waits for the end of the transaction.
    let mut wants = ConsumerConfig::for_group("totals");
    wants.isolation_level = IsolationLevel::ReadCommitted;
    let reader = Consumer::new(&node.client, wants).unwrap();
    let asked = [place.clone()];
    let waiting = tokio::time::timeout(Duration::from_millis(300), reader.committed(&asked));
    assert!(waiting.await.is_err(), "an unstable offset was told");
    producer.commit_transaction().await.unwrap();
    let told = tokio::time::timeout(LIMIT, reader.committed(&asked))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(told[&place].offset.value(), 7);
    producer.begin_transaction().unwrap();
    producer
        .send_offsets_to_transaction(to(9), &group)
        .await
        .unwrap();
    producer.abort_transaction().await.unwrap();
    let told = tokio::time::timeout(LIMIT, reader.committed(&asked))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(told[&place].offset.value(), 7);
    assert_eq!(offset().await, Some(7));
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_member_that_its_group_has_dropped_commits_nothing() {
    let node = node(&["orders"]).await;
    let loader = producer(&node.client, config("loader")).await;
    loader.begin_transaction().unwrap();
    send(&loader, "orders", "v").await;
    loader.commit_transaction().await.unwrap();
    let mut consumer = consumer(&node.client);
    let group = consumer.group_metadata().unwrap();
    let records = until_records(&mut consumer).await;
    let offsets = records.next_offsets();
    consumer.unsubscribe().await.unwrap();
    let producer = producer(&node.client, config("totals")).await;
    producer.begin_transaction().unwrap();
    let outcome = producer.send_offsets_to_transaction(offsets, &group).await;
    assert_eq!(fault(outcome), TransactionFault::Abortable);
    assert_eq!(
        fault(producer.commit_transaction().await),
        TransactionFault::Abortable
    );
    producer.abort_transaction().await.unwrap();
    node.broker.shutdown().await.unwrap();
}

fn consumer(client: &Client) -> Consumer {
    let mut config = ConsumerConfig::for_group("totals");
    config.isolation_level = IsolationLevel::ReadCommitted;
    config.auto_offset_reset = OffsetReset::Earliest;
    config.enable_auto_commit = false;
    config.max_poll_records = 7;
    let mut consumer = Consumer::new(client, config).unwrap();
    consumer.subscribe(["orders"]).unwrap();
    consumer
}

async fn until_records(consumer: &mut Consumer) -> conveyor_sdk::ConsumerRecords {
    let deadline = Instant::now() + LIMIT;
    loop {
        let records = consumer.poll(Duration::from_millis(200)).await.unwrap();
        if !records.is_empty() {
            return records;
        }
        assert!(Instant::now() < deadline, "no records come");
    }
}

#[tokio::test]
async fn consume_transform_produce_is_exactly_once_over_broken_off_rounds() {
    const VALUES: usize = 60;
    let node = node(&["orders", "totals"]).await;
    let loader = producer(&node.client, config("loader")).await;
    loader.begin_transaction().unwrap();
    for value in 0..VALUES {
        send(&loader, "orders", &format!("v{value:03}")).await;
    }
    loader.commit_transaction().await.unwrap();
    let mut done = 0;
    let mut round = 0;
    while done < VALUES * 3 {
        // Every other round is broken off without a word, at another place each time.
        let producer = producer(&node.client, config("totals")).await;
        let mut consumer = consumer(&node.client);
        let group = consumer.group_metadata().unwrap();
        for batch in 0..4 {
            if done == VALUES * 3 {
                break;
            }
            let records = until_records(&mut consumer).await;
            producer.begin_transaction().unwrap();
            for (partition, record) in records.iter() {
                let total = ProducerRecord::new("totals")
                    .partition(partition.partition)
                    .value(record.value.clone().unwrap());
                drop(producer.send(total).await.unwrap());
            }
            let is_broken_off = round % 2 == 0 && batch == round / 2 % 4;
            if is_broken_off && round % 4 == 0 {
                producer.flush().await;
                break;
            }
            let next = records.next_offsets();
            producer
                .send_offsets_to_transaction(next, &group)
                .await
                .unwrap();
            if is_broken_off {
                break;
            }
            if round % 3 == 2 && batch == 1 {
                producer.abort_transaction().await.unwrap();
                consumer.seek_to_committed();
                continue;
            }
            producer.commit_transaction().await.unwrap();
            done += records.len();
        }
        drop(producer);
        consumer.close().await.unwrap();
        round += 1;
        assert!(round < 200, "only {done} records are done");
    }
    let expected: Vec<String> = (0..VALUES).map(|value| format!("v{value:03}")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    committed(&node.client, "totals", &expected).await;
    node.broker.shutdown().await.unwrap();
}
