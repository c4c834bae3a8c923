//! The binary as people use it: real processes, real sockets, what they print and how they exit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::print_stdout,
    reason = "a test"
)]

mod demo;
mod groups;
mod help;
mod logs;
mod node;
mod normalise;
mod processors;
mod projections;
mod sinks;
mod topics;
mod transactions;
mod watching;
