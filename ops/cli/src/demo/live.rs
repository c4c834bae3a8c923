//! The demo's live view: a block that redraws itself in a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use conveyor_paklog::topics::Topic;
use conveyor_processors::status::{Snapshot, Status};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinHandle;

use crate::output::{count_text, note};
use crate::workload::deliveries::DeliveryCounts;

/// How often the block is redrawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(2);

/// What the view looks at.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// Records that will be sent.
    pub(crate) total: u64,
    /// Records sent so far.
    pub(crate) counts: Arc<DeliveryCounts>,
    /// The projections.
    pub(crate) projections: Vec<WatchedProjection>,
    /// Where `order_tracking` is.
    pub(crate) read_models: PathBuf,
}

/// A projection as the view looks at it.
#[derive(Clone, Debug)]
pub(crate) struct WatchedProjection {
    pub(crate) name: &'static str,
    /// The topics it reads.
    pub(crate) sources: Vec<Topic>,
    pub(crate) status: Status,
}

impl Watched {
    /// Records that are in the log and not in the projection's rows.
    fn lag(&self, projection: &WatchedProjection, snapshot: &Snapshot) -> u64 {
        let sources = projection.sources.iter();
        let sent: u64 = sources
            .map(|topic| self.counts.acknowledged_on(*topic))
            .sum();
        let taken_in =
            snapshot.records_applied + snapshot.records_rejected + snapshot.records_queued;
        sent.saturating_sub(taken_in)
    }
}

/// The view; it goes away when dropped.
#[derive(Debug)]
pub(crate) struct LiveView {
    bar: ProgressBar,
    phase: Arc<Mutex<String>>,
    stopped: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl LiveView {
    /// Starts to show.
    pub(crate) fn start(watched: Watched) -> Self {
        let bar = ProgressBar::new(watched.total);
        let style = ProgressStyle::with_template("  {bar:56} {percent:>3}%  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let phase = Arc::new(Mutex::new(String::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let shower = Shower {
            before: Before::new(&watched),
            watched,
            bar: bar.clone(),
            phase: Arc::clone(&phase),
            stopped: Arc::clone(&stopped),
        };
        let task = Some(tokio::task::spawn_blocking(move || shower.run()));
        Self {
            bar,
            phase,
            stopped,
            task,
        }
    }

    /// What is going on, in a few words.
    pub(crate) fn phase(&self, text: &str) {
        text.clone_into(&mut self.phase.lock());
    }

    /// A line that stays, above the block.
    pub(crate) fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            note(text);
        } else {
            self.bar.println(text);
        }
    }

    /// Takes the block away, and returns when nothing more will be drawn.
    pub(crate) async fn finish(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "the live view has failed");
        }
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.bar.finish_and_clear();
    }
}

struct Shower {
    watched: Watched,
    bar: ProgressBar,
    phase: Arc<Mutex<String>>,
    stopped: Arc<AtomicBool>,
    before: Before,
}

/// The figures of the last drawing, for rates.
struct Before {
    at: Instant,
    topics: [u64; Topic::ALL.len()],
    projections: Vec<u64>,
    /// Rates, smoothed: records a second.
    topic_rates: [f64; Topic::ALL.len()],
    projection_rates: Vec<f64>,
}

impl Before {
    fn new(watched: &Watched) -> Self {
        Self {
            at: Instant::now(),
            topics: Default::default(),
            projections: vec![0; watched.projections.len()],
            topic_rates: Default::default(),
            projection_rates: vec![0.0; watched.projections.len()],
        }
    }
}

impl Shower {
    fn run(mut self) {
        let period = if self.bar.is_hidden() { LINE } else { REDRAW };
        let mut next = Instant::now() + period;
        while !self.stopped.load(Ordering::Relaxed) {
            std::thread::sleep(REDRAW.min(Duration::from_millis(100)));
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + period;
            let projections = self.watched.projections.iter();
            let snapshots: Vec<_> = projections.map(|p| p.status.snapshot()).collect();
            self.measure(&snapshots);
            if self.bar.is_hidden() {
                note(self.line(&snapshots));
            } else {
                self.bar.set_position(self.watched.counts.acknowledged());
                self.bar.set_message(self.block(&snapshots));
            }
        }
    }

    fn measure(&mut self, snapshots: &[Snapshot]) {
        let seconds = self.before.at.elapsed().as_secs_f64().max(0.001);
        self.before.at = Instant::now();
        for (index, topic) in Topic::ALL.into_iter().enumerate() {
            let now = self.watched.counts.acknowledged_on(topic);
            let rate = (now - self.before.topics[index]) as f64 / seconds;
            smooth(&mut self.before.topic_rates[index], rate);
            self.before.topics[index] = now;
        }
        for (index, snapshot) in snapshots.iter().enumerate() {
            let now = snapshot.records_applied;
            let rate = now.saturating_sub(self.before.projections[index]) as f64 / seconds;
            smooth(&mut self.before.projection_rates[index], rate);
            self.before.projections[index] = now;
        }
    }

    fn rate(&self) -> f64 {
        self.before.topic_rates.iter().sum()
    }

    /// How long sending will take, at the present rate.
    fn eta(&self) -> String {
        let left = self
            .watched
            .total
            .saturating_sub(self.watched.counts.acknowledged());
        match self.rate() {
            rate if rate >= 1.0 => format!("ETA {:.0} s", left as f64 / rate),
            _ => "ETA -".to_owned(),
        }
    }

    fn sending(&self) -> String {
        format!(
            "{} of {} records  {}/s  {} errors",
            count_text(self.watched.counts.acknowledged()),
            count_text(self.watched.total),
            count_text(self.rate() as u64),
            self.watched.counts.failed(),
        )
    }

    fn line(&self, snapshots: &[Snapshot]) -> String {
        let percent = 100 * self.watched.counts.acknowledged() / self.watched.total.max(1);
        let projections = self
            .watched
            .projections
            .iter()
            .zip(snapshots)
            .map(|(projection, s)| {
                let lag = count_text(self.watched.lag(projection, s));
                format!(
                    "{} {} (lag {lag})",
                    projection.name,
                    count_text(s.records_applied)
                )
            });
        let phase = self.phase.lock().clone();
        let projections = projections.collect::<Vec<_>>().join(", ");
        format!(
            "{percent:>3} %  {}  {}  {phase}; applied: {projections}",
            self.sending(),
            self.eta()
        )
    }

    fn block(&self, snapshots: &[Snapshot]) -> String {
        let phase = self.phase.lock().clone();
        let mut text = format!("{}\n  {}  {phase}\n\n", self.eta(), self.sending());
        text += &format!("  {:<20}{:>12}{:>12}\n", "TOPIC", "RECORDS", "PER SECOND");
        for (index, topic) in Topic::ALL.into_iter().enumerate() {
            text += &format!(
                "  {:<20}{:>12}{:>12}\n",
                topic.name(),
                count_text(self.before.topics[index]),
                count_text(self.before.topic_rates[index] as u64),
            );
        }
        text += &format!(
            "\n  {:<20}{:>12}{:>12}{:>10}  {}\n",
            "PROJECTION", "APPLIED", "PER SECOND", "LAG", "STATE"
        );
        let projections = self.watched.projections.iter().zip(snapshots);
        for ((projection, snapshot), rate) in projections.zip(&self.before.projection_rates) {
            text += &format!(
                "  {:<20}{:>12}{:>12}{:>10}  {}\n",
                projection.name,
                count_text(snapshot.records_applied),
                count_text(*rate as u64),
                count_text(self.watched.lag(projection, snapshot)),
                snapshot.state,
            );
        }
        text += &format!(
            "\n  orders  {}\n",
            stages_text(&stages(&self.watched.read_models))
        );
        text
    }
}

fn smooth(rate: &mut f64, now: f64) {
    *rate = if *rate == 0.0 {
        now
    } else {
        0.7 * *rate + 0.3 * now
    };
}

/// Orders in each stage, read from the read model as anybody could; nothing while it is not there.
pub(crate) fn stages(read_models: &std::path::Path) -> BTreeMap<String, u64> {
    let read = || -> rusqlite::Result<BTreeMap<String, u64>> {
        let file = Connection::open_with_flags(read_models, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut query =
            file.prepare("SELECT stage, count(*) FROM order_tracking GROUP BY stage")?;
        let rows = query.query_map([], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64))
        })?;
        rows.collect()
    };
    read().unwrap_or_default()
}

/// `PICKING 12 · SHIPPED 2,451`, in two lines if need be.
pub(crate) fn stages_text(stages: &BTreeMap<String, u64>) -> String {
    const WIDTH_MAX: usize = 66;
    let mut text = String::new();
    let mut width = 0;
    for (stage, count) in stages {
        let part = format!("{stage} {}", count_text(*count));
        if width > 0 && width + part.len() + 3 > WIDTH_MAX {
            text += "\n          ";
            width = 0;
        } else if width > 0 {
            text += " · ";
            width += 3;
        }
        width += part.len();
        text += &part;
    }
    text
}
