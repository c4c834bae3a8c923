//! `conveyor dev`: one node to develop against, with `PakLog`'s eight topics.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use conveyor_paklog::topics;
use conveyor_sdk::admin::{AdminClient, NewTopic};
use conveyor_sdk::{Client, ClientConfig, ErrorCode};
use conveyor_server::{Broker, BrokerConfig};

use crate::Verdict;
use crate::broker::{Serving, environment, serve};
use crate::connect::DEFAULT_BOOTSTRAP;
use crate::logging::{self, LoggingArgs};
use crate::output::{FormatArgs, TextTable};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor dev\n  \
    conveyor dev --dir /tmp/conveyor --set listeners.grpc=127.0.0.1:19192")]
pub(crate) struct DevArgs {
    /// Where everything lies; created if missing
    #[arg(long, default_value = "conveyor-dev", value_name = "DIR")]
    dir: PathBuf,
    /// One setting of the node; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    logging: LoggingArgs,
}

/// Settings of a node to develop against: small segments, so that rolling and retention happen.
pub(crate) fn settings(dir: &Path) -> Vec<String> {
    vec![
        format!("log.dirs={}", dir.join("data").display()),
        "log.segment.bytes=67108864".to_owned(),
    ]
}

pub(crate) async fn run(args: DevArgs) -> anyhow::Result<Verdict> {
    logging::start(&args.logging)?;
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot create {}", args.dir.display()))?;
    let mut overrides = settings(&args.dir);
    overrides.extend(args.set.iter().cloned());
    let config = BrokerConfig::load(None, environment(), &overrides)?;
    let broker = Broker::start(config).await?;
    let address = broker.grpc_address().to_string();
    let client = Client::connect(ClientConfig::new(&address)).await?;
    create_topics(&client).await?;
    args.format
        .print(&Serving::of(&broker), |serving| text(serving, &args.dir))?;
    drop(client);
    serve(broker).await
}

/// Creates those of the eight topics that are missing.
pub(crate) async fn create_topics(client: &Client) -> anyhow::Result<()> {
    let new_topics: Vec<NewTopic> = topics::plans(1)
        .into_iter()
        .map(|plan| {
            let topic = NewTopic::new(plan.topic.name())
                .partitions(plan.partitions as i32)
                .replication_factor(i32::from(plan.replication_factor));
            plan.settings
                .into_iter()
                .fold(topic, |topic, (name, value)| topic.config(name, value))
        })
        .collect();
    for (topic, created) in AdminClient::new(client)
        .create_topics(&new_topics, false)
        .await?
    {
        match created {
            Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => {
                return Err(error).with_context(|| format!("cannot create topic {topic}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn text(serving: &Serving, dir: &Path) -> String {
    let mut table = TextTable::new(["TOPIC", "PARTITIONS", "KEY"]);
    for plan in topics::plans(1) {
        table.row([
            plan.topic.name().to_owned(),
            plan.partitions.to_string(),
            plan.topic.key_rule().to_owned(),
        ]);
    }
    let prefix = if serving.grpc == DEFAULT_BOOTSTRAP {
        String::new()
    } else {
        format!("  export CONVEYOR_BOOTSTRAP={}\n", serving.grpc)
    };
    format!(
        "node ready: clients {}, Kafka clients {}, health and metrics {}, files {}\n\n{}\n\
         In another terminal:\n{prefix}  \
         conveyor topic list\n  \
         conveyor workload run --speed max\n  \
         conveyor processors run --store {}\n  \
         conveyor topic consume order-events -n 1\n\n\
         Ctrl-C stops the node.",
        serving.grpc,
        serving.kafka_text(),
        serving.admin.as_deref().unwrap_or("off"),
        dir.display(),
        table.render(),
        dir.join("read-models.sqlite").display(),
    )
}
