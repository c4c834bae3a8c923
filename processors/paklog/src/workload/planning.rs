//! Waves: planned when enough orders are there, released to the floor, ended with their last order.

use super::desk::Scope;
use super::floor::{Fate, Floor};
use super::ledger::WaveEntry;
use super::model::{
    Action, OpenOrder, OrderKey, PickPart, PickStep, WarehouseKey, Wave, WaveKey, warehouse_id,
};
use super::rules::{self, MINUTE, SECOND};
use crate::event::payload::{WaveCancelled, WaveCompleted, WavePlanned, WaveReleased};
use crate::event::{Moment, Payload};
use crate::state::{OrderStage, WaveState};

impl Floor {
    /// The order is allocated and may be planned.
    pub(super) fn join_pool(&mut self, order: &OpenOrder) {
        self.warehouses
            .entry(order.warehouse)
            .or_default()
            .pool
            .push(order.key);
        self.look_again(order.warehouse);
    }

    /// Puts the planner's next look on the agenda: at a full quarter of an hour, and not sooner than
    /// waves may follow each other.
    fn look_again(&mut self, key: WarehouseKey) {
        let warehouse = self.warehouses.entry(key).or_default();
        if warehouse.waits || warehouse.pool.is_empty() {
            return;
        }
        warehouse.waits = true;
        let now_ms = self.desk.now_ms;
        let quarter = now_ms - now_ms.rem_euclid(rules::WAVE_GAP) + rules::WAVE_GAP;
        let soonest = warehouse
            .planned_ms
            .map_or(quarter, |planned| planned + rules::WAVE_GAP);
        self.agenda.at(quarter.max(soonest), Action::Plan(key));
    }

    /// The planner looks whether a wave is worth it.
    pub(super) fn plan(&mut self, key: WarehouseKey) {
        let warehouse = self.warehouses.entry(key).or_default();
        warehouse.waits = false;
        let orders = &self.orders;
        warehouse.pool.retain(|order| {
            orders
                .get(order)
                .is_some_and(|order| order.stage == OrderStage::Allocated)
        });
        let longest_wait = warehouse
            .pool
            .iter()
            .filter_map(|order| orders.get(order))
            .map(|order| self.desk.now_ms - order.allocated_at_ms)
            .max();
        let worth_it = warehouse.pool.len() >= rules::WAVE_ORDERS_MIN
            || longest_wait.is_some_and(|wait| wait >= rules::WAVE_WAIT_MAX);
        if worth_it && warehouse.active < rules::ACTIVE_WAVES_MAX {
            self.plan_wave(key);
        }
        self.look_again(key);
    }

    fn plan_wave(&mut self, key: WarehouseKey) {
        let chosen = self.choose(key);
        let wave_key = self.open_wave(key, chosen);
        let now_ms = self.desk.now_ms;
        let wave = self.waves.get_mut(&wave_key).expect("just opened");
        let release_ms =
            now_ms + wave_draw(self.desk.seed, &wave.id).between(5 * MINUTE, 30 * MINUTE);
        let (id, keys) = (wave.id.clone(), wave.orders.clone());
        let (mut order_ids, mut lines, mut units) = (Vec::with_capacity(keys.len()), 0, 0);
        for order in keys {
            self.with_order(order, |floor, order| {
                order.enter(OrderStage::WaveAssigned, &mut floor.desk);
                order.wave = Some((wave_key, id.clone()));
                if let Some(entry) = floor.desk.ledger.orders.get_mut(&order.id) {
                    entry.wave_id = Some(id.clone());
                }
                lines += order.lines.iter().filter(|line| line.allocated > 0).count() as i64;
                units += order.lines.iter().map(|line| line.allocated).sum::<i64>();
                order_ids.push(order.id.clone());
                Fate::Open
            });
        }
        let wave = self.waves.get_mut(&wave_key).expect("just opened");
        book(wave, order_ids.len() as i64, lines, &mut self.desk.ledger);
        let planned = WavePlanned {
            wave_id: wave.id.clone(),
            order_ids,
            warehouse_id: warehouse_id(wave.warehouse),
            strategy: "CARRIER_CUTOFF".to_owned(),
            priority: wave.priority.to_owned(),
            planned_release_time: Some(Moment(release_ms)),
            total_lines: lines,
            total_units: units,
            carrier_cutoff: Some(Moment(wave.cutoff_ms)),
        };
        wave.emit(&mut self.desk, &Payload::WavePlanned(planned));
        self.agenda.at(release_ms, Action::Release(wave_key));
    }

    /// Takes the most urgent orders from the pool, the longest waiting first.
    fn choose(&mut self, key: WarehouseKey) -> Vec<OrderKey> {
        let warehouse = self.warehouses.entry(key).or_default();
        let orders = &self.orders;
        warehouse.pool.sort_by_key(|order| {
            orders
                .get(order)
                .map(|order| (order.speed.rank, order.allocated_at_ms, order.key))
        });
        let rest = warehouse
            .pool
            .split_off(warehouse.pool.len().min(rules::WAVE_ORDERS_MAX));
        warehouse.active += 1;
        warehouse.planned_ms = Some(self.desk.now_ms);
        std::mem::replace(&mut warehouse.pool, rest)
    }

    fn open_wave(&mut self, warehouse: WarehouseKey, orders: Vec<OrderKey>) -> WaveKey {
        self.waves_opened += 1;
        let id = self.desk.ids.next("WAVE");
        let most_urgent = orders.first().and_then(|order| self.orders.get(order));
        let wave = Wave {
            warehouse,
            state: WaveState::Planned,
            version: 0,
            priority: most_urgent.map_or("NORMAL", |order| order.speed.priority),
            cutoff_ms: rules::next_pickup(self.desk.now_ms + rules::WAVE_LEAD),
            orders,
            open: 0,
            scope: Scope::new(self.desk.seed, &id),
            id,
        };
        self.waves.insert(self.waves_opened, wave);
        self.waves_opened
    }

    /// The wave goes to the floor, without the orders that were cancelled since.
    pub(super) fn release(&mut self, key: WaveKey) {
        let Some(mut wave) = self.waves.remove(&key) else {
            return;
        };
        wave.orders.retain(|order| self.orders.contains_key(order));
        if wave.orders.is_empty() {
            self.end_wave(wave);
            return;
        }
        wave.open = wave.orders.len() as i64;
        wave.enter(WaveState::Released, &mut self.desk);
        let (mut order_ids, mut lines) = (Vec::with_capacity(wave.orders.len()), 0);
        let mut lines_by_zone = std::collections::BTreeMap::<&'static str, i64>::new();
        for order in wave
            .orders
            .iter()
            .filter_map(|order| self.orders.get(order))
        {
            order_ids.push(order.id.clone());
            for line in order.lines.iter().filter(|line| line.allocated > 0) {
                lines += 1;
                *lines_by_zone.entry(line.zone).or_default() += 1;
            }
        }
        let busiest = lines_by_zone.into_iter().max_by_key(|(_, lines)| *lines);
        book(&wave, order_ids.len() as i64, lines, &mut self.desk.ledger);
        let released = WaveReleased {
            wave_id: wave.id.clone(),
            order_ids,
            warehouse_id: warehouse_id(wave.warehouse),
            zone_id: busiest.map_or_else(String::new, |(zone, _)| zone.to_owned()),
            priority: wave.priority.to_owned(),
            total_lines: lines,
            released_at: Some(self.desk.now()),
            carrier_cutoff: Some(Moment(wave.cutoff_ms)),
        };
        wave.emit(&mut self.desk, &Payload::WaveReleased(released));
        let orders = wave.orders.clone();
        self.waves.insert(key, wave);
        for order in orders {
            self.with_order(order, Self::release_order);
        }
    }

    fn release_order(&mut self, order: &mut OpenOrder) -> Fate {
        order.enter(OrderStage::Released, &mut self.desk);
        order.parts = parts(order);
        for part in 0..order.parts.len() {
            let create = Action::Pick {
                order: order.key,
                part,
                step: PickStep::Create,
            };
            self.after(order, (SECOND, MINUTE), create);
        }
        if order.draw.chance(self.rates.cancelled_late) {
            self.after(order, rules::CANCEL_LATE, Action::Cancel(order.key));
        }
        Fate::Open
    }

    /// Picking has begun in the order's wave.
    pub(super) fn wave_in_progress(&mut self, order: &OpenOrder) {
        let Some((key, _)) = &order.wave else { return };
        if let Some(wave) = self.waves.get_mut(key)
            && wave.state == WaveState::Released
        {
            wave.enter(WaveState::InProgress, &mut self.desk);
        }
    }

    /// The order is ready (`completed`) or cancelled; with its last order the wave ends.
    pub(super) fn leave_wave(&mut self, order: &OpenOrder, completed: bool) {
        let Some((key, _)) = &order.wave else { return };
        let Some(wave) = self.waves.get_mut(key) else {
            return;
        };
        if wave.state == WaveState::Planned {
            return; // the release will leave it out
        }
        wave.open -= 1;
        if completed && let Some(entry) = self.desk.ledger.waves.get_mut(&wave.id) {
            entry.completed_orders += 1;
        }
        if wave.open == 0
            && let Some(wave) = self.waves.remove(key)
        {
            self.end_wave(wave);
        }
    }

    /// Completes the wave, or cancels it if none of its orders is ready.
    fn end_wave(&mut self, mut wave: Wave) {
        let entry = self
            .desk
            .ledger
            .waves
            .get(&wave.id)
            .cloned()
            .expect("every wave is booked");
        if entry.completed_orders == 0 {
            wave.enter(WaveState::Cancelled, &mut self.desk);
            let cancelled = WaveCancelled {
                wave_id: wave.id.clone(),
                reason: "ALL_ORDERS_CANCELLED".to_owned(),
                cancelled_at: Some(self.desk.now()),
            };
            wave.emit(&mut self.desk, &Payload::WaveCancelled(cancelled));
        } else {
            wave.enter(WaveState::Completed, &mut self.desk);
            let picks = entry.picked_lines + entry.short_lines;
            let completed = WaveCompleted {
                wave_id: wave.id.clone(),
                total_orders: entry.total_orders,
                completed_orders: entry.completed_orders,
                pick_accuracy: share(entry.picked_lines, picks),
                completed_at: Some(self.desk.now()),
            };
            wave.emit(&mut self.desk, &Payload::WaveCompleted(completed));
        }
        let warehouse = self.warehouses.entry(wave.warehouse).or_default();
        warehouse.active -= 1;
        self.look_again(wave.warehouse);
    }
}

/// A share from 0 to 1, to four digits; of nothing, 1.
pub(super) fn share(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    (part * 10_000 / whole) as f64 / 10_000.0
}

fn wave_draw(seed: u64, id: &str) -> super::draw::Draw {
    super::draw::Draw::of(seed, &format!("wave {id}"))
}

fn book(wave: &Wave, total_orders: i64, total_lines: i64, ledger: &mut super::ledger::Ledger) {
    let entry = WaveEntry {
        state: wave.state,
        warehouse_id: warehouse_id(wave.warehouse),
        total_orders,
        completed_orders: 0,
        total_lines,
        picked_lines: 0,
        short_lines: 0,
    };
    ledger.waves.insert(wave.id.clone(), entry);
}

/// The order's lines by zone, in the order of zones.
fn parts(order: &OpenOrder) -> Vec<PickPart> {
    let mut by_zone = std::collections::BTreeMap::<&'static str, Vec<usize>>::new();
    for (position, line) in order
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.allocated > 0)
    {
        by_zone.entry(line.zone).or_default().push(position);
    }
    by_zone
        .into_iter()
        .map(|(zone, lines)| PickPart {
            zone,
            lines,
            done: 0,
            task: None,
            session: None,
        })
        .collect()
}
