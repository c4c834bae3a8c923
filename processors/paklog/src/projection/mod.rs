//! Projections: read models as pure folds of events.
//!
//! | projection | topics | question |
//! |---|---|---|
//! | [`OrderTracking`] | order, wave, task, pick, pack, external | Where is my order, what happened when? |
//! | [`Atp`] | inventory | Can I promise this sku now? |
//! | [`InventoryMovement`] | inventory | Why did the stock change? |
//! | [`WaveProgress`] | wave, task, pick, pack | Will this wave make its carrier? |
//!
//! **Order.** Records of one key come in order, topics and keys in any order against each other: a
//! pick may be read before the wave that caused it. So a row holds *facts* that do not depend on the
//! order in which they come (sums, first and last times, what one topic alone says), and everything
//! else in it, its stage above all, is computed from the facts. A late event adds what it knows and
//! never moves a row backwards.
//!
//! **Once.** Sums are exact because the runtime applies each record once: the source position is
//! stored with the rows. Ids and times of the events themselves are never trusted for that.

mod atp;
mod facts;
mod inventory_movement;
mod order_tracking;
mod wave_progress;

use conveyor_processors::{DecodeError as RecordError, Decoder, SourceRecord};

pub use atp::Atp;
pub use inventory_movement::InventoryMovement;
pub use order_tracking::OrderTracking;
pub use wave_progress::WaveProgress;

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
