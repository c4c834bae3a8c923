//! A projection of one's own, from nothing to a table: how many units of each sku have moved in all.
//!
//! ```text
//! conveyor dev &                                            # a node with PakLog's topics
//! conveyor workload run --speed 3600 &                      # events
//! cargo run -p conveyor-paklog --example stock_moves        # this, until Ctrl-C
//! sqlite3 stock-moves.sqlite 'select * from stock_moves order by units desc limit 5'
//! conveyor projection status stock_moves
//! ```
//!
//! Copy it: the part between the lines is all that a projection is. Start it twice, and the two share
//! the partitions; kill one, and nothing is lost or counted twice.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::sync::Arc;

use conveyor_paklog::event::{Event, Payload};
use conveyor_paklog::projection::PaklogDecoder;
use conveyor_paklog::topics::Topic;
use conveyor_processors::driver::{Driver, DriverConfig};
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Projection, RowKey, Rows, Source, Table, Value,
};
use conveyor_sdk::{Client, ClientConfig};
use conveyor_stores::SqliteStore;

// ------------------------------------------------------------------------------------------------
/// Units that have come and gone, by sku.
struct StockMoves;

impl Projection for StockMoves {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let table = Table::new("stock_moves", &[("sku", ColumnType::Text)])
            .column("units", ColumnType::Integer)
            .column("moves", ColumnType::Integer)
            .column("as_of", ColumnType::Timestamp);
        Declaration::new("stock_moves", 1)
            .source(Topic::Inventory.name())
            .table(table)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        match &event.payload {
            Payload::StockLevelChanged(change) => vec![RowKey::new("stock_moves", &change.sku)],
            _ => Vec::new(),
        }
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Payload::StockLevelChanged(change) = &event.payload else {
            return Ok(());
        };
        let (before, after) = (change.previous_stock_level, change.new_stock_level);
        let moved = after.quantity_on_hand.checked_sub(before.quantity_on_hand);
        let moved = moved.ok_or_else(|| ApplyError::record("the levels are beyond all numbers"))?;
        let row = rows.edit(&RowKey::new("stock_moves", &change.sku))?;
        row.increment("units", moved.saturating_abs());
        row.increment("moves", 1);
        row.set("as_of", Value::timestamp_ms(source.timestamp_ms));
        Ok(())
    }
}
// ------------------------------------------------------------------------------------------------

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = std::env::var("CONVEYOR_BOOTSTRAP").unwrap_or_else(|_| "127.0.0.1:9192".to_owned());
    let client = Client::connect(ClientConfig::new(node.as_str())).await?;
    let driver = Driver::new(
        client,
        StockMoves,
        Arc::new(PaklogDecoder::new()),
        Arc::new(SqliteStore::open("stock-moves.sqlite")?),
        DriverConfig::default(),
    );
    println!("reading from {node} into stock-moves.sqlite; stop with Ctrl-C");
    driver
        .run(async {
            // Without a signal to wait for it ends at once.
            tokio::signal::ctrl_c().await.ok();
        })
        .await?;
    Ok(())
}
