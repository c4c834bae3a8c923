//! `conveyor projection builds|switch|rollback|prune`: the builds in a store, and which is live.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use conveyor_paklog::projection::NAMES;
use conveyor_processors::build::{Build, BuildName, Builds};
use conveyor_processors::rebuild::build_before;
use conveyor_stores::StoreAddress;
use serde::Serialize;

use crate::Verdict;
use crate::output::{FormatArgs, TextTable, note};

/// How long to try while the store is away or others are in the way.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which projection, and where.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// The projection
    #[arg(value_name = "NAME", value_parser = NAMES)]
    pub(crate) name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Place {
    /// Where its read model is kept, as `processors run` is told
    #[arg(
        long,
        env = "CONVEYOR_STORE",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    store: StoreAddress,
}

impl Target {
    pub(crate) async fn open(&self) -> anyhow::Result<Arc<dyn Builds>> {
        Ok(self.place.store.open_builds().await?)
    }
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  conveyor projection builds --store postgres://conveyor@db/warehouse"
)]
pub(crate) struct BuildsArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  conveyor projection switch atp --build 2 --store redis://cache"
)]
pub(crate) struct SwitchArgs {
    #[command(flatten)]
    target: Target,
    /// The build's tag, as `projection builds` names it
    #[arg(long, value_name = "TAG")]
    build: String,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  conveyor projection rollback atp --store redis://cache\n\n\
    The build goes on from where it was left, so that it soon has what came meanwhile."
)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection prune atp --store redis://cache              all that are not live\n  \
    conveyor projection prune atp --build 1 --store redis://cache    this one")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    target: Target,
    /// Only this one; may be given again
    #[arg(long, value_name = "TAG")]
    build: Vec<String>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// A build as it is printed.
#[derive(Debug, Serialize)]
struct BuildRow {
    projection: String,
    build: String,
    live: bool,
    version: u32,
    tables: Vec<String>,
    partitions: usize,
    /// Of all partitions together.
    offsets: i64,
}

impl From<Build> for BuildRow {
    fn from(build: Build) -> Self {
        Self {
            offsets: build.positions.iter().map(|p| p.next_offset.value()).sum(),
            partitions: build.positions.len(),
            projection: build.projection,
            build: build.tag,
            live: build.is_live,
            version: build.version,
            tables: build.tables,
        }
    }
}

pub(crate) async fn list(args: BuildsArgs) -> anyhow::Result<Verdict> {
    let store = args.place.store.open_builds().await?;
    let rows: Vec<BuildRow> = store.builds().await?.into_iter().map(Into::into).collect();
    args.format.print(&rows, |rows| {
        let mut table = TextTable::new([
            "PROJECTION",
            "BUILD",
            "LIVE",
            "VERSION",
            "PARTITIONS",
            "OFFSETS",
        ]);
        for row in rows {
            table.row([
                row.projection.clone(),
                row.build.clone(),
                if row.live { "live" } else { "" }.to_owned(),
                row.version.to_string(),
                row.partitions.to_string(),
                row.offsets.to_string(),
            ]);
        }
        table.render()
    })?;
    Ok(Verdict::Fine)
}

pub(crate) async fn switch(args: SwitchArgs) -> anyhow::Result<Verdict> {
    let store = args.target.open().await?;
    switch_to(&*store, &BuildName::new(&args.target.name, &args.build)?).await?;
    Ok(Verdict::Fine)
}

pub(crate) async fn roll_back(args: RollbackArgs) -> anyhow::Result<Verdict> {
    let store = args.target.open().await?;
    let name = &args.target.name;
    let Some(before) = build_before(&store.builds().await?, name) else {
        anyhow::bail!(
            "{} keeps no other build of {name} to go back to",
            store.describe()
        );
    };
    switch_to(&*store, &before).await?;
    Ok(Verdict::Fine)
}

/// Switches; tries again while the store is away or others are in the way.
pub(crate) async fn switch_to(store: &dyn Builds, incoming: &BuildName) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match store.switch(incoming).await {
            Ok(()) => break,
            Err(error) if error.is_retriable() && begun.elapsed() < PATIENCE => {
                note(format!("{error}; trying again"));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    note(format!(
        "{} now shows build {}",
        incoming.projection(),
        incoming.tag()
    ));
    Ok(())
}

pub(crate) async fn prune(args: PruneArgs) -> anyhow::Result<Verdict> {
    let store = args.target.open().await?;
    let name = &args.target.name;
    let wanted = |build: &Build| {
        build.projection == *name
            && if args.build.is_empty() {
                !build.is_live
            } else {
                args.build.contains(&build.tag)
            }
    };
    let builds = store.builds().await?;
    let chosen: Vec<_> = builds.iter().filter(|build| wanted(build)).collect();
    for tag in &args.build {
        if !chosen.iter().any(|build| build.tag == *tag) {
            anyhow::bail!("there is no build {name}@{tag}: `conveyor projection builds` names all");
        }
    }
    for build in chosen {
        let build = build.name()?;
        if args.dry_run {
            note(format!("{build} would be removed"));
        } else {
            store.drop_build(&build).await?;
            note(format!("{build} is removed"));
        }
    }
    Ok(Verdict::Fine)
}
