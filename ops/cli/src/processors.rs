//! `conveyor processors`: read models kept up to date from the log.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use conveyor_processors::Store;
use conveyor_processors::driver::DriverConfig;
use conveyor_processors::status::NoObserver;
use conveyor_stores::StoreAddress;
use conveyor_stores::address::AddressError;
use serde::Serialize;
use tokio::sync::watch;

use crate::connect::ConnectArgs;
use crate::logging::{self, LoggingArgs};
use crate::output::{Format, FormatArgs, TextTable, note, print_json, print_text};
use crate::projections::{NAMES, Running, Setup, Stores};
use crate::{Verdict, shutdown};

#[derive(Debug, Subcommand)]
pub(crate) enum ProcessorsCommand {
    /// Run PakLog's projections into a store until stopped
    Run(RunArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor processors run --store read-models.sqlite\n  \
    conveyor processors run --projection atp --projection order_tracking\n  \
    sqlite3 read-models.sqlite 'select * from atp limit 5'      while it runs\n  \
    conveyor processors run --store postgres://conveyor@db/warehouse \\\n      \
      --store atp=redis://cache --store order_tracking=mongodb://docs/warehouse\n\n\
    Stores:\n  \
    sqlite:PATH or PATH                 one file, created if missing\n  \
    postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full&sslrootcert=PEM&schema=NAME\n  \
    redis://:PASSWORD@HOST/DB?prefix=NAME      also redis+cluster://HOST,HOST and\n  \
    \u{20}                                    redis+sentinel://HOST,HOST/MASTER; rediss for TLS\n  \
    mongodb://USER:PASSWORD@HOST/DATABASE      any of the driver's own settings\n\n\
    A store that is away pauses its projections until it is back. Rows and source positions are written in one transaction, so a store always equals the fold of\n\
    the log up to its positions. Several instances share the partitions as one consumer group, named\n\
    like the projection. Records that cannot be applied go to error-events with their reason.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Where the read models are kept, see below; NAME= before it: for that projection only.
    /// The variable `CONVEYOR_STORE` names the one for all too, and hides its password from the
    /// list of processes
    #[arg(long, value_name = "[NAME=]ADDRESS")]
    store: Vec<StoreChoice>,
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
    /// Seconds between two reports of the state
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    report_every: u64,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    logging: LoggingArgs,
}

/// The file that is used when nothing is said.
const DEFAULT_STORE: &str = "sqlite:read-models.sqlite";

/// The store of one projection or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StoreChoice {
    projection: Option<String>,
    address: StoreAddress,
}

impl FromStr for StoreChoice {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (projection, address) = match text.split_once('=') {
            Some((name, address)) if NAMES.contains(&name) => (Some(name.to_owned()), address),
            _ => (None, text),
        };
        Ok(Self {
            projection,
            address: address.parse()?,
        })
    }
}

/// Opens what was chosen, each address once; tells what is kept where.
async fn open_stores(choices: &[StoreChoice], wanted: &BTreeSet<&str>) -> anyhow::Result<Stores> {
    let mut opened: BTreeMap<String, Arc<dyn Store>> = BTreeMap::new();
    let default = choices.iter().rev().find(|c| c.projection.is_none());
    let default = match default {
        Some(choice) => choice.address.clone(),
        None => std::env::var("CONVEYOR_STORE")
            .unwrap_or_else(|_| DEFAULT_STORE.to_owned())
            .parse()?,
    };
    let of = |name: &str| {
        let choice = choices.iter().rev();
        let mut choice = choice.filter(|c| c.projection.as_deref() == Some(name));
        choice.next().map_or(&default, |choice| &choice.address)
    };
    let mut stores: Option<Stores> = None;
    for name in wanted {
        let address = of(name);
        let store = if let Some(store) = opened.get(address.as_str()) {
            Arc::clone(store)
        } else {
            let store = address.open().await?;
            opened.insert(address.as_str().to_owned(), Arc::clone(&store));
            store
        };
        note(format!("{name} in {}", store.describe()));
        match &mut stores {
            Some(stores) => stores.keep((*name).to_owned(), store),
            None => stores = Some(Stores::one(store)),
        }
    }
    stores.ok_or_else(|| anyhow::anyhow!("no projection to run"))
}

/// What a projection shows.
#[derive(Debug, Serialize)]
struct Report {
    projection: &'static str,
    version: u32,
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
    }
}

async fn run_processors(args: RunArgs) -> anyhow::Result<Verdict> {
    logging::start(&args.logging)?;
    let wanted: BTreeSet<&str> = match args.projection.as_slice() {
        [] => NAMES.into(),
        names => names.iter().map(String::as_str).collect(),
    };
    let stores = open_stores(&args.store, &wanted).await?;
    let client = args.connect.connect().await?;
    note(format!("reading from {}", args.connect.bootstrap));
    let (stop, stopped) = watch::channel(false);
    let config = DriverConfig {
        take_over: args.take_over,
        ..DriverConfig::default()
    };
    let setup = Setup {
        client,
        stores,
        config,
        stop: stopped,
    };
    let running = setup.start(&wanted, |_| Arc::new(NoObserver));

    let every = Duration::from_secs(args.report_every);
    tokio::select! {
        asked = shutdown::requested() => asked?,
        reported = report(&running, every, args.format.format) => reported?,
        () = ended(&running, args.until_end) => {}
    }
    stop.send_replace(true);
    let mut failures = Vec::new();
    print_reports(&running, args.format.format)?;
    for projection in running {
        if let Err(error) = projection.finished().await {
            failures.push(error.to_string());
        }
    }
    if failures.is_empty() {
        return Ok(Verdict::Fine);
    }
    anyhow::bail!(failures.join("\n"))
}

/// Returns when a projection has stopped by itself or, if wanted, when all have applied everything.
async fn ended(running: &[Running], until_end: bool) {
    let mut checks = tokio::time::interval(Duration::from_millis(100));
    let mut quiet_checks = 0;
    loop {
        checks.tick().await;
        if running.iter().any(Running::is_finished) {
            return;
        }
        let at_end = running.iter().all(|projection| {
            let figures = projection.status.snapshot();
            figures.partitions > 0 && figures.lag_records == 0 && figures.batches > 0
        });
        // Partitions come one after the other: quiet for a while means the end.
        quiet_checks = if at_end { quiet_checks + 1 } else { 0 };
        if until_end && quiet_checks > 20 {
            return;
        }
    }
}

async fn report(running: &[Running], every: Duration, format: Format) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        print_reports(running, format)?;
    }
}

fn print_reports(running: &[Running], format: Format) -> anyhow::Result<()> {
    let reports = running.iter().map(|projection| {
        let figures = projection.status.snapshot();
        Report {
            projection: projection.declaration.name(),
            version: projection.declaration.version(),
            state: figures.state.to_string(),
            records_applied: figures.records_applied,
            records_rejected: figures.records_rejected,
            lag_records: figures.lag_records,
            partitions: figures.partitions,
            last_error: figures.last_error,
        }
    });
    let reports: Vec<_> = reports.collect();
    if format == Format::Json {
        return Ok(print_json(&reports)?);
    }
    let mut table = TextTable::new([
        "PROJECTION",
        "STATE",
        "APPLIED",
        "REJECTED",
        "LAG",
        "PARTITIONS",
        "LAST ERROR",
    ]);
    for report in &reports {
        table.row([
            format!("{} v{}", report.projection, report.version),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_for_all_or_for_one_projection() {
        let choice = |text: &str| {
            let choice: StoreChoice = text.parse().unwrap();
            (choice.projection, choice.address.to_string())
        };
        let shown = |projection: Option<&str>, address: &str| {
            (projection.map(str::to_owned), address.to_owned())
        };
        assert_eq!(choice("read.sqlite"), shown(None, "read.sqlite"));
        assert_eq!(choice("atp=redis://h"), shown(Some("atp"), "redis://h"));
        let with_settings = "postgres://h/d?schema=atp";
        assert_eq!(choice(with_settings), shown(None, with_settings));
        assert!("atp=mysql://h".parse::<StoreChoice>().is_err());
    }
}
