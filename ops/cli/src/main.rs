//! The `conveyor` binary: a node, and everything that people do with one.
//!
//! One file for each command group. Results go to standard output (text or JSON), notes and
//! progress to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done and found wrong
//! (a damaged log, a demo that does not reconcile).
#![forbid(unsafe_code)]
#![allow(
    clippy::format_push_string,
    reason = "text for people: clarity before an allocation"
)]

mod bench;
mod broker;
mod connect;
mod demo;
mod dev;
mod group;
mod log;
mod logging;
mod metrics;
mod migrate;
mod output;
mod processors;
mod projection;
mod projections;
mod shutdown;
mod stores;
mod topic;
mod transaction;
mod workload;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An event-sourced streaming platform in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "conveyor",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Try it:\n  \
    conveyor demo                       a year of real orders through one node\n  \
    conveyor dev                        a node with PakLog's eight topics\n  \
    conveyor topic list                 what is there\n\n\
    CONVEYOR_BOOTSTRAP names the node for all client commands.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done and found wrong.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Broker(broker::BrokerArgs),
    /// A year of real orders through one node into read models, and the proof that nothing was lost
    Demo(demo::DemoArgs),
    /// Run one node with PakLog's eight topics, to develop against
    Dev(dev::DevArgs),
    /// Create, look at, change, read and write topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Put load on a running node and measure what it answers
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Consumer groups: members, offsets, lag
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Transactions of producers: what is open, what hangs
    #[command(subcommand)]
    Transaction(transaction::TransactionCommand),
    /// Look into the folder of a partition, without a node
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Take over what another broker has left
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Send a warehouse's events
    #[command(subcommand)]
    Workload(workload::WorkloadCommand),
    /// Keep read models up to date
    #[command(subcommand)]
    Processors(processors::ProcessorsCommand),
    /// Look at running projections, pause them, mend them, build them anew
    #[command(subcommand)]
    Projection(projection::ProjectionCommand),
}

/// What a command that did its work has to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// The command worked and found something wrong; it has said what.
    FoundWrong,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format!("error: cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    runtime.shutdown_background();
    match result {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::FoundWrong) => ExitCode::from(3),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Broker(args) => broker::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Topic(command) => topic::run(command).await,
        Command::Bench(command) => bench::run(command).await,
        Command::Group(command) => group::run(command).await,
        Command::Transaction(command) => transaction::run(command).await,
        Command::Log(command) => tokio::task::block_in_place(|| log::run(&command)),
        Command::Migrate(command) => tokio::task::block_in_place(|| migrate::run(command)),
        Command::Workload(command) => workload::run(command).await,
        Command::Processors(command) => processors::run(command).await,
        Command::Projection(command) => projection::run(command).await,
    }
}

/// Whether the reader of our output has gone away, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        super::Cli::command().debug_assert();
    }
}
