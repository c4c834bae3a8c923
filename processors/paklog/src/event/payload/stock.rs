//! Payloads of stock events.

use serde::{Deserialize, Serialize};

/// The stock of one sku.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// Pieces in the building.
    pub quantity_on_hand: i64,
    /// Pieces promised to orders.
    pub quantity_allocated: i64,
    /// What can still be promised: on hand − allocated.
    pub available_to_promise: i64,
}

/// The stock of a sku changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StockLevelChanged {
    /// The sku.
    pub sku: String,
    /// Before.
    pub previous_stock_level: StockLevel,
    /// After.
    pub new_stock_level: StockLevel,
    /// Why.
    #[serde(default)]
    pub change_reason: String,
    /// The order that it was done for (our extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
}
