//! `conveyor processors normalise`: canonical events of what PakLog's services write, exactly once.
//!
//! Reads the source topics as a member of a group and writes what the pure part
//! (`conveyor_paklog::normalise`) makes of each record, with the offsets of what was read, in one
//! transaction a poll. No poll happens within a transaction, so that partitions change hands between
//! transactions only; the group refuses the offsets of a member that it has given up. What was not
//! committed is aborted and read again.

mod engine;
mod figures;
mod records;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use conveyor_paklog::decode::AliasTable;
use conveyor_paklog::normalise::{Normaliser, Routes};
use tokio::sync::watch;

use self::engine::{Engine, Stopped};
use self::figures::Figures;
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::logging::{self, LoggingArgs};
use crate::output::{Format, FormatArgs, note, print_json, print_text};
use crate::shutdown::Shutdown;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor processors normalise\n  \
    conveyor processors normalise --print-routes > routes.toml      then edit, and\n  \
    conveyor processors normalise --routes routes.toml\n  \
    conveyor processors normalise --instance 2                      beside the first\n\n\
    Every record of the source topics comes out once on its canonical topic, for consumers that read\n\
    committed records (isolation.level=read_committed), in order for each key, whatever is killed.\n\
    Topics that do not exist yet are waited for. What cannot be read goes to error-events with its\n\
    reason. Instances share the partitions as one group; each needs an --instance of its own.")]
pub(crate) struct NormaliseArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Topics to read and where to write; without it the table that is built in
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Old type names and what they mean; without it the table that is built in
    #[arg(long, value_name = "FILE")]
    aliases: Option<PathBuf>,
    /// Print the table of routes that is built in, and end
    #[arg(long)]
    print_routes: bool,
    /// The consumer group of all instances
    #[arg(long, default_value = "conveyor-normaliser", value_name = "NAME")]
    group: String,
    /// Name of this instance; another one that starts under it takes its place
    #[arg(long, default_value = "1", value_name = "NAME")]
    instance: String,
    /// Stop once everything that is in the log now has been normalised
    #[arg(long)]
    until_end: bool,
    /// Seconds between two reports of the state
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    report_every: u64,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    logging: LoggingArgs,
}

pub(crate) async fn run(args: NormaliseArgs) -> anyhow::Result<Verdict> {
    if args.print_routes {
        print_text(Routes::builtin_text())?;
        return Ok(Verdict::Fine);
    }
    logging::start(&args.logging)?;
    let routes = match &args.routes {
        Some(path) => read(path, Routes::parse)?,
        None => Routes::builtin().clone(),
    };
    let aliases = match &args.aliases {
        Some(path) => read(path, AliasTable::parse)?,
        None => AliasTable::builtin().clone(),
    };
    let normaliser = Normaliser::new(routes, aliases, args.group.as_str());
    let mut shutdown = Shutdown::listen()?;
    let client = tokio::select! {
        () = shutdown.requested() => return Ok(Verdict::Fine),
        client = args.connect.connect() => client?,
    };
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        shutdown.requested().await;
        stop.send_replace(true);
    });
    let transactional_id = format!("{}-{}", args.group, args.instance);
    let mut engine = Engine::start(client, normaliser, &args.group, transactional_id, stopped)
        .await
        .context("cannot start")?;
    note(format!(
        "reading from {}, Ctrl-C stops",
        args.connect.bootstrap
    ));
    let every = Duration::from_secs(args.report_every);
    let outcome = work(&mut engine, args.until_end, every, args.format.format).await;
    signals.abort();
    let figures = engine.close().await;
    print(&figures, args.format.format)?;
    outcome.map(|()| Verdict::Fine)
}

fn read<T, E>(path: &Path, parse: impl Fn(&str) -> Result<T, E>) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

/// Works until it is asked to stop, everything is done, or nothing more can be done.
async fn work(
    engine: &mut Engine,
    until_end: bool,
    every: Duration,
    format: Format,
) -> anyhow::Result<()> {
    let mut reported = Instant::now();
    loop {
        match engine.step().await {
            Ok(()) => {}
            Err(Stopped::Asked) => return Ok(()),
            Err(Stopped::Failed(error)) => return Err(error),
        }
        if until_end && engine.is_at_end().await? {
            return Ok(());
        }
        if reported.elapsed() >= every {
            reported = Instant::now();
            print(&engine.figures(), format)?;
        }
    }
}

fn print(figures: &Figures, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => Ok(print_json(figures)?),
        Format::Text => Ok(print_text(&figures.table())?),
    }
}
