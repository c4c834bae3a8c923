//! The quorum, played through by seed: real nodes with real stores on simulated disks, a simulated
//! network and skewed clocks, everything on one thread and nothing left to chance.
//!
//! A run begins with one, three or five empty folders and 9 s (of simulated time) in which anything
//! may happen: messages are lost, doubled, late and out of order; the network splits in two, one way,
//! or so that one node still sees both halves; nodes are killed, lose power (one, several, all), stand
//! still, fail a sync, stop in the middle of a write; clocks run fast, slow, and jump; disks are wiped
//! and rot; members join, are promoted and leave; the lead is handed over; snapshots are taken all the
//! time. No more voters lose their disk than the quorum can bear, as an operator would see to. Then all
//! faults end, and within a bounded time there must be one leader, all members equally far, wiped nodes
//! back as voters, and proposals and reads must succeed.
//!
//! After every step (see `oracle.rs`): one leader a term; one content for an index and term, behind
//! one predecessor; what was committed never changes, and a new leader has it; what nodes apply are
//! prefixes of one sequence, over snapshots and restarts; an acknowledged proposal is committed; a read
//! sees all that was acknowledged before it; no message contradicts what its receiver knows; no store
//! is damaged that nobody has damaged.
//!
//! `CONVEYOR_QUORUM_SEEDS` sets the number of seeds (2,000 if not set), `CONVEYOR_QUORUM_SEED` plays
//! one. `cargo test -p conveyor-quorum --features mutants --test simulation` also plays the deliberate
//! mistakes of `src/mutant.rs` until each is found. Seeds that it took when this was written:
//!
//! | mistake | seeds | found as |
//! |---|---|---|
//! | `VoteNotSynced` | 3 | a superblock that names a log file that was replaced since |
//! | `EntriesNotSynced` | 1 | damage that nobody did |
//! | `SyncErrorIgnored` | 47 | a heartbeat that commits what its receiver has acknowledged and lost |
//! | `SnapshotNotSynced` | 1 | damage that nobody did |
//! | `FolderNotSynced` | 3 | a file that is missing, though the superblock names it |
//! | `WipedVoterKeepsId` | 20 | a heartbeat that commits what its receiver has acknowledged and lost |
//! | `MessagesBeforeSync` | 4 | the same |
//! | `ReadWithoutQuorum` | 192 | a read that does not see what was acknowledged |
//! | `DamageCut` | 520 | a heartbeat that commits what its receiver has acknowledged and lost |
//! | `OverwrittenWhileVouchedFor` | 546 | damage that nobody did |
//! | `OneCopy` | 468 | a heartbeat that commits what its receiver has acknowledged and lost |
//! | `FoundStateTrusted` | 903 | a file that is missing, though the superblock names it |
//! | `ChangeForgotten` | 1,002 | a quorum that does not come back, though a majority is there |
//! | `PromotedBehind` | 22 | the same |
//!
//! Masked, and therefore not among them: writing each generation of the superblock over the last. A
//! slot fits into one sector, which the simulated disk does not tear.

mod faults;
mod machine;
mod network;
mod operator;
mod oracle;
mod process;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::{Report, World};

const SEEDS: u64 = 2_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64) -> Result<Report, String> {
    World::new(seed)
        .run()
        .map_err(|violation| format!("CONVEYOR_QUORUM_SEED={seed}: {violation}"))
}

/// Plays all seeds on all cores; the violation with the lowest seed, or what the runs had in them.
fn play_all(seeds: u64) -> Result<Report, String> {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut total = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return Ok(total);
            }
            total.add(&play(seed).map_err(|violation| (seed, violation))?);
        }
    };
    let results: Vec<Result<Report, (u64, String)>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|result| result.expect("no panic")).collect()
    });
    let mut total = Report::default();
    let mut first: Option<(u64, String)> = None;
    for result in results {
        match result {
            Ok(report) => total.add(&report),
            Err(violation) => {
                let earlier = first.as_ref().is_none_or(|first| violation.0 < first.0);
                first = if earlier { Some(violation) } else { first };
            }
        }
    }
    first.map_or(Ok(total), |(_, violation)| Err(violation))
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(seed) = setting("CONVEYOR_QUORUM_SEED") {
        let report = play(seed).unwrap_or_else(|violation| panic!("{violation}"));
        println!("{report:#?}");
        return;
    }
    let seeds = setting("CONVEYOR_QUORUM_SEEDS").unwrap_or(SEEDS);
    let report = play_all(seeds).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{seeds} seeds: {report:#?}");
    // A world in which nothing happens proves nothing.
    if seeds >= 100 {
        report.check_variety(seeds);
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..40 {
        let first = play(seed).unwrap_or_else(|violation| panic!("{violation}"));
        let again = play(seed).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(first, again, "seed {seed}");
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    //! Each deliberate mistake must be found.

    use std::panic::{AssertUnwindSafe, catch_unwind};

    use conveyor_quorum::mutant::{Mutant, choose};

    use super::{play, setting};

    const SEEDS_MAX: u64 = 10_000;

    fn hunt(mutant: Mutant) -> Option<(u64, String)> {
        choose(Some(mutant));
        let most = setting("CONVEYOR_QUORUM_SEEDS").unwrap_or(SEEDS_MAX);
        let found = (0..most).find_map(|seed| {
            // raft-rs may panic on what only a mistake can lead to.
            let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
            let violation = match played {
                Ok(result) => result.err()?,
                Err(_) => "a panic".to_owned(),
            };
            Some((seed + 1, violation))
        });
        choose(None);
        found
    }

    macro_rules! found {
        ($($name:ident: $mutant:ident;)*) => {
            $(#[test]
            fn $name() {
                let (seeds, violation) = hunt(Mutant::$mutant).expect("the mistake is found");
                println!("{:?}: {seeds} seeds: {violation}", Mutant::$mutant);
            })*

            #[test]
            fn every_mutant_has_its_test() {
                assert_eq!([$(Mutant::$mutant),*], Mutant::ALL);
            }
        };
    }

    found! {
        vote_not_synced: VoteNotSynced;
        entries_not_synced: EntriesNotSynced;
        sync_error_ignored: SyncErrorIgnored;
        snapshot_not_synced: SnapshotNotSynced;
        folder_not_synced: FolderNotSynced;
        wiped_voter_keeps_id: WipedVoterKeepsId;
        messages_before_sync: MessagesBeforeSync;
        read_without_quorum: ReadWithoutQuorum;
        damage_cut: DamageCut;
        overwritten_while_vouched_for: OverwrittenWhileVouchedFor;
        one_copy: OneCopy;
        found_state_trusted: FoundStateTrusted;
        change_forgotten: ChangeForgotten;
        promoted_behind: PromotedBehind;
    }
}
