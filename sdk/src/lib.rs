//! Producer, consumer, admin client and CloudEvents for Conveyor.
//!
//! | you want to | use |
//! |---|---|
//! | reach a cluster | [`Client`], [`ClientConfig`] |
//! | read records | [`Consumer`], [`ConsumerConfig`] |
//! | tell errors apart | [`Error`], [`Error::is_retriable`] |
//! | read and write CloudEvents | [`cloud_events`] |
#![forbid(unsafe_code)]

pub mod client;
pub mod cloud_events;
pub mod consumer;
pub mod error;
pub mod producer;
mod group;

pub use client::{Client, ClientConfig};
pub use consumer::{
    Consumer, ConsumerConfig, ConsumerRecord, ConsumerRecords, IsolationLevel, OffsetAndMetadata,
    OffsetReset, TopicPartition,
};
pub use conveyor_grpc::ErrorCode;
pub use conveyor_record::{Codec, Offset};
pub use error::{Error, Result};
pub use producer::{
    Acks, Delivery, DeliveryFuture, Producer, ProducerConfig, ProducerMetrics, ProducerRecord,
};
