//! `wave_progress`: how far each wave is, who works on it, and when its carrier leaves.
//!
//! Two tables: a row for each wave, and a small one for each order of a wave, which keeps an order
//! from being counted twice when it is picked in several zones. Counts of open orders follow from
//! the facts; when the wave has ended there are none.
//!
//! `estimated_time_remaining` is in seconds, at the pace since the first pick, and empty while no order
//! is ready. `bottlenecks` names the kinds of work that tasks wait for, the most first.

use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, KeyPart, Projection, RowKey, Rows, Source, Table, Value,
};

use serde_json::json;

use super::facts::{first_at, happened_ms, known, last_at};
use crate::event::payload::TaskChanged;
use crate::event::{Event, Moment, Payload};
use crate::topics::Topic;

const TABLE: &str = "wave_progress";
const ORDERS: &str = "wave_progress_order";

/// The columns of the states, by rank.
const STATE_COLUMNS: [(&str, &str); 5] = [
    ("PLANNED", "planned_at"),
    ("RELEASED", "released_at"),
    ("IN_PROGRESS", "started_at"),
    ("COMPLETED", "completed_at"),
    ("CANCELLED", "cancelled_at"),
];

/// State and figures of each wave.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaveProgress;

impl Projection for WaveProgress {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let waves = Table::new(TABLE, &[("wave_id", ColumnType::Text)])
            .column("status", ColumnType::Text)
            .column("warehouse_id", ColumnType::Text)
            .column("zone", ColumnType::Text)
            .column("priority", ColumnType::Text)
            .column("total_orders", ColumnType::Integer)
            .column("pending_orders", ColumnType::Integer)
            .column("in_progress_orders", ColumnType::Integer)
            .column("completed_orders", ColumnType::Integer)
            .column("completion_percentage", ColumnType::Real)
            .column("total_lines", ColumnType::Integer)
            .column("picked_lines", ColumnType::Integer)
            .column("short_lines", ColumnType::Integer)
            .column("picked_units", ColumnType::Integer)
            .column("started_orders", ColumnType::Integer)
            .column("packed_orders", ColumnType::Integer)
            .column("sessions_started", ColumnType::Integer)
            .column("sessions_ended", ColumnType::Integer)
            .column("active_pickers", ColumnType::Integer)
            .column("open_pick_tasks", ColumnType::Integer)
            .column("open_pack_tasks", ColumnType::Integer)
            .column("pick_accuracy", ColumnType::Real)
            .column("estimated_time_remaining", ColumnType::Integer)
            .column("bottlenecks", ColumnType::Json);
        let waves = STATE_COLUMNS
            .into_iter()
            .fold(waves, |table, (_, column)| {
                table.column(column, ColumnType::Timestamp)
            })
            .column("cutoff", ColumnType::Timestamp)
            .column("last_event_at", ColumnType::Timestamp)
            .in_camel_case()
            .field("released_at", "released_at")
            .index("status");
        let orders = Table::new(
            ORDERS,
            &[
                ("wave_id", ColumnType::Text),
                ("order_id", ColumnType::Text),
            ],
        )
        .column("started", ColumnType::Boolean)
        .column("packed", ColumnType::Boolean)
        .column("ready", ColumnType::Boolean);
        let topics = [Topic::Wave, Topic::Task, Topic::Pick, Topic::Pack];
        Declaration::new(TABLE, 2)
            .sources_of(&topics.map(Topic::name))
            .table(waves)
            .table(orders)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        let Some(wave_id) = wave_of(&event.payload) else {
            return Vec::new();
        };
        let mut keys = vec![RowKey::new(TABLE, wave_id)];
        keys.extend(step_of(&event.payload).map(|step| order_key(wave_id, step.order_id)));
        keys
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(wave_id) = wave_of(&event.payload) else {
            return Ok(());
        };
        let first = match step_of(&event.payload) {
            Some(step) => {
                let order = rows.edit(&order_key(wave_id, step.order_id))?;
                let first = !order.boolean(step.flag);
                order.set(step.flag, true);
                first.then_some(step.count)
            }
            None => None,
        };
        let row = rows.edit(&RowKey::new(TABLE, wave_id))?;
        if let Some(count) = first {
            row.increment(count, 1);
        }
        let at_ms = note(row, event, source);
        last_at(row, "last_event_at", at_ms);
        conclude(row);
        Ok(())
    }
}

fn order_key(wave_id: &str, order_id: &str) -> RowKey {
    RowKey::of(ORDERS, [KeyPart::from(wave_id), KeyPart::from(order_id)])
}

/// A step that an order takes once in its wave.
struct Step<'a> {
    order_id: &'a str,
    /// Column of the order's row that remembers it.
    flag: &'static str,
    /// Column of the wave's row that counts it.
    count: &'static str,
}

fn step_of(payload: &Payload) -> Option<Step<'_>> {
    let step = |order_id, flag, count| {
        Some(Step {
            order_id,
            flag,
            count,
        })
    };
    match payload {
        Payload::PickSessionStarted(session) => {
            step(session.order_id.as_deref()?, "started", "started_orders")
        }
        Payload::PackSessionCompleted(session) => {
            step(&session.order_id, "packed", "packed_orders")
        }
        Payload::ShipmentReady(shipment) => {
            step(shipment.order_id.as_deref()?, "ready", "completed_orders")
        }
        _ => None,
    }
}

/// The wave that an event is about, if it matters here.
fn wave_of(payload: &Payload) -> Option<&str> {
    let wave_id = match payload {
        Payload::WavePlanned(wave) => &wave.wave_id,
        Payload::WaveReleased(wave) => &wave.wave_id,
        Payload::WaveCompleted(wave) => &wave.wave_id,
        Payload::WaveCancelled(wave) => &wave.wave_id,
        Payload::TaskCreated(task)
        | Payload::TaskCompleted(task)
        | Payload::TaskFailed(task)
        | Payload::TaskCancelled(task) => task.wave_id.as_deref()?,
        Payload::PickSessionStarted(session) => session.wave_id.as_deref()?,
        Payload::PickConfirmed(pick) => pick.wave_id.as_deref()?,
        Payload::PickShort(pick) => pick.wave_id.as_deref()?,
        Payload::PickSessionCompleted(session) | Payload::PickSessionCancelled(session) => {
            session.wave_id.as_deref()?
        }
        Payload::PackSessionCompleted(session) => session.wave_id.as_deref()?,
        Payload::ShipmentReady(shipment) => shipment.wave_id.as_deref()?,
        _ => return None,
    };
    Some(wave_id).filter(|wave_id| !wave_id.is_empty())
}

/// Notes what the event says; returns when it happened.
fn note(row: &mut Row, event: &Event, source: &Source) -> i64 {
    let happened = |said| happened_ms(said, event, source);
    match &event.payload {
        Payload::WavePlanned(wave) => {
            known(row, "warehouse_id", Some(&wave.warehouse_id));
            known(row, "priority", Some(&wave.priority));
            // The release knows better: orders may have been cancelled since.
            if row.timestamp_ms("released_at").is_none() {
                row.set("total_orders", wave.order_ids.len() as i64);
                row.set("total_lines", wave.total_lines);
            }
            cutoff(row, wave.carrier_cutoff);
            reached(row, "planned_at", happened(None))
        }
        Payload::WaveReleased(wave) => {
            known(row, "warehouse_id", Some(&wave.warehouse_id));
            known(row, "priority", Some(&wave.priority));
            known(row, "zone", Some(&wave.zone_id));
            row.set("total_orders", wave.order_ids.len() as i64);
            row.set("total_lines", wave.total_lines);
            cutoff(row, wave.carrier_cutoff);
            reached(row, "released_at", happened(wave.released_at))
        }
        Payload::WaveCompleted(wave) => {
            row.set("pick_accuracy", wave.pick_accuracy);
            reached(row, "completed_at", happened(wave.completed_at))
        }
        Payload::WaveCancelled(wave) => reached(row, "cancelled_at", happened(wave.cancelled_at)),
        Payload::TaskCreated(task) => {
            count_task(row, task, 1);
            happened(task.created_at)
        }
        Payload::TaskCompleted(task) | Payload::TaskFailed(task) | Payload::TaskCancelled(task) => {
            count_task(row, task, -1);
            happened(task.completed_at.or(task.cancelled_at))
        }
        Payload::PickSessionStarted(session) => {
            row.increment("sessions_started", 1);
            reached(row, "started_at", happened(session.started_at))
        }
        Payload::PickSessionCompleted(session) | Payload::PickSessionCancelled(session) => {
            row.increment("sessions_ended", 1);
            happened(session.completed_at)
        }
        Payload::PickConfirmed(pick) => {
            row.increment("picked_lines", 1)
                .increment("picked_units", pick.quantity);
            happened(pick.picked_at)
        }
        Payload::PickShort(pick) => {
            row.increment("short_lines", 1)
                .increment("picked_units", pick.actual_quantity);
            happened(pick.reported_at)
        }
        Payload::PackSessionCompleted(session) => happened(session.completed_at),
        Payload::ShipmentReady(shipment) => happened(shipment.ready_at),
        _ => happened(None),
    }
}

fn reached(row: &mut Row, column: &str, at_ms: i64) -> i64 {
    first_at(row, column, at_ms);
    at_ms
}

fn cutoff(row: &mut Row, carrier_cutoff: Option<Moment>) {
    if let Some(cutoff) = carrier_cutoff {
        row.set("cutoff", Value::timestamp_ms(cutoff.0));
    }
}

fn count_task(row: &mut Row, task: &TaskChanged, by: i64) {
    match task.task_type.as_str() {
        "PICK" => row.increment("open_pick_tasks", by),
        "PACK" => row.increment("open_pack_tasks", by),
        _ => row,
    };
}

/// Draws the conclusions from the facts: the state, and the counts that follow from others.
fn conclude(row: &mut Row) {
    let reached = STATE_COLUMNS
        .iter()
        .rev()
        .find(|(_, at)| row.timestamp_ms(at).is_some());
    let status = reached.map_or("UNKNOWN", |(status, _)| *status);
    let ended = matches!(status, "COMPLETED" | "CANCELLED");
    let [total, started, completed] =
        ["total_orders", "started_orders", "completed_orders"].map(|column| row.integer(column));
    let open = |orders: i64| if ended { 0 } else { orders.max(0) };
    let pickers = row.integer("sessions_started") - row.integer("sessions_ended");
    let percentage = if total > 0 {
        completed as f64 * 100.0 / total as f64
    } else {
        0.0
    };
    row.set("status", status)
        .set("pending_orders", open(total - started))
        .set("in_progress_orders", open(started - completed))
        .set("completion_percentage", percentage)
        .set("active_pickers", pickers.max(0));
    let (remaining, bottlenecks) = (remaining_s(row, ended), bottlenecks(row, ended));
    row.set("estimated_time_remaining", remaining)
        .set("bottlenecks", bottlenecks);
}

/// Seconds until the last order is ready if it goes on as it went.
fn remaining_s(row: &Row, ended: bool) -> Option<i64> {
    if ended {
        return Some(0);
    }
    let [total, completed] =
        ["total_orders", "completed_orders"].map(|column| row.integer(column).max(0));
    let started_ms = row.timestamp_ms("started_at")?;
    let taken_ms = row
        .timestamp_ms("last_event_at")?
        .saturating_sub(started_ms);
    let left = total.saturating_sub(completed).max(0);
    let each_ms = taken_ms.max(0).checked_div(completed)?;
    Some(each_ms.saturating_mul(left) / 1000)
}

/// The kinds of tasks that are not done, most first.
fn bottlenecks(row: &Row, ended: bool) -> serde_json::Value {
    let kinds = [("PICK", "open_pick_tasks"), ("PACK", "open_pack_tasks")];
    let open = kinds.map(|(kind, column)| (row.integer(column), kind));
    let mut open: Vec<_> = open
        .into_iter()
        .filter(|(tasks, _)| *tasks > 0 && !ended)
        .collect();
    open.sort_by_key(|(tasks, kind)| (-tasks, *kind));
    let entry = |(tasks, kind)| json!({ "taskType": kind, "openTasks": tasks });
    open.into_iter().map(entry).collect()
}
