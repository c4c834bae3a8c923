//! Streaming produce over gRPC: a real node beside a bare tonic server, in one table.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::{env, fs, io};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use conveyor_benches::engine;
use conveyor_benches::grpc::{client, echo};
use conveyor_benches::report::{Case, json, table};
use conveyor_benches::run::{Pairs, Run};
use conveyor_server::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Bytes sent in one run.
const RUN_BYTES: usize = 1 << 30;

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
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Options::parse().task {
        Task::Compare {
            pairs,
            batch_kib,
            folder,
            json,
        } => compare(pairs, batch_kib << 10, &folder, json.as_deref()).await,
        Task::Echo => {
            let (address, serving) = echo::serve().await?;
            announce(address)?;
            serving.await
        }
        Task::Node { folder } => {
            let node = Broker::start(node_config(&folder)?).await?;
            announce(node.grpc_address())?;
            node.stopped().await;
            Ok(())
        }
    }
}

fn node_config(folder: &Path) -> Result<BrokerConfig> {
    let data = folder.to_str().context("folder is not text")?;
    Ok(BrokerConfig::from_pairs([
        ("listeners.grpc", "127.0.0.1:0"),
        ("listeners.admin", ""),
        ("log.dirs", data),
    ])?)
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
    fn start(arguments: &[&str]) -> Result<Self> {
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

#[allow(clippy::print_stdout, reason = "a report is for the terminal")]
async fn compare(pairs: usize, batch: usize, folder: &Path, out: Option<&Path>) -> Result<()> {
    let folder = TempDir::with_prefix_in("conveyor-bench-", folder)?;
    let batches: Arc<[Bytes]> = engine::batches(batch)?.into();
    let mut cases = Vec::new();
    for durability in ["replicated", "fsync"] {
        for streams in [1, 4] {
            let mut taken = Pairs::default();
            for pair in 0..pairs {
                // A B B A, as everywhere.
                for node_now in [pair % 2 == 0, pair % 2 == 1] {
                    if node_now {
                        let run = node_run(folder.path(), durability, &batches, streams).await?;
                        taken.engine.push(run);
                    } else {
                        taken.raw.push(echo_run(&batches, streams).await?);
                    }
                }
            }
            cases.push(Case {
                name: format!(
                    "produce {} KiB, {streams} streams, {durability}",
                    batch >> 10
                ),
                raw: "tonic echo",
                goal: Some(0.5),
                pairs: taken,
            });
        }
    }
    println!("{}", table(&cases));
    println!("s/GB is the server's.");
    if let Some(path) = out {
        fs::write(path, json(&cases)?)?;
    }
    Ok(())
}

async fn node_run(
    folder: &Path,
    durability: &str,
    batches: &Arc<[Bytes]>,
    streams: i32,
) -> Result<Run> {
    let folder = TempDir::with_prefix_in("node-", folder)?;
    let path = folder.path().to_str().context("folder is not text")?;
    let node = ServerProcess::start(&["node", path])?;
    let channel = client::connect(node.address).await?;
    let configs = [("conveyor.durability", durability)];
    client::create_topic(channel, "bench", streams, &configs).await?;
    produce_run(&node, batches, streams).await
}

async fn echo_run(batches: &Arc<[Bytes]>, streams: i32) -> Result<Run> {
    produce_run(&ServerProcess::start(&["echo"])?, batches, streams).await
}

/// Each stream has a connection and a partition of its own. The CPU time is the server's.
async fn produce_run(server: &ServerProcess, batches: &Arc<[Bytes]>, streams: i32) -> Result<Run> {
    let each = RUN_BYTES / batches[0].len() / streams as usize;
    let mut channels = Vec::new();
    for _ in 0..streams {
        channels.push(client::connect(server.address).await?);
    }
    let cpu_before = server.cpu_seconds()?;
    let before = std::time::Instant::now();
    let mut sending = JoinSet::new();
    for (partition, channel) in (0..).zip(channels) {
        let topic = "bench".to_owned();
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
        operations: (each * streams as usize) as u64,
        seconds: before.elapsed().as_secs_f64(),
        cpu_seconds: server.cpu_seconds()? - cpu_before,
    })
}
