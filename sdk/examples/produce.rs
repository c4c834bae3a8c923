//! Sends records and waits for their delivery reports.
//!
//! `cargo run -p conveyor-sdk --example produce -- [bootstrap server] [topic]`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Result;
use conveyor_sdk::{Client, ClientConfig, Producer, ProducerConfig, ProducerRecord};
use futures::future::try_join_all;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "localhost:9192".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "sdk-example".to_owned());
    let client = Client::connect(ClientConfig::new(server)).await?;
    let producer = Producer::new(&client, ProducerConfig::default())?;

    // `send` returns as soon as the record is in the buffer, and waits only when that is full.
    let mut reports = Vec::new();
    for n in 0..1_000 {
        // Records of one key go to one partition, in order; the partition is the one that a Java
        // producer would pick.
        let record = ProducerRecord::new(topic.as_str())
            .key(format!("order-{}", n % 10))
            .value(format!(r#"{{"step":{n}}}"#))
            .header("content-type", "application/json");
        reports.push(producer.send(record).await?);
    }

    // Each record has its own report. By default it resolves when the record is durable.
    let deliveries = try_join_all(reports).await?;
    if let Some(last) = deliveries.last() {
        println!(
            "sent {} records, the last is {}-{}@{}",
            deliveries.len(),
            last.topic,
            last.partition,
            last.offset
        );
    }
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}
