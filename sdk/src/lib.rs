//! Producer, consumer, admin client and CloudEvents for Conveyor.
#![forbid(unsafe_code)]
pub mod cloud_events;
