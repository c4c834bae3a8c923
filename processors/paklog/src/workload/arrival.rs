//! Orders come in: checked, promised stock or made to wait, and sometimes cancelled.

use super::desk::Scope;
use super::draw::Draw;
use super::floor::{Fate, Floor};
use super::ledger::OrderEntry;
use super::model::{Action, Line, OpenOrder, WarehouseKey};
use super::orders::{SourceLine, SourceOrder};
use super::rules::{self, DAY, Policy};
use super::stockroom::Movement;
use crate::event::payload::{
    Address, Order, OrderAllocated, OrderClosed, OrderItem, OrderShortage, OrderSnapshot,
    UnfulfillableItem,
};
use crate::event::{Moment, Payload};
use crate::state::{InstructionState, OrderStage};

const CITIES: [(&str, &str, &str); 6] = [
    ("Cincinnati", "OH", "45202"),
    ("Columbus", "OH", "43215"),
    ("Louisville", "KY", "40202"),
    ("Indianapolis", "IN", "46204"),
    ("Lexington", "KY", "40507"),
    ("Dayton", "OH", "45402"),
];

impl Floor {
    /// An order of the source comes in; a long one becomes several. The id of an order that was there
    /// before is returned as an error.
    pub(super) fn arrive(&mut self, source: &SourceOrder) -> Result<(), String> {
        self.advance(source.ordered_at_ms);
        self.desk.ledger.source_orders += 1;
        self.desk.ledger.source_lines += source.lines.len() as u64;
        for (part, lines) in source.lines.chunks(rules::ORDER_LINES_MAX).enumerate() {
            let mut order = self.open_order(source, part, lines);
            if self.desk.ledger.orders.contains_key(&order.id) {
                return Err(source.order_id.clone());
            }
            self.book(&order);
            if self.take_in(&mut order) == Fate::Open {
                self.orders.insert(order.key, order);
            }
        }
        Ok(())
    }

    fn open_order(&mut self, source: &SourceOrder, part: usize, lines: &[SourceLine]) -> OpenOrder {
        self.orders_opened += 1;
        let seed = self.desk.seed;
        let id = self.desk.ids.order(&source.order_id, part).to_string();
        let mut draw = Draw::of(seed, &format!("order {id}"));
        let number = match part {
            0 => source.order_id.clone(),
            _ => format!("{}-{}", source.order_id, part + 1),
        };
        OpenOrder {
            key: self.orders_opened,
            number,
            customer_id: source.customer_id.clone(),
            ordered_at_ms: source.ordered_at_ms,
            allocated_at_ms: source.ordered_at_ms,
            warehouse: self.warehouse_of(&source.store_id),
            speed: rules::draw_speed(&mut draw),
            policy: rules::draw_policy(&mut draw),
            stage: OrderStage::New,
            version: 0,
            lines: lines.iter().map(line).collect(),
            wave: None,
            parts: Vec::new(),
            pack: None,
            shipment: None,
            scope: Scope::new(seed, &id),
            draw,
            id,
        }
    }

    /// The warehouse that serves a store.
    fn warehouse_of(&self, store_id: &str) -> WarehouseKey {
        let store: u64 = store_id
            .parse()
            .unwrap_or_else(|_| Draw::of(0, &format!("store {store_id}")).bits());
        (store % u64::from(self.warehouse_count)) as u32 + 1
    }

    fn book(&mut self, order: &OpenOrder) {
        let entry = OrderEntry {
            stage: OrderStage::New,
            wave_id: None,
            total_lines: order.lines.len() as i64,
            total_units: order.lines.iter().map(|line| line.ordered).sum(),
            allocated_lines: 0,
            picked_lines: 0,
            short_lines: 0,
            picked_units: 0,
        };
        self.desk.ledger.orders.insert(order.id.clone(), entry);
    }

    /// What the order service does with a new order. It announces what became of the stock before
    /// it announces the order itself, as `PakLog`'s does.
    fn take_in(&mut self, order: &mut OpenOrder) -> Fate {
        order.enter(OrderStage::Received, &mut self.desk);
        if order.draw.chance(self.rates.invalid) {
            return self.invalidate(order);
        }
        order.enter(OrderStage::Validated, &mut self.desk);
        let missing = self.missing(order);
        order.emit(
            &mut self.desk,
            &Payload::OrderValidated(snapshot(order, "VALIDATED")),
        );
        let available: i64 = missing.iter().map(|item| item.available_quantity).sum();
        let nothing = missing.len() == order.lines.len() && available == 0;
        let fate = if missing.is_empty() {
            self.announce(order);
            self.allocate(order)
        } else if order.policy == Policy::AllAvailable && !nothing {
            let shortage = shortage(order, "PARTIALLY_ACCEPTED", missing, Vec::new());
            order.emit(&mut self.desk, &Payload::OrderPartiallyAccepted(shortage));
            self.announce(order);
            self.allocate(order)
        } else {
            order.enter(OrderStage::Backordered, &mut self.desk);
            let shortage = shortage(order, "STOCK_UNAVAILABLE", Vec::new(), missing);
            order.emit(&mut self.desk, &Payload::OrderStockUnavailable(shortage));
            self.announce(order);
            if order.policy == Policy::OrKill {
                return self.cancel(order, "STOCK_UNAVAILABLE");
            }
            self.wait_for_stock(order);
            Fate::Open
        };
        if order.draw.chance(self.rates.cancelled_early) {
            self.after(order, rules::CANCEL_EARLY, Action::Cancel(order.key));
        }
        fate
    }

    fn announce(&mut self, order: &mut OpenOrder) {
        order.emit(
            &mut self.desk,
            &Payload::OrderReceived(snapshot(order, "RECEIVED")),
        );
    }

    fn invalidate(&mut self, order: &mut OpenOrder) -> Fate {
        self.announce(order);
        order.enter(OrderStage::Invalidated, &mut self.desk);
        let closed = closed(order, "DESTINATION_ADDRESS_UNKNOWN", None);
        order.emit(&mut self.desk, &Payload::OrderInvalidated(closed));
        Fate::Ended
    }

    /// The lines that cannot be filled now.
    fn missing(&mut self, order: &mut OpenOrder) -> Vec<UnfulfillableItem> {
        let mut missing = Vec::new();
        for (position, line) in order.lines.iter().enumerate() {
            if order.draw.chance(self.rates.shrinkage) {
                self.stockroom.shrink(&line.sku, &mut self.desk);
            }
            let available = self.stockroom.available(&line.sku, &mut self.desk);
            if available < line.ordered {
                missing.push(UnfulfillableItem {
                    seller_sku: line.sku.clone(),
                    seller_fulfillment_order_item_id: Some(item_id(order, position)),
                    requested_quantity: line.ordered,
                    available_quantity: available,
                    unfulfillable_quantity: line.ordered - available,
                    reason: "INSUFFICIENT_STOCK".to_owned(),
                });
            }
        }
        missing
    }

    /// Sets aside what there is, up to what was ordered, and lets the planner know.
    fn allocate(&mut self, order: &mut OpenOrder) -> Fate {
        let OpenOrder {
            lines, id, scope, ..
        } = order;
        for line in lines.iter_mut() {
            let quantity = self
                .stockroom
                .available(&line.sku, &mut self.desk)
                .min(line.ordered);
            if quantity > 0 {
                line.allocated = quantity;
                let order = Some((id.as_str(), &mut *scope));
                let desk = &mut self.desk;
                self.stockroom
                    .move_stock(&line.sku, Movement::Allocation, quantity, order, desk);
            }
            self.stockroom
                .reorder(&line.sku, &self.desk, &mut self.agenda);
        }
        order.enter(OrderStage::Allocated, &mut self.desk);
        order.allocated_at_ms = self.desk.now_ms;
        let allocated = OrderAllocated {
            order_id: order.id.clone(),
            warehouse_id: order.warehouse_id(),
            total_lines: order.lines.iter().filter(|line| line.allocated > 0).count() as i64,
            total_units: order.lines.iter().map(|line| line.allocated).sum(),
            allocated_at: Moment(self.desk.now_ms),
        };
        if let Some(entry) = self.desk.ledger.orders.get_mut(&order.id) {
            entry.allocated_lines = allocated.total_lines;
        }
        order.emit(&mut self.desk, &Payload::OrderAllocated(allocated));
        self.join_pool(order);
        Fate::Open
    }

    fn wait_for_stock(&mut self, order: &OpenOrder) {
        for line in &order.lines {
            let lacking = line.ordered - self.stockroom.available(&line.sku, &mut self.desk);
            if lacking > 0 {
                let agenda = &mut self.agenda;
                self.stockroom
                    .wait_for(&line.sku, order.key, lacking, &self.desk, agenda);
            }
        }
    }

    /// Goods come in, and whoever waits for them gets them, first come, first served.
    pub(super) fn receive(&mut self, sku: &str) {
        for key in self.stockroom.deliver(sku, &mut self.desk) {
            self.with_order(key, |floor, order| {
                // Whoever was listed under several skus may have been served since.
                if order.stage != OrderStage::Backordered {
                    return Fate::Open;
                }
                let all_there = order.lines.iter().all(|line| {
                    floor.stockroom.available(&line.sku, &mut floor.desk) >= line.ordered
                });
                if all_there {
                    return floor.allocate(order);
                }
                floor.wait_for_stock(order);
                Fate::Open
            });
        }
    }

    /// The customer wants to cancel. Once packing has begun it is too late.
    pub(super) fn cancel_on_request(&mut self, order: &mut OpenOrder) -> Fate {
        if order.stage.rank() >= OrderStage::Packing.rank() {
            return Fate::Open;
        }
        let reason = rules::draw_cancellation(&mut order.draw);
        self.cancel(order, reason)
    }

    /// Ends the order: tasks and sessions stop, promises are taken back, goods go back to their
    /// shelves.
    pub(super) fn cancel(&mut self, order: &mut OpenOrder, reason: &str) -> Fate {
        order.enter(OrderStage::Cancelled, &mut self.desk);
        let closed = closed(order, reason, Some(self.desk.now()));
        order.emit(&mut self.desk, &Payload::OrderCancelled(closed));
        self.stop_picking(order, reason);
        if let Some(pack) = order.pack.as_mut() {
            pack.task.cancel(&mut self.desk, &mut order.scope, reason);
        }
        let OpenOrder {
            lines, id, scope, ..
        } = &mut *order;
        for line in lines.iter_mut() {
            let moves = [
                (Movement::Deallocation, line.allocated),
                (Movement::Return, line.picked),
            ];
            for (movement, quantity) in moves {
                if quantity > 0 {
                    let order = Some((id.as_str(), &mut *scope));
                    self.stockroom
                        .move_stock(&line.sku, movement, quantity, order, &mut self.desk);
                }
            }
            line.allocated = 0;
        }
        self.leave_wave(order, false);
        Fate::Ended
    }
}

fn line(source: &SourceLine) -> Line {
    Line {
        sku: format!("SKU-{}", source.sku),
        zone: rules::zone(&source.department),
        ordered: source.quantity,
        allocated: 0,
        picked: 0,
        instruction: InstructionState::Pending,
    }
}

fn item_id(order: &OpenOrder, position: usize) -> String {
    format!("{}-{:03}", order.number, position + 1)
}

fn snapshot(order: &OpenOrder, status: &str) -> OrderSnapshot {
    OrderSnapshot {
        order: written(order, status),
    }
}

fn shortage(
    order: &OpenOrder,
    status: &str,
    unfulfillable_items: Vec<UnfulfillableItem>,
    unavailable_items: Vec<UnfulfillableItem>,
) -> OrderShortage {
    OrderShortage {
        order: written(order, status),
        unfulfillable_items,
        unavailable_items,
        total_items_requested: order.lines.len() as i64,
    }
}

fn closed(order: &OpenOrder, reason: &str, cancelled_at: Option<Moment>) -> OrderClosed {
    OrderClosed {
        order_id: order.id.clone(),
        seller_fulfillment_order_id: Some(format!("SFO-{}", order.number)),
        cancellation_reason: reason.to_owned(),
        cancelled_at,
    }
}

/// The order as the order service writes it.
fn written(order: &OpenOrder, status: &str) -> Order {
    let ordered_at = Moment(order.ordered_at_ms);
    let action = match status {
        "STOCK_UNAVAILABLE" => "UNFULFILLABLE",
        "PARTIALLY_ACCEPTED" => "PARTIAL",
        _ => "COMPLETE",
    };
    Order {
        order_id: order.id.clone(),
        seller_fulfillment_order_id: Some(format!("SFO-{}", order.number)),
        displayable_order_id: Some(order.number.clone()),
        displayable_order_date: Some(Moment(
            order.ordered_at_ms - order.ordered_at_ms.rem_euclid(DAY),
        )),
        displayable_order_comment: None,
        shipping_speed_category: Some(order.speed.category.to_owned()),
        destination_address: Some(address(&order.customer_id)),
        status: Some(status.to_owned()),
        items: items(order),
        received_date: Some(ordered_at),
        fulfillment_policy: Some(order.policy.name().to_owned()),
        fulfillment_action: Some(action.to_owned()),
        customer_id: Some(order.customer_id.clone()),
        warehouse_id: Some(order.warehouse_id()),
    }
}

fn items(order: &OpenOrder) -> Vec<OrderItem> {
    order
        .lines
        .iter()
        .enumerate()
        .map(|(position, line)| OrderItem {
            seller_sku: line.sku.clone(),
            seller_fulfillment_order_item_id: Some(item_id(order, position)),
            quantity: line.ordered,
        })
        .collect()
}

/// A modelled address: the same customer always lives at the same place.
fn address(customer_id: &str) -> Address {
    let mut draw = Draw::of(0, &format!("customer {customer_id}"));
    let (city, state, postal_code) = CITIES[draw.between(0, CITIES.len() as i64 - 1) as usize];
    Address {
        name: format!("Customer {customer_id}"),
        address_line1: format!("{} Main Street", draw.between(1, 9999)),
        city: city.to_owned(),
        state_or_region: state.to_owned(),
        postal_code: postal_code.to_owned(),
        country_code: "US".to_owned(),
    }
}
