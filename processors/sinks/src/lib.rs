//! Sinks: what the log holds, written on to where others look for it, by settings alone.
//!
//! * [`settings`], [`text`]: a sink as people write it in TOML.
//! * [`decode`], [`document`]: what becomes of a record. Pure.
//! * [`buffer`]: which records are written together, and when. Pure.
//! * [`target`]: what a target promises.
//! * [`documents`]: what targets that keep documents have in common; `mongodb` and
//!   `elasticsearch` are such.
//! * `s3`: a target that keeps objects, and its own positions.
//! * [`driver`]: the loop between the consumer and the target.
//!
//! What a sink keeps is what the log holds, no more: a target can be dropped and filled again.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod decode;
pub mod document;
pub mod documents;
pub mod driver;
#[cfg(feature = "elasticsearch")]
pub mod elasticsearch;
#[cfg(feature = "mongodb")]
pub mod mongodb;
mod open;
#[cfg(feature = "s3")]
pub mod s3;
pub mod settings;
pub mod target;
pub mod text;

pub use open::{Sink, open};
pub use settings::{SettingsError, SinkSettings};
pub use text::Text;
