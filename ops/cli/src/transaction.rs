//! `conveyor transaction`: transactions of producers, and an end to what hangs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use conveyor_sdk::admin::{
    AdminClient, HangingTransaction, TransactionDescription, TransactionFilter,
};
use conveyor_sdk::{Offset, TopicPartition};
use serde::Serialize;

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable, note};
use crate::topic::print_results;

#[derive(Debug, Subcommand)]
pub(crate) enum TransactionCommand {
    /// List transactional ids
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show producer, state and partitions of transactional ids
    Describe(DescribeArgs),
    /// Abort an open transaction and fence its producer
    Abort(AbortArgs),
    /// Find transactions that nobody will ever end; exit code 3 if there are any
    Hanging(HangingArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor transaction list --state Ongoing\n  \
    conveyor transaction list --open-for-ms 60000 --format json")]
pub(crate) struct ListArgs {
    /// Only ids in this state (Empty, Ongoing, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`,
    /// `CompleteAbort`); may be given again
    #[arg(long, short = 's')]
    state: Vec<String>,
    /// Only ids of this producer; may be given again
    #[arg(long, value_name = "ID")]
    producer_id: Vec<i64>,
    /// Only transactions that have been open for at least so long
    #[arg(long, value_name = "MS", default_value_t = 0)]
    open_for_ms: i64,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  conveyor transaction describe order-transfers")]
pub(crate) struct DescribeArgs {
    /// Transactional ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor transaction abort order-transfers\n  \
    conveyor transaction abort --topic orders --partition 3 --start-offset 1712\n\n\
    The second form is for what `conveyor transaction hanging` has found.")]
pub(crate) struct AbortArgs {
    /// Transactional ids whose open transaction is to be aborted
    #[arg(value_name = "ID", required_unless_present = "topic", conflicts_with_all = ["topic", "partition", "start_offset"])]
    ids: Vec<String>,
    /// Topic of a hanging transaction
    #[arg(long, requires_all = ["partition", "start_offset"])]
    topic: Option<String>,
    /// Its partition
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Where it begins
    #[arg(long, requires = "topic", value_name = "OFFSET")]
    start_offset: Option<i64>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  conveyor transaction hanging --silent-for-ms 900000")]
pub(crate) struct HangingArgs {
    /// Only transactions whose producer has been silent for at least so long
    #[arg(long, value_name = "MS", default_value_t = 0)]
    silent_for_ms: i64,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) async fn run(command: TransactionCommand) -> anyhow::Result<Verdict> {
    match command {
        TransactionCommand::List(args) => list(args).await,
        TransactionCommand::Describe(args) => describe(args).await,
        TransactionCommand::Abort(args) => abort(args).await,
        TransactionCommand::Hanging(args) => hanging(args).await,
    }
}

#[derive(Debug, Serialize)]
struct ListedTransaction {
    transactional_id: String,
    producer_id: i64,
    state: String,
    open_for_ms: Option<i64>,
}

async fn list(args: ListArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let filter = TransactionFilter {
        states: args.state,
        producer_ids: args.producer_id,
        open_for_ms: args.open_for_ms,
    };
    let listed = admin.list_transactions(&filter).await?.into_iter();
    let listed: Vec<_> = listed
        .map(|one| ListedTransaction {
            open_for_ms: open_for(&one.state, one.start_ms),
            transactional_id: one.transactional_id,
            producer_id: one.producer_id,
            state: one.state,
        })
        .collect();
    args.format.print(&listed, |listed| {
        let mut table = TextTable::new(["TRANSACTIONAL-ID", "PRODUCER-ID", "STATE", "OPEN-FOR"]);
        for one in listed {
            table.row([
                one.transactional_id.clone(),
                one.producer_id.to_string(),
                one.state.clone(),
                seconds(one.open_for_ms),
            ]);
        }
        table.render()
    })?;
    Ok(Verdict::Fine)
}

#[derive(Debug, Serialize)]
struct DescribedTransaction {
    transactional_id: String,
    state: String,
    producer_id: i64,
    producer_epoch: i32,
    timeout_ms: i32,
    open_for_ms: Option<i64>,
    last_update_ms: i64,
    coordinator_partition: i32,
    partitions: Vec<String>,
}

impl From<TransactionDescription> for DescribedTransaction {
    fn from(one: TransactionDescription) -> Self {
        Self {
            open_for_ms: open_for(&one.state, one.start_ms),
            transactional_id: one.transactional_id,
            state: one.state,
            producer_id: one.producer_id,
            producer_epoch: one.producer_epoch,
            timeout_ms: one.timeout_ms,
            last_update_ms: one.last_update_ms,
            coordinator_partition: one.coordinator_partition,
            partitions: one.partitions.iter().map(ToString::to_string).collect(),
        }
    }
}

async fn describe(args: DescribeArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let ids: Vec<&str> = args.ids.iter().map(String::as_str).collect();
    let mut described: Vec<DescribedTransaction> = Vec::new();
    let mut failed = 0;
    for (id, answer) in admin.describe_transactions(&ids).await? {
        match answer {
            Ok(one) => described.push(one.into()),
            Err(error) => {
                failed += 1;
                note(format!("{id}: {error}"));
            }
        }
    }
    args.format.print(&described, |described| {
        let mut text = String::new();
        for one in described {
            text.push_str(&describe_text(one));
        }
        text
    })?;
    match failed {
        0 => Ok(Verdict::Fine),
        failed => bail!("{failed} of {} failed", ids.len()),
    }
}

fn describe_text(one: &DescribedTransaction) -> String {
    let mut text = format!(
        "{}\n  state        {}\n  producer     {} epoch {}\n  time-out     {}\n  coordinator  __transaction_state-{}\n",
        one.transactional_id,
        one.state,
        one.producer_id,
        one.producer_epoch,
        seconds(Some(i64::from(one.timeout_ms))),
        one.coordinator_partition,
    );
    if one.open_for_ms.is_some() {
        text.push_str(&format!("  open for     {}\n", seconds(one.open_for_ms)));
    }
    for partition in &one.partitions {
        text.push_str(&format!("  writes to    {partition}\n"));
    }
    text
}

async fn abort(args: AbortArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let Some(topic) = args.topic else {
        let ids: Vec<&str> = args.ids.iter().map(String::as_str).collect();
        let answers = admin.abort_transactions(&ids).await?;
        return print_results("TRANSACTIONAL-ID", answers, args.format);
    };
    let partition = args.partition.context("--partition is needed")?;
    let start = args.start_offset.context("--start-offset is needed")?;
    let place = TopicPartition::new(topic, partition);
    let answer = admin.abort_hanging_transaction(&place, Offset(start)).await;
    print_results("PARTITION", vec![(place.to_string(), answer)], args.format)
}

#[derive(Debug, Serialize)]
struct FoundTransaction {
    topic: String,
    partition: i32,
    start_offset: i64,
    producer_id: i64,
    producer_epoch: i32,
    coordinator_epoch: i32,
    silent_for_ms: i64,
}

impl From<HangingTransaction> for FoundTransaction {
    fn from(one: HangingTransaction) -> Self {
        Self {
            topic: one.partition.topic.to_string(),
            partition: one.partition.partition,
            start_offset: one.start_offset.value(),
            producer_id: one.producer_id,
            producer_epoch: one.producer_epoch,
            coordinator_epoch: one.coordinator_epoch,
            silent_for_ms: since(one.last_seen_ms),
        }
    }
}

async fn hanging(args: HangingArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let found = admin.hanging_transactions(args.silent_for_ms).await?;
    let found: Vec<FoundTransaction> = found.into_iter().map(Into::into).collect();
    args.format.print(&found, |found| {
        let mut table = TextTable::new([
            "TOPIC",
            "PARTITION",
            "START-OFFSET",
            "PRODUCER-ID",
            "PRODUCER-EPOCH",
            "SILENT-FOR",
        ]);
        for one in found {
            table.row([
                one.topic.clone(),
                one.partition.to_string(),
                one.start_offset.to_string(),
                one.producer_id.to_string(),
                one.producer_epoch.to_string(),
                seconds(Some(one.silent_for_ms)),
            ]);
        }
        table.render()
    })?;
    if found.is_empty() {
        note("no transaction hangs");
        return Ok(Verdict::Fine);
    }
    note("end one: conveyor transaction abort --topic T --partition P --start-offset O");
    Ok(Verdict::FoundWrong)
}

/// How long a transaction has been open, by this machine's clock.
fn open_for(state: &str, start_ms: Option<i64>) -> Option<i64> {
    let is_open = matches!(state, "Ongoing" | "PrepareCommit" | "PrepareAbort");
    start_ms.filter(|_| is_open).map(since)
}

fn since(time_ms: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as i64);
    now_ms.saturating_sub(time_ms).max(0)
}

fn seconds(millis: Option<i64>) -> String {
    let Some(millis) = millis.and_then(|millis| u64::try_from(millis).ok()) else {
        return "-".to_owned();
    };
    format!("{:.1} s", Duration::from_millis(millis).as_secs_f64())
}
