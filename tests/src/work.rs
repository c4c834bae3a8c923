//! A command of the binary at work beside a node: killed, stopped, started again. What it says goes to
//! a file, which failures quote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::node::{binary, signal};

/// How long a command may take to stop in order.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// Its number on Linux.
const SIGTERM: u32 = 15;

/// A command at work, killed when dropped.
#[derive(Debug)]
pub struct Work {
    arguments: Vec<String>,
    log: PathBuf,
    process: Child,
}

impl Work {
    /// Starts it; what it says is added to `log`.
    pub fn start(arguments: &[&str], log: PathBuf) -> Result<Self> {
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let process = spawn(&arguments, &log)?;
        Ok(Self {
            arguments,
            log,
            process,
        })
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// The same command again, after its end.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.arguments, &self.log)?;
        Ok(())
    }

    /// SIGKILL, and the same command again; whether it was still at work.
    pub fn kill_and_start_again(&mut self) -> Result<bool> {
        let at_work = self.process.try_wait()?.is_none();
        if at_work {
            self.kill()?;
            self.start_again()?;
        }
        Ok(at_work)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGTERM, once the command takes it; an error unless it ends with success.
    pub fn stop(&mut self) -> Result<()> {
        self.await_handler()?;
        signal(self.process.id(), "TERM")?;
        let status = self.end_within(STOP_TIMEOUT)?;
        self.check_success(status)
    }

    /// Waits until a SIGTERM no longer ends the process by itself, as it does before its first lines
    /// have run.
    fn await_handler(&self) -> Result<()> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            // One that has ended by itself is told of by whoever waits for its end.
            if catches_sigterm(self.process.id())?.unwrap_or(true) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!(
            "{:?} takes no SIGTERM within {STOP_TIMEOUT:?}:\n{}",
            self.arguments,
            self.said()
        )
    }

    /// Waits for its end; an error unless with success.
    pub fn finish(&mut self, within: Duration) -> Result<()> {
        let status = self.end_within(within)?;
        self.check_success(status)
    }

    /// Waits for its end.
    pub fn end_within(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "{:?} does not end within {limit:?}:\n{}",
            self.arguments,
            self.said()
        )
    }

    /// An error if it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            Some(status) => bail!("{:?} ended with {status}:\n{}", self.arguments, self.said()),
            None => Ok(()),
        }
    }

    /// The last lines of what it has said.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn check_success(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("{:?} ended with {status}:\n{}", self.arguments, self.said());
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Whether a process has a handler for SIGTERM; nothing of one that has ended.
fn catches_sigterm(process: u32) -> Result<Option<bool>> {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
        return Ok(None);
    };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.context("/proc tells of no caught signals")?;
    let mask = u64::from_str_radix(mask.trim(), 16)?;
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    Ok((!is_zombie).then_some(mask & (1 << (SIGTERM - 1)) != 0))
}

fn spawn(arguments: &[String], log: &Path) -> Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    let child = Command::new(binary()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

/// The JSON document that a command of the binary prints; an error unless it succeeds.
pub fn told(arguments: &[&str]) -> Result<serde_json::Value> {
    let output = Command::new(binary()?)
        .args(arguments)
        .args(["--format", "json"])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{arguments:?} ended with {}: {said}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {arguments:?} prints"))
}
