//! `conveyor topic`: one file for each verb. The grammar is rpk's.

mod alter;
pub(crate) mod consume;
mod create;
mod delete;
mod describe;
mod list;
pub(crate) mod offset_range;
mod produce;
pub(crate) mod record_format;

use clap::Subcommand;
use conveyor_sdk::admin::Answers;
use serde::Serialize;

use crate::Verdict;
use crate::output::{FormatArgs, TextTable};

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create(create::CreateArgs),
    /// List topics
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show partitions, offsets, settings, and which promise of durability holds
    #[command(visible_alias = "info")]
    Describe(describe::DescribeArgs),
    /// Change settings, add partitions
    Alter(alter::AlterArgs),
    /// Delete topics with all their records
    Delete(delete::DeleteArgs),
    /// Read records
    Consume(consume::ConsumeArgs),
    /// Write records, one for each line of standard input
    Produce(produce::ProduceArgs),
}

pub(crate) async fn run(command: TopicCommand) -> anyhow::Result<Verdict> {
    match command {
        TopicCommand::Create(args) => create::run(args).await,
        TopicCommand::List(args) => list::run(args).await,
        TopicCommand::Describe(args) => describe::run(args).await,
        TopicCommand::Alter(args) => alter::run(args).await,
        TopicCommand::Delete(args) => delete::run(args).await,
        TopicCommand::Consume(args) => consume::run(args).await,
        TopicCommand::Produce(args) => produce::run(args).await,
    }
}

/// What became of one item of several.
#[derive(Debug, Serialize)]
pub(crate) struct ItemResult {
    pub(crate) name: String,
    /// `OK`, or what went wrong.
    pub(crate) status: String,
    #[serde(skip)]
    pub(crate) failed: bool,
}

/// Prints what became of each item; an error if one of them failed.
pub(crate) fn print_results<T>(
    heading: &'static str,
    answers: Answers<String, T>,
    format: FormatArgs,
) -> anyhow::Result<Verdict> {
    let results = answers.into_iter().map(|(name, answer)| match answer {
        Ok(_) => ItemResult {
            name,
            status: "OK".to_owned(),
            failed: false,
        },
        Err(error) => ItemResult {
            name,
            status: error.to_string(),
            failed: true,
        },
    });
    let results: Vec<_> = results.collect();
    format.print(&results, |results| {
        let mut table = TextTable::new([heading, "STATUS"]);
        for result in results {
            table.row([result.name.clone(), result.status.clone()]);
        }
        table.render()
    })?;
    match results.iter().filter(|result| result.failed).count() {
        0 => Ok(Verdict::Fine),
        failed => anyhow::bail!("{failed} of {} failed", results.len()),
    }
}

/// A `name=value` flag.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
