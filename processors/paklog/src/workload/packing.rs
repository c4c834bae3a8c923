//! Packing and shipping: scan, choose cartons, check, label, hand over, deliver.

use super::desk::{About, Scope};
use super::floor::{Fate, Floor};
use super::model::{Action, OpenOrder, PackJob, PackStep, ShipStep, Shipment};
use super::rules::{self, HOUR, MINUTE, SECOND};
use crate::event::payload::{
    CartonOptimized, CartonizationFailed, LabelGenerated, PackItemScanned, PackSessionCompleted,
    PackSessionStarted, QualityChecked, ShipmentMoved, ShipmentReady,
};
use crate::event::{Moment, Payload};
use crate::state::{OrderStage, PackState, ShipmentState, State};

use super::desk::Desk;

/// Pieces that go into one carton.
const CARTON_UNITS: i64 = 25;
/// What a piece weighs, in grams.
const UNIT_GRAMS: i64 = 400;

impl Floor {
    /// One step of the packing of an order.
    pub(super) fn pack(&mut self, order: &mut OpenOrder, step: PackStep) -> Fate {
        match step {
            PackStep::Create => self.create_pack_task(order),
            PackStep::Assign => self.assign_pack_task(order),
            PackStep::Start => self.start_packing(order),
            PackStep::Scan => self.scan(order),
            PackStep::Carton => self.choose_carton(order),
            PackStep::CartonByHand => self.carton_chosen(order),
            PackStep::Check => self.check(order),
            PackStep::Finish => self.finish_packing(order),
        }
        Fate::Open
    }

    fn next_pack(&mut self, order: &mut OpenOrder, span: (i64, i64), step: PackStep) {
        let order_key = order.key;
        self.after(
            order,
            span,
            Action::Pack {
                order: order_key,
                step,
            },
        );
    }

    fn create_pack_task(&mut self, order: &mut OpenOrder) {
        let lines = order.packed_lines();
        let task = order.create_task(&mut self.desk, "PACK", "ZONE-PACK", 90 + 20 * lines);
        order.pack = Some(PackJob {
            task,
            session_id: self.desk.ids.next("PACK"),
            state: PackState::Created,
            version: 0,
            started_ms: 0,
            next_line: 0,
            carton_id: String::new(),
            checks: 0,
        });
        self.next_pack(order, (MINUTE, 10 * MINUTE), PackStep::Assign);
    }

    fn assign_pack_task(&mut self, order: &mut OpenOrder) {
        let (pack, scope, draw) = order.packing_with_draw();
        pack.task.assign(&mut self.desk, scope, draw);
        self.next_pack(order, (30 * SECOND, 3 * MINUTE), PackStep::Start);
    }

    fn start_packing(&mut self, order: &mut OpenOrder) {
        let (wave_id, order_id, items_to_pack) =
            (order.wave_id(), order.id.clone(), order.packed_lines());
        let station = format!("STATION-{:02}", order.draw.between(1, 12));
        let (pack, scope) = order.packing();
        pack.task.start(&mut self.desk, scope);
        pack.started_ms = self.desk.now_ms;
        pack.enter(PackState::Scanning);
        let started = PackSessionStarted {
            session_id: pack.session_id.clone(),
            wave_id,
            order_id,
            worker_id: pack.task.worker.clone(),
            packing_station: station,
            items_to_pack,
            started_at: Some(self.desk.now()),
        };
        pack.emit(&mut self.desk, scope, &Payload::PackSessionStarted(started));
        order.enter(OrderStage::Packing, &mut self.desk);
        self.next_pack(order, (5 * SECOND, 25 * SECOND), PackStep::Scan);
    }

    fn scan(&mut self, order: &mut OpenOrder) {
        let from = order.pack.as_ref().map_or(0, |pack| pack.next_line);
        let mut picked =
            (from..order.lines.len()).filter(|position| order.lines[*position].picked > 0);
        let position = picked.next().expect("a scan has a picked line");
        let more = picked.next().is_some();
        let line = &order.lines[position];
        let (sku, quantity, order_id) = (line.sku.clone(), line.picked, order.id.clone());
        let (pack, scope) = order.packing();
        pack.next_line = position + 1;
        let session_id = pack.session_id.clone();
        let scanned = PackItemScanned {
            session_id,
            order_id,
            sku,
            quantity,
            scanned_at: Some(self.desk.now()),
        };
        pack.emit(&mut self.desk, scope, &Payload::PackItemScanned(scanned));
        if more {
            self.next_pack(order, (5 * SECOND, 25 * SECOND), PackStep::Scan);
        } else {
            pack.enter(PackState::ReadyForCarton);
            self.next_pack(order, (2 * SECOND, 15 * SECOND), PackStep::Carton);
        }
    }

    fn choose_carton(&mut self, order: &mut OpenOrder) {
        if !order.draw.chance(self.rates.carton_failed) {
            self.carton_chosen(order);
            return;
        }
        let order_id = Some(order.id.clone());
        let (pack, scope) = order.packing();
        let failed = CartonizationFailed {
            session_id: pack.session_id.clone(),
            order_id,
            reason: "no carton fits within the time allowed".to_owned(),
            attempts: 3,
        };
        pack.emit(&mut self.desk, scope, &Payload::CartonizationFailed(failed));
        self.next_pack(order, (30 * SECOND, 2 * MINUTE), PackStep::CartonByHand);
    }

    fn carton_chosen(&mut self, order: &mut OpenOrder) {
        let (order_id, units) = (Some(order.id.clone()), order.packed_units());
        let carton_id = self.desk.ids.next("CONT");
        let (pack, scope) = order.packing();
        pack.carton_id.clone_from(&carton_id);
        pack.enter(PackState::ReadyToPack);
        let optimized = CartonOptimized {
            session_id: pack.session_id.clone(),
            order_id,
            carton_id,
            cartons_used: cartons(units),
            total_volume_cubic_meters: (cartons(units) * 30) as f64 / 1000.0,
        };
        pack.emit(&mut self.desk, scope, &Payload::CartonOptimized(optimized));
        pack.enter(PackState::Packing);
        self.next_pack(order, (40 * SECOND, 4 * MINUTE), PackStep::Check);
    }

    /// The parcel is weighed and looked at. One that fails is packed again, and passes then.
    fn check(&mut self, order: &mut OpenOrder) {
        let again = order.pack.as_ref().is_some_and(|pack| pack.checks > 0);
        let failed = !again && order.draw.chance(self.rates.qc_failed);
        let (wave_id, order_id) = (order.wave_id(), order.id.clone());
        let checked_by = format!("WORKER-{:03}", order.draw.between(25, 30));
        let (pack, scope) = order.packing();
        pack.checks += 1;
        pack.enter(PackState::ReadyToWeigh);
        pack.enter(if failed {
            PackState::QcFailed
        } else {
            PackState::QcPassed
        });
        let checked = QualityChecked {
            session_id: pack.session_id.clone(),
            wave_id,
            order_id,
            check_type: "WEIGHT".to_owned(),
            result: if failed { "FAILED" } else { "PASSED" }.to_owned(),
            checked_by,
            issues_found: failed
                .then(|| "WEIGHT_VARIANCE".into())
                .into_iter()
                .collect(),
            checked_at: Some(self.desk.now()),
        };
        pack.emit(&mut self.desk, scope, &Payload::QualityChecked(checked));
        if failed {
            pack.enter(PackState::Packing);
            order.enter(OrderStage::QcFailed, &mut self.desk);
            order.enter(OrderStage::Packing, &mut self.desk);
            self.next_pack(order, (3 * MINUTE, 8 * MINUTE), PackStep::Check);
        } else {
            pack.enter(PackState::ReadyToShip);
            self.next_pack(order, (10 * SECOND, 40 * SECOND), PackStep::Finish);
        }
    }

    fn finish_packing(&mut self, order: &mut OpenOrder) {
        let (wave_id, order_id) = (order.wave_id(), order.id.clone());
        let (lines, units) = (order.packed_lines(), order.packed_units());
        let (pack, scope) = order.packing();
        pack.enter(PackState::Completed);
        let completed = PackSessionCompleted {
            session_id: pack.session_id.clone(),
            wave_id,
            order_id,
            worker_id: pack.task.worker.clone(),
            duration_seconds: (self.desk.now_ms - pack.started_ms) / 1000,
            items_packed: lines,
            cartons_used: cartons(units),
            total_weight_kg: weight_kg(units),
            completed_at: Some(self.desk.now()),
        };
        pack.emit(
            &mut self.desk,
            scope,
            &Payload::PackSessionCompleted(completed),
        );
        pack.task.complete(&mut self.desk, scope, lines);
        order.enter(OrderStage::Packed, &mut self.desk);
        let label = Action::Ship {
            order: order.key,
            step: ShipStep::Label,
        };
        self.after(order, (5 * SECOND, 20 * SECOND), label);
    }

    /// One step of the shipment of an order.
    pub(super) fn ship(&mut self, order: &mut OpenOrder, step: ShipStep) -> Fate {
        match step {
            ShipStep::Label => self.print_label(order),
            ShipStep::Ready => self.make_ready(order),
            ShipStep::Dispatch => self.dispatch(order),
            ShipStep::Deliver => {
                self.move_shipment(order, ShipmentState::Delivered, OrderStage::Delivered);
                return Fate::Ended;
            }
        }
        Fate::Open
    }

    fn print_label(&mut self, order: &mut OpenOrder) {
        let (carrier, service) = rules::draw_carrier(&mut order.draw);
        let tracking_number = format!("1Z{:016X}", order.draw.bits());
        let arrival_ms = self.desk.now_ms + order.speed.transit_hours.1 * HOUR;
        let order_id = order.id.clone();
        let mut shipment = Shipment {
            id: self.desk.ids.next("SHIP"),
            state: ShipmentState::Created,
            version: 0,
            carrier,
            service,
            tracking_number,
        };
        shipment.enter(ShipmentState::Labelled);
        let (pack, scope) = order.packing();
        let label = LabelGenerated {
            label_id: format!("LABEL-{}", shipment.tracking_number),
            tracking_number: shipment.tracking_number.clone(),
            carton_id: pack.carton_id.clone(),
            order_id,
            carrier: carrier.to_owned(),
            service_level: shipment.service.to_owned(),
            estimated_delivery_date: Some(Moment(arrival_ms)),
        };
        let subject = label.label_id.clone();
        let about = About {
            key: &pack.session_id,
            subject: &subject,
            version: 1,
        };
        self.desk
            .emit(scope, about, &Payload::LabelGenerated(label));
        order.shipment = Some(shipment);
        let ready = Action::Ship {
            order: order.key,
            step: ShipStep::Ready,
        };
        self.after(order, (30 * SECOND, 3 * MINUTE), ready);
    }

    fn make_ready(&mut self, order: &mut OpenOrder) {
        let pickup_ms = rules::next_pickup(self.desk.now_ms + 10 * MINUTE);
        let (wave_id, order_id, units) = (order.wave_id(), order.id.clone(), order.packed_units());
        let OpenOrder {
            pack: Some(pack),
            shipment: Some(shipment),
            scope,
            ..
        } = &mut *order
        else {
            unreachable!("a shipment is labelled before it is ready");
        };
        shipment.enter(ShipmentState::Ready);
        let ready = ShipmentReady {
            shipment_id: shipment.id.clone(),
            wave_id,
            order_id: Some(order_id),
            tracking_numbers: vec![shipment.tracking_number.clone()],
            carton_count: cartons(units),
            total_weight_kg: weight_kg(units),
            ready_at: Some(self.desk.now()),
            pickup_scheduled_at: Some(Moment(pickup_ms)),
        };
        shipment.version += 1;
        let about = About {
            key: &pack.session_id,
            subject: &shipment.id,
            version: shipment.version,
        };
        self.desk.emit(scope, about, &Payload::ShipmentReady(ready));
        order.enter(OrderStage::Ready, &mut self.desk);
        self.leave_wave(order, true);
        // Nothing of this is needed on the way to the customer.
        (order.lines, order.parts, order.pack) = (Vec::new(), Vec::new(), None);
        let late_ms = order.draw.between(0, 20 * MINUTE);
        let dispatch = Action::Ship {
            order: order.key,
            step: ShipStep::Dispatch,
        };
        self.agenda.at(pickup_ms + late_ms, dispatch);
    }

    fn dispatch(&mut self, order: &mut OpenOrder) {
        self.move_shipment(order, ShipmentState::Dispatched, OrderStage::Shipped);
        let (least, most) = order.speed.transit_hours;
        let deliver = Action::Ship {
            order: order.key,
            step: ShipStep::Deliver,
        };
        self.after(order, (least * HOUR, most * HOUR), deliver);
    }

    /// The carrier reports that it took or delivered the shipment.
    fn move_shipment(&mut self, order: &mut OpenOrder, state: ShipmentState, stage: OrderStage) {
        let OpenOrder {
            id,
            shipment: Some(shipment),
            scope,
            ..
        } = &mut *order
        else {
            unreachable!("a shipment is made before it moves");
        };
        shipment.enter(state);
        let dispatched = state == ShipmentState::Dispatched;
        let moved = ShipmentMoved {
            shipment_id: shipment.id.clone(),
            order_id: id.clone(),
            carrier: shipment.carrier.to_owned(),
            tracking_number: shipment.tracking_number.clone(),
            dispatched_at: dispatched.then(|| self.desk.now()),
            delivered_at: (!dispatched).then(|| self.desk.now()),
        };
        let payload = if dispatched {
            Payload::ShipmentDispatched(moved)
        } else {
            Payload::ShipmentDelivered(moved)
        };
        shipment.version += 1;
        self.desk.emit(
            scope,
            About::keyed(&shipment.id, shipment.version),
            &payload,
        );
        order.enter(stage, &mut self.desk);
    }
}

impl OpenOrder {
    /// The pack job and the order's scope; a job is made before anything is packed.
    fn packing(&mut self) -> (&mut PackJob, &mut Scope) {
        let (pack, scope, _) = self.packing_with_draw();
        (pack, scope)
    }

    fn packing_with_draw(&mut self) -> (&mut PackJob, &mut Scope, &mut super::draw::Draw) {
        let pack = self
            .pack
            .as_mut()
            .expect("a pack job is made before anything is packed");
        (pack, &mut self.scope, &mut self.draw)
    }

    fn packed_lines(&self) -> i64 {
        self.lines.iter().filter(|line| line.picked > 0).count() as i64
    }

    fn packed_units(&self) -> i64 {
        self.lines.iter().map(|line| line.picked).sum()
    }
}

impl PackJob {
    fn enter(&mut self, state: PackState) {
        self.state
            .enter(state)
            .expect("the workload keeps to the pack session's states");
    }

    /// Writes an event about the session.
    fn emit(&mut self, desk: &mut Desk, scope: &mut Scope, payload: &Payload) {
        self.version += 1;
        desk.emit(scope, About::keyed(&self.session_id, self.version), payload);
    }
}

impl Shipment {
    fn enter(&mut self, state: ShipmentState) {
        self.state
            .enter(state)
            .expect("the workload keeps to the shipment's states");
    }
}

const fn cartons(units: i64) -> i64 {
    (units + CARTON_UNITS - 1) / CARTON_UNITS
}

fn weight_kg(units: i64) -> f64 {
    (units * UNIT_GRAMS) as f64 / 1000.0
}
