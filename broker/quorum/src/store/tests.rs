//! What a store remembers through crashes at any moment, and which folders it refuses.

use std::collections::BTreeMap;

use bytes::Bytes;
use conveyor_log::disk::{Crash, SimDisk};

use super::*;
use crate::entry::EntryKind;

const CLUSTER: Uuid = Uuid::from_u128(3);

fn dir() -> &'static Path {
    Path::new("/data/quorum")
}

fn expected() -> Expected {
    Expected {
        node_id: NodeId(1),
        cluster_id: Some(CLUSTER),
    }
}

fn identity() -> Identity {
    Identity {
        cluster_id: CLUSTER,
        node_id: NodeId(1),
        voter_id: VoterId(1),
    }
}

fn membership() -> Membership {
    let nodes = (1..=3).map(|id| (NodeId(id), format!("host-{id}:9193")));
    Membership::bootstrap(&nodes.collect::<BTreeMap<_, _>>()).unwrap()
}

fn founded(disk: &SimDisk) -> Store {
    let Opened::New(empty) = open(disk.shared(), dir(), expected()).unwrap() else {
        panic!("the disk is empty");
    };
    empty.bootstrap(identity(), membership()).unwrap().0
}

fn reopened(disk: &SimDisk) -> (Store, Recovered) {
    match open(disk.shared(), dir(), expected()) {
        Ok(Opened::Existing(store, recovered)) => (*store, *recovered),
        other => panic!("there is a member: {other:?}"),
    }
}

fn refused(disk: &SimDisk, expected: Expected) -> OpenError {
    open(disk.shared(), dir(), expected).expect_err("it is refused")
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    let entry = |index| Entry {
        index,
        term,
        kind: EntryKind::Data,
        data: Bytes::from(vec![term as u8; 40 + index as usize * 7]),
    };
    indexes.map(entry).collect()
}

fn round(term: u64, vote: u64, commit: u64, entries: Vec<Entry>) -> Write {
    Write {
        hard_state: Some(HardState { term, vote, commit }),
        snapshot: None,
        entries,
    }
}

fn snapshot(term: u64, index: u64) -> Snapshot {
    Snapshot {
        last: LogPosition { term, index },
        membership: membership(),
        data: Bytes::from(vec![index as u8; 5_000]),
    }
}

#[test]
fn what_was_persisted_is_found_again() {
    let disk = SimDisk::new(1);
    let mut store = founded(&disk);
    store.persist(&round(2, 3, 1, entries(2, 2..=9))).unwrap();
    disk.crash(Crash::Power);
    let (_, found) = reopened(&disk);
    assert_eq!(found.identity, identity());
    assert_eq!((found.hard_state.term, found.hard_state.vote), (2, 3));
    assert_eq!(found.entries, entries(2, 2..=9));
    assert_eq!(found.snapshot.unwrap().membership, membership());
}

#[test]
fn a_real_disk_does_as_the_simulated_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/quorum");
    let open = || open(conveyor_log::disk::OsDisk::shared(), &dir, expected());
    let Ok(Opened::New(empty)) = open() else {
        panic!("the folder is empty");
    };
    let (mut store, _) = empty.bootstrap(identity(), membership()).unwrap();
    assert!(matches!(open(), Err(OpenError::InUse { .. })));
    store.persist(&round(2, 3, 1, entries(2, 2..=9))).unwrap();
    store.persist(&round(3, 0, 6, entries(3, 5..=6))).unwrap();
    let base = LogPosition { term: 2, index: 3 };
    let kept = [entries(2, 4..=4), entries(3, 5..=6)].concat();
    store.save_snapshot(&snapshot(3, 5), base, &kept).unwrap();
    drop(store);
    let Ok(Opened::Existing(_, found)) = open() else {
        panic!("there is a member");
    };
    assert_eq!(found.snapshot, Some(snapshot(3, 5)));
    assert_eq!((found.base, found.entries), (base, kept));
}

#[test]
fn another_leaders_entries_replace_the_end() {
    let disk = SimDisk::new(1);
    let mut store = founded(&disk);
    store.persist(&round(2, 0, 1, entries(2, 2..=9))).unwrap();
    store.persist(&round(3, 0, 6, entries(3, 5..=6))).unwrap();
    disk.crash(Crash::Power);
    let (_, found) = reopened(&disk);
    let kept: Vec<Entry> = [entries(2, 2..=4), entries(3, 5..=6)].concat();
    assert_eq!(found.entries, kept);
    assert_eq!(found.hard_state.commit, 6);
}

#[test]
fn a_joining_member_knows_only_who_it_is() {
    let disk = SimDisk::new(1);
    let Opened::New(empty) = open(disk.shared(), dir(), expected()).unwrap() else {
        panic!("the disk is empty");
    };
    let (mut store, recovered) = empty.join(identity()).unwrap();
    assert!(recovered.snapshot.is_none());
    let write = Write {
        snapshot: Some(snapshot(4, 30)),
        ..round(5, 0, 30, entries(5, 31..=33))
    };
    store.persist(&write).unwrap();
    disk.crash(Crash::Power);
    let (_, found) = reopened(&disk);
    assert_eq!(found.snapshot, Some(snapshot(4, 30)));
    assert_eq!(found.base, LogPosition { term: 4, index: 30 });
    assert_eq!(found.entries, entries(5, 31..=33));
}

/// What a store was told, step by step.
fn script() -> Vec<Write> {
    vec![
        round(2, 1, 1, Vec::new()),
        round(2, 1, 2, entries(2, 2..=8)),
        round(3, 0, 5, entries(3, 6..=7)),
        round(4, 2, 5, Vec::new()),
        Write {
            snapshot: Some(snapshot(4, 20)),
            ..round(4, 2, 20, Vec::new())
        },
        round(4, 2, 21, entries(4, 21..=40)),
        round(5, 3, 30, entries(5, 31..=31)),
    ]
}

/// Term, vote, snapshot and log after the first steps.
type Remembered = (u64, u64, u64, Vec<(u64, u64)>);

fn after(steps: usize) -> Remembered {
    let mut state = (1, 0, 1, Vec::new());
    for write in &script()[..steps] {
        let hard_state = write.hard_state.unwrap();
        (state.0, state.1) = (hard_state.term, hard_state.vote);
        if let Some(snapshot) = &write.snapshot {
            state.2 = snapshot.last.index;
            state.3.clear();
        }
        if let Some(first) = write.entries.first() {
            state.3.retain(|(index, _)| *index < first.index);
        }
        let new = write.entries.iter().map(|entry| (entry.index, entry.term));
        state.3.extend(new);
    }
    state
}

fn remembered(found: &Recovered) -> Remembered {
    let log = found.entries.iter().map(|entry| (entry.index, entry.term));
    (
        found.hard_state.term,
        found.hard_state.vote,
        found
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.last.index),
        log.collect(),
    )
}

/// Of a step that was interrupted: the term and vote of before or after, and of the log either the one
/// before, the one after, or what both have in common.
fn is_between(found: &Remembered, steps: usize) -> bool {
    let (before, next) = (after(steps), after((steps + 1).min(script().len())));
    let common: Vec<(u64, u64)> = before
        .3
        .iter()
        .copied()
        .filter(|entry| next.3.contains(entry))
        .collect();
    let vote = |state: &Remembered| (state.0, state.1);
    let log = |state: &Remembered| (state.2, state.3.clone());
    [vote(&before), vote(&next)].contains(&vote(found))
        && [log(&before), log(&next), (before.2, common)].contains(&log(found))
}

#[test]
fn a_stop_at_any_change_leaves_what_was_acknowledged() {
    for crash in [Crash::Power, Crash::Process] {
        for seed in 0..4 {
            for changes in 1..70 {
                let disk = SimDisk::new(seed * 1_000 + changes);
                let mut store = founded(&disk);
                disk.halt_after(changes);
                let steps = script();
                let done = steps.iter().take_while(|step| store.persist(step).is_ok());
                let done = done.count();
                drop(store);
                disk.crash(crash);
                let (_, found) = reopened(&disk);
                let found = remembered(&found);
                assert!(
                    found == after(done) || is_between(&found, done),
                    "{crash:?}, seed {seed}, {changes} changes, {done} steps: {found:?}"
                );
            }
        }
    }
}

#[test]
fn a_stop_while_it_is_founded_leaves_nothing_or_all() {
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let Opened::New(empty) = open(disk.shared(), dir(), expected()).unwrap() else {
            panic!("the disk is empty");
        };
        disk.halt_after(1 + seed % 20);
        let founded = empty.bootstrap(identity(), membership()).is_ok();
        disk.crash(Crash::Power);
        match open(disk.shared(), dir(), expected()).unwrap() {
            Opened::New(_) => assert!(!founded, "seed {seed}"),
            Opened::Existing(_, found) => assert_eq!(found.identity, identity()),
        }
    }
}

#[test]
fn a_snapshot_shortens_the_log_and_takes_the_place_of_the_last() {
    let disk = SimDisk::new(1);
    let mut store = founded(&disk);
    store.persist(&round(2, 0, 9, entries(2, 2..=9))).unwrap();
    let base = LogPosition { term: 2, index: 6 };
    store
        .save_snapshot(&snapshot(2, 8), base, &entries(2, 7..=9))
        .unwrap();
    disk.crash(Crash::Power);
    let (mut store, found) = reopened(&disk);
    assert_eq!(found.base, base);
    assert_eq!(found.entries, entries(2, 7..=9));
    assert_eq!(found.snapshot, Some(snapshot(2, 8)));
    let names: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.starts_with(dir()))
        .collect();
    assert_eq!(
        names.len(),
        3,
        "lock, state, log and one snapshot, no others: {names:?}"
    );
    store.persist(&round(2, 0, 9, entries(2, 10..=11))).unwrap();
}

#[test]
fn the_first_failure_closes_it() {
    let disk = SimDisk::new(1);
    let mut store = founded(&disk);
    disk.fail_next_syncs(1);
    let error = store
        .persist(&round(2, 1, 1, entries(2, 2..=3)))
        .unwrap_err();
    assert_eq!(store.failure(), Some(&error));
    assert_eq!(
        store.persist(&round(2, 1, 1, Vec::new())).unwrap_err(),
        error
    );
    assert_eq!(
        store.save_snapshot(&snapshot(1, 1), LogPosition::default(), &[]),
        Err(error)
    );
}

#[test]
fn a_full_disk_closes_it_and_loses_nothing() {
    let disk = SimDisk::new(1);
    let mut store = founded(&disk);
    store.persist(&round(2, 1, 1, entries(2, 2..=3))).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 30));
    assert!(store.persist(&round(2, 1, 1, entries(2, 4..=9))).is_err());
    drop(store);
    disk.set_capacity(None);
    disk.crash(Crash::Process);
    let (_, found) = reopened(&disk);
    assert_eq!(found.entries, entries(2, 2..=3));
}

#[test]
fn the_folder_of_another_is_refused_and_not_touched() {
    let disk = SimDisk::new(1);
    let store = founded(&disk);
    assert!(matches!(
        refused(&disk, expected()),
        OpenError::InUse { .. }
    ));
    drop(store);
    let before = disk.content(&dir().join("quorum-state"));
    let other_cluster = Expected {
        cluster_id: Some(Uuid::from_u128(4)),
        ..expected()
    };
    assert!(matches!(
        refused(&disk, other_cluster),
        OpenError::OtherCluster { .. }
    ));
    let other_node = Expected {
        node_id: NodeId(2),
        cluster_id: None,
    };
    assert!(matches!(
        refused(&disk, other_node),
        OpenError::OtherNode { .. }
    ));
    assert_eq!(disk.content(&dir().join("quorum-state")), before);
}

#[test]
fn any_damage_below_the_mark_is_refused() {
    let pristine = || {
        let disk = SimDisk::new(1);
        let mut store = founded(&disk);
        store.persist(&round(2, 0, 1, entries(2, 2..=4))).unwrap();
        disk
    };
    let log = dir().join("quorum-log-00000000000000000001");
    let size = pristine().content(&log).unwrap().len() as u64;
    for place in 0..size {
        let disk = pristine();
        disk.crash(Crash::Process);
        assert!(disk.flip_bit(&log, place, (place % 8) as u8));
        let error = refused(&disk, expected());
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "byte {place}: {error}"
        );
    }
    let disk = pristine();
    disk.crash(Crash::Process);
    let cut = disk.content(&log).unwrap();
    disk.set_content(&log, &cut[..cut.len() - 1]);
    assert!(matches!(
        refused(&disk, expected()),
        OpenError::Damaged { .. }
    ));
}

#[test]
fn what_lies_above_the_mark_does_not_matter() {
    let disk = SimDisk::new(1);
    let mut store = founded(&disk);
    store.persist(&round(2, 0, 1, entries(2, 2..=4))).unwrap();
    drop(store);
    let log = dir().join("quorum-log-00000000000000000001");
    let mut content = disk.content(&log).unwrap();
    content.extend_from_slice(b"a torn tail of something");
    disk.set_content(&log, &content);
    let (mut store, found) = reopened(&disk);
    assert_eq!(found.entries, entries(2, 2..=4));
    store.persist(&round(2, 0, 1, entries(2, 5..=5))).unwrap();
    drop(store);
    assert_eq!(reopened(&disk).1.entries, entries(2, 2..=5));
}

#[test]
fn a_damaged_or_missing_snapshot_is_refused() {
    let disk = SimDisk::new(1);
    drop(founded(&disk));
    let last = LogPosition { term: 1, index: 1 };
    let path = dir().join(snapshot_file::file_name(last));
    let content = disk.content(&path).unwrap();
    for place in 0..content.len() {
        let mut bad = content.clone();
        bad[place] ^= 1 << (place % 8);
        disk.set_content(&path, &bad);
        assert!(matches!(
            refused(&disk, expected()),
            OpenError::Damaged { .. }
        ));
    }
    disk.shared().remove_file(&path).unwrap();
    let error = refused(&disk, expected());
    assert!(error.to_string().contains("it is missing"), "{error}");
}
