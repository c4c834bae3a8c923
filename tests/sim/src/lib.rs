//! A cluster in one thread: real logs, real rules, and a simulated world around them, from one seed.
//!
//! Brokers run the real `conveyor-log` on a `SimDisk` each and the real `conveyor-replication` for
//! each partition; a controller decides about leaders and in-sync sets; idempotent producers and
//! consumers work against them. Everything between is simulated and goes wrong: the network delays,
//! loses, repeats and reorders messages and is cut one way, both ways or between two of three; disks
//! tear what was not synced, fail a sync, are slow or wiped; clocks are skewed and jump; processes
//! stop, die and lose power, one, several or all, also in the middle of a write.
//!
//! All of it is one heap of events and one generator of chance, so a seed is a run: the same events
//! in the same order, every time. After every event the oracle ([`oracle`]), which sees everything,
//! checks what must hold; at the end all faults stop, and the cluster must heal.
//!
//! What is simplified: the controller decides by the real rules of `conveyor-controller`, but on one
//! node ([`controller`]) with a durable log of its own, which nobody replicates.
#![forbid(unsafe_code)]

mod batch;
pub mod broker;
pub mod clients;
pub mod clock;
pub mod context;
pub mod controller;
pub mod coverage;
pub mod faults;
pub mod message;
pub mod network;
pub mod oracle;
pub mod scenario;
pub mod world;

pub use coverage::Coverage;
pub use world::{Failure, Report, Settings, run};

/// Simulated time in microseconds since the run began.
pub type Micros = i64;

/// A millisecond of simulated time.
pub const MS: Micros = 1_000;

/// A second of simulated time.
pub const SECOND: Micros = 1_000 * MS;
