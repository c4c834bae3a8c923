//! How fast the workload makes events: `cargo run --release -p conveyor-paklog --example
//! workload_rate -- [ORDERS.csv[.gz]] [SEED]`.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::path::PathBuf;
use std::time::Instant;

use conveyor_paklog::workload::{OrderLines, Settings, Workload};

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
    let (start, mut bytes) = (Instant::now(), 0_usize);
    for event in workload.by_ref() {
        bytes += event?.value.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    let ledger = workload.ledger();
    let events = ledger.events();
    println!(
        "{} orders, {} waves, {} skus",
        ledger.orders().len(),
        ledger.waves().len(),
        ledger.stock().len()
    );
    println!(
        "{events} events, {} bytes each, in {seconds:.2} s: {:.0} events/s, {:.0} MB/s",
        bytes as u64 / events.max(1),
        events as f64 / seconds,
        bytes as f64 / seconds / 1e6,
    );
    for (topic, count) in ledger.events_by_topic() {
        println!("{count:>9} {topic}");
    }
    for (stage, count) in ledger.orders_by_stage() {
        println!("{count:>9} {}", stage.name());
    }
    Ok(())
}
