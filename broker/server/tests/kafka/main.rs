//! A real node in this process, spoken to by Kafka's protocol over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod admin_cluster;
mod admin_configs;
mod admin_topics;
mod client;
mod connections;
mod fetch;
mod groups;
mod groups_crash;
mod groups_mixed;
mod groups_offsets;
#[path = "../broker/harness.rs"]
#[allow(dead_code, reason = "the gRPC tests use the rest of it")]
mod harness;
mod idle;
mod limits;
mod members;
mod metadata;
#[path = "../broker/node_process.rs"]
mod node_process;
mod offsets;
mod produce;
mod transactional;
mod transactions;
mod versions;
