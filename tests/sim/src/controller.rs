//! The controller of the simulated cluster: what it knows, what it decides, the node that hosts it.
//!
//! [`image`] is the state, [`rules`] turn requests into records, [`node`] makes the records durable
//! before anybody hears of them and hands them to the brokers in order.

pub mod image;
pub mod node;
pub mod rules;

pub use image::{BrokerRecord, Image, PartitionRecord, Placed, Record};
pub use node::ControllerNode;
