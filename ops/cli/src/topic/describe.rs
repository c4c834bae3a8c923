//! `conveyor topic describe`.

use clap::Args;
use conveyor_sdk::admin::{AdminClient, ConfigResource, ConfigSource, LogDescription};
use serde::Serialize;

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable, bytes_text, moment_text, section};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor topic describe order-events\n  \
    conveyor topic describe order-events -a --format json\n\n\
    Without -s, -c or -p the summary and the partitions are shown.")]
pub(crate) struct DescribeArgs {
    /// Names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// The summary
    #[arg(long, short = 's')]
    print_summary: bool,
    /// The settings
    #[arg(long, short = 'c')]
    print_configs: bool,
    /// The partitions
    #[arg(long, short = 'p')]
    print_partitions: bool,
    /// Everything
    #[arg(long, short = 'a')]
    print_all: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct Description {
    name: String,
    topic_id: String,
    internal: bool,
    partition_count: usize,
    replicas: usize,
    /// `fsync` or `replicated`.
    durability: String,
    /// What an acknowledgement of a record means.
    promise: String,
    records: i64,
    size_bytes: i64,
    configs: Vec<Setting>,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Setting {
    name: String,
    value: String,
    source: &'static str,
    documentation: String,
}

#[derive(Debug, Serialize)]
struct Partition {
    #[serde(rename = "partition")]
    number: i32,
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync_replicas: Vec<i32>,
    log_start_offset: Option<i64>,
    high_watermark: Option<i64>,
    synced_offset: Option<i64>,
    log_end_offset: Option<i64>,
    size_bytes: Option<i64>,
    segments: Option<i32>,
    last_timestamp: Option<i64>,
    data_dir: Option<String>,
    fault: Option<String>,
}

pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let mut described = Vec::with_capacity(args.topics.len());
    for topic in &args.topics {
        described.push(describe(&admin, topic).await?);
    }
    args.format.print(&described, |described| {
        let texts = described.iter().map(|topic| text(topic, &args));
        texts.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Verdict::Fine)
}

async fn describe(admin: &AdminClient, name: &str) -> anyhow::Result<Description> {
    let topic = admin.describe_topic(name).await?;
    let logs = admin.describe_logs(&[name]).await?;
    let configs = admin
        .describe_configs(&ConfigResource::Topic(name.to_owned()), &[])
        .await?;
    let durability = configs
        .iter()
        .find(|config| config.name == "conveyor.durability")
        .map_or_else(|| "fsync".to_owned(), |config| config.value.clone());
    let replicas = topic.partitions.first().map_or(0, |p| p.replicas.len());
    let partitions = topic.partitions.iter().map(|partition| {
        let log = logs
            .iter()
            .find(|log| log.partition.partition == partition.partition);
        let ids =
            |nodes: &[conveyor_record::NodeId]| nodes.iter().map(|node| node.value()).collect();
        let offset =
            |of: fn(&LogDescription) -> conveyor_sdk::Offset| log.map(|log| of(log).value());
        Partition {
            number: partition.partition,
            leader: partition.leader.value(),
            leader_epoch: partition.leader_epoch.value(),
            replicas: ids(&partition.replicas),
            in_sync_replicas: ids(&partition.in_sync_replicas),
            log_start_offset: offset(|log| log.log_start_offset),
            high_watermark: offset(|log| log.high_watermark),
            synced_offset: offset(|log| log.synced_offset),
            log_end_offset: offset(|log| log.log_end_offset),
            size_bytes: log.map(|log| log.size_bytes),
            segments: log.map(|log| log.segment_count),
            last_timestamp: log.and_then(|log| log.max_timestamp_ms),
            data_dir: log.map(|log| log.data_dir.clone()),
            fault: log.and_then(|log| log.fault.clone()),
        }
    });
    Ok(Description {
        name: topic.name.clone(),
        topic_id: topic.topic_id.to_string(),
        internal: topic.is_internal,
        partition_count: topic.partitions.len(),
        replicas,
        promise: promise(&durability, replicas),
        durability,
        records: logs
            .iter()
            .map(|log| (log.high_watermark - log.log_start_offset).max(0))
            .sum(),
        size_bytes: logs.iter().map(|log| log.size_bytes).sum(),
        configs: configs.into_iter().map(setting).collect(),
        partitions: partitions.collect(),
    })
}

/// The durability contract in one sentence.
fn promise(durability: &str, replicas: usize) -> String {
    match (durability, replicas) {
        ("replicated", 0 | 1) => "acknowledged records are in the page cache of the only replica: \
             they survive SIGKILL, not a power cut"
            .to_owned(),
        ("replicated", _) => {
            "acknowledged records are in the page cache of every in-sync replica: \
             a power cut of all of them at once can lose them"
                .to_owned()
        }
        (_, 0 | 1) => "acknowledged records have been synced to disk: they survive SIGKILL and \
             power cuts, not the loss of the only replica's disk"
            .to_owned(),
        _ => {
            "acknowledged records have been synced to disk by every in-sync replica: they survive \
             SIGKILL and power cuts of all nodes"
                .to_owned()
        }
    }
}

fn setting(config: conveyor_sdk::admin::ConfigEntry) -> Setting {
    Setting {
        value: if config.is_sensitive {
            "(hidden)".to_owned()
        } else {
            config.value
        },
        name: config.name,
        source: match config.source {
            ConfigSource::Topic => "topic",
            ConfigSource::StaticBroker => "node",
            ConfigSource::Default => "default",
            ConfigSource::Unknown => "unknown",
        },
        documentation: config.documentation,
    }
}

fn text(topic: &Description, args: &DescribeArgs) -> String {
    let none = !(args.print_summary || args.print_configs || args.print_partitions);
    let mut text = String::new();
    if none || args.print_summary || args.print_all {
        text += &section("summary", &summary_text(topic));
        text.push('\n');
    }
    if args.print_configs || args.print_all {
        text += &section("configs", &configs_text(topic));
        text.push('\n');
    }
    if none || args.print_partitions || args.print_all {
        text += &section("partitions", &partitions_text(topic));
    }
    text
}

fn summary_text(topic: &Description) -> String {
    let set: Vec<_> = topic
        .configs
        .iter()
        .filter(|setting| setting.source == "topic")
        .map(|setting| format!("{}={}", setting.name, setting.value))
        .collect();
    let lines = [
        ("NAME", topic.name.clone()),
        ("ID", topic.topic_id.clone()),
        ("INTERNAL", topic.internal.to_string()),
        ("PARTITIONS", topic.partition_count.to_string()),
        ("REPLICAS", topic.replicas.to_string()),
        ("RECORDS", topic.records.to_string()),
        ("SIZE", bytes_text(topic.size_bytes.max(0) as u64)),
        (
            "CONFIGS",
            if set.is_empty() {
                "(all default)".to_owned()
            } else {
                set.join(" ")
            },
        ),
        (
            "DURABILITY",
            format!("{}: {}", topic.durability, topic.promise),
        ),
    ];
    lines
        .map(|(name, value)| format!("{name:<12}{value}"))
        .join("\n")
}

fn configs_text(topic: &Description) -> String {
    let mut table = TextTable::new(["KEY", "VALUE", "SOURCE", "WHAT IT DOES"]);
    for setting in &topic.configs {
        table.row([
            setting.name.clone(),
            setting.value.clone(),
            setting.source.to_owned(),
            setting.documentation.clone(),
        ]);
    }
    table.render()
}

fn partitions_text(topic: &Description) -> String {
    let mut table = TextTable::new([
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "LOG-START",
        "HIGH-WATERMARK",
        "SIZE",
        "LAST-RECORD",
        "FAULT",
    ]);
    for partition in &topic.partitions {
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row([
            partition.number.to_string(),
            partition.leader.to_string(),
            partition.leader_epoch.to_string(),
            format!("{:?}", partition.replicas),
            number(partition.log_start_offset),
            number(partition.high_watermark),
            partition
                .size_bytes
                .map_or_else(|| "-".to_owned(), |n| bytes_text(n.max(0) as u64)),
            moment_text(partition.last_timestamp.unwrap_or(-1)),
            partition.fault.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}
