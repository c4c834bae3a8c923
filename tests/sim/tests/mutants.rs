//! Deliberate errors in the code under test, each of which the simulation must find: whoever finds
//! nothing in sound code must show that it can see.
//!
//! Needs the feature `mutants`; `CONVEYOR_MUTANTS="a, b"` runs some of them, `CONVEYOR_SIM_SEEDS=n`
//! sets how many seeds each gets.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use conveyor_record::mutants;
use conveyor_sim::{Failure, Settings, run};

const SEEDS: u64 = 10_000;

/// Names, as the code asks for them, that must be caught.
const MUTANTS: &[&str] = &[
    "acknowledge-before-sync",
    "truncate-to-high-watermark",
    "high-watermark-from-proposed",
    "fsync-error-ignored",
    "recovered-tail-not-synced",
    "join-without-the-epoch-start",
    "stale-broker-epoch",
    "producers-unknown-to-followers",
    "answer-without-matching",
    "late-divergence-answer",
    "eviction-without-the-controller",
    "controller: unclean election",
    "controller: eligible replicas stay",
    "controller: empty disk trusted",
    "controller: stale partition epoch accepted",
    "controller: member of another incarnation accepted",
    "controller: old leader may propose",
    "controller: leader epoch stays",
    "too-few-in-sync",
    "metadata-before-registration",
    "sync-counts-without-agreement",
    "decision-answered-before-sync",
    "stale-leader-epoch",
    "cut-committed-records",
];

/// Those that other checks make harmless, or that are too rare to be found in so many seeds; the table
/// in `tests/README.md` says which.
const MASKED: &[&str] = &[
    "stale-broker-epoch",
    "stale-leader-epoch",
    "cut-committed-records",
    "controller: member of another incarnation accepted",
    "controller: old leader may propose",
];

fn seeds() -> u64 {
    std::env::var("CONVEYOR_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap())
}

/// Seeds until the error is found.
fn hunt(mutant: &str) -> Option<Failure> {
    mutants::set(Some(mutant));
    (0..seeds()).find_map(|seed| run(seed, Settings::default()).err())
}

#[test]
fn each_deliberate_error_is_found() {
    let wanted = std::env::var("CONVEYOR_MUTANTS").unwrap_or_default();
    let wanted: Vec<&str> = wanted
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let chosen: Vec<&str> = MUTANTS
        .iter()
        .copied()
        .filter(|name| wanted.is_empty() || wanted.contains(name))
        .collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let escaped = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(Failure { seed, what, .. }) = hunt(mutant) {
                        println!("{mutant}: caught after {} seeds: {what}", seed + 1);
                    } else {
                        println!("{mutant}: not caught in {} seeds", seeds());
                        escaped.lock().unwrap().push(*mutant);
                    }
                }
            });
        }
    });
    std::panic::set_hook(hook);
    let escaped = escaped.into_inner().unwrap();
    let unexpected: Vec<&&str> = escaped
        .iter()
        .filter(|name| !MASKED.contains(name))
        .collect();
    assert!(unexpected.is_empty(), "not caught: {unexpected:?}");
}
