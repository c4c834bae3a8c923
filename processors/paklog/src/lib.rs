//! `PakLog`'s side of Conveyor: what its events look like, how they come to be, what is made of them.
//!
//! * [`event`]: canonical event types, their payloads, and how an event is written.
//! * [`decode`]: reads every encoding and every old type name that `PakLog`'s services use.
//! * [`normalise`]: makes canonical records of what the services write.
//! * [`topics`]: the eight canonical topics, their settings and keys.
//! * [`state`]: the state machines of order, wave, task, pick, pack, shipment and stock.
//! * [`workload`]: makes a causally valid stream of events from real order lines.
//! * [`projection`]: folds events into read models, the same in whatever order topics are read.
//! * [`reconcile`]: compares a read model with the workload's own ledger.
//!
//! Everything here is pure: no network, no clock, no thread, no random source. Only
//! [`workload::OrderLines`] reads from a reader that the caller opens.
#![forbid(unsafe_code)]

pub mod decode;
pub mod event;
pub mod normalise;
pub mod projection;
pub mod reconcile;
pub mod state;
pub mod topics;
pub mod workload;
