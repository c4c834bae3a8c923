//! Apache Kafka's broker as a child process: a single node that is its own controller.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kafka_jars::java;
use crate::ports::free_addresses;

/// How long it may take until it listens: a JVM on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// Any id will do; a fixed one makes runs alike.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// A running broker; dropping it kills the process.
#[derive(Debug)]
pub struct KafkaBroker {
    folder: PathBuf,
    address: SocketAddr,
    process: Child,
}

impl KafkaBroker {
    /// Starts a broker with its files in `folder`, and waits until it listens.
    ///
    /// Clients are told to come to `advertised`, if given. `settings` are added to its file.
    pub fn start(
        folder: &Path,
        advertised: Option<SocketAddr>,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let [address, controller] = free_addresses()?;
        let advertised = advertised.unwrap_or(address);
        let mut lines = vec![
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.bootstrap.servers={controller}"),
            format!("listeners=PLAINTEXT://{address},CONTROLLER://{controller}"),
            format!("advertised.listeners=PLAINTEXT://{advertised}"),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned(),
            format!("log.dirs={}", folder.join("data").display()),
            "offsets.topic.replication.factor=1".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "share.coordinator.state.topic.replication.factor=1".to_owned(),
            "share.coordinator.state.topic.min.isr=1".to_owned(),
        ];
        lines.extend(
            settings
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        let file = folder.join("server.properties");
        fs::write(&file, lines.join("\n"))?;
        format_storage(&file)?;
        let log = fs::File::create(folder.join("kafka.log"))?;
        let process = java("512m")?
            .arg("kafka.Kafka")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start Apache Kafka")?;
        let mut broker = Self {
            folder: folder.to_path_buf(),
            address,
            process,
        };
        broker.wait_until_it_listens()?;
        Ok(broker)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("Apache Kafka ended with {status}:\n{}", self.log());
            }
            if Instant::now() > deadline {
                bail!(
                    "Apache Kafka does not listen on {}:\n{}",
                    self.address,
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("kafka.log")).unwrap_or_default()
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn format_storage(file: &Path) -> Result<()> {
    let output = java("256m")?
        .args(["kafka.tools.StorageTool", "format", "--standalone"])
        .args(["-t", CLUSTER_ID, "-c"])
        .arg(file)
        .output()?;
    if !output.status.success() {
        bail!("cannot format: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
