//! Reconciliation: does the read model come to what the workload's own books say?
//!
//! Pure: the caller reads the tables (with [`queries`], say) into a [`ReadModel`]; [`reconcile`]
//! compares every order, sku, wave and count, and lists each difference. A read model that lost an
//! event, applied one twice or mixed two up cannot pass: stages, sums of picks, stock levels, sums
//! of movements and numbers of records are all checked one by one.

use std::collections::BTreeMap;
use std::fmt;

use crate::state::WaveState;
use crate::topics::Topic;
use crate::workload::Ledger;

/// Plain SQL for the tables of the projections, with the columns in the order of the structs below.
pub mod queries {
    /// Rows of [`TrackedOrder`](super::TrackedOrder), with the order's id first.
    pub const ORDERS: &str = "SELECT order_id, stage, wave_id, total_lines, total_units, \
         allocated_lines, picked_lines, short_lines, picked_units, open_tasks FROM order_tracking";
    /// Rows of [`StockRow`](super::StockRow), with the sku first.
    pub const STOCK: &str = "SELECT sku, on_hand, allocated, atp, gaps FROM atp";
    /// Rows of [`MovementSum`](super::MovementSum), with the sku first.
    pub const MOVEMENTS: &str = "SELECT sku, COUNT(*), SUM(on_hand_delta), SUM(allocated_delta) \
         FROM inventory_movement GROUP BY sku";
    /// Rows of [`WaveRow`](super::WaveRow), with the wave's id first.
    pub const WAVES: &str = "SELECT wave_id, status, total_orders, completed_orders, \
         pending_orders + in_progress_orders, total_lines, picked_lines, short_lines, \
         open_pick_tasks + open_pack_tasks FROM wave_progress";
}

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
    /// Records that each projection applied of each topic that it reads.
    pub applied: BTreeMap<(String, Topic), u64>,
}

/// One thing that is not as the books say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What it is about: `order 31198…`, `sku SKU-1`, …
    pub subject: String,
    /// Which of its figures.
    pub field: &'static str,
    /// What the workload's books say.
    pub expected: String,
    /// What the read model says.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            field,
            expected,
            found,
        } = self;
        write!(f, "{subject}: {field} is {found}, the books say {expected}")
    }
}

/// What came of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Orders compared.
    pub orders: usize,
    /// Skus compared.
    pub skus: usize,
    /// Waves compared.
    pub waves: usize,
    /// Stock movements compared.
    pub movements: u64,
    /// Records that the workload made.
    pub records: u64,
    /// Everything that is not as it should be.
    pub mismatches: Vec<Mismatch>,
}

/// How many mismatches a report prints.
const PRINTED_MAX: usize = 20;

impl Report {
    /// Whether everything agrees.
    pub fn is_reconciled(&self) -> bool {
        self.mismatches.is_empty()
    }

    fn compare<T: PartialEq + fmt::Debug>(
        &mut self,
        subject: impl Fn() -> String,
        field: &'static str,
        (expected, found): (T, T),
    ) {
        if expected != found {
            self.mismatches.push(Mismatch {
                subject: subject(),
                field,
                expected: format!("{expected:?}"),
                found: format!("{found:?}"),
            });
        }
    }

    fn differs(&mut self, subject: String, field: &'static str, expected: &str, found: &str) {
        let (expected, found) = (expected.to_owned(), found.to_owned());
        self.mismatches.push(Mismatch {
            subject,
            field,
            expected,
            found,
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            orders,
            skus,
            waves,
            movements,
            records,
            mismatches,
        } = self;
        writeln!(
            f,
            "compared {orders} orders, {skus} skus, {waves} waves, {movements} stock movements, \
             {records} records: {}",
            if mismatches.is_empty() {
                "everything agrees"
            } else {
                "NOT RECONCILED"
            }
        )?;
        for mismatch in mismatches.iter().take(PRINTED_MAX) {
            writeln!(f, "  {mismatch}")?;
        }
        if mismatches.len() > PRINTED_MAX {
            writeln!(f, "  … and {} more", mismatches.len() - PRINTED_MAX)?;
        }
        Ok(())
    }
}

/// Compares the read model with the workload's books.
pub fn reconcile(ledger: &Ledger, model: &ReadModel) -> Report {
    let mut report = Report {
        orders: ledger.orders().len(),
        skus: ledger.stock().len(),
        waves: ledger.waves().len(),
        records: ledger.events(),
        ..Report::default()
    };
    reconcile_orders(ledger, model, &mut report);
    reconcile_stock(ledger, model, &mut report);
    reconcile_waves(ledger, model, &mut report);
    reconcile_counts(ledger, model, &mut report);
    report
}

fn reconcile_orders(ledger: &Ledger, model: &ReadModel, report: &mut Report) {
    for (id, booked) in ledger.orders() {
        let subject = || format!("order {id}");
        let Some(order) = model.orders.get(id) else {
            report.differs(subject(), "row", booked.stage.name(), "missing");
            continue;
        };
        report.compare(
            subject,
            "stage",
            (booked.stage.name(), order.stage.as_str()),
        );
        report.compare(
            subject,
            "wave",
            (booked.wave_id.as_ref(), order.wave_id.as_ref()),
        );
        let figures = [
            ("total lines", booked.total_lines, order.total_lines),
            ("total units", booked.total_units, order.total_units),
            (
                "allocated lines",
                booked.allocated_lines,
                order.allocated_lines,
            ),
            ("picked lines", booked.picked_lines, order.picked_lines),
            ("short lines", booked.short_lines, order.short_lines),
            ("picked units", booked.picked_units, order.picked_units),
        ];
        for (field, expected, found) in figures {
            report.compare(subject, field, (expected, found));
        }
        if crate::state::State::is_terminal(booked.stage) {
            report.compare(subject, "open tasks", (0, order.open_tasks));
        }
    }
    for id in model
        .orders
        .keys()
        .filter(|id| !ledger.orders().contains_key(*id))
    {
        report.differs(format!("order {id}"), "row", "none", "there");
    }
}

fn reconcile_stock(ledger: &Ledger, model: &ReadModel, report: &mut Report) {
    for (sku, booked) in ledger.stock() {
        let subject = || format!("sku {sku}");
        let Some(stock) = model.stock.get(sku) else {
            report.differs(subject(), "row", &format!("{booked:?}"), "missing");
            continue;
        };
        let summed = model.movements.get(sku).copied().unwrap_or_default();
        report.movements += summed.movements.unsigned_abs();
        let figures = [
            ("on hand", booked.on_hand(), stock.on_hand),
            ("allocated", booked.allocated(), stock.allocated),
            ("atp", booked.available_to_promise(), stock.atp),
            ("gaps", 0, stock.gaps),
            ("sum of movements on hand", booked.on_hand(), summed.on_hand),
            (
                "sum of movements allocated",
                booked.allocated(),
                summed.allocated,
            ),
        ];
        for (field, expected, found) in figures {
            report.compare(subject, field, (expected, found));
        }
    }
    for sku in model
        .stock
        .keys()
        .filter(|sku| !ledger.stock().contains_key(*sku))
    {
        report.differs(format!("sku {sku}"), "row", "none", "there");
    }
}

fn reconcile_waves(ledger: &Ledger, model: &ReadModel, report: &mut Report) {
    for (id, booked) in ledger.waves() {
        let subject = || format!("wave {id}");
        let Some(wave) = model.waves.get(id) else {
            report.differs(subject(), "row", status(booked.state), "missing");
            continue;
        };
        report.compare(
            subject,
            "status",
            (status(booked.state), wave.status.as_str()),
        );
        let figures = [
            ("total orders", booked.total_orders, wave.total_orders),
            (
                "completed orders",
                booked.completed_orders,
                wave.completed_orders,
            ),
            ("total lines", booked.total_lines, wave.total_lines),
            ("picked lines", booked.picked_lines, wave.picked_lines),
            ("short lines", booked.short_lines, wave.short_lines),
        ];
        for (field, expected, found) in figures {
            report.compare(subject, field, (expected, found));
        }
        if crate::state::State::is_terminal(booked.state) {
            report.compare(subject, "open orders", (0, wave.open_orders));
            report.compare(subject, "open tasks", (0, wave.open_tasks));
        }
    }
    for id in model
        .waves
        .keys()
        .filter(|id| !ledger.waves().contains_key(*id))
    {
        report.differs(format!("wave {id}"), "row", "none", "there");
    }
}

fn reconcile_counts(ledger: &Ledger, model: &ReadModel, report: &mut Report) {
    let made = ledger.events_by_topic();
    for ((projection, topic), applied) in &model.applied {
        let expected = made.get(topic).copied().unwrap_or(0);
        let subject = || format!("projection {projection}, topic {topic}");
        report.compare(subject, "records applied", (expected, *applied));
    }
    let moved = made.get(&Topic::Inventory).copied().unwrap_or(0);
    let found: i64 = model.movements.values().map(|sum| sum.movements).sum();
    report.compare(
        || "inventory_movement".to_owned(),
        "rows",
        (moved, found.unsigned_abs()),
    );
}

const fn status(state: WaveState) -> &'static str {
    match state {
        WaveState::Planned => "PLANNED",
        WaveState::Released => "RELEASED",
        WaveState::InProgress => "IN_PROGRESS",
        WaveState::Completed => "COMPLETED",
        WaveState::Cancelled => "CANCELLED",
    }
}
