//! Waiting to be asked to stop.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C and SIGTERM, noted from [`Shutdown::listen`] on: one that comes before somebody waits for it
/// is not lost, and does not end the process as a signal does that nobody has asked for.
#[derive(Debug)]
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Notes from now on that somebody asks.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
        })
    }

    /// Returns when somebody has asked.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns at the first Ctrl-C or SIGTERM.
pub(crate) async fn requested() -> anyhow::Result<()> {
    Shutdown::listen()?.requested().await;
    Ok(())
}
