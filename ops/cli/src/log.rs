//! `conveyor log`: looks into the folder of a partition, without a node. Nothing is ever written.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use conveyor_log::disk::OsDisk;
use conveyor_log::tools::{BatchSummary, PartitionFolder, ScanEnd, VerifyOptions};
use conveyor_record::{Batch, Decompressor, Offset, Record};
use serde::Serialize;

use crate::Verdict;
use crate::output::{Format, FormatArgs, TextTable, bytes_text, moment_text, print_json};

/// The most bytes that a batch may decompress to.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the batches of a partition, or their records
    Dump(DumpArgs),
    /// Check every batch, index and checkpoint of partitions
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor log dump data/order-events-0\n  \
    conveyor log dump data/order-events-0 --records --from 1200 -n 1\n  \
    conveyor log dump data/order-events-0 --indexes\n\n\
    Use it on a stopped node's folder, or on a copy.")]
pub(crate) struct DumpArgs {
    /// The folder of a partition
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Start with the batch that holds this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Stop after so many batches
    #[arg(long, short = 'n', value_name = "COUNT")]
    num: Option<u64>,
    /// Also the records of each batch
    #[arg(long, visible_alias = "print-data-log")]
    records: bool,
    /// The entries of the indexes, the leader epochs and the producers instead of the batches
    #[arg(long, conflicts_with = "records")]
    indexes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor log verify data/order-events-0\n  \
    conveyor log verify --deep data/*-events-*\n\n\
    Exit code 3 if something is damaged. A torn tail behind the last whole batch is what a crash\n\
    leaves: a warning.")]
pub(crate) struct VerifyArgs {
    /// Folders of partitions
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Also decompress every batch and read its records
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) fn run(command: &LogCommand) -> anyhow::Result<Verdict> {
    match command {
        LogCommand::Dump(args) if args.indexes => dump_indexes(args),
        LogCommand::Dump(args) => dump(args),
        LogCommand::Verify(args) => verify(args),
    }
}

fn open(path: &Path) -> anyhow::Result<PartitionFolder> {
    let folder = PartitionFolder::open(OsDisk::shared(), path)
        .with_context(|| format!("cannot look into {}", path.display()))?;
    if folder.segments().is_empty() {
        anyhow::bail!(
            "{} holds no segments: not the folder of a partition",
            path.display()
        );
    }
    Ok(folder)
}

/// A batch as it is shown.
#[derive(Debug, Serialize)]
struct PrintedBatch {
    segment: i64,
    position: u64,
    base_offset: i64,
    last_offset: i64,
    records: i32,
    size: usize,
    codec: String,
    crc: u32,
    valid: bool,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl PrintedBatch {
    fn new(segment: Offset, batch: &BatchSummary) -> Self {
        let header = &batch.header;
        Self {
            segment: segment.value(),
            position: batch.position,
            base_offset: header.base_offset.value(),
            last_offset: header.last_offset().value(),
            records: header.record_count,
            size: header.size(),
            codec: header
                .codec()
                .map_or_else(|error| error.to_string(), |codec| codec.to_string()),
            crc: header.crc,
            valid: batch.crc_is_right,
            leader_epoch: header.leader_epoch.value(),
            producer_id: header.producer_id.value(),
            producer_epoch: header.producer_epoch.value(),
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
            base_timestamp: header.base_timestamp_ms,
            max_timestamp: header.max_timestamp_ms,
        }
    }

    fn text(&self) -> String {
        let flags = [
            (self.transactional, " transactional"),
            (self.control, " control"),
            (!self.valid, " CRC IS WRONG"),
        ];
        let flags: String = flags
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| flag)
            .collect();
        format!(
            "offsets {}-{}  {} records  {}  {}  position {}  epoch {}  producer {}/{} seq {}  {}{flags}",
            self.base_offset,
            self.last_offset,
            self.records,
            bytes_text(self.size as u64),
            self.codec,
            self.position,
            self.leader_epoch,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            moment_text(self.max_timestamp),
        )
    }
}

fn dump(args: &DumpArgs) -> anyhow::Result<Verdict> {
    let folder = open(&args.folder)?;
    let mut left = args.num.unwrap_or(u64::MAX);
    let mut verdict = Verdict::Fine;
    let next_of = |index: usize| folder.segments().get(index + 1).map(|base| base.value());
    for (index, segment) in folder.segments().iter().enumerate() {
        if left == 0 || next_of(index).is_some_and(|next| next <= args.from) {
            continue;
        }
        if args.format.format == Format::Text {
            print_line(&format!("{}", folder.log_path(*segment).display()))?;
        }
        // The first failure to print ends the walk.
        let mut printed: anyhow::Result<()> = Ok(());
        let mut wrong = false;
        let end = folder.scan(*segment, |batch, bytes| {
            if batch.header.last_offset().value() < args.from {
                return true;
            }
            wrong |= !batch.crc_is_right;
            printed = print_batch(*segment, &batch, bytes, args);
            left -= 1;
            left > 0 && printed.is_ok()
        })?;
        printed?;
        let ended_wrong = matches!(end, ScanEnd::Invalid { .. });
        if wrong || ended_wrong {
            verdict = Verdict::FoundWrong;
        }
        if args.format.format == Format::Text && left > 0 {
            print_end(&end)?;
        }
    }
    Ok(verdict)
}

fn print_batch(
    segment: Offset,
    batch: &BatchSummary,
    bytes: &[u8],
    args: &DumpArgs,
) -> anyhow::Result<()> {
    let printed = PrintedBatch::new(segment, batch);
    let records = if args.records && batch.crc_is_right {
        records_of(bytes)
    } else {
        Ok(Vec::new())
    };
    match args.format.format {
        Format::Text => {
            print_line(&printed.text())?;
            match records {
                Ok(records) => {
                    for record in &records {
                        print_line(&format!("  {}", record_text(record)))?;
                    }
                }
                Err(error) => print_line(&format!("  its records cannot be read: {error:#}"))?,
            }
        }
        Format::Json => {
            let mut document = serde_json::to_value(&printed)?;
            if args.records {
                document["data"] = match records {
                    Ok(records) => records.iter().map(record_json).collect(),
                    Err(error) => format!("{error:#}").into(),
                };
            }
            print_json(&document)?;
        }
    }
    Ok(())
}

fn records_of(bytes: &[u8]) -> anyhow::Result<Vec<Record>> {
    let batch = Batch::parse(bytes::Bytes::copy_from_slice(bytes))?;
    let records = batch.records(&mut Decompressor::new(), DECOMPRESSED_BYTES_MAX)?;
    Ok(records.collect::<Result<_, _>>()?)
}

fn shown(bytes: Option<&bytes::Bytes>) -> String {
    bytes.map_or_else(
        || "-".to_owned(),
        |bytes| String::from_utf8_lossy(bytes).into_owned(),
    )
}

fn record_text(record: &Record) -> String {
    let headers = record
        .headers
        .iter()
        .map(|header| format!(" [{}={}]", header.key_str(), shown(header.value.as_ref())));
    format!(
        "{}  {}  {}  {}{}",
        record.offset,
        moment_text(record.timestamp_ms),
        shown(record.key.as_ref()),
        shown(record.value.as_ref()),
        headers.collect::<String>()
    )
}

fn record_json(record: &Record) -> serde_json::Value {
    let headers = record.headers.iter().map(|header| {
        serde_json::json!({
            "key": header.key_str(),
            "value": header.value.as_ref().map(|value| shown(Some(value))),
        })
    });
    serde_json::json!({
        "offset": record.offset.value(),
        "timestamp": record.timestamp_ms,
        "key": record.key.as_ref().map(|key| shown(Some(key))),
        "value": record.value.as_ref().map(|value| shown(Some(value))),
        "headers": headers.collect::<Vec<_>>(),
    })
}

fn print_end(end: &ScanEnd) -> anyhow::Result<()> {
    match end {
        ScanEnd::Complete => Ok(()),
        ScanEnd::ZeroTail { position } => print_line(&format!(
            "zeros from position {position} to the end: room for more"
        )),
        ScanEnd::Invalid { position, error } => {
            print_line(&format!("no batch at position {position}: {error}"))
        }
    }
}

fn print_line(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.write_all(b"\n")?)
}

/// What stands beside the batches of a partition.
#[derive(Debug, Serialize)]
struct Indexes {
    topic_id: Option<String>,
    leader_epochs: Vec<(i32, i64)>,
    segments: Vec<SegmentIndexes>,
    producers: Vec<Producer>,
}

#[derive(Debug, Serialize)]
struct SegmentIndexes {
    base_offset: i64,
    /// Offset and position; none without a file.
    offset_index: Option<Vec<(i64, u64)>>,
    /// Timestamp and offset.
    time_index: Option<Vec<(i64, i64)>>,
    /// Producer id, first offset, last offset of each aborted transaction.
    transaction_index: Option<Vec<(i64, i64, i64)>>,
}

#[derive(Debug, Serialize)]
struct Producer {
    #[serde(rename = "producer_id")]
    id: i64,
    epoch: i16,
    last_sequence: i32,
    last_offset: Option<i64>,
    last_seen: i64,
}

fn dump_indexes(args: &DumpArgs) -> anyhow::Result<Verdict> {
    let folder = open(&args.folder)?;
    let mut segments = Vec::new();
    for segment in folder.segments() {
        let offsets = folder.offset_index(*segment)?;
        let times = folder.time_index(*segment)?;
        let transactions = folder.transaction_index(*segment)?;
        segments.push(SegmentIndexes {
            base_offset: segment.value(),
            offset_index: offsets.map(|entries| {
                entries
                    .iter()
                    .map(|e| (e.offset.value(), e.position))
                    .collect()
            }),
            time_index: times.map(|entries| {
                entries
                    .iter()
                    .map(|e| (e.timestamp_ms, e.offset.value()))
                    .collect()
            }),
            transaction_index: transactions.map(|entries| {
                let entry = |e: &conveyor_log::tools::TransactionIndexEntry| {
                    (
                        e.producer_id.value(),
                        e.first_offset.value(),
                        e.last_offset.value(),
                    )
                };
                entries.iter().map(entry).collect()
            }),
        });
    }
    let snapshot = match folder.snapshots().last() {
        Some(offset) => folder.producers(*offset)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let producers = snapshot.iter().map(|producer| Producer {
        id: producer.producer_id.value(),
        epoch: producer.epoch.value(),
        last_sequence: producer.last_sequence,
        last_offset: producer.last_offset.map(Offset::value),
        last_seen: producer.last_seen_ms,
    });
    let epochs = folder.leader_epochs()?;
    let indexes = Indexes {
        topic_id: folder.topic_id()?.map(|id| id.to_string()),
        leader_epochs: epochs
            .iter()
            .map(|(epoch, start)| (epoch.value(), start.value()))
            .collect(),
        segments,
        producers: producers.collect(),
    };
    args.format.print(&indexes, indexes_text)?;
    Ok(Verdict::Fine)
}

fn indexes_text(indexes: &Indexes) -> String {
    let mut text = format!("TOPIC-ID  {}\n", indexes.topic_id.as_deref().unwrap_or("-"));
    let mut table = TextTable::new(["LEADER-EPOCH", "START-OFFSET"]);
    for (epoch, start) in &indexes.leader_epochs {
        table.row([epoch.to_string(), start.to_string()]);
    }
    text += &format!("\n{}", table.render());
    for segment in &indexes.segments {
        text += &format!("\nSEGMENT {}\n", segment.base_offset);
        let mut table = TextTable::new(["INDEX", "OFFSET", "POSITION OR TIME"]);
        for (offset, position) in segment.offset_index.iter().flatten() {
            table.row(["offset".into(), offset.to_string(), position.to_string()]);
        }
        for (timestamp_ms, offset) in segment.time_index.iter().flatten() {
            table.row([
                "time".into(),
                offset.to_string(),
                moment_text(*timestamp_ms),
            ]);
        }
        for (producer, first, last) in segment.transaction_index.iter().flatten() {
            let range = format!("aborted {first} to {last} by producer {producer}");
            table.row(["transaction".into(), first.to_string(), range]);
        }
        text += &table.render();
    }
    let mut table = TextTable::new([
        "PRODUCER-ID",
        "EPOCH",
        "LAST-SEQUENCE",
        "LAST-OFFSET",
        "LAST-SEEN",
    ]);
    for producer in &indexes.producers {
        table.row([
            producer.id.to_string(),
            producer.epoch.to_string(),
            producer.last_sequence.to_string(),
            producer
                .last_offset
                .map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            moment_text(producer.last_seen),
        ]);
    }
    text + "\n" + &table.render()
}

/// What a verification of one folder came to.
#[derive(Debug, Serialize)]
struct Verified {
    folder: String,
    sound: bool,
    segments: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    first_offset: Option<i64>,
    end_offset: i64,
    findings: Vec<String>,
}

fn verify(args: &VerifyArgs) -> anyhow::Result<Verdict> {
    let options = VerifyOptions {
        deep: args.deep,
        max_decompressed_bytes: DECOMPRESSED_BYTES_MAX,
        ..VerifyOptions::default()
    };
    let mut all = Vec::with_capacity(args.folders.len());
    for path in &args.folders {
        let report = open(path)?.verify(&options)?;
        all.push(Verified {
            folder: path.display().to_string(),
            sound: report.is_sound(),
            segments: report.segments,
            batches: report.batches,
            records: report.records,
            bytes: report.bytes,
            first_offset: report.first_offset.map(Offset::value),
            end_offset: report.end_offset.value(),
            findings: report.findings.iter().map(ToString::to_string).collect(),
        });
    }
    args.format.print(&all, |all| verified_text(all))?;
    let sound = all.iter().all(|verified| verified.sound);
    Ok(if sound {
        Verdict::Fine
    } else {
        Verdict::FoundWrong
    })
}

fn verified_text(all: &[Verified]) -> String {
    let mut table = TextTable::new([
        "FOLDER", "VERDICT", "SEGMENTS", "BATCHES", "RECORDS", "SIZE", "FIRST", "END",
    ]);
    for verified in all {
        table.row([
            verified.folder.clone(),
            if verified.sound { "sound" } else { "DAMAGED" }.to_owned(),
            verified.segments.to_string(),
            verified.batches.to_string(),
            verified.records.to_string(),
            bytes_text(verified.bytes),
            verified
                .first_offset
                .map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            verified.end_offset.to_string(),
        ]);
    }
    let mut text = table.render();
    for verified in all {
        for finding in &verified.findings {
            text += &format!("{}: {finding}\n", verified.folder);
        }
    }
    text
}
