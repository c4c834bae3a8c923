//! A node of one test: a process on free ports in a temporary folder, killed at the end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary under test.
pub(crate) fn conveyor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONVEYOR_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running node.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    child: Child,
    address: String,
}

impl Node {
    /// A node with these settings beside what a test needs.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, address) = spawn(folder.path(), "127.0.0.1:0", settings);
        Self {
            folder,
            child,
            address,
        }
    }

    /// Where it listens for clients.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The folder of a partition.
    pub(crate) fn partition_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client command for this node.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = conveyor();
        command.args(args).env("CONVEYOR_BOOTSTRAP", &self.address);
        command
    }

    /// What a client command prints; it must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        stdout_of(args, &self.command(args).output().unwrap())
    }

    /// The same with standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> String {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        stdout_of(args, &child.wait_with_output().unwrap())
    }

    /// The JSON document that a client command prints.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }

    /// The JSON documents that a client command prints, one a line.
    pub(crate) fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        self.run(args)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A client command that must fail: its exit code and what it says.
    pub(crate) fn refused(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(args).output().unwrap();
        assert!(!output.status.success(), "{args:?} succeeded");
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
        assert!(
            self.child.wait().unwrap().success(),
            "the node did not stop in order"
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(folder: &Path, grpc: &str, settings: &[&str]) -> (Child, String) {
    let data = format!("log.dirs={}", folder.join("data").display());
    let grpc = format!("listeners.grpc={grpc}");
    let mut command = conveyor();
    command.args(["broker", "--format", "json", "--log", "warn"]);
    let kafka = "listeners=PLAINTEXT://127.0.0.1:0";
    for setting in [data.as_str(), &grpc, kafka, "listeners.admin="]
        .iter()
        .chain(settings)
    {
        command.args(["--set", setting]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let ready: Value = serde_json::from_str(&ready).expect("the node did not start");
    (child, ready["grpc"].as_str().unwrap().to_owned())
}

fn stdout_of(args: &[&str], output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?} failed with {:?}: {stderr}",
        output.status.code()
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Waits for something that another process does.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}
