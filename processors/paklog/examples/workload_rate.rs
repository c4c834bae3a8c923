//! How fast the workload makes events, and how fast they are decoded and folded in memory:
//! `cargo run --release -p conveyor-paklog --example workload_rate -- [ORDERS.csv[.gz]] [SEED]`.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::path::PathBuf;
use std::time::Instant;

use conveyor_paklog::decode::decode;
use conveyor_paklog::event::Event;
use conveyor_paklog::projection::{Atp, InventoryMovement, OrderTracking, WaveProgress};
use conveyor_paklog::workload::{Ledger, OrderLines, Settings, Workload, WorkloadEvent};
use conveyor_processors::{Fold, Projection, Source};

/// Events that are kept to be decoded and folded.
const KEPT_MAX: usize = 300_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/orders-store-367.csv.gz"
    );
    let path = arguments
        .next()
        .map_or_else(|| PathBuf::from(fixture), PathBuf::from);
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let orders = OrderLines::new(std::fs::File::open(&path)?)?;
    let mut workload = Workload::new(
        orders,
        Settings {
            seed,
            ..Settings::default()
        },
    );

    let (start, mut bytes, mut kept) = (Instant::now(), 0_usize, Vec::new());
    for event in workload.by_ref() {
        let event = event?;
        bytes += event.value.len();
        if kept.len() < KEPT_MAX {
            kept.push(event);
        }
    }
    let ledger = workload.into_ledger();
    print_rate("made", ledger.events() as usize, start);
    println!("{} bytes an event", bytes as u64 / ledger.events().max(1));
    print_ledger(&ledger);

    let start = Instant::now();
    let headers = || {
        WorkloadEvent::HEADERS
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
    };
    let events: Result<Vec<_>, _> = kept
        .iter()
        .map(|event| decode(Some(&event.value), headers()))
        .collect();
    let events = events?;
    print_rate("decoded", events.len(), start);
    fold(&OrderTracking, &kept, &events)?;
    fold(&Atp, &kept, &events)?;
    fold(&InventoryMovement, &kept, &events)?;
    fold(&WaveProgress, &kept, &events)?;
    Ok(())
}

fn fold<P: Projection<Event = Event>>(
    projection: &P,
    kept: &[WorkloadEvent],
    events: &[Event],
) -> Result<(), Box<dyn std::error::Error>> {
    let declaration = projection.declaration();
    let mut fold = Fold::new(projection);
    let (start, mut applied) = (Instant::now(), 0);
    for (record, event) in kept.iter().zip(events) {
        let topic = record.topic().name();
        if declaration.sources().contains(&topic) {
            let source = Source {
                topic: topic.into(),
                partition: 0,
                offset: applied.into(),
                timestamp_ms: record.event_time_ms,
            };
            fold.apply(event, &source)?;
            applied += 1;
        }
    }
    print_rate(declaration.name(), applied as usize, start);
    Ok(())
}

fn print_rate(what: &str, events: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what}: {events} events in {seconds:.2} s, {:.0}/s",
        events as f64 / seconds
    );
}

fn print_ledger(ledger: &Ledger) {
    let (waves, skus) = (ledger.waves().len(), ledger.stock().len());
    println!(
        "{} orders, {waves} waves, {skus} skus",
        ledger.orders().len()
    );
    for (topic, count) in ledger.events_by_topic() {
        println!("{count:>9} {topic}");
    }
    for (stage, count) in ledger.orders_by_stage() {
        println!("{count:>9} {}", stage.name());
    }
}
