//! `conveyor projection list`.

use clap::Args;
use conveyor_processors::control::{Board, Kind, RebuildReport, Report};
use serde::Serialize;

use super::control_topic::{ControlTopic, now_ms};
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable, count_text};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection list\n  \
    conveyor projection list --format json\n\n\
    Sinks are listed by their names, builds that are being filled by theirs, as in atp@2.
    States: RUNNING; PAUSED (asked to, or its store is away); FAULTED (stopped by an error, or no\n\
    progress while there is lag); STOPPED (in order); GONE (reports no more). Figures are those of\n\
    the last second.")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A projection, a sink or a rebuild over all its instances.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    pub(super) projection: String,
    pub(super) kind: Kind,
    pub(super) version: u32,
    pub(super) state: &'static str,
    pub(super) instances: usize,
    pub(super) partitions: usize,
    pub(super) lag_records: i64,
    pub(super) lag_seconds: Option<f64>,
    pub(super) parked_keys: usize,
    pub(super) parked_records: usize,
    pub(super) store: String,
    pub(super) last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rebuild: Option<RebuildReport>,
}

impl Listed {
    /// Its name and, where it has one, its version.
    pub(super) fn title(&self) -> String {
        match self.kind {
            Kind::Sink => self.projection.clone(),
            _ => format!("{} v{}", self.projection, self.version),
        }
    }
}

pub(crate) async fn run(args: ListArgs) -> anyhow::Result<Verdict> {
    let topic = ControlTopic::open(&args.connect).await?;
    let board = topic.board();
    let names = board.projections().into_iter();
    let listed = names.map(|name| sum_up(board, name, now_ms()));
    let listed: Vec<_> = listed.collect();
    args.format.print(&listed, |listed| {
        let mut table = TextTable::new([
            "NAME",
            "KIND",
            "STATE",
            "INSTANCES",
            "PARTITIONS",
            "LAG",
            "LAG-SECONDS",
            "PARKED-KEYS",
            "PARKED",
            "PROGRESS",
            "LAST ERROR",
        ]);
        for one in listed {
            table.row([
                one.title(),
                one.kind.to_string(),
                one.state.to_owned(),
                one.instances.to_string(),
                one.partitions.to_string(),
                one.lag_records.to_string(),
                seconds_text(one.lag_seconds),
                one.parked_keys.to_string(),
                one.parked_records.to_string(),
                one.rebuild.as_ref().map_or_else(String::new, progress_text),
                one.last_error.clone().unwrap_or_default(),
            ]);
        }
        table.render()
    })?;
    Ok(Verdict::Fine)
}

/// States from the one that matters most.
const BY_WEIGHT: [&str; 5] = ["FAULTED", "PAUSED", "STARTING", "RUNNING", "GONE"];

/// One projection over its instances: those at work or, if there is none, the last that was.
pub(super) fn sum_up(board: &Board, projection: &str, now_ms: i64) -> Listed {
    let all: Vec<_> = board
        .reports(projection)
        .into_iter()
        .map(|(_, r)| r)
        .collect();
    let live = |report: &&&Report| report.is_live(now_ms);
    let mut counted: Vec<&Report> = all.iter().filter(live).copied().collect();
    let instances = counted.len();
    if counted.is_empty() {
        counted.extend(all.iter().max_by_key(|report| report.at_ms));
    }
    let state = |report: &&Report| state_of(report, now_ms);
    let states: Vec<_> = counted.iter().map(state).collect();
    let worst = BY_WEIGHT.into_iter().find(|state| states.contains(state));
    let lags: Option<Vec<i64>> = counted.iter().map(|report| report.lag_ms).collect();
    let newest = counted.iter().max_by_key(|report| report.version);
    Listed {
        projection: projection.to_owned(),
        kind: newest.map_or_else(Kind::default, |report| report.kind),
        version: newest.map_or(0, |report| report.version),
        state: worst.unwrap_or("STOPPED"),
        instances,
        partitions: counted.iter().map(|report| report.partitions.len()).sum(),
        lag_records: counted.iter().map(|report| report.lag_records).sum(),
        lag_seconds: lags.and_then(|lags| lags.into_iter().max()).map(seconds),
        parked_keys: counted.iter().map(|report| report.parked_keys).sum(),
        parked_records: counted.iter().map(|report| report.parked_records).sum(),
        store: newest.map_or_else(String::new, |report| report.store.clone()),
        last_error: counted.iter().find_map(|report| report.last_error.clone()),
        rebuild: counted.iter().find_map(|report| report.rebuild),
    }
}

/// The state that an instance has told, unless it tells nothing any more.
pub(super) fn state_of(report: &Report, now_ms: i64) -> &'static str {
    if report.is_gone(now_ms) && report.state != "FAULTED" {
        return "GONE";
    }
    let known = BY_WEIGHT.into_iter().find(|state| *state == report.state);
    known.unwrap_or("STOPPED")
}

/// "42 %, 5,000 a second, done in 12 s".
pub(super) fn progress_text(rebuild: &RebuildReport) -> String {
    let all = rebuild.records_done + rebuild.records_left;
    let percent = (rebuild.records_done * 100).checked_div(all).unwrap_or(100);
    let mut text = format!("{percent} %");
    if let Some(rate) = rebuild.records_per_second {
        let rate = count_text(rate.max(0.0).round() as u64);
        text += &format!(", {rate} a second");
    }
    if let Some(seconds) = rebuild.seconds_left {
        text += &format!(", done in {seconds:.0} s");
    }
    text
}

pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

pub(super) fn seconds_text(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: &str, at_ms: i64, lag_ms: Option<i64>) -> Vec<u8> {
        let report = Report {
            at_ms,
            state: state.to_owned(),
            lag_records: 5,
            lag_ms,
            ..Report::default()
        };
        serde_json::to_vec(&report).unwrap()
    }

    #[test]
    fn a_projection_is_as_well_as_the_worst_of_its_instances() {
        let now = 1_000_000;
        let mut board = Board::default();
        board.take(b"report/atp/a", Some(&report("RUNNING", now, Some(2_500))));
        board.take(b"report/atp/b", Some(&report("PAUSED", now, Some(0))));
        board.take(b"report/atp/c", Some(&report("RUNNING", 1, Some(9))));
        let listed = sum_up(&board, "atp", now);
        assert_eq!((listed.state, listed.instances), ("PAUSED", 2));
        assert_eq!((listed.lag_records, listed.lag_seconds), (10, Some(2.5)));

        board.take(b"report/atp/b", Some(&report("PAUSED", now, None)));
        assert_eq!(
            sum_up(&board, "atp", now).lag_seconds,
            None,
            "unknown is not 0"
        );

        let later = now + 100_000;
        let listed = sum_up(&board, "atp", later);
        assert_eq!((listed.state, listed.instances), ("GONE", 0));
        board.take(b"report/atp/b", Some(&report("STOPPED", later, None)));
        assert_eq!(sum_up(&board, "atp", later).state, "STOPPED");
    }

    #[test]
    fn progress_says_what_is_known() {
        let mut rebuild = RebuildReport {
            records_done: 30,
            records_left: 90,
            ..RebuildReport::default()
        };
        assert_eq!(progress_text(&rebuild), "25 %");
        rebuild.records_per_second = Some(1_500.4);
        rebuild.seconds_left = Some(0.06);
        assert_eq!(progress_text(&rebuild), "25 %, 1,500 a second, done in 0 s");
        let empty = RebuildReport::default();
        assert_eq!(progress_text(&empty), "100 %", "an empty log is done with");
    }

    #[test]
    fn reports_of_earlier_programs_are_of_projections() {
        let mut board = Board::default();
        let mut report: serde_json::Value =
            serde_json::from_slice(&report("RUNNING", 1_000, None)).unwrap();
        report.as_object_mut().unwrap().remove("kind").unwrap();
        let report = serde_json::to_vec(&report).unwrap();
        board.take(b"report/atp/a", Some(&report));
        let listed = sum_up(&board, "atp", 1_000);
        assert_eq!(
            (listed.kind, listed.title()),
            (Kind::Projection, "atp v0".into())
        );
    }
}
