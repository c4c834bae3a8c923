//! Picking: a task and a session for each zone of an order, one instruction for each line.

use super::desk::About;
use super::floor::{Fate, Floor};
use super::model::{Action, OpenOrder, PackStep, PickSession, PickStep};
use super::planning::share;
use super::rules::{MINUTE, SECOND};
use super::stockroom::Movement;
use crate::event::Payload;
use crate::event::payload::{PickConfirmed, PickSessionEnded, PickSessionStarted, PickShort};
use crate::state::{InstructionState, OrderStage, PickState, State};

impl Floor {
    /// One step of the picking of a part of an order.
    pub(super) fn pick(&mut self, order: &mut OpenOrder, part: usize, step: PickStep) -> Fate {
        match step {
            PickStep::Create => self.create_pick_task(order, part),
            PickStep::Assign => self.assign_pick_task(order, part),
            PickStep::Start => self.start_session(order, part),
            PickStep::Line => self.pick_line(order, part),
            PickStep::Finish => return self.finish_session(order, part),
        }
        Fate::Open
    }

    fn next_pick(&mut self, order: &mut OpenOrder, part: usize, span: (i64, i64), step: PickStep) {
        let order_key = order.key;
        self.after(
            order,
            span,
            Action::Pick {
                order: order_key,
                part,
                step,
            },
        );
    }

    fn create_pick_task(&mut self, order: &mut OpenOrder, part: usize) {
        let (zone, lines) = (order.parts[part].zone, order.parts[part].lines.len() as i64);
        let task = order.create_task(&mut self.desk, "PICK", zone, 60 + 45 * lines);
        order.parts[part].task = Some(task);
        self.next_pick(order, part, (MINUTE, 15 * MINUTE), PickStep::Assign);
    }

    fn assign_pick_task(&mut self, order: &mut OpenOrder, part: usize) {
        let OpenOrder {
            parts, scope, draw, ..
        } = order;
        let task = parts[part]
            .task
            .as_mut()
            .expect("a task is created before it is assigned");
        task.assign(&mut self.desk, scope, draw);
        self.next_pick(order, part, (30 * SECOND, 3 * MINUTE), PickStep::Start);
    }

    fn start_session(&mut self, order: &mut OpenOrder, part: usize) {
        let (wave_id, warehouse_id) = (order.wave_id(), order.warehouse_id());
        let OpenOrder {
            id, parts, scope, ..
        } = &mut *order;
        let part_of_order = &mut parts[part];
        let task = part_of_order
            .task
            .as_mut()
            .expect("a task is assigned before it is started");
        task.start(&mut self.desk, scope);
        let mut session = PickSession {
            id: self.desk.ids.next("SESSION"),
            state: PickState::Created,
            version: 0,
            started_ms: self.desk.now_ms,
            short: 0,
        };
        session.enter(PickState::InProgress);
        let started = PickSessionStarted {
            session_id: session.id.clone(),
            task_id: task.id().to_owned(),
            wave_id,
            order_id: Some(id.clone()),
            worker_id: task.worker.clone(),
            warehouse_id,
            strategy: "DISCRETE".to_owned(),
            total_instructions: part_of_order.lines.len() as i64,
            planned_distance_meters: None,
            started_at: Some(self.desk.now()),
        };
        let about = session.about();
        self.desk
            .emit(scope, about, &Payload::PickSessionStarted(started));
        part_of_order.session = Some(session);
        if order.stage == OrderStage::Released {
            order.enter(OrderStage::Picking, &mut self.desk);
            self.wave_in_progress(order);
        }
        self.next_pick(order, part, (15 * SECOND, 75 * SECOND), PickStep::Line);
    }

    fn pick_line(&mut self, order: &mut OpenOrder, part: usize) {
        let position = order.parts[part].lines[order.parts[part].done];
        let asked = order.lines[position].allocated;
        let short = order.draw.chance(self.rates.short_picks);
        let found = if short {
            order.draw.between(0, asked - 1)
        } else {
            asked
        };
        let location = location(order, position);
        let wave_id = order.wave_id();
        let OpenOrder {
            id,
            lines,
            parts,
            scope,
            ..
        } = &mut *order;
        let (part_of_order, line) = (&mut parts[part], &mut lines[position]);
        let session = part_of_order
            .session
            .as_mut()
            .expect("a session is started before it picks");
        part_of_order.done += 1;
        let instruction_id = format!("{}-{:03}", session.id, part_of_order.done);
        line.enter(InstructionState::InProgress);
        let event = if short {
            line.enter(InstructionState::ShortPicked);
            session.short += 1;
            Payload::PickShort(PickShort {
                session_id: session.id.clone(),
                instruction_id,
                wave_id,
                order_id: Some(id.clone()),
                sku: line.sku.clone(),
                expected_quantity: asked,
                actual_quantity: found,
                reason: "LOCATION_SHORT".to_owned(),
                reported_at: Some(self.desk.now()),
            })
        } else {
            line.enter(InstructionState::Picked);
            Payload::PickConfirmed(PickConfirmed {
                session_id: session.id.clone(),
                instruction_id,
                wave_id,
                order_id: Some(id.clone()),
                sku: line.sku.clone(),
                quantity: found,
                location_id: Some(location),
                picked_at: Some(self.desk.now()),
            })
        };
        session.version += 1;
        self.desk
            .emit(scope, About::keyed(&session.id, session.version), &event);
        line.allocated = 0;
        line.picked = found;
        for (movement, quantity) in [
            (Movement::Pick, found),
            (Movement::ShortPick, asked - found),
        ] {
            if quantity > 0 {
                let order = Some((id.as_str(), &mut *scope));
                self.stockroom
                    .move_stock(&line.sku, movement, quantity, order, &mut self.desk);
            }
        }
        let more = part_of_order.done < part_of_order.lines.len();
        self.book_pick(order, short, found);
        if more {
            self.next_pick(order, part, (15 * SECOND, 75 * SECOND), PickStep::Line);
        } else {
            self.next_pick(order, part, (5 * SECOND, 20 * SECOND), PickStep::Finish);
        }
    }

    fn book_pick(&mut self, order: &OpenOrder, short: bool, units: i64) {
        let (picked, short) = if short { (0, 1) } else { (1, 0) };
        let ledger = &mut self.desk.ledger;
        ledger.picks += 1;
        ledger.short_picks += short as u64;
        if let Some(entry) = ledger.orders.get_mut(&order.id) {
            entry.picked_lines += picked;
            entry.short_lines += short;
            entry.picked_units += units;
        }
        if let Some(entry) = order
            .wave
            .as_ref()
            .and_then(|(_, id)| ledger.waves.get_mut(id))
        {
            entry.picked_lines += picked;
            entry.short_lines += short;
        }
    }

    fn finish_session(&mut self, order: &mut OpenOrder, part: usize) -> Fate {
        let done = order.parts[part].lines.len() as i64;
        self.end_session(order, part, PickState::Completed);
        let OpenOrder { parts, scope, .. } = &mut *order;
        let task = parts[part].task.as_mut().expect("a session has a task");
        task.complete(&mut self.desk, scope, done);
        let all_done = order
            .parts
            .iter()
            .all(|part| part.task.as_ref().is_some_and(|task| !task.is_open()));
        if !all_done {
            return Fate::Open;
        }
        order.enter(OrderStage::Picked, &mut self.desk);
        if order.lines.iter().all(|line| line.picked == 0) {
            return self.cancel(order, "NOTHING_FOUND");
        }
        let create = Action::Pack {
            order: order.key,
            step: PackStep::Create,
        };
        self.after(order, (MINUTE, 10 * MINUTE), create);
        Fate::Open
    }

    /// Ends the session of a part and says so.
    fn end_session(&mut self, order: &mut OpenOrder, part: usize, state: PickState) {
        let wave_id = order.wave_id();
        let OpenOrder {
            id, parts, scope, ..
        } = &mut *order;
        let part_of_order = &mut parts[part];
        let (Some(session), Some(task)) = (part_of_order.session.as_mut(), &part_of_order.task)
        else {
            return;
        };
        session.enter(state);
        let done = part_of_order.done as i64;
        let ended = PickSessionEnded {
            session_id: session.id.clone(),
            task_id: task.id().to_owned(),
            wave_id,
            order_id: Some(id.clone()),
            worker_id: task.worker.clone(),
            completed_instructions: done,
            short_picks: session.short,
            accuracy: share(done - session.short, done),
            actual_distance_meters: None,
            duration_seconds: (self.desk.now_ms - session.started_ms) / 1000,
            completed_at: Some(self.desk.now()),
        };
        let payload = match state {
            PickState::Completed => Payload::PickSessionCompleted(ended),
            _ => Payload::PickSessionCancelled(ended),
        };
        session.version += 1;
        self.desk
            .emit(scope, About::keyed(&session.id, session.version), &payload);
    }

    /// The order is cancelled: what is not done of it need not be done.
    pub(super) fn stop_picking(&mut self, order: &mut OpenOrder, reason: &str) {
        for line in order
            .lines
            .iter_mut()
            .filter(|line| !line.instruction.is_terminal())
        {
            line.enter(InstructionState::Cancelled);
        }
        for part in 0..order.parts.len() {
            let session = order.parts[part].session.as_ref();
            if session.is_some_and(|session| !session.state.is_terminal()) {
                self.end_session(order, part, PickState::Cancelled);
            }
            let OpenOrder { parts, scope, .. } = &mut *order;
            if let Some(task) = parts[part].task.as_mut().filter(|task| task.is_open()) {
                task.cancel(&mut self.desk, scope, reason);
            }
        }
    }
}

impl PickSession {
    fn enter(&mut self, state: PickState) {
        self.state
            .enter(state)
            .expect("the workload keeps to the session's states");
    }

    fn about(&mut self) -> About<'_> {
        self.version += 1;
        About::keyed(&self.id, self.version)
    }
}

impl super::model::Line {
    fn enter(&mut self, state: InstructionState) {
        self.instruction
            .enter(state)
            .expect("the workload keeps to the instruction's states");
    }
}

/// Where the line's goods lie: a modelled place, always the same for a sku.
fn location(order: &OpenOrder, position: usize) -> String {
    let line = &order.lines[position];
    let mut draw = super::draw::Draw::of(0, &format!("place {}", line.sku));
    let letter = line.zone.chars().last().unwrap_or('A');
    format!(
        "{letter}-{:02}-{:02}-{}",
        draw.between(1, 24),
        draw.between(1, 40),
        draw.between(1, 5)
    )
}
