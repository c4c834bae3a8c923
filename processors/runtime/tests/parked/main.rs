//! Parked keys against the plain reference: whatever events come, whatever cannot be read or
//! applied, whoever dies when, and whatever a person redrives or discards, the rows and what waits
//! are those of a fold that parks, queues and redrives one record after the other.

#![allow(clippy::unwrap_used, reason = "a test")]

mod limits;
mod memory_store;
mod property;
mod world;
