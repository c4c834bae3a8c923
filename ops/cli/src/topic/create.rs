//! `conveyor topic create`.

use clap::Args;
use conveyor_sdk::ErrorCode;
use conveyor_sdk::admin::{AdminClient, NewTopic};

use super::{parse_pair, print_results};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::FormatArgs;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor topic create order-events -p 6\n  \
    conveyor topic create a b c -p 12 -c retention.ms=604800000 -c conveyor.durability=replicated")]
pub(crate) struct CreateArgs {
    /// Names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Partitions; the node's num.partitions if not given
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas of each partition; the node's default.replication.factor if not given
    #[arg(long, short = 'r', value_parser = clap::value_parser!(i32).range(1..))]
    replicas: Option<i32>,
    /// A setting of the topic; may be given again
    #[arg(long, short = 'c', value_name = "NAME=VALUE", value_parser = parse_pair)]
    topic_config: Vec<(String, String)>,
    /// A topic that exists already is fine
    #[arg(long)]
    if_not_exists: bool,
    /// Check everything, create nothing
    #[arg(long, short = 'd')]
    dry: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) async fn run(args: CreateArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let topics: Vec<NewTopic> = args
        .topics
        .iter()
        .map(|name| NewTopic {
            partitions: args.partitions,
            replication_factor: args.replicas,
            configs: args.topic_config.iter().cloned().collect(),
            ..NewTopic::new(name.as_str())
        })
        .collect();
    let mut answers: Vec<_> = admin
        .create_topics(&topics, args.dry)
        .await?
        .into_iter()
        .map(|(name, answer)| (name, answer.map(drop)))
        .collect();
    if args.if_not_exists {
        for (_, answer) in &mut answers {
            if matches!(answer, Err(e) if e.code() == Some(ErrorCode::TopicAlreadyExists)) {
                *answer = Ok(());
            }
        }
    }
    print_results("TOPIC", answers, args.format)
}
