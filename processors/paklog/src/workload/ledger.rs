//! The workload's own books: what a read model must come to.
//!
//! Kept while events are made, from the state machines and never from the events, so that a mistake
//! in writing, carrying or reading an event cannot hide. Holds one small entry for each order, wave
//! and sku (about 100 bytes an order); everything else that the workload knows of an order is
//! dropped when it ends.

use std::collections::BTreeMap;

use crate::event::EventType;
use crate::state::{OrderStage, Stock, WaveState};
use crate::topics::Topic;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderEntry {
    /// Where it stands; when the workload is done, its final stage.
    pub stage: OrderStage,
    /// Its wave, if it came that far.
    pub wave_id: Option<String>,
    /// Lines ordered.
    pub total_lines: i64,
    /// Pieces ordered.
    pub total_units: i64,
    /// Lines of which something was set aside.
    pub allocated_lines: i64,
    /// Lines picked in full, even if the order was cancelled then.
    pub picked_lines: i64,
    /// Lines that came short.
    pub short_lines: i64,
    /// Pieces picked.
    pub picked_units: i64,
}

/// What became of a wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveEntry {
    /// Where it stands.
    pub state: WaveState,
    /// The warehouse.
    pub warehouse_id: String,
    /// Orders that it was released with, or planned with if it was never released.
    pub total_orders: i64,
    /// Orders that are ready to ship.
    pub completed_orders: i64,
    /// Lines that it was released with.
    pub total_lines: i64,
    /// Lines picked in full.
    pub picked_lines: i64,
    /// Lines that came short.
    pub short_lines: i64,
}

/// The books of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) orders: BTreeMap<String, OrderEntry>,
    pub(super) waves: BTreeMap<String, WaveEntry>,
    pub(super) stock: BTreeMap<String, Stock>,
    pub(super) events_by_type: BTreeMap<EventType, u64>,
    pub(super) source_orders: u64,
    pub(super) source_lines: u64,
    pub(super) picks: u64,
    pub(super) short_picks: u64,
}

impl Ledger {
    /// Every order, by its id.
    pub fn orders(&self) -> &BTreeMap<String, OrderEntry> {
        &self.orders
    }

    /// Every wave, by its id.
    pub fn waves(&self) -> &BTreeMap<String, WaveEntry> {
        &self.waves
    }

    /// The stock of every sku.
    pub fn stock(&self) -> &BTreeMap<String, Stock> {
        &self.stock
    }

    /// Number of events made of each type.
    pub fn events_by_type(&self) -> &BTreeMap<EventType, u64> {
        &self.events_by_type
    }

    /// Number of events made for each topic; topics without any are left out.
    pub fn events_by_topic(&self) -> BTreeMap<Topic, u64> {
        let mut by_topic = BTreeMap::new();
        for (event_type, count) in &self.events_by_type {
            *by_topic.entry(event_type.topic()).or_default() += count;
        }
        by_topic
    }

    /// Number of events made.
    pub fn events(&self) -> u64 {
        self.events_by_type.values().sum()
    }

    /// Orders read from the source; there may be more [`Ledger::orders`], since long ones are split.
    pub fn source_orders(&self) -> u64 {
        self.source_orders
    }

    /// Lines read from the source.
    pub fn source_lines(&self) -> u64 {
        self.source_lines
    }

    /// Number of orders in each stage.
    pub fn orders_by_stage(&self) -> BTreeMap<OrderStage, u64> {
        let mut by_stage = BTreeMap::new();
        for order in self.orders.values() {
            *by_stage.entry(order.stage).or_default() += 1;
        }
        by_stage
    }

    /// Lines picked, in full or short.
    pub fn picks(&self) -> u64 {
        self.picks
    }

    /// Lines that came short.
    pub fn short_picks(&self) -> u64 {
        self.short_picks
    }
}
