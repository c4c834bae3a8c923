//! What a reconciliation needs of the projections' tables.

use std::collections::BTreeMap;

use conveyor_processors::table::Row;

use crate::topics::Topic;

/// An order as `order_tracking` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackedOrder {
    /// Name of the stage.
    pub stage: String,
    /// Its wave.
    pub wave_id: Option<String>,
    /// Lines ordered.
    pub total_lines: i64,
    /// Pieces ordered.
    pub total_units: i64,
    /// Lines of which something was set aside.
    pub allocated_lines: i64,
    /// Lines picked in full.
    pub picked_lines: i64,
    /// Lines that came short.
    pub short_lines: i64,
    /// Pieces picked.
    pub picked_units: i64,
    /// Tasks that are not done.
    pub open_tasks: i64,
}

/// A sku as `atp` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StockRow {
    /// Pieces in the building.
    pub on_hand: i64,
    /// Pieces promised.
    pub allocated: i64,
    /// Pieces that can be promised.
    pub atp: i64,
    /// Events that did not follow on from the row.
    pub gaps: i64,
}

/// The sum of a sku's rows in `inventory_movement`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovementSum {
    /// Number of movements.
    pub movements: i64,
    /// Sum of the changes of what is on hand.
    pub on_hand: i64,
    /// Sum of the changes of what is promised.
    pub allocated: i64,
}

/// A wave as `wave_progress` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaveRow {
    /// Name of the state.
    pub status: String,
    /// Orders in it.
    pub total_orders: i64,
    /// Orders that are ready to ship.
    pub completed_orders: i64,
    /// Orders that are pending or in progress.
    pub open_orders: i64,
    /// Lines in it.
    pub total_lines: i64,
    /// Lines picked in full.
    pub picked_lines: i64,
    /// Lines that came short.
    pub short_lines: i64,
    /// Tasks that are not done.
    pub open_tasks: i64,
}

/// What was read from the read model's store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadModel {
    /// `order_tracking`, by order id.
    pub orders: BTreeMap<String, TrackedOrder>,
    /// `atp`, by sku.
    pub stock: BTreeMap<String, StockRow>,
    /// `inventory_movement`, summed by sku.
    pub movements: BTreeMap<String, MovementSum>,
    /// `wave_progress`, by wave id.
    pub waves: BTreeMap<String, WaveRow>,
    /// Records that each projection (by its name) applied of each topic that it reads. What is not
    /// in here is not checked.
    pub applied: BTreeMap<(String, Topic), u64>,
}

impl ReadModel {
    /// Orders in each stage.
    pub fn stages(&self) -> BTreeMap<String, u64> {
        let mut stages = BTreeMap::new();
        for order in self.orders.values() {
            *stages.entry(order.stage.clone()).or_default() += 1;
        }
        stages
    }

    /// Takes in rows of the projections' tables; rows of other tables do not matter.
    pub fn add_rows<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>) {
        for row in rows {
            match row.table().name() {
                "order_tracking" => {
                    self.orders
                        .insert(text(row, "order_id"), TrackedOrder::of(row));
                }
                "atp" => {
                    self.stock.insert(text(row, "sku"), StockRow::of(row));
                }
                "inventory_movement" => {
                    self.movements.entry(text(row, "sku")).or_default().add(row);
                }
                "wave_progress" => {
                    self.waves.insert(text(row, "wave_id"), WaveRow::of(row));
                }
                _ => {}
            }
        }
    }
}

fn text(row: &Row, column: &str) -> String {
    row.text(column).unwrap_or_default().to_owned()
}

impl TrackedOrder {
    fn of(row: &Row) -> Self {
        Self {
            stage: text(row, "stage"),
            wave_id: row.text("wave_id").map(str::to_owned),
            total_lines: row.integer("total_lines"),
            total_units: row.integer("total_units"),
            allocated_lines: row.integer("allocated_lines"),
            picked_lines: row.integer("picked_lines"),
            short_lines: row.integer("short_lines"),
            picked_units: row.integer("picked_units"),
            open_tasks: row.integer("open_tasks"),
        }
    }
}

impl StockRow {
    fn of(row: &Row) -> Self {
        Self {
            on_hand: row.integer("on_hand"),
            allocated: row.integer("allocated"),
            atp: row.integer("atp"),
            gaps: row.integer("gaps"),
        }
    }
}

impl MovementSum {
    fn add(&mut self, row: &Row) {
        self.movements += 1;
        self.on_hand = self.on_hand.saturating_add(row.integer("on_hand_delta"));
        self.allocated = self
            .allocated
            .saturating_add(row.integer("allocated_delta"));
    }
}

impl WaveRow {
    fn of(row: &Row) -> Self {
        Self {
            status: text(row, "status"),
            total_orders: row.integer("total_orders"),
            completed_orders: row.integer("completed_orders"),
            open_orders: row.integer("pending_orders") + row.integer("in_progress_orders"),
            total_lines: row.integer("total_lines"),
            picked_lines: row.integer("picked_lines"),
            short_lines: row.integer("short_lines"),
            open_tasks: row.integer("open_pick_tasks") + row.integer("open_pack_tasks"),
        }
    }
}
