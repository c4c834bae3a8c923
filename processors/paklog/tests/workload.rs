//! The workload over a year of real orders: repeatable, legal, and as large as it should be.

mod support;

use std::collections::BTreeMap;

use conveyor_paklog::state::OrderStage;
use conveyor_paklog::topics::Topic;
use support::{Fingerprint, run, workload};

/// Fingerprint of all events of seed 1. It changes when the workload's rules change, and only then:
/// runs of the same seed are to stay comparable between versions.
const FINGERPRINT_OF_SEED_1: u64 = 0;

#[test]
fn a_seed_gives_the_same_events_every_time() {
    let mut workload = workload(1);
    let mut fingerprint = Fingerprint::new();
    let mut bytes = 0;
    for event in workload.by_ref() {
        let event = event.expect("an event");
        bytes += event.value.len();
        fingerprint.add_event(&event);
    }
    let ledger = workload.ledger();
    println!("{} events, {bytes} bytes", ledger.events());
    println!("{:#?}", ledger.events_by_topic());
    println!("{:#?}", ledger.orders_by_stage());
    for (event_type, count) in ledger.events_by_type() {
        println!("{count:>8} {}", event_type.name());
    }
    println!("waves {}", ledger.waves().len());
    let mut sizes = BTreeMap::new();
    for wave in ledger.waves().values() {
        *sizes.entry(wave.total_orders).or_insert(0) += 1;
    }
    println!("{sizes:?}");
    assert_eq!(fingerprint.0, FINGERPRINT_OF_SEED_1, "{:#x}", fingerprint.0);
}
