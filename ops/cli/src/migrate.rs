//! `conveyor migrate`: takes over what another broker has left.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use conveyor_migrate::adopt::Imported;
use conveyor_migrate::{Mode, Options, Plan, Step};
use serde::Serialize;

use crate::Verdict;
use crate::output::{Format, FormatArgs, TextTable, bytes_text, count_text, note, section};

/// How often progress is told to a log; a terminal is told more often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
const TERMINAL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Adopt the data of a stopped Kafka broker: topics, records, offsets, groups, transactions
    Import(ImportArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor migrate import --kafka-log-dir /var/lib/kafka --data-dir /srv/conveyor --dry-run\n  \
    conveyor migrate import --kafka-log-dir /kafka/a --kafka-log-dir /kafka/b --data-dir /srv/conveyor\n  \
    conveyor migrate import --kafka-log-dir /disk/kafka --data-dir /disk/conveyor --move\n\n\
    For a broker of Kafka 3.x or 4.x in KRaft mode that was stopped in order. Every batch is read and\n\
    checked first, and the plan is printed before anything is changed. Topic ids, offsets, leader\n\
    epochs, producer state, committed offsets and transactions stay as they are, so clients go on\n\
    where they were. The source stays untouched unless --move is given. An import that was\n\
    interrupted goes on when the same command is run again.\n\n\
    Exit code 3 if something stands in the way: it is named, and nothing was changed.")]
pub(crate) struct ImportArgs {
    /// A directory of Kafka's setting log.dirs; name all of them
    #[arg(long, required = true, value_name = "DIR")]
    kafka_log_dir: Vec<PathBuf>,
    /// Kafka's metadata.log.dir, if it is none of its log.dirs
    #[arg(long, value_name = "DIR")]
    kafka_metadata_dir: Option<PathBuf>,
    /// Where our data goes, an empty directory: one for all, or one for each --kafka-log-dir
    #[arg(long, required = true, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// Only check and print the plan
    #[arg(long)]
    dry_run: bool,
    /// Move folders instead of copying them; Kafka cannot use its directory afterwards
    #[arg(long, conflicts_with = "link")]
    r#move: bool,
    /// Share closed segments by hard links instead of copying them; needs one volume
    #[arg(long)]
    link: bool,
    /// Cut what a broker that did not stop in order left torn at the end of its logs
    #[arg(long)]
    recover: bool,
    /// A topic to leave out; may be given again
    #[arg(long, value_name = "TOPIC")]
    exclude: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) fn run(command: MigrateCommand) -> anyhow::Result<Verdict> {
    match command {
        MigrateCommand::Import(args) => import(args),
    }
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    plan: &'a Plan,
    /// None if nothing was changed.
    imported: Option<Imported>,
}

fn import(args: ImportArgs) -> anyhow::Result<Verdict> {
    let format = args.format;
    let dry_run = args.dry_run;
    let mut plan = Plan::make(&options(args))?;
    let mut progress = ProgressNotes::default();
    if plan.is_possible() {
        plan.verify(&mut |step| progress.tell(&step))?;
    }
    if format.format == Format::Text {
        format.print(&plan, plan_text)?;
    }
    let imported = if plan.is_possible() && !dry_run {
        plan.transfer(&mut |step| progress.tell(&step))?;
        Some(plan.adopt(&mut |step| progress.tell(&step))?)
    } else {
        None
    };
    let verdict = if plan.is_possible() {
        Verdict::Fine
    } else {
        Verdict::FoundWrong
    };
    let outcome = Outcome {
        plan: &plan,
        imported,
    };
    format.print(&outcome, |outcome| outcome_text(outcome, dry_run))?;
    Ok(verdict)
}

fn options(args: ImportArgs) -> Options {
    Options {
        kafka_log_dirs: args.kafka_log_dir,
        kafka_metadata_dir: args.kafka_metadata_dir,
        data_dirs: args.data_dir,
        mode: match (args.r#move, args.link) {
            (true, _) => Mode::Move,
            (false, true) => Mode::Link,
            (false, false) => Mode::Copy,
        },
        recover: args.recover,
        exclude: args.exclude.into_iter().collect::<BTreeSet<_>>(),
    }
}

fn plan_text(plan: &Plan) -> String {
    let mut text = format!(
        "cluster {}, node {}: {} topics, {} partitions, {}\n",
        plan.cluster_id,
        plan.node_id,
        plan.topics.len(),
        plan.partition_count(),
        bytes_text(plan.bytes),
    );
    for directory in &plan.directories {
        text += &format!(
            "{} -> {}\n",
            directory.kafka_log_dir.display(),
            directory.data_dir.display()
        );
    }
    let mut table = TextTable::new(["TOPIC", "PARTITIONS", "RECORDS", "SIZE"]);
    for topic in &plan.topics {
        let records: Option<u64> = topic.partitions.iter().map(|p| p.records).sum();
        table.row([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            records.map_or_else(|| "-".to_owned(), count_text),
            bytes_text(topic.partitions.iter().map(|p| p.bytes).sum()),
        ]);
    }
    text += "\n";
    text += &section("taken over", &table.render());
    if !plan.left_out.is_empty() {
        let lines = plan.left_out.iter();
        let lines: Vec<String> = lines.map(|it| format!("{}: {}", it.what, it.why)).collect();
        text += "\n";
        text += &section("left out", &lines.join("\n"));
    }
    if !plan.problems.is_empty() {
        let lines = plan.problems.iter();
        let lines: Vec<String> = lines
            .map(|it| format!("{}\n  {}\n  -> {}", it.place, it.what, it.remedy))
            .collect();
        text += "\n";
        text += &section("in the way", &lines.join("\n"));
    }
    text
}

fn outcome_text(outcome: &Outcome<'_>, dry_run: bool) -> String {
    let plan = outcome.plan;
    let Some(imported) = &outcome.imported else {
        return if plan.is_possible() && dry_run {
            "\nnothing stands in the way; nothing was changed (--dry-run)".to_owned()
        } else {
            "\nnothing was changed".to_owned()
        };
    };
    let mut dirs: Vec<String> = Vec::new();
    for directory in &plan.directories {
        let dir = directory.data_dir.display().to_string();
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    let cut = match imported.bytes_truncated {
        0 => String::new(),
        bytes => format!(", {} torn bytes cut", bytes_text(bytes)),
    };
    format!(
        "\nimported {} topics, {} partitions, {} records{cut}\nstart the node on them with the \
         address that Kafka had:\n  conveyor broker --set node.id={} --set log.dirs={} --set \
         listeners=PLAINTEXT://0.0.0.0:9092",
        imported.topics,
        imported.partitions,
        count_text(imported.records),
        plan.node_id,
        dirs.join(","),
    )
}

/// Tells people how far it is: what, how much of how much, how fast, how long still.
#[derive(Debug, Default)]
struct ProgressNotes {
    stage: &'static str,
    partition: String,
    done: u64,
    total: u64,
    began: Option<Instant>,
    told: Option<Instant>,
}

impl ProgressNotes {
    fn tell(&mut self, step: &Step<'_>) -> bool {
        match step {
            Step::Begin { stage, bytes } => {
                let now = Instant::now();
                *self = Self {
                    stage,
                    total: *bytes,
                    began: Some(now),
                    told: Some(now),
                    ..Self::default()
                };
            }
            Step::Partition(name) => (*name).clone_into(&mut self.partition),
            Step::Bytes(bytes) => self.done += bytes,
        }
        let interval = if std::io::stderr().is_terminal() {
            TERMINAL_INTERVAL
        } else {
            LOG_INTERVAL
        };
        if self.told.is_some_and(|told| told.elapsed() >= interval) {
            self.told = Some(Instant::now());
            note(self.line());
        }
        true
    }

    fn line(&self) -> String {
        let seconds = self
            .began
            .map_or(0.0, |began| began.elapsed().as_secs_f64());
        let rate = self.done as f64 / seconds.max(0.001);
        // The index files count in the total and are passed over quickly.
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1.0);
        format!(
            "{} {}: {} of {}, {}/s, {:.0} s left",
            self.stage,
            self.partition,
            bytes_text(self.done),
            bytes_text(self.total),
            bytes_text(rate as u64),
            left
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_rate_and_rest() {
        let mut notes = ProgressNotes::default();
        notes.tell(&Step::Begin {
            stage: "copying",
            bytes: 4 << 20,
        });
        notes.tell(&Step::Partition("orders-0"));
        notes.tell(&Step::Bytes(1 << 20));
        let line = notes.line();
        assert!(
            line.starts_with("copying orders-0: 1.0 MiB of 4.0 MiB, "),
            "{line}"
        );
        assert!(line.ends_with(" s left"), "{line}");
    }
}
