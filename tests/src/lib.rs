//! What the system tests share: Apache Kafka's code as an oracle, brokers as real processes.
#![forbid(unsafe_code)]

pub mod history;
pub mod kafka_broker;
pub mod kafka_client;
pub mod kafka_jars;
pub mod load;
pub mod node;
pub mod ports;
pub mod recorder;
pub mod stage;
pub mod transaction_client;
pub mod transaction_history;
pub mod transaction_load;
pub mod tree;
pub mod volume;
pub mod warehouse;
pub mod wire;
pub mod work;
