//! `conveyor topic alter`.

use clap::Args;
use conveyor_sdk::admin::{AdminClient, ConfigAlteration, ConfigResource};

use super::{parse_pair, print_results};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::FormatArgs;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor topic alter order-events -s retention.ms=86400000\n  \
    conveyor topic alter order-events --unset retention.ms\n  \
    conveyor topic alter order-events -p 12 --force     keys move to other partitions")]
pub(crate) struct AlterArgs {
    /// Names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Set this setting; may be given again
    #[arg(long, short = 's', visible_short_alias = 'c', value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    /// Take this setting back to its default; may be given again
    #[arg(long, visible_alias = "delete", value_name = "NAME")]
    unset: Vec<String>,
    /// Raise the number of partitions to this
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Add partitions even to a topic with records: keys map to other partitions afterwards
    #[arg(long, requires = "partitions")]
    force: bool,
    /// Check everything, change nothing
    #[arg(long, short = 'd')]
    dry: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) async fn run(args: AlterArgs) -> anyhow::Result<Verdict> {
    let set = args
        .set
        .iter()
        .map(|(name, value)| ConfigAlteration::Set(name.clone(), value.clone()));
    let unset = args
        .unset
        .iter()
        .map(|name| ConfigAlteration::Delete(name.clone()));
    let alterations: Vec<_> = set.chain(unset).collect();
    if alterations.is_empty() && args.partitions.is_none() {
        anyhow::bail!("nothing to change: give --set, --unset or --partitions");
    }
    let admin = AdminClient::new(&args.connect.connect().await?);
    let mut answers = Vec::with_capacity(args.topics.len());
    for topic in &args.topics {
        answers.push((
            topic.clone(),
            alter(&admin, topic, &alterations, &args).await,
        ));
    }
    print_results("TOPIC", answers, args.format)
}

async fn alter(
    admin: &AdminClient,
    topic: &str,
    alterations: &[ConfigAlteration],
    args: &AlterArgs,
) -> conveyor_sdk::Result<()> {
    if !alterations.is_empty() {
        let resource = ConfigResource::Topic(topic.to_owned());
        admin
            .alter_configs(&resource, alterations, args.dry)
            .await?;
    }
    match args.partitions {
        Some(total) => {
            admin
                .create_partitions(topic, total, args.force, args.dry)
                .await
        }
        None => Ok(()),
    }
}
