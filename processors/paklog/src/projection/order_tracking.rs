//! `order_tracking`: where each order is, and what happened to it when.
//!
//! A row has one time for each stage, noted when an event says that the stage was reached. The
//! stage is the one of the highest rank that was reached, so events may come from the topics in
//! any order. One stage is not said by any event: an order is *picked* when as many lines were
//! picked or came short as were allocated.
//!
//! What a customer is shown ([`story`]) follows from that. `src` has the place of the last record of
//! each partition that said something of the order.

mod story;

use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Projection, RowKey, Rows, Source, Table, Value,
};

use serde_json::{Map, Value as Json};

use super::facts::{first_at, happened_ms, known, last_at};
use crate::event::payload::Order;
use crate::event::{Event, Payload};
use crate::state::OrderStage;
use crate::topics::Topic;

const TABLE: &str = "order_tracking";

/// The columns of the stages, by rank.
const STAGE_COLUMNS: [(OrderStage, &str); 16] = [
    (OrderStage::Received, "received_at"),
    (OrderStage::Validated, "validated_at"),
    (OrderStage::Backordered, "backordered_at"),
    (OrderStage::Allocated, "allocated_at"),
    (OrderStage::WaveAssigned, "wave_assigned_at"),
    (OrderStage::Released, "released_at"),
    (OrderStage::Picking, "picking_at"),
    (OrderStage::Picked, "picked_at"),
    (OrderStage::Packing, "packing_at"),
    (OrderStage::QcFailed, "qc_failed_at"),
    (OrderStage::Packed, "packed_at"),
    (OrderStage::Ready, "ready_at"),
    (OrderStage::Invalidated, "invalidated_at"),
    (OrderStage::Cancelled, "cancelled_at"),
    (OrderStage::Shipped, "shipped_at"),
    (OrderStage::Delivered, "actual_delivery"),
];

/// Stage, times and figures of each order.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderTracking;

impl Projection for OrderTracking {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let table = Table::new(TABLE, &[("order_id", ColumnType::Text)])
            .column("tracking_id", ColumnType::Text)
            .column("current_status", ColumnType::Text)
            .column("current_location", ColumnType::Text)
            .column("status_history", ColumnType::Json)
            .column("carrier_info", ColumnType::Json)
            .column("src", ColumnType::Json)
            .column("stage", ColumnType::Text)
            .column("stage_rank", ColumnType::Integer)
            .column("customer_id", ColumnType::Text)
            .column("warehouse_id", ColumnType::Text)
            .column("wave_id", ColumnType::Text)
            .column("shipping_speed", ColumnType::Text)
            .column("total_lines", ColumnType::Integer)
            .column("total_units", ColumnType::Integer)
            .column("allocated_lines", ColumnType::Integer)
            .column("picked_lines", ColumnType::Integer)
            .column("short_lines", ColumnType::Integer)
            .column("picked_units", ColumnType::Integer)
            .column("open_tasks", ColumnType::Integer)
            .column("qc_failures", ColumnType::Integer)
            .column("partially_accepted", ColumnType::Boolean)
            .column("shipment_id", ColumnType::Text)
            .column("carrier", ColumnType::Text)
            .column("service_level", ColumnType::Text)
            .column("destination", ColumnType::Text)
            .column("tracking_number", ColumnType::Text)
            .column("estimated_delivery", ColumnType::Timestamp)
            .column("cancellation_reason", ColumnType::Text);
        let table = STAGE_COLUMNS
            .into_iter()
            .fold(table, |table, (_, column)| {
                table.column(column, ColumnType::Timestamp)
            })
            .column("last_pick_at", ColumnType::Timestamp)
            .column("last_event_at", ColumnType::Timestamp)
            .in_camel_case()
            .field("src", "_src")
            .moments_in("status_history", "timestamp")
            .index("stage")
            .index("wave_id");
        let topics = [
            Topic::Order,
            Topic::Wave,
            Topic::Task,
            Topic::Pick,
            Topic::Pack,
            Topic::External,
        ];
        Declaration::new(TABLE, 2)
            .sources_of(&topics.map(Topic::name))
            .table(table)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        orders_of(&event.payload).into_iter().map(key).collect()
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        for order_id in orders_of(&event.payload) {
            let row = rows.edit(&key(order_id))?;
            let at_ms = note(row, event, source);
            last_at(row, "last_event_at", at_ms);
            note_source(row, source);
            conclude(row);
        }
        Ok(())
    }
}

fn key(order_id: &str) -> RowKey {
    RowKey::new(TABLE, order_id)
}

/// The orders that an event is about; none if it does not matter here.
fn orders_of(payload: &Payload) -> Vec<&str> {
    let order_id = match payload {
        Payload::WavePlanned(wave) => return wave.order_ids.iter().map(String::as_str).collect(),
        Payload::WaveReleased(wave) => return wave.order_ids.iter().map(String::as_str).collect(),
        Payload::OrderReceived(event)
        | Payload::OrderValidated(event)
        | Payload::OrderReleased(event)
        | Payload::OrderPickingCompleted(event)
        | Payload::OrderPackingCompleted(event)
        | Payload::OrderShipped(event) => &event.order.order_id,
        Payload::OrderPartiallyAccepted(event) | Payload::OrderStockUnavailable(event) => {
            &event.order.order_id
        }
        Payload::OrderAllocated(event) => &event.order_id,
        Payload::OrderCancelled(event) | Payload::OrderInvalidated(event) => &event.order_id,
        Payload::TaskCreated(task)
        | Payload::TaskCompleted(task)
        | Payload::TaskFailed(task)
        | Payload::TaskCancelled(task) => one(task.order_id.as_ref()),
        Payload::PickSessionStarted(session) => one(session.order_id.as_ref()),
        Payload::PickConfirmed(pick) => one(pick.order_id.as_ref()),
        Payload::PickShort(pick) => one(pick.order_id.as_ref()),
        Payload::PackSessionStarted(session) => &session.order_id,
        Payload::QualityChecked(check) => &check.order_id,
        Payload::PackSessionCompleted(session) => &session.order_id,
        Payload::LabelGenerated(label) => &label.order_id,
        Payload::ShipmentReady(shipment) => one(shipment.order_id.as_ref()),
        Payload::ShipmentDispatched(shipment) | Payload::ShipmentDelivered(shipment) => {
            &shipment.order_id
        }
        _ => "",
    };
    Some(order_id)
        .filter(|order_id| !order_id.is_empty())
        .into_iter()
        .collect()
}

fn one(order_id: Option<&String>) -> &str {
    order_id.map_or("", String::as_str)
}

/// Notes what the event says; returns when it happened.
fn note(row: &mut Row, event: &Event, source: &Source) -> i64 {
    let happened = |said| happened_ms(said, event, source);
    match &event.payload {
        Payload::OrderReceived(snapshot) => {
            note_order(row, &snapshot.order);
            reached(row, OrderStage::Received, happened(None))
        }
        Payload::OrderValidated(snapshot) => {
            note_order(row, &snapshot.order);
            reached(row, OrderStage::Validated, happened(None))
        }
        Payload::OrderPartiallyAccepted(shortage) => {
            note_order(row, &shortage.order);
            row.set("partially_accepted", true);
            happened(None)
        }
        Payload::OrderStockUnavailable(shortage) => {
            note_order(row, &shortage.order);
            reached(row, OrderStage::Backordered, happened(None))
        }
        Payload::OrderAllocated(allocated) => {
            known(row, "warehouse_id", Some(&allocated.warehouse_id));
            row.set("allocated_lines", allocated.total_lines);
            reached(
                row,
                OrderStage::Allocated,
                happened(Some(allocated.allocated_at)),
            )
        }
        Payload::OrderCancelled(closed) => {
            known(
                row,
                "cancellation_reason",
                Some(&closed.cancellation_reason),
            );
            reached(row, OrderStage::Cancelled, happened(closed.cancelled_at))
        }
        Payload::OrderInvalidated(closed) => {
            known(
                row,
                "cancellation_reason",
                Some(&closed.cancellation_reason),
            );
            reached(row, OrderStage::Invalidated, happened(closed.cancelled_at))
        }
        Payload::OrderReleased(_) => reached(row, OrderStage::Released, happened(None)),
        Payload::OrderPickingCompleted(_) => reached(row, OrderStage::Picked, happened(None)),
        Payload::OrderPackingCompleted(_) => reached(row, OrderStage::Packed, happened(None)),
        Payload::OrderShipped(_) => reached(row, OrderStage::Shipped, happened(None)),
        Payload::WavePlanned(wave) => {
            known(row, "wave_id", Some(&wave.wave_id));
            reached(row, OrderStage::WaveAssigned, happened(None))
        }
        Payload::WaveReleased(wave) => {
            known(row, "wave_id", Some(&wave.wave_id));
            reached(row, OrderStage::Released, happened(wave.released_at))
        }
        Payload::TaskCreated(task) => {
            row.increment("open_tasks", 1);
            happened(task.created_at)
        }
        Payload::TaskCompleted(task) | Payload::TaskFailed(task) | Payload::TaskCancelled(task) => {
            row.increment("open_tasks", -1);
            happened(task.completed_at.or(task.cancelled_at))
        }
        Payload::PickSessionStarted(session) => {
            known(row, "wave_id", session.wave_id.as_deref());
            reached(row, OrderStage::Picking, happened(session.started_at))
        }
        Payload::PickConfirmed(pick) => {
            row.increment("picked_lines", 1)
                .increment("picked_units", pick.quantity);
            picked(row, happened(pick.picked_at))
        }
        Payload::PickShort(pick) => {
            row.increment("short_lines", 1)
                .increment("picked_units", pick.actual_quantity);
            picked(row, happened(pick.reported_at))
        }
        Payload::PackSessionStarted(session) => {
            reached(row, OrderStage::Packing, happened(session.started_at))
        }
        Payload::QualityChecked(check) if check.passed() => happened(check.checked_at),
        Payload::QualityChecked(check) => {
            row.increment("qc_failures", 1);
            reached(row, OrderStage::QcFailed, happened(check.checked_at))
        }
        Payload::PackSessionCompleted(session) => {
            reached(row, OrderStage::Packed, happened(session.completed_at))
        }
        Payload::LabelGenerated(label) => {
            known(row, "carrier", Some(&label.carrier));
            known(row, "service_level", Some(&label.service_level));
            known(row, "tracking_number", Some(&label.tracking_number));
            if let Some(estimate) = label.estimated_delivery_date {
                row.set("estimated_delivery", Value::timestamp_ms(estimate.0));
            }
            happened(None)
        }
        Payload::ShipmentReady(shipment) => {
            known(row, "shipment_id", Some(&shipment.shipment_id));
            reached(row, OrderStage::Ready, happened(shipment.ready_at))
        }
        Payload::ShipmentDispatched(shipment) => {
            known(row, "shipment_id", Some(&shipment.shipment_id));
            reached(row, OrderStage::Shipped, happened(shipment.dispatched_at))
        }
        Payload::ShipmentDelivered(shipment) => {
            known(row, "shipment_id", Some(&shipment.shipment_id));
            reached(row, OrderStage::Delivered, happened(shipment.delivered_at))
        }
        _ => happened(None),
    }
}

fn note_order(row: &mut Row, order: &Order) {
    known(row, "customer_id", order.customer_id.as_deref());
    known(row, "warehouse_id", order.warehouse_id.as_deref());
    known(
        row,
        "shipping_speed",
        order.shipping_speed_category.as_deref(),
    );
    if let Some(address) = &order.destination_address {
        let parts = [
            &address.city,
            &address.state_or_region,
            &address.country_code,
        ];
        let said: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let place = said.into_iter().map(String::as_str).collect::<Vec<_>>();
        known(row, "destination", Some(&place.join(", ")));
    }
    let units = order
        .items
        .iter()
        .fold(0_i64, |sum, item| sum.saturating_add(item.quantity));
    row.set("total_lines", order.items.len() as i64)
        .set("total_units", units);
}

/// Notes the place of the last record of each partition: topic, partition, offset.
fn note_source(row: &mut Row, source: &Source) {
    let mut topics = match row.json("src") {
        Some(Json::Object(topics)) => topics.clone(),
        _ => Map::new(),
    };
    let topic = topics
        .entry(source.topic.as_ref())
        .or_insert_with(|| Map::new().into());
    if let Json::Object(partitions) = topic {
        let partition = source.partition.to_string();
        let known = partitions.get(&partition).and_then(Json::as_i64);
        let offset = source.offset.value();
        partitions.insert(partition, known.unwrap_or(offset).max(offset).into());
    }
    row.set("src", Json::Object(topics));
}

/// Notes when a stage was reached first; returns that event's time.
fn reached(row: &mut Row, stage: OrderStage, at_ms: i64) -> i64 {
    if let Some((_, column)) = STAGE_COLUMNS.iter().find(|(known, _)| *known == stage) {
        first_at(row, column, at_ms);
    }
    at_ms
}

/// Notes a line that was picked or came short.
fn picked(row: &mut Row, at_ms: i64) -> i64 {
    last_at(row, "last_pick_at", at_ms);
    reached(row, OrderStage::Picking, at_ms)
}

/// Draws the conclusions from the facts: whether all is picked, the stage, and what to tell of it.
fn conclude(row: &mut Row) {
    let allocated = row.integer("allocated_lines");
    let done = row.integer("picked_lines") + row.integer("short_lines");
    if allocated > 0
        && done >= allocated
        && let Some(last_ms) = row.timestamp_ms("last_pick_at")
    {
        row.set("picked_at", Value::timestamp_ms(last_ms));
    }
    let stage = STAGE_COLUMNS
        .iter()
        .rev()
        .find(|(_, column)| row.timestamp_ms(column).is_some())
        .map_or(OrderStage::New, |(stage, _)| *stage);
    row.set("stage", stage.name())
        .set("stage_rank", stage.rank());
    story::tell(row, stage);
}
