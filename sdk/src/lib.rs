//! Producer, consumer, admin client and CloudEvents for Conveyor.
//!
//! | you want to | use |
//! |---|---|
//! | reach a cluster | [`Client`], [`ClientConfig`] |
//! | tell errors apart | [`Error`], [`Error::is_retriable`] |
//! | read and write CloudEvents | [`cloud_events`] |
#![forbid(unsafe_code)]

pub mod client;
pub mod cloud_events;
pub mod error;
mod group;

pub use client::{Client, ClientConfig};
pub use error::{Error, Result};
