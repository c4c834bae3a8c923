//! Makes events on a thread of its own, so that drawing and writing them costs the sender nothing.

use anyhow::Context;
use conveyor_paklog::workload::{Ledger, OrderLines, Workload, WorkloadError, WorkloadEvent};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// Events handed over at a time.
const CHUNK_EVENTS: usize = 256;
/// Chunks made ahead: with 600 bytes an event about 2.5 MB.
const CHUNKS_AHEAD: usize = 16;

/// Events as they are made.
#[derive(Debug)]
pub(crate) struct Generator {
    chunks: Receiver<Vec<WorkloadEvent>>,
    task: JoinHandle<Result<Ledger, WorkloadError>>,
}

impl Generator {
    /// Starts making events.
    pub(crate) fn start(workload: Workload<OrderLines>) -> Self {
        let (sender, chunks) = channel(CHUNKS_AHEAD);
        let task = tokio::task::spawn_blocking(move || generate(workload, &sender));
        Self { chunks, task }
    }

    /// The next events in the order in which they happen; `None` at the end or after an error, which
    /// [`Generator::finish`] tells.
    pub(crate) async fn next(&mut self) -> Option<Vec<WorkloadEvent>> {
        self.chunks.recv().await
    }

    /// The workload's own books.
    pub(crate) async fn finish(self) -> anyhow::Result<Ledger> {
        drop(self.chunks);
        let ledger = self
            .task
            .await
            .context("the workload's thread has failed")?;
        Ok(ledger?)
    }
}

fn generate(
    mut workload: Workload<OrderLines>,
    chunks: &Sender<Vec<WorkloadEvent>>,
) -> Result<Ledger, WorkloadError> {
    let mut chunk = Vec::with_capacity(CHUNK_EVENTS);
    for event in workload.by_ref() {
        chunk.push(event?);
        if chunk.len() == CHUNK_EVENTS {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_EVENTS));
            if chunks.blocking_send(full).is_err() {
                // Nobody wants more.
                return Ok(workload.into_ledger());
            }
        }
    }
    chunks.blocking_send(chunk).ok();
    Ok(workload.into_ledger())
}
