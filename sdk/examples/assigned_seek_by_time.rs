//! Reads the last hour of every partition of a topic, without a group, and stops at the end.
//!
//! `cargo run -p conveyor-sdk --example assigned_seek_by_time -- [bootstrap server] [topic]`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Result;
use conveyor_sdk::{Client, ClientConfig, Consumer, ConsumerConfig, TopicPartition};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "localhost:9192".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "sdk-example".to_owned());
    let client = Client::connect(ClientConfig::new(server)).await?;

    let count = client.topic(&topic).await?.partitions.len();
    let partitions: Vec<TopicPartition> = (0..count)
        .map(|n| TopicPartition::new(topic.as_str(), n as i32))
        .collect();
    let mut consumer = Consumer::new(&client, ConsumerConfig::standalone())?;
    consumer.assign(partitions.clone())?;

    // The node looks the time up in its index; partitions without so young a record begin at their
    // end.
    let an_hour_ago = jiff::Timestamp::now().as_millisecond() - 3_600_000;
    for (partition, offset) in consumer.seek_to_time(&partitions, an_hour_ago).await? {
        println!("{partition} begins at {offset}");
    }

    let ends = consumer.end_offsets(&partitions).await?;
    let mut count = 0;
    while partitions
        .iter()
        .any(|p| consumer.position(p).unwrap_or_default() < ends[p])
    {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        for group in records.partitions() {
            count += group.records.len();
            println!("{}: up to {}", group.topic_partition, group.next_offset);
        }
    }
    println!("{count} records");
    Ok(())
}
