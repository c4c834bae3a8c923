//! Figures of the projections of this process as Prometheus text, over HTTP.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use conveyor_processors::status::{Snapshot, State, Status};
use tokio::net::TcpListener;

/// The format's own name of itself.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A projection to tell of.
pub(crate) struct Told {
    pub(crate) name: &'static str,
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
    let all = told.iter().map(|one| (one.name, one.status.snapshot()));
    let mut page = Page {
        all: all.collect(),
        text: String::new(),
    };
    page.counter(
        "records_applied",
        "Records in the rows since the start",
        |s| s.records_applied,
    );
    page.counter("records_rejected", "Records that parked their key", |s| {
        s.records_rejected
    });
    page.counter(
        "records_queued",
        "Records that began to wait behind those",
        |s| s.records_queued,
    );
    page.counter(
        "records_redriven",
        "Records that waited and were applied",
        |s| s.records_redriven,
    );
    page.gauge("parked_keys", "Keys that are parked", |s| s.parked_keys);
    page.gauge("parked_records", "Records that wait", |s| s.parked_records);
    page.gauge("lag_records", "Records between positions and ends", |s| {
        s.lag_records
    });
    page.gauge(
        "lag_seconds",
        "Age of the oldest record that is not applied; NaN when unknown",
        |s| s.lag_ms.map_or(f64::NAN, |ms| ms as f64 / 1_000.0),
    );
    page.gauge("partitions", "Partitions owned by this process", |s| {
        s.partitions
    });
    page.gauge(
        "full_partitions",
        "Partitions that stand still, full of parked records",
        |s| s.full.len(),
    );
    page.states();
    page.batches();
    page.text
}

struct Page {
    all: Vec<(&'static str, Snapshot)>,
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let name = format!("conveyor_projection_{name}");
        self.text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, projection: &str, value: impl Display) {
        self.text +=
            &format!("conveyor_projection_{name}{{projection=\"{projection}\"}} {value}\n");
    }

    fn each<V: Display>(&mut self, name: &str, value: impl Fn(&Snapshot) -> V) {
        let values: Vec<_> = self.all.iter().map(|(of, s)| (*of, value(s))).collect();
        for (projection, value) in values {
            self.line(name, projection, value);
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
        self.head(
            "state",
            "gauge",
            "1 for the state that the projection is in",
        );
        let now: Vec<_> = self.all.iter().map(|(of, s)| (*of, s.state)).collect();
        for (projection, state) in now {
            for one in STATES {
                let is = i32::from(one == state);
                self.text += &format!(
                    "conveyor_projection_state{{projection=\"{projection}\",state=\"{one}\"}} {is}\n"
                );
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
    use super::*;

    #[test]
    fn every_family_has_a_head_and_a_line_for_each_projection() {
        let status = Status::default();
        status.update(|s| {
            s.state = State::Running;
            s.records_applied = 7;
        });
        let told = ["atp", "order_tracking"].map(|name| Told {
            name,
            status: status.clone(),
        });
        let text = render(&told);
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        has("conveyor_projection_records_applied_total{projection=\"atp\"} 7");
        has("conveyor_projection_state{projection=\"order_tracking\",state=\"RUNNING\"} 1");
        has("conveyor_projection_state{projection=\"order_tracking\",state=\"PAUSED\"} 0");
        has("conveyor_projection_lag_seconds{projection=\"atp\"} NaN");
        has("# TYPE conveyor_projection_batch_seconds summary");
        let heads = text.lines().filter(|l| l.starts_with("# TYPE")).count();
        assert_eq!(heads, 12);
    }
}
