//! `conveyor projection`: what runs, how far it is, what waits, and what to do about it.
//!
//! What is asked of running projections goes through their control topic. The builds of a read model
//! are in its store, so the commands about them are told where that is.

mod builds;
mod control_topic;
mod list;
mod parked;
mod pause;
mod rebuild;
mod status;

use clap::Subcommand;

use crate::Verdict;

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectionCommand {
    /// List projections: state, lag, what is parked
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show one projection: its instances and partitions
    Status(status::StatusArgs),
    /// Let a projection stop fetching; its instances keep their partitions
    Pause(pause::PauseArgs),
    /// Let a paused projection go on
    Resume(pause::ResumeArgs),
    /// Records that could not be applied, and those of their keys behind them
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Build a projection anew beside the live one, and switch when it has caught up
    Rebuild(rebuild::RebuildArgs),
    /// List the builds in a store
    Builds(builds::BuildsArgs),
    /// Make a build the live one; the one that was live is kept
    Switch(builds::SwitchArgs),
    /// Go back to the build that was live before
    Rollback(builds::RollbackArgs),
    /// Remove builds that are not live
    Prune(builds::PruneArgs),
}

pub(crate) async fn run(command: ProjectionCommand) -> anyhow::Result<Verdict> {
    match command {
        ProjectionCommand::List(args) => list::run(args).await,
        ProjectionCommand::Status(args) => status::run(args).await,
        ProjectionCommand::Pause(args) => pause::pause(args).await,
        ProjectionCommand::Resume(args) => pause::resume(args).await,
        ProjectionCommand::Parked(command) => parked::run(command).await,
        ProjectionCommand::Rebuild(args) => rebuild::run(args).await,
        ProjectionCommand::Builds(args) => builds::list(args).await,
        ProjectionCommand::Switch(args) => builds::switch(args).await,
        ProjectionCommand::Rollback(args) => builds::roll_back(args).await,
        ProjectionCommand::Prune(args) => builds::prune(args).await,
    }
}
