//! How many instructions append, fetch and decode take: a figure that hardly changes from run to run,
//! where times on a shared machine do.
//!
//! `counts run MODE` does a fixed piece of work. `counts check` runs itself under callgrind, once for
//! each mode, and compares with the committed figures; `counts check --update` writes them. Only
//! what happens inside the functions named `measured_…` is counted; they are never inlined.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};
use conveyor_benches::engine::{self, Rig, without_flusher};
use conveyor_benches::events::{self, produce_rules};
use conveyor_log::{Log, LogReader};
use conveyor_record::{Codec, Decompressor, OwnedBatches, validate_produce};
use tempfile::TempDir;

/// Batches that are appended, fetched, decoded.
const BATCHES: usize = 200;
/// Bytes of each.
const BATCH_SIZE: usize = 16 << 10;
/// Bytes asked for by one fetch.
const FETCH_SIZE: usize = 256 << 10;

/// By how much a figure may exceed the committed one.
const TOLERANCE: f64 = 0.05;

/// Counts the instructions of the hot paths.
#[derive(Debug, Parser)]
#[command(name = "counts", version, about)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Does the work of one mode, for callgrind to watch.
    Run {
        /// Which.
        #[arg(value_enum)]
        mode: Mode,
        /// Where the files go.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Counts all modes under callgrind and compares with the committed figures.
    Check {
        /// The committed figures.
        #[arg(long, default_value = "benches/instructions.json")]
        figures: PathBuf,
        /// Write the figures instead of comparing.
        #[arg(long)]
        update: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Validate 200 batches of 16 KiB and append them, one at a time, without sync.
    Append,
    /// Read the 200 batches back in steps of 256 KiB.
    Fetch,
    /// Open the log of 200 batches after a kill, with nothing synced: every byte is scanned.
    Recover,
    /// Read every record of 200 batches, uncompressed.
    Decode,
    /// Read every record of 200 batches, zstd.
    DecodeZstd,
    /// Check 200 batches as a producer's.
    Validate,
}

impl Mode {
    /// Its name on the command line and in the figures.
    const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Fetch => "fetch",
            Self::Recover => "recover",
            Self::Decode => "decode",
            Self::DecodeZstd => "decode-zstd",
            Self::Validate => "validate",
        }
    }

    /// The function whose instructions count.
    const fn function(self) -> &'static str {
        match self {
            Self::Append => "*measured_append*",
            Self::Fetch => "*measured_fetch*",
            Self::Recover => "*measured_recover*",
            Self::Decode | Self::DecodeZstd => "*measured_decode*",
            Self::Validate => "*measured_validate*",
        }
    }
}

fn main() -> Result<()> {
    match Options::parse().task {
        Task::Run { mode, folder } => run(mode, &folder),
        Task::Check { figures, update } => check(&figures, update),
    }
}

fn run(mode: Mode, folder: &Path) -> Result<()> {
    match mode {
        Mode::Append | Mode::Fetch | Mode::Recover => {
            let rig = Rig::new(folder, without_flusher((BATCHES * BATCH_SIZE) as u64))?;
            let mut log = rig.create_log()?;
            measured_append(&mut log, &engine::batches(BATCH_SIZE)?)?;
            match mode {
                Mode::Fetch => measured_fetch(&log.reader()),
                Mode::Recover => {
                    drop(log);
                    measured_recover(rig.kill().path())
                }
                _ => Ok(()),
            }
        }
        Mode::Decode => measured_decode(&stored(Codec::None)?),
        Mode::DecodeZstd => measured_decode(&stored(Codec::Zstd)?),
        Mode::Validate => measured_validate(&engine::batches(BATCH_SIZE)?),
    }
}

#[allow(clippy::print_stdout, reason = "a report is for the terminal")]
fn check(figures: &Path, update: bool) -> Result<()> {
    let folder = TempDir::with_prefix("conveyor-counts-")?;
    let mut counted = BTreeMap::new();
    for mode in Mode::value_variants() {
        counted.insert(mode.name().to_owned(), count(*mode, folder.path())?);
    }
    if update {
        let text = serde_json::to_string_pretty(&counted)? + "\n";
        return fs::write(figures, text).with_context(|| format!("write {}", figures.display()));
    }
    let text =
        fs::read_to_string(figures).with_context(|| format!("read {}", figures.display()))?;
    let committed: BTreeMap<String, u64> = serde_json::from_str(&text)?;
    let mut worse = Vec::new();
    for (name, count) in &counted {
        let before = *committed
            .get(name)
            .with_context(|| format!("no figure for {name}"))?;
        let change = *count as f64 / before as f64 - 1.0;
        let per_batch = count / BATCHES as u64;
        println!(
            "{name:12} {count:>12} instructions, {per_batch:>8} a batch, {:+.1} %",
            change * 100.0
        );
        if change > TOLERANCE {
            worse.push(name.as_str());
        } else if change < -TOLERANCE {
            println!("{name:12} is better: keep it by `benches/counts.sh --update`");
        }
    }
    if !worse.is_empty() {
        bail!(
            "more than {} % above the committed figure: {}",
            TOLERANCE * 100.0,
            worse.join(", ")
        );
    }
    Ok(())
}

/// Runs this program under callgrind and reads what it counted.
fn count(mode: Mode, folder: &Path) -> Result<u64> {
    let out = folder.join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={}", mode.function()))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["run", mode.name(), "--folder"])
        .arg(folder)
        .output()
        .context("run valgrind (package valgrind)")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} under valgrind: {errors}",
        mode.name()
    );
    let text = fs::read_to_string(&out).context("read what callgrind counted")?;
    let total = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or_else(|| line.strip_prefix("summary: "))
        })
        .context("callgrind wrote no total")?;
    let count: u64 = total.trim().parse().context("callgrind wrote no number")?;
    ensure!(count > 0, "nothing of {} was counted", mode.function());
    Ok(count)
}

#[inline(never)]
fn measured_append(log: &mut Log, batches: &[Bytes]) -> Result<()> {
    engine::append_all(log, batches, BATCHES)?;
    Ok(())
}

#[inline(never)]
fn measured_fetch(reader: &LogReader) -> Result<()> {
    let end = reader.log_end_offset();
    let mut next = reader.log_start_offset();
    while next < end {
        let chunk = reader.read(next, end, FETCH_SIZE, true)?;
        ensure!(chunk.batch_count > 0, "nothing to read at {next}");
        next = chunk.next_offset;
    }
    Ok(())
}

#[inline(never)]
fn measured_recover(folder: &Path) -> Result<()> {
    let dir = engine::open_dir(folder, without_flusher(0))?;
    let (_log, report) = dir.open_log(&engine::partition(), engine::log_config())?;
    ensure!(report.bytes_scanned > 0, "nothing was scanned");
    Ok(())
}

#[inline(never)]
fn measured_decode(stored: &Bytes) -> Result<()> {
    let mut decompressor = Decompressor::new();
    for batch in OwnedBatches::new(stored.clone()) {
        let batch = batch?;
        batch.verify_crc()?;
        for record in batch.records(&mut decompressor, 1 << 20)? {
            black_box(record?);
        }
    }
    Ok(())
}

#[inline(never)]
fn measured_validate(batches: &[Bytes]) -> Result<()> {
    let mut decompressor = Decompressor::new();
    for batch in batches.iter().cycle().take(BATCHES) {
        black_box(validate_produce(
            batch,
            &produce_rules(),
            &mut decompressor,
        )?);
    }
    Ok(())
}

/// A row of batches, as a fetch brings them.
fn stored(codec: Codec) -> Result<Bytes> {
    let mut row = Vec::new();
    for n in 0..BATCHES as u64 {
        row.extend_from_slice(&events::batch(BATCH_SIZE, codec, n % 16)?);
    }
    Ok(row.into())
}
