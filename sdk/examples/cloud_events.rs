//! Sends a CloudEvent and reads it back.
//!
//! `cargo run -p conveyor-sdk --example cloud_events -- [bootstrap server] [topic]`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Result;
use conveyor_sdk::cloud_events::CloudEvent;
use conveyor_sdk::{
    Client, ClientConfig, Consumer, ConsumerConfig, Producer, ProducerConfig, TopicPartition,
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "localhost:9192".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "sdk-example".to_owned());
    let client = Client::connect(ClientConfig::new(server)).await?;

    // An id is made up if none is given; everything else is checked by the specification's rules.
    let event = CloudEvent::builder("com.paklog.wms.wave.released.v1", "/wms/wave-planning")
        .subject("WAVE-0A1B2C3D")
        .time(jiff::Timestamp::now())
        .correlation_id("import-2025-11-23")
        .aggregate_version(3)
        .json(json!({ "wave_id": "WAVE-0A1B2C3D", "order_ids": ["o-1", "o-2"] }))
        .build()?;

    // Structured mode: the value is one JSON document, which readers of plain values understand.
    // `encode_binary` puts the attributes into headers instead.
    let producer = Producer::new(&client, ProducerConfig::default())?;
    let record = event
        .encode_structured()
        .into_record(topic.as_str())
        .key("WAVE-0A1B2C3D");
    let sent = producer.send(record).await?.await?;
    println!("sent as {}-{}@{}", sent.topic, sent.partition, sent.offset);

    let partition = TopicPartition::new(topic, sent.partition);
    let mut consumer = Consumer::new(&client, ConsumerConfig::standalone())?;
    consumer.assign([partition.clone()])?;
    consumer.seek(&partition, sent.offset)?;
    let record = consumer.recv().await?;

    // Reads both modes, and JSON with `specversion` whose producer sent no header.
    let decoded = record.cloud_event()?;
    println!(
        "{record} is {:?}: {} of {:?}",
        decoded.encoding,
        decoded.event.event_type(),
        decoded.event.subject()
    );
    assert_eq!(decoded.event, event);
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}
