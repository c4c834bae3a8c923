//! The demo's node: a process of its own, so that it can be killed like one.

use std::fs::OpenOptions;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::folder::DemoFolder;

/// How long a node may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to stop in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    folder: DemoFolder,
    /// Where clients connect.
    pub(crate) grpc: String,
    /// From spawning the process to its being ready.
    pub(crate) started_in: Duration,
}

/// The line that `conveyor broker --format json` prints when it is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    grpc: String,
}

impl Node {
    /// Starts a node on any free port.
    pub(crate) async fn start(folder: &DemoFolder) -> anyhow::Result<Self> {
        Self::start_at(folder, "127.0.0.1:0").await
    }

    async fn start_at(folder: &DemoFolder, grpc: &str) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let program = std::env::current_exe().context("cannot tell this program's own path")?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.node_log())
            .with_context(|| format!("cannot write {}", folder.node_log().display()))?;
        let mut command = Command::new(program);
        command.args(["broker", "--format", "json", "--log", "info"]);
        for setting in crate::dev::settings(folder.path()) {
            command.args(["--set", &setting]);
        }
        command.args([
            "--set",
            &format!("listeners.grpc={grpc}"),
            "--set",
            "listeners=",
            "--set",
            "listeners.admin=",
        ]);
        // The demo's node is configured by the demo alone.
        for (name, _) in crate::broker::environment() {
            if name.starts_with(conveyor_server::config::ENV_PREFIX) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a node")?;
        let stdout = child
            .stdout
            .take()
            .context("the node has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIMEOUT, lines.next_line()).await;
        let ready: Ready = match line {
            Ok(Ok(Some(line))) => serde_json::from_str(&line).context("the node said nonsense")?,
            _ => anyhow::bail!(
                "the node did not start, see {}",
                folder.node_log().display()
            ),
        };
        let started_in = begun.elapsed();
        Ok(Self {
            child,
            folder: folder.clone(),
            grpc: ready.grpc,
            started_in,
        })
    }

    /// SIGKILL: no farewell, no checkpoint.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the node")
    }

    /// Starts the node again at the same address.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        *self = Self::start_at(&self.folder, &self.grpc).await?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            kill_process(pid, Signal::TERM).context("cannot stop the node")?;
        }
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        ended
            .context("the node does not stop")?
            .context("cannot wait for the node")
    }
}
