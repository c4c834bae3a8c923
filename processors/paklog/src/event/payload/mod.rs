//! Payloads of the canonical events, field for field as they stand in `data`, in `snake_case`.
//!
//! What a service may leave out is optional or has a default; what an event means nothing without is
//! required. Old spellings of single fields are serde aliases here; camelCase is dealt with by the
//! decoder. Units: quantities in pieces, durations in seconds, weights in kilograms.

mod order;
mod pack;
mod pick;
mod shipment;
mod stock;
mod task;
mod wave;

pub use order::{
    Address, Order, OrderAllocated, OrderClosed, OrderItem, OrderShortage, OrderSnapshot,
    UnfulfillableItem,
};
pub use pack::{
    CartonOptimized, CartonizationFailed, PackItemScanned, PackSessionCompleted,
    PackSessionStarted, QualityChecked,
};
pub use pick::{PickConfirmed, PickSessionEnded, PickSessionStarted, PickShort};
pub use shipment::{LabelGenerated, ShipmentMoved, ShipmentReady};
pub use stock::{StockLevel, StockLevelChanged};
pub use task::TaskChanged;
pub use wave::{WaveCancelled, WaveCompleted, WavePlanned, WaveReleased};

/// The payload of an event that no projection reads: its fields as they are.
pub type Untyped = serde_json::Map<String, serde_json::Value>;
