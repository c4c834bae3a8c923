//! Producer, consumer, admin client and CloudEvents for Conveyor.
//!
//! Everything starts from a [`Client`]: it finds the nodes and keeps the connections.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use conveyor_sdk::admin::NewTopic;
//! use conveyor_sdk::{
//!     AdminClient, Client, ClientConfig, Producer, ProducerConfig, ProducerRecord,
//! };
//!
//! # async fn run() -> conveyor_sdk::Result<()> {
//! let client = Client::connect(ClientConfig::new("localhost:9192")).await?;
//!
//! // A topic to write to.
//! AdminClient::new(&client).create_topic(NewTopic::new("order-events").partitions(6)).await?;
//!
//! // Records with equal keys keep their order; `send` waits only while memory is full.
//! let producer = Producer::new(&client, ProducerConfig::default())?;
//! let record = ProducerRecord::new("order-events").key("order-4711").value("released");
//! let report = producer.send(record).await?;
//!
//! // The report resolves when the record is safe on disk.
//! let delivery = report.await?;
//! println!("{}-{} offset {}", delivery.topic, delivery.partition, delivery.offset);
//! producer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | you want to | use |
//! |---|---|
//! | reach a cluster | [`Client`], [`ClientConfig`] |
//! | write records | [`Producer`], [`ProducerConfig`], [`ProducerRecord`] |
//! | read records | [`Consumer`], [`ConsumerConfig`] |
//! | write records and offsets together or not at all | [`Producer::init_transactions`], [`ConsumerGroupMetadata`] |
//! | create topics, look at logs and groups | [`AdminClient`] |
//! | tell errors apart | [`Error`], [`Error::is_retriable`] |
//! | read and write CloudEvents | [`cloud_events`] |
//!
//! All of it runs on Tokio. Names of settings are Kafka's, with their unit at the end. Defaults are
//! the safe ones: acknowledged means durable, and a record is in the log once.
#![forbid(unsafe_code)]

pub mod admin;
pub mod client;
pub mod cloud_events;
pub mod consumer;
pub mod error;
mod group;
pub mod producer;

pub use admin::AdminClient;
pub use client::{Client, ClientConfig};
pub use consumer::{
    Consumer, ConsumerConfig, ConsumerGroupMetadata, ConsumerRecord, ConsumerRecords,
    IsolationLevel, OffsetAndMetadata, OffsetReset, TopicPartition,
};
pub use conveyor_grpc::ErrorCode;
pub use conveyor_record::{Codec, Offset};
pub use error::{Error, Result, TransactionFault};
pub use producer::{
    Acks, Delivery, DeliveryFuture, Producer, ProducerConfig, ProducerMetrics, ProducerRecord,
};
