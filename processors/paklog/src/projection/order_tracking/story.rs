//! What a customer is told of an order, in the fields of `PakLog`'s customer experience hub: the present
//! status and place, and each stage with its time. All of it follows from the row's facts.

use conveyor_processors::table::Row;
use serde_json::{Value as Json, json};

use super::STAGE_COLUMNS;
use crate::event::Moment;
use crate::state::OrderStage;

/// Writes the story into the row.
pub(super) fn tell(row: &mut Row, stage: OrderStage) {
    let tracking_id = row.text("order_id").map(|order| format!("TRACK-{order}"));
    let location = location(row, stage).map(str::to_owned);
    let history = history(row);
    let carrier = json!({
        "carrier": row.text("carrier"),
        "serviceLevel": row.text("service_level"),
        "shipmentId": row.text("shipment_id"),
    });
    let has_carrier = row.text("carrier").is_some() || row.text("shipment_id").is_some();
    row.set("tracking_id", tracking_id)
        .set("current_status", simplified(stage))
        .set("current_location", location)
        .set("status_history", history)
        .set("carrier_info", has_carrier.then_some(carrier));
}

/// The few statuses that customers know.
const fn simplified(stage: OrderStage) -> &'static str {
    match stage {
        OrderStage::New | OrderStage::Received | OrderStage::Validated => "RECEIVED",
        OrderStage::Backordered => "DELAYED",
        OrderStage::Allocated
        | OrderStage::WaveAssigned
        | OrderStage::Released
        | OrderStage::Picking
        | OrderStage::Picked
        | OrderStage::Packing
        | OrderStage::QcFailed
        | OrderStage::Packed => "PROCESSING",
        OrderStage::Ready => "READY_TO_SHIP",
        OrderStage::Invalidated => "REJECTED",
        OrderStage::Cancelled => "CANCELLED",
        OrderStage::Shipped => "SHIPPED",
        OrderStage::Delivered => "DELIVERED",
    }
}

/// Where the goods are in a stage, as far as it is known: in the warehouse, with the carrier, there.
fn location(row: &Row, stage: OrderStage) -> Option<&str> {
    match simplified(stage) {
        "PROCESSING" | "READY_TO_SHIP" => row.text("warehouse_id"),
        "SHIPPED" => row.text("carrier"),
        "DELIVERED" => row.text("destination"),
        _ => None,
    }
}

/// The stages that were reached, in the order of their times.
fn history(row: &Row) -> Json {
    let reached = STAGE_COLUMNS
        .iter()
        .filter_map(|(stage, column)| Some((row.timestamp_ms(column)?, *stage)));
    let mut reached: Vec<_> = reached.collect();
    reached.sort_by_key(|(at_ms, stage)| (*at_ms, stage.rank()));
    let entry = |(at_ms, stage): (i64, OrderStage)| {
        json!({
            "status": stage.name(),
            "location": location(row, stage),
            "timestamp": Moment(at_ms).to_string(),
            "notes": notes(row, stage),
        })
    };
    reached.into_iter().map(entry).collect()
}

/// What else there is to say of a stage.
fn notes(row: &Row, stage: OrderStage) -> Option<String> {
    let (lines, short) = (row.integer("total_lines"), row.integer("short_lines"));
    let allocated = row.integer("allocated_lines");
    match stage {
        OrderStage::Allocated if allocated < lines => {
            Some(format!("{allocated} of {lines} lines are in stock"))
        }
        OrderStage::Picked if short > 0 => Some(format!("{short} lines came short")),
        OrderStage::QcFailed => Some(format!("failed checks: {}", row.integer("qc_failures"))),
        OrderStage::Invalidated | OrderStage::Cancelled => {
            row.text("cancellation_reason").map(str::to_owned)
        }
        _ => None,
    }
}
