//! Sinks, running in this process.

use conveyor_processors::driver::DriverError;
use conveyor_processors::status::Status;
use conveyor_sdk::Client;
use conveyor_sinks::Sink;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::config::Plan;
use crate::output::note;

/// A sink at work.
#[derive(Debug)]
pub(super) struct RunningSink {
    pub(super) name: String,
    /// Its state and figures.
    pub(super) status: Status,
    task: JoinHandle<Result<(), DriverError>>,
}

/// Opens the sinks of a plan; tells where each writes.
pub(super) async fn open(plan: &Plan, take_over: bool) -> anyhow::Result<Vec<(String, Sink)>> {
    let mut opened = Vec::with_capacity(plan.sinks.len());
    for (name, settings) in &plan.sinks {
        let sink = conveyor_sinks::open(name, settings, &plan.error_topic, take_over).await?;
        note(format!("{name} into {}", sink.describe()));
        opened.push((name.clone(), sink));
    }
    Ok(opened)
}

/// Starts them; `stop` is set to true to stop them.
pub(super) fn start(
    sinks: Vec<(String, Sink)>,
    client: &Client,
    stop: &watch::Receiver<bool>,
) -> Vec<RunningSink> {
    let start = |(name, sink): (String, Sink)| {
        let driver = sink.driver(client.clone());
        let (status, mut stop) = (driver.status(), stop.clone());
        let stopped = async move {
            // The sender going away means stop, too.
            stop.wait_for(|stop| *stop).await.ok();
        };
        RunningSink {
            name,
            status,
            task: tokio::spawn(driver.run(stopped)),
        }
    };
    sinks.into_iter().map(start).collect()
}

impl RunningSink {
    /// Waits until it has stopped; why, if not as asked.
    pub(super) async fn finished(self) -> anyhow::Result<()> {
        Ok(self.task.await??)
    }

    /// Whether it has stopped.
    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}
