//! A seeded world around one coordinator: producers of both versions and their successors under the
//! same transactional ids, a network that delays and repeats calls, brokers that ask the coordinator
//! and append later, markers that are written late or twice, transactions that time out, ids that
//! expire, and crashes that lose everything which is not yet durable.
//!
//! Checked on the way: no marker comes with an epoch older than the partition's, no producer id and
//! epoch is given to two producers, the records give the state there is. In the end: every
//! transaction is seen whole or not at all, an acknowledged commit is seen, an abort is not, nothing
//! is seen that its own producer did not commit, and nothing is left open.

mod client;
mod partition;
mod world;

use self::world::World;
use crate::TransactionVersion;

const STEPS: usize = 1_500;

/// What kind of world it is.
#[derive(Clone, Copy, Debug)]
struct Rules {
    version: TransactionVersion,
    /// Whether a copy of an `EndTxn` may arrive when its producer has long gone on. By the first
    /// version that ends the next transaction: Kafka's known hole (KAFKA-17754).
    delays_ends: bool,
    is_guarded: bool,
}

const V1: Rules = Rules {
    version: TransactionVersion::V0,
    delays_ends: false,
    is_guarded: true,
};
const V2: Rules = Rules {
    version: TransactionVersion::V2,
    delays_ends: true,
    is_guarded: true,
};

fn run(seed: u64, rules: Rules) -> World {
    let mut world = World::new(seed, rules);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.judge();
    world
}

/// Runs one seed, and names it when it fails. Returns the commits that were acknowledged.
fn run_named(seed: u64, rules: Rules) -> usize {
    let outcome = std::panic::catch_unwind(|| run(seed, rules).outcomes());
    outcome.unwrap_or_else(|_| panic!("seed {seed} fails with {rules:?}"))
}

/// Whether some seed breaks a rule.
fn is_found(rules: Rules, seeds: u64) -> bool {
    (0..seeds).any(|seed| std::panic::catch_unwind(|| run(seed, rules)).is_err())
}

#[test]
fn transactions_are_atomic_whatever_happens() {
    for rules in [V1, V2] {
        let commits: usize = (0..400).map(|seed| run_named(seed, rules)).sum();
        println!("{rules:?}: {commits} acknowledged commits");
        assert!(commits > 700, "only {commits} transactions were committed");
    }
}

#[test]
fn without_the_verification_guard_a_late_record_joins_a_transaction_it_is_not_part_of() {
    let unguarded = Rules {
        is_guarded: false,
        ..V1
    };
    assert!(is_found(unguarded, 2_000), "the simulation is blind");
}

#[test]
fn a_delayed_end_tears_the_next_transaction_of_the_first_version_only() {
    let delayed = Rules {
        delays_ends: true,
        ..V1
    };
    assert!(is_found(delayed, 2_000), "the simulation is blind");
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for seed in [3, 1_000_003] {
        assert_eq!(run(seed, V2).trace, run(seed, V2).trace);
    }
}
