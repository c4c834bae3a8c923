//! A second opinion on the workload: every event is read back as a consumer would, and has to be a
//! legal next step of what was read before it.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use conveyor_paklog::event::payload::StockLevel;
use conveyor_paklog::event::{Event, Payload};
use conveyor_paklog::state::{OrderStage, PackState, PickState, State, TaskState, WaveState};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::{
    OrderLines, OrderLinesError, Rates, Settings, SourceOrder, Workload, WorkloadEvent,
};
use support::{fixture, read, workload};

#[derive(Debug)]
struct OrderSeen {
    stage: OrderStage,
    announced: bool,
    pick_tasks: i64,
    sessions_ended: i64,
}

#[derive(Debug)]
struct TaskSeen {
    state: TaskState,
    order_id: String,
}

#[derive(Debug)]
struct SessionSeen {
    state: PickState,
    instructions: i64,
    done: i64,
    short: i64,
}

#[derive(Debug)]
struct PackSeen {
    state: PackState,
    to_scan: i64,
}

#[derive(Debug)]
struct WaveSeen {
    state: WaveState,
    orders: BTreeSet<String>,
    ready: i64,
}

/// Everything that was read so far.
#[derive(Debug, Default)]
struct Seen {
    now_ms: i64,
    event_ids: HashSet<String>,
    versions: BTreeMap<(&'static str, String), i64>,
    orders: BTreeMap<String, OrderSeen>,
    tasks: BTreeMap<String, TaskSeen>,
    sessions: BTreeMap<String, SessionSeen>,
    packs: BTreeMap<String, PackSeen>,
    waves: BTreeMap<String, WaveSeen>,
    stock: BTreeMap<String, StockLevel>,
}

fn go<S: State>(state: &mut S, next: S) {
    state.enter(next).expect("a legal step");
}

fn known<'a, T>(of: &'a mut BTreeMap<String, T>, id: &str) -> &'a mut T {
    of.get_mut(id)
        .unwrap_or_else(|| panic!("{id} was never announced"))
}

impl Seen {
    fn check(&mut self, written: &WorkloadEvent) {
        let event = read(written);
        self.check_attributes(written, &event);
        match &event.payload {
            Payload::StockLevelChanged(_) => self.check_stock(written, &event.payload),
            payload if written.topic() == Topic::Order => self.check_order(written, payload),
            payload if written.topic() == Topic::Wave => self.check_wave(written, payload),
            payload if written.topic() == Topic::Task => self.check_task(written, payload),
            payload if written.topic() == Topic::Pick => self.check_pick(written, payload),
            payload => self.check_pack(written, payload),
        }
    }

    fn check_attributes(&mut self, written: &WorkloadEvent, event: &Event) {
        let attributes = &event.attributes;
        assert!(
            written.event_time_ms >= self.now_ms,
            "time went back: {event:?}"
        );
        self.now_ms = written.event_time_ms;
        assert_eq!(
            attributes.time.map(|time| time.0),
            Some(written.event_time_ms)
        );
        assert_eq!(attributes.event_type, written.event_type.name());
        assert_eq!(event.event_type(), written.event_type);
        let id = attributes.id.clone().expect("an id");
        if let Some(cause) = &attributes.causation_id {
            assert!(
                self.event_ids.contains(cause),
                "the cause comes later: {event:?}"
            );
        }
        assert!(self.event_ids.insert(id), "an id comes twice: {event:?}");
        let subject = attributes.subject.clone().expect("a subject");
        let version = attributes.aggregate_version.expect("a version");
        let key = (written.topic().name(), subject);
        // A shipment is followed from the packing station to the carrier: one aggregate, two topics.
        let key = if key.1.starts_with("SHIP-") {
            ("shipment", key.1)
        } else {
            key
        };
        let key = if written.topic() == Topic::Error {
            (Topic::Pack.name(), key.1)
        } else {
            key
        };
        let last = self.versions.insert(key, version).unwrap_or(0);
        assert_eq!(version, last + 1, "a version was left out: {event:?}");
    }

    fn check_stock(&mut self, written: &WorkloadEvent, payload: &Payload) {
        let Payload::StockLevelChanged(change) = payload else {
            unreachable!()
        };
        assert_eq!(written.key, change.sku);
        let (before, after) = (change.previous_stock_level, change.new_stock_level);
        let known = self
            .stock
            .insert(change.sku.clone(), after)
            .unwrap_or_default();
        assert_eq!(before, known, "{change:?} does not follow on");
        assert_eq!(
            after.available_to_promise,
            after.quantity_on_hand - after.quantity_allocated
        );
        assert!(
            after.quantity_allocated >= 0 && after.available_to_promise >= 0,
            "{change:?}"
        );
        let on_hand = after.quantity_on_hand - before.quantity_on_hand;
        let allocated = after.quantity_allocated - before.quantity_allocated;
        let legal = match change.change_reason.as_str() {
            "RECEIPT" | "RETURN" => on_hand > 0 && allocated == 0,
            "ALLOCATION" => on_hand == 0 && allocated > 0,
            "DEALLOCATION" => on_hand == 0 && allocated < 0,
            "PICK" | "SHORT_PICK" => on_hand < 0 && allocated == on_hand,
            "SHRINKAGE" => on_hand < 0 && allocated == 0,
            _ => false,
        };
        assert!(legal, "{change:?}");
        if let Some(order_id) = &change.order_id {
            let stage = self.orders[order_id].stage;
            let expected: &[OrderStage] = match change.change_reason.as_str() {
                "ALLOCATION" => &[OrderStage::Validated, OrderStage::Backordered],
                "DEALLOCATION" | "RETURN" => &[OrderStage::Cancelled],
                _ => &[OrderStage::Picking],
            };
            assert!(
                expected.contains(&stage),
                "{change:?} while the order is {stage:?}"
            );
        }
    }

    fn check_order(&mut self, written: &WorkloadEvent, payload: &Payload) {
        let new = OrderSeen {
            stage: OrderStage::New,
            announced: false,
            pick_tasks: 0,
            sessions_ended: 0,
        };
        let order = self.orders.entry(written.key.clone()).or_insert(new);
        match payload {
            Payload::OrderReceived(snapshot) => {
                assert_eq!(written.key, snapshot.order.order_id);
                assert!(!order.announced && snapshot.order.items.len() <= 100);
                order.announced = true;
                if order.stage == OrderStage::New {
                    go(&mut order.stage, OrderStage::Received);
                }
            }
            Payload::OrderValidated(_) => {
                go(&mut order.stage, OrderStage::Received);
                go(&mut order.stage, OrderStage::Validated);
            }
            Payload::OrderPartiallyAccepted(shortage) => {
                assert_eq!(order.stage, OrderStage::Validated);
                assert!(!shortage.unfulfillable_items.is_empty());
            }
            Payload::OrderStockUnavailable(shortage) => {
                assert!(!shortage.unavailable_items.is_empty());
                go(&mut order.stage, OrderStage::Backordered);
            }
            Payload::OrderAllocated(_) => go(&mut order.stage, OrderStage::Allocated),
            Payload::OrderInvalidated(_) => go(&mut order.stage, OrderStage::Invalidated),
            Payload::OrderCancelled(_) => {
                assert!(order.stage.rank() < OrderStage::Packing.rank());
                go(&mut order.stage, OrderStage::Cancelled);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn check_wave(&mut self, written: &WorkloadEvent, payload: &Payload) {
        match payload {
            Payload::WavePlanned(wave) => {
                assert!((1..=100).contains(&wave.order_ids.len()));
                for order in &wave.order_ids {
                    go(
                        &mut known(&mut self.orders, order).stage,
                        OrderStage::WaveAssigned,
                    );
                }
                let orders = wave.order_ids.iter().cloned().collect();
                let seen = WaveSeen {
                    state: WaveState::Planned,
                    orders,
                    ready: 0,
                };
                assert!(self.waves.insert(written.key.clone(), seen).is_none());
                let open = self
                    .waves
                    .values()
                    .filter(|wave| !wave.state.is_terminal())
                    .count();
                assert!(open <= 3, "{open} active waves in one warehouse");
            }
            Payload::WaveReleased(released) => {
                let wave = known(&mut self.waves, &written.key);
                go(&mut wave.state, WaveState::Released);
                let orders: BTreeSet<String> = released.order_ids.iter().cloned().collect();
                assert!(!released.zone_id.is_empty() && orders.is_subset(&wave.orders));
                for order in &orders {
                    go(
                        &mut known(&mut self.orders, order).stage,
                        OrderStage::Released,
                    );
                }
                wave.orders = orders;
            }
            Payload::WaveCompleted(completed) => {
                let wave = known(&mut self.waves, &written.key);
                go(&mut wave.state, WaveState::Completed);
                assert_eq!(completed.total_orders, wave.orders.len() as i64);
                assert_eq!(completed.completed_orders, wave.ready);
                for order in &wave.orders {
                    let stage = self.orders[order].stage;
                    assert!(
                        stage >= OrderStage::Ready,
                        "{order} is {stage:?} and its wave complete"
                    );
                }
            }
            Payload::WaveCancelled(_) => {
                let wave = known(&mut self.waves, &written.key);
                go(&mut wave.state, WaveState::Cancelled);
                for order in &wave.orders {
                    assert_eq!(self.orders[order].stage, OrderStage::Cancelled);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn check_task(&mut self, written: &WorkloadEvent, payload: &Payload) {
        if let Payload::TaskCreated(created) = payload {
            let order_id = created.order_id.clone().expect("an order");
            let wave = known(&mut self.waves, created.wave_id.as_deref().expect("a wave"));
            assert!(matches!(
                wave.state,
                WaveState::Released | WaveState::InProgress
            ));
            let order = known(&mut self.orders, &order_id);
            if created.task_type == "PICK" {
                assert!(matches!(
                    order.stage,
                    OrderStage::Released | OrderStage::Picking
                ));
                order.pick_tasks += 1;
            } else {
                assert_eq!(
                    order.sessions_ended, order.pick_tasks,
                    "packed before it is picked"
                );
                go(&mut order.stage, OrderStage::Picked);
            }
            let seen = TaskSeen {
                state: TaskState::Queued,
                order_id,
            };
            assert!(self.tasks.insert(written.key.clone(), seen).is_none());
            return;
        }
        let task = known(&mut self.tasks, &written.key);
        let cancelled = self.orders[&task.order_id].stage == OrderStage::Cancelled;
        match payload {
            Payload::TaskAssigned(_) => go(&mut task.state, TaskState::Assigned),
            Payload::TaskStarted(_) => {
                go(&mut task.state, TaskState::Accepted);
                go(&mut task.state, TaskState::InProgress);
            }
            Payload::TaskCompleted(_) => go(&mut task.state, TaskState::Completed),
            Payload::TaskCancelled(_) => {
                assert!(cancelled, "a task is cancelled only with its order");
                return go(&mut task.state, TaskState::Cancelled);
            }
            other => panic!("unexpected {other:?}"),
        }
        assert!(!cancelled, "work on a cancelled order: {payload:?}");
    }

    fn check_pick(&mut self, written: &WorkloadEvent, payload: &Payload) {
        match payload {
            Payload::PickSessionStarted(started) => {
                let order = known(
                    &mut self.orders,
                    started.order_id.as_deref().expect("an order"),
                );
                if order.stage == OrderStage::Released {
                    go(&mut order.stage, OrderStage::Picking);
                }
                assert_eq!(order.stage, OrderStage::Picking);
                assert_eq!(
                    known(&mut self.tasks, &started.task_id).state,
                    TaskState::InProgress
                );
                let wave = known(&mut self.waves, started.wave_id.as_deref().expect("a wave"));
                if wave.state == WaveState::Released {
                    go(&mut wave.state, WaveState::InProgress);
                }
                let state = PickState::InProgress;
                let instructions = started.total_instructions;
                let seen = SessionSeen {
                    state,
                    instructions,
                    done: 0,
                    short: 0,
                };
                assert!(self.sessions.insert(written.key.clone(), seen).is_none());
            }
            Payload::PickConfirmed(picked) => {
                let session = known(&mut self.sessions, &written.key);
                assert!(session.state == PickState::InProgress && picked.quantity > 0);
                session.done += 1;
            }
            Payload::PickShort(short) => {
                let session = known(&mut self.sessions, &written.key);
                assert_eq!(session.state, PickState::InProgress);
                assert!((0..short.expected_quantity).contains(&short.actual_quantity));
                session.done += 1;
                session.short += 1;
            }
            Payload::PickSessionCompleted(ended) => {
                let session = known(&mut self.sessions, &written.key);
                go(&mut session.state, PickState::Completed);
                assert_eq!(
                    session.done, session.instructions,
                    "instructions are pending"
                );
                assert_eq!(
                    (ended.completed_instructions, ended.short_picks),
                    (session.done, session.short)
                );
                known(
                    &mut self.orders,
                    ended.order_id.as_deref().expect("an order"),
                )
                .sessions_ended += 1;
            }
            Payload::PickSessionCancelled(_) => {
                go(
                    &mut known(&mut self.sessions, &written.key).state,
                    PickState::Cancelled,
                );
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Packing, shipping, and what the carriers report.
    fn check_pack(&mut self, written: &WorkloadEvent, payload: &Payload) {
        match payload {
            Payload::PackSessionStarted(started) => {
                go(
                    &mut known(&mut self.orders, &started.order_id).stage,
                    OrderStage::Packing,
                );
                let seen = PackSeen {
                    state: PackState::Scanning,
                    to_scan: started.items_to_pack,
                };
                assert!(self.packs.insert(written.key.clone(), seen).is_none());
            }
            Payload::PackItemScanned(_) => {
                let pack = known(&mut self.packs, &written.key);
                assert_eq!(pack.state, PackState::Scanning);
                pack.to_scan -= 1;
            }
            Payload::CartonizationFailed(_) => {
                assert_eq!(
                    known(&mut self.packs, &written.key).state,
                    PackState::Scanning
                );
            }
            Payload::CartonOptimized(_) => {
                let pack = known(&mut self.packs, &written.key);
                assert_eq!(pack.to_scan, 0, "a carton is chosen before all is scanned");
                for state in [
                    PackState::ReadyForCarton,
                    PackState::ReadyToPack,
                    PackState::Packing,
                ] {
                    go(&mut pack.state, state);
                }
            }
            Payload::QualityChecked(checked) => {
                let pack = known(&mut self.packs, &written.key);
                go(&mut pack.state, PackState::ReadyToWeigh);
                if checked.passed() {
                    go(&mut pack.state, PackState::QcPassed);
                } else {
                    go(&mut pack.state, PackState::QcFailed);
                    go(&mut pack.state, PackState::Packing);
                }
            }
            Payload::PackSessionCompleted(completed) => {
                let pack = known(&mut self.packs, &written.key);
                go(&mut pack.state, PackState::ReadyToShip);
                go(&mut pack.state, PackState::Completed);
                go(
                    &mut known(&mut self.orders, &completed.order_id).stage,
                    OrderStage::Packed,
                );
            }
            Payload::LabelGenerated(label) => {
                assert_eq!(
                    known(&mut self.packs, &written.key).state,
                    PackState::Completed
                );
                assert_eq!(
                    known(&mut self.orders, &label.order_id).stage,
                    OrderStage::Packed
                );
            }
            Payload::ShipmentReady(ready) => {
                let order = known(
                    &mut self.orders,
                    ready.order_id.as_deref().expect("an order"),
                );
                go(&mut order.stage, OrderStage::Ready);
                known(&mut self.waves, ready.wave_id.as_deref().expect("a wave")).ready += 1;
            }
            Payload::ShipmentDispatched(moved) => {
                go(
                    &mut known(&mut self.orders, &moved.order_id).stage,
                    OrderStage::Shipped,
                );
            }
            Payload::ShipmentDelivered(moved) => {
                go(
                    &mut known(&mut self.orders, &moved.order_id).stage,
                    OrderStage::Delivered,
                );
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn every_event_of_a_year_is_a_legal_step_and_the_books_agree() {
    check_run(workload(2));
}

#[test]
fn when_nearly_everything_goes_wrong_every_event_is_still_a_legal_step() {
    let rates = Rates {
        cancelled_early: 150_000,
        cancelled_late: 300_000,
        invalid: 50_000,
        short_picks: 250_000,
        qc_failed: 300_000,
        carton_failed: 200_000,
        shrinkage: 300_000,
    };
    let file = std::fs::File::open(fixture()).expect("the fixture");
    let orders = OrderLines::new(file).expect("order lines").take(500);
    check_run(Workload::new(
        orders,
        Settings {
            seed: 3,
            rates,
            ..Settings::default()
        },
    ));
}

fn check_run(mut workload: Workload<impl Iterator<Item = Result<SourceOrder, OrderLinesError>>>) {
    let mut seen = Seen {
        now_ms: i64::MIN,
        ..Seen::default()
    };
    for event in workload.by_ref() {
        seen.check(&event.expect("an event"));
    }
    assert_eq!(workload.open_orders(), 0);
    let ledger = workload.ledger();
    assert_eq!(ledger.orders().len(), seen.orders.len());
    for (id, entry) in ledger.orders() {
        assert!(entry.stage.is_terminal(), "{id} ended as {:?}", entry.stage);
        assert_eq!(entry.stage, seen.orders[id].stage, "{id}");
        assert!(seen.orders[id].announced, "{id}");
    }
    assert_eq!(ledger.stock().len(), seen.stock.len());
    for (sku, stock) in ledger.stock() {
        assert_eq!(stock.level(), seen.stock[sku], "{sku}");
        assert_eq!(stock.allocated(), 0, "{sku} is promised to nobody");
    }
    assert_eq!(ledger.waves().len(), seen.waves.len());
    for (id, wave) in ledger.waves() {
        assert!(wave.state.is_terminal(), "{id}");
        assert_eq!(
            (wave.state, wave.completed_orders),
            (seen.waves[id].state, seen.waves[id].ready)
        );
    }
    assert!(seen.tasks.values().all(|task| task.state.is_terminal()));
    assert!(
        seen.sessions
            .values()
            .all(|session| session.state.is_terminal())
    );
    assert!(
        seen.packs
            .values()
            .all(|pack| pack.state == PackState::Completed)
    );
}
