//! The workload over a year of real orders: repeatable, as large as it should be, within its targets.

mod support;

use conveyor_paklog::event::EventType;
use conveyor_paklog::state::{OrderStage, WaveState};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::{
    Ledger, OrderLinesError, Rates, Settings, SourceLine, SourceOrder, Workload, WorkloadError,
};
use support::{Fingerprint, run, workload};

/// Fingerprint of all events of seed 1. It changes when the workload's rules change, and only then:
/// runs of the same seed are to stay comparable between versions.
const FINGERPRINT_OF_SEED_1: u64 = 0x6a73_6781_080c_8ffb;

#[test]
fn a_year_of_orders_is_repeatable_complete_and_within_the_targets() {
    let mut workload = workload(1);
    let mut fingerprint = Fingerprint::new();
    let mut largest_open = 0;
    while let Some(event) = workload.next() {
        fingerprint.add_event(&event.expect("an event"));
        largest_open = largest_open.max(workload.open_orders());
    }
    let ledger = workload.ledger();
    assert_eq!(
        (ledger.source_orders(), ledger.source_lines()),
        (3556, 40_400)
    );
    assert_eq!(ledger.orders().len(), 3556);
    assert!(
        (250_000..300_000).contains(&ledger.events()),
        "{} events",
        ledger.events()
    );
    assert!(
        largest_open < 200,
        "{largest_open} orders were open at one time"
    );
    assert_eq!(
        ledger.events_by_topic().len(),
        Topic::ALL.len(),
        "every topic has events"
    );
    assert_targets(ledger);
    assert_eq!(fingerprint.0, FINGERPRINT_OF_SEED_1, "{:#x}", fingerprint.0);
}

fn assert_targets(ledger: &Ledger) {
    let made = |event_type| {
        ledger
            .events_by_type()
            .get(&event_type)
            .copied()
            .unwrap_or(0)
    };
    let within = |name, part: u64, whole: u64, percent: std::ops::RangeInclusive<f64>| {
        let found = part as f64 * 100.0 / whole as f64;
        assert!(percent.contains(&found), "{name}: {found:.2} %");
    };
    let orders = ledger.orders().len() as u64;
    within(
        "cancelled",
        ledger.orders_by_stage()[&OrderStage::Cancelled],
        orders,
        1.5..=2.0,
    );
    within(
        "short picks",
        ledger.short_picks(),
        ledger.picks(),
        0.3..=1.0,
    );
    let shortages =
        made(EventType::OrderPartiallyAccepted) + made(EventType::OrderStockUnavailable);
    within("short of stock", shortages, orders, 0.5..=3.0);
    let checks = made(EventType::QualityChecked);
    within(
        "failed checks",
        checks - made(EventType::PackSessionCompleted),
        checks,
        0.5..=3.0,
    );
    let waves: Vec<i64> = ledger
        .waves()
        .values()
        .map(|wave| wave.total_orders)
        .collect();
    assert!(waves.iter().all(|orders| (1..=100).contains(orders)));
    let full = waves.iter().filter(|orders| **orders >= 10).count() as u64;
    within(
        "waves of ten orders and more",
        full,
        waves.len() as u64,
        90.0..=100.0,
    );
}

#[test]
fn another_seed_gives_other_events_of_the_same_orders() {
    let ((first, _), (again, _), (other, _)) = (run(7, 20), run(7, 20), run(8, 20));
    assert_eq!(first, again);
    assert_ne!(first.len(), 0);
    assert_ne!(first[0].value, other[0].value);
}

fn order(number: u64, at_ms: i64, lines: u64) -> SourceOrder {
    let line = |sku: u64| SourceLine {
        sku: sku.to_string(),
        department: ["GROCERY", "PRODUCE", "MEAT", "DRUG GM"][sku as usize % 4].to_owned(),
        quantity: 1 + sku as i64 % 5,
    };
    SourceOrder {
        ordered_at_ms: at_ms,
        order_id: number.to_string(),
        customer_id: "c".to_owned(),
        store_id: (number % 7).to_string(),
        lines: (0..lines).map(line).collect(),
    }
}

fn made(
    orders: impl IntoIterator<Item = SourceOrder>,
) -> Workload<impl Iterator<Item = Result<SourceOrder, OrderLinesError>>> {
    Workload::new(orders.into_iter().map(Ok), Settings::default())
}

#[test]
fn a_long_order_is_split_into_orders_of_a_hundred_lines() {
    let mut workload = made([order(1, 0, 161)]);
    workload.by_ref().for_each(|event| assert!(event.is_ok()));
    let ledger = workload.ledger();
    let mut lines: Vec<i64> = ledger
        .orders()
        .values()
        .map(|order| order.total_lines)
        .collect();
    lines.sort_unstable();
    assert_eq!((ledger.source_orders(), lines), (1, vec![61, 100]));
    assert!(
        ledger
            .orders()
            .values()
            .all(|order| order.stage == OrderStage::Delivered)
    );
}

#[test]
fn a_busy_warehouse_fills_its_waves_and_memory_follows_what_is_open() {
    const HALF_DAY_MS: i64 = 12 * 60 * 60 * 1000;
    // Twice a day 150 orders come in within minutes, for 20 days.
    let orders = (0..6_000).map(|number| {
        let at_ms = number as i64 / 150 * HALF_DAY_MS + number as i64 % 150 * 1000;
        SourceOrder {
            store_id: "1".to_owned(),
            ..order(number, at_ms, 1 + number % 4)
        }
    });
    let mut workload = made(orders);
    let mut largest_open = 0;
    while let Some(event) = workload.next() {
        assert!(event.is_ok());
        largest_open = largest_open.max(workload.open_orders());
    }
    let ledger = workload.ledger();
    assert_eq!(ledger.orders().len(), 6_000);
    let ended = |stage: OrderStage| conveyor_paklog::state::State::is_terminal(stage);
    assert!(ledger.orders().values().all(|order| ended(order.stage)));
    let largest = ledger.waves().values().map(|wave| wave.total_orders).max();
    assert!(
        largest.is_some_and(|orders| orders > 90 && orders <= 100),
        "{largest:?}"
    );
    assert!(
        largest_open < 3_000,
        "{largest_open} orders were open at one time"
    );
}

#[test]
fn a_wave_of_which_every_order_is_cancelled_is_cancelled() {
    const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
    let orders = (0..20).map(|number| Ok(order(7 * number, number as i64 * WEEK_MS, 3)));
    let rates = Rates {
        cancelled_late: 1_000_000,
        ..Rates::default()
    };
    let mut workload = Workload::new(
        orders,
        Settings {
            rates,
            ..Settings::default()
        },
    );
    workload.by_ref().for_each(|event| assert!(event.is_ok()));
    let ledger = workload.ledger();
    for (id, wave) in ledger.waves() {
        let cancelled = ledger.orders().values().any(|order| {
            order.wave_id.as_ref() == Some(id) && order.stage == OrderStage::Cancelled
        });
        let expected = if cancelled {
            WaveState::Cancelled
        } else {
            WaveState::Completed
        };
        assert_eq!((wave.total_orders, wave.state), (1, expected));
    }
    assert!(
        ledger
            .waves()
            .values()
            .any(|wave| wave.state == WaveState::Cancelled)
    );
}

#[test]
fn an_order_that_comes_twice_ends_the_workload() {
    let mut workload = made([order(1, 0, 1), order(2, 1, 1), order(1, 2, 1)]);
    let error = workload.find_map(Result::err).expect("an error");
    assert!(matches!(error, WorkloadError::RepeatedOrder { ref order_id } if order_id == "1"));
    assert!(workload.next().is_none());
}
