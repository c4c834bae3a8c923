//! The projection runtime: turns events of the log into rows of a store, exactly once.
//!
//! A projection is a small pure piece of code ([`Projection`]): which tables it fills, which rows an
//! event touches, and what the event does to them. All else is done here: reading the log as a
//! consumer group, decoding, order, batching, the transaction, the position, retries, what happens
//! to a record that cannot be applied, state and figures.
//!
//! * [`projection`], [`table`], [`value`], [`rows`]: what a projection is written with.
//! * [`store`]: what a store promises. One transaction holds the rows and the source positions, so
//!   that a store equals the fold of its sources up to its position at any moment.
//! * [`build`]: builds of a projection beside each other in one store.
//! * [`record`]: a record as a decoder sees it.
//! * [`fold`]: the plain single-threaded fold, the reference of every test.
//! * [`timers`]: what is to happen when nothing happens, by event time.
//! * [`applier`]: one batch of records becomes one transaction.
//! * [`parked`]: records that cannot be applied, and those of their key behind them.
//! * [`rebuild`]: how a build beside the live one is filled, and how far it is.
//! * [`rejected`]: how a record that cannot be applied is written to `error-events`.
//! * [`control`]: what people ask of running projections, and what these tell of themselves.
//! * `driver` (feature `driver`): the loop between the consumer, the applier and the producer.
//!
//! The runtime knows neither `PakLog` nor any particular store.
#![forbid(unsafe_code)]

pub mod applier;
pub mod backoff;
pub mod build;
pub mod control;
#[cfg(feature = "driver")]
pub mod driver;
pub mod fold;
pub mod parked;
pub mod projection;
pub mod rebuild;
pub mod record;
pub mod rejected;
pub mod rows;
pub mod status;
pub mod store;
pub mod table;
pub mod timers;
pub mod value;

pub use build::{Build, BuildName, Builds};
pub use fold::{Fold, ParkingFold};
pub use projection::{ApplyError, Declaration, Projection};
pub use record::{DecodeError, Decoder, Header, Source, SourceRecord, TopicPartition};
pub use rows::{Change, Rows};
pub use store::{OwnerEpoch, Position, Store, StoreError};
pub use table::{Column, Listing, Row, RowKey, Table};
pub use value::{ColumnType, KeyPart, Value};
