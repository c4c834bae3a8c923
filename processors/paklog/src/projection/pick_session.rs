//! `pick_session`: how far each picker is, and what came short.
//!
//! Facts: who picks what (said by the start), the lines confirmed and short with their units, how long
//! the way was, and when the session started and ended. State, lines done and accuracy follow from
//! them. All events of a session stand in one partition, but nothing relies on that: sums, first and
//! last times and what one kind of event alone says do not depend on order. `distance` is in metres.

use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Projection, RowKey, Rows, Source, Table,
};

use super::facts::{first_at, happened_ms, known, last_at, share};
use crate::event::payload::{PickSessionEnded, Untyped};
use crate::event::{Event, Payload};
use crate::topics::Topic;

/// `PakLog`'s own collection is `pick_sessions`; this one is a view of it.
const TABLE: &str = "pick_session_view";

/// State and figures of each pick session.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickSession;

impl Projection for PickSession {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let table = Table::new(TABLE, &[("session_id", ColumnType::Text)])
            .column("state", ColumnType::Text)
            .column("task_id", ColumnType::Text)
            .column("wave_id", ColumnType::Text)
            .column("order_id", ColumnType::Text)
            .column("worker_id", ColumnType::Text)
            .column("warehouse_id", ColumnType::Text)
            .column("strategy", ColumnType::Text)
            .column("instructions", ColumnType::Integer)
            .column("done", ColumnType::Integer)
            .column("picked", ColumnType::Integer)
            .column("short", ColumnType::Integer)
            .column("units", ColumnType::Integer)
            .column("missing_units", ColumnType::Integer)
            .column("accuracy", ColumnType::Real)
            .column("planned_distance_m", ColumnType::Real)
            .column("actual_distance_m", ColumnType::Real)
            .column("distance", ColumnType::Real)
            .column("duration_s", ColumnType::Integer)
            .column("started_at", ColumnType::Timestamp)
            .column("completed_at", ColumnType::Timestamp)
            .column("cancelled_at", ColumnType::Timestamp)
            .column("last_pick_at", ColumnType::Timestamp)
            .in_camel_case()
            .index("state")
            .index("worker_id");
        Declaration::new("pick_session", 2)
            .source(Topic::Pick.name())
            .table(table)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        session_of(&event.payload)
            .map(|session_id| RowKey::new(TABLE, session_id))
            .into_iter()
            .collect()
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(session_id) = session_of(&event.payload) else {
            return Ok(());
        };
        let row = rows.edit(&RowKey::new(TABLE, session_id))?;
        note(row, event, source);
        conclude(row);
        Ok(())
    }
}

fn session_of(payload: &Payload) -> Option<&str> {
    let session_id = match payload {
        Payload::PickSessionStarted(session) => &session.session_id,
        Payload::PickConfirmed(pick) => &pick.session_id,
        Payload::PickShort(pick) => &pick.session_id,
        Payload::PickSessionCompleted(session) | Payload::PickSessionCancelled(session) => {
            &session.session_id
        }
        Payload::PickPathOptimized(path) => text(path, &["session_id", "pick_task_id"])?,
        _ => return None,
    };
    Some(session_id).filter(|session_id| !session_id.is_empty())
}

fn text<'p>(path: &'p Untyped, names: &[&str]) -> Option<&'p str> {
    names.iter().find_map(|name| path.get(*name)?.as_str())
}

fn note(row: &mut Row, event: &Event, source: &Source) {
    let happened = |said| happened_ms(said, event, source);
    match &event.payload {
        Payload::PickSessionStarted(session) => {
            known(row, "task_id", Some(&session.task_id));
            known(row, "wave_id", session.wave_id.as_deref());
            known(row, "order_id", session.order_id.as_deref());
            known(row, "worker_id", Some(&session.worker_id));
            known(row, "warehouse_id", Some(&session.warehouse_id));
            known(row, "strategy", Some(&session.strategy));
            row.set("instructions", session.total_instructions);
            planned(row, session.planned_distance_meters);
            first_at(row, "started_at", happened(session.started_at));
        }
        Payload::PickPathOptimized(path) => {
            let names = ["optimized_path_distance_meters", "total_distance_meters"];
            let said = names.iter().find_map(|name| path.get(*name)?.as_f64());
            planned(row, said);
        }
        Payload::PickConfirmed(pick) => {
            row.increment("picked", 1).increment("units", pick.quantity);
            last_at(row, "last_pick_at", happened(pick.picked_at));
        }
        Payload::PickShort(pick) => {
            let missing = pick.expected_quantity.saturating_sub(pick.actual_quantity);
            row.increment("short", 1)
                .increment("units", pick.actual_quantity)
                .increment("missing_units", missing);
            last_at(row, "last_pick_at", happened(pick.reported_at));
        }
        Payload::PickSessionCompleted(session) => {
            ended(row, session);
            first_at(row, "completed_at", happened(session.completed_at));
        }
        Payload::PickSessionCancelled(session) => {
            ended(row, session);
            first_at(row, "cancelled_at", happened(session.completed_at));
        }
        _ => {}
    }
}

/// The longest way that was planned: a path may be computed before or after the start.
fn planned(row: &mut Row, meters: Option<f64>) {
    if let Some(meters) = meters.filter(|meters| meters.is_finite()) {
        row.set(
            "planned_distance_m",
            meters.max(row.real("planned_distance_m")),
        );
    }
}

fn ended(row: &mut Row, session: &PickSessionEnded) {
    known(row, "task_id", Some(&session.task_id));
    known(row, "worker_id", Some(&session.worker_id));
    row.set("duration_s", session.duration_seconds);
    if let Some(meters) = session.actual_distance_meters.filter(|m| m.is_finite()) {
        row.set("actual_distance_m", meters);
    }
}

fn conclude(row: &mut Row) {
    let has = |column| row.timestamp_ms(column).is_some();
    let state = if has("cancelled_at") {
        "CANCELLED"
    } else if has("completed_at") {
        "COMPLETED"
    } else if has("started_at") || has("last_pick_at") {
        "IN_PROGRESS"
    } else {
        "CREATED"
    };
    let (picked, short) = (row.integer("picked"), row.integer("short"));
    let (planned, actual) = (
        row.real("planned_distance_m"),
        row.real("actual_distance_m"),
    );
    row.set("state", state)
        .set("done", picked + short)
        .set("accuracy", share(picked, picked + short))
        .set("distance", if actual > 0.0 { actual } else { planned });
}
