//! Consumes, transforms and produces exactly once: the records and the offsets of what they were made
//! from are committed together. Kill it at any time and start it again: nothing is lost or doubled for
//! readers of committed records.
//!
//! `cargo run -p conveyor-sdk --example exactly_once_copy -- [bootstrap server] [from] [to] [--plain]`
//!
//! With `--plain` the same without transactions, to compare the speed; that copies at least once.
//! Ends when nothing has come for two seconds.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use conveyor_sdk::{
    Client, ClientConfig, Consumer, ConsumerConfig, ConsumerRecords, IsolationLevel, OffsetReset,
    Producer, ProducerConfig, ProducerRecord, TransactionFault,
};

const IDLE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<()> {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let is_plain = flags.iter().any(|flag| flag == "--plain");
    let name = |index: usize, default: &str| {
        names
            .get(index)
            .map_or_else(|| default.to_owned(), String::clone)
    };
    let client = Client::connect(ClientConfig::new(name(0, "localhost:9192"))).await?;
    let (from, to) = (name(1, "sdk-example"), name(2, "sdk-example-copy"));

    // Reads what is committed, and commits nothing by itself.
    let group = format!("copy-of-{from}{}", if is_plain { "-plain" } else { "" });
    let mut config = ConsumerConfig::for_group(group);
    config.isolation_level = IsolationLevel::ReadCommitted;
    config.auto_offset_reset = OffsetReset::Earliest;
    config.enable_auto_commit = false;
    config.max_poll_records = 5_000;
    let mut consumer = Consumer::new(&client, config)?;
    consumer.subscribe([from.as_str()])?;

    // Whoever has this id is the copier: another one that starts fences this one.
    let producer = Producer::new(
        &client,
        ProducerConfig {
            transactional_id: (!is_plain).then(|| format!("copy-of-{from}")),
            ..ProducerConfig::default()
        },
    )?;
    if !is_plain {
        producer.init_transactions().await?;
    }

    let (mut copied, mut started, mut last) = (0, None, Instant::now());
    while last.elapsed() < IDLE {
        let records = consumer.poll(Duration::from_millis(200)).await?;
        if records.is_empty() {
            continue;
        }
        started.get_or_insert_with(Instant::now);
        if is_plain {
            send(&producer, &to, &records).await?;
            producer.flush().await;
            consumer.commit_sync().await?;
        } else if !copy(&producer, &mut consumer, &to, &records).await? {
            continue;
        }
        copied += records.len();
        last = Instant::now();
    }
    let seconds = started.map_or(0.0, |started| (last - started).as_secs_f64());
    println!("{copied} records from {from} to {to} in {seconds:.2} s");
    producer.close(Duration::from_secs(10)).await?;
    consumer.close().await?;
    Ok(())
}

/// Copies a batch in a transaction; says whether it was committed.
async fn copy(
    producer: &Producer,
    consumer: &mut Consumer,
    to: &str,
    records: &ConsumerRecords,
) -> Result<bool> {
    let group = consumer
        .group_metadata()
        .context("the consumer has a group")?;
    producer.begin_transaction()?;
    let outcome = async {
        send(producer, to, records).await?;
        let offsets = records.next_offsets();
        producer
            .send_offsets_to_transaction(offsets, &group)
            .await?;
        producer.commit_transaction().await
    };
    match outcome.await {
        Ok(()) => Ok(true),
        // Nothing of it will be read: go back to what is committed.
        Err(error) if error.transaction_fault() == Some(TransactionFault::Abortable) => {
            println!("once more: {error}");
            producer.abort_transaction().await?;
            consumer.seek_to_committed();
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

async fn send(
    producer: &Producer,
    to: &str,
    records: &ConsumerRecords,
) -> Result<(), conveyor_sdk::Error> {
    for (partition, record) in records.iter() {
        let mut copy = ProducerRecord::new(to)
            .partition(partition.partition)
            .timestamp_ms(record.timestamp_ms);
        copy.key.clone_from(&record.key);
        copy.value.clone_from(&record.value);
        // The commit says whether it arrived.
        drop(producer.send(copy).await?);
    }
    Ok(())
}
