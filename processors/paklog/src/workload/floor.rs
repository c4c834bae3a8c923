//! The floor: everything that is open, and what happens next.
//!
//! One thing happens at a time, in event time. What happens to an order takes it out of the books,
//! works on it, and puts it back unless it has ended; so nothing here is shared or locked.

use std::collections::BTreeMap;

use super::Settings;
use super::agenda::Agenda;
use super::desk::Desk;
use super::model::{Action, OpenOrder, OrderKey, Warehouse, WarehouseKey, Wave, WaveKey};
use super::rules::Rates;
use super::stockroom::Stockroom;

/// Whether an order goes on or has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Ended,
}

/// All that is open.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) desk: Desk,
    pub(super) agenda: Agenda<Action>,
    pub(super) stockroom: Stockroom,
    pub(super) orders: BTreeMap<OrderKey, OpenOrder>,
    pub(super) waves: BTreeMap<WaveKey, Wave>,
    pub(super) warehouses: BTreeMap<WarehouseKey, Warehouse>,
    pub(super) warehouse_count: u32,
    pub(super) rates: Rates,
    pub(super) orders_opened: OrderKey,
    pub(super) waves_opened: WaveKey,
}

impl Floor {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            desk: Desk::new(settings.seed),
            agenda: Agenda::new(),
            stockroom: Stockroom::default(),
            orders: BTreeMap::new(),
            waves: BTreeMap::new(),
            warehouses: BTreeMap::new(),
            warehouse_count: settings.warehouses,
            rates: settings.rates,
            orders_opened: 0,
            waves_opened: 0,
        }
    }

    /// Goes on to `now_ms`; time never goes back.
    pub(super) fn advance(&mut self, now_ms: i64) {
        assert!(now_ms >= self.desk.now_ms, "event time went back");
        self.desk.now_ms = now_ms;
    }

    /// Does the next thing on the agenda; false when there is nothing more.
    pub(super) fn step(&mut self) -> bool {
        let Some((at_ms, action)) = self.agenda.take() else {
            return false;
        };
        self.advance(at_ms);
        match action {
            Action::Cancel(order) => self.with_order(order, Self::cancel_on_request),
            Action::Receive(sku) => self.receive(&sku),
            Action::Plan(warehouse) => self.plan(warehouse),
            Action::Release(wave) => self.release(wave),
            Action::Pick { order, part, step } => {
                self.with_order(order, |floor, order| floor.pick(order, part, step));
            }
            Action::Pack { order, step } => {
                self.with_order(order, |floor, order| floor.pack(order, step));
            }
            Action::Ship { order, step } => {
                self.with_order(order, |floor, order| floor.ship(order, step));
            }
        }
        true
    }

    /// Works on an order if it is still open.
    pub(super) fn with_order(
        &mut self,
        key: OrderKey,
        work: impl FnOnce(&mut Self, &mut OpenOrder) -> Fate,
    ) {
        let Some(mut order) = self.orders.remove(&key) else {
            return;
        };
        if work(self, &mut order) == Fate::Open {
            self.orders.insert(key, order);
        }
    }

    /// Puts down what happens after a time drawn from the order's own stream.
    pub(super) fn after(
        &mut self,
        order: &mut OpenOrder,
        (least_ms, most_ms): (i64, i64),
        action: Action,
    ) {
        let delay_ms = order.draw.between(least_ms, most_ms);
        self.agenda.at(self.desk.now_ms + delay_ms, action);
    }
}
