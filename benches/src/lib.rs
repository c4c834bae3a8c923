//! What the benches share: batches to work on, raw limits to compare with, runs and their report.
//!
//! A figure of the engine is never shown alone. Each case runs beside the plainest program that does
//! the same to the same bytes on the same kind of file, in the order A B B A, and what counts is the
//! median of the ratios of neighbours: a shared machine changes its speed by the minute, both sides
//! of a pair alike.
#![forbid(unsafe_code)]

pub mod engine;
pub mod events;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod raw;
pub mod report;
pub mod run;
#[cfg(feature = "stores")]
pub mod stores;
