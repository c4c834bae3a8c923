//! Sinks: what the log holds, written on to where others look for it, by settings alone.
//!
//! * [`settings`], [`text`]: a sink as people write it in TOML.
//! * [`decode`], [`document`]: what becomes of a record. Pure.
//! * [`buffer`]: which records are written together, and when. Pure.
//! * [`target`]: what a target promises.
//! * [`driver`]: the loop between the consumer and the target.
//!
//! What a sink keeps is what the log holds, no more: a target can be dropped and filled again.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod decode;
pub mod document;
pub mod driver;
pub mod settings;
pub mod target;
pub mod text;

pub use settings::{SettingsError, SinkSettings};
pub use text::Text;
