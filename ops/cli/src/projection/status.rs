//! `conveyor projection status`.

use clap::Args;
use conveyor_processors::control::Report;
use serde::Serialize;

use super::control_topic::{ControlTopic, now_ms};
use super::list::{Listed, progress_text, seconds, seconds_text, state_of, sum_up};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable, moment_text};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection status atp\n  \
    conveyor projection status atp --format json\n  \
    conveyor projection status atp@2                      a build that is being filled\n\n\
    Lag in seconds is the age of the oldest record that is not applied, by the log's own times.")]
pub(crate) struct StatusArgs {
    /// Name of the projection, the sink, or the build that is being filled
    #[arg(value_name = "NAME")]
    projection: String,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    summary: Listed,
    paused: bool,
    instances_told: Vec<Instance>,
}

#[derive(Debug, Serialize)]
struct Instance {
    #[serde(rename = "instance")]
    name: String,
    shown_state: &'static str,
    #[serde(flatten)]
    report: Report,
}

pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<Verdict> {
    let topic = ControlTopic::open(&args.connect).await?;
    let (board, now_ms) = (topic.board(), now_ms());
    let reports = board.reports(&args.projection);
    if reports.is_empty() {
        let known = board.projections().join(", ");
        anyhow::bail!(
            "nobody has told of a projection or sink {}; known are: {known}",
            args.projection
        );
    }
    let instances = reports.into_iter().map(|(name, report)| Instance {
        name: name.to_owned(),
        shown_state: state_of(report, now_ms),
        report: report.clone(),
    });
    let status = Status {
        summary: sum_up(board, &args.projection, now_ms),
        paused: board.is_paused(&args.projection),
        instances_told: instances.collect(),
    };
    args.format.print(&status, text)?;
    Ok(Verdict::Fine)
}

fn text(status: &Status) -> String {
    let summary = &status.summary;
    let mut facts = vec![
        ("NAME", summary.title()),
        ("KIND", summary.kind.to_string()),
        ("STATE", summary.state.to_owned()),
        ("STORE", summary.store.clone()),
        ("LAG", summary.lag_records.to_string()),
        ("LAG-SECONDS", seconds_text(summary.lag_seconds)),
        (
            "PARKED",
            format!(
                "{} records of {} keys",
                summary.parked_records, summary.parked_keys
            ),
        ),
    ];
    facts.extend(
        summary
            .rebuild
            .as_ref()
            .map(|rebuild| ("PROGRESS", progress_text(rebuild))),
    );
    if status.paused {
        let resume = format!("conveyor projection resume {}", summary.projection);
        facts.push(("PAUSED", format!("asked to; go on with `{resume}`")));
    }
    if summary.parked_keys > 0 {
        let list = format!("conveyor projection parked list {}", summary.projection);
        facts.push(("", format!("see `{list}`")));
    }
    facts.extend(
        summary
            .last_error
            .clone()
            .map(|error| ("LAST-ERROR", error)),
    );
    let facts = facts
        .iter()
        .map(|(name, value)| format!("{name:<13}{value}\n"));
    let mut text: String = facts.collect();
    text += "\n";
    text += &instances_text(&status.instances_told);
    text += "\n";
    text += &partitions_text(&status.instances_told);
    text
}

fn instances_text(instances: &[Instance]) -> String {
    let mut table = TextTable::new([
        "INSTANCE",
        "STATE",
        "PARTITIONS",
        "APPLIED",
        "LAG",
        "REPORTED",
        "LAST ERROR",
    ]);
    for one in instances {
        table.row([
            one.name.clone(),
            one.shown_state.to_owned(),
            one.report.partitions.len().to_string(),
            one.report.records_applied.to_string(),
            one.report.lag_records.to_string(),
            moment_text(one.report.at_ms),
            one.report.last_error.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn partitions_text(instances: &[Instance]) -> String {
    let mut table = TextTable::new([
        "TOPIC",
        "PARTITION",
        "POSITION",
        "END",
        "LAG",
        "LAG-SECONDS",
        "NOTE",
        "INSTANCE",
    ]);
    let is_current = |one: &&Instance| !matches!(one.shown_state, "GONE" | "STOPPED");
    for one in instances.iter().filter(is_current) {
        for partition in &one.report.partitions {
            let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
            table.row([
                partition.topic.clone(),
                partition.partition.to_string(),
                number(partition.position),
                number(partition.end),
                partition.lag_records().to_string(),
                seconds_text(partition.lag_ms.map(seconds)),
                if partition.full {
                    "full of parked records"
                } else {
                    ""
                }
                .to_owned(),
                one.name.clone(),
            ]);
        }
    }
    table.render()
}
