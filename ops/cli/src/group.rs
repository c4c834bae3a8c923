//! `conveyor group`: groups of consumers, their members and how far they are.

mod describe;
mod seek;

use clap::{Args, Subcommand};
use conveyor_sdk::admin::AdminClient;
use serde::Serialize;

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable};
use crate::topic::print_results;

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show members, offsets, and lag in records and in seconds
    Describe(describe::DescribeArgs),
    /// Move the offsets of a group that has no members
    Seek(seek::SeekArgs),
    /// Delete groups that have no members, with their offsets
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor group list\n  \
    conveyor group list --state Stable --format json")]
pub(crate) struct ListArgs {
    /// Only groups in this state (Empty, Assigning, Reconciling, `PreparingRebalance`,
    /// `CompletingRebalance`, Stable, Dead); may be given again
    #[arg(long, short = 's')]
    state: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  conveyor group delete old-readers")]
pub(crate) struct DeleteArgs {
    /// Names
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) async fn run(command: GroupCommand) -> anyhow::Result<Verdict> {
    match command {
        GroupCommand::List(args) => list(args).await,
        GroupCommand::Describe(args) => describe::run(args).await,
        GroupCommand::Seek(args) => seek::run(args).await,
        GroupCommand::Delete(args) => delete(args).await,
    }
}

#[derive(Debug, Serialize)]
struct ListedGroup {
    group: String,
    state: String,
    #[serde(rename = "type")]
    group_type: String,
    protocol_type: String,
}

async fn list(args: ListArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let states: Vec<&str> = args.state.iter().map(String::as_str).collect();
    let groups = admin
        .list_groups(&states)
        .await?
        .into_iter()
        .map(|group| ListedGroup {
            group: group.group_id,
            state: group.state,
            group_type: group.group_type,
            protocol_type: group.protocol_type,
        });
    let groups: Vec<_> = groups.collect();
    args.format.print(&groups, |groups| {
        let mut table = TextTable::new(["GROUP", "STATE", "TYPE", "PROTOCOL-TYPE"]);
        for group in groups {
            table.row([
                group.group.clone(),
                group.state.clone(),
                group.group_type.clone(),
                group.protocol_type.clone(),
            ]);
        }
        table.render()
    })?;
    Ok(Verdict::Fine)
}

async fn delete(args: DeleteArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let groups: Vec<&str> = args.groups.iter().map(String::as_str).collect();
    print_results("GROUP", admin.delete_groups(&groups).await?, args.format)
}
