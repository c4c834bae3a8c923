//! The log against a `Vec`, on a disk that forgets, fails and fills up.
//!
//! Each seed decides a sequence of appends (with and without producers), syncs, rolls, truncations,
//! retention, compactions, crashes in the middle of anything, failing syncs and restarts. After every restart:
//! the log is a prefix of what was written, it contains everything that was acknowledged as synced,
//! and reads return nothing that was not written.
//!
//! `CONVEYOR_SIM_SEED=n` replays one seed, `CONVEYOR_SIM_SEEDS=n` runs that many.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod simulated;
mod support;

use conveyor_log::disk::Lies;
use simulated::World;

const SEEDS: u64 = 2000;

#[test]
fn the_log_keeps_its_promises_whatever_the_disk_does() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    if let Some(seed) = number("CONVEYOR_SIM_SEED") {
        let trace = World::run(seed, true);
        println!("{}", trace.join("\n"));
        return;
    }
    let seeds = number("CONVEYOR_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("CONVEYOR_SIM_FIRST").unwrap_or(0);
    let mut seen = simulated::Coverage::default();
    for seed in first..first + seeds {
        let outcome = std::panic::catch_unwind(|| World::run_counting(seed));
        match outcome {
            Ok(coverage) => seen.add(&coverage),
            Err(panic) => {
                println!("failed with CONVEYOR_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{seeds} seeds: {seen:?}");
    if seeds >= SEEDS {
        seen.assert_wide();
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..30 {
        assert_eq!(
            World::run(seed, true),
            World::run(seed, true),
            "seed {seed}"
        );
    }
}

/// Runs seeds on a disk that lies until one of them fails.
fn seeds_until_noticed(lies: Lies) -> Option<u64> {
    (0..200).find(|seed| std::panic::catch_unwind(|| World::run_on_liar(*seed, lies)).is_err())
}

#[test]
fn a_disk_that_lies_is_noticed() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let noticed = [
        Lies {
            file_syncs: true,
            ..Lies::default()
        },
        Lies {
            dir_syncs: true,
            ..Lies::default()
        },
    ]
    .map(|lies| (lies, seeds_until_noticed(lies)));
    std::panic::set_hook(hook);
    for (lies, seed) in noticed {
        assert!(seed.is_some(), "no seed noticed {lies:?}");
    }
}
