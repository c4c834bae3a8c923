//! Payloads of labels and shipments, at the packing station and with the carrier.

use serde::{Deserialize, Serialize};

use crate::event::Moment;

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
