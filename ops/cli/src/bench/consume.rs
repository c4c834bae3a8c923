//! `conveyor bench consume`: how fast what is in a topic can be read.

use std::time::{Duration, Instant};

use clap::Args;
use conveyor_sdk::{AdminClient, Consumer, ConsumerConfig, OffsetReset, TopicPartition};
use indicatif::ProgressBar;

use super::describe;
use super::report::{BenchReport, Latencies};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, count_text, note};

/// A poll without records for this long means that the rest does not come.
const STALL: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
#[command(after_help = "Fill a topic first:\n  conveyor bench produce --keep")]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The topic to read from its beginning
    #[arg(long, default_value = "conveyor-bench")]
    topic: String,
    /// Stop after so many records; at the end of the topic otherwise
    #[arg(long)]
    records: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(args: ConsumeArgs) -> anyhow::Result<Verdict> {
    let client = args.connect.connect().await?;
    let admin = AdminClient::new(&client);
    let (partition_count, durability) = describe(&admin, &args.topic).await?;
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::standalone()
    };
    let mut consumer = Consumer::new(&client, config)?;
    let partitions: Vec<TopicPartition> = (0..partition_count)
        .map(|n| TopicPartition::new(args.topic.as_str(), n))
        .collect();
    let mut total = 0u64;
    let begins = consumer.beginning_offsets(&partitions).await?;
    for (partition, end) in consumer.end_offsets(&partitions).await? {
        let begin = begins.get(&partition).copied().unwrap_or_default();
        total += u64::try_from(end - begin).unwrap_or(0);
    }
    let wanted = args.records.unwrap_or(total).min(total);
    anyhow::ensure!(
        wanted > 0,
        "topic {} has no records: `conveyor bench produce --keep`",
        args.topic
    );
    consumer.assign(partitions)?;
    let read = read(&mut consumer, wanted).await?;
    if read.records < wanted {
        note(format!(
            "only {} of {wanted} records came",
            count_text(read.records)
        ));
    }
    let report = report(&args, partition_count, durability, &read);
    args.format.print(&report, BenchReport::text)?;
    Ok(if read.records < wanted {
        Verdict::FoundWrong
    } else {
        Verdict::Fine
    })
}

/// What was read.
struct Read {
    records: u64,
    bytes: u64,
    seconds: f64,
    polls: Latencies,
}

async fn read(consumer: &mut Consumer, wanted: u64) -> anyhow::Result<Read> {
    let bar = ProgressBar::new(wanted);
    let start = Instant::now();
    let mut read = Read {
        records: 0,
        bytes: 0,
        seconds: 0.0,
        polls: Latencies::new()?,
    };
    while read.records < wanted {
        let asked = Instant::now();
        let records = consumer.poll(STALL).await?;
        read.polls.record(asked.elapsed());
        if records.is_empty() {
            break;
        }
        for (_, record) in records.iter() {
            let length =
                |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |b| b.len() as u64);
            read.bytes += length(&record.key) + length(&record.value);
        }
        read.records += records.len() as u64;
        bar.set_position(read.records);
    }
    bar.finish_and_clear();
    read.seconds = start.elapsed().as_secs_f64();
    Ok(read)
}

fn report(args: &ConsumeArgs, partitions: i32, durability: String, read: &Read) -> BenchReport {
    BenchReport {
        bench: "consume",
        latency: "of a poll, the first one included",
        open_loop: false,
        topic: args.topic.clone(),
        partitions,
        durability,
        acks: "-".to_owned(),
        codec: "-".to_owned(),
        producers: 0,
        record_bytes: usize::try_from(read.bytes / read.records.max(1)).unwrap_or(usize::MAX),
        compressibility: 0.0,
        compression_ratio: 0.0,
        records_per_batch: 0.0,
        rate_target: 0,
        records: read.records,
        failed: 0,
        seconds: read.seconds,
        records_per_second: read.records as f64 / read.seconds,
        megabytes_per_second: read.bytes as f64 / 1e6 / read.seconds,
        sampled_every: 1,
        latency_us: read.polls.quantiles(),
    }
}
