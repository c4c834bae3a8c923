//! `conveyor demo`: a year of real orders through one node into read models, and the proof that
//! nothing was lost or doubled, even if the node is killed half-way.

mod applied;
mod folder;
mod live;
mod node;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use conveyor_paklog::reconcile::ReadModel;
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::Ledger;
use conveyor_processors::driver::DriverConfig;
use conveyor_sdk::admin::{AdminClient, OffsetSpec};
use conveyor_sdk::{Client, ClientConfig, IsolationLevel, Offset, Producer, TopicPartition};
use tokio::sync::watch;

use self::applied::AppliedLog;
use self::folder::DemoFolder;
use self::live::{LiveView, Watched, WatchedProjection};
use self::node::Node;
use self::verdict::{Evidence, Latencies, Summary, check};
use crate::output::{FormatArgs, count_text, note, print_text};
use crate::projections::{Choice, RECONCILED, Running, Setup};
use crate::stores::StoreArgs;
use crate::workload::deliveries::{Deliveries, DeliveryCounts, DeliveryReport, latency_histogram};
use crate::workload::generator::Generator;
use crate::workload::orders::Orders;
use crate::workload::{Quantiles, producer_config, record_of};
use crate::{Verdict, shutdown};

/// The last events are sent at a steady rate, to show latencies without a backlog.
const STEADY_EVENTS: u64 = 2_000;
const STEADY_PER_SECOND: u32 = 1_000;
/// How long the projections may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(100);
/// How long the node is down.
const DOWN: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor demo\n  \
    conveyor demo --crash          kill the node with SIGKILL half-way; the result must be the same\n  \
    conveyor demo --keep           leave the node running at the end, to look around\n  \
    conveyor demo --store postgres://me@localhost/demo --store atp=redis://localhost\n\n\
    Only the order lines are real; stock, waves, tasks, picks, packs and failures are modelled on\n\
    them. Exit code 3 if anything does not reconcile.")]
pub(crate) struct DemoArgs {
    /// Kill the node with SIGKILL when half of the records are acknowledged, and start it again
    #[arg(long)]
    crash: bool,
    /// Other orders than the built-in ones
    #[arg(long, value_name = "FILE.csv[.gz]")]
    orders: Option<PathBuf>,
    /// The same orders and the same seed give the same events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to put the log and the read models; a folder for temporary files if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    stores: StoreArgs,
    /// Leave the node running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    format: FormatArgs,
}

pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<Verdict> {
    tokio::select! {
        verdict = demo(&args) => verdict,
        asked = shutdown::requested() => {
            asked?;
            anyhow::bail!("stopped before the end")
        }
    }
}

async fn demo(args: &DemoArgs) -> anyhow::Result<Verdict> {
    let begun = Instant::now();
    let folder = DemoFolder::create(args.dir.as_deref())?;
    let orders = Orders::from_flag(args.orders.as_deref());
    note(format!("orders   {}", orders.describe()));
    let counting = tokio::task::spawn_blocking({
        let orders = orders.clone();
        let seed = args.seed;
        move || count_events(&orders, seed)
    });
    let node = Node::start(&folder).await?;
    note(format!(
        "node     {} in {}, ready after {} ms",
        node.grpc,
        folder.path().display(),
        node.started_in.as_millis()
    ));
    let client = Client::connect(ClientConfig::new(&node.grpc)).await?;
    crate::dev::create_topics(&client).await?;
    let total = counting
        .await
        .context("the workload's thread has failed")??;
    let stage = Stage {
        args,
        folder: &folder,
        client: &client,
        orders: &orders,
        total,
    };
    let (summary, mut node) = stage.play(node, begun).await?;

    args.format.print(&summary, verdict::text)?;
    let verdict = if summary.holds() {
        Verdict::Fine
    } else {
        Verdict::FoundWrong
    };
    if args.format.format == crate::output::Format::Text {
        print_text(&look_further(&node.grpc, &folder, args))?;
    }
    if args.keep {
        shutdown::requested().await?;
    }
    drop(client);
    node.stop().await?;
    Ok(verdict)
}

/// How many events the workload will make: it makes them all and throws them away, which takes a
/// second or two.
fn count_events(orders: &Orders, seed: u64) -> anyhow::Result<u64> {
    let (mut workload, _) = orders.workload(seed)?;
    for event in workload.by_ref() {
        event?;
    }
    Ok(workload.ledger().events())
}

/// What the parts of a demo share.
struct Stage<'d> {
    args: &'d DemoArgs,
    folder: &'d DemoFolder,
    client: &'d Client,
    orders: &'d Orders,
    total: u64,
}

/// What sending came to.
struct Sent {
    report: DeliveryReport,
    ledger: Ledger,
    /// Without the steady part.
    full_speed: Duration,
    steady_from_us: u64,
}

impl Stage<'_> {
    async fn play(&self, node: Node, begun: Instant) -> anyhow::Result<(Summary, Node)> {
        let start = Instant::now();
        let wanted = BTreeSet::from(RECONCILED);
        let default = format!("sqlite:{}", self.folder.read_models().display());
        let stores = self.args.stores.open_or(&default, &wanted).await?;
        let (stop, stopped) = watch::channel(false);
        let setup = Setup {
            client: self.client.clone(),
            stores: stores.clone(),
            config: Choice::one(DriverConfig::default()),
            stop: stopped,
            build: None,
        };
        let logs: BTreeMap<&str, Arc<AppliedLog>> = RECONCILED
            .map(|name| (name, Arc::new(AppliedLog::new(start))))
            .into();
        let running = setup.start(&wanted, |declaration| {
            Arc::clone(&logs[declaration.name()]) as Arc<_>
        });
        let mut deliveries = Deliveries::new(start);
        let counts = deliveries.counts();
        let view = LiveView::start(Watched {
            total: self.total,
            counts: Arc::clone(&counts),
            projections: running.iter().map(watched).collect(),
            read_models: self.folder.read_models(),
        });

        let sending = self.send(&mut deliveries, start, &running, &logs, &view);
        let crashing = self.crash_half_way(node, &counts, &view);
        let ((ledger, full_speed, steady_from_us), crashed) = tokio::try_join!(sending, crashing)?;
        let report = deliveries.finish().await?;
        let sent = Sent {
            report,
            ledger,
            full_speed,
            steady_from_us,
        };
        view.phase("catching up");
        let ends = log_ends(self.client).await?;
        self.catch_up(&running, &logs, &ends).await?;
        let applied_in = start.elapsed();
        view.phase("reconciling");
        stop.send_replace(true);
        let mut rejected = 0;
        let mut read_model = ReadModel::default();
        for projection in running {
            rejected += projection.status.snapshot().records_rejected;
            let declaration = &projection.declaration;
            let store = stores.of(declaration.name());
            for table in declaration.tables() {
                read_model.add_rows(&store.read_table(declaration, table).await?);
            }
            projection.finished().await?;
        }
        let evidence = evidence(&sent, &counts, &ends, &logs, rejected, read_model);
        let summary = self.summarize(&sent, &evidence, crashed.recovered_after, applied_in, begun);
        view.finish().await;
        Ok((summary, crashed.node))
    }

    /// Sends everything: at full speed, then the last part at a steady rate once the projections
    /// have caught up.
    async fn send(
        &self,
        deliveries: &mut Deliveries,
        start: Instant,
        running: &[Running],
        logs: &BTreeMap<&str, Arc<AppliedLog>>,
        view: &LiveView,
    ) -> anyhow::Result<(Ledger, Duration, u64)> {
        let (workload, _) = self.orders.workload(self.args.seed)?;
        let producer = Producer::new(self.client, producer_config())?;
        let mut generator = Generator::start(workload);
        let steady_from = self.total - STEADY_EVENTS.min(self.total / 4);
        let (mut number, mut full_speed, mut steady_from_us) = (0, Duration::ZERO, u64::MAX);
        let mut steps = tokio::time::interval(Duration::from_secs(1) / STEADY_PER_SECOND);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        view.phase("sending at full speed");
        while let Some(chunk) = generator.next().await {
            for event in chunk {
                if number == steady_from {
                    producer.flush().await;
                    full_speed = start.elapsed();
                    view.phase("catching up");
                    self.catch_up(running, logs, &log_ends(self.client).await?)
                        .await?;
                    view.phase("sending at 1,000 records/s");
                    steady_from_us = start.elapsed().as_micros() as u64;
                    steps.reset();
                }
                let steady = number >= steady_from;
                // Intended send times: a late send counts from when it should have been.
                let sent = if steady {
                    steps.tick().await.into_std()
                } else {
                    Instant::now()
                };
                let topic = event.topic();
                let delivery = producer
                    .send(record_of(event))
                    .await
                    .with_context(|| format!("cannot send to {topic}"))?;
                deliveries.follow(topic, delivery, sent, steady).await;
                number += 1;
            }
        }
        producer.flush().await;
        let ledger = generator.finish().await?;
        Ok((ledger, full_speed, steady_from_us))
    }

    /// Waits until every projection has applied everything up to `ends`.
    async fn catch_up(
        &self,
        running: &[Running],
        logs: &BTreeMap<&str, Arc<AppliedLog>>,
        ends: &BTreeMap<TopicPartition, i64>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        for projection in running {
            let name = projection.declaration.name();
            let behind = || behind(projection, &logs[name], ends);
            while let Some(what) = behind() {
                if projection.is_finished() || Instant::now() > deadline {
                    let figures = projection.status.snapshot();
                    let error = figures.last_error.unwrap_or_default();
                    anyhow::bail!(
                        "projection {name} does not catch up: {what}, state {} {error}; see {}",
                        figures.state,
                        self.folder.node_log().display()
                    );
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// With `--crash`: kills the node when half of the records are acknowledged, and starts it
    /// again.
    async fn crash_half_way(
        &self,
        mut node: Node,
        counts: &DeliveryCounts,
        view: &LiveView,
    ) -> anyhow::Result<Crashed> {
        if !self.args.crash {
            return Ok(Crashed {
                node,
                recovered_after: None,
            });
        }
        while counts.acknowledged() < self.total / 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let killed = Instant::now();
        node.kill().await?;
        let before = counts.acknowledged();
        view.say(&format!(
            "KILL     the node, by SIGKILL, after {} records",
            count_text(before)
        ));
        tokio::time::sleep(DOWN).await;
        node.restart().await?;
        view.say(&format!(
            "restart  recovered and ready after {} ms",
            node.started_in.as_millis()
        ));
        while counts.acknowledged() <= before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Crashed {
            node,
            recovered_after: Some(killed.elapsed()),
        })
    }

    fn summarize(
        &self,
        sent: &Sent,
        evidence: &Evidence<'_>,
        recovered_after: Option<Duration>,
        applied_in: Duration,
        begun: Instant,
    ) -> Summary {
        let (mut full_speed_us, mut steady_us) = (latency_histogram(), latency_histogram());
        let mut applied = 0;
        for (_, log) in &evidence.applied {
            let sent_times = &sent.report.sent;
            log.record_latencies(
                sent_times,
                sent.steady_from_us,
                &mut full_speed_us,
                &mut steady_us,
            );
            applied += log.records_by_topic().values().sum::<u64>();
        }
        let full_speed_records = sent.report.ack_us.len();
        Summary {
            orders: evidence.ledger.source_orders(),
            events: evidence.ledger.events(),
            final_stages: evidence.read_model.stages(),
            killed: self.args.crash,
            recovered_after_ms: recovered_after.map(|after| after.as_millis() as u64),
            produce_seconds: sent.full_speed.as_secs_f64(),
            produced_per_second: full_speed_records as f64 / sent.full_speed.as_secs_f64(),
            applied_per_second: applied as f64 / applied_in.as_secs_f64(),
            total_seconds: begun.elapsed().as_secs_f64(),
            full_speed: Latencies {
                ack_ms: Quantiles::of(&sent.report.ack_us),
                row_ms: Quantiles::of(&full_speed_us),
            },
            steady: Latencies {
                ack_ms: Quantiles::of(&sent.report.steady_ack_us),
                row_ms: Quantiles::of(&steady_us),
            },
            checks: check(evidence),
            folder: self.folder.path().display().to_string(),
        }
    }
}

fn watched(projection: &Running) -> WatchedProjection {
    let sources = projection.declaration.sources().iter();
    WatchedProjection {
        name: projection.declaration.name(),
        sources: sources.filter_map(|name| Topic::from_name(name)).collect(),
        status: projection.status.clone(),
    }
}

/// The node, and how long it was away.
struct Crashed {
    node: Node,
    recovered_after: Option<Duration>,
}

/// What a projection still has to apply, if anything.
fn behind(
    projection: &Running,
    log: &AppliedLog,
    ends: &BTreeMap<TopicPartition, i64>,
) -> Option<String> {
    let positions = log.positions();
    let sources = projection.declaration.sources();
    ends.iter()
        .filter(|(name, _)| sources.contains(&&*name.topic))
        .find_map(|(name, end)| {
            let place = conveyor_processors::TopicPartition::new(&*name.topic, name.partition);
            let position = positions.get(&place).copied().unwrap_or(0);
            (position < *end).then(|| format!("{name} stands at {position} of {end}"))
        })
}

/// What the checks look at.
fn evidence<'e>(
    sent: &'e Sent,
    counts: &DeliveryCounts,
    ends: &BTreeMap<TopicPartition, i64>,
    logs: &'e BTreeMap<&'static str, Arc<AppliedLog>>,
    rejected: u64,
    mut read_model: ReadModel,
) -> Evidence<'e> {
    let mut log_ends = BTreeMap::new();
    for (partition, end) in ends {
        if let Some(topic) = Topic::from_name(&partition.topic) {
            *log_ends.entry(topic).or_default() += *end as u64;
        }
    }
    for (name, log) in logs {
        for (topic, records) in log.records_by_topic() {
            read_model
                .applied
                .insert(((*name).to_owned(), topic), records);
        }
    }
    Evidence {
        ledger: &sent.ledger,
        acknowledged: Topic::ALL
            .map(|topic| (topic, counts.acknowledged_on(topic)))
            .into(),
        log_ends,
        failed: counts.failed(),
        rejected,
        applied: logs.iter().map(|(name, log)| (*name, &**log)).collect(),
        read_model,
    }
}

/// Where the log ends, partition by partition.
async fn log_ends(client: &Client) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let partitions = Topic::ALL.into_iter().flat_map(|topic| {
        let count = topic.partitions() as i32;
        (0..count).map(move |number| TopicPartition::new(topic.name(), number))
    });
    let specs: Vec<_> = partitions
        .map(|partition| (partition, OffsetSpec::Latest))
        .collect();
    let admin = AdminClient::new(client);
    let mut ends = BTreeMap::new();
    for (partition, listed) in admin
        .list_offsets(&specs, IsolationLevel::ReadUncommitted)
        .await?
    {
        ends.insert(partition, listed?.offset.map_or(0, Offset::value));
    }
    Ok(ends)
}

fn look_further(grpc: &str, folder: &DemoFolder, args: &DemoArgs) -> String {
    let path = folder.path().display();
    let node = if args.keep {
        format!(
            "The node is still running (Ctrl-C ends it). In another terminal:\n  export CONVEYOR_BOOTSTRAP={grpc}\n"
        )
    } else {
        format!(
            "Everything is in {path} until the next demo. To look around:\n  \
             conveyor dev --dir {path}            and in another terminal:\n"
        )
    };
    let read_models = folder.read_models();
    let queries = if args.stores.is_empty() {
        format!(
            "  sqlite3 {0}  'select stage, count(*) from order_tracking group by stage'\n  \
             sqlite3 {0}  'select * from atp order by atp limit 10'\n",
            read_models.display()
        )
    } else {
        String::new()
    };
    format!(
        "\n{node}  conveyor topic list\n  \
         conveyor topic consume order-events -o :end -n 3\n  \
         conveyor group describe order_tracking\n{queries}",
    )
}
