//! `conveyor bench`: load on a running node, and what it answers with.
//!
//! Open loop: with a rate, each record has an intended time that does not depend on how the node
//! answers, and its latency counts from then. A node that stalls for a second therefore shows a
//! second in every record that should have been sent meanwhile, not in one. Without a rate the
//! producer sends as fast as it can, which measures throughput; latencies then are those of a full
//! queue, and the result says so.

mod consume;
mod drive;
mod e2e;
mod load;
mod payload;
mod produce;
mod report;

use clap::{Args, Subcommand, ValueEnum};
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{Acks, AdminClient, Client, Codec, ProducerConfig};

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, note};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Send records; latency from the intended time to the acknowledgement
    Produce(LoadArgs),
    /// Read what is in a topic, as fast as it comes
    Consume(consume::ConsumeArgs),
    /// Send and receive; latency from the intended time to the consumer
    E2e(LoadArgs),
}

/// What `produce` and `e2e` send, and where.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor bench produce                            as fast as it goes, for ten seconds\n  \
    conveyor bench produce --rate 50000 --size 500    latency at a steady rate\n  \
    conveyor bench e2e --rate 1000 --linger-ms 0      how soon consumers see a record\n  \
    conveyor bench produce --keep --format json && conveyor bench consume")]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Created if it is missing, and deleted again unless --keep
    #[arg(long, default_value = "conveyor-bench")]
    topic: String,
    /// Partitions of the topic if it is created
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// `fsync` or `replicated`, if the topic is created; the node's default otherwise
    #[arg(long)]
    durability: Option<String>,
    /// Leave the topic where it is
    #[arg(long)]
    keep: bool,
    /// Records a second over all producers; 0 for as fast as possible
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// How long to send before measuring, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    warmup: f64,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    size: usize,
    /// Share of each value that repeats, 0 to 1: how well it compresses
    #[arg(long, default_value_t = 0.75, value_name = "SHARE")]
    compressibility: f64,
    /// Distinct keys; 0 for records without a key
    #[arg(long, default_value_t = 0)]
    keys: u64,
    /// Producers, each with its own connection
    #[arg(long, default_value_t = 1)]
    producers: usize,
    /// When a record counts as delivered
    #[arg(long, value_enum, default_value_t)]
    acks: AcksArg,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "zstd")]
    codec: Codec,
    /// How long a batch waits for more records; the SDK's default otherwise
    #[arg(long)]
    linger_ms: Option<u64>,
    /// Bytes at which a batch is full; the SDK's default otherwise
    #[arg(long, value_name = "BYTES")]
    batch_size: Option<usize>,
    /// The same seed gives the same values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: FormatArgs,
}

/// `acks` as a flag.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AcksArg {
    /// Durable on every in-sync replica
    #[default]
    All,
    /// In the leader's page cache
    Leader,
    /// Taken by the leader
    None,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Self {
        match acks {
            AcksArg::All => Self::All,
            AcksArg::Leader => Self::Leader,
            AcksArg::None => Self::None,
        }
    }
}

impl LoadArgs {
    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.duration.is_finite() && (0.1..=86_400.0).contains(&self.duration),
            "--duration {} is not between 0.1 and 86400 seconds",
            self.duration
        );
        anyhow::ensure!(
            self.warmup.is_finite() && (0.0..=3_600.0).contains(&self.warmup),
            "--warmup {} is not between 0 and 3600 seconds",
            self.warmup
        );
        anyhow::ensure!(
            (0.0..=1.0).contains(&self.compressibility),
            "--compressibility {} is not between 0 and 1",
            self.compressibility
        );
        anyhow::ensure!(
            (1..=64).contains(&self.producers),
            "--producers {} is not between 1 and 64",
            self.producers
        );
        anyhow::ensure!(
            (1..=16 << 20).contains(&self.size),
            "--size {} is not between 1 and 16777216",
            self.size
        );
        Ok(())
    }

    fn producer_config(&self) -> ProducerConfig {
        let defaults = ProducerConfig::default();
        ProducerConfig {
            acks: self.acks.into(),
            compression: self.codec,
            linger_ms: self.linger_ms.unwrap_or(defaults.linger_ms),
            batch_size: self.batch_size.unwrap_or(defaults.batch_size),
            max_request_size: defaults.max_request_size.max(2 * self.size + 1_024),
            ..defaults
        }
    }
}

pub(crate) async fn run(command: BenchCommand) -> anyhow::Result<Verdict> {
    match command {
        BenchCommand::Produce(args) => produce::run(args).await,
        BenchCommand::Consume(args) => consume::run(args).await,
        BenchCommand::E2e(args) => e2e::run(args).await,
    }
}

/// The topic that is measured, and whether it is ours to delete.
struct BenchTopic {
    admin: AdminClient,
    name: String,
    partitions: i32,
    /// `fsync` or `replicated`, as the node says.
    durability: String,
    is_ours: bool,
}

impl BenchTopic {
    /// Finds the topic or creates it.
    async fn prepare(client: &Client, args: &LoadArgs) -> anyhow::Result<Self> {
        let admin = AdminClient::new(client);
        let is_there = admin
            .list_topics(false)
            .await?
            .iter()
            .any(|one| one.name == args.topic);
        if !is_there {
            let mut topic = NewTopic::new(&args.topic).partitions(args.partitions);
            if let Some(durability) = &args.durability {
                topic = topic.config("conveyor.durability", durability);
            }
            admin.create_topic(topic).await?;
        } else if args.durability.is_some() {
            note("the topic is there already: its own partitions and durability are used");
        }
        let (partitions, durability) = describe(&admin, &args.topic).await?;
        let is_ours = !is_there && !args.keep;
        Ok(Self {
            admin,
            name: args.topic.clone(),
            partitions,
            durability,
            is_ours,
        })
    }

    async fn finish(self) -> anyhow::Result<()> {
        if self.is_ours {
            self.admin.delete_topic(&self.name).await?;
        }
        Ok(())
    }
}

/// Partition count and durability of a topic.
async fn describe(admin: &AdminClient, topic: &str) -> anyhow::Result<(i32, String)> {
    let partitions = admin.describe_topic(topic).await?.partitions.len();
    let logs = admin.describe_logs(&[topic]).await?;
    let durability = logs
        .first()
        .map_or_else(|| "?".to_owned(), |log| log.durability.clone());
    Ok((i32::try_from(partitions)?, durability))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use conveyor_server::{Broker, BrokerConfig};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: BenchCommand,
    }

    async fn bench(broker: &Broker, line: &str) -> anyhow::Result<Verdict> {
        let address = broker.grpc_address().to_string();
        let words = ["bench"].into_iter().chain(line.split_whitespace());
        let words = words.chain(["--bootstrap", &address, "--format", "json"]);
        run(Line::try_parse_from(words)?.command).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_is_measured_from_both_ends() {
        let dir = tempfile::tempdir().unwrap();
        let log_dir = dir.path().to_str().unwrap();
        let pairs = [
            ("log.dirs", log_dir),
            ("listeners", ""),
            ("listeners.grpc", "127.0.0.1:0"),
            ("listeners.admin", ""),
            ("conveyor.segment.pool.files", "0"),
        ];
        let broker = Broker::start(BrokerConfig::from_pairs(pairs).unwrap())
            .await
            .unwrap();
        let short = "--duration 0.3 --warmup 0.1 --size 100 --rate 500 --partitions 2";
        let e2e = bench(&broker, &format!("e2e {short} --topic e2e"))
            .await
            .unwrap();
        assert_eq!(e2e, Verdict::Fine);
        let produce = format!("produce {short} --producers 2 --keys 5 --keep");
        assert_eq!(bench(&broker, &produce).await.unwrap(), Verdict::Fine);
        assert_eq!(bench(&broker, "consume").await.unwrap(), Verdict::Fine);

        let client = conveyor_sdk::ClientConfig::new(broker.grpc_address().to_string());
        let admin = AdminClient::new(&Client::connect(client).await.unwrap());
        let topics = admin.list_topics(false).await.unwrap();
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(
            names,
            ["conveyor-bench"],
            "the topic that was not kept is gone"
        );
        broker.shutdown().await.unwrap();
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in [
            "--duration 0",
            "--compressibility 2",
            "--producers 0",
            "--size 0",
        ] {
            let line = format!("bench produce {wrong}");
            let line = Line::try_parse_from(line.split_whitespace()).ok().unwrap();
            let BenchCommand::Produce(args) = line.command else {
                panic!("not produce")
            };
            assert!(args.check().is_err(), "{wrong}");
        }
    }
}
