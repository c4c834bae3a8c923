//! `conveyor group seek`.

use std::collections::BTreeMap;

use clap::Args;
use conveyor_sdk::admin::AdminClient;
use conveyor_sdk::{OffsetAndMetadata, TopicPartition};
use serde::Serialize;

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable};
use crate::topic::consume::resolve;
use crate::topic::offset_range::OffsetRange;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor group seek readers --to start\n  \
    conveyor group seek readers --to @2026-01-31T12:00:00Z --topics order-events\n  \
    conveyor group seek readers --to -100 --dry          only show what would change\n\n\
    The group must have no members. Projections go on where their store stands, whatever their\n\
    group's offsets say.")]
pub(crate) struct SeekArgs {
    /// The group
    #[arg(value_name = "GROUP")]
    group: String,
    /// Where to: start, end, an offset, +N, -N, @time
    #[arg(long, allow_hyphen_values = true, value_name = "PLACE")]
    to: OffsetRange,
    /// Only these topics; all that the group has offsets of if not given
    #[arg(long, value_delimiter = ',', value_name = "TOPIC")]
    topics: Vec<String>,
    /// Change nothing, show what would be changed
    #[arg(long, short = 'd')]
    dry: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    prior_offset: Option<i64>,
    new_offset: i64,
    status: String,
}

pub(crate) async fn run(args: SeekArgs) -> anyhow::Result<Verdict> {
    if args.to.until.is_some() {
        anyhow::bail!("--to takes one place, not a range");
    }
    let admin = AdminClient::new(&args.connect.connect().await?);
    let mut prior = BTreeMap::new();
    for (partition, offset) in admin.group_offsets(&args.group, &[]).await? {
        prior.insert(partition, offset?.offset.value());
    }
    let partitions = partitions(&admin, &args, &prior).await?;
    if partitions.is_empty() {
        anyhow::bail!(
            "group {} has no offsets; name topics with --topics",
            args.group
        );
    }
    let places = resolve(&admin, &partitions, args.to.from).await?;
    let offsets: Vec<_> = places
        .iter()
        .map(|(partition, offset)| (partition.clone(), OffsetAndMetadata::new(*offset)))
        .collect();
    let mut errors = BTreeMap::new();
    if !args.dry {
        for (partition, answer) in admin.alter_group_offsets(&args.group, &offsets).await? {
            if let Err(error) = answer {
                errors.insert(partition, error.to_string());
            }
        }
    }
    let done = if args.dry { "dry run" } else { "OK" };
    let moved = places.iter().map(|(partition, offset)| Moved {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        prior_offset: prior.get(partition).copied(),
        new_offset: *offset,
        status: errors
            .get(partition)
            .cloned()
            .unwrap_or_else(|| done.to_owned()),
    });
    let moved: Vec<_> = moved.collect();
    args.format.print(&moved, |moved| text(moved))?;
    if errors.is_empty() {
        return Ok(Verdict::Fine);
    }
    anyhow::bail!(
        "{} of {} partitions could not be moved",
        errors.len(),
        moved.len()
    )
}

async fn partitions(
    admin: &AdminClient,
    args: &SeekArgs,
    prior: &BTreeMap<TopicPartition, i64>,
) -> anyhow::Result<Vec<TopicPartition>> {
    if args.topics.is_empty() {
        return Ok(prior.keys().cloned().collect());
    }
    let mut partitions = Vec::new();
    for name in &args.topics {
        let topic = admin.describe_topic(name).await?;
        let numbers = topic.partitions.iter().map(|p| p.partition);
        partitions.extend(numbers.map(|number| TopicPartition::new(name.as_str(), number)));
    }
    Ok(partitions)
}

fn text(moved: &[Moved]) -> String {
    let mut table = TextTable::new([
        "TOPIC",
        "PARTITION",
        "PRIOR-OFFSET",
        "CURRENT-OFFSET",
        "STATUS",
    ]);
    for one in moved {
        table.row([
            one.topic.clone(),
            one.partition.to_string(),
            one.prior_offset
                .map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            one.new_offset.to_string(),
            one.status.clone(),
        ]);
    }
    table.render()
}
