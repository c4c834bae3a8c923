//! Streaming produce over gRPC: a real node beside a bare tonic server, in one table.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use conveyor_benches::engine;
use conveyor_benches::grpc::{client, echo};
use conveyor_benches::report::{Case, json, table};
use conveyor_benches::run::{Pairs, Run};
use conveyor_server::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Bytes sent in one run, by all streams.
const RUN_BYTES: usize = 512 << 20;

/// The topic that is produced to.
const TOPIC: &str = "bench";
/// How often, and how many times, it is looked whether the pool is full.
const POOL_WAIT: Duration = Duration::from_secs(1);
/// See [`POOL_WAIT`].
const POOL_WAITS: usize = 60;

/// Measures streaming produce over gRPC beside a server that only acknowledges.
#[derive(Debug, Parser)]
#[command(name = "grpc", version, about)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs both servers in turn and compares.
    Compare {
        /// Pairs of runs for each line.
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// KiB of a batch.
        #[arg(long, default_value_t = 64)]
        batch_kib: usize,
        /// Where the node's files go; needs 4 GB.
        #[arg(long, default_value = "/var/tmp")]
        folder: PathBuf,
        /// Leave the node's pool of zero-filled segments as it is by default, so that most of what
        /// is written makes the files grow. Otherwise each partition finds a file for all of it.
        #[arg(long)]
        default_pool: bool,
        /// Also write all runs as JSON to this file.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Serves the produce contract without storing anything, and prints its address.
    Echo,
    /// Runs a node in a folder, and prints its address.
    Node {
        /// The folder.
        folder: PathBuf,
        /// Settings, as `name=value`.
        settings: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Options::parse().task {
        Task::Compare {
            pairs,
            batch_kib,
            folder,
            default_pool,
            json,
        } => {
            let folder = TempDir::with_prefix_in("conveyor-bench-", folder)?;
            let bench = Bench {
                batches: engine::batches(batch_kib << 10)?.into(),
                folder: folder.path().to_owned(),
                default_pool,
            };
            bench.compare(pairs, json.as_deref()).await
        }
        Task::Echo => {
            let (address, serving) = echo::serve().await?;
            announce(address)?;
            serving.await
        }
        Task::Node { folder, settings } => {
            let node = Broker::start(node_config(&folder, settings)?).await?;
            announce(node.grpc_address())?;
            node.stopped().await;
            Ok(())
        }
    }
}

fn node_config(folder: &Path, mut settings: Vec<String>) -> Result<BrokerConfig> {
    settings.push("listeners=".to_owned());
    settings.push("listeners.grpc=127.0.0.1:0".to_owned());
    settings.push("listeners.admin=".to_owned());
    settings.push(format!("log.dirs={}", folder.display()));
    Ok(BrokerConfig::load(None, [], &settings)?)
}

fn announce(address: SocketAddr) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{address}")?;
    Ok(out.flush()?)
}

/// A server in a process of its own, killed when this is dropped.
struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    fn start(arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("start a server process")?;
        let out = child.stdout.take().context("server has no stdout")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("server printed {line:?} instead of its address"))?;
        Ok(Self { child, address })
    }

    /// CPU seconds of the process so far, from `/proc`.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let ticks = |n: usize| -> Result<f64> {
            Ok(fields.get(n).context("short /proc stat")?.parse::<f64>()?)
        };
        Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What all runs have in common.
struct Bench {
    batches: Arc<[Bytes]>,
    folder: PathBuf,
    default_pool: bool,
}

impl Bench {
    #[allow(clippy::print_stdout, reason = "a report is for the terminal")]
    async fn compare(&self, pairs: usize, out: Option<&Path>) -> Result<()> {
        let mut cases = Vec::new();
        for durability in ["replicated", "fsync"] {
            for streams in [1, 4] {
                cases.push(self.case(pairs, durability, streams).await?);
            }
        }
        println!("{}", table(&cases));
        println!("s/GB is the server's.");
        if let Some(path) = out {
            fs::write(path, json(&cases)?)?;
        }
        Ok(())
    }

    async fn case(&self, pairs: usize, durability: &str, streams: usize) -> Result<Case> {
        let mut taken = Pairs::default();
        for pair in 0..pairs {
            // A B B A, as everywhere.
            for node_now in [pair % 2 == 0, pair % 2 == 1] {
                if node_now {
                    taken.engine.push(self.node_run(durability, streams).await?);
                } else {
                    let echo = ServerProcess::start(&["echo".to_owned()])?;
                    taken
                        .raw
                        .push(produce_run(&echo, &self.batches, streams).await?);
                }
            }
        }
        let kib = self.batches[0].len().div_ceil(1024);
        Ok(Case {
            name: format!("produce {kib} KiB, {streams} streams, {durability}"),
            raw: "tonic echo",
            goal: Some(0.5),
            pairs: taken,
        })
    }

    async fn node_run(&self, durability: &str, streams: usize) -> Result<Run> {
        let folder = TempDir::with_prefix_in("node-", &self.folder)?;
        let mut arguments = vec!["node".to_owned(), folder.path().display().to_string()];
        if !self.default_pool {
            // The metadata log and the offsets' log take one each as well.
            let bytes = RUN_BYTES / streams + (1 << 20);
            arguments.push(format!("conveyor.segment.pool.bytes={bytes}"));
            arguments.push(format!("conveyor.segment.pool.files={streams}"));
        }
        let node = ServerProcess::start(&arguments)?;
        if !self.default_pool {
            wait_for_pool(folder.path(), streams).await?;
        }
        let channel = client::connect(node.address).await?;
        let configs = [("conveyor.durability", durability)];
        client::create_topic(channel, TOPIC, streams as i32, &configs).await?;
        produce_run(&node, &self.batches, streams).await
    }
}

/// Waits until the pool has its files and they are whole.
async fn wait_for_pool(folder: &Path, files: usize) -> Result<()> {
    let mut before = (0, 0);
    for _ in 0..POOL_WAITS {
        tokio::time::sleep(POOL_WAIT).await;
        let mut now = (0, 0);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".pool-") {
                now = (now.0 + 1, now.1 + entry.metadata()?.len());
            }
        }
        if now.0 >= files && now == before {
            return Ok(());
        }
        before = now;
    }
    bail!(
        "the pool has not filled: {} files, {} bytes",
        before.0,
        before.1
    )
}

/// Each stream has a connection and a partition of its own. The CPU time is the server's.
async fn produce_run(
    server: &ServerProcess,
    batches: &Arc<[Bytes]>,
    streams: usize,
) -> Result<Run> {
    let each = RUN_BYTES / batches[0].len() / streams;
    let mut channels = Vec::new();
    for _ in 0..streams {
        channels.push(client::connect(server.address).await?);
    }
    let cpu_before = server.cpu_seconds()?;
    let before = Instant::now();
    let mut sending = JoinSet::new();
    for (partition, channel) in (0..).zip(channels) {
        let topic = TOPIC.to_owned();
        sending.spawn(client::produce(
            channel,
            topic,
            partition,
            Arc::clone(batches),
            each,
        ));
    }
    let mut bytes = 0;
    while let Some(sent) = sending.join_next().await {
        bytes += sent??;
    }
    ensure!(bytes > 0, "nothing was sent");
    Ok(Run {
        bytes,
        operations: (each * streams) as u64,
        seconds: before.elapsed().as_secs_f64(),
        cpu_seconds: server.cpu_seconds()? - cpu_before,
    })
}
