//! Payloads of pack events.

use serde::{Deserialize, Serialize};

use crate::event::Moment;

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
