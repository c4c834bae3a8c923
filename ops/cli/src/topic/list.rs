//! `conveyor topic list`.

use clap::Args;
use conveyor_sdk::admin::AdminClient;
use serde::Serialize;

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable, bytes_text};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor topic list\n  \
    conveyor topic list --internal --format json")]
pub(crate) struct ListArgs {
    /// Only topics whose name contains this
    #[arg(value_name = "TEXT")]
    containing: Option<String>,
    /// Also topics that belong to the cluster itself
    #[arg(long, short = 'i')]
    internal: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct ListedTopic {
    name: String,
    partitions: usize,
    replicas: usize,
    /// Records that consumers can read.
    records: i64,
    size_bytes: i64,
}

pub(crate) async fn run(args: ListArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let mut topics = admin.list_topics(args.internal).await?;
    if let Some(text) = &args.containing {
        topics.retain(|topic| topic.name.contains(text.as_str()));
    }
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let logs = if names.is_empty() {
        Vec::new()
    } else {
        admin.describe_logs(&names).await?
    };
    let listed = topics.iter().map(|topic| {
        let logs = || {
            logs.iter()
                .filter(|log| *log.partition.topic == *topic.name)
        };
        ListedTopic {
            name: topic.name.clone(),
            partitions: topic.partitions.len(),
            replicas: topic.partitions.first().map_or(0, |p| p.replicas.len()),
            records: logs()
                .map(|log| (log.high_watermark - log.log_start_offset).max(0))
                .sum(),
            size_bytes: logs().map(|log| log.size_bytes).sum(),
        }
    });
    let listed: Vec<_> = listed.collect();
    args.format.print(&listed, |listed| {
        let mut table = TextTable::new(["NAME", "PARTITIONS", "REPLICAS", "RECORDS", "SIZE"]);
        for topic in listed {
            table.row([
                topic.name.clone(),
                topic.partitions.to_string(),
                topic.replicas.to_string(),
                topic.records.to_string(),
                bytes_text(topic.size_bytes.max(0) as u64),
            ]);
        }
        table.render()
    })?;
    Ok(Verdict::Fine)
}
