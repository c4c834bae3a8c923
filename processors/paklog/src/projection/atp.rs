//! `atp`: what can be promised of each sku, now.
//!
//! Events carry the whole stock level, so the last one counts. Where events carry the version of
//! the stock, one that is not newer than the row is left out; `gaps` counts events that did not
//! follow on from the row, which means that an event was lost or came twice before it got here.
//! `part` and `off` say where the last event stood. The list `atp:out` has the skus of which nothing
//! can be promised.

use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Listing, Projection, RowKey, Rows, Source, Table, Value,
};

use super::facts::happened_ms;
use crate::event::payload::StockLevelChanged;
use crate::event::{Event, Payload};
use crate::topics::Topic;

const TABLE: &str = "atp";

/// Stock and what can be promised of it, by sku.
#[derive(Clone, Copy, Debug, Default)]
pub struct Atp;

impl Projection for Atp {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let table = Table::new(TABLE, &[("sku", ColumnType::Text)])
            .column("on_hand", ColumnType::Integer)
            .column("allocated", ColumnType::Integer)
            .column("atp", ColumnType::Integer)
            .column("reason", ColumnType::Text)
            .column("as_of", ColumnType::Timestamp)
            .column("version", ColumnType::Integer)
            .column("gaps", ColumnType::Integer)
            .column("part", ColumnType::Integer)
            .column("off", ColumnType::Integer)
            .listed(&Listing::set("atp:out", "sku").at_most("atp", 0));
        Declaration::new(TABLE, 2)
            .source(Topic::Inventory.name())
            .table(table)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        match &event.payload {
            Payload::StockLevelChanged(change) => vec![RowKey::new(TABLE, &change.sku)],
            _ => Vec::new(),
        }
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Payload::StockLevelChanged(change) = &event.payload else {
            return Ok(());
        };
        check(change)?;
        let key = RowKey::new(TABLE, &change.sku);
        let is_new = rows.get(&key)?.is_none();
        let version = event.attributes.aggregate_version.unwrap_or(0);
        if version > 0
            && rows
                .get(&key)?
                .is_some_and(|row| row.integer("version") >= version)
        {
            return Ok(());
        }
        let row = rows.edit(&key)?;
        let before = change.previous_stock_level;
        let follows_on = row.integer("on_hand") == before.quantity_on_hand
            && row.integer("allocated") == before.quantity_allocated;
        if !is_new && !follows_on {
            row.increment("gaps", 1);
        }
        let after = change.new_stock_level;
        row.set("on_hand", after.quantity_on_hand)
            .set("allocated", after.quantity_allocated)
            .set("atp", after.available_to_promise)
            .set("reason", change.change_reason.as_str())
            .set(
                "as_of",
                Value::timestamp_ms(happened_ms(None, event, source)),
            )
            .set("version", version)
            .set("part", source.partition)
            .set("off", source.offset.value());
        Ok(())
    }
}

/// A level that contradicts itself is not stored.
fn check(change: &StockLevelChanged) -> Result<(), ApplyError> {
    let level = change.new_stock_level;
    let atp = level.quantity_on_hand.checked_sub(level.quantity_allocated);
    if atp != Some(level.available_to_promise) {
        return Err(ApplyError::record(format!(
            "sku {}: {} on hand less {} allocated is not {} available to promise",
            change.sku,
            level.quantity_on_hand,
            level.quantity_allocated,
            level.available_to_promise
        )));
    }
    Ok(())
}
