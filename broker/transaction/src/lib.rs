//! The transaction coordinator of one `__transaction_state` partition, as a pure state machine.
//!
//! It owns which producer id and epoch each transactional id has, the transaction that is open for
//! it, and how that one ends, with the format of the records that keep this. It knows no log, no
//! socket, no clock and no chance: the caller passes the time and fresh producer ids, writes the
//! records that come back, answers clients when those are durable, and then writes the markers that
//! it is told to write.
//!
//! The one rule of the crate: **handlers decide, only [`TransactionCoordinator::replay`] changes
//! durable state.** A transaction is decided the moment its `PrepareCommit` or `PrepareAbort` record
//! is durable; everything after that only carries the decision out:
//!
//! ```
//! use conveyor_record::ProducerId;
//! use conveyor_transaction::{
//!     EndTxn, InitProducerId, Initialised, TopicPartition, TransactionConfig,
//!     TransactionCoordinator, TransactionState, TransactionVersion,
//! };
//!
//! let mut coordinator = TransactionCoordinator::new(TransactionConfig::default());
//! let init = InitProducerId::new("transfers", 60_000);
//! let fresh = Some(ProducerId(4_000));
//! let transition = coordinator.init_producer_id(1_000, &init, fresh)?;
//! coordinator.replay_all(&transition.records);
//! let Initialised::Ready(producer) = transition.response else { unreachable!() };
//!
//! let place = TopicPartition::new("payments", 3);
//! let added = coordinator.add_partitions(
//!     1_010, "transfers", producer, &[place.clone()], TransactionVersion::V2,
//! )?;
//! coordinator.replay_all(&added.records);
//!
//! let end = EndTxn::commit("transfers", producer, TransactionVersion::V2);
//! let ended = coordinator.end_txn(1_020, &end, None)?;
//! coordinator.replay_all(&ended.records);
//! // Once the records are durable: the client is answered, and the markers are written.
//! let markers = ended.response.markers.expect("there is one partition");
//! assert!(markers.commit && markers.partitions.contains(&place));
//! assert_eq!(Some(ended.response.producer), producer.next_epoch());
//!
//! // Once the markers are durable:
//! let done = coordinator.complete(1_030, &markers);
//! coordinator.replay_all(&done.records);
//! let state = coordinator.describe("transfers")?.state;
//! assert_eq!(state, TransactionState::CompleteCommit);
//! # Ok::<(), conveyor_transaction::TransactionError>(())
//! ```
//!
//! Where things are: [`coordinator`] keeps and replays, `initialise` gives ids and epochs, `partitions`
//! adds to a transaction, `end` decides and completes, `expiry` is what time does, [`metadata`] is
//! the state of one id, [`record`] and `codec` are the stored formats.
#![forbid(unsafe_code)]

mod codec;
pub mod config;
pub mod coordinator;
mod end;
pub mod error;
mod expiry;
mod initialise;
pub mod metadata;
mod partitions;
mod placement;
pub mod record;

#[cfg(test)]
mod simulation;

pub use config::TransactionConfig;
pub use conveyor_record::fields::{DecodeError, EncodedRecord};
pub use coordinator::{ListedTransaction, TransactionCoordinator, Transition};
pub use end::{EndTxn, Ended, WriteMarkers};
pub use error::TransactionError;
pub use initialise::{InitProducerId, Initialised};
pub use metadata::{
    Producer, TopicPartition, TransactionMetadata, TransactionState, TransactionVersion,
};
pub use placement::partition_for_transactional_id;
pub use record::Record;
