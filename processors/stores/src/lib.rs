//! Stores of read models, behind the runtime's [`Store`](conveyor_processors::Store) contract.
//!
//! * [`sqlite`]: one file, no server; the default.
//! * `postgres` (cargo feature): one schema of a `PostgreSQL` database.
//! * `redis` (cargo feature): hashes on a Redis server, cluster, or what sentinels name.
//! * `mongodb` (cargo feature): documents in a `MongoDB` database, with transactions or without.
//! * [`address`]: which store, as people write it.
//!
//! A store knows tables, rows and positions; it knows neither events nor the log.
#![forbid(unsafe_code)]

pub mod address;
mod declared;
#[cfg(feature = "server")]
mod doubt;
#[cfg(feature = "server")]
mod fence;
#[cfg(feature = "server")]
mod key_order;
mod moment;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sqlite;
#[cfg(feature = "postgres")]
mod stripes;

pub use address::StoreAddress;
#[cfg(feature = "mongodb")]
pub use mongodb::MongodbStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use sqlite::SqliteStore;
