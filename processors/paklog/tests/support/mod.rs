//! What the tests share: the fixture, and runs over it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::PathBuf;

use conveyor_paklog::decode::decode;
use conveyor_paklog::event::Event;
use conveyor_paklog::workload::{Ledger, OrderLines, Settings, Workload, WorkloadEvent};

/// The fixture: a year of orders of one store.
pub(crate) fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/orders-store-367.csv.gz")
}

/// A workload over the fixture.
pub(crate) fn workload(seed: u64) -> Workload<OrderLines> {
    let file = std::fs::File::open(fixture()).expect("the fixture");
    let orders = OrderLines::new(file).expect("order lines");
    Workload::new(
        orders,
        Settings {
            seed,
            ..Settings::default()
        },
    )
}

/// The first `orders` orders of the fixture, run to the end.
pub(crate) fn run(seed: u64, orders: usize) -> (Vec<WorkloadEvent>, Ledger) {
    run_with(
        Settings {
            seed,
            ..Settings::default()
        },
        orders,
    )
}

/// The first `orders` orders of the fixture, run to the end with other settings.
pub(crate) fn run_with(settings: Settings, orders: usize) -> (Vec<WorkloadEvent>, Ledger) {
    let file = std::fs::File::open(fixture()).expect("the fixture");
    let source = OrderLines::new(file).expect("order lines").take(orders);
    let mut workload = Workload::new(source, settings);
    let events = workload
        .by_ref()
        .collect::<Result<Vec<_>, _>>()
        .expect("a workload");
    (events, workload.into_ledger())
}

/// Reads an event as a consumer would.
pub(crate) fn read(event: &WorkloadEvent) -> Event {
    let headers = WorkloadEvent::HEADERS
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()));
    decode(Some(&event.value), headers).expect("the workload's events can be read")
}

/// FNV-1a, to compare whole runs by one number.
#[derive(Debug)]
pub(crate) struct Fingerprint(pub(crate) u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn add_event(&mut self, event: &WorkloadEvent) {
        self.add(event.topic().name().as_bytes());
        self.add(event.key.as_bytes());
        self.add(&event.event_time_ms.to_le_bytes());
        self.add(&event.value);
    }
}
