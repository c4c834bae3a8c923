//! Payloads of pick events.

use serde::{Deserialize, Serialize};

use crate::event::{Moment, lenient};

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
    /// Length of the way that was computed.
    #[serde(
        default,
        alias = "optimized_path_distance_meters",
        skip_serializing_if = "Option::is_none"
    )]
    pub planned_distance_meters: Option<f64>,
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
    /// Length of the way that the picker went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_distance_meters: Option<f64>,
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
