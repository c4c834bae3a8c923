//! Payloads of the canonical events, field for field as they stand in `data`, in `snake_case`.
//!
//! What a service may leave out is optional or has a default; what an event means nothing without is
//! required. Old spellings of single fields are serde aliases here; camelCase is dealt with by the
//! decoder. Units: quantities in pieces, durations in seconds, weights in kilograms.

use serde::{Deserialize, Serialize};

use super::{Moment, lenient};

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

/// Orders were put together into a wave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WavePlanned {
    /// The wave.
    pub wave_id: String,
    /// Its orders.
    #[serde(default)]
    pub order_ids: Vec<String>,
    /// The warehouse.
    #[serde(default)]
    pub warehouse_id: String,
    /// How its orders were chosen.
    #[serde(default, deserialize_with = "lenient::text")]
    pub strategy: String,
    /// LOW, NORMAL, HIGH or CRITICAL.
    #[serde(default, deserialize_with = "lenient::text")]
    pub priority: String,
    /// When it is to be released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_release_time: Option<Moment>,
    /// Lines to pick (our extension).
    #[serde(default)]
    pub total_lines: i64,
    /// Pieces to pick (our extension).
    #[serde(default)]
    pub total_units: i64,
    /// When the carrier leaves (our extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_cutoff: Option<Moment>,
}

/// A wave went to the floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaveReleased {
    /// The wave.
    pub wave_id: String,
    /// Its orders.
    #[serde(default)]
    pub order_ids: Vec<String>,
    /// The warehouse.
    #[serde(default)]
    pub warehouse_id: String,
    /// The zone that has most of its lines.
    #[serde(default, alias = "assigned_zone")]
    pub zone_id: String,
    /// LOW, NORMAL, HIGH or CRITICAL.
    #[serde(default, deserialize_with = "lenient::text")]
    pub priority: String,
    /// Lines to pick.
    #[serde(default)]
    pub total_lines: i64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Moment>,
    /// When the carrier leaves (our extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_cutoff: Option<Moment>,
}

/// Every order of a wave is ready to ship or cancelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaveCompleted {
    /// The wave.
    pub wave_id: String,
    /// Orders in it.
    #[serde(default)]
    pub total_orders: i64,
    /// Orders that are ready to ship.
    #[serde(default)]
    pub completed_orders: i64,
    /// Lines picked in full, 0 to 1.
    #[serde(default)]
    pub pick_accuracy: f64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Moment>,
}

/// A wave was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaveCancelled {
    /// The wave.
    pub wave_id: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Moment>,
}

/// A task changed its state. One shape for all of its events, so that what a state adds is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskChanged {
    /// The task.
    pub task_id: String,
    /// PICK, PACK, PUTAWAY, REPLENISH, COUNT, MOVE or SHIP.
    #[serde(default)]
    pub task_type: String,
    /// The wave that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The warehouse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse_id: Option<String>,
    /// Where the work is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// LOW, NORMAL, HIGH or CRITICAL.
    #[serde(
        default,
        deserialize_with = "lenient::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub priority: Option<String>,
    /// Who does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// Created: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    /// Created: how long it is thought to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_seconds: Option<i64>,
    /// Assigned: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_at: Option<Moment>,
    /// Started: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// Completed: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Moment>,
    /// Completed: how long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// Completed: lines done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_processed: Option<i64>,
    /// Failed or cancelled: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Cancelled: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Moment>,
}

/// A picker started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PickSessionStarted {
    /// The session.
    #[serde(alias = "pick_task_id")]
    pub session_id: String,
    /// The task that it fulfils.
    #[serde(default)]
    pub task_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The picker.
    #[serde(default)]
    pub worker_id: String,
    /// The warehouse.
    #[serde(default)]
    pub warehouse_id: String,
    /// How the picker walks.
    #[serde(default, deserialize_with = "lenient::text")]
    pub strategy: String,
    /// Lines to pick.
    #[serde(default, alias = "total_items")]
    pub total_instructions: i64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
}

/// A line was picked in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PickConfirmed {
    /// The session.
    #[serde(alias = "pick_task_id")]
    pub session_id: String,
    /// Which of the session's instructions.
    #[serde(default)]
    pub instruction_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The sku.
    #[serde(alias = "item_sku", alias = "sku_code")]
    pub sku: String,
    /// Pieces picked.
    pub quantity: i64,
    /// Aisle-bay-level-position.
    #[serde(
        default,
        alias = "location",
        deserialize_with = "lenient::place",
        skip_serializing_if = "Option::is_none"
    )]
    pub location_id: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picked_at: Option<Moment>,
}

/// A line could not be picked in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PickShort {
    /// The session.
    #[serde(alias = "pick_task_id")]
    pub session_id: String,
    /// Which of the session's instructions.
    #[serde(default)]
    pub instruction_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The sku.
    #[serde(alias = "item_sku", alias = "sku_code")]
    pub sku: String,
    /// Pieces asked for.
    #[serde(alias = "requested_quantity")]
    pub expected_quantity: i64,
    /// Pieces found.
    pub actual_quantity: i64,
    /// Why.
    #[serde(default, alias = "exception_type")]
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Moment>,
}

/// A picker has finished, or the session was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PickSessionEnded {
    /// The session.
    #[serde(alias = "pick_task_id")]
    pub session_id: String,
    /// The task that it fulfilled.
    #[serde(default)]
    pub task_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The picker.
    #[serde(default)]
    pub worker_id: String,
    /// Lines done, short ones included.
    #[serde(default, alias = "locations_visited")]
    pub completed_instructions: i64,
    /// Lines that came short.
    #[serde(default)]
    pub short_picks: i64,
    /// Lines picked in full, 0 to 1.
    #[serde(default)]
    pub accuracy: f64,
    /// How long it took.
    #[serde(default, alias = "duration", deserialize_with = "lenient::seconds")]
    pub duration_seconds: i64,
    /// When.
    #[serde(
        default,
        alias = "cancelled_at",
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<Moment>,
}

/// A packer started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackSessionStarted {
    /// The session.
    #[serde(alias = "pack_task_id")]
    pub session_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    pub order_id: String,
    /// The packer.
    #[serde(default)]
    pub worker_id: String,
    /// The station.
    #[serde(default)]
    pub packing_station: String,
    /// Lines to pack.
    #[serde(default)]
    pub items_to_pack: i64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
}

/// A line was scanned at the packing station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackItemScanned {
    /// The session.
    #[serde(alias = "pack_task_id")]
    pub session_id: String,
    /// The order.
    pub order_id: String,
    /// The sku.
    #[serde(alias = "item_sku", alias = "sku_code")]
    pub sku: String,
    /// Pieces scanned.
    pub quantity: i64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned_at: Option<Moment>,
}

/// The cartons were chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CartonOptimized {
    /// The session.
    #[serde(default, alias = "pack_task_id")]
    pub session_id: String,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The first carton.
    #[serde(default)]
    pub carton_id: String,
    /// Number of cartons.
    #[serde(default)]
    pub cartons_used: i64,
    /// Volume of all cartons.
    #[serde(default)]
    pub total_volume_cubic_meters: f64,
}

/// A parcel was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityChecked {
    /// The session.
    #[serde(default, alias = "pack_task_id")]
    pub session_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    pub order_id: String,
    /// What was checked.
    #[serde(default)]
    pub check_type: String,
    /// PASSED or FAILED.
    pub result: String,
    /// Who checked.
    #[serde(default)]
    pub checked_by: String,
    /// What was found: texts, or objects of the service's own.
    #[serde(default)]
    pub issues_found: Vec<serde_json::Value>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Moment>,
}

impl QualityChecked {
    /// Whether the parcel passed.
    pub fn passed(&self) -> bool {
        self.result.eq_ignore_ascii_case("PASSED") || self.result.eq_ignore_ascii_case("PASS")
    }
}

/// A packer has finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackSessionCompleted {
    /// The session.
    #[serde(alias = "pack_task_id")]
    pub session_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order.
    pub order_id: String,
    /// The packer.
    #[serde(default)]
    pub worker_id: String,
    /// How long it took.
    #[serde(default)]
    pub duration_seconds: i64,
    /// Lines packed.
    #[serde(default)]
    pub items_packed: i64,
    /// Number of cartons.
    #[serde(default)]
    pub cartons_used: i64,
    /// Weight of all cartons.
    #[serde(default)]
    pub total_weight_kg: f64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Moment>,
}

/// A shipping label was printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelGenerated {
    /// The label.
    pub label_id: String,
    /// The carrier's number.
    pub tracking_number: String,
    /// The carton.
    #[serde(default)]
    pub carton_id: String,
    /// The order.
    pub order_id: String,
    /// The carrier.
    #[serde(default)]
    pub carrier: String,
    /// The carrier's service.
    #[serde(default)]
    pub service_level: String,
    /// When it should arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_delivery_date: Option<Moment>,
}

/// A shipment waits for its carrier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShipmentReady {
    /// The shipment.
    pub shipment_id: String,
    /// The wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_id: Option<String>,
    /// The order (our extension; else the correlation id says it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The carrier's numbers.
    #[serde(default)]
    pub tracking_numbers: Vec<String>,
    /// Number of cartons.
    #[serde(default)]
    pub carton_count: i64,
    /// Weight of all cartons.
    #[serde(default)]
    pub total_weight_kg: f64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Moment>,
    /// When the carrier comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pickup_scheduled_at: Option<Moment>,
}

/// The carrier took or delivered a shipment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShipmentMoved {
    /// The shipment.
    pub shipment_id: String,
    /// The order.
    pub order_id: String,
    /// The carrier.
    #[serde(default)]
    pub carrier: String,
    /// The carrier's number.
    #[serde(default)]
    pub tracking_number: String,
    /// When the carrier took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatched_at: Option<Moment>,
    /// When it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Moment>,
}

/// No carton could be computed; the packer chooses by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CartonizationFailed {
    /// The pack session.
    #[serde(alias = "pack_task_id")]
    pub session_id: String,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Why.
    #[serde(default, alias = "error_message")]
    pub reason: String,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: i64,
}

/// The payload of an event that no projection reads: its fields as they are.
pub type Untyped = serde_json::Map<String, serde_json::Value>;
