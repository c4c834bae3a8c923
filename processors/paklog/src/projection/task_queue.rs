//! `task_queue`: how deep and how old each queue of tasks is.
//!
//! Facts: a task enters the queue of its warehouse, zone and type when it is created, and leaves it
//! when a worker has it (assigned, or anything that comes after that) or when it is cancelled. A row
//! for each task that has not ended keeps these facts; what a task counts for in its queue follows
//! from its row alone, and a queue's row is the sum over its tasks. So it does not matter in which
//! order tasks are read, nor, within a task, which of its events comes first. A task that has ended is
//! forgotten.
//!
//! A queue's tasks are listed, oldest first, as `tq:WAREHOUSE:ZONE:TYPE`. What a fold is given are rows
//! and not lists, so the queue's row keeps the times as well: `waiting`, as `[enqueued ms, number]`. The
//! cost of an event grows with the depth of its queue, about 20 bytes a waiting task.
//!
//! `avg_wait` is in seconds, of the tasks that a worker has got.

use std::collections::BTreeMap;

use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, KeyPart, Listing, Projection, RowKey, Rows, Source, Table,
    Value,
};

use super::facts::{first_at, happened_ms, known, or_not_said};
use crate::event::payload::TaskChanged;
use crate::event::{Event, Payload};
use crate::topics::Topic;

const TABLE: &str = "task_queue";
const TASKS: &str = "task_queue_task";

/// The tasks of a queue, oldest first.
const WAITING: Listing = Listing::sorted(
    "tq:{warehouse_id}:{zone_id}:{task_type}",
    "task_id",
    "waiting_since",
);

/// Depth, age and waits of each queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskQueue;

impl Projection for TaskQueue {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let place = [
            ("warehouse_id", ColumnType::Text),
            ("zone_id", ColumnType::Text),
            ("task_type", ColumnType::Text),
        ];
        let queues = Table::new(TABLE, &place)
            .column("depth", ColumnType::Integer)
            .column("oldest", ColumnType::Timestamp)
            .column("avg_wait", ColumnType::Real)
            .column("taken", ColumnType::Integer)
            .column("withdrawn", ColumnType::Integer)
            .column("waited_ms", ColumnType::Integer)
            .column("waiting", ColumnType::Json)
            .named("tq:{warehouse_id}:{zone_id}:{task_type}:stats");
        let tasks = Table::new(TASKS, &[("task_id", ColumnType::Text)])
            .column("warehouse_id", ColumnType::Text)
            .column("zone_id", ColumnType::Text)
            .column("task_type", ColumnType::Text)
            .column("priority", ColumnType::Text)
            .column("enqueued_at", ColumnType::Timestamp)
            .column("taken_at", ColumnType::Timestamp)
            .column("withdrawn_at", ColumnType::Timestamp)
            .column("waiting_since", ColumnType::Timestamp)
            .column("ended", ColumnType::Boolean)
            .listed(&WAITING);
        Declaration::new(TABLE, 2)
            .source(Topic::Task.name())
            .table(queues)
            .table(tasks)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        let Some(task) = task_of(&event.payload) else {
            return Vec::new();
        };
        let mut keys = vec![RowKey::new(TASKS, &task.task_id)];
        if matches!(event.payload, Payload::TaskCreated(_)) {
            keys.push(queue_key(
                task.warehouse_id.as_deref(),
                task.zone_id.as_deref(),
                Some(&task.task_type),
            ));
        }
        keys
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(task) = task_of(&event.payload) else {
            return Ok(());
        };
        let key = RowKey::new(TASKS, &task.task_id);
        let before = Place::of(rows.get(&key)?);
        let row = rows.edit(&key)?;
        note(row, event, task, source);
        let forgotten = row.boolean("ended") && row.timestamp_ms("enqueued_at").is_some();
        let after = Place::of(Some(row));
        let waiting_since = match after {
            Place::Waiting { enqueued_ms } => Value::timestamp_ms(enqueued_ms),
            _ => Value::Null,
        };
        row.set("waiting_since", waiting_since);
        let queue = queue_key(
            row.text("warehouse_id"),
            row.text("zone_id"),
            row.text("task_type"),
        );
        if before != after {
            let queue = rows.edit(&queue)?;
            count(queue, before, -1)?;
            count(queue, after, 1)?;
            conclude(queue)?;
        }
        if forgotten {
            rows.delete(&key)?;
        }
        Ok(())
    }
}

fn task_of(payload: &Payload) -> Option<&TaskChanged> {
    match payload {
        Payload::TaskCreated(task)
        | Payload::TaskAssigned(task)
        | Payload::TaskAccepted(task)
        | Payload::TaskStarted(task)
        | Payload::TaskCompleted(task)
        | Payload::TaskFailed(task)
        | Payload::TaskCancelled(task) => Some(task),
        _ => None,
    }
}

fn queue_key(warehouse: Option<&str>, zone: Option<&str>, task_type: Option<&str>) -> RowKey {
    let parts = [warehouse, zone, task_type];
    RowKey::of(TABLE, parts.map(|part| KeyPart::from(or_not_said(part))))
}

/// Notes what the event says of its task.
fn note(row: &mut Row, event: &Event, task: &TaskChanged, source: &Source) {
    let happened = |said| happened_ms(said, event, source);
    match &event.payload {
        Payload::TaskCreated(_) => {
            let place = [
                ("warehouse_id", task.warehouse_id.as_deref()),
                ("zone_id", task.zone_id.as_deref()),
                ("task_type", Some(task.task_type.as_str())),
            ];
            for (column, said) in place {
                known(row, column, Some(or_not_said(said)));
            }
            known(row, "priority", task.priority.as_deref());
            first_at(row, "enqueued_at", happened(task.created_at));
        }
        Payload::TaskAssigned(_) => first_at(row, "taken_at", happened(task.assigned_at)),
        Payload::TaskCancelled(_) => first_at(row, "withdrawn_at", happened(task.cancelled_at)),
        Payload::TaskCompleted(_) => first_at(row, "taken_at", happened(task.completed_at)),
        _ => first_at(row, "taken_at", happened(task.started_at)),
    }
    let ends = matches!(
        event.payload,
        Payload::TaskCompleted(_) | Payload::TaskFailed(_) | Payload::TaskCancelled(_)
    );
    if ends {
        row.set("ended", true);
    }
}

/// What a task counts for in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its creation has not been read yet.
    Nowhere,
    /// In the queue since then.
    Waiting { enqueued_ms: i64 },
    /// With a worker, after so long.
    Taken { waited_ms: i64 },
    /// Cancelled before a worker had it.
    Withdrawn,
}

impl Place {
    fn of(row: Option<&Row>) -> Self {
        let Some(row) = row else {
            return Self::Nowhere;
        };
        let Some(enqueued_ms) = row.timestamp_ms("enqueued_at") else {
            return Self::Nowhere;
        };
        if let Some(taken_ms) = row.timestamp_ms("taken_at") {
            let waited_ms = taken_ms.saturating_sub(enqueued_ms).max(0);
            return Self::Taken { waited_ms };
        }
        if row.timestamp_ms("withdrawn_at").is_some() {
            return Self::Withdrawn;
        }
        Self::Waiting { enqueued_ms }
    }
}

/// Adds a task to its queue (`by` 1), or takes it out again (-1).
fn count(queue: &mut Row, place: Place, by: i64) -> Result<(), ApplyError> {
    match place {
        Place::Nowhere => {}
        Place::Waiting { enqueued_ms } => {
            queue.increment("depth", by);
            let mut waiting = waiting(queue)?;
            let number = waiting.entry(enqueued_ms).or_default();
            *number += by;
            if *number == 0 {
                waiting.remove(&enqueued_ms);
            }
            let pairs = waiting.into_iter().map(|(at_ms, n)| [at_ms, n].into());
            queue.set("waiting", serde_json::Value::Array(pairs.collect()));
        }
        Place::Taken { waited_ms } => {
            queue
                .increment("taken", by)
                .increment("waited_ms", by.saturating_mul(waited_ms));
        }
        Place::Withdrawn => {
            queue.increment("withdrawn", by);
        }
    }
    Ok(())
}

/// The tasks in the queue: how many were enqueued at each millisecond.
fn waiting(queue: &Row) -> Result<BTreeMap<i64, i64>, ApplyError> {
    let Some(json) = queue.json("waiting") else {
        return Ok(BTreeMap::new());
    };
    let pairs: Vec<(i64, i64)> = serde::Deserialize::deserialize(json).map_err(|error| {
        ApplyError::record(format!("the store's list of waiting tasks: {error}"))
    })?;
    Ok(pairs.into_iter().collect())
}

fn conclude(queue: &mut Row) -> Result<(), ApplyError> {
    let oldest = waiting(queue)?.into_keys().next();
    let (taken, waited_ms) = (queue.integer("taken"), queue.integer("waited_ms"));
    let avg_wait = if taken > 0 {
        waited_ms as f64 / taken as f64 / 1000.0
    } else {
        0.0
    };
    queue
        .set("oldest", oldest.map(Value::timestamp_ms))
        .set("avg_wait", avg_wait);
    Ok(())
}
