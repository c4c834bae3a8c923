//! Producer and admin client against a real node in this process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use conveyor_sdk::admin::{ConfigAlteration, ConfigResource, ConfigSource, NewTopic, OffsetSpec};
use conveyor_sdk::{
    Acks, AdminClient, Client, ClientConfig, Codec, Error, IsolationLevel, Offset, Producer,
    ProducerConfig, ProducerRecord, TopicPartition,
};
use conveyor_server::{Broker, BrokerConfig};

struct Node {
    broker: Broker,
    client: Client,
    admin: AdminClient,
    _dir: tempfile::TempDir,
}

async fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let client = connect(&broker).await;
    let admin = AdminClient::new(&client);
    Node {
        broker,
        client,
        admin,
        _dir: dir,
    }
}

async fn start(dir: &std::path::Path) -> Broker {
    start_at(dir, "127.0.0.1:0").await
}

async fn start_at(dir: &std::path::Path, address: &str) -> Broker {
    let pairs = [
        ("log.dirs", dir.to_str().unwrap()),
        ("node.id", "1"),
        ("listeners", ""),
        ("listeners.grpc", address),
        ("listeners.admin", ""),
        ("log.segment.bytes", "4194304"),
    ];
    Broker::start(BrokerConfig::from_pairs(pairs).unwrap())
        .await
        .unwrap()
}

async fn connect(broker: &Broker) -> Client {
    Client::connect(ClientConfig::new(broker.grpc_address().to_string()))
        .await
        .unwrap()
}

async fn records_in_log(admin: &AdminClient) -> i64 {
    let logs = admin.describe_logs(&["orders"]).await.unwrap();
    logs.iter().map(|log| log.log_end_offset.value()).sum()
}

#[tokio::test]
async fn every_codec_and_ack_level_is_taken_and_counted() {
    let node = node().await;
    node.admin
        .create_topic(NewTopic::new("orders").partitions(3))
        .await
        .unwrap();
    let mut sent = 0;
    for codec in Codec::ALL {
        for acks in [Acks::All, Acks::Leader, Acks::None] {
            let config = ProducerConfig {
                compression: codec,
                acks,
                ..ProducerConfig::default()
            };
            let producer = Producer::new(&node.client, config).unwrap();
            let mut reports = Vec::new();
            for number in 0..200 {
                let record = ProducerRecord::new("orders")
                    .key(format!("order-{number}"))
                    .value(vec![b'x'; 300])
                    .header("codec", codec.name());
                reports.push(producer.send(record).await.unwrap());
                sent += 1;
            }
            for report in reports {
                report.await.unwrap();
            }
            producer.close(Duration::from_secs(10)).await.unwrap();
        }
    }
    // Records sent without acknowledgement may still be on their way to the log.
    let deadline = Instant::now() + Duration::from_secs(5);
    while records_in_log(&node.admin).await < sent && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(records_in_log(&node.admin).await, sent);
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn offsets_are_reported_in_order_and_found_by_time() {
    let node = node().await;
    node.admin
        .create_topic(NewTopic::new("orders").partitions(1))
        .await
        .unwrap();
    let producer = Producer::new(&node.client, ProducerConfig::default()).unwrap();
    let mut reports = Vec::new();
    for number in 0..1_000i64 {
        let record = ProducerRecord::new("orders")
            .value("v")
            .timestamp_ms(1_000_000 + number);
        reports.push(producer.send(record).await.unwrap());
    }
    for (number, report) in reports.into_iter().enumerate() {
        let delivery = report.await.unwrap();
        assert_eq!(delivery.offset, Offset(number as i64));
        assert_eq!(delivery.timestamp_ms, 1_000_000 + number as i64);
    }
    let partition = TopicPartition::new("orders", 0);
    for (spec, expected) in [
        (OffsetSpec::Earliest, Some(0)),
        (OffsetSpec::Latest, Some(1_000)),
        (OffsetSpec::MaxTimestamp, Some(999)),
        (OffsetSpec::ForTimestamp(1_000_500), Some(500)),
        (OffsetSpec::ForTimestamp(2_000_000), None),
    ] {
        let asked = [(partition.clone(), spec)];
        let listed = node
            .admin
            .list_offsets(&asked, IsolationLevel::ReadUncommitted)
            .await
            .unwrap();
        let offset = listed.into_iter().next().unwrap().1.unwrap().offset;
        assert_eq!(offset.map(Offset::value), expected, "{spec:?}");
    }

    let before = [
        (partition.clone(), Offset(400)),
        (TopicPartition::new("orders", 7), Offset(1)),
    ];
    for (asked, answer) in node.admin.delete_records(&before).await.unwrap() {
        match asked.partition {
            0 => assert_eq!(answer.unwrap(), Offset(400)),
            _ => assert!(matches!(
                answer,
                Err(Error::UnknownPartition { count: 1, .. })
            )),
        }
    }
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn topics_and_settings_can_be_created_changed_and_deleted() {
    let node = node().await;
    let admin = &node.admin;
    let topic = NewTopic::new("waves")
        .partitions(4)
        .config("retention.ms", "60000");
    let checked = admin
        .create_topics(std::slice::from_ref(&topic), true)
        .await
        .unwrap();
    assert!(checked[0].1.is_ok());
    assert!(admin.list_topics(false).await.unwrap().is_empty());
    let created = admin.create_topic(topic.clone()).await.unwrap();
    assert_eq!((created.partitions, created.replication_factor), (4, 1));
    let again = admin.create_topic(topic).await.unwrap_err();
    assert!(
        again.to_string().contains("TOPIC_ALREADY_EXISTS"),
        "{again}"
    );

    let described = admin.describe_topic("waves").await.unwrap();
    assert_eq!(described.topic_id, created.topic_id);
    assert_eq!(described.partitions.len(), 4);

    let resource = ConfigResource::Topic("waves".to_owned());
    let entries = admin
        .describe_configs(&resource, &["retention.ms"])
        .await
        .unwrap();
    assert_eq!(
        (entries[0].value.as_str(), entries[0].source),
        ("60000", ConfigSource::Topic)
    );
    let alter = [ConfigAlteration::Delete("retention.ms".to_owned())];
    admin.alter_configs(&resource, &alter, false).await.unwrap();
    let entries = admin
        .describe_configs(&resource, &["retention.ms"])
        .await
        .unwrap();
    assert_ne!(entries[0].source, ConfigSource::Topic);
    let wrong = [ConfigAlteration::Set(
        "retention.ms".to_owned(),
        "soon".to_owned(),
    )];
    let error = admin
        .alter_configs(&resource, &wrong, false)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("topic waves: INVALID_CONFIG"),
        "{error}"
    );

    admin
        .create_partitions("waves", 6, false, false)
        .await
        .unwrap();
    assert_eq!(
        admin
            .describe_topic("waves")
            .await
            .unwrap()
            .partitions
            .len(),
        6
    );

    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.nodes.len(), 1);
    assert!(!cluster.cluster_id.is_empty());

    admin.delete_topic("waves").await.unwrap();
    let gone = admin.delete_topic("waves").await.unwrap_err();
    assert!(
        gone.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{gone}"
    );
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_topic_limit_is_reported_for_the_record_that_breaks_it() {
    let node = node().await;
    let topic = NewTopic::new("small")
        .partitions(1)
        .config("max.message.bytes", "2000");
    node.admin.create_topic(topic).await.unwrap();
    let config = ProducerConfig {
        compression: Codec::None,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&node.client, config).unwrap();
    let send = |size| producer.send(ProducerRecord::new("small").value(vec![1; size]));
    send(100).await.unwrap().await.unwrap();
    let error = send(5_000).await.unwrap().await.unwrap_err();
    assert!(
        error.to_string().contains("small-0: MESSAGE_TOO_LARGE"),
        "{error}"
    );
    assert_eq!(send(100).await.unwrap().await.unwrap().offset, Offset(1));
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn refused_records_among_others_cost_no_other_record() {
    let node = node().await;
    let topic = NewTopic::new("orders")
        .partitions(1)
        .config("max.message.bytes", "2000");
    node.admin.create_topic(topic).await.unwrap();
    let config = ProducerConfig {
        compression: Codec::None,
        batch_size: 1_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&node.client, config).unwrap();
    let mut reports = Vec::new();
    for number in 0..300 {
        let size = if number % 30 == 15 { 5_000 } else { 300 };
        let record = ProducerRecord::new("orders").value(vec![7; size]);
        reports.push(producer.send(record).await.unwrap());
    }
    let mut next = Offset(0);
    for (number, report) in reports.into_iter().enumerate() {
        match report.await {
            Ok(delivery) => {
                assert_eq!(delivery.offset, next, "record {number}");
                next = next.next();
            }
            Err(error) => assert_eq!(number % 30, 15, "{error}"),
        }
    }
    assert_eq!(
        (next, records_in_log(&node.admin).await),
        (Offset(290), 290)
    );
    node.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_of_the_node_is_survived_without_loss_or_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let address = broker.grpc_address().to_string();
    let client = connect(&broker).await;
    AdminClient::new(&client)
        .create_topic(NewTopic::new("orders").partitions(2))
        .await
        .unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    let sending = tokio::spawn(async move {
        let mut reports = Vec::new();
        for number in 0..3_000 {
            let record = ProducerRecord::new("orders")
                .key(format!("{}", number % 50))
                .value("v");
            reports.push(producer.send(record).await.unwrap());
            if number % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let mut offsets = std::collections::BTreeSet::new();
        for report in reports {
            let delivery = report.await.unwrap();
            assert!(
                offsets.insert((delivery.partition, delivery.offset)),
                "an offset twice"
            );
        }
        offsets
    });
    tokio::time::sleep(Duration::from_millis(120)).await;
    broker.shutdown().await.unwrap();
    let broker = start_at(dir.path(), &address).await;
    let offsets = sending.await.unwrap();
    assert_eq!(offsets.len(), 3_000);
    assert_eq!(records_in_log(&AdminClient::new(&client)).await, 3_000);
    broker.shutdown().await.unwrap();
}
