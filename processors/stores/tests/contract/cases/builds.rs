//! Builds beside the live one: made, switched to, gone back from, dropped, whoever else is at work
//! and whatever is killed.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conveyor_processors::applier::{Applier, BatchError};
use conveyor_processors::build::{Build, BuildName, InBuild};
use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, Store, StoreError, Unit};
use conveyor_processors::{Declaration, Position, Projection, Row, RowKey};

use crate::ledger::{
    Entry, Ledger, LedgerDecoder, Log, assert_build_is_fold, assert_store_is_fold, movement_at,
};
use crate::play::{Published, applier, patient};
use crate::site::{Site, open, open_builds};
use crate::victim::Victim;

pub(crate) fn log() -> Log {
    let moved = |n: i64| Entry::Moved {
        account: (n % 4) as u8,
        amount: n,
    };
    Log::new(&[(1..=60).map(moved).collect(), (3..=40).map(moved).collect()])
}

pub(crate) fn build(tag: &str) -> BuildName {
    BuildName::new("ledger", tag).unwrap()
}

fn declaration_of(tag: Option<&str>) -> Declaration {
    let declaration = Ledger.declaration();
    match tag {
        Some(tag) => declaration.as_build(&build(tag)),
        None => declaration,
    }
}

/// Fills the live build, or another, with the first records of each partition.
pub(crate) async fn fill(
    store: &dyn Store,
    tag: Option<&str>,
    epoch: i64,
    upto: usize,
) -> Result<(), BatchError> {
    match tag {
        None => fill_with(&applier(), store, epoch, upto).await,
        Some(tag) => {
            let projection = InBuild::new(Ledger, build(tag));
            let applier = Applier::new(Arc::new(projection), Arc::new(LedgerDecoder));
            fill_with(&applier, store, epoch, upto).await
        }
    }
}

async fn fill_with<P: Projection<Event = Entry>>(
    applier: &Applier<P, LedgerDecoder>,
    store: &dyn Store,
    epoch: i64,
    upto: usize,
) -> Result<(), BatchError> {
    let (log, published) = (log(), Published::default());
    let declaration = applier.declaration();
    patient!(store.prepare(declaration))?;
    let partitions = log.partitions();
    let owner = OwnerEpoch(epoch);
    patient!(store.claim(declaration, owner, &partitions, false))?;
    loop {
        let positions = patient!(store.positions(declaration))?;
        let mut batches = log.batch_after(&positions, &partitions, epoch, 7);
        batches.retain(|batch| batch.to.value() <= upto as i64);
        if batches.is_empty() {
            return Ok(());
        }
        let mut batch = applier.decode(batches);
        loop {
            match applier.commit(&mut batch, store, &published).await {
                Ok(_) => break,
                Err(error) if error.is_retriable() => crate::play::short_sleep().await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The tags of all builds, the live one first.
fn tags(builds: &[Build]) -> Vec<&str> {
    let live = builds.iter().filter(|build| build.is_live).count();
    assert_eq!(live, 1, "{builds:?}");
    assert!(builds[0].is_live, "{builds:?}");
    builds.iter().map(|build| build.tag.as_str()).collect()
}

fn reason(refused: Result<(), StoreError>) -> String {
    match refused {
        Err(error @ StoreError::Schema { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn builds_are_made_switched_to_gone_back_from_and_dropped(site: &Site) {
    let (log, store) = (log(), site.open_builds().await);
    assert_eq!(store.builds().await.unwrap(), []);
    fill(&*store, None, 5, 20).await.unwrap();
    fill(&*store, Some("2"), 9, 99).await.unwrap();
    assert_store_is_fold(&log, &*store).await;
    assert_build_is_fold(&log, &*store, &declaration_of(Some("2"))).await;
    let builds = store.builds().await.unwrap();
    assert_eq!(tags(&builds), ["1", "2"]);
    assert_eq!(builds[1].tables[..2], ["account", "movement"]);
    let reached =
        |build: &Build| -> i64 { build.positions.iter().map(|p| p.next_offset.value()).sum() };
    let partly = reached(&builds[0]);
    assert!(partly > 0 && partly < log.len());
    assert_eq!(reached(&builds[1]), log.len());

    let missing = reason(store.switch(&build("7")).await);
    assert!(missing.contains("there is no build ledger@7"), "{missing}");
    store.switch(&build("2")).await.unwrap();
    store.switch(&build("2")).await.unwrap();
    assert_store_is_fold(&log, &*store).await;
    let builds = store.builds().await.unwrap();
    assert_eq!(tags(&builds), ["2", "1"]);
    assert_eq!(
        (reached(&builds[0]), reached(&builds[1])),
        (log.len(), partly)
    );
    let epochs = builds[0].positions.iter().map(|p| p.owner_epoch.0);
    assert_eq!(epochs.collect::<Vec<_>>(), [6, 6], "above the live build's");
    let stale = fill(&*store, None, 5, 99).await;
    assert!(
        matches!(stale, Err(BatchError::Store(StoreError::Fenced { .. }))),
        "{stale:?}"
    );
    let live = reason(store.prepare(&declaration_of(Some("2"))).await);
    assert!(live.contains("is live already"), "{live}");
    let live = reason(store.drop_build(&build("2")).await);
    assert!(live.contains("is live already"), "{live}");

    // Back, and on from where that build stands.
    store.switch(&build("1")).await.unwrap();
    assert_eq!(tags(&store.builds().await.unwrap()), ["1", "2"]);
    assert_store_is_fold(&log, &*store).await;
    fill(&*store, None, 7, 99).await.unwrap();
    assert_store_is_fold(&log, &*store).await;
    store.drop_build(&build("2")).await.unwrap();
    store.drop_build(&build("2")).await.unwrap();
    assert_eq!(tags(&store.builds().await.unwrap()), ["1"]);
    // The same name can be built again, from nothing.
    fill(&*store, Some("2"), 1, 14).await.unwrap();
    assert_build_is_fold(&log, &*store, &declaration_of(Some("2"))).await;
    store.switch(&build("2")).await.unwrap();
    assert_store_is_fold(&log, &*store).await;
}

/// Owners join anew whenever they are refused, as the driver does.
pub(crate) async fn owners_at_work_are_fenced_by_a_switch_and_lose_nothing(site: &Site) {
    let (log, store) = (log(), site.open_builds().await);
    fill(&*store, None, 1, 10).await.unwrap();
    for tag in ["2", "3"] {
        fill(&*store, Some(tag), 1, 20).await.unwrap();
    }
    let epochs = Arc::new(AtomicI64::new(2));
    let stop = Arc::new(AtomicBool::new(false));
    let (url, counter, stopped) = (site.url.clone(), Arc::clone(&epochs), Arc::clone(&stop));
    let owner = tokio::spawn(async move {
        let store = open(&url).await;
        let mut fenced = 0;
        loop {
            let epoch = counter.fetch_add(1, Ordering::SeqCst);
            match fill(&*store, None, epoch, 99).await {
                Ok(()) if stopped.load(Ordering::SeqCst) => return fenced,
                Ok(()) => crate::play::short_sleep().await,
                Err(BatchError::Store(
                    StoreError::Fenced { .. } | StoreError::NotAtPosition { .. },
                )) => fenced += 1,
                Err(error) => panic!("{error}"),
            }
        }
    });
    for tag in ["2", "3", "1", "2"] {
        patient!(store.switch(&build(tag))).unwrap();
        assert_eq!(tags(&store.builds().await.unwrap())[0], tag);
        // What is switched to next is fenced as well, and stands where it stood.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let fenced = owner.await.unwrap();
    eprintln!("fenced {fenced} times");
    assert_store_is_fold(&log, &*store).await;
    for tag in ["1", "3"] {
        assert_build_is_fold(&log, &*store, &declaration_of(Some(tag))).await;
    }
    let positions = store.positions(&declaration_of(None)).await.unwrap();
    let reached: i64 = positions.iter().map(|p| p.next_offset.value()).sum();
    assert_eq!(reached, log.len());
}

pub(crate) async fn of_two_switches_at_once_one_comes_after_the_other(site: &Site) {
    let (log, store) = (log(), site.open_builds().await);
    fill(&*store, None, 1, 10).await.unwrap();
    for tag in ["2", "3"] {
        fill(&*store, Some(tag), 1, 30).await.unwrap();
    }
    for round in 0..3 {
        let switches: Vec<_> = ["2", "3", "2"]
            .into_iter()
            .map(|tag| {
                let url = site.url.clone();
                tokio::spawn(async move {
                    let store = open_builds(&url).await;
                    patient!(store.switch(&build(tag)))
                })
            })
            .collect();
        for switch in switches {
            switch.await.unwrap().unwrap();
        }
        let builds = store.builds().await.unwrap();
        let mut all = tags(&builds);
        assert!(all[0] == "2" || all[0] == "3", "{all:?}");
        all.sort_unstable();
        assert_eq!(all, ["1", "2", "3"]);
        assert_store_is_fold(&log, &*store).await;
        if round < 2 {
            patient!(store.switch(&build("1"))).unwrap();
        }
    }
}

/// A reader of a whole table finds all of one build, never none of it and never two mixed.
pub(crate) async fn readers_see_one_build_or_the_other(site: &Site) {
    let store = site.open_builds().await;
    fill(&*store, None, 1, 10).await.unwrap();
    fill(&*store, Some("2"), 1, 99).await.unwrap();
    let declaration = declaration_of(None);
    let table = Arc::clone(declaration.find_table("movement").unwrap());
    let reader = site.open().await;
    let first = reader.read_table(&declaration, &table).await.unwrap();
    store.switch(&build("2")).await.unwrap();
    let second = reader.read_table(&declaration, &table).await.unwrap();
    let keys: Vec<_> = second.iter().map(key_of).collect();
    let in_pieces = site.reads_in_pieces;
    assert!(first.len() < second.len());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let reading = tokio::spawn(async move {
        let (mut firsts, mut seconds) = (0, 0);
        while !stopped.load(Ordering::SeqCst) {
            let rows = if in_pieces {
                read_at_once(&*reader, &declaration, &keys).await
            } else {
                patient!(reader.read_table(&declaration, &table)).unwrap()
            };
            if rows == first {
                firsts += 1;
            } else {
                assert_eq!(rows, second, "neither the one nor the other");
                seconds += 1;
            }
        }
        (firsts, seconds)
    });
    for tag in ["1", "2", "1", "2", "1", "2"] {
        patient!(store.switch(&build(tag))).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let (firsts, seconds) = reading.await.unwrap();
    assert!(
        firsts > 0 && seconds > 0,
        "{firsts} and {seconds}: it shows nothing"
    );
}

fn key_of(row: &Row) -> RowKey {
    movement_at(row.integer("partition"), row.integer("offset"))
}

/// The rows of some keys at one moment, where a table is read in pieces.
async fn read_at_once(store: &dyn Store, declaration: &Declaration, keys: &[RowKey]) -> Vec<Row> {
    loop {
        let positions = patient!(store.positions(declaration)).unwrap();
        let advance = |position: &Position| Advance {
            topic_partition: position.topic_partition.clone(),
            from: Some(position.next_offset),
            to: position.next_offset.next(),
            owner_epoch: position.owner_epoch,
        };
        let (found, mut find) = (Arc::new(Mutex::new(Vec::new())), keys.to_vec());
        find.sort();
        let seen = Arc::clone(&found);
        let unit = Unit {
            declaration: Arc::new(declaration.clone()),
            advances: positions.iter().map(advance).collect(),
            keys: find.clone(),
            fold: Box::new(move |rows| {
                let rows = find
                    .iter()
                    .filter_map(|key| rows.get(key).unwrap().cloned());
                *seen.lock().unwrap() = rows.collect();
                Outcome::Abort
            }),
        };
        match store.transact(unit).await {
            Ok(wrote) => {
                assert!(!wrote);
                return std::mem::take(&mut *found.lock().unwrap());
            }
            // Switched between the two looks.
            Err(StoreError::Fenced { .. } | StoreError::NotAtPosition { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A process that switches to and fro is killed at any moment: the old build is live or the new one,
/// and the next switch is done in full.
pub(crate) async fn a_killed_switch_leaves_the_old_build_or_the_new(site: &Site) {
    let (log, store) = (log(), site.open_builds().await);
    fill(&*store, None, 1, 10).await.unwrap();
    fill(&*store, Some("2"), 1, 99).await.unwrap();
    for round in 0..if site.slow { 4 } else { 8u64 } {
        let victim = Victim::switching(&site.url);
        // Until it is at work: the live build has changed.
        let before = tags(&store.builds().await.unwrap())[0].to_owned();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let builds = patient!(store.builds()).unwrap();
            if tags(&builds)[0] != before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_micros(300 + 2_311 * round)).await;
        victim.kill();
        patient!(store.positions(&declaration_of(None))).unwrap();
        assert_store_is_fold(&log, &*store).await;
        let builds = patient!(store.builds()).unwrap();
        let mut all = tags(&builds);
        let other = if all[0] == "1" { "2" } else { "1" };
        all.sort_unstable();
        assert_eq!(all, ["1", "2"]);
        patient!(store.switch(&build(other))).unwrap();
        assert_eq!(tags(&store.builds().await.unwrap())[0], other);
        assert_store_is_fold(&log, &*store).await;
        let kept = if other == "1" { "2" } else { "1" };
        assert_build_is_fold(&log, &*store, &declaration_of(Some(kept))).await;
    }
}
