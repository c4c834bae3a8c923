//! `kpi_minute`: what happens in each warehouse, minute by minute.
//!
//! Sums of what events say has happened, in the minute in which it happened; a late event mends its
//! minute. Which warehouse an order is of is said by few events; `credits` sees to it that
//! the order in which topics are read makes no difference. What no warehouse can be told for (receipts
//! of stock, failures) stands under `-`.
//!
//! A record that failed is counted once, however many consumers have published it to `error-events`:
//! a small row for each remembers it by the place where it first stood.

use conveyor_processors::ColumnType;
use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, Declaration, DecodeError, Decoder, Projection, RowKey, Rows, Source, SourceRecord,
    Table,
};

use super::PaklogDecoder;
use super::credits::{Adds, Board, Entry};
use super::dead_letters::{DeadLetter, FailedPlace};
use super::facts::{happened_ms, share};
use crate::event::payload::{OrderSnapshot, TaskChanged};
use crate::event::{Event, Moment, Payload};
use crate::topics::Topic;

const TABLE: &str = "kpi_minute";
const FAILURES: &str = "kpi_minute_failure";

static BOARD: Board = Board {
    table: TABLE,
    scopes: "kpi_minute_scope",
    window: ("minute_ms", "minute"),
    width_ms: 60_000,
    by_worker: false,
    counters: &[
        "orders_received",
        "orders_allocated",
        "orders_cancelled",
        "waves_released",
        "waves_completed",
        "tasks_created",
        "tasks_done",
        "tasks_failed",
        "lines_picked",
        "units_picked",
        "short_picks",
        "orders_packed",
        "cartons",
        "qc_passed",
        "qc_failed",
        "shipments_ready",
        "shipments_dispatched",
        "shipments_delivered",
        "stock_movements",
        "failures",
    ],
    conclude,
};

/// Live figures of each warehouse.
#[derive(Clone, Copy, Debug, Default)]
pub struct KpiMinute;

/// What `kpi_minute` reads: events, and what failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// An event of any topic but `error-events`.
    Event(Box<Event>),
    /// A record of `error-events`.
    Failure(Box<DeadLetter>),
}

/// Reads records of all topics.
#[derive(Clone, Debug, Default)]
pub struct ObservedDecoder {
    events: PaklogDecoder,
}

impl ObservedDecoder {
    /// Reads events with this decoder.
    pub const fn new(events: PaklogDecoder) -> Self {
        Self { events }
    }
}

impl Decoder for ObservedDecoder {
    type Event = Observed;

    fn decode(&self, record: &SourceRecord) -> Result<Option<Observed>, DecodeError> {
        if *record.source.topic == *Topic::Error.name() {
            let failure = Box::new(DeadLetter::of(record));
            return Ok(Some(Observed::Failure(failure)));
        }
        let event = self.events.decode(record)?;
        Ok(event.map(|event| Observed::Event(Box::new(event))))
    }
}

impl Projection for KpiMinute {
    type Event = Observed;

    fn declaration(&self) -> Declaration {
        let minutes = BOARD
            .sums()
            .column("pick_accuracy", ColumnType::Real)
            .column("qc_pass_rate", ColumnType::Real);
        let failures =
            Table::new(FAILURES, &FailedPlace::COLUMNS).column("counted", ColumnType::Boolean);
        Declaration::new(TABLE, 2)
            .sources_of(&Topic::ALL.map(Topic::name))
            .table(minutes)
            .table(BOARD.scopes())
            .table(failures)
    }

    fn touches(&self, event: &Observed, source: &Source) -> Vec<RowKey> {
        match event {
            Observed::Event(event) => match entry_of(&event.payload) {
                Some((entry, said)) => BOARD.touches(&entry, "", happened_ms(said, event, source)),
                None => Vec::new(),
            },
            Observed::Failure(failure) if failure.replayed_ms.is_some() => Vec::new(),
            Observed::Failure(failure) => {
                let mut keys = BOARD.touches(&one_failure(), "", failure.failed_ms);
                keys.push(failure.place.key_of(FAILURES));
                keys
            }
        }
    }

    fn apply(&self, event: &Observed, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        match event {
            Observed::Event(event) => match entry_of(&event.payload) {
                Some((entry, said)) => {
                    BOARD.count(rows, &entry, "", happened_ms(said, event, source))
                }
                None => Ok(()),
            },
            Observed::Failure(failure) => {
                let seen = rows.edit(&failure.place.key_of(FAILURES))?;
                if seen.boolean("counted") {
                    return Ok(());
                }
                seen.set("counted", true);
                BOARD.count(rows, &one_failure(), "", failure.failed_ms)
            }
        }
    }
}

fn one_failure() -> Entry<'static> {
    Entry {
        adds: vec![("failures", 1)],
        ..Entry::default()
    }
}

/// What an event adds, where, and when it says that it happened.
fn entry_of(payload: &Payload) -> Option<(Entry<'_>, Option<Moment>)> {
    let entry = match payload {
        Payload::WavePlanned(wave) => (
            of_wave(&wave.wave_id, &wave.warehouse_id, &wave.order_ids, vec![]),
            None,
        ),
        Payload::WaveReleased(wave) => {
            let adds = vec![("waves_released", 1)];
            (
                of_wave(&wave.wave_id, &wave.warehouse_id, &wave.order_ids, adds),
                wave.released_at,
            )
        }
        Payload::WaveCompleted(wave) => (
            of_order(&wave.wave_id, vec![("waves_completed", 1)]),
            wave.completed_at,
        ),
        Payload::OrderReceived(event) => (of_snapshot(event, vec![("orders_received", 1)]), None),
        Payload::OrderValidated(event) => (of_snapshot(event, vec![]), None),
        Payload::OrderAllocated(event) => {
            let adds = vec![("orders_allocated", 1)];
            let entry = in_warehouse(Some(&event.warehouse_id), of_order(&event.order_id, adds));
            (entry, Some(event.allocated_at))
        }
        Payload::OrderCancelled(event) => (
            of_order(&event.order_id, vec![("orders_cancelled", 1)]),
            event.cancelled_at,
        ),
        Payload::TaskCreated(task) => (of_task(task, vec![("tasks_created", 1)]), task.created_at),
        Payload::TaskCompleted(task) => (of_task(task, vec![("tasks_done", 1)]), task.completed_at),
        Payload::TaskFailed(task) => (of_task(task, vec![("tasks_failed", 1)]), task.completed_at),
        Payload::PickSessionStarted(session) => {
            let order = of_order(session.order_id.as_deref().unwrap_or_default(), vec![]);
            (in_warehouse(Some(&session.warehouse_id), order), None)
        }
        Payload::PickConfirmed(pick) => {
            let adds = vec![("lines_picked", 1), ("units_picked", pick.quantity)];
            (
                of_order(pick.order_id.as_deref().unwrap_or_default(), adds),
                pick.picked_at,
            )
        }
        Payload::PickShort(pick) => {
            let adds = vec![("short_picks", 1), ("units_picked", pick.actual_quantity)];
            (
                of_order(pick.order_id.as_deref().unwrap_or_default(), adds),
                pick.reported_at,
            )
        }
        Payload::QualityChecked(check) => {
            let counter = if check.passed() {
                "qc_passed"
            } else {
                "qc_failed"
            };
            (
                of_order(&check.order_id, vec![(counter, 1)]),
                check.checked_at,
            )
        }
        Payload::PackSessionCompleted(session) => {
            let adds = vec![("orders_packed", 1), ("cartons", session.cartons_used)];
            (of_order(&session.order_id, adds), session.completed_at)
        }
        Payload::ShipmentReady(shipment) => {
            let order = shipment.order_id.as_deref().unwrap_or_default();
            (
                of_order(order, vec![("shipments_ready", 1)]),
                shipment.ready_at,
            )
        }
        Payload::ShipmentDispatched(shipment) => {
            let adds = vec![("shipments_dispatched", 1)];
            (of_order(&shipment.order_id, adds), shipment.dispatched_at)
        }
        Payload::ShipmentDelivered(shipment) => {
            let adds = vec![("shipments_delivered", 1)];
            (of_order(&shipment.order_id, adds), shipment.delivered_at)
        }
        Payload::StockLevelChanged(change) => {
            let order = change.order_id.as_deref().unwrap_or_default();
            (of_order(order, vec![("stock_movements", 1)]), None)
        }
        _ => return None,
    };
    let says_nothing = entry.0.adds.is_empty() && entry.0.warehouse.is_none();
    (!says_nothing).then_some(entry)
}

/// Of an order (or a wave, or a task), if the event names it.
fn of_order(order: &str, adds: Adds) -> Entry<'_> {
    Entry {
        scope: Some(order).filter(|order| !order.is_empty()),
        adds,
        ..Entry::default()
    }
}

fn in_warehouse<'e>(warehouse: Option<&'e str>, entry: Entry<'e>) -> Entry<'e> {
    Entry {
        warehouse: warehouse.filter(|id| !id.is_empty()),
        ..entry
    }
}

fn of_snapshot(event: &OrderSnapshot, adds: Adds) -> Entry<'_> {
    let order = &event.order;
    in_warehouse(
        order.warehouse_id.as_deref(),
        of_order(&order.order_id, adds),
    )
}

/// A task belongs to its order; one without is by itself.
fn of_task(task: &TaskChanged, adds: Adds) -> Entry<'_> {
    let order = task.order_id.as_deref().filter(|order| !order.is_empty());
    let entry = of_order(order.unwrap_or(&task.task_id), adds);
    in_warehouse(task.warehouse_id.as_deref(), entry)
}

/// A wave says its warehouse and its orders.
fn of_wave<'e>(wave: &'e str, warehouse: &'e str, orders: &'e [String], adds: Adds) -> Entry<'e> {
    let kin = orders.iter().map(String::as_str).collect();
    let entry = Entry {
        kin,
        ..of_order(wave, adds)
    };
    in_warehouse(Some(warehouse), entry)
}

fn conclude(row: &mut Row) {
    let (lines, short) = (row.integer("lines_picked"), row.integer("short_picks"));
    let (passed, failed) = (row.integer("qc_passed"), row.integer("qc_failed"));
    row.set("pick_accuracy", share(lines, lines + short))
        .set("qc_pass_rate", share(passed, passed + failed));
}
