//! `order_sla`: which orders will miss what was promised.
//!
//! The promise: the carrier has the order within a time that its shipping speed allows, counted from
//! when it came in (CRITICAL 4 h, EXPRESS 24 h, RUSH 2 d, STANDARD 3 d: `PakLog`'s order-management
//! documents; the names that its order service uses are taken for the one nearest to them, see
//! [`allowed_ms`]). An order is `ON_TRACK`, `AT_RISK` when three quarters of the time have passed, and
//! `BREACHED` when all of it has.
//!
//! Facts: speed, when the order came in, and the first time of each stage; they do not depend on order.
//! Deadline and cycle time follow from them. The status of an order that was shipped follows from the
//! facts alone. That of an open one also depends on how late it is, which no event says: a timer
//! of event time does, first for the risk, then for the breach. When a late event shows that the order
//! had been shipped in time, the status is set right.
//!
//! What is still due, in the order of the deadlines, is [`super::sla_due`].

use conveyor_processors::table::Row;
use conveyor_processors::timers::{Timer, TimerRules};
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Projection, RowKey, Rows, Source, Table, Value,
};

use super::facts::{first_at, happened_ms, known};
use crate::event::payload::Order;
use crate::event::{Event, Payload};
use crate::topics::Topic;

const TABLE: &str = "order_sla";
const TIMERS: TimerRules = TimerRules {
    timers: "order_sla_timer",
    clocks: "order_sla_clock",
    topics: &["order-events"],
    // Outboxes are read every 5 s, and producers give up after 120 s.
    lateness_ms: 120_000,
};

const HOUR_MS: i64 = 3_600_000;

const ON_TRACK: &str = "ON_TRACK";
const AT_RISK: &str = "AT_RISK";
const BREACHED: &str = "BREACHED";

/// Promise and way of each order.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderSla;

/// How long an order of that speed may take until the carrier has it, in ms. What is not known is
/// `STANDARD`.
pub fn allowed_ms(speed: &str) -> i64 {
    match speed.to_ascii_uppercase().as_str() {
        "CRITICAL" | "SAME_DAY" => 4 * HOUR_MS,
        "EXPRESS" | "NEXT_DAY" => 24 * HOUR_MS,
        "RUSH" | "PRIORITY" | "EXPEDITED" => 48 * HOUR_MS,
        _ => 72 * HOUR_MS,
    }
}

impl Projection for OrderSla {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let orders = Table::new(TABLE, &[("order_id", ColumnType::Text)])
            .column("status", ColumnType::Text)
            .column("speed", ColumnType::Text)
            .column("warehouse_id", ColumnType::Text)
            .column("received_at", ColumnType::Timestamp)
            .column("risk_at", ColumnType::Timestamp)
            .column("deadline", ColumnType::Timestamp)
            .column("released_at", ColumnType::Timestamp)
            .column("picking_at", ColumnType::Timestamp)
            .column("packing_at", ColumnType::Timestamp)
            .column("packed_at", ColumnType::Timestamp)
            .column("ready_at", ColumnType::Timestamp)
            .column("shipped_at", ColumnType::Timestamp)
            .column("delivered_at", ColumnType::Timestamp)
            .column("cancelled_at", ColumnType::Timestamp)
            .column("cycle_s", ColumnType::Integer)
            .column("passed_risk", ColumnType::Boolean)
            .column("passed_deadline", ColumnType::Boolean)
            .index("status")
            .index("deadline");
        let topics = [
            Topic::Order,
            Topic::Wave,
            Topic::Pick,
            Topic::Pack,
            Topic::External,
        ];
        Declaration::new(TABLE, 3)
            .sources_of(&topics.map(Topic::name))
            .table(orders)
            .timers(TIMERS)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        let orders = orders_of(&event.payload).into_iter();
        orders
            .flat_map(|order| [TABLE, TIMERS.timers].map(|table| RowKey::new(table, order)))
            .collect()
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        for order in orders_of(&event.payload) {
            let row = rows.edit(&RowKey::new(TABLE, order))?;
            note(row, event, source);
            let open = conclude(row);
            let starts = source.topic.as_ref() == Topic::Order.name();
            let Some(open) = open else {
                rows.clear_timer(order)?;
                continue;
            };
            // Only events of the order itself set its timer: it belongs to their partition.
            if let Some(next_ms) = open.next_ms.filter(|_| starts) {
                rows.set_timer(order, next_ms, source)?;
            }
        }
        Ok(())
    }

    fn fire(&self, timer: &Timer, rows: &mut Rows) -> Result<(), ApplyError> {
        let order = &timer.name;
        let key = RowKey::new(TABLE, order);
        let Some(before) = rows.get(&key)? else {
            return Ok(());
        };
        let deadline = before.timestamp_ms("deadline");
        let passed_deadline = deadline.is_some_and(|deadline_ms| timer.due_ms >= deadline_ms);
        let row = rows.edit(&key)?;
        row.set("passed_risk", true);
        if passed_deadline {
            row.set("passed_deadline", true);
        }
        let next_ms = conclude(row).and_then(|open| open.next_ms);
        match next_ms {
            Some(next_ms) => rows.set_timer_of(order, next_ms, &timer.topic_partition),
            None => Ok(()),
        }
    }
}

/// The orders that an event is about; none if it does not matter here.
fn orders_of(payload: &Payload) -> Vec<&str> {
    let order = match payload {
        Payload::WaveReleased(wave) => {
            return wave.order_ids.iter().map(String::as_str).collect();
        }
        Payload::OrderReceived(event) | Payload::OrderValidated(event) => {
            Some(&event.order.order_id)
        }
        Payload::OrderPartiallyAccepted(event) | Payload::OrderStockUnavailable(event) => {
            Some(&event.order.order_id)
        }
        Payload::OrderCancelled(event) | Payload::OrderInvalidated(event) => Some(&event.order_id),
        Payload::PickSessionStarted(session) => session.order_id.as_ref(),
        Payload::PackSessionStarted(session) => Some(&session.order_id),
        Payload::PackSessionCompleted(session) => Some(&session.order_id),
        Payload::ShipmentReady(shipment) => shipment.order_id.as_ref(),
        Payload::ShipmentDispatched(shipment) | Payload::ShipmentDelivered(shipment) => {
            Some(&shipment.order_id)
        }
        _ => None,
    };
    let order = order.map(String::as_str).filter(|order| !order.is_empty());
    order.into_iter().collect()
}

/// Notes what the event says.
fn note(row: &mut Row, event: &Event, source: &Source) {
    let happened = |said| happened_ms(said, event, source);
    if let Some(order) = whole_order(&event.payload) {
        known(row, "warehouse_id", order.warehouse_id.as_deref());
        return note_promise(row, event, source);
    }
    let (column, at_ms) = match &event.payload {
        Payload::OrderCancelled(closed) | Payload::OrderInvalidated(closed) => {
            ("cancelled_at", happened(closed.cancelled_at))
        }
        Payload::WaveReleased(wave) => ("released_at", happened(wave.released_at)),
        Payload::PickSessionStarted(session) => ("picking_at", happened(session.started_at)),
        Payload::PackSessionStarted(session) => ("packing_at", happened(session.started_at)),
        Payload::PackSessionCompleted(session) => ("packed_at", happened(session.completed_at)),
        Payload::ShipmentReady(shipment) => ("ready_at", happened(shipment.ready_at)),
        Payload::ShipmentDispatched(moved) => ("shipped_at", happened(moved.dispatched_at)),
        Payload::ShipmentDelivered(moved) => ("delivered_at", happened(moved.delivered_at)),
        _ => return,
    };
    first_at(row, column, at_ms);
}

/// The order as a whole, where an event has it.
fn whole_order(payload: &Payload) -> Option<&Order> {
    match payload {
        Payload::OrderReceived(event) | Payload::OrderValidated(event) => Some(&event.order),
        Payload::OrderPartiallyAccepted(event) | Payload::OrderStockUnavailable(event) => {
            Some(&event.order)
        }
        _ => None,
    }
}

/// Notes what the promise of an order depends on, its `speed` and when it was `received_at`, if the
/// event says so.
pub(super) fn note_promise(row: &mut Row, event: &Event, source: &Source) {
    let Some(order) = whole_order(&event.payload) else {
        return;
    };
    known(row, "speed", order.shipping_speed_category.as_deref());
    let received_ms = match &event.payload {
        Payload::OrderReceived(_) => Some(happened_ms(order.received_date, event, source)),
        _ => order.received_date.map(|received| received.0),
    };
    if let Some(received_ms) = received_ms {
        first_at(row, "received_at", received_ms);
    }
}

/// When the carrier must have an order.
#[allow(clippy::struct_field_names, reason = "the unit is part of the name")]
pub(super) struct Promise {
    received_ms: i64,
    risk_ms: i64,
    pub(super) deadline_ms: i64,
}

/// What follows from what [`note_promise`] has noted; `None` before the order has come in.
pub(super) fn promise_of(row: &Row) -> Option<Promise> {
    let received_ms = row.timestamp_ms("received_at")?;
    let allowed_ms = allowed_ms(row.text("speed").unwrap_or_default());
    Some(Promise {
        received_ms,
        risk_ms: received_ms.saturating_add(allowed_ms / 4 * 3),
        deadline_ms: received_ms.saturating_add(allowed_ms),
    })
}

/// An order that the carrier does not have yet.
struct Open {
    /// When its status may change next.
    next_ms: Option<i64>,
}

/// Draws the conclusions from the facts; what is still due, if anything is.
fn conclude(row: &mut Row) -> Option<Open> {
    let at = |row: &Row, column| row.timestamp_ms(column);
    let Some(promise) = promise_of(row) else {
        row.set("status", ON_TRACK);
        return None;
    };
    let Promise {
        received_ms,
        risk_ms,
        deadline_ms,
    } = promise;
    row.set("deadline", Value::timestamp_ms(deadline_ms))
        .set("risk_at", Value::timestamp_ms(risk_ms));
    // The carrier may report the delivery before, or without, the pick-up.
    let shipped = at(row, "shipped_at").or_else(|| at(row, "delivered_at"));
    let closed = shipped.is_some() || at(row, "cancelled_at").is_some();
    if closed {
        // From here on the facts alone say how it went, whatever a timer thought.
        row.set("passed_risk", false).set("passed_deadline", false);
        let late = shipped.is_some_and(|shipped_ms| shipped_ms > deadline_ms);
        let cycle_s = shipped.map(|shipped_ms| (shipped_ms - received_ms) / 1000);
        row.set("status", if late { BREACHED } else { ON_TRACK })
            .set("cycle_s", cycle_s);
        return None;
    }
    let passed = (row.boolean("passed_risk"), row.boolean("passed_deadline"));
    let (status, next_ms) = match passed {
        (_, true) => (BREACHED, None),
        (true, false) => (AT_RISK, Some(deadline_ms)),
        (false, false) => (ON_TRACK, Some(risk_ms)),
    };
    row.set("status", status);
    Some(Open { next_ms })
}
