//! `conveyor processors`: read models kept up to date from the log.

mod config;
mod normalise;
mod sinks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use conveyor_paklog::projection::NAMES;
use conveyor_processors::control::Kind;
use conveyor_processors::driver::DriverConfig;
use conveyor_processors::status::{NoObserver, Status};
use serde::Serialize;
use tokio::sync::watch;

use self::config::{Plan, PlannedProjection};
use self::sinks::RunningSink;
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::logging::{self, LoggingArgs};
use crate::metrics::{self, Told};
use crate::output::{Format, FormatArgs, TextTable, note, print_json, print_text};
use crate::projections::{Choice, Running, Setup};
use crate::shutdown::Shutdown;
use crate::stores::{self, StoreArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum ProcessorsCommand {
    /// Run PakLog's projections and sinks until stopped
    Run(RunArgs),
    /// Make canonical events of what PakLog's services write, exactly once, until stopped
    Normalise(normalise::NormaliseArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor processors run --store read-models.sqlite\n  \
    conveyor processors run --projection atp --projection order_tracking\n  \
    sqlite3 read-models.sqlite 'select * from atp limit 5'      while it runs\n  \
    conveyor processors run --config processors.toml --check    what would run where\n  \
    conveyor processors run --store postgres://conveyor@db/warehouse \\\n      \
      --store atp=redis://cache --store order_tracking=mongodb://docs/warehouse\n\n\
    A store that is away pauses its projections until it is back. Rows and source positions are\n\
    written in one transaction, so a store always equals the fold of the log up to its positions.\n\
    Several instances share the partitions as one consumer group, named\n\
    like the projection. Records that cannot be applied go to error-events with their reason.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    stores: StoreArgs,
    /// A TOML file that says what runs where, instead of --store and --projection;
    /// processors/example.toml shows all there is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "projection"])]
    config: Option<PathBuf>,
    /// Check the settings, print what would run where, and run nothing
    #[arg(long)]
    check: bool,
    /// Run only this projection; may be given again
    #[arg(long, value_name = "NAME", value_parser = NAMES)]
    projection: Vec<String>,
    /// Stop once everything that is in the log has been applied
    #[arg(long)]
    until_end: bool,
    /// Own partitions even if the store knows a newer owner: after a consumer group was deleted.
    /// Never with other instances running
    #[arg(long)]
    take_over: bool,
    /// Stop all projections when one stops by an error. Otherwise the others go on, and the exit code
    /// tells at the end
    #[arg(long)]
    fail_fast: bool,
    /// Serve figures for Prometheus at this address, path /metrics
    #[arg(long, value_name = "HOST:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Seconds between two reports of the state
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    report_every: u64,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    logging: LoggingArgs,
}

/// What the flags ask for.
fn plan_of_flags(args: &RunArgs) -> anyhow::Result<Plan> {
    let wanted =
        |name: &&str| args.projection.is_empty() || args.projection.iter().any(|n| n == name);
    let wanted: BTreeSet<&'static str> = NAMES.into_iter().filter(wanted).collect();
    let addresses = args.stores.addresses(&wanted)?.into_iter();
    let projections = addresses.map(|(name, address)| (name, PlannedProjection::plain(address)));
    Ok(Plan {
        bootstrap: None,
        projections: projections.collect(),
        sinks: BTreeMap::new(),
        error_topic: DriverConfig::default().error_topic,
    })
}

/// How the drivers work.
fn driver_configs(plan: &Plan, take_over: bool) -> Choice<DriverConfig> {
    let mut configs = Choice::one(DriverConfig::default());
    for (name, planned) in &plan.projections {
        let config = DriverConfig {
            take_over,
            ..planned.driver_config()
        };
        configs.keep((*name).to_owned(), config);
    }
    configs
}

/// What would run, and where, as `--check` shows it.
#[derive(Debug, Serialize)]
struct PlannedRow<'p> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'p str,
    into: String,
    batch_records_max: usize,
    error_topic: &'p str,
}

fn print_plan(plan: &Plan, format: FormatArgs) -> anyhow::Result<()> {
    let projections = plan.projections.iter().map(|(name, planned)| PlannedRow {
        kind: "projection",
        name,
        into: planned.address.to_string(),
        batch_records_max: planned.batch_records_max,
        error_topic: &planned.error_topic,
    });
    let sinks = plan.sinks.iter().map(|(name, settings)| PlannedRow {
        kind: "sink",
        name,
        into: settings.shown_target(),
        batch_records_max: settings.batch_limits().records_max,
        error_topic: settings
            .error_topic
            .as_ref()
            .map_or(&plan.error_topic, |topic| topic.as_str()),
    });
    let rows: Vec<_> = projections.chain(sinks).collect();
    format.print(&rows, |rows| {
        let mut table = TextTable::new(["TYPE", "NAME", "INTO", "BATCH", "ERROR TOPIC"]);
        for row in rows {
            table.row([
                row.kind.to_owned(),
                row.name.to_owned(),
                row.into.clone(),
                row.batch_records_max.to_string(),
                row.error_topic.to_owned(),
            ]);
        }
        table.render()
    })?;
    Ok(())
}

/// What a projection or a sink shows.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    projection: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<String>,
    state: String,
    records_applied: u64,
    records_rejected: u64,
    lag_records: i64,
    partitions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

pub(crate) async fn run(command: ProcessorsCommand) -> anyhow::Result<Verdict> {
    match command {
        ProcessorsCommand::Run(args) => run_processors(args).await,
        ProcessorsCommand::Normalise(args) => normalise::run(args).await,
    }
}

async fn run_processors(args: RunArgs) -> anyhow::Result<Verdict> {
    logging::start(&args.logging)?;
    let plan = match &args.config {
        Some(path) => config::load(path)?,
        None => plan_of_flags(&args)?,
    };
    if args.check {
        print_plan(&plan, args.format)?;
        return Ok(Verdict::Fine);
    }
    let mut shutdown = Shutdown::listen()?;
    let (stop, stopped) = watch::channel(false);
    let work = tokio::select! {
        // Nothing has been read yet: there is nothing to stop in order.
        () = shutdown.requested() => return Ok(Verdict::Fine),
        work = start(&args, &plan, stopped) => work?,
    };
    if let Some(listen) = args.metrics_listen {
        let address = metrics::serve(listen, work.told()).await?;
        note(format!("figures at http://{address}/metrics"));
    }
    let every = Duration::from_secs(args.report_every);
    tokio::select! {
        () = shutdown.requested() => {}
        reported = report(&work, every, args.format.format) => reported?,
        () = ended(&work, args.until_end, args.fail_fast) => {}
    }
    stop.send_replace(true);
    print_reports(&work, args.format.format)?;
    let failures = work.finished().await;
    if failures.is_empty() {
        return Ok(Verdict::Fine);
    }
    anyhow::bail!(failures.join("\n"))
}

/// Opens the stores, connects and starts all that the plan names, until `stopped` says otherwise.
async fn start(
    args: &RunArgs,
    plan: &Plan,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Work> {
    let opened = sinks::open(plan, args.take_over).await?;
    let addresses = plan.projections.iter();
    let stores = stores::open(addresses.map(|(name, planned)| (*name, &planned.address))).await?;
    let connect = args.connect.clone().or(plan.bootstrap.as_deref());
    let client = connect.connect().await?;
    note(format!("reading from {}", connect.bootstrap));
    let sinks = sinks::start(opened, &client, &stopped);
    let projections = stores.map_or_else(Vec::new, |stores| {
        let setup = Setup {
            client,
            stores,
            config: driver_configs(plan, args.take_over),
            stop: stopped,
            build: None,
        };
        let wanted: BTreeSet<&str> = plan.projections.keys().copied().collect();
        setup.start(&wanted, |_| Arc::new(NoObserver))
    });
    Ok(Work { projections, sinks })
}

/// All that runs in this process.
struct Work {
    projections: Vec<Running>,
    sinks: Vec<RunningSink>,
}

impl Work {
    /// Of each part, whether it has stopped by itself, and its figures.
    fn parts(&self) -> impl Iterator<Item = (bool, &Status)> {
        let projections = self.projections.iter();
        let projections = projections.map(|one| (one.is_finished(), &one.status));
        let sinks = self.sinks.iter();
        projections.chain(sinks.map(|one| (one.is_finished(), &one.status)))
    }

    /// Whether all have stopped by themselves or, if wanted, one of them.
    fn is_finished(&self, fail_fast: bool) -> bool {
        let mut stopped = self.parts().map(|(stopped, _)| stopped);
        if fail_fast {
            stopped.any(|stopped| stopped)
        } else {
            stopped.all(|stopped| stopped)
        }
    }

    /// Whether all that still run have applied everything that they know of.
    fn is_at_end(&self) -> bool {
        let mut running = self.parts().filter(|(stopped, _)| !stopped);
        running.all(|(_, status)| {
            let figures = status.snapshot();
            figures.partitions > 0 && figures.lag_records == 0 && figures.batches > 0
        })
    }

    /// What there is to tell of.
    fn told(&self) -> Vec<Told> {
        let projections = self.projections.iter().map(|one| Told {
            kind: Kind::Projection,
            name: one.declaration.name().to_owned(),
            status: one.status.clone(),
        });
        let sinks = self.sinks.iter().map(|one| Told {
            kind: Kind::Sink,
            name: one.name.clone(),
            status: one.status.clone(),
        });
        projections.chain(sinks).collect()
    }

    fn reports(&self) -> Vec<Report> {
        let projections = self.projections.iter().map(|projection| Report {
            projection: Some(projection.declaration.name()),
            version: Some(projection.declaration.version()),
            ..Report::of(&projection.status)
        });
        let sinks = self.sinks.iter().map(|sink| Report {
            sink: Some(sink.name.clone()),
            ..Report::of(&sink.status)
        });
        projections.chain(sinks).collect()
    }

    /// Waits until all have stopped; why, if not as asked.
    async fn finished(self) -> Vec<String> {
        let mut failures = Vec::new();
        for projection in self.projections {
            failures.extend(projection.finished().await.err());
        }
        for sink in self.sinks {
            failures.extend(sink.finished().await.err());
        }
        failures.iter().map(ToString::to_string).collect()
    }
}

impl Report {
    fn name(&self) -> String {
        match (self.projection, self.version, &self.sink) {
            (Some(projection), Some(version), _) => format!("{projection} v{version}"),
            (_, _, sink) => sink.clone().unwrap_or_default(),
        }
    }

    fn of(status: &Status) -> Self {
        let figures = status.snapshot();
        Self {
            projection: None,
            version: None,
            sink: None,
            state: figures.state.to_string(),
            records_applied: figures.records_applied,
            records_rejected: figures.records_rejected,
            lag_records: figures.lag_records,
            partitions: figures.partitions,
            last_error: figures.last_error,
        }
    }
}

/// Returns when all have stopped by themselves (with `fail_fast`: one of them), or, if wanted, when
/// those that run have applied everything.
async fn ended(work: &Work, until_end: bool, fail_fast: bool) {
    let mut checks = tokio::time::interval(Duration::from_millis(100));
    let mut quiet_checks = 0;
    loop {
        checks.tick().await;
        if work.is_finished(fail_fast) {
            return;
        }
        // Partitions come one after the other: quiet for a while means the end.
        quiet_checks = if work.is_at_end() {
            quiet_checks + 1
        } else {
            0
        };
        if until_end && quiet_checks > 20 {
            return;
        }
    }
}

async fn report(work: &Work, every: Duration, format: Format) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        print_reports(work, format)?;
    }
}

fn print_reports(work: &Work, format: Format) -> anyhow::Result<()> {
    let reports = work.reports();
    if format == Format::Json {
        return Ok(print_json(&reports)?);
    }
    let mut table = TextTable::new([
        "NAME",
        "STATE",
        "APPLIED",
        "REJECTED",
        "LAG",
        "PARTITIONS",
        "LAST ERROR",
    ]);
    for report in &reports {
        table.row([
            report.name(),
            report.state.clone(),
            report.records_applied.to_string(),
            report.records_rejected.to_string(),
            report.lag_records.to_string(),
            report.partitions.to_string(),
            report.last_error.clone().unwrap_or_default(),
        ]);
    }
    Ok(print_text(&table.render())?)
}
