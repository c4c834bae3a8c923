//! The payload of all task events.

use serde::{Deserialize, Serialize};

use crate::event::{Moment, lenient};

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
