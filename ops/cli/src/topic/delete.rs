//! `conveyor topic delete`.

use clap::Args;
use conveyor_sdk::admin::AdminClient;

use super::print_results;
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::FormatArgs;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  conveyor topic delete old-events older-events")]
pub(crate) struct DeleteArgs {
    /// Names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) async fn run(args: DeleteArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
    print_results("TOPIC", admin.delete_topics(&topics).await?, args.format)
}
