//! Reconciliation: does the read model come to what the workload's own books say?
//!
//! Pure: the caller reads the projections' tables from its store into a [`ReadModel`];
//! [`reconcile`] compares every order, sku, wave and count, and lists each difference. A read model
//! that lost an event, applied one twice or mixed two up cannot pass: stages, sums of picks, stock
//! levels, sums of movements and numbers of records are all checked one by one.
//!
//! ```
//! use conveyor_paklog::projection::OrderTracking;
//! use conveyor_paklog::reconcile::{ReadModel, reconcile};
//! use conveyor_paklog::workload::Ledger;
//! use conveyor_processors::Projection;
//!
//! let mut model = ReadModel::default();
//! for table in OrderTracking.declaration().tables() {
//!     let rows = []; // of that table, from the store
//!     model.add_rows(&rows);
//! }
//! let report = reconcile(&Ledger::default(), &model);
//! assert!(report.is_reconciled(), "{report}");
//! ```

mod read_model;

use std::fmt;

pub use read_model::{MovementSum, ReadModel, StockRow, TrackedOrder, WaveRow};

use crate::state::{State, WaveState};
use crate::topics::Topic;
use crate::workload::Ledger;

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
        if booked.stage.is_terminal() {
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
        if booked.state.is_terminal() {
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
