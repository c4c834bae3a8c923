//! `conveyor workload`: real orders become warehouse events on the eight topics.

pub(crate) mod deliveries;
pub(crate) mod generator;
pub(crate) mod orders;
pub(crate) mod pace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use conveyor_paklog::workload::WorkloadEvent;
use conveyor_sdk::{Producer, ProducerConfig, ProducerRecord};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::deliveries::{Deliveries, DeliveryCounts};
use self::generator::Generator;
use self::orders::{Orders, ReadProgress};
use self::pace::Speed;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, count_text, note};
use crate::{Verdict, shutdown};

/// How long records may take to be acknowledged after the last one was made.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(150);

#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Send the events of a warehouse that handles these orders
    Run(RunArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor workload run --speed max                     a year of built-in orders at once\n  \
    conveyor workload run --orders orders.csv.gz --speed 3600   an hour of events a second\n\n\
    Orders are CSV, plain or gzip, sorted by ordered_at, with the columns ordered_at, order_id,\n\
    customer_id, store_id, sku, department, quantity. They are read as a stream. Only the order\n\
    lines are real; what follows from them is modelled and drawn from the seed.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The orders; without it a year of real orders of one store, built in
    #[arg(long, value_name = "FILE.csv[.gz]")]
    orders: Option<PathBuf>,
    /// How fast event time passes: a factor, or `max`
    #[arg(long, default_value = "max", value_name = "N|max")]
    speed: Speed,
    /// The same orders and the same seed give the same events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: FormatArgs,
}

/// What a run came to.
#[derive(Debug, Serialize)]
struct Summary {
    orders: u64,
    events: u64,
    acknowledged: u64,
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    stopped_early: bool,
    seconds: f64,
    records_per_second: f64,
    ack_ms: Quantiles,
}

/// Some quantiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Quantiles {
    /// Of a histogram in µs.
    pub(crate) fn of(histogram_us: &hdrhistogram::Histogram<u64>) -> Self {
        let ms = |quantile| histogram_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            p50: ms(0.50),
            p99: ms(0.99),
            p999: ms(0.999),
        }
    }
}

pub(crate) async fn run(command: WorkloadCommand) -> anyhow::Result<Verdict> {
    match command {
        WorkloadCommand::Run(args) => run_workload(args).await,
    }
}

async fn run_workload(args: RunArgs) -> anyhow::Result<Verdict> {
    let orders = Orders::from_flag(args.orders.as_deref());
    let (workload, progress) = orders.workload(args.seed)?;
    let client = args.connect.connect().await?;
    let producer = Producer::new(&client, producer_config())?;
    note(format!("orders: {}; seed {}", orders.describe(), args.seed));

    let start = Instant::now();
    let mut generator = Generator::start(workload);
    let mut deliveries = Deliveries::new(start);
    let bar = progress_bar(&progress);
    let ticker = tokio::spawn(show_progress(
        bar.clone(),
        progress,
        deliveries.counts(),
        start,
    ));
    let sent = tokio::select! {
        sent = send_all(&mut generator, &producer, &mut deliveries, args.speed) => sent.map(|()| false),
        asked = shutdown::requested() => asked.map(|()| true),
    };
    let stopped_early = sent?;
    let closed = producer.close(FLUSH_TIMEOUT).await;
    let counts = deliveries.counts();
    let report = deliveries.finish().await?;
    let seconds = start.elapsed().as_secs_f64();
    ticker.abort();
    bar.finish_and_clear();
    let ledger = generator.finish().await?;
    if let Err(error) = closed {
        tracing::debug!(%error, "producer gave records up");
    }

    let acknowledged = counts.acknowledged();
    let summary = Summary {
        orders: ledger.source_orders(),
        events: ledger.events(),
        acknowledged,
        failed: counts.failed(),
        last_error: counts.last_error(),
        stopped_early,
        seconds,
        records_per_second: acknowledged as f64 / seconds,
        ack_ms: Quantiles::of(&report.ack_us),
    };
    args.format.print(&summary, summary_text)?;
    if summary.failed > 0 {
        let error = summary.last_error.unwrap_or_default();
        anyhow::bail!(
            "{} records were not acknowledged, the last one: {error}",
            summary.failed
        );
    }
    Ok(Verdict::Fine)
}

fn summary_text(summary: &Summary) -> String {
    let Quantiles { p50, p99, p999 } = summary.ack_ms;
    let early = if summary.stopped_early {
        " (stopped early)"
    } else {
        ""
    };
    format!(
        "{} orders, {} events sent and acknowledged{early}, {} failed\n\
         {:.1} s, {} records/s; acknowledged after p50 {p50:.1} ms, p99 {p99:.1} ms, p999 {p999:.1} ms",
        count_text(summary.orders),
        count_text(summary.acknowledged),
        count_text(summary.failed),
        summary.seconds,
        count_text(summary.records_per_second as u64),
    )
}

/// Settings for a stream of small events: a little lingering makes batches of them.
pub(crate) fn producer_config() -> ProducerConfig {
    ProducerConfig {
        linger_ms: 5,
        ..ProducerConfig::default()
    }
}

/// The record of an event. Its timestamp is the time of sending: event time stands in the event, and
/// the topics' retention must not count from 2017.
pub(crate) fn record_of(event: WorkloadEvent) -> ProducerRecord {
    let mut record = ProducerRecord::new(event.topic().name())
        .key(event.key)
        .value(event.value);
    for (name, value) in WorkloadEvent::HEADERS {
        record = record.header(name, value.as_bytes());
    }
    record
}

async fn send_all(
    generator: &mut Generator,
    producer: &Producer,
    deliveries: &mut Deliveries,
    speed: Speed,
) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    let mut first_event_ms = None;
    while let Some(chunk) = generator.next().await {
        for event in chunk {
            let first_event_ms = *first_event_ms.get_or_insert(event.event_time_ms);
            let due = speed.due(first_event_ms, event.event_time_ms);
            if !due.is_zero() && due > start.elapsed() {
                tokio::time::sleep_until(start + due).await;
            }
            let topic = event.topic();
            let sent = Instant::now();
            let delivery = producer
                .send(record_of(event))
                .await
                .with_context(|| format!("cannot send to {topic}"))?;
            deliveries.follow(topic, delivery, sent, false).await;
        }
    }
    Ok(())
}

fn progress_bar(progress: &ReadProgress) -> ProgressBar {
    let bar = ProgressBar::new(progress.total().max(1));
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}  ETA {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Moves the bar until it is stopped; without a terminal a line every few seconds.
async fn show_progress(
    bar: ProgressBar,
    progress: ReadProgress,
    counts: Arc<DeliveryCounts>,
    start: Instant,
) {
    let period = if bar.is_hidden() {
        Duration::from_secs(5)
    } else {
        Duration::from_millis(200)
    };
    let mut ticks = tokio::time::interval(period);
    let mut before = (0, start);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (acknowledged, now) = (counts.acknowledged(), Instant::now());
        let rate = (acknowledged - before.0) as f64 / (now - before.1).as_secs_f64();
        before = (acknowledged, now);
        let line = format!(
            "{} records, {}/s, {} errors",
            count_text(acknowledged),
            count_text(rate as u64),
            count_text(counts.failed())
        );
        if bar.is_hidden() {
            let percent = 100 * progress.read() / progress.total().max(1);
            note(format!("{percent:>3} % of the orders read, {line}"));
        } else {
            bar.set_position(progress.read());
            bar.set_message(line);
        }
    }
}
