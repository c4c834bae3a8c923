//! What the system tests share: Apache Kafka's code as an oracle, brokers as real processes.
#![forbid(unsafe_code)]

pub mod kafka_jars;
pub mod node;
pub mod volume;
