//! Projections: read models as pure folds of events.
//!
//! | projection | topics | key | question |
//! |---|---|---|---|
//! | [`OrderTracking`] | order, wave, task, pick, pack, external | order | Where is my order, what happened when? |
//! | [`Atp`] | inventory | sku | Can I promise this sku now? |
//! | [`InventoryMovement`] | inventory | place in the log | Why did the stock change? |
//! | [`WaveProgress`] | wave, task, pick, pack | wave | Will this wave make its carrier? |
//! | [`TaskQueue`] | task | warehouse, zone, type | How deep and how old is each queue? |
//! | [`WorkerHourly`] | task, pick, pack | warehouse, worker, hour | Who picks and packs how fast? |
//! | [`PickSession`] | pick | session | Live pick progress, short picks |
//! | [`PackThroughput`] | pack | station, minute | Does packing keep up; how many checks pass? |
//! | [`OrderSla`] | order, wave, pick, pack, external | order | Which orders will miss their promise? |
//! | [`SlaDue`] | order, external | order | Which order is due next? |
//! | [`DeadLetters`] | error | place in the log | What failed, and has it been replayed? |
//! | [`KpiMinute`] | all | warehouse, minute | What is going on, minute by minute? |
//!
//! **Names.** Tables are named as `PakLog`'s documents propose. A table declares what its rows and the
//! lists of them are called where everything has a name (Redis: `paklog:atp:{sku}`, `paklog:atp:out`);
//! the stores know nothing of `PakLog`. Columns are `snake_case`; where `PakLog` has documents of its own,
//! fields of documents are `camelCase`, and nested values real documents and arrays.
//!
//! **Joins and windows.** What an event does not say by itself (whom a session is of, which warehouse
//! an order is of, what stands in a queue) is kept in small tables of the projection's own, written in
//! the same transaction as the rows and the source position: a crash neither loses nor doubles it, and
//! there is no other state to restore.
//!
//! **Order.** Records of one key come in order, topics and keys in any order against each other: a
//! pick may be read before the wave that caused it. So a row holds *facts* that do not depend on the
//! order in which they come (sums, first and last times, what one topic alone says), and everything
//! else in it, its stage above all, is computed from the facts. A late event adds what it knows and
//! never moves a row backwards.
//!
//! **Once.** Sums are exact because the runtime applies each record once: the source position is
//! stored with the rows. Ids and times of the events themselves are never trusted for that.

mod all;
mod atp;
mod credits;
mod dead_letters;
mod facts;
mod inventory_movement;
mod kpi_minute;
mod order_sla;
mod order_tracking;
mod pack_throughput;
mod pick_session;
mod sla_due;
mod task_queue;
mod wave_progress;
mod worker_hourly;

use conveyor_processors::{DecodeError as RecordError, Decoder, SourceRecord};

pub use all::{NAMES, Visitor, declarations, visit_all};
pub use atp::Atp;
pub use dead_letters::{DeadLetter, DeadLetterDecoder, DeadLetters, FailedPlace, REPLAYED_AT};
pub use inventory_movement::InventoryMovement;
pub use kpi_minute::{KpiMinute, Observed, ObservedDecoder};
pub use order_sla::{OrderSla, allowed_ms};
pub use order_tracking::OrderTracking;
pub use pack_throughput::PackThroughput;
pub use pick_session::PickSession;
pub use sla_due::SlaDue;
pub use task_queue::TaskQueue;
pub use wave_progress::WaveProgress;
pub use worker_hourly::WorkerHourly;

use crate::decode::{AliasTable, DecodeError, decode_with};
use crate::event::Event;

/// Reads records of `PakLog`'s topics for the projections.
#[derive(Clone, Debug, Default)]
pub struct PaklogDecoder {
    aliases: Option<AliasTable>,
}

impl PaklogDecoder {
    /// With the built-in alias table.
    pub const fn new() -> Self {
        Self { aliases: None }
    }

    /// With an alias table of the operator's.
    pub const fn with_aliases(aliases: AliasTable) -> Self {
        Self {
            aliases: Some(aliases),
        }
    }
}

impl Decoder for PaklogDecoder {
    type Event = Event;

    /// A tombstone says nothing; whatever else cannot be read goes to `error-events`.
    fn decode(&self, record: &SourceRecord) -> Result<Option<Event>, RecordError> {
        let Some(value) = &record.value else {
            return Ok(None);
        };
        let headers = record
            .headers
            .iter()
            .filter_map(|header| Some((header.key.as_str(), header.value.as_deref()?)));
        let aliases = self
            .aliases
            .as_ref()
            .unwrap_or_else(|| AliasTable::builtin());
        decode_with(aliases, Some(value), headers)
            .map(Some)
            .map_err(|error: DecodeError| RecordError::new(error.name(), error.to_string()))
    }
}
