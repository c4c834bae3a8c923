//! The engine beside the raw limits of the machine, in one table.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use conveyor_benches::engine;
use conveyor_benches::report::{Case, json, table};
use tempfile::TempDir;

/// Measures the log engine beside plain reads, writes and syncs of the same bytes.
#[derive(Debug, Parser)]
#[command(name = "engine", version, about)]
struct Options {
    /// What to measure; everything if not given.
    #[arg(value_enum)]
    cases: Vec<Group>,
    /// Pairs of runs for each line.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Where the files go; needs 4 GB and is left as it was. A disk, not a tmpfs.
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// Also write all runs as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail if a goal is missed.
    #[arg(long)]
    strict: bool,
}

/// A group of cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Append without sync.
    Append,
    /// Append with sync, 16 producers through the group commit.
    Sync,
    /// Reading through, and look-ups by offset.
    Read,
    /// Opening after a kill.
    Recovery,
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is for the terminal"
)]
fn main() -> Result<()> {
    let options = Options::parse();
    let folder = TempDir::with_prefix_in("conveyor-bench-", &options.folder)
        .with_context(|| format!("make a folder in {}", options.folder.display()))?;
    let mut cases = Vec::new();
    for group in chosen(&options.cases) {
        eprintln!("measuring {group:?} …");
        cases.extend(run(group, folder.path(), options.pairs)?);
    }
    println!("{}", table(&cases));
    if let Some(path) = &options.json {
        fs::write(path, json(&cases)?).with_context(|| format!("write {}", path.display()))?;
    }
    let missed = cases.iter().filter(|case| !case.meets_its_goal()).count();
    ensure!(missed == 0 || !options.strict, "{missed} goals missed");
    Ok(())
}

fn chosen(cases: &[Group]) -> Vec<Group> {
    if cases.is_empty() {
        Group::value_variants().to_vec()
    } else {
        cases.to_vec()
    }
}

fn run(group: Group, folder: &Path, pairs: usize) -> Result<Vec<Case>> {
    match group {
        Group::Append => engine::append::cases(folder, pairs),
        Group::Sync => engine::group_commit::cases(folder, pairs),
        Group::Read => engine::read::cases(folder, pairs),
        Group::Recovery => engine::recovery::cases(folder, pairs),
    }
}
