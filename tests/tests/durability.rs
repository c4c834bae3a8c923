//! What was acknowledged survives: SIGKILL, clean restarts, and (as root) power cuts.

#![allow(clippy::print_stdout, reason = "a run says how much it has proved")]

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use conveyor_tests::history::{Outcome, check};
use conveyor_tests::load::Load;
use conveyor_tests::node::Node;
use conveyor_tests::volume::Volume;

const TOPIC: &str = "durability";
const PARTITIONS: i32 = 4;
const PRODUCERS: u32 = 6;
/// Small segments, so that rolls happen under the faults too.
const SETTINGS: &[(&str, &str)] = &[
    ("log.segment.bytes", "1048576"),
    ("conveyor.segment.pool.bytes", "1048576"),
];

/// Checks the run and prints how much it has proved.
async fn conclude(load: Load, node: &Node, name: &str) -> Result<()> {
    let (history, log) = load.finish().await?;
    let violations = check(&history, &log);
    assert!(
        violations.is_empty(),
        "{name}: {:?}\n{}",
        &violations[..violations.len().min(10)],
        node.log_text()
    );
    let acknowledged = history
        .sent
        .iter()
        .filter(|sent| matches!(sent.outcome, Outcome::Acknowledged { .. }));
    let acknowledged = acknowledged.count();
    println!(
        "{name}: {} sent, {acknowledged} acknowledged, {} seen while running",
        history.sent.len(),
        history.seen.len()
    );
    // A run in which nothing happened proves nothing; and with retries every send must end well.
    assert!(
        acknowledged > 1_000,
        "only {acknowledged} records were acknowledged"
    );
    assert_eq!(
        acknowledged,
        history.sent.len(),
        "the producers' retries outlast every fault"
    );
    assert!(!history.seen.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_sigkill_once_and_in_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::start(folder.path(), SETTINGS)?;
    let load = Load::start(&node.address(), TOPIC, PARTITIONS, PRODUCERS).await?;
    for round in 0..12_u64 {
        load.progress(300).await?;
        // At another moment of the write, sync, acknowledge cycle each time.
        tokio::time::sleep(Duration::from_micros(round * 137)).await;
        node.kill()?;
        node.restart()?;
    }
    load.progress(300).await?;
    conclude(load, &node, "SIGKILL").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_restarts_lose_and_double_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::start(folder.path(), SETTINGS)?;
    let load = Load::start(&node.address(), TOPIC, PARTITIONS, PRODUCERS).await?;
    for _ in 0..5 {
        load.progress(300).await?;
        node.stop()?;
        node.restart()?;
    }
    load.progress(300).await?;
    conclude(load, &node, "SIGTERM").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root to mount: `make power-cut` runs it"]
async fn acknowledged_records_survive_power_cuts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut volume = Volume::create(folder.path(), 512)?;
    let data = format!("[\"{}\"]", volume.path().join("data").display());
    let settings = [SETTINGS, &[("log.dirs", data.as_str())]].concat();
    let mut node = Node::start(&folder.path().join("node"), &settings)?;
    let load = Load::start(&node.address(), TOPIC, PARTITIONS, PRODUCERS).await?;
    for round in 0..15_u64 {
        load.progress(200).await?;
        tokio::time::sleep(Duration::from_micros(round * 211)).await;
        // The processors stop with the disk: a sync that is under way while the file system is shut
        // down may return success (jbd2 does not look at the abort for a transaction it no longer
        // knows), and nobody must be told of that.
        node.freeze()?;
        volume.cut_power()?;
        node.kill()?;
        volume.power_on()?;
        node.restart()?;
    }
    load.progress(200).await?;
    conclude(load, &node, "power cut").await
}

/// A node whose disk is full: `tmpfs` needs root too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root to mount: `make power-cut` runs it"]
async fn a_full_disk_refuses_writes_and_serves_reads() -> Result<()> {
    full_disk(tempfile::tempdir()?.path()).await
}

async fn full_disk(folder: &Path) -> Result<()> {
    use conveyor_sdk::admin::NewTopic;
    use conveyor_sdk::{
        AdminClient, Client, ClientConfig, Codec, Producer, ProducerConfig, ProducerRecord,
    };

    let volume = Volume::create(folder, 32)?;
    let data = format!("[\"{}\"]", volume.path().join("data").display());
    let settings = [SETTINGS, &[("log.dirs", data.as_str())]].concat();
    let node = Node::start(&folder.join("node"), &settings)?;
    let client = Client::connect(ClientConfig::new(node.address())).await?;
    AdminClient::new(&client)
        .create_topic(NewTopic::new(TOPIC).partitions(1))
        .await?;
    let config = ProducerConfig {
        compression: Codec::None,
        delivery_timeout_ms: 3_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client, config)?;
    let mut acknowledged = 0_u64;
    let error = loop {
        let mut value = acknowledged.to_be_bytes().to_vec();
        value.resize(64 << 10, b'x');
        match producer
            .send(ProducerRecord::new(TOPIC).value(value))
            .await?
            .await
        {
            Ok(delivery) => assert_eq!(delivery.offset.value(), acknowledged as i64),
            Err(error) => break error,
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "32 MiB never fill");
    };
    println!("full disk after {acknowledged} records: {error}");
    assert!(
        acknowledged > 100,
        "the volume takes more than {acknowledged} records"
    );

    // Everything acknowledged can be read while the disk is full.
    let mut consumer = conveyor_sdk::Consumer::new(
        &client,
        conveyor_sdk::ConsumerConfig {
            auto_offset_reset: conveyor_sdk::OffsetReset::Earliest,
            ..conveyor_sdk::ConsumerConfig::standalone()
        },
    )?;
    consumer.assign([conveyor_sdk::TopicPartition::new(TOPIC, 0)])?;
    let mut read = 0;
    while read < acknowledged {
        let records = consumer.poll(Duration::from_secs(10)).await?;
        assert!(
            !records.is_empty(),
            "only {read} of {acknowledged} records can be read"
        );
        for (_, record) in records.iter() {
            assert_eq!(record.offset.value(), read as i64);
            read += 1;
        }
    }
    Ok(())
}
