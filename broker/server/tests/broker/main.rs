//! A real node in this process, over real sockets, spoken to by plain gRPC clients.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod admin;
mod fetch;
mod groups;
mod groups_crash;
mod harness;
mod limits;
mod node_process;
mod operations;
mod produce;
mod restart;
mod strays;
