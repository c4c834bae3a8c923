//! Creates a topic, looks at it, changes a setting, and shows how its logs stand.
//!
//! `cargo run -p conveyor-sdk --example admin -- [bootstrap server]`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::Result;
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{AdminClient, Client, ClientConfig, ErrorCode};

const TOPIC: &str = "sdk-example";

#[tokio::main]
async fn main() -> Result<()> {
    let server = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "localhost:9192".to_owned());
    let client = Client::connect(ClientConfig::new(server)).await?;
    let admin = AdminClient::new(&client);

    // Settings carry Kafka's names.
    let topic = NewTopic::new(TOPIC)
        .partitions(3)
        .config("retention.ms", "3600000");
    match admin.create_topic(topic).await {
        Ok(created) => println!(
            "created {} with {} partitions",
            created.name, created.partitions
        ),
        // The error says what happened, so it can be told apart.
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => println!("{error}"),
        Err(error) => return Err(error.into()),
    }

    for topic in admin.list_topics(false).await? {
        println!("{} ({} partitions)", topic.name, topic.partitions.len());
    }

    // Each partition's log: where it begins and ends, what is on disk, what an answer promises.
    for log in admin.describe_logs(&[TOPIC]).await? {
        println!(
            "{}: records {} to {}, {} bytes in {} segments, durability {}",
            log.partition,
            log.log_start_offset,
            log.high_watermark,
            log.size_bytes,
            log.segment_count,
            log.durability,
        );
    }

    for group in admin.list_groups(&[]).await? {
        let described = admin.describe_group(&group.group_id).await?;
        println!(
            "group {} is {}: {} members, {} records behind",
            described.group_id,
            described.state,
            described.members.len(),
            described.lag_records(),
        );
    }
    Ok(())
}
