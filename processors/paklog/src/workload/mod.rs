//! The workload: real order lines become a causally valid stream of warehouse events.
//!
//! Orders are read as a stream and driven through the state machines of [`crate::state`] in *event
//! time*, which starts with the first order and knows no clock; how fast events are sent is the
//! caller's business. Only the order lines are real: stock, waves, tasks, picks, packs, shipments,
//! durations and failures are modelled by the rules in `rules.rs`, drawn from a seed.
//!
//! * The same orders and the same seed give the same events, byte for byte.
//! * Event time never goes back, and an event comes after everything that caused it: allocation,
//!   wave planned, wave released, task created, assigned, started, picked, packed, shipped,
//!   delivered.
//! * Memory is bounded by what is open (orders, waves) and by the number of skus, but for the
//!   [`Ledger`]'s small entry for each order.
//!
//! ```
//! use conveyor_paklog::workload::{OrderLines, Settings, Workload};
//!
//! let csv = "ordered_at,order_id,customer_id,store_id,sku,department,quantity\n\
//!            2017-01-01T18:24:46Z,1,883,367,852856,DRUG GM,2\n";
//! let orders = OrderLines::new(csv.as_bytes())?;
//! let mut workload = Workload::new(orders, Settings { seed: 1, ..Settings::default() });
//! for event in workload.by_ref() {
//!     let event = event?;
//!     println!("{} {} {}", event.topic(), event.key, event.event_type.name());
//! }
//! assert_eq!(workload.ledger().orders().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agenda;
mod arrival;
mod desk;
mod draw;
mod floor;
mod ids;
mod ledger;
mod model;
mod orders;
mod packing;
mod picking;
mod planning;
mod rules;
mod stockroom;

use std::fmt;

pub use ledger::{Ledger, OrderEntry, WaveEntry};
pub use orders::{OrderLines, OrderLinesError, SourceLine, SourceOrder};
pub use rules::Rates;

use crate::event::{CONTENT_TYPE_HEADER, EventType, STRUCTURED_CONTENT_TYPE};
use crate::topics::Topic;
use floor::Floor;

/// How a workload is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Everything that is drawn comes from this number.
    pub seed: u64,
    /// Number of warehouses that the stores are spread over, at least 1.
    pub warehouses: u32,
    /// How often things go wrong.
    pub rates: Rates,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            warehouses: 12,
            rates: Rates::default(),
        }
    }
}

/// A record to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEvent {
    /// What happened; also decides the topic.
    pub event_type: EventType,
    /// Key of the record: decides the partition.
    pub key: String,
    /// Event time, milliseconds since the epoch: the record's timestamp.
    pub event_time_ms: i64,
    /// The event in structured mode.
    pub value: Vec<u8>,
}

impl WorkloadEvent {
    /// Headers of every record.
    pub const HEADERS: [(&'static str, &'static str); 1] =
        [(CONTENT_TYPE_HEADER, STRUCTURED_CONTENT_TYPE)];

    /// The topic that it belongs on.
    pub const fn topic(&self) -> Topic {
        self.event_type.topic()
    }
}

/// Why a workload ends early.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The orders cannot be read.
    #[error(transparent)]
    Orders(#[from] OrderLinesError),
    /// An order that was there before: its lines do not stand together.
    #[error("order lines: order {order_id} comes twice; the lines of an order must stand together")]
    RepeatedOrder {
        /// The source's number of the order.
        order_id: String,
    },
}

/// The events that come of a source of orders, in the order in which they happen.
pub struct Workload<S> {
    source: S,
    ahead: Option<SourceOrder>,
    source_ended: bool,
    failed: bool,
    floor: Floor,
}

impl<S> fmt::Debug for Workload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("source_orders", &self.floor.desk.ledger.source_orders())
            .field("events", &self.floor.desk.ledger.events())
            .finish_non_exhaustive()
    }
}

impl<S> Workload<S>
where
    S: Iterator<Item = Result<SourceOrder, OrderLinesError>>,
{
    /// A workload that has not begun.
    ///
    /// # Panics
    /// If there are to be no warehouses.
    pub fn new(source: S, settings: Settings) -> Self {
        assert!(settings.warehouses > 0, "a workload needs a warehouse");
        Self {
            source,
            ahead: None,
            source_ended: false,
            failed: false,
            floor: Floor::new(settings),
        }
    }

    /// The books. While events are still being taken they may be a few events ahead of them (those
    /// of one step are booked at once); at the end they agree to the last unit.
    pub fn ledger(&self) -> &Ledger {
        &self.floor.desk.ledger
    }

    /// The books, at the end.
    pub fn into_ledger(self) -> Ledger {
        self.floor.desk.ledger
    }

    /// Orders that have neither ended nor been dropped.
    pub fn open_orders(&self) -> usize {
        self.floor.orders.len()
    }

    /// Lets the next thing happen: an order comes in, or what is on the agenda. False at the end.
    fn step(&mut self) -> Result<bool, WorkloadError> {
        if self.ahead.is_none() && !self.source_ended {
            self.ahead = self.source.next().transpose()?;
            self.source_ended = self.ahead.is_none();
        }
        let next_ms = self.floor.agenda.next_ms();
        match self.ahead.take() {
            Some(order) if next_ms.is_none_or(|next_ms| order.ordered_at_ms <= next_ms) => {
                let arrived = self.floor.arrive(&order);
                arrived.map_err(|order_id| WorkloadError::RepeatedOrder { order_id })?;
                Ok(true)
            }
            ahead => {
                self.ahead = ahead;
                Ok(self.floor.step())
            }
        }
    }
}

impl<S> Iterator for Workload<S>
where
    S: Iterator<Item = Result<SourceOrder, OrderLinesError>>,
{
    type Item = Result<WorkloadEvent, WorkloadError>;

    /// The next event. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.floor.desk.take() {
                return Some(Ok(event));
            }
            if self.failed {
                return None;
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
