//! A broker as a real process: started with a settings file of its own, killed, stopped, restarted.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ports::free_addresses;

/// How long a node may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a node may take to stop cleanly.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// A node whose process can be killed and started again over the same folder.
#[derive(Debug)]
pub struct Node {
    folder: PathBuf,
    grpc: SocketAddr,
    kafka: SocketAddr,
    admin: SocketAddr,
    process: Option<Child>,
}

impl Node {
    /// Starts a node whose settings, log and data lie in `folder`; returns when it answers.
    /// `settings` are added to the file, values as TOML.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let [grpc, kafka, admin] = free_addresses()?;
        let data = folder.join("data");
        let mut lines = BTreeMap::from([
            ("listeners", format!("\"PLAINTEXT://{kafka}\"")),
            ("listeners.grpc", format!("\"{grpc}\"")),
            ("listeners.admin", format!("\"{admin}\"")),
            ("log.dirs", format!("[\"{}\"]", data.display())),
        ]);
        lines.extend(
            settings
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let lines = lines
            .iter()
            .map(|(name, value)| format!("\"{name}\" = {value}\n"));
        let file: Vec<String> = lines.collect();
        fs::write(folder.join("broker.toml"), file.concat())?;
        let mut node = Self {
            folder: folder.to_path_buf(),
            grpc,
            kafka,
            admin,
            process: None,
        };
        node.restart()?;
        Ok(node)
    }

    /// Starts the process again, on the same ports, and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_until_ready()
    }

    /// Starts the process and returns at once.
    pub fn spawn(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "the node runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("broker.log"))?;
        let child = Command::new(binary()?)
            .args(["broker", "--config"])
            .arg(self.folder.join("broker.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the broker")?;
        self.process = Some(child);
        Ok(())
    }

    /// Waits until the node takes calls.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ready = self.is_ready();
            let child = self.process.as_mut().context("the node was not started")?;
            if let Some(status) = child.try_wait()? {
                bail!("the broker ended with {status}:\n{}", self.log_text());
            }
            if ready {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the broker does not answer on {}:\n{}",
                    self.grpc,
                    self.log_text()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_ready(&self) -> bool {
        http_get(self.admin, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Kills the process with SIGKILL: nothing is written any more, nothing is said to clients.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.process.take().context("the node does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Freezes the process, as a power cut stops the processors: when this returns, none of its
    /// threads runs any code of its own. System calls under way go on.
    pub fn freeze(&self) -> Result<()> {
        let id = self.process_id()?;
        signal(id, "STOP")?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !threads_stand_still(id)? {
            if Instant::now() > deadline {
                bail!("process {id} does not freeze");
            }
        }
        Ok(())
    }

    /// Stops the process with SIGTERM and waits; an error unless it ends with success.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.process.take().context("the node does not run")?;
        signal(child.id(), "TERM")?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the broker stopped with {status}:\n{}", self.log_text());
            }
            if Instant::now() > deadline {
                child.kill()?;
                bail!(
                    "the broker did not stop within {STOP_TIMEOUT:?}:\n{}",
                    self.log_text()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Address of the gRPC listener, as `host:port`.
    pub fn address(&self) -> String {
        self.grpc.to_string()
    }

    /// Address of the Kafka listener.
    pub fn kafka_address(&self) -> SocketAddr {
        self.kafka
    }

    /// Body of an answer of the admin listener.
    pub fn admin_get(&self, path: &str) -> Result<String> {
        let answer = http_get(self.admin, path)?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("an HTTP answer has a body")?;
        Ok(body.to_owned())
    }

    /// Process id of the running node.
    pub fn process_id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the node does not run")?.id())
    }

    /// The node's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a partition in the node's first data directory.
    pub fn partition_folder(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder
            .join("data")
            .join(format!("{topic}-{partition}"))
    }

    /// What the broker has logged, the last 64 KiB.
    pub fn log_text(&self) -> String {
        let text = fs::read(self.folder.join("broker.log")).unwrap_or_default();
        let tail = text.len().saturating_sub(64 << 10);
        String::from_utf8_lossy(&text[tail..]).into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The `conveyor` binary that was built beside this test.
pub fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.ancestors().find(|path| path.join("deps").is_dir());
    let binary = profile.context("a target folder")?.join("conveyor");
    if !binary.is_file() {
        bail!(
            "{} is missing: `cargo build --workspace` makes it",
            binary.display()
        );
    }
    Ok(binary)
}

/// Whether every thread is stopped, or in a system call that it cannot return from any more.
fn threads_stand_still(process: u32) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        // The state follows the name, which is in brackets and may hold anything.
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'D')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sends a signal by name.
pub fn signal(process: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status()?;
    if !status.success() {
        bail!("cannot send SIG{name} to process {process}");
    }
    Ok(())
}

fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
