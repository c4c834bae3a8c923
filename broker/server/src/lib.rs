//! One node: listeners, handlers, partitions and their threads, hosts of the pure state machines.
//!
//! The way of a batch through it: [`listener`] accepts the connection, `handlers` checks principal,
//! place and bytes, `partition` queues it for the writer of its data directory, which appends it and
//! hands it to the flusher; the answer goes back when it is durable, and whoever waits for records is
//! woken. What is decided purely (metadata, groups) lives in crates of its own; here are only their
//! hosts.
//!
//! ```no_run
//! use conveyor_server::{Broker, BrokerConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = BrokerConfig::from_pairs([("log.dirs", "/var/lib/conveyor"), ("node.id", "1")])?;
//! let broker = Broker::start(config).await?;
//! println!("serving on {}", broker.grpc_address());
//! broker.shutdown().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod admin;
mod background;
pub mod broker;
mod cleaner;
pub mod config;
mod coordinator;
mod error_code;
mod fan_out;
mod fetch_memory;
mod handlers;
mod internal_log;
mod kafka;
mod listener;
mod metadata_host;
mod metrics;
mod node;
mod open_files;
mod partition;
mod producer_ids;
mod records;
pub mod request;
mod request_memory;
mod storage;
mod transaction;

pub use broker::{Broker, Parts, ShutdownError, StartError};
pub use config::{BrokerConfig, ConfigError};
pub use metadata_host::{MetadataError, ReplayError};
pub use partition::DirectoryError;
pub use storage::StorageError;
