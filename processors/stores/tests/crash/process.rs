//! The same with a real process and a real SIGKILL: this test binary runs itself as the victim.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use conveyor_processors::applier::Applier;
use conveyor_processors::store::{OwnerEpoch, Store};
use conveyor_stores::SqliteStore;

use crate::ledger::{Entry, Ledger, LedgerDecoder, Log, assert_store_is_fold, run};
use crate::{Published, apply};

/// Tells the victim which file to write, and as which owner.
const FILE: &str = "CONVEYOR_TEST_VICTIM_FILE";
const EPOCH: &str = "CONVEYOR_TEST_VICTIM_EPOCH";

fn log() -> Log {
    let entry = |n: i64| match n % 17 {
        0 => Entry::Garbage,
        5 => Entry::Closed {
            account: (n % 5) as u8,
        },
        _ => Entry::Moved {
            account: (n % 5) as u8,
            amount: n % 11 - 2,
        },
    };
    Log::new(&[
        (0..3000).map(entry).collect(),
        (7..2000).map(entry).collect(),
    ])
}

#[test]
fn a_killed_process_leaves_the_fold_up_to_its_positions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("read.db");
    let log = log();
    let mut reached = 0;
    for round in 0..8_u64 {
        let mut victim = victim(&path, round);
        // Different moments of its life, its start included.
        std::thread::sleep(Duration::from_millis(20 + 37 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        if path.exists() {
            reached = run(check(&log, &path, reached));
        }
    }
    assert!(reached > 0, "no victim lived long enough to write anything");
}

/// Whether the file is right; how far it is.
async fn check(log: &Log, path: &Path, before: i64) -> i64 {
    let store = SqliteStore::open(path).unwrap();
    let declaration = Applier::new(Arc::new(Ledger), Arc::new(LedgerDecoder))
        .declaration()
        .clone();
    store.prepare(&declaration).await.unwrap();
    assert_store_is_fold(log, &store).await;
    let positions = store.positions(&declaration).await.unwrap();
    let reached = positions.iter().map(|p| p.next_offset.value()).sum();
    assert!(
        reached >= before,
        "the store went back from {before} to {reached}"
    );
    reached
}

fn victim(path: &Path, epoch: u64) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::victim_process", "--ignored"])
        .env(FILE, path)
        .env(EPOCH, (epoch + 1).to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what the killed process does.
#[test]
#[ignore = "run by a_killed_process_leaves_the_fold_up_to_its_positions"]
fn victim_process() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else {
        return;
    };
    let epoch: i64 = std::env::var(EPOCH).unwrap().parse().unwrap();
    run(async {
        let (log, published) = (log(), Published::default());
        let applier = Applier::new(Arc::new(Ledger), Arc::new(LedgerDecoder));
        let store = SqliteStore::open(path).unwrap();
        store.prepare(applier.declaration()).await.unwrap();
        let owner = OwnerEpoch(epoch);
        store
            .claim(applier.declaration(), owner, &log.partitions(), false)
            .await
            .unwrap();
        while apply(&applier, &log, &store, &published, epoch, 3).await > 0 {}
    });
}
