//! Figures of the projections, sinks and rebuilds of this process as Prometheus text, over HTTP.
//!
//! Projections and rebuilds (by the names of their builds, `atp@2`) are told of as
//! `conveyor_projection_…`, sinks as `conveyor_sink_…`, how far rebuilds are as `conveyor_rebuild_…`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use conveyor_processors::control::Kind;
use conveyor_processors::status::{Snapshot, State, Status};
use tokio::net::TcpListener;

/// The format's own name of itself.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Something to tell of.
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) status: Status,
}

/// Answers `GET /metrics` until the process ends; returns where.
pub(crate) async fn serve(listen: SocketAddr, told: Vec<Told>) -> anyhow::Result<SocketAddr> {
    let cannot = || format!("cannot listen on {listen} (--metrics-listen)");
    let listener = TcpListener::bind(listen).await.with_context(cannot)?;
    let address = listener.local_addr()?;
    let told = Arc::new(told);
    let page = move || {
        let told = Arc::clone(&told);
        async move { ([("content-type", CONTENT_TYPE)], render(&told)) }
    };
    let router = Router::new().route("/metrics", get(page));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "figures are served no longer");
        }
    });
    Ok(address)
}

const STATES: [State; 5] = [
    State::Starting,
    State::Running,
    State::Paused,
    State::Faulted,
    State::Stopped,
];

fn render(told: &[Told]) -> String {
    let of = |is_wanted: fn(Kind) -> bool| {
        let wanted = told.iter().filter(move |one| is_wanted(one.kind));
        let figures = wanted.map(|one| (one.name.clone(), one.status.snapshot()));
        figures.collect::<Vec<_>>()
    };
    let mut text = String::new();
    let projections = of(|kind| kind != Kind::Sink);
    if !projections.is_empty() {
        let mut page = Page::new("conveyor_projection", "projection", projections);
        page.of_all();
        page.of_projections();
        text += &page.text;
    }
    let sinks = of(|kind| kind == Kind::Sink);
    if !sinks.is_empty() {
        let mut page = Page::new("conveyor_sink", "sink", sinks);
        page.of_all();
        text += &page.text;
    }
    let rebuilds = of(|kind| kind == Kind::Rebuild);
    if !rebuilds.is_empty() {
        let mut page = Page::new("conveyor_rebuild", "projection", rebuilds);
        page.of_rebuilds();
        text += &page.text;
    }
    text
}

/// The figures of those that are of one sort.
struct Page {
    /// How the names of its families begin.
    prefix: &'static str,
    /// The label that tells one from the other.
    label: &'static str,
    all: Vec<(String, Snapshot)>,
    text: String,
}

impl Page {
    const fn new(prefix: &'static str, label: &'static str, all: Vec<(String, Snapshot)>) -> Self {
        Self {
            prefix,
            label,
            all,
            text: String::new(),
        }
    }

    fn of_all(&mut self) {
        self.counter("records_applied", "Records written since the start", |s| {
            s.records_applied
        });
        self.counter(
            "records_rejected",
            "Records that went to the error topic",
            |s| s.records_rejected,
        );
        self.gauge("lag_records", "Records between positions and ends", |s| {
            s.lag_records
        });
        self.gauge(
            "lag_seconds",
            "Age of the oldest record that is not applied; NaN when unknown",
            |s| s.lag_ms.map_or(f64::NAN, |ms| ms as f64 / 1_000.0),
        );
        self.gauge("partitions", "Partitions owned by this process", |s| {
            s.partitions
        });
        self.states();
        self.batches();
    }

    fn of_projections(&mut self) {
        self.counter(
            "records_queued",
            "Records that began to wait behind rejected ones",
            |s| s.records_queued,
        );
        self.counter(
            "records_redriven",
            "Records that waited and were applied",
            |s| s.records_redriven,
        );
        self.gauge("parked_keys", "Keys that are parked", |s| s.parked_keys);
        self.gauge("parked_records", "Records that wait", |s| s.parked_records);
        self.gauge(
            "full_partitions",
            "Partitions that stand still, full of parked records",
            |s| s.full.len(),
        );
    }

    fn of_rebuilds(&mut self) {
        let known = |s: &Snapshot| s.rebuild.unwrap_or_default();
        let or_nan = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
        self.gauge("records_done", "Records taken in", move |s| {
            known(s).records_done
        });
        self.gauge("records_left", "Records missing up to the end", move |s| {
            known(s).records_left
        });
        self.gauge(
            "records_per_second",
            "Records taken in a second, of late; NaN when unknown",
            move |s| or_nan(known(s).records_per_second),
        );
        self.gauge(
            "seconds_left",
            "Time that it still takes; NaN when unknown",
            move |s| or_nan(known(s).seconds_left),
        );
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let name = format!("{}_{name}", self.prefix);
        self.text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn each<V: Display>(&mut self, name: &str, value: impl Fn(&Snapshot) -> V) {
        let (prefix, label) = (self.prefix, self.label);
        for (of, snapshot) in &self.all {
            let value = value(snapshot);
            self.text += &format!("{prefix}_{name}{{{label}=\"{of}\"}} {value}\n");
        }
    }

    fn counter<V: Display>(&mut self, name: &str, help: &str, value: impl Fn(&Snapshot) -> V) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        self.each(&name, value);
    }

    fn gauge<V: Display>(&mut self, name: &str, help: &str, value: impl Fn(&Snapshot) -> V) {
        self.head(name, "gauge", help);
        self.each(name, value);
    }

    /// One series for each state, 1 for the present one.
    fn states(&mut self) {
        self.head("state", "gauge", "1 for the state that it is in");
        let (prefix, label) = (self.prefix, self.label);
        for (of, snapshot) in &self.all {
            for one in STATES {
                let is = i32::from(one == snapshot.state);
                self.text += &format!("{prefix}_state{{{label}=\"{of}\",state=\"{one}\"}} {is}\n");
            }
        }
    }

    /// How long a batch takes from the first attempt until it is durable, as sum and count.
    fn batches(&mut self) {
        let help = "Time of a batch from its first attempt until it is durable";
        self.head("batch_seconds", "summary", help);
        self.each("batch_seconds_sum", |s| s.batch_time.as_secs_f64());
        self.each("batch_seconds_count", |s| s.batches);
    }
}

#[cfg(test)]
mod tests {
    use conveyor_processors::control::RebuildReport;

    use super::*;

    fn told(kind: Kind, name: &str, status: &Status) -> Told {
        Told {
            kind,
            name: name.to_owned(),
            status: status.clone(),
        }
    }

    #[test]
    fn every_family_has_a_head_and_a_line_for_each_that_it_is_about() {
        let status = Status::default();
        status.update(|s| {
            s.state = State::Running;
            s.records_applied = 7;
            s.rebuild = Some(RebuildReport {
                records_done: 5,
                records_per_second: Some(2.5),
                ..RebuildReport::default()
            });
        });
        let told = [
            told(Kind::Projection, "atp", &status),
            told(Kind::Sink, "archive", &status),
            told(Kind::Rebuild, "atp@2", &status),
        ];
        let text = render(&told);
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        has("conveyor_projection_records_applied_total{projection=\"atp\"} 7");
        has("conveyor_projection_records_applied_total{projection=\"atp@2\"} 7");
        has("conveyor_projection_state{projection=\"atp\",state=\"RUNNING\"} 1");
        has("conveyor_projection_state{projection=\"atp\",state=\"PAUSED\"} 0");
        has("conveyor_projection_lag_seconds{projection=\"atp\"} NaN");
        has("conveyor_sink_records_applied_total{sink=\"archive\"} 7");
        has("conveyor_sink_state{sink=\"archive\",state=\"RUNNING\"} 1");
        has("conveyor_rebuild_records_done{projection=\"atp@2\"} 5");
        has("conveyor_rebuild_records_per_second{projection=\"atp@2\"} 2.5");
        has("conveyor_rebuild_seconds_left{projection=\"atp@2\"} NaN");
        has("# TYPE conveyor_projection_batch_seconds summary");
        let mut heads: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        assert_eq!(heads.len(), 12 + 7 + 4);
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), 23, "a family stands in one place");
    }

    #[test]
    fn what_is_not_there_has_no_family() {
        let text = render(&[told(Kind::Sink, "archive", &Status::default())]);
        assert!(!text.contains("projection"), "{text}");
    }
}
