//! A process to be killed or frozen: this test binary runs itself as the victim.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conveyor_processors::TopicPartition;
use conveyor_processors::store::StoreError;

use crate::cases::builds::build;
use crate::ledger::{Entry, Log};
use crate::play::{applier, own_slowly, patient};
use crate::site::{open, open_builds, run};

/// Tells the victim which store to write, as which owner, and which partitions.
const STORE: &str = "CONVEYOR_TEST_VICTIM_STORE";
const EPOCH: &str = "CONVEYOR_TEST_VICTIM_EPOCH";
const PARTITIONS: &str = "CONVEYOR_TEST_VICTIM_PARTITIONS";

/// Milliseconds that the victim waits between two batches.
const PAUSE: &str = "CONVEYOR_TEST_VICTIM_PAUSE";

/// Set: it switches between builds, until it is killed.
const SWITCHES: &str = "CONVEYOR_TEST_VICTIM_SWITCHES";

/// Exit code of a victim that was told that somebody else owns its partition.
const FENCED: i32 = 77;
const DONE: i32 = 78;

/// Longest life of a victim that is left alone.
const LIFE_MAX: Duration = Duration::from_mins(2);

/// What all victims apply.
pub(crate) fn log() -> Log {
    let entry = |n: i64| match n % 17 {
        0 => Entry::Garbage,
        3 if n % 1_000 == 513 => Entry::Poison { account: 3 },
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

/// A process that applies the log. It dies with the test process, also when that is killed and the
/// victim is frozen.
pub(crate) struct Victim {
    child: Child,
    guard: Child,
}

/// Kills the process it is given unless it hears something before its input closes.
const GUARD: &str = r#"read -r released || kill -KILL "$0" 2>/dev/null"#;

/// How it ended by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Fenced,
    Failed,
}

impl Victim {
    pub(crate) fn start(url: &str, epoch: i64, partitions: &[i32]) -> Self {
        Self::start_with(url, epoch, partitions, &[])
    }

    /// One that is still at work some seconds later, on the fastest store.
    pub(crate) fn start_slow(url: &str, epoch: i64, partitions: &[i32]) -> Self {
        Self::start_with(url, epoch, partitions, &[(PAUSE, "1")])
    }

    /// One that switches between the builds 1 and 2.
    pub(crate) fn switching(url: &str) -> Self {
        Self::start_with(url, 0, &[], &[(SWITCHES, "yes")])
    }

    fn start_with(url: &str, epoch: i64, partitions: &[i32], more: &[(&str, &str)]) -> Self {
        let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim::victim_process", "--ignored"])
            .env(STORE, url)
            .env(EPOCH, epoch.to_string())
            .env(PARTITIONS, partitions.join(","))
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let guard = Command::new("sh")
            .args(["-c", GUARD, &child.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, guard }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn wake(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Until it ends by itself.
    pub(crate) fn wait(mut self) -> End {
        let begun = Instant::now();
        while begun.elapsed() < LIFE_MAX {
            match self.child.try_wait().unwrap().map(|status| status.code()) {
                Some(Some(FENCED)) => return End::Fenced,
                Some(Some(DONE)) => return End::Done,
                Some(_) => return End::Failed,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("the victim has not ended within {LIFE_MAX:?}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Already gone, in the usual case.
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(mut orders) = self.guard.stdin.take() {
            writeln!(orders, "released").ok();
        }
        self.guard.wait().ok();
    }
}

/// Not a test of its own: what the killed process does.
#[test]
#[ignore = "run by the tests that kill it"]
#[allow(clippy::exit, reason = "its exit code is its answer")]
fn victim_process() {
    let Ok(url) = std::env::var(STORE) else {
        return;
    };
    if std::env::var(SWITCHES).is_ok() {
        return run(switch_for_ever(&url));
    }
    let pause = std::env::var(PAUSE).ok().and_then(|ms| ms.parse().ok());
    let pause = Duration::from_millis(pause.unwrap_or(0));
    let epoch: i64 = std::env::var(EPOCH).unwrap().parse().unwrap();
    let partitions: Vec<TopicPartition> = std::env::var(PARTITIONS)
        .unwrap()
        .split(',')
        .map(|partition| TopicPartition::new("ledger", partition.parse().unwrap()))
        .collect();
    let ended = run(async {
        let store = open(&url).await;
        let prepared = patient!(store.prepare(applier().declaration()));
        prepared.unwrap();
        own_slowly(&log(), &*store, &partitions, epoch, 3, pause).await
    });
    std::process::exit(match ended {
        Ok(()) => DONE,
        Err(StoreError::Fenced { .. } | StoreError::NotAtPosition { .. }) => FENCED,
        Err(_) => 1,
    });
}

async fn switch_for_ever(url: &str) {
    let store = open_builds(url).await;
    loop {
        for tag in ["2", "1"] {
            patient!(store.switch(&build(tag))).unwrap();
        }
    }
}
