//! What the workload knows of open orders, waves and warehouses.

use super::desk::{About, Desk, Scope};
use super::draw::Draw;
use super::rules::{Policy, Speed};
use crate::event::Payload;
use crate::event::payload::TaskChanged;
use crate::state::{
    InstructionState, OrderStage, PackState, PickState, ShipmentState, State, TaskState, WaveState,
};

/// Number of an order within the run.
pub(super) type OrderKey = u64;
/// Number of a wave within the run.
pub(super) type WaveKey = u64;
/// Number of a warehouse, from 1.
pub(super) type WarehouseKey = u32;

/// What is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Cancel(OrderKey),
    Receive(String),
    Plan(WarehouseKey),
    Release(WaveKey),
    Pick {
        order: OrderKey,
        part: usize,
        step: PickStep,
    },
    Pack {
        order: OrderKey,
        step: PackStep,
    },
    Ship {
        order: OrderKey,
        step: ShipStep,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PickStep {
    Create,
    Assign,
    Start,
    Line,
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackStep {
    Create,
    Assign,
    Start,
    Scan,
    Carton,
    CartonByHand,
    Check,
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShipStep {
    Label,
    Ready,
    Dispatch,
    Deliver,
}

/// An order that has not ended.
#[derive(Debug)]
pub(super) struct OpenOrder {
    pub(super) key: OrderKey,
    pub(super) id: String,
    /// The source's number, with the part if it was split.
    pub(super) number: String,
    pub(super) customer_id: String,
    pub(super) ordered_at_ms: i64,
    pub(super) allocated_at_ms: i64,
    pub(super) warehouse: WarehouseKey,
    pub(super) speed: Speed,
    pub(super) policy: Policy,
    pub(super) stage: OrderStage,
    pub(super) version: i64,
    pub(super) lines: Vec<Line>,
    pub(super) wave: Option<(WaveKey, String)>,
    pub(super) parts: Vec<PickPart>,
    pub(super) pack: Option<PackJob>,
    pub(super) shipment: Option<Shipment>,
    pub(super) scope: Scope,
    pub(super) draw: Draw,
}

/// A line of an order.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) sku: String,
    pub(super) zone: &'static str,
    pub(super) ordered: i64,
    /// Set aside and still on the shelf.
    pub(super) allocated: i64,
    pub(super) picked: i64,
    pub(super) instruction: InstructionState,
}

/// The lines of an order in one zone: one task, one pick session.
#[derive(Debug)]
pub(super) struct PickPart {
    pub(super) zone: &'static str,
    /// Positions in the order's lines.
    pub(super) lines: Vec<usize>,
    /// How many of them are done.
    pub(super) done: usize,
    pub(super) task: Option<Task>,
    pub(super) session: Option<PickSession>,
}

#[derive(Debug)]
pub(super) struct PickSession {
    pub(super) id: String,
    pub(super) state: PickState,
    pub(super) version: i64,
    pub(super) started_ms: i64,
    pub(super) short: i64,
}

#[derive(Debug)]
pub(super) struct PackJob {
    pub(super) task: Task,
    pub(super) session_id: String,
    pub(super) state: PackState,
    pub(super) version: i64,
    pub(super) started_ms: i64,
    /// Position of the line to scan next.
    pub(super) next_line: usize,
    pub(super) carton_id: String,
    pub(super) checks: i64,
}

#[derive(Debug)]
pub(super) struct Shipment {
    pub(super) id: String,
    pub(super) state: ShipmentState,
    pub(super) version: i64,
    pub(super) carrier: &'static str,
    pub(super) service: &'static str,
    pub(super) tracking_number: String,
}

/// A task, from the moment it is created.
#[derive(Debug)]
pub(super) struct Task {
    id: String,
    kind: &'static str,
    zone: &'static str,
    priority: &'static str,
    warehouse_id: String,
    wave_id: Option<String>,
    order_id: String,
    pub(super) worker: String,
    state: TaskState,
    version: i64,
    started_ms: i64,
}

impl OpenOrder {
    pub(super) fn wave_id(&self) -> Option<String> {
        self.wave.as_ref().map(|(_, id)| id.clone())
    }

    pub(super) fn warehouse_id(&self) -> String {
        warehouse_id(self.warehouse)
    }

    /// Enters a stage and books it.
    pub(super) fn enter(&mut self, stage: OrderStage, desk: &mut Desk) {
        self.stage
            .enter(stage)
            .expect("the workload keeps to the order's states");
        let entry = desk.ledger.orders.get_mut(&self.id);
        entry.expect("an open order is in the ledger").stage = stage;
    }

    /// Writes an event about the order itself.
    pub(super) fn emit(&mut self, desk: &mut Desk, payload: &Payload) {
        self.version += 1;
        let about = About::keyed(&self.id, self.version);
        desk.emit(&mut self.scope, about, payload);
    }

    /// Creates a task for this order, and says so.
    pub(super) fn create_task(
        &mut self,
        desk: &mut Desk,
        kind: &'static str,
        zone: &'static str,
        estimated_seconds: i64,
    ) -> Task {
        let mut task = Task {
            id: desk.ids.next("TASK"),
            kind,
            zone,
            priority: self.speed.priority,
            warehouse_id: self.warehouse_id(),
            wave_id: self.wave_id(),
            order_id: self.id.clone(),
            worker: String::new(),
            state: TaskState::Pending,
            version: 0,
            started_ms: 0,
        };
        task.enter(TaskState::Queued);
        let created = TaskChanged {
            warehouse_id: Some(task.warehouse_id.clone()),
            zone_id: Some(zone.to_owned()),
            priority: Some(task.priority.to_owned()),
            created_at: Some(desk.now()),
            estimated_duration_seconds: Some(estimated_seconds),
            ..task.change()
        };
        task.emit(desk, &mut self.scope, &Payload::TaskCreated(created));
        task
    }
}

impl Task {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_open(&self) -> bool {
        !self.state.is_terminal()
    }

    fn enter(&mut self, state: TaskState) {
        self.state
            .enter(state)
            .expect("the workload keeps to the task's states");
    }

    /// The fields that every event of the task has.
    fn change(&self) -> TaskChanged {
        TaskChanged {
            task_id: self.id.clone(),
            task_type: self.kind.to_owned(),
            wave_id: self.wave_id.clone(),
            order_id: Some(self.order_id.clone()),
            worker_id: (!self.worker.is_empty()).then(|| self.worker.clone()),
            ..TaskChanged::default()
        }
    }

    fn emit(&mut self, desk: &mut Desk, scope: &mut Scope, payload: &Payload) {
        self.version += 1;
        desk.emit(scope, About::keyed(&self.id, self.version), payload);
    }

    pub(super) fn assign(&mut self, desk: &mut Desk, scope: &mut Scope, draw: &mut Draw) {
        self.worker = format!("WORKER-{:03}", draw.between(1, 24));
        self.enter(TaskState::Assigned);
        let zone_id = Some(self.zone.to_owned());
        let assigned = TaskChanged {
            zone_id,
            assigned_at: Some(desk.now()),
            ..self.change()
        };
        self.emit(desk, scope, &Payload::TaskAssigned(assigned));
    }

    pub(super) fn start(&mut self, desk: &mut Desk, scope: &mut Scope) {
        self.enter(TaskState::Accepted);
        self.enter(TaskState::InProgress);
        self.started_ms = desk.now_ms;
        let started = TaskChanged {
            started_at: Some(desk.now()),
            ..self.change()
        };
        self.emit(desk, scope, &Payload::TaskStarted(started));
    }

    pub(super) fn complete(&mut self, desk: &mut Desk, scope: &mut Scope, items: i64) {
        self.enter(TaskState::Completed);
        let completed = TaskChanged {
            completed_at: Some(desk.now()),
            duration_seconds: Some((desk.now_ms - self.started_ms) / 1000),
            items_processed: Some(items),
            ..self.change()
        };
        self.emit(desk, scope, &Payload::TaskCompleted(completed));
    }

    pub(super) fn cancel(&mut self, desk: &mut Desk, scope: &mut Scope, reason: &str) {
        self.enter(TaskState::Cancelled);
        let reason = Some(reason.to_owned());
        let cancelled = TaskChanged {
            reason,
            cancelled_at: Some(desk.now()),
            ..self.change()
        };
        self.emit(desk, scope, &Payload::TaskCancelled(cancelled));
    }
}

/// A wave that has not ended.
#[derive(Debug)]
pub(super) struct Wave {
    pub(super) id: String,
    pub(super) warehouse: WarehouseKey,
    pub(super) state: WaveState,
    pub(super) version: i64,
    pub(super) priority: &'static str,
    pub(super) cutoff_ms: i64,
    pub(super) orders: Vec<OrderKey>,
    /// Orders that are neither ready nor cancelled.
    pub(super) open: i64,
    pub(super) scope: Scope,
}

impl Wave {
    /// Enters a state and books it.
    pub(super) fn enter(&mut self, state: WaveState, desk: &mut Desk) {
        self.state
            .enter(state)
            .expect("the workload keeps to the wave's states");
        let entry = desk.ledger.waves.get_mut(&self.id);
        entry.expect("an open wave is in the ledger").state = state;
    }

    pub(super) fn emit(&mut self, desk: &mut Desk, payload: &Payload) {
        self.version += 1;
        desk.emit(
            &mut self.scope,
            About::keyed(&self.id, self.version),
            payload,
        );
    }
}

/// A warehouse's planner.
#[derive(Debug, Default)]
pub(super) struct Warehouse {
    /// Allocated orders that no wave has; some may have been cancelled since.
    pub(super) pool: Vec<OrderKey>,
    /// Waves that are planned or released.
    pub(super) active: usize,
    /// When the last wave was planned.
    pub(super) planned_ms: Option<i64>,
    /// Whether the planner's next look is on the agenda.
    pub(super) waits: bool,
}

pub(super) fn warehouse_id(warehouse: WarehouseKey) -> String {
    format!("WH-{warehouse:03}")
}
