//! `sla_due`: the orders that are due, the next one first.
//!
//! For whoever decides what to pick next: in Redis the sorted set `sla:due` of order ids by deadline,
//! elsewhere a table with an index. An order is in it from when it came in until it is shipped or given
//! up; the promise is that of [`super::order_sla`], which keeps the history of each order and belongs in
//! another store.
//!
//! `sla_due_order` holds the facts, of closed orders too: topics are not ordered among each other, and
//! an order of which the end is heard first must not come back when its beginning is.

use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Listing, Projection, RowKey, Rows, Source, Table, Value,
};

use super::order_sla::{note_promise, promise_of};
use crate::event::{Event, Payload};
use crate::topics::Topic;

const DUE: &str = "sla_due";
const FACTS: &str = "sla_due_order";

/// Open orders by their deadlines.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlaDue;

impl Projection for SlaDue {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let due = Table::new(DUE, &[("order_id", ColumnType::Text)])
            .column("deadline", ColumnType::Timestamp)
            .listed(&Listing::sorted("sla:due", "order_id", "deadline"));
        let facts = Table::new(FACTS, &[("order_id", ColumnType::Text)])
            .column("speed", ColumnType::Text)
            .column("received_at", ColumnType::Timestamp)
            .column("closed", ColumnType::Boolean);
        Declaration::new(DUE, 1)
            .sources_of(&[Topic::Order, Topic::External].map(Topic::name))
            .table(due)
            .table(facts)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        let order = order_of(&event.payload).into_iter();
        order
            .flat_map(|order| [DUE, FACTS].map(|table| RowKey::new(table, order)))
            .collect()
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(order) = order_of(&event.payload) else {
            return Ok(());
        };
        let facts = rows.edit(&RowKey::new(FACTS, order))?;
        if closes(&event.payload) {
            facts.set("closed", true);
        } else {
            note_promise(facts, event, source);
        }
        let promise = promise_of(facts).filter(|_| !facts.boolean("closed"));
        let due = RowKey::new(DUE, order);
        match promise {
            Some(promise) => {
                let deadline = Value::timestamp_ms(promise.deadline_ms);
                rows.edit(&due)?.set("deadline", deadline);
                Ok(())
            }
            None => rows.delete(&due),
        }
    }
}

/// The order that an event is about; none if it does not matter here.
fn order_of(payload: &Payload) -> Option<&str> {
    let order = match payload {
        Payload::OrderReceived(event) | Payload::OrderValidated(event) => &event.order.order_id,
        Payload::OrderPartiallyAccepted(event) | Payload::OrderStockUnavailable(event) => {
            &event.order.order_id
        }
        Payload::OrderCancelled(event) | Payload::OrderInvalidated(event) => &event.order_id,
        Payload::ShipmentDispatched(shipment) | Payload::ShipmentDelivered(shipment) => {
            &shipment.order_id
        }
        _ => return None,
    };
    Some(order.as_str()).filter(|order| !order.is_empty())
}

/// Whether the order is shipped or given up. The carrier may report the delivery before, or without,
/// the pick-up.
fn closes(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::OrderCancelled(_)
            | Payload::OrderInvalidated(_)
            | Payload::ShipmentDispatched(_)
            | Payload::ShipmentDelivered(_)
    )
}
