//! The producer against a node that goes wrong: whatever happens on the way, every record that is
//! reported as delivered is in the log once, at the offset reported, in the order sent.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_node;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conveyor_sdk::{
    Client, ClientConfig, Codec, DeliveryFuture, Error, Offset, Producer, ProducerConfig,
    ProducerRecord,
};
use fake_node::{FakeNode, Faults};

async fn client(node: &FakeNode) -> Client {
    let mut config = ClientConfig::new(node.address());
    config.retry_backoff_ms = 2;
    config.retry_backoff_max_ms = 20;
    config.request_timeout_ms = 2_000;
    Client::connect(config).await.unwrap()
}

fn small_batches() -> ProducerConfig {
    ProducerConfig {
        batch_size: 400,
        ..ProducerConfig::default()
    }
}

struct Sent {
    partition: i32,
    value: Vec<u8>,
    report: DeliveryFuture,
}

async fn send_numbered(producer: &Producer, count: usize) -> Vec<Sent> {
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let value = format!("record {number:06}").into_bytes();
        let mut record = ProducerRecord::new("orders").value(value.clone());
        if number % 3 > 0 {
            record = record.key(format!("key {}", number % 17));
        }
        let report = producer.send(record).await.unwrap();
        all.push(Sent {
            partition: report.partition(),
            value,
            report,
        });
        if number % 20 == 0 {
            tokio::task::yield_now().await;
        }
    }
    all
}

/// Waits for all reports; every record must be where its report says and nothing else in the log.
async fn check_delivered_once_in_order(node: &FakeNode, sent: Vec<Sent>) {
    let mut expected: BTreeMap<i32, Vec<Vec<u8>>> = BTreeMap::new();
    for record in sent {
        let delivery = record.report.await.expect("delivered");
        assert_eq!(delivery.partition, record.partition);
        let partition = expected.entry(record.partition).or_default();
        assert_eq!(
            delivery.offset,
            Offset(partition.len() as i64),
            "reported offset"
        );
        partition.push(record.value);
    }
    for (partition, values) in expected {
        assert_eq!(
            node.values("orders", partition),
            values,
            "partition {partition}"
        );
    }
}

#[tokio::test]
async fn errors_timeouts_and_throttling_leave_no_trace_in_the_log() {
    for seed in 0..6 {
        let node = FakeNode::start(seed, &[("orders", 3)]).await;
        node.set_faults(Faults {
            not_leader: 40,
            unclear: 40,
            throttled: 20,
            ..Faults::default()
        });
        let producer = Producer::new(&client(&node).await, small_batches()).unwrap();
        let sent = send_numbered(&producer, 1_500).await;
        check_delivered_once_in_order(&node, sent).await;
        assert!(producer.metrics().retries > 0);
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test]
async fn broken_streams_are_replaced_and_nothing_is_lost_or_doubled() {
    for seed in 0..6 {
        let node = FakeNode::start(seed, &[("orders", 3)]).await;
        node.set_faults(Faults {
            stream_breaks: 30,
            not_leader: 10,
            ..Faults::default()
        });
        let producer = Producer::new(&client(&node).await, small_batches()).unwrap();
        let sent = send_numbered(&producer, 1_500).await;
        check_delivered_once_in_order(&node, sent).await;
        assert!(producer.metrics().connection_failures > 0);
    }
}

#[tokio::test]
async fn cut_connections_are_made_again() {
    let node = FakeNode::start(7, &[("orders", 3)]).await;
    let producer = Producer::new(&client(&node).await, small_batches()).unwrap();
    let mut sent = Vec::new();
    for _ in 0..15 {
        sent.push(send_numbered(&producer, 200).await);
        node.cut_connections();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    producer.flush().await;
    let metrics = producer.metrics();
    assert_eq!(
        (metrics.records_delivered, metrics.records_failed),
        (3_000, 0)
    );
    assert!(metrics.connection_failures > 0);
    // Offsets over all rounds: the reports come in order of sending.
    let all = sent.into_iter().flatten().collect();
    check_delivered_once_in_order(&node, all).await;
}

#[tokio::test]
async fn a_broker_that_forgets_the_producer_is_met_with_a_new_epoch() {
    let node = FakeNode::start(3, &[("orders", 2)]).await;
    node.set_faults(Faults {
        memory_lost: 50,
        not_leader: 50,
        ..Faults::default()
    });
    let producer = Producer::new(&client(&node).await, small_batches()).unwrap();
    let sent = send_numbered(&producer, 1_000).await;
    check_delivered_once_in_order(&node, sent).await;
}

#[tokio::test]
async fn a_refused_record_fails_alone() {
    let node = FakeNode::start(1, &[("orders", 1)]).await;
    let config = ProducerConfig {
        compression: Codec::None,
        max_request_size: 4 << 20,
        ..small_batches()
    };
    let producer = Producer::new(&client(&node).await, config).unwrap();
    let mut reports = Vec::new();
    for number in 0..60 {
        // The node takes 1 MiB.
        let size = if number % 20 == 10 { 2 << 20 } else { 100 };
        let record = ProducerRecord::new("orders").value(vec![number; size]);
        reports.push(producer.send(record).await.unwrap());
    }
    for (number, report) in reports.into_iter().enumerate() {
        match report.await {
            Ok(_) => assert_ne!(number % 20, 10),
            Err(error) => {
                assert_eq!(number % 20, 10, "{error}");
                assert!(error.to_string().contains("MESSAGE_TOO_LARGE"), "{error}");
                assert!(!error.is_retriable());
            }
        }
    }
    let values = node.values("orders", 0);
    let numbers: Vec<u8> = values.iter().map(|value| value[0]).collect();
    let expected: Vec<u8> = (0..60).filter(|number| number % 20 != 10).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn a_record_that_cannot_be_delivered_is_reported_in_time_and_the_next_one_goes() {
    let node = FakeNode::start(1, &[("orders", 1)]).await;
    let config = ProducerConfig {
        delivery_timeout_ms: 300,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client(&node).await, config).unwrap();
    node.set_silent(true);
    let started = Instant::now();
    let first = producer
        .send(ProducerRecord::new("orders").value("late"))
        .await
        .unwrap();
    let error = first.await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { after_ms: 300, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("orders-0"), "{error}");
    assert!(error.is_retriable());
    let took = started.elapsed();
    assert!((300..900).contains(&took.as_millis()), "{took:?}");

    node.set_silent(false);
    let next = producer
        .send(ProducerRecord::new("orders").value("next"))
        .await
        .unwrap();
    next.await.unwrap();
    // The first one arrived after all: in its place, once.
    assert_eq!(
        node.values("orders", 0),
        [b"late".to_vec(), b"next".to_vec()]
    );
}

#[tokio::test]
async fn a_silent_node_is_asked_again_on_a_new_connection() {
    let node = FakeNode::start(1, &[("orders", 1)]).await;
    let mut config = ClientConfig::new(node.address());
    config.request_timeout_ms = 200;
    let client = Client::connect(config).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    node.set_silent(true);
    let report = producer
        .send(ProducerRecord::new("orders").value("x"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(report.try_get().is_none());
    node.set_silent(false);
    assert_eq!(report.await.unwrap().offset, Offset(0));
    assert_eq!(node.values("orders", 0).len(), 1);
    assert!(producer.metrics().connection_failures > 0);
}

/// A frozen leader keeps its connection: only the others can tell that it leads no more.
#[tokio::test]
async fn a_silent_leader_is_left_when_another_leads() {
    let (first, second) = (
        FakeNode::start(1, &[("orders", 1)]).await,
        FakeNode::start(2, &[("orders", 1)]).await,
    );
    // With the default time-outs, which are longer than this test may take.
    let config = ClientConfig::new(first.address());
    let client = Client::connect(config).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    let before = producer.send(ProducerRecord::new("orders").value("a"));
    before.await.unwrap().await.unwrap();
    first.set_silent(true);
    let waiting = producer.send(ProducerRecord::new("orders").value("b"));
    let waiting = waiting.await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.lead_instead(&second);
    let delivered = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    delivered.expect("the successor was found").unwrap();
    assert!(second.values("orders", 0).contains(&b"b".to_vec()));
}

#[tokio::test]
async fn a_window_smaller_than_a_batch_still_lets_one_through() {
    let node = FakeNode::start_with(1, &[("orders", 3)], 100).await;
    let producer = Producer::new(&client(&node).await, small_batches()).unwrap();
    let sent = send_numbered(&producer, 300).await;
    check_delivered_once_in_order(&node, sent).await;
}

#[tokio::test]
async fn send_waits_for_memory_and_try_send_says_so() {
    let node = FakeNode::start(1, &[("orders", 1)]).await;
    let config = ProducerConfig {
        buffer_memory: 2_000,
        max_request_size: 2_000,
        max_block_ms: 100,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client(&node).await, config).unwrap();
    let record = || ProducerRecord::new("orders").value(vec![0; 400]);
    producer.send(record()).await.unwrap().await.unwrap();
    node.set_silent(true);
    let mut taken = Vec::new();
    let refused = loop {
        match producer.try_send(record()) {
            Ok(report) => taken.push(report),
            Err(refused) => break refused,
        }
    };
    assert_eq!(taken.len(), 4);
    assert!(
        matches!(refused.error, Error::BufferFull { limit: 2_000 }),
        "{refused}"
    );
    let waited = producer.send(*refused.record).await.unwrap_err();
    assert!(
        matches!(waited, Error::Timeout { after_ms: 100, .. }),
        "{waited}"
    );
    node.set_silent(false);
    producer.send(record()).await.unwrap().await.unwrap();
    for report in taken {
        report.await.unwrap();
    }
}

#[tokio::test]
async fn unknown_topics_partitions_and_oversize_records_are_refused_by_name() {
    let node = FakeNode::start(1, &[("orders", 2)]).await;
    let producer = Producer::new(&client(&node).await, ProducerConfig::default()).unwrap();
    let refused = |record| async { producer.send(record).await.unwrap_err().to_string() };
    let error = refused(ProducerRecord::new("no-such-topic").value("x")).await;
    assert!(
        error.contains("no-such-topic: UNKNOWN_TOPIC_OR_PARTITION"),
        "{error}"
    );
    let error = refused(ProducerRecord::new("orders").partition(2)).await;
    assert_eq!(
        error,
        "topic orders has 2 partitions, there is no partition 2"
    );
    let error = refused(ProducerRecord::new("orders").value(vec![0; 2 << 20])).await;
    assert!(error.contains("max_request_size = 1048576"), "{error}");
}

#[tokio::test]
async fn close_delivers_what_was_sent_and_then_refuses() {
    let node = FakeNode::start(1, &[("orders", 3)]).await;
    let config = ProducerConfig {
        linger_ms: 60_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client(&node).await, config).unwrap();
    let sent = send_numbered(&producer, 100).await;
    producer.close(Duration::from_secs(5)).await.unwrap();
    check_delivered_once_in_order(&node, sent).await;
    let error = producer
        .send(ProducerRecord::new("orders"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn close_gives_up_after_its_timeout_and_reports_every_record() {
    let node = FakeNode::start(1, &[("orders", 1)]).await;
    let producer = Producer::new(&client(&node).await, ProducerConfig::default()).unwrap();
    node.set_silent(true);
    let report = producer
        .send(ProducerRecord::new("orders").value("x"))
        .await
        .unwrap();
    let error = producer
        .close(Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(matches!(report.await, Err(Error::Closed { .. })));
}

#[tokio::test]
async fn a_dropped_producer_still_delivers() {
    let node = FakeNode::start(1, &[("orders", 3)]).await;
    let config = ProducerConfig {
        linger_ms: 60_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client(&node).await, config).unwrap();
    let sent = send_numbered(&producer, 50).await;
    drop(producer);
    check_delivered_once_in_order(&node, sent).await;
}

#[tokio::test]
async fn batches_fill_up_while_others_are_on_their_way() {
    let node = FakeNode::start(1, &[("orders", 1)]).await;
    let producer = Producer::new(&client(&node).await, ProducerConfig::default()).unwrap();
    let sent = send_numbered(&producer, 5_000).await;
    check_delivered_once_in_order(&node, sent).await;
    assert!(
        node.batches() < 1_000,
        "{} batches for 5,000 records",
        node.batches()
    );
}
