//! `conveyor projection pause` and `resume`.

use std::time::Duration;

use clap::Args;
use conveyor_processors::control::{Desired, Key};
use serde::Serialize;

use super::control_topic::{ControlTopic, now_ms};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, note};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection pause atp\n  \
    conveyor projection pause orders-archive           a sink, or a rebuild like atp@2\n  \
    conveyor projection resume atp\n\n\
    The batch under way is finished, nothing more is fetched, and the instances keep their\n\
    partitions. It holds until it is resumed, also over restarts.")]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    of: Of,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  conveyor projection resume atp")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    of: Of,
}

#[derive(Args, Debug)]
struct Of {
    /// Name of the projection, the sink, or the build that is being filled
    #[arg(value_name = "NAME")]
    projection: String,
    /// Seconds to wait until all instances have done so
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    wait: u64,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct Done {
    projection: String,
    paused: bool,
    /// Instances that have done so.
    instances: usize,
    /// Instances at work that have not, yet.
    missing: usize,
}

pub(crate) async fn pause(args: PauseArgs) -> anyhow::Result<Verdict> {
    want(args.of, true).await
}

pub(crate) async fn resume(args: ResumeArgs) -> anyhow::Result<Verdict> {
    want(args.of, false).await
}

async fn want(args: Of, paused: bool) -> anyhow::Result<Verdict> {
    let mut topic = ControlTopic::open(&args.connect).await?;
    let projection = args.projection.as_str();
    if !topic.board().projections().contains(&projection) {
        let known = topic.board().projections().join(", ");
        anyhow::bail!("nobody has told of a projection or sink {projection}; known are: {known}");
    }
    let key = Key::Desired {
        projection: projection.to_owned(),
    };
    let asked_at_ms = now_ms();
    topic.write(&key, Some(&Desired { paused })).await?;
    let has_done = |report: &conveyor_processors::control::Report| {
        let shows = report.state == "PAUSED" || !paused;
        report.asked_to_pause == paused && shows && report.at_ms >= asked_at_ms - 1_000
    };
    let within = Duration::from_secs(args.wait);
    let all = |board: &conveyor_processors::control::Board| {
        let reports = board.reports(projection).into_iter();
        let mut live = reports.filter(|(_, report)| report.is_live(now_ms()));
        live.all(|(_, report)| has_done(report))
    };
    topic.read_until(within, all).await?;
    let reports = topic.board().reports(projection).into_iter();
    let live = reports.filter(|(_, report)| report.is_live(now_ms()));
    let (done, missing): (Vec<_>, Vec<_>) = live.partition(|(_, report)| has_done(report));
    let result = Done {
        projection: projection.to_owned(),
        paused,
        instances: done.len(),
        missing: missing.len(),
    };
    if result.instances + result.missing == 0 {
        note("no instance is at work; it holds for those that start");
    }
    for (instance, report) in &missing {
        note(format!(
            "{instance} has not yet: it is {}{}",
            report.state,
            report
                .last_error
                .as_deref()
                .map_or_else(String::new, |e| format!(", {e}"))
        ));
    }
    args.format.print(&result, |result| {
        let what = if result.paused { "pause" } else { "run" };
        format!(
            "{} instances of {} {what}",
            result.instances, result.projection
        )
    })?;
    Ok(if result.missing == 0 {
        Verdict::Fine
    } else {
        Verdict::FoundWrong
    })
}
