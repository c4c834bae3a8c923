//! Payloads of order events.

use serde::{Deserialize, Serialize};

use crate::event::Moment;

/// An order as the order service embeds it in its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// UUID of the order.
    pub order_id: String,
    /// The seller's own number of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller_fulfillment_order_id: Option<String>,
    /// The number that the customer sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displayable_order_id: Option<String>,
    /// The date that the customer sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displayable_order_date: Option<Moment>,
    /// The remark that the customer sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displayable_order_comment: Option<String>,
    /// STANDARD, EXPEDITED, PRIORITY, `SAME_DAY`, `NEXT_DAY` or SCHEDULED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping_speed_category: Option<String>,
    /// Where the goods go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_address: Option<Address>,
    /// The order service's own status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The lines.
    #[serde(default)]
    pub items: Vec<OrderItem>,
    /// When the order came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_date: Option<Moment>,
    /// `FILL_OR_KILL`, `FILL_ALL` or `FILL_ALL_AVAILABLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fulfillment_policy: Option<String>,
    /// COMPLETE, PARTIAL or UNFULFILLABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fulfillment_action: Option<String>,
    /// Who ordered (our extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// The warehouse that fulfils the order (our extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse_id: Option<String>,
}

/// A postal address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// Name of the receiver.
    #[serde(default)]
    pub name: String,
    /// Street and number.
    #[serde(default)]
    pub address_line1: String,
    /// City.
    #[serde(default)]
    pub city: String,
    /// State or region.
    #[serde(default)]
    pub state_or_region: String,
    /// Postal code.
    #[serde(default)]
    pub postal_code: String,
    /// Two letters.
    #[serde(default)]
    pub country_code: String,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderItem {
    /// The sku.
    #[serde(alias = "sku")]
    pub seller_sku: String,
    /// The seller's number of the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller_fulfillment_order_item_id: Option<String>,
    /// Pieces ordered.
    pub quantity: i64,
}

/// A line, or a part of one, that cannot be filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnfulfillableItem {
    /// The sku.
    #[serde(alias = "sku")]
    pub seller_sku: String,
    /// The seller's number of the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller_fulfillment_order_item_id: Option<String>,
    /// Pieces ordered.
    pub requested_quantity: i64,
    /// Pieces that could be promised.
    pub available_quantity: i64,
    /// Pieces that could not.
    pub unfulfillable_quantity: i64,
    /// `INSUFFICIENT_STOCK`, `SKU_NOT_FOUND`, `INVENTORY_SERVICE_ERROR`, DISCONTINUED or BACKORDERED.
    pub reason: String,
}

/// Order received, validated, released, picked, packed or shipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderSnapshot {
    /// The order as it stands after the event.
    pub order: Order,
}

/// Order partially accepted, or no stock for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderShortage {
    /// The order as it stands after the event.
    pub order: Order,
    /// What is missing of a partially accepted order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfulfillable_items: Vec<UnfulfillableItem>,
    /// What is missing of an order that has to wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unavailable_items: Vec<UnfulfillableItem>,
    /// Number of lines asked for.
    #[serde(default)]
    pub total_items_requested: i64,
}

/// All that could be promised to the order is set aside (our extension).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderAllocated {
    /// The order.
    pub order_id: String,
    /// The warehouse that fulfils it.
    pub warehouse_id: String,
    /// Lines to be picked.
    pub total_lines: i64,
    /// Pieces to be picked.
    pub total_units: i64,
    /// When.
    pub allocated_at: Moment,
}

/// Order cancelled or invalidated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderClosed {
    /// The order.
    pub order_id: String,
    /// The seller's own number of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller_fulfillment_order_id: Option<String>,
    /// Why.
    #[serde(default, alias = "reason")]
    pub cancellation_reason: String,
    /// When (our extension; else the event's own time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Moment>,
}
