//! `worker_hourly`: who picks and packs how fast, hour by hour.
//!
//! Facts: tasks completed and failed with the seconds that they took, lines and units picked, lines
//! that came short, orders and lines packed; each counts in the hour in which it happened, a task's
//! seconds in the hour in which it ended. Accuracy and units an hour of work follow from the sums.
//!
//! Two things are said by other events than those that are counted. Who picks is said by the start of
//! the pick session (same partition, first); a small row of each open session remembers it. Which
//! warehouse an order is of is said on other topics; `credits` sees to it that the order in
//! which topics are read makes no difference.

use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, Projection, RowKey, Rows, Source, Table,
};

use super::credits::{Adds, Board, Entry};
use super::facts::{happened_ms, known, or_not_said, share};
use crate::event::payload::TaskChanged;
use crate::event::{Event, Payload};
use crate::topics::Topic;

const TABLE: &str = "worker_hourly";
const SESSIONS: &str = "worker_hourly_session";

static BOARD: Board = Board {
    table: TABLE,
    scopes: "worker_hourly_scope",
    window: ("hour_ms", "hour"),
    width_ms: 3_600_000,
    by_worker: true,
    counters: &[
        "tasks_done",
        "tasks_failed",
        "lines",
        "units",
        "short_picks",
        "packed_orders",
        "packed_lines",
        "busy_s",
    ],
    conclude,
};

/// What each worker did in each hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerHourly;

impl Projection for WorkerHourly {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let hours = BOARD
            .sums()
            .column("accuracy", ColumnType::Real)
            .column("uph", ColumnType::Real);
        let sessions = Table::new(SESSIONS, &[("session_id", ColumnType::Text)])
            .column("worker_id", ColumnType::Text);
        let topics = [Topic::Task, Topic::Pick, Topic::Pack];
        Declaration::new(TABLE, 2)
            .sources_of(&topics.map(Topic::name))
            .table(hours)
            .table(BOARD.scopes())
            .table(sessions)
    }

    fn touches(&self, event: &Event, source: &Source) -> Vec<RowKey> {
        let Some(work) = Work::of(&event.payload) else {
            return Vec::new();
        };
        let at_ms = happened_ms(work.said, event, source);
        match work.who {
            Who::Known(worker) => BOARD.touches(&work.entry, worker, at_ms),
            // Whose row it counts in is known when the session is.
            Who::OfSession(session) | Who::Ends(session) | Who::Begins(session, _) => {
                let scope = Entry {
                    adds: Vec::new(),
                    ..work.entry
                };
                let mut keys = BOARD.touches(&scope, "", at_ms);
                keys.push(session_key(session));
                keys
            }
        }
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(work) = Work::of(&event.payload) else {
            return Ok(());
        };
        let at_ms = happened_ms(work.said, event, source);
        let worker = match work.who {
            Who::Known(worker) => worker.to_owned(),
            Who::OfSession(session) => {
                let row = rows.get(&session_key(session))?;
                or_not_said(row.and_then(|row| row.text("worker_id"))).to_owned()
            }
            Who::Begins(session, worker) => {
                known(rows.edit(&session_key(session))?, "worker_id", worker);
                String::new()
            }
            Who::Ends(session) => {
                rows.delete(&session_key(session))?;
                return Ok(());
            }
        };
        BOARD.count(rows, &work.entry, &worker, at_ms)
    }
}

fn session_key(session: &str) -> RowKey {
    RowKey::new(SESSIONS, session)
}

/// What an event says of somebody's work.
struct Work<'e> {
    who: Who<'e>,
    entry: Entry<'e>,
    said: Option<crate::event::Moment>,
}

enum Who<'e> {
    /// The event says it.
    Known(&'e str),
    /// Whoever the pick session is of.
    OfSession(&'e str),
    /// The event says whom the pick session is of.
    Begins(&'e str, Option<&'e str>),
    /// Nothing more comes of this pick session.
    Ends(&'e str),
}

impl<'e> Work<'e> {
    fn of(payload: &'e Payload) -> Option<Self> {
        let plain = |scope: Option<&'e str>, adds| Entry {
            scope: scope.filter(|scope| !scope.is_empty()),
            adds,
            ..Entry::default()
        };
        let work = |who, entry, said| Some(Self { who, entry, said });
        match payload {
            Payload::TaskCreated(task) => {
                let entry = task_entry(task, Vec::new());
                entry.warehouse?;
                work(Who::Known(""), entry, None)
            }
            Payload::TaskCompleted(task) => {
                let adds = vec![
                    ("tasks_done", 1),
                    ("busy_s", task.duration_seconds.unwrap_or(0)),
                ];
                work(task_worker(task), task_entry(task, adds), task.completed_at)
            }
            Payload::TaskFailed(task) => {
                let adds = vec![
                    ("tasks_failed", 1),
                    ("busy_s", task.duration_seconds.unwrap_or(0)),
                ];
                work(task_worker(task), task_entry(task, adds), task.completed_at)
            }
            Payload::PickSessionStarted(session) => {
                let who = Who::Begins(&session.session_id, Some(&session.worker_id));
                let warehouse = Some(session.warehouse_id.as_str()).filter(|id| !id.is_empty());
                let scope = of_pick(session.order_id.as_deref(), &session.session_id);
                let entry = Entry {
                    warehouse,
                    ..plain(scope, Vec::new())
                };
                work(who, entry, session.started_at)
            }
            Payload::PickConfirmed(pick) => {
                let adds = vec![("lines", 1), ("units", pick.quantity)];
                let entry = plain(of_pick(pick.order_id.as_deref(), &pick.session_id), adds);
                work(Who::OfSession(&pick.session_id), entry, pick.picked_at)
            }
            Payload::PickShort(pick) => {
                let adds = vec![("short_picks", 1), ("units", pick.actual_quantity)];
                let entry = plain(of_pick(pick.order_id.as_deref(), &pick.session_id), adds);
                work(Who::OfSession(&pick.session_id), entry, pick.reported_at)
            }
            Payload::PickSessionCompleted(session) | Payload::PickSessionCancelled(session) => {
                work(Who::Ends(&session.session_id), Entry::default(), None)
            }
            Payload::PackSessionCompleted(session) => {
                let adds = vec![("packed_orders", 1), ("packed_lines", session.items_packed)];
                let entry = plain(Some(&session.order_id), adds);
                let who = Who::Known(or_not_said(Some(&session.worker_id)));
                work(who, entry, session.completed_at)
            }
            _ => None,
        }
    }
}

fn task_worker(task: &TaskChanged) -> Who<'_> {
    Who::Known(or_not_said(task.worker_id.as_deref()))
}

/// A pick belongs to its order, or else to its session.
fn of_pick<'e>(order: Option<&'e str>, session: &'e str) -> Option<&'e str> {
    order.filter(|order| !order.is_empty()).or(Some(session))
}

/// A task belongs to its order; one without is by itself.
fn task_entry(task: &TaskChanged, adds: Adds) -> Entry<'_> {
    let order = task.order_id.as_deref().filter(|order| !order.is_empty());
    Entry {
        warehouse: task.warehouse_id.as_deref().filter(|id| !id.is_empty()),
        scope: order.or(Some(&task.task_id)),
        adds,
        ..Entry::default()
    }
}

fn conclude(row: &mut Row) {
    let (lines, short) = (row.integer("lines"), row.integer("short_picks"));
    let (units, busy_s) = (row.integer("units"), row.integer("busy_s"));
    let uph = if busy_s > 0 {
        units as f64 * 3600.0 / busy_s as f64
    } else {
        0.0
    };
    row.set("accuracy", share(lines, lines + short))
        .set("uph", uph);
}
