//! Seeds of the cluster simulation.
//!
//! `CONVEYOR_SIM_SEED=n` replays one seed with its last events, `CONVEYOR_SIM_SEEDS=n` runs that many,
//! `CONVEYOR_SIM_FIRST=n` begins there.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use conveyor_sim::{Coverage, Settings, run};

const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse::<u64>().unwrap())
}

/// Shows a failing seed with the events before the failure.
fn show(seed: u64) {
    let failure = run(seed, Settings { traced: true }).unwrap_err();
    println!("{}", failure.last_events.join("\n"));
    println!(
        "at {} us: {}\nfailed with CONVEYOR_SIM_SEED={seed}",
        failure.at, failure.what
    );
}

#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    if let Some(seed) = number("CONVEYOR_SIM_SEED") {
        if let Err(failure) = run(seed, Settings::default()) {
            show(seed);
            panic!("{}", failure.what);
        }
        return;
    }
    let seeds = number("CONVEYOR_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("CONVEYOR_SIM_FIRST").unwrap_or(0);
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let totals = Mutex::new((Coverage::default(), 0u64, 0i64));
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    if let Ok(report) = run(seed, Settings::default()) {
                        let mut totals = totals.lock().unwrap();
                        totals.0.add(&report.coverage);
                        totals.1 += report.events;
                        totals.2 += report.simulated;
                    } else {
                        failed.store(true, Ordering::Relaxed);
                        show(seed);
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let (coverage, events, simulated) = totals.into_inner().unwrap();
    let simulated = simulated as f64 / 1e6;
    println!("{seeds} seeds, {events} events: {:?}", coverage.counts());
    println!(
        "{:.2} simulated hours in {took:.0} s on {threads} threads: {:.0} times real time",
        simulated / 3600.0,
        simulated / took
    );
    assert!(!failed.load(Ordering::Relaxed), "a seed failed, see above");
    if seeds >= SEEDS {
        for (name, count) in coverage.counts() {
            assert!(count >= 100, "too little was tested: {name} {count}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..20 {
        let traced = Settings { traced: true };
        assert_eq!(
            run(seed, traced).map_err(|failure| failure.what),
            run(seed, traced).map_err(|failure| failure.what),
            "seed {seed}"
        );
    }
}
