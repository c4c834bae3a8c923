//! The stock of every sku: every movement goes through its rules and is written as an event.
//!
//! Stock is kept per sku over all warehouses, as `PakLog`'s inventory events have it.

use std::collections::BTreeMap;

use super::agenda::Agenda;
use super::desk::{About, Desk, Scope};
use super::draw::Draw;
use super::model::{Action, OrderKey};
use super::rules::HOUR;
use crate::event::Payload;
use crate::event::payload::StockLevelChanged;
use crate::state::{Stock, StockError};

/// What is done to a stock, by its `change_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Movement {
    Receipt,
    Allocation,
    Deallocation,
    Pick,
    ShortPick,
    Return,
    Shrinkage,
}

impl Movement {
    const fn reason(self) -> &'static str {
        match self {
            Self::Receipt => "RECEIPT",
            Self::Allocation => "ALLOCATION",
            Self::Deallocation => "DEALLOCATION",
            Self::Pick => "PICK",
            Self::ShortPick => "SHORT_PICK",
            Self::Return => "RETURN",
            Self::Shrinkage => "SHRINKAGE",
        }
    }

    fn apply(self, stock: &mut Stock, quantity: i64) -> Result<(), StockError> {
        match self {
            Self::Receipt | Self::Return => stock.receive(quantity),
            Self::Allocation => stock.allocate(quantity),
            Self::Deallocation => stock.deallocate(quantity),
            // Pieces that were promised and are not there leave the books like picked ones.
            Self::Pick | Self::ShortPick => stock.pick(quantity),
            Self::Shrinkage => stock.shrink(quantity),
        }
    }
}

#[derive(Debug)]
struct Sku {
    stock: Stock,
    version: i64,
    /// Goods are ordered when less than this can be promised.
    reorder_point: i64,
    /// Pieces of a delivery.
    lot: i64,
    delivery_due: bool,
    /// Pieces that waiting orders lack, on top of the lot.
    lacking: i64,
    waiting: Vec<OrderKey>,
    scope: Scope,
    draw: Draw,
}

/// Every sku that was ever ordered.
#[derive(Debug, Default)]
pub(super) struct Stockroom {
    skus: BTreeMap<String, Sku>,
}

impl Stockroom {
    /// Pieces of the sku that can be promised. The first time that a sku is asked for, its first
    /// goods come in.
    pub(super) fn available(&mut self, sku: &str, desk: &mut Desk) -> i64 {
        if !self.skus.contains_key(sku) {
            self.introduce(sku, desk);
        }
        self.sku(sku).stock.available_to_promise()
    }

    fn introduce(&mut self, sku: &str, desk: &mut Desk) {
        let mut draw = Draw::of(desk.seed, &format!("sku {sku}"));
        let first = draw.between(8, 40);
        let entry = Sku {
            stock: Stock::default(),
            version: 0,
            reorder_point: draw.between(3, 10),
            lot: draw.between(12, 60),
            delivery_due: false,
            lacking: 0,
            waiting: Vec::new(),
            scope: Scope::new(desk.seed, sku),
            draw,
        };
        self.skus.insert(sku.to_owned(), entry);
        self.move_stock(sku, Movement::Receipt, first, None, desk);
    }

    fn sku(&mut self, sku: &str) -> &mut Sku {
        self.skus
            .get_mut(sku)
            .expect("a sku is introduced before it moves")
    }

    /// Moves pieces, books it and writes it. `order` is the id and the scope of the order that it is
    /// done for.
    ///
    /// # Panics
    /// If the stock's rules forbid it: the workload asks before it moves.
    pub(super) fn move_stock(
        &mut self,
        sku: &str,
        movement: Movement,
        quantity: i64,
        order: Option<(&str, &mut Scope)>,
        desk: &mut Desk,
    ) {
        let entry = self.sku(sku);
        let before = entry.stock.level();
        movement
            .apply(&mut entry.stock, quantity)
            .expect("the workload keeps to the stock's rules");
        entry.version += 1;
        let change = Payload::StockLevelChanged(StockLevelChanged {
            sku: sku.to_owned(),
            previous_stock_level: before,
            new_stock_level: entry.stock.level(),
            change_reason: movement.reason().to_owned(),
            order_id: order.as_ref().map(|(id, _)| (*id).to_owned()),
        });
        match desk.ledger.stock.get_mut(sku) {
            Some(booked) => *booked = entry.stock,
            None => {
                desk.ledger.stock.insert(sku.to_owned(), entry.stock);
            }
        }
        let about = About::keyed(sku, entry.version);
        let scope = order.map_or(&mut entry.scope, |(_, scope)| scope);
        desk.emit(scope, about, &change);
    }

    /// Orders goods if little is left.
    pub(super) fn reorder(&mut self, sku: &str, desk: &Desk, agenda: &mut Agenda<Action>) {
        let entry = self.sku(sku);
        if entry.stock.available_to_promise() < entry.reorder_point {
            entry.order_goods(sku, desk, agenda);
        }
    }

    /// Puts an order on the list of those that wait for the sku, and orders what it lacks.
    pub(super) fn wait_for(
        &mut self,
        sku: &str,
        order: OrderKey,
        lacking: i64,
        desk: &Desk,
        agenda: &mut Agenda<Action>,
    ) {
        let entry = self.sku(sku);
        if !entry.waiting.contains(&order) {
            entry.waiting.push(order);
            entry.lacking += lacking;
        }
        entry.order_goods(sku, desk, agenda);
    }

    /// The goods that were ordered come in; returns who waits for them.
    pub(super) fn deliver(&mut self, sku: &str, desk: &mut Desk) -> Vec<OrderKey> {
        let entry = self.sku(sku);
        let quantity = entry.lot + entry.lacking;
        entry.delivery_due = false;
        entry.lacking = 0;
        let waiting = std::mem::take(&mut entry.waiting);
        self.move_stock(sku, Movement::Receipt, quantity, None, desk);
        waiting
    }

    /// A count finds fewer pieces than can be promised according to the books.
    pub(super) fn shrink(&mut self, sku: &str, desk: &mut Desk) {
        let available = self.available(sku, desk);
        if available > 0 {
            let missing = self.sku(sku).draw.between(1, available);
            self.move_stock(sku, Movement::Shrinkage, missing, None, desk);
        }
    }
}

impl Sku {
    fn order_goods(&mut self, sku: &str, desk: &Desk, agenda: &mut Agenda<Action>) {
        if !self.delivery_due {
            self.delivery_due = true;
            let lead_time = self.draw.between(6 * HOUR, 48 * HOUR);
            agenda.at(desk.now_ms + lead_time, Action::Receive(sku.to_owned()));
        }
    }
}
