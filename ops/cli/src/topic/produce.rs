//! `conveyor topic produce`.

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use conveyor_sdk::{Acks, Codec, DeliveryFuture, Producer, ProducerConfig, ProducerRecord};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::parse_pair;
use super::record_format::{Piece, parse_template};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{Format, FormatArgs, print_json, print_text};

/// Records that may be under way before the first one's report is waited for.
const REPORTS_MAX: usize = 10_000;
/// Longest line taken.
const LINE_BYTES_MAX: usize = 8 << 20;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    echo '{\"hello\":1}' | conveyor topic produce order-events -k order-1\n  \
    echo 'SKU-1:{\"hello\":1}' | conveyor topic produce inventory-events -f '%k:%v'\n  \
    conveyor topic produce order-events -z zstd -H content-type=application/json < events.jsonl\n\n\
    Each line is a record. -f says what a line holds: %k key, %v value, %t topic, %p partition,\n\
    with any text between them.")]
pub(crate) struct ProduceArgs {
    /// The topic; not needed if the lines name it (%t)
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// The key of every record
    #[arg(long, short = 'k')]
    key: Option<String>,
    /// What a line holds
    #[arg(
        long = "line-format",
        short = 'f',
        default_value = "%v",
        value_name = "TEMPLATE"
    )]
    line_format: String,
    /// A header of every record; may be given again
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// How batches are compressed
    #[arg(long, short = 'z', value_enum, default_value_t = Compression::Zstd)]
    compression: Compression,
    /// The partition of every record
    #[arg(long, short = 'p')]
    partition: Option<i32>,
    /// Send an empty value as a tombstone
    #[arg(long, short = 'Z')]
    tombstone: bool,
    /// When a record counts as delivered
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// Print nothing for records that were delivered
    #[arg(long, short = 'q')]
    quiet: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AcksArg {
    /// Durable as the topic's conveyor.durability says
    All,
    /// In the leader's page cache
    Leader,
    /// Taken by the leader
    None,
}

/// `name=value`, or rpk's `name:value`.
fn parse_header(text: &str) -> Result<(String, String), String> {
    parse_pair(text).or_else(|_| match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    })
}

/// Where a record went.
#[derive(Debug, Serialize)]
struct Produced {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
}

pub(crate) async fn run(args: ProduceArgs) -> anyhow::Result<Verdict> {
    let line_format = LineFormat::parse(&args)?;
    let client = args.connect.connect().await?;
    let producer = Producer::new(&client, producer_config(&args))?;
    let mut lines = BufReader::new(tokio::io::stdin());
    let mut reports = std::collections::VecDeque::new();
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        if lines
            .read_until(b'\n', &mut line)
            .await
            .context("cannot read standard input")?
            == 0
        {
            break;
        }
        number += 1;
        if line.len() > LINE_BYTES_MAX {
            anyhow::bail!("line {number} is longer than {LINE_BYTES_MAX} bytes");
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let record = line_format.record(text, &args).with_context(|| {
            format!(
                "line {number} does not have the form {:?}",
                args.line_format
            )
        })?;
        reports.push_back(producer.send(record).await?);
        if reports.len() >= REPORTS_MAX
            && let Some(report) = reports.pop_front()
        {
            print_report(report, &args).await?;
        }
    }
    for report in reports {
        print_report(report, &args).await?;
    }
    producer.close(std::time::Duration::from_secs(10)).await?;
    Ok(Verdict::Fine)
}

async fn print_report(report: DeliveryFuture, args: &ProduceArgs) -> anyhow::Result<()> {
    let delivery = report.await?;
    if args.quiet {
        return Ok(());
    }
    let produced = Produced {
        topic: delivery.topic.to_string(),
        partition: delivery.partition,
        offset: delivery.offset.value(),
        timestamp: delivery.timestamp_ms,
    };
    match args.format.format {
        Format::Json => print_json(&produced)?,
        Format::Text => print_text(&format!(
            "{}-{} at offset {}",
            produced.topic, produced.partition, produced.offset
        ))?,
    }
    Ok(())
}

fn producer_config(args: &ProduceArgs) -> ProducerConfig {
    ProducerConfig {
        acks: match args.acks {
            AcksArg::All => Acks::All,
            AcksArg::Leader => Acks::Leader,
            AcksArg::None => Acks::None,
        },
        compression: match args.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        ..ProducerConfig::default()
    }
}

/// What a line holds: fields with fixed text between them.
#[derive(Debug)]
struct LineFormat {
    pieces: Vec<Piece>,
}

impl LineFormat {
    fn parse(args: &ProduceArgs) -> anyhow::Result<Self> {
        let template = args.line_format.trim_end_matches("\\n");
        let pieces = parse_template(template)?;
        let mut fields = 0;
        for pair in pieces.windows(2) {
            if !matches!(pair, [Piece::Literal(_), _] | [_, Piece::Literal(_)]) {
                anyhow::bail!("{template:?}: two fields need some text between them");
            }
        }
        for piece in &pieces {
            match piece {
                Piece::Literal(_) => {}
                Piece::Key(_) | Piece::Value(_) | Piece::Topic | Piece::Partition => fields += 1,
                _ => anyhow::bail!("{template:?}: a line can hold %k, %v, %t and %p"),
            }
        }
        if fields == 0 {
            anyhow::bail!("{template:?} has no field: %k, %v, %t or %p");
        }
        if args.topic.is_none() && !pieces.contains(&Piece::Topic) {
            anyhow::bail!("name a topic, or let the lines name it with %t in --line-format");
        }
        Ok(Self { pieces })
    }

    /// The record of a line; `None` if the line does not have the form.
    fn record(&self, line: &[u8], args: &ProduceArgs) -> Option<ProducerRecord> {
        let mut topic = args.topic.clone();
        let mut key = args
            .key
            .as_ref()
            .map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let (mut value, mut partition) = (None, args.partition);
        let mut rest = line;
        for (index, piece) in self.pieces.iter().enumerate() {
            if let Piece::Literal(text) = piece {
                rest = rest.strip_prefix(text.as_bytes())?;
                continue;
            }
            let end = match self.pieces.get(index + 1) {
                Some(Piece::Literal(next)) => find(rest, next.as_bytes())?,
                _ => rest.len(),
            };
            let (field, after) = rest.split_at(end);
            rest = after;
            match piece {
                Piece::Topic => topic = Some(std::str::from_utf8(field).ok()?.to_owned()),
                Piece::Partition => {
                    partition = Some(std::str::from_utf8(field).ok()?.parse().ok()?);
                }
                Piece::Key(_) => key = Some(Bytes::copy_from_slice(field)),
                _ => value = Some(Bytes::copy_from_slice(field)),
            }
        }
        if !rest.is_empty() {
            return None;
        }
        let mut record = ProducerRecord::new(topic?);
        record.partition = partition;
        record.key = key;
        let is_tombstone = args.tombstone && value.as_ref().is_none_or(Bytes::is_empty);
        record.value = if is_tombstone { None } else { value };
        for (name, value) in &args.header {
            record = record.header(name.as_str(), Bytes::copy_from_slice(value.as_bytes()));
        }
        Some(record)
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len().max(1))
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn record(flags: &[&str], line: &str) -> Option<ProducerRecord> {
        let args = Line::parse_from(std::iter::once(&"produce").chain(flags)).args;
        LineFormat::parse(&args)
            .unwrap()
            .record(line.as_bytes(), &args)
    }

    #[test]
    fn lines_are_values_unless_a_format_says_otherwise() {
        let plain = record(&["t", "-k", "a", "-H", "x=1", "-H", "y:2"], "v:w").unwrap();
        assert_eq!(
            (plain.key.as_deref(), plain.value.as_deref()),
            (Some(&b"a"[..]), Some(&b"v:w"[..]))
        );
        assert_eq!(plain.headers.len(), 2);
        let keyed = record(&["t", "-f", "%k:%v\\n"], "SKU-1:{\"a\":1}").unwrap();
        assert_eq!(keyed.key.as_deref(), Some(&b"SKU-1"[..]));
        assert_eq!(keyed.value.as_deref(), Some(&b"{\"a\":1}"[..]));
        let all = record(&["-f", "%t/%p/%k=%v"], "orders/3/k=v").unwrap();
        assert_eq!((&*all.topic, all.partition), ("orders", Some(3)));
    }

    #[test]
    fn an_empty_value_can_be_a_tombstone() {
        assert_eq!(record(&["t", "-Z"], "").unwrap().value, None);
        assert_eq!(record(&["t"], "").unwrap().value, Some(Bytes::new()));
    }

    #[test]
    fn a_line_of_another_form_is_refused() {
        assert_eq!(record(&["t", "-f", "%k:%v"], "no key"), None);
        assert_eq!(record(&["t", "-f", "%v;"], "a;b"), None);
    }
}
