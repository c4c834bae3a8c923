//! `conveyor projection`: what runs, how far it is, what waits, and what to do about it.
//!
//! Everything goes through the control topic of running projections; no command here needs a store.

mod control_topic;
mod list;
mod parked;
mod pause;
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
}

pub(crate) async fn run(command: ProjectionCommand) -> anyhow::Result<Verdict> {
    match command {
        ProjectionCommand::List(args) => list::run(args).await,
        ProjectionCommand::Status(args) => status::run(args).await,
        ProjectionCommand::Pause(args) => pause::pause(args).await,
        ProjectionCommand::Resume(args) => pause::resume(args).await,
        ProjectionCommand::Parked(command) => parked::run(command).await,
    }
}
