//! Projections applied to each store, beside the store's own client that writes the same rows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use conveyor_benches::stores::bare::{self, Place};
use conveyor_benches::stores::{Applied, Corpus, apply};
use conveyor_paklog::projection::{NAMES, Visitor, visit_all};
use conveyor_processors::{Decoder, Projection, Row, Store};
use conveyor_stores::StoreAddress;
use conveyor_test_servers::mongodb::Mongodb;
use conveyor_test_servers::postgres::Postgres;
use conveyor_test_servers::redis::Redis;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Measures projections beside the bare stores that hold their rows.
///
/// The servers are started for the run, each with its own default durability: `PostgreSQL` syncs each
/// transaction, Redis each one too (`appendfsync always`), `SQLite` its log in batches. `MongoDB`'s
/// place is taken by a stand-in written in Python, so its figures say something about the ratio
/// only. Nothing is read from a broker: decode, load, fold, write, commit.
///
/// The ratio is events applied a second by rows that the bare store writes a second: how near a
/// projection comes to one plain upsert an event. It is above 1 where several events of a transaction
/// meet in one row.
#[derive(Debug, Parser)]
#[command(name = "stores", version, about)]
struct Options {
    /// Which stores; all if not given.
    #[arg(value_enum)]
    stores: Vec<Kind>,
    /// Rounds; each measures the projection, then the bare store.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Orders whose events are applied: about 78 events each.
    #[arg(long, default_value_t = 700)]
    orders: usize,
    /// Fail if a ratio is below this.
    #[arg(long)]
    at_least: Option<f64>,
}

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Sqlite,
    Postgres,
    Redis,
    Mongodb,
}

/// A store's server and the places on it.
enum Server {
    Sqlite(tempfile::TempDir),
    Postgres(Postgres),
    Redis(Redis),
    Mongodb(Mongodb),
}

impl Server {
    fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Sqlite => Self::Sqlite(tempfile::TempDir::new_in("/var/tmp")?),
            Kind::Postgres => Self::Postgres(Postgres::start(&[])),
            Kind::Redis => Self::Redis(Redis::start(&[])),
            Kind::Mongodb => Self::Mongodb(Mongodb::start(&["--sync-on-commit"])),
        })
    }

    /// Two places that nobody has used: the store's address, and the bare client's.
    fn places(&self, name: &str) -> (String, Place) {
        let bare = format!("bare_{name}");
        match self {
            Self::Sqlite(folder) => (
                format!("sqlite:{}", folder.path().join(name).display()),
                Place::Sqlite(folder.path().join(bare)),
            ),
            Self::Postgres(server) => {
                let make = |name: &str| {
                    let sql = format!("CREATE DATABASE {name}");
                    conveyor_test_servers::postgres::execute(&server.url("postgres"), &sql);
                    server.url(name)
                };
                (make(name), Place::Postgres(make(&bare)))
            }
            Self::Redis(server) => {
                let url = server.url();
                (format!("{url}?prefix={name}"), Place::Redis(url))
            }
            Self::Mongodb(server) => (server.url(name), Place::Mongodb(server.url(&bare))),
        }
    }
}

/// Not measured: the workload has no failures, which is all that it reads.
const WITHOUT_EVENTS: &str = "dead_letters";

/// One projection on one store.
struct Line {
    events: u64,
    rows: usize,
    applied: Vec<Duration>,
    bare: Vec<Duration>,
}

impl Line {
    /// `count` a second, round by round.
    fn rates(times: &[Duration], count: f64) -> Vec<f64> {
        times
            .iter()
            .map(|time| count / time.as_secs_f64())
            .collect()
    }

    /// Events a second by bare rows a second, round by round.
    fn ratios(&self) -> Vec<f64> {
        let events = Self::rates(&self.applied, self.events as f64);
        let bare = Self::rates(&self.bare, self.rows as f64);
        events
            .iter()
            .zip(bare)
            .map(|(events, bare)| events / bare)
            .collect()
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Applies the projection of one name.
struct Once<'c> {
    name: &'c str,
    corpus: &'c Corpus,
    store: Arc<dyn Store>,
    applied: Option<BoxFuture<'c, Result<Applied>>>,
}

impl Visitor for Once<'_> {
    fn visit<P, D>(&mut self, projection: P, decoder: &Arc<D>)
    where
        P: Projection,
        D: Decoder<Event = P::Event>,
    {
        if projection.declaration().name() == self.name {
            let (decoder, store) = (Arc::clone(decoder), Arc::clone(&self.store));
            self.applied = Some(apply(projection, decoder, self.corpus, store).boxed());
        }
    }
}

async fn once(name: &str, corpus: &Corpus, store: Arc<dyn Store>) -> Result<Applied> {
    let mut once = Once {
        name,
        corpus,
        store,
        applied: None,
    };
    visit_all(&mut once);
    match once.applied {
        Some(applied) => applied.await,
        None => bail!("no projection {name}"),
    }
}

async fn measure(options: &Options, corpus: &Corpus, server: &Server, name: &str) -> Result<Line> {
    let mut line = Line {
        events: 0,
        rows: 0,
        applied: Vec::new(),
        bare: Vec::new(),
    };
    for round in 0..options.rounds {
        let (address, place) = server.places(&format!("{name}_{round}"));
        let store = address.parse::<StoreAddress>()?.open().await?;
        let applied = once(name, corpus, store).await?;
        line.events = applied.events;
        line.rows = applied.written.iter().map(Vec::<Row>::len).sum();
        line.applied.push(applied.took);
        line.bare.push(bare::write(&place, &applied.written).await?);
    }
    Ok(line)
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is for the terminal"
)]
#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let corpus = Corpus::of_orders(options.orders)?;
    let kinds = match options.stores.as_slice() {
        [] => Kind::value_variants(),
        chosen => chosen,
    };
    println!("| store | projection | events/s | rows/s | bare rows/s | ratio | min-max |");
    println!("|---|---|---|---|---|---|---|");
    let mut missed = Vec::new();
    for kind in kinds {
        let server = Server::start(*kind)?;
        for name in NAMES.into_iter().filter(|name| *name != WITHOUT_EVENTS) {
            eprintln!("measuring {name} in {kind:?} …");
            let line = measure(&options, &corpus, &server, name).await?;
            let ratios = line.ratios();
            let ratio = median(ratios.clone());
            println!(
                "| {kind:?} | {name} | {:.0} | {:.0} | {:.0} | {ratio:.2} | {:.2}-{:.2} |",
                median(Line::rates(&line.applied, line.events as f64)),
                median(Line::rates(&line.applied, line.rows as f64)),
                median(Line::rates(&line.bare, line.rows as f64)),
                ratios.iter().copied().fold(f64::MAX, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            );
            if options.at_least.is_some_and(|least| ratio < least) {
                missed.push(format!("{name} in {kind:?}"));
            }
        }
    }
    if !missed.is_empty() {
        bail!("below the goal: {}", missed.join(", "));
    }
    Ok(())
}
