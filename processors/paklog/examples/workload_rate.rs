//! How fast the workload makes events, and how fast they are decoded and folded in memory:
//! `cargo run --release -p conveyor-paklog --example workload_rate -- [ORDERS.csv[.gz]] [SEED]`.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::path::PathBuf;
use std::time::Instant;

use conveyor_paklog::decode::decode;
use conveyor_paklog::projection::{
    Atp, DeadLetter, DeadLetters, InventoryMovement, KpiMinute, Observed, OrderSla, OrderTracking,
    PackThroughput, PickSession, TaskQueue, WaveProgress, WorkerHourly,
};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::{Ledger, OrderLines, Settings, Workload, WorkloadEvent};
use conveyor_processors::{Fold, Projection, Source, SourceRecord};

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
    fold(&TaskQueue, &kept, &events)?;
    fold(&WorkerHourly, &kept, &events)?;
    fold(&PickSession, &kept, &events)?;
    fold(&PackThroughput, &kept, &events)?;
    fold(&OrderSla, &kept, &events)?;
    let letters = kept.iter().map(|event| DeadLetter::of(&record_of(event)));
    let letters: Vec<_> = letters.collect();
    fold(&DeadLetters, &kept, &letters)?;
    let observed = kept.iter().zip(events).zip(letters);
    let observed: Vec<_> = observed
        .map(|((kept, event), letter)| match kept.topic() {
            Topic::Error => Observed::Failure(Box::new(letter)),
            _ => Observed::Event(Box::new(event)),
        })
        .collect();
    fold(&KpiMinute, &kept, &observed)
}

fn record_of(event: &WorkloadEvent) -> SourceRecord {
    SourceRecord {
        source: source_of(event, 0),
        key: Some(event.key.clone().into()),
        value: Some(event.value.clone().into()),
        headers: Vec::new(),
    }
}

fn source_of(event: &WorkloadEvent, offset: i64) -> Source {
    Source {
        topic: event.topic().name().into(),
        partition: 0,
        offset: offset.into(),
        timestamp_ms: event.event_time_ms,
    }
}

fn fold<P: Projection>(
    projection: &P,
    kept: &[WorkloadEvent],
    events: &[P::Event],
) -> Result<(), Box<dyn std::error::Error>> {
    let declaration = projection.declaration();
    let mut fold = Fold::new(projection);
    let (start, mut applied) = (Instant::now(), 0);
    for (record, event) in kept.iter().zip(events) {
        let topic = record.topic().name();
        if declaration.sources().contains(&topic) {
            let source = source_of(record, applied);
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
