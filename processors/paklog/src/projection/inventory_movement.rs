//! `inventory_movement`: every change of the stock, one row each, named by its place in the log.
//!
//! The sum of a sku's movements up to a time is its stock at that time. The day on which it happened is
//! part of the key, so that stores can keep days apart; a place has one event, and so one day.

use conveyor_processors::{
    ApplyError, ColumnType, Declaration, KeyPart, Projection, RowKey, Rows, Source, Table, Value,
};

use super::facts::{day_of, happened_ms};
use crate::event::{Event, Payload};
use crate::topics::Topic;

const TABLE: &str = "inventory_movement";

/// The history of the stock.
#[derive(Clone, Copy, Debug, Default)]
pub struct InventoryMovement;

fn key(event: &Event, source: &Source) -> RowKey {
    let parts = [
        KeyPart::from(source.topic.as_ref()),
        KeyPart::from(source.partition),
        KeyPart::from(source.offset.value()),
        KeyPart::from(day_of(happened_ms(None, event, source))),
    ];
    RowKey::of(TABLE, parts)
}

impl Projection for InventoryMovement {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let place = [
            ("topic", ColumnType::Text),
            ("part", ColumnType::Integer),
            ("off", ColumnType::Integer),
            ("day", ColumnType::Integer),
        ];
        let table = Table::new(TABLE, &place)
            .column("sku", ColumnType::Text)
            .column("ts", ColumnType::Timestamp)
            .column("on_hand_delta", ColumnType::Integer)
            .column("allocated_delta", ColumnType::Integer)
            .column("reason", ColumnType::Text)
            .column("order_id", ColumnType::Text)
            .by_day("day")
            .index("sku")
            .index("order_id");
        Declaration::new(TABLE, 2)
            .source(Topic::Inventory.name())
            .table(table)
    }

    fn touches(&self, event: &Event, source: &Source) -> Vec<RowKey> {
        match &event.payload {
            Payload::StockLevelChanged(_) => vec![key(event, source)],
            _ => Vec::new(),
        }
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Payload::StockLevelChanged(change) = &event.payload else {
            return Ok(());
        };
        let (before, after) = (change.previous_stock_level, change.new_stock_level);
        let delta = |after: i64, before: i64| {
            after.checked_sub(before).ok_or_else(|| {
                ApplyError::record(format!(
                    "sku {}: from {before} to {after} pieces",
                    change.sku
                ))
            })
        };
        let on_hand = delta(after.quantity_on_hand, before.quantity_on_hand)?;
        let allocated = delta(after.quantity_allocated, before.quantity_allocated)?;
        rows.edit(&key(event, source))?
            .set("sku", change.sku.as_str())
            .set("ts", Value::timestamp_ms(happened_ms(None, event, source)))
            .set("on_hand_delta", on_hand)
            .set("allocated_delta", allocated)
            .set("reason", change.change_reason.as_str())
            .set("order_id", change.order_id.as_deref());
        Ok(())
    }
}
