//! `conveyor topic consume`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use conveyor_record::Record;
use conveyor_sdk::admin::{AdminClient, OffsetSpec};
use conveyor_sdk::{
    Client, Consumer, ConsumerConfig, ConsumerRecord, IsolationLevel, Offset, OffsetReset,
    TopicPartition,
};

use super::offset_range::{Bound, OffsetRange};
use super::record_format::{PrintedHeader, PrintedRecord, RecordFormat};
use crate::connect::ConnectArgs;
use crate::{Verdict, shutdown};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor topic consume order-events                 from the start, then follow\n  \
    conveyor topic consume order-events -o end          only what is new\n  \
    conveyor topic consume order-events -o :end         all there is, then stop\n  \
    conveyor topic consume order-events -o -5 -n 5      the last five of each partition\n  \
    conveyor topic consume order-events -o @-1h         the last hour, then follow\n  \
    conveyor topic consume a b -g readers -f '%t-%p@%o %k %v\\n'   as a member of a group\n\n\
    Ranges: start, end, :end, N, N:M, +N (after the start), -N (before the end), @MS,\n\
    @2026-01-31T12:00:00Z, @-2h, @-48h:-24h.\n\
    Formats: json, text, or a template of %t topic, %p partition, %o offset, %d timestamp,\n\
    %k key, %v value, %K %V their lengths, %h{%k=%v } headers; %v{hex}, %v{base64}, %v{json}.")]
pub(crate) struct ConsumeArgs {
    /// Names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Which records
    #[arg(
        long,
        short = 'o',
        default_value = "start",
        allow_hyphen_values = true,
        value_name = "RANGE"
    )]
    offset: OffsetRange,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "COUNT")]
    num: Option<u64>,
    /// How to print a record: json, text or a template
    #[arg(long, short = 'f', default_value = "json", value_name = "FORMAT")]
    format: RecordFormat,
    /// Only these partitions
    #[arg(long, short = 'p', value_delimiter = ',', value_name = "PARTITION")]
    partitions: Vec<i32>,
    /// Read as a member of this group, and commit what was printed
    #[arg(long, short = 'g', conflicts_with = "partitions")]
    group: Option<String>,
    /// Leave out records of aborted transactions, wait for open ones
    #[arg(long)]
    read_committed: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) async fn run(args: ConsumeArgs) -> anyhow::Result<Verdict> {
    let client = args.connect.connect().await?;
    tokio::select! {
        consumed = consume(&client, &args) => consumed?,
        asked = shutdown::requested() => asked?,
    }
    Ok(Verdict::Fine)
}

async fn consume(client: &Client, args: &ConsumeArgs) -> anyhow::Result<()> {
    match &args.group {
        Some(group) => consume_as_member(client, args, group).await,
        None => consume_range(client, args).await,
    }
}

async fn consume_as_member(client: &Client, args: &ConsumeArgs, group: &str) -> anyhow::Result<()> {
    let mut config = ConsumerConfig::for_group(group);
    config.isolation_level = isolation(args);
    config.auto_offset_reset = match args.offset.from {
        Bound::End => OffsetReset::Latest,
        Bound::Ago(ms) => OffsetReset::ByDuration(Duration::from_millis(ms.max(0) as u64)),
        _ => OffsetReset::Earliest,
    };
    let mut consumer = Consumer::new(client, config)?;
    consumer.subscribe(args.topics.iter().cloned())?;
    let mut left = args.num.unwrap_or(u64::MAX);
    while left > 0 {
        let ConsumerRecord {
            topic,
            partition,
            offset,
            timestamp_ms,
            key,
            value,
            headers,
            ..
        } = consumer.recv().await?;
        let from = TopicPartition::new(topic, partition);
        let record = Record {
            offset,
            timestamp_ms,
            key,
            value,
            headers,
        };
        write(&printed(&from, &record), &args.format)?;
        left -= 1;
    }
    Ok(consumer.close().await?)
}

/// Reads partitions by hand, each from where to where the range says.
async fn consume_range(client: &Client, args: &ConsumeArgs) -> anyhow::Result<()> {
    let admin = AdminClient::new(client);
    let partitions = partitions(&admin, args).await?;
    let starts = resolve(&admin, &partitions, args.offset.from).await?;
    let mut ends = match args.offset.until {
        Some(until) => Some(resolve(&admin, &partitions, until).await?),
        None => None,
    };
    let config = ConsumerConfig {
        isolation_level: isolation(args),
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::standalone()
    };
    let mut consumer = Consumer::new(client, config)?;
    if let Some(ends) = &mut ends {
        ends.retain(|partition, end| starts.get(partition).is_some_and(|start| start < end));
        consumer.assign(ends.keys().cloned())?;
    } else {
        consumer.assign(partitions.iter().cloned())?;
    }
    for partition in consumer.assignment() {
        consumer.seek(&partition, starts.get(&partition).copied().unwrap_or(0))?;
    }
    let mut left = args.num.unwrap_or(u64::MAX);
    while left > 0 && ends.as_ref().is_none_or(|ends| !ends.is_empty()) {
        let polled = consumer.poll(Duration::from_millis(500)).await?;
        for partition in polled.partitions() {
            let name = &partition.topic_partition;
            let end = ends
                .as_ref()
                .map(|ends| ends.get(name).copied().unwrap_or(0));
            for record in &partition.records {
                if left == 0 || end.is_some_and(|end| record.offset.value() >= end) {
                    break;
                }
                write(&printed(name, record), &args.format)?;
                left -= 1;
            }
        }
        if let Some(ends) = &mut ends {
            ends.retain(|name, end| consumer.position(name).is_none_or(|at| at.value() < *end));
        }
    }
    Ok(consumer.close().await?)
}

const fn isolation(args: &ConsumeArgs) -> IsolationLevel {
    if args.read_committed {
        IsolationLevel::ReadCommitted
    } else {
        IsolationLevel::ReadUncommitted
    }
}

async fn partitions(
    admin: &AdminClient,
    args: &ConsumeArgs,
) -> anyhow::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for name in &args.topics {
        let topic = admin.describe_topic(name).await?;
        let count = topic.partitions.len();
        if let Some(wrong) = args
            .partitions
            .iter()
            .find(|p| **p < 0 || **p as usize >= count)
        {
            anyhow::bail!("topic {name} has {count} partitions, there is no partition {wrong}");
        }
        let wanted = |p: &i32| args.partitions.is_empty() || args.partitions.contains(p);
        let numbers = topic.partitions.iter().map(|p| p.partition).filter(wanted);
        partitions.extend(numbers.map(|number| TopicPartition::new(name.as_str(), number)));
    }
    Ok(partitions)
}

/// The offset of a bound in each partition.
pub(crate) async fn resolve(
    admin: &AdminClient,
    partitions: &[TopicPartition],
    bound: Bound,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let spec = match bound {
        Bound::At(offset) => return Ok(partitions.iter().map(|p| (p.clone(), offset)).collect()),
        Bound::Start | Bound::AfterStart(_) => OffsetSpec::Earliest,
        Bound::End | Bound::BeforeEnd(_) => OffsetSpec::Latest,
        Bound::Time(timestamp_ms) => OffsetSpec::ForTimestamp(timestamp_ms),
        Bound::Ago(ms) => {
            let now = jiff::Timestamp::now().as_millisecond();
            OffsetSpec::ForTimestamp(now.saturating_sub(ms))
        }
    };
    let found = list(admin, partitions, spec).await?;
    let starts = list(admin, partitions, OffsetSpec::Earliest).await?;
    let ends = list(admin, partitions, OffsetSpec::Latest).await?;
    let offset = |partition: &TopicPartition| {
        let of =
            |map: &BTreeMap<TopicPartition, Option<i64>>| map.get(partition).copied().flatten();
        let (start, end) = (of(&starts).unwrap_or(0), of(&ends).unwrap_or(0));
        // A time that no record has reached yet: the end.
        let found = of(&found).unwrap_or(end);
        let offset = match bound {
            Bound::AfterStart(count) => found.saturating_add(count),
            Bound::BeforeEnd(count) => found.saturating_sub(count),
            _ => found,
        };
        (partition.clone(), offset.clamp(start, end.max(start)))
    };
    Ok(partitions.iter().map(offset).collect())
}

async fn list(
    admin: &AdminClient,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> anyhow::Result<BTreeMap<TopicPartition, Option<i64>>> {
    let specs: Vec<_> = partitions
        .iter()
        .map(|partition| (partition.clone(), spec))
        .collect();
    let mut offsets = BTreeMap::new();
    for (partition, listed) in admin
        .list_offsets(&specs, IsolationLevel::ReadUncommitted)
        .await?
    {
        offsets.insert(partition, listed?.offset.map(Offset::value));
    }
    Ok(offsets)
}

fn printed(from: &TopicPartition, record: &Record) -> PrintedRecord {
    let headers = record.headers.iter().map(|header| PrintedHeader {
        key: header.key_str().into_owned(),
        value: header.value.clone(),
    });
    PrintedRecord {
        topic: from.topic.to_string(),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers.collect(),
        timestamp: record.timestamp_ms,
        partition: from.partition,
        offset: record.offset.value(),
    }
}

/// Written and flushed record by record: whoever reads our output sees each as it comes.
fn write(record: &PrintedRecord, format: &RecordFormat) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&format.render(record))?;
    Ok(out.flush()?)
}
