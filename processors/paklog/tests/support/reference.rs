//! What the rows of the projections must come to, computed the plain way: all events in the order in
//! which they were made, everything in memory, in two passes (first who and where, then the sums).
//! Shares no code with the projections.

use std::collections::{BTreeMap, HashMap};

use conveyor_paklog::event::{Event, Payload};
use conveyor_processors::table::Row;
use conveyor_processors::{ColumnType, Value};

/// Figures of the rows of a table, by the row's key.
pub(crate) type Figures = BTreeMap<String, BTreeMap<&'static str, Option<i64>>>;

/// These columns of a table's rows. Moments are ms, truth values 0 and 1, floats millionths; texts are
/// not figures.
pub(crate) fn figures(rows: &[Row], table: &str, columns: &[&'static str]) -> Figures {
    let of_table = rows.iter().filter(|row| row.table().name() == table);
    of_table
        .map(|row| {
            let figure = |column: &&'static str| (*column, number(row.get(column)));
            (key_of(row), columns.iter().map(figure).collect())
        })
        .collect()
}

/// A text column of a table's rows.
pub(crate) fn texts(rows: &[Row], table: &str, column: &str) -> BTreeMap<String, String> {
    let of_table = rows.iter().filter(|row| row.table().name() == table);
    of_table
        .map(|row| (key_of(row), row.text(column).unwrap_or_default().to_owned()))
        .collect()
}

fn key_of(row: &Row) -> String {
    let key = row.table().key_columns().len();
    let part = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        other => panic!("{other:?} in a key"),
    };
    let parts: Vec<_> = row.values()[..key].iter().map(part).collect();
    parts.join("/")
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Null => None,
        Value::Integer(number) | Value::Timestamp(number) => Some(*number),
        Value::Boolean(truth) => Some(i64::from(*truth)),
        Value::Real(real) => Some(millionths(*real)),
        other => panic!("{other:?} ({}) is no figure", ColumnType::Text),
    }
}

fn millionths(real: f64) -> i64 {
    (real * 1e6).round() as i64
}

/// A growing set of sums.
#[derive(Default)]
struct Sums(BTreeMap<String, BTreeMap<&'static str, i64>>);

impl Sums {
    fn add(&mut self, key: String, column: &'static str, by: i64) {
        if by != 0 {
            *self.0.entry(key).or_default().entry(column).or_default() += by;
        }
    }

    /// The sums of these columns, 0 where nothing was added.
    fn figures(&self, columns: &[&'static str]) -> Figures {
        let row = |sums: &BTreeMap<&'static str, i64>| {
            let figure =
                |column: &&'static str| (*column, Some(sums.get(column).copied().unwrap_or(0)));
            columns.iter().map(figure).collect()
        };
        let rows = self.0.iter();
        rows.map(|(key, sums)| (key.clone(), row(sums))).collect()
    }
}

/// The columns of `task_queue` that the reference computes.
pub(crate) const TASK_QUEUE: [&str; 6] = [
    "depth",
    "oldest",
    "avg_wait",
    "taken",
    "withdrawn",
    "waited_ms",
];

pub(crate) fn task_queue(events: &[Event]) -> Figures {
    struct Task {
        queue: String,
        created_ms: i64,
        taken_ms: Option<i64>,
        withdrawn: bool,
    }
    let mut tasks = BTreeMap::<String, Task>::new();
    for event in events {
        let at_ms = event.attributes.time.map_or(0, |time| time.0);
        match &event.payload {
            Payload::TaskCreated(task) => {
                let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                let place = [
                    &part(&task.warehouse_id),
                    &part(&task.zone_id),
                    &task.task_type,
                ];
                let queue = place.map(String::as_str).join("/");
                let task_of = Task {
                    queue,
                    created_ms: at_ms,
                    taken_ms: None,
                    withdrawn: false,
                };
                tasks.insert(task.task_id.clone(), task_of);
            }
            Payload::TaskAssigned(task) => {
                let task = tasks.get_mut(&task.task_id).expect("created before");
                task.taken_ms = task.taken_ms.or(Some(at_ms));
            }
            Payload::TaskCancelled(task) => {
                tasks
                    .get_mut(&task.task_id)
                    .expect("created before")
                    .withdrawn = true;
            }
            _ => {}
        }
    }
    let mut queues = BTreeMap::<String, Vec<Task>>::new();
    for task in tasks.into_values() {
        queues.entry(task.queue.clone()).or_default().push(task);
    }
    let figures = |tasks: Vec<Task>| {
        let waits: Vec<i64> = tasks
            .iter()
            .filter_map(|task| Some(task.taken_ms? - task.created_ms))
            .collect();
        let waiting: Vec<i64> = tasks
            .iter()
            .filter(|task| task.taken_ms.is_none() && !task.withdrawn)
            .map(|task| task.created_ms)
            .collect();
        let waited_ms: i64 = waits.iter().sum();
        let average = match waits.len() {
            0 => 0.0,
            // Rounded to millionths afterwards: another order of the divisions could end beside a half.
            taken => waited_ms as f64 / taken as f64 / 1000.0,
        };
        let withdrawn = tasks.len() - waits.len() - waiting.len();
        [
            ("depth", Some(waiting.len() as i64)),
            ("oldest", waiting.iter().min().copied()),
            ("avg_wait", Some(millionths(average))),
            ("taken", Some(waits.len() as i64)),
            ("withdrawn", Some(withdrawn as i64)),
            ("waited_ms", Some(waited_ms)),
        ]
        .into()
    };
    let queues = queues.into_iter();
    queues
        .map(|(queue, tasks)| (queue, figures(tasks)))
        .collect()
}

/// Where each order is fulfilled, as tasks and pick sessions say; and who has each pick session.
#[derive(Default)]
struct Known {
    warehouses: HashMap<String, String>,
    workers: HashMap<String, String>,
}

impl Known {
    fn place(&mut self, scope: &str, warehouse: &str) {
        self.warehouses
            .entry(scope.to_owned())
            .or_insert_with(|| warehouse.to_owned());
    }

    fn of_tasks_and_sessions(events: &[Event]) -> Self {
        let mut known = Self::default();
        for event in events {
            match &event.payload {
                Payload::TaskCreated(task) => {
                    if let (Some(order), Some(warehouse)) = (&task.order_id, &task.warehouse_id) {
                        known.place(order, warehouse);
                    }
                }
                Payload::PickSessionStarted(session) => {
                    let order = session.order_id.as_deref().unwrap_or_default();
                    known.place(order, &session.warehouse_id);
                    known
                        .workers
                        .insert(session.session_id.clone(), session.worker_id.clone());
                }
                _ => {}
            }
        }
        known
    }

    fn of_all(events: &[Event]) -> Self {
        let mut known = Self::of_tasks_and_sessions(events);
        for event in events {
            match &event.payload {
                Payload::OrderReceived(event) | Payload::OrderValidated(event) => {
                    if let Some(warehouse) = &event.order.warehouse_id {
                        known.place(&event.order.order_id, warehouse);
                    }
                }
                Payload::OrderAllocated(event) => known.place(&event.order_id, &event.warehouse_id),
                Payload::WavePlanned(wave) => {
                    known.place(&wave.wave_id, &wave.warehouse_id);
                    for order in &wave.order_ids {
                        known.place(order, &wave.warehouse_id);
                    }
                }
                _ => {}
            }
        }
        known
    }

    fn warehouse(&self, scope: Option<&str>) -> &str {
        let known = scope.and_then(|scope| self.warehouses.get(scope));
        known.map_or("-", String::as_str)
    }
}

/// The columns of `worker_hourly` that the reference computes.
pub(crate) const WORKER_HOURLY: [&str; 8] = [
    "tasks_done",
    "tasks_failed",
    "lines",
    "units",
    "short_picks",
    "packed_orders",
    "packed_lines",
    "busy_s",
];

pub(crate) fn worker_hourly(events: &[Event]) -> Figures {
    let known = Known::of_tasks_and_sessions(events);
    let mut sums = Sums::default();
    for event in events {
        let hour = event.attributes.time.map_or(0, |time| time.0) / 3_600_000 * 3_600_000;
        let mut add = |order: Option<&str>, worker: &str, column, by| {
            let warehouse = known.warehouse(order);
            sums.add(format!("{warehouse}/{worker}/{hour}"), column, by);
        };
        let of_session = |session: &str| known.workers[session].as_str();
        match &event.payload {
            Payload::TaskCompleted(task) => {
                let worker = task.worker_id.as_deref().expect("a worker");
                let order = task.order_id.as_deref();
                add(order, worker, "tasks_done", 1);
                add(
                    order,
                    worker,
                    "busy_s",
                    task.duration_seconds.expect("a duration"),
                );
            }
            Payload::PickConfirmed(pick) => {
                let worker = of_session(&pick.session_id);
                add(pick.order_id.as_deref(), worker, "lines", 1);
                add(pick.order_id.as_deref(), worker, "units", pick.quantity);
            }
            Payload::PickShort(pick) => {
                let worker = of_session(&pick.session_id);
                add(pick.order_id.as_deref(), worker, "short_picks", 1);
                add(
                    pick.order_id.as_deref(),
                    worker,
                    "units",
                    pick.actual_quantity,
                );
            }
            Payload::PackSessionCompleted(session) => {
                let order = Some(session.order_id.as_str());
                add(order, &session.worker_id, "packed_orders", 1);
                add(
                    order,
                    &session.worker_id,
                    "packed_lines",
                    session.items_packed,
                );
            }
            _ => {}
        }
    }
    sums.figures(&WORKER_HOURLY)
}

/// The columns of `kpi_minute` that the reference computes.
pub(crate) const KPI_MINUTE: [&str; 18] = [
    "orders_received",
    "orders_allocated",
    "orders_cancelled",
    "waves_released",
    "waves_completed",
    "tasks_created",
    "tasks_done",
    "lines_picked",
    "units_picked",
    "short_picks",
    "orders_packed",
    "cartons",
    "qc_passed",
    "qc_failed",
    "shipments_ready",
    "shipments_dispatched",
    "stock_movements",
    "failures",
];

pub(crate) fn kpi_minute(events: &[Event]) -> Figures {
    let known = Known::of_all(events);
    let mut sums = Sums::default();
    for event in events {
        let minute = event.attributes.time.map_or(0, |time| time.0) / 60_000 * 60_000;
        let mut add = |scope: Option<&str>, column, by| {
            let warehouse = known.warehouse(scope);
            sums.add(format!("{warehouse}/{minute}"), column, by);
        };
        match &event.payload {
            Payload::OrderReceived(event) => {
                add(Some(&event.order.order_id), "orders_received", 1);
            }
            Payload::OrderAllocated(event) => add(Some(&event.order_id), "orders_allocated", 1),
            Payload::OrderCancelled(event) => add(Some(&event.order_id), "orders_cancelled", 1),
            Payload::WaveReleased(wave) => add(Some(&wave.wave_id), "waves_released", 1),
            Payload::WaveCompleted(wave) => add(Some(&wave.wave_id), "waves_completed", 1),
            Payload::TaskCreated(task) => add(task.order_id.as_deref(), "tasks_created", 1),
            Payload::TaskCompleted(task) => add(task.order_id.as_deref(), "tasks_done", 1),
            Payload::PickConfirmed(pick) => {
                add(pick.order_id.as_deref(), "lines_picked", 1);
                add(pick.order_id.as_deref(), "units_picked", pick.quantity);
            }
            Payload::PickShort(pick) => {
                add(pick.order_id.as_deref(), "short_picks", 1);
                add(
                    pick.order_id.as_deref(),
                    "units_picked",
                    pick.actual_quantity,
                );
            }
            Payload::PackSessionCompleted(session) => {
                add(Some(&session.order_id), "orders_packed", 1);
                add(Some(&session.order_id), "cartons", session.cartons_used);
            }
            Payload::QualityChecked(check) => {
                let column = if check.result == "PASSED" {
                    "qc_passed"
                } else {
                    "qc_failed"
                };
                add(Some(&check.order_id), column, 1);
            }
            Payload::ShipmentReady(shipment) => {
                add(shipment.order_id.as_deref(), "shipments_ready", 1);
            }
            Payload::ShipmentDispatched(shipment) => {
                add(Some(&shipment.order_id), "shipments_dispatched", 1);
            }
            Payload::ShipmentDelivered(shipment) => {
                add(Some(&shipment.order_id), "shipments_delivered", 1);
            }
            Payload::StockLevelChanged(change) => {
                add(change.order_id.as_deref(), "stock_movements", 1);
            }
            Payload::CartonizationFailed(_) => add(None, "failures", 1),
            _ => {}
        }
    }
    sums.figures(&KPI_MINUTE)
}

/// The columns of `pick_session_view` that the reference computes.
pub(crate) const PICK_SESSION: [&str; 8] = [
    "instructions",
    "done",
    "picked",
    "short",
    "units",
    "missing_units",
    "accuracy",
    "duration_s",
];

/// Figures and states.
pub(crate) fn pick_session(events: &[Event]) -> (Figures, BTreeMap<String, String>) {
    let mut sums = Sums::default();
    let mut states = BTreeMap::new();
    for event in events {
        match &event.payload {
            Payload::PickSessionStarted(session) => {
                let (id, total) = (session.session_id.clone(), session.total_instructions);
                sums.add(id.clone(), "instructions", total);
                states.insert(id, "IN_PROGRESS".to_owned());
            }
            Payload::PickConfirmed(pick) => {
                sums.add(pick.session_id.clone(), "picked", 1);
                sums.add(pick.session_id.clone(), "done", 1);
                sums.add(pick.session_id.clone(), "units", pick.quantity);
            }
            Payload::PickShort(pick) => {
                let missing = pick.expected_quantity - pick.actual_quantity;
                sums.add(pick.session_id.clone(), "short", 1);
                sums.add(pick.session_id.clone(), "done", 1);
                sums.add(pick.session_id.clone(), "units", pick.actual_quantity);
                sums.add(pick.session_id.clone(), "missing_units", missing);
            }
            Payload::PickSessionCompleted(session) | Payload::PickSessionCancelled(session) => {
                let state = match event.payload {
                    Payload::PickSessionCompleted(_) => "COMPLETED",
                    _ => "CANCELLED",
                };
                let id = session.session_id.clone();
                sums.add(id.clone(), "duration_s", session.duration_seconds);
                // The session's own account of its lines must agree with the lines.
                let done = sums.0[&id].get("done").copied().unwrap_or(0);
                assert_eq!(done, session.completed_instructions, "{id}");
                states.insert(id, state.to_owned());
            }
            _ => {}
        }
    }
    let mut figures = sums.figures(&PICK_SESSION);
    for row in figures.values_mut() {
        let (picked, done) = (row["picked"].unwrap_or(0), row["done"].unwrap_or(0));
        let accuracy = picked as f64 / done.max(1) as f64;
        row.insert("accuracy", Some(millionths(accuracy)));
    }
    (figures, states)
}

/// The columns of `pack_throughput` that the reference computes.
pub(crate) const PACK_THROUGHPUT: [&str; 9] = [
    "orders", "items", "cartons", "weight_g", "weight", "qc_pass", "qc_fail", "p50_s", "p95_s",
];

pub(crate) fn pack_throughput(events: &[Event]) -> Figures {
    let mut stations = HashMap::new();
    let mut sums = Sums::default();
    let mut durations = BTreeMap::<String, Vec<i64>>::new();
    for event in events {
        let minute = event.attributes.time.map_or(0, |time| time.0) / 60_000 * 60_000;
        match &event.payload {
            Payload::PackSessionStarted(session) => {
                stations.insert(session.session_id.clone(), session.packing_station.clone());
            }
            Payload::QualityChecked(check) => {
                let key = format!("{}/{minute}", stations[&check.session_id]);
                let column = if check.result == "PASSED" {
                    "qc_pass"
                } else {
                    "qc_fail"
                };
                sums.add(key, column, 1);
            }
            Payload::PackSessionCompleted(session) => {
                let key = format!("{}/{minute}", stations[&session.session_id]);
                sums.add(key.clone(), "orders", 1);
                sums.add(key.clone(), "items", session.items_packed);
                sums.add(key.clone(), "cartons", session.cartons_used);
                let grams = (session.total_weight_kg * 1000.0).round() as i64;
                sums.add(key.clone(), "weight_g", grams);
                sums.add(key.clone(), "weight", grams * 1000);
                durations
                    .entry(key)
                    .or_default()
                    .push(session.duration_seconds);
            }
            _ => {}
        }
    }
    let mut figures = sums.figures(&PACK_THROUGHPUT);
    for (key, row) in &mut figures {
        let mut sorted = durations.remove(key).unwrap_or_default();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            rank.checked_sub(1).map(|index| sorted[index])
        };
        row.insert("p50_s", at(50).or(None));
        row.insert("p95_s", at(95).or(None));
        if sorted.is_empty() {
            // A new row has zeroes until its first session is done.
            row.insert("p50_s", Some(0));
            row.insert("p95_s", Some(0));
        }
    }
    figures
}

/// The columns of `order_sla` that the reference computes.
pub(crate) const ORDER_SLA: [&str; 6] = [
    "received_at",
    "deadline",
    "released_at",
    "packed_at",
    "shipped_at",
    "cycle_s",
];

/// Figures and statuses, when all clocks stand at `clock_ms` less the allowed lateness.
pub(crate) fn order_sla(
    events: &[Event],
    clock_ms: Option<i64>,
) -> (Figures, BTreeMap<String, String>) {
    #[derive(Default)]
    struct Order {
        speed: String,
        received: Option<i64>,
        released: Option<i64>,
        packed: Option<i64>,
        shipped: Option<i64>,
        cancelled: bool,
    }
    let mut orders = BTreeMap::<String, Order>::new();
    for event in events {
        let at_ms = event.attributes.time.map(|time| time.0);
        match &event.payload {
            Payload::OrderReceived(event) => {
                let order = orders.entry(event.order.order_id.clone()).or_default();
                order.received = event.order.received_date.map(|at| at.0).or(at_ms);
                order.speed = event
                    .order
                    .shipping_speed_category
                    .clone()
                    .unwrap_or_default();
            }
            Payload::WaveReleased(wave) => {
                for order in &wave.order_ids {
                    let order = orders.entry(order.clone()).or_default();
                    order.released = order.released.or(at_ms);
                }
            }
            Payload::PackSessionCompleted(session) => {
                orders.entry(session.order_id.clone()).or_default().packed = at_ms;
            }
            Payload::ShipmentDispatched(shipment) => {
                orders.entry(shipment.order_id.clone()).or_default().shipped = at_ms;
            }
            Payload::OrderCancelled(closed) | Payload::OrderInvalidated(closed) => {
                orders.entry(closed.order_id.clone()).or_default().cancelled = true;
            }
            _ => {}
        }
    }
    let hours = |speed: &str| match speed {
        "SAME_DAY" => 4,
        "NEXT_DAY" => 24,
        "PRIORITY" | "EXPEDITED" => 48,
        _ => 72,
    };
    let (mut figures, mut statuses) = (Figures::new(), BTreeMap::new());
    for (id, order) in orders {
        let allowed_ms = hours(&order.speed) * 3_600_000;
        let received_ms = order.received.expect("every order is received");
        let deadline_ms = received_ms + allowed_ms;
        let open = order.shipped.is_none() && !order.cancelled;
        let passed = |due_ms: i64| clock_ms.is_some_and(|clock_ms| due_ms <= clock_ms);
        let late = order.shipped.is_some_and(|at_ms| at_ms > deadline_ms);
        let status = match (late, open) {
            (true, _) => "BREACHED",
            (_, true) if passed(deadline_ms) => "BREACHED",
            (_, true) if passed(received_ms + allowed_ms * 3 / 4) => "AT_RISK",
            _ => "ON_TRACK",
        };
        statuses.insert(id.clone(), status.to_owned());
        let cycle_s = order.shipped.map(|at_ms| (at_ms - received_ms) / 1000);
        let row = [
            ("received_at", Some(received_ms)),
            ("deadline", Some(deadline_ms)),
            ("released_at", order.released),
            ("packed_at", order.packed),
            ("shipped_at", order.shipped),
            ("cycle_s", if open { Some(0) } else { cycle_s }),
        ];
        figures.insert(id, row.into());
    }
    (figures, statuses)
}
