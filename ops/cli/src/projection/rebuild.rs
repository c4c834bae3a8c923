//! `conveyor projection rebuild`: builds a read model anew beside the live one, shows how far it is,
//! and switches when it has caught up. Killed, it goes on where it stood: its positions are in the
//! store.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use conveyor_processors::build::{BuildName, Builds};
use conveyor_processors::control::{Kind, RebuildReport};
use conveyor_processors::driver::DriverConfig;
use conveyor_processors::rebuild::range::{self, Offsets, Place};
use conveyor_processors::rebuild::{Filling, Goal, Progress, Report, build_to_fill};
use conveyor_processors::status::NoObserver;
use conveyor_processors::{Declaration, Position, Store, StoreError, TopicPartition};
use conveyor_record::Offset;
use conveyor_sdk::Client;
use serde::Serialize;
use tokio::sync::watch;

use super::builds::{Target, switch_to};
use crate::connect::ConnectArgs;
use crate::logging::{self, LoggingArgs};
use crate::metrics;
use crate::output::{Format, FormatArgs, count_text, note, print_json, print_text};
use crate::projections::{self, Choice, Running, Setup};
use crate::{Verdict, shutdown};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks at which little was missing and no less than at the one before, before a switch.
const LOOKS: u32 = 3;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection rebuild atp --store postgres://conveyor@db/warehouse\n  \
    conveyor projection rebuild atp --store redis://cache --no-switch --rate 5000\n  \
    conveyor projection rebuild atp --store read.sqlite --until 2026-11-23T12:00:00Z\n\n\
    The live build is read and kept up meanwhile; it is kept after the switch, for\n\
    `conveyor projection rollback`, until `conveyor projection prune`. Nothing is written to\n\
    error-events. Stopped or killed, the same command goes on where it stood. `conveyor projection\n\
    list` shows it to others meanwhile, by the name of its build. With --until the\n\
    build is one of its own, atp@until_…, and never switched to by itself.")]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Where to begin: `earliest`, an offset, or a time like 2026-11-23T04:00:00Z
    #[arg(long, value_name = "PLACE", default_value = "earliest", value_parser = place)]
    from: Place,
    /// Where to end: an offset, or a time; records from there on are left out
    #[arg(long, value_name = "PLACE", value_parser = place)]
    until: Option<Place>,
    /// Records a second at most
    #[arg(long, value_name = "RECORDS")]
    rate: Option<NonZeroU32>,
    /// Make it live when it has caught up; the default without --until
    #[arg(long, conflicts_with_all = ["no_switch", "until"])]
    switch: bool,
    /// Stop when it has caught up, and switch nothing
    #[arg(long)]
    no_switch: bool,
    /// Records that may be missing at the switch, while others are being written
    #[arg(long, value_name = "RECORDS", default_value_t = 1_000)]
    lag: u64,
    /// Show each partition
    #[arg(long)]
    partitions: bool,
    /// Serve figures for Prometheus at this address, path /metrics
    #[arg(long, value_name = "HOST:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Fill the build even if the store knows a newer owner: after its consumer group was deleted
    #[arg(long)]
    take_over: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    logging: LoggingArgs,
}

/// A place in the log, as people write it.
fn place(text: &str) -> Result<Place, String> {
    match text {
        "earliest" => return Ok(Place::Earliest),
        "latest" => return Ok(Place::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse::<i64>() {
        return if offset < 0 {
            Err("an offset is not negative".to_owned())
        } else {
            Ok(Place::Offset(Offset(offset)))
        };
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| {
        format!("{text:?} is neither earliest nor an offset nor a time like 2026-11-23T04:05:06Z")
    })?;
    Ok(Place::Time(moment.as_millisecond()))
}

/// The build of a moment of the past.
fn past_build(projection: &str, until: Place) -> anyhow::Result<BuildName> {
    let tag = match until {
        Place::Offset(offset) => format!("until_o{offset}"),
        Place::Time(timestamp_ms) => format!("until_{timestamp_ms}"),
        Place::Earliest | Place::Latest => "until_now".to_owned(),
    };
    Ok(BuildName::new(projection, &tag)?)
}

pub(crate) async fn run(args: RebuildArgs) -> anyhow::Result<Verdict> {
    logging::start(&args.logging)?;
    let store = args.target.open().await?;
    let client = args.connect.connect().await?;
    let rebuild = Rebuild::plan(&args, client, Arc::clone(&store)).await?;
    note(format!(
        "building {} in {}",
        rebuild.build,
        store.describe()
    ));
    if !rebuild.fill(&args).await? {
        note(format!(
            "{} is not finished: the same command goes on where it stands",
            rebuild.build
        ));
        return Ok(Verdict::Fine);
    }
    if args.until.is_some() || args.no_switch {
        note(format!(
            "{} is built; to make it live: conveyor projection switch {} --build {} --store …",
            rebuild.build,
            args.target.name,
            rebuild.build.tag()
        ));
        return Ok(Verdict::Fine);
    }
    switch_to(&*store, &rebuild.build).await?;
    Ok(Verdict::Fine)
}

/// What is built, from what, into what.
struct Rebuild {
    client: Client,
    store: Arc<dyn Builds>,
    build: BuildName,
    declaration: Declaration,
    partitions: Vec<TopicPartition>,
    begins: Offsets,
    /// Where it ends; `None`: where the log does.
    until: Option<Offsets>,
}

impl Rebuild {
    async fn plan(
        args: &RebuildArgs,
        client: Client,
        store: Arc<dyn Builds>,
    ) -> anyhow::Result<Self> {
        let name = &args.target.name;
        let declaration = projections::declaration(name)
            .ok_or_else(|| anyhow::anyhow!("there is no projection {name}"))?;
        let build = match args.until {
            Some(until) => past_build(name, until)?,
            None => build_to_fill(&store.builds().await?, name, declaration.version())
                .ok_or_else(|| anyhow::anyhow!("{name} cannot have builds"))?,
        };
        let partitions = range::partitions(&client, &declaration).await?;
        let earliest = range::offsets(&client, &partitions, Place::Earliest).await?;
        let mut begins = range::offsets(&client, &partitions, args.from).await?;
        for (partition, begin) in &mut begins {
            let first = earliest.get(partition).copied().unwrap_or_default();
            *begin = (*begin).max(first);
        }
        let until = match args.until {
            Some(until) => Some(range::offsets(&client, &partitions, until).await?),
            None => None,
        };
        Ok(Self {
            declaration: declaration.as_build(&build),
            client,
            store,
            build,
            partitions,
            begins,
            until,
        })
    }

    /// Fills the build; whether it has come to its end, and not been stopped before.
    async fn fill(&self, args: &RebuildArgs) -> anyhow::Result<bool> {
        let (stop, stopped) = watch::channel(false);
        let running = self.start(args, stopped)?;
        if let Some(listen) = args.metrics_listen {
            let told = metrics::Told {
                kind: Kind::Rebuild,
                name: self.build.to_string(),
                status: running.status.clone(),
            };
            let address = metrics::serve(listen, vec![told]).await?;
            note(format!("figures at http://{address}/metrics"));
        }
        let reached = tokio::select! {
            asked = shutdown::requested() => asked.map(|()| false),
            watched = self.watch(args, &running) => watched,
        };
        stop.send_replace(true);
        let rejected = running.status.snapshot().records_rejected;
        running.finished().await?;
        if rejected > 0 {
            note(format!(
                "{rejected} records could not be applied: they wait in the build"
            ));
        }
        reached
    }

    fn start(&self, args: &RebuildArgs, stop: watch::Receiver<bool>) -> anyhow::Result<Running> {
        let mut filling = Filling {
            from: self.begins.clone(),
            until: self.until.clone().unwrap_or_default(),
            records_per_second_max: args.rate,
        };
        if args.from == Place::Earliest {
            // As the live build begins: with the first record that there is by then.
            filling.from.clear();
        }
        let standard = DriverConfig::default();
        let setup = Setup {
            client: self.client.clone(),
            stores: Choice::one(Arc::clone(&self.store) as Arc<dyn Store>),
            config: Choice::one(DriverConfig {
                take_over: args.take_over,
                filling: Some(filling),
                // A batch is what a second may bring at most, so that small rates are kept too.
                batch_records_max: args.rate.map_or(standard.batch_records_max, |rate| {
                    standard.batch_records_max.min(rate.get() as usize)
                }),
                ..standard
            }),
            stop,
            build: Some(self.build.clone()),
        };
        let wanted = BTreeSet::from([args.target.name.as_str()]);
        let mut running = setup.start(&wanted, |_| Arc::new(NoObserver));
        running
            .pop()
            .ok_or_else(|| anyhow::anyhow!("there is no projection {}", args.target.name))
    }

    /// Looks until the build has come to its end, or its driver has stopped.
    async fn watch(&self, args: &RebuildArgs, running: &Running) -> anyhow::Result<bool> {
        let mut progress = Progress::new(Goal {
            lag_max: if self.until.is_some() { 0 } else { args.lag },
            looks: LOOKS,
        });
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if running.is_finished() {
                return Ok(false);
            }
            let ends = match &self.until {
                Some(until) => until.clone(),
                None => range::offsets(&self.client, &self.partitions, Place::Latest).await?,
            };
            let Some(positions) = self.positions().await? else {
                continue;
            };
            let looks = range::looks(&self.begins, &ends, &positions);
            let report = progress.look(begun.elapsed(), looks);
            // A driver that has yet to make the build's tables has reached nothing.
            let is_reached = report.is_reached && running.status.snapshot().partitions > 0;
            let told = RebuildReport {
                is_reached,
                ..report.in_short()
            };
            running.status.update(|s| s.rebuild = Some(told));
            self.show(args, &report)?;
            if is_reached {
                return Ok(true);
            }
        }
    }

    /// Where the build stands; `None` while the store is away.
    async fn positions(&self) -> Result<Option<Vec<Position>>, StoreError> {
        match self.store.positions(&self.declaration).await {
            Ok(positions) => Ok(Some(positions)),
            Err(error) if error.is_retriable() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn show(&self, args: &RebuildArgs, report: &Report) -> anyhow::Result<()> {
        if args.format.format == Format::Json {
            return Ok(print_json(&ReportLine::new(
                &self.build,
                report,
                args.partitions,
            ))?);
        }
        let rate = report.per_second.map_or_else(
            || "-".to_owned(),
            |rate| count_text(rate.max(0.0).round() as u64),
        );
        let eta = match report.eta {
            Some(eta) => format!("{} s", eta.as_secs()),
            None => "-".to_owned(),
        };
        print_text(&format!(
            "{}: {} of {} records, {rate} a second, {} left, done in {eta}",
            self.build,
            count_text(report.done),
            count_text(report.done + report.left),
            count_text(report.left),
        ))?;
        for look in report.partitions.iter().filter(|_| args.partitions) {
            let (done, left) = (look.done(), look.left());
            print_text(&format!(
                "  {}: {done} done, {left} left",
                look.topic_partition
            ))?;
        }
        Ok(())
    }
}

/// A look, as a program reads it.
#[derive(Debug, Serialize)]
struct ReportLine<'r> {
    build: &'r str,
    records_done: u64,
    records_left: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
    is_reached: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<PartitionLine>,
}

#[derive(Debug, Serialize)]
struct PartitionLine {
    partition: String,
    records_done: u64,
    records_left: u64,
}

impl<'r> ReportLine<'r> {
    fn new(build: &'r BuildName, report: &Report, partitions: bool) -> Self {
        let partition = |look: &conveyor_processors::rebuild::Look| PartitionLine {
            partition: look.topic_partition.to_string(),
            records_done: look.done(),
            records_left: look.left(),
        };
        let looks = report.partitions.iter().filter(|_| partitions);
        Self {
            build: build.as_str(),
            records_done: report.done,
            records_left: report.left,
            records_per_second: report.per_second,
            seconds_left: report.eta.map(|eta| eta.as_secs_f64()),
            is_reached: report.is_reached,
            partitions: looks.map(partition).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_offsets_times_and_ends() {
        assert_eq!(place("earliest"), Ok(Place::Earliest));
        assert_eq!(place("120"), Ok(Place::Offset(Offset(120))));
        assert_eq!(place("1970-01-01T00:00:01Z"), Ok(Place::Time(1_000)));
        assert!(place("-3").is_err() && place("yesterday").is_err());
    }

    #[test]
    fn a_build_of_the_past_is_named_for_its_end() {
        let name = |until| past_build("atp", until).unwrap().to_string();
        assert_eq!(name(Place::Offset(Offset(9))), "atp@until_o9");
        assert_eq!(
            name(Place::Time(1_795_406_400_000)),
            "atp@until_1795406400000"
        );
    }
}
