//! Stores of read models, behind the runtime's [`Store`](conveyor_processors::Store) contract.
//!
//! * [`sqlite`]: one file, no server; the default.
//!
//! A store knows tables, rows and positions; it knows neither events nor the log.
#![forbid(unsafe_code)]

pub mod sqlite;

pub use sqlite::SqliteStore;
