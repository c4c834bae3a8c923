//! One node: listeners, handlers, partitions and their threads, hosts of the pure state machines.
#![forbid(unsafe_code)]

pub mod broker;
pub mod config;

pub use broker::{Broker, ShutdownError, StartError};
pub use config::{BrokerConfig, ConfigError};
