//! Processors and servers die together: two instances that share the partitions, one way and
//! another, are killed and frozen at random moments, and so is the server. At the end the store is
//! the fold, and on the way it never goes back.
//!
//! `CONVEYOR_TEST_SEED` repeats a run's choices; the moments at which they hit differ all the same.

use std::time::Duration;

use conveyor_test_servers::chance::Chance;

use crate::cases::crash::wait_for_progress;
use crate::ledger::assert_store_is_fold;
use crate::play::{applier, own, patient};
use crate::site::{open, run};
use crate::victim::{self, Victim};

/// What was done to whom.
#[derive(Debug, Default)]
struct Deaths {
    processors: u32,
    frozen: u32,
    servers: u32,
}

fn play(url: &str, rounds: u32, mut crash_and_restart: impl FnMut()) {
    run(async {
        let (log, applier) = (victim::log(), applier());
        let declaration = applier.declaration();
        let store = open(url).await;
        patient!(store.prepare(declaration)).unwrap();
        let (mut chance, mut deaths) = (Chance::new(), Deaths::default());
        let (mut epoch, mut reached) = (0, 0);
        for round in 0..rounds {
            epoch += 1;
            let shares: [&[i32]; 2] = match chance.below(3) {
                0 => [&[0], &[1]],
                1 => [&[1], &[0]],
                _ => [&[0, 1], &[]],
            };
            let mut victims: Vec<_> = shares
                .into_iter()
                .filter(|share| !share.is_empty())
                .map(|share| Victim::start(url, epoch, share))
                .collect();
            // At their start now and then, at work in most cases.
            if chance.below(4) > 0 {
                wait_for_progress(&*store, reached).await;
            }
            let moment = Duration::from_micros(chance.below(150_000));
            tokio::time::sleep(moment).await;
            // Each once at least, then as it comes.
            let what = if round < 2 {
                u64::from(round)
            } else {
                chance.below(3)
            };
            match what {
                0 => {
                    crash_and_restart();
                    deaths.servers += 1;
                }
                1 => {
                    // The frozen one's heir works while it sleeps, and beside it when it wakes.
                    victims[0].freeze();
                    epoch += 1;
                    let heir = Victim::start(url, epoch, shares[0]);
                    tokio::time::sleep(moment).await;
                    victims[0].wake();
                    victims.push(heir);
                    deaths.frozen += 1;
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_micros(chance.below(100_000))).await;
            deaths.processors += victims.len() as u32;
            victims.into_iter().for_each(Victim::kill);
            patient!(store.positions(declaration)).unwrap();
            assert_store_is_fold(&log, &*store).await;
            let positions = store.positions(declaration).await.unwrap();
            let now = positions.iter().map(|p| p.next_offset.value()).sum();
            assert!(
                now >= reached,
                "the store went back from {reached} to {now}"
            );
            reached = now;
        }
        eprintln!(
            "{deaths:?}, {reached} of {} records applied by then",
            log.len()
        );
        assert!(
            reached > 0 && deaths.servers > 0 && deaths.frozen > 0,
            "it shows nothing"
        );
        own(&log, &*store, &log.partitions(), epoch + 1, 500)
            .await
            .unwrap();
        assert_store_is_fold(&log, &*store).await;
        let positions = store.positions(declaration).await.unwrap();
        let end: i64 = positions.iter().map(|p| p.next_offset.value()).sum();
        assert_eq!(end, log.len());
    });
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_and_processors_die_and_the_store_is_the_fold() {
    let mut server = conveyor_test_servers::postgres::Postgres::start(&[]);
    let url = server.url("postgres");
    play(&url, 25, || server.crash_and_restart());
}

#[cfg(feature = "redis")]
#[test]
fn redis_and_processors_die_and_the_store_is_the_fold() {
    let mut server = conveyor_test_servers::redis::Redis::start(&[]);
    let url = server.url();
    play(&url, 25, || server.crash_and_restart());
}

#[cfg(feature = "mongodb")]
#[test]
fn mongodb_and_processors_die_and_the_store_is_the_fold() {
    let mut server = conveyor_test_servers::mongodb::Mongodb::start(&["--sync-on-commit"]);
    let url = server.url("kill");
    play(&url, 8, || server.crash_and_restart());
}

#[cfg(feature = "mongodb")]
#[test]
fn mongodb_without_transactions_and_processors_die_and_the_store_is_the_fold() {
    let mut server =
        conveyor_test_servers::mongodb::Mongodb::start(&["--standalone", "--sync-on-commit"]);
    let url = server.url("kill");
    play(&url, 8, || server.crash_and_restart());
}
