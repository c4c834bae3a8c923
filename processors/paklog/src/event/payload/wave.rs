//! Payloads of wave events.

use serde::{Deserialize, Serialize};

use crate::event::{Moment, lenient};

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
