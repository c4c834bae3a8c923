//! Apache Kafka's own tools read the folders that a broker leaves behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::producer::partition_for_key;
use conveyor_sdk::{
    AdminClient, Client, ClientConfig, Codec, Consumer, ConsumerConfig, OffsetReset, Producer,
    ProducerConfig, ProducerRecord,
};
use conveyor_tests::kafka_jars::{dump_log_segments, interop, read_records, to_base64};
use conveyor_tests::node::Node;
use conveyor_tests::transaction_client::{Protocol, Step, TransactionClient};

const TOPIC: &str = "inventory-events";
const RECORDS: usize = 4_000;

/// A stopped node's folder with segments, indexes, snapshots and committed offsets in it.
async fn make_folder(folder: &Path) -> Result<()> {
    let settings = &[
        ("log.segment.bytes", "65536"),
        ("conveyor.segment.pool.bytes", "65536"),
        ("log.index.interval.bytes", "1024"),
        ("offsets.topic.num.partitions", "1"),
    ];
    let mut node = Node::start(folder, settings)?;
    let client = Client::connect(ClientConfig::new(node.address())).await?;
    AdminClient::new(&client)
        .create_topic(NewTopic::new(TOPIC).partitions(1))
        .await?;
    for (number, codec) in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ]
    .into_iter()
    .enumerate()
    {
        let config = ProducerConfig {
            compression: codec,
            batch_size: 4 << 10,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(&client, config)?;
        let mut deliveries = Vec::new();
        for i in 0..RECORDS / 5 {
            let record = ProducerRecord::new(TOPIC)
                .key(format!("SKU-{i}"))
                .value(format!(
                    "{{\"codec\":{number},\"i\":{i},\"pad\":\"{}\"}}",
                    "p".repeat(i % 150)
                ))
                .header("ce_type", "stock");
            deliveries.push(producer.send(record).await?);
        }
        for delivery in deliveries {
            delivery.await?;
        }
        producer.close(Duration::from_secs(10)).await?;
    }
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::for_group("kafka-reads-this")
    };
    let mut consumer = Consumer::new(&client, config)?;
    consumer.subscribe([TOPIC])?;
    let mut read = 0;
    while read < RECORDS {
        read += consumer.poll(Duration::from_secs(10)).await?.len();
    }
    consumer.commit_sync().await?;
    consumer.close().await?;
    node.stop()
}

fn files(folder: &Path, extension: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path.to_str().context("UTF-8")?.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_dump_tool_reads_every_file_of_a_partition() -> Result<()> {
    let folder = tempfile::tempdir()?;
    make_folder(folder.path()).await?;
    let data = folder.path().join("data");
    let partition = data.join(format!("{TOPIC}-0"));

    let logs = files(&partition, "log")?;
    assert!(logs.len() >= 3, "the log has rolled: {logs:?}");
    let mut offsets = Vec::new();
    for log in &logs {
        offsets.extend(
            read_records(Path::new(log))?
                .into_iter()
                .map(|record| record.offset),
        );
    }
    assert_eq!(offsets, (0..RECORDS as i64).collect::<Vec<_>>());

    let dump = dump_log_segments(&["--deep-iteration", "--files", &logs.join(",")])?;
    assert_eq!(
        dump.matches("isvalid: true").count(),
        dump.matches("isvalid:").count()
    );
    assert!(dump.contains("isvalid: true"));

    for kind in ["index", "timeindex", "snapshot"] {
        let found = files(&partition, kind)?;
        assert!(!found.is_empty(), "there are .{kind} files");
        let dump = dump_log_segments(&["--files", &found.join(",")])?;
        for complaint in [
            "Mismatches",
            "Found timestamp mismatch",
            "out of order",
            "corrupt",
            "Could not",
        ] {
            assert!(!dump.contains(complaint), "{kind}: {dump}");
        }
        if kind == "snapshot" {
            assert!(dump.contains("producerId:"), "{dump}");
        } else {
            dump_log_segments(&["--index-sanity-check", "--files", &found.join(",")])?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_offsets_decoder_reads_our_committed_offsets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    make_folder(folder.path()).await?;
    let logs = files(&folder.path().join("data/__consumer_offsets-0"), "log")?;
    let dump = dump_log_segments(&["--offsets-decoder", "--files", &logs.join(",")])?;
    assert!(dump.contains("kafka-reads-this"), "{dump}");
    assert!(
        dump.contains("OFFSET_COMMIT") || dump.contains("\"topic\":\"inventory-events\""),
        "{dump}"
    );
    assert!(dump.contains(&format!("\"offset\":{RECORDS}")), "{dump}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_transaction_decoder_reads_our_transaction_state() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = &[("transaction.state.log.num.partitions", "1")];
    let mut node = Node::start(folder.path(), settings)?;
    let client = Client::connect(ClientConfig::new(node.address())).await?;
    AdminClient::new(&client)
        .create_topic(NewTopic::new(TOPIC).partitions(2))
        .await?;
    for (id, protocol) in [("transfers", Protocol::First), ("picks", Protocol::Second)] {
        let mut producer =
            TransactionClient::start(node.kafka_address(), Some(id), protocol).await?;
        for commit in [true, false] {
            assert_eq!(producer.write((TOPIC, 1), &[7]).await?, Step::Done);
            assert_eq!(producer.end(commit).await?, Step::Done);
        }
        assert_eq!(producer.write((TOPIC, 0), &[8]).await?, Step::Done);
    }
    node.stop()?;
    let data = folder.path().join("data");
    let logs = files(&data.join("__transaction_state-0"), "log")?;
    let dump = dump_log_segments(&["--transaction-log-decoder", "--files", &logs.join(",")])?;
    for expected in [
        r#""transactionalId":"transfers""#,
        r#""transactionalId":"picks""#,
        r#""transactionPartitions":[{"topic":"inventory-events","partitionIds":[1]}]"#,
        r#""transactionTimeoutMs":5000"#,
        r#""clientTransactionVersion":2"#,
    ] {
        assert!(dump.contains(expected), "{expected} is not in {dump}");
    }
    // Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort.
    for state in 0..=5 {
        let expected = format!("\"transactionStatus\":{state}");
        assert!(dump.contains(&expected), "{expected} is not in {dump}");
    }
    // The markers in the partition, and its aborted transactions.
    let partition = data.join(format!("{TOPIC}-1"));
    let logs = files(&partition, "log")?;
    let dump = dump_log_segments(&["--print-data-log", "--files", &logs.join(",")])?;
    assert_eq!(dump.matches("endTxnMarker: COMMIT").count(), 2, "{dump}");
    assert_eq!(dump.matches("endTxnMarker: ABORT").count(), 2, "{dump}");
    let indexes = files(&partition, "txnindex")?;
    let dump = dump_log_segments(&["--files", &indexes.join(",")])?;
    assert_eq!(dump.matches("producerId:").count(), 2, "{dump}");
    Ok(())
}

#[test]
fn keys_land_on_the_partitions_that_kafkas_producer_picks() -> Result<()> {
    let keys: Vec<Vec<u8>> = (0..500_usize)
        .map(|i| (0..i % 41).map(|j| (i * 31 + j * 17) as u8).collect())
        .chain(["", "a", "SKU-852856", "order-31198481877", "WAVE-0A1B2C3D"].map(Vec::from))
        .collect();
    let input: Vec<String> = keys
        .iter()
        .map(|key| format!("{}\n", to_base64(key)))
        .collect();
    for partitions in [1, 3, 6, 12] {
        let answer = interop(
            &["partition", &partitions.to_string()],
            input.concat().as_bytes(),
        )?;
        let kafka: Vec<i32> = answer.lines().map(str::parse).collect::<Result<_, _>>()?;
        let ours: Vec<i32> = keys
            .iter()
            .map(|key| partition_for_key(key, partitions))
            .collect();
        assert_eq!(ours, kafka, "{partitions} partitions");
    }
    Ok(())
}
