//! Where the metadata lives while the node runs: the log behind it, the image of it, its changes.
//!
//! One task owns all changes and takes them one after another: ask the active controller
//! ([`ActiveController`], which knows no disk) for records, append them to `__cluster_metadata-0` as
//! one batch, wait until they are synced, replay them into a new image, make the logs follow, publish.
//! Only then does the caller get its answer, so a change is visible once its call returns. If the
//! append is refused nothing has changed. If it is not known whether the records survive, or the
//! directory of the log has failed, the node stops: the next start finds out, and until then nothing
//! may be decided on an image that may be wrong.
//!
//! A node alone has no others to watch, so what the controller does by itself as time goes by is not
//! asked for.
//!
//! Readers take the image without a lock and may wait for the next one.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use conveyor_controller::{
    ActiveController, Answer, Change, ChangeError, ControllerSettings, MetadataImage,
    MetadataRecord, RecordDecodeError, Transition,
};
use conveyor_log::Clock;
use conveyor_record::NewRecord;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::internal_log::{self, InternalAppendError, InternalReadError};
use crate::partition::{AppendFailure, Partition};
use crate::storage::Storage;

/// Changes that may wait for their turn; callers wait beyond it.
const QUEUE_LENGTH: usize = 64;

/// Why the metadata cannot be changed.
#[derive(Debug, Clone, Error)]
pub enum MetadataError {
    /// The records are not durable; nothing has changed.
    #[error("cannot write the metadata log: {0}")]
    NotWritten(Arc<str>),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// A mistake in this program.
    #[error("the controller gave the answer to another request: report this, with the node's log")]
    OtherAnswer,
}

/// Why a change is not made.
#[derive(Debug, Clone, Error)]
pub(crate) enum SubmitError {
    /// The rules forbid it; nothing has changed.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// It could not be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Why the metadata cannot be read at start.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The log cannot be read.
    #[error("cannot read the metadata log: {0}")]
    Read(String),
    /// A record cannot be understood.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
}

impl From<InternalReadError> for ReplayError {
    fn from(error: InternalReadError) -> Self {
        Self::Read(error.to_string())
    }
}

/// A change that waits for its turn.
struct Submitted {
    change: Change,
    reply: oneshot::Sender<Result<Answer, SubmitError>>,
}

/// The handle of the metadata; all clones mean the same.
#[derive(Clone)]
pub(crate) struct MetadataHost {
    image: Arc<ArcSwap<MetadataImage>>,
    version: watch::Sender<u64>,
    changes: mpsc::Sender<Submitted>,
    log: Arc<Partition>,
}

impl fmt::Debug for MetadataHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataHost")
            .field("version", &*self.version.borrow())
            .finish_non_exhaustive()
    }
}

/// The task behind [`MetadataHost`].
struct Actor {
    host: MetadataHost,
    log: Arc<Partition>,
    storage: Arc<Storage>,
    clock: Arc<dyn Clock>,
    controller: ActiveController,
    /// What the controller's time is counted from.
    began: Instant,
    /// Cancelled when the log has failed.
    stopping: CancellationToken,
}

/// What the metadata of a node starts from.
pub(crate) struct MetadataStart {
    /// What the log has been replayed into.
    pub(crate) image: MetadataImage,
    /// What this start adds: the cluster's id the first time, the node's address when it is new.
    pub(crate) founding: Vec<MetadataRecord>,
    /// The log.
    pub(crate) log: Arc<Partition>,
    /// How changes are decided.
    pub(crate) settings: ControllerSettings,
}

impl MetadataHost {
    /// Writes what this start adds, and starts the task. It cancels `stopping` when the log fails.
    pub(crate) async fn start(
        start: MetadataStart,
        storage: Arc<Storage>,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> Result<Self, MetadataError> {
        let (changes, queue) = mpsc::channel(QUEUE_LENGTH);
        let began = Instant::now();
        let controller = ActiveController::begin(&start.image, start.settings, 0);
        let host = Self {
            image: Arc::new(ArcSwap::from_pointee(start.image)),
            version: watch::Sender::new(0),
            changes,
            log: Arc::clone(&start.log),
        };
        // The actor's own handle must not keep the queue open.
        let (closed, _) = mpsc::channel(1);
        let own = Self {
            changes: closed,
            ..host.clone()
        };
        let actor = Actor {
            host: own,
            log: start.log,
            storage,
            clock,
            controller,
            began,
            stopping,
        };
        actor.commit(&host.image(), start.founding).await?;
        tokio::spawn(actor.run(queue));
        Ok(host)
    }

    /// The log of the metadata, to look at.
    pub(crate) fn log(&self) -> &Arc<Partition> {
        &self.log
    }

    /// The metadata now.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Tells of every new image; the number only counts them.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Changes the metadata, and answers once the change is durable and in force. It is decided on when
    /// its turn has come, after all changes that were submitted before.
    pub(crate) async fn submit(&self, change: Change) -> Result<Answer, SubmitError> {
        let (reply, answer) = oneshot::channel();
        let submitted = Submitted { change, reply };
        let queued = self.changes.send(submitted).await;
        queued.map_err(|_| MetadataError::Stopping)?;
        answer.await.map_err(|_| MetadataError::Stopping)?
    }
}

impl Actor {
    async fn run(mut self, mut queue: mpsc::Receiver<Submitted>) {
        while let Some(Submitted { change, reply }) = queue.recv().await {
            let outcome = self.take(&change).await;
            let failed = outcome.is_err() && self.stopping.is_cancelled();
            // A caller that has gone away does not undo the change.
            drop(reply.send(outcome));
            if failed {
                return;
            }
        }
    }

    async fn take(&mut self, change: &Change) -> Result<Answer, SubmitError> {
        let before = self.host.image();
        let now_ms = self.began.elapsed().as_millis() as i64;
        let Transition { records, response } = self.controller.decide(&before, change, now_ms)?;
        self.commit(&before, records).await?;
        Ok(response)
    }

    fn not_written(&self, error: &InternalAppendError) -> MetadataError {
        let unknown = matches!(
            error,
            InternalAppendError::Append(
                AppendFailure::NotDurable(_) | AppendFailure::Closed { .. }
            )
        );
        if unknown || self.log.directory().offline().is_some() {
            tracing::error!(%error, "the metadata log has failed: the node stops");
            self.stopping.cancel();
        } else {
            tracing::error!(%error, "metadata is not changed");
        }
        MetadataError::NotWritten(error.to_string().into())
    }

    async fn commit(
        &self,
        before: &Arc<MetadataImage>,
        records: Vec<MetadataRecord>,
    ) -> Result<(), MetadataError> {
        if records.is_empty() {
            return Ok(());
        }
        append(&self.log, &records, self.clock.now_ms())
            .await
            .map_err(|error| self.not_written(&error))?;
        let mut after = MetadataImage::clone(before);
        after.replay_all(&records);
        let after = Arc::new(after);
        let (storage, then, now) = (
            Arc::clone(&self.storage),
            Arc::clone(before),
            Arc::clone(&after),
        );
        let applied = tokio::task::spawn_blocking(move || storage.apply(&then, &now)).await;
        if let Err(error) = applied {
            tracing::error!(%error, "logs do not follow the metadata");
        }
        self.host.image.store(after);
        self.host.version.send_modify(|version| *version += 1);
        Ok(())
    }
}

/// Reads the whole metadata log. Blocks on the disk.
pub(crate) fn replay(log: &Partition) -> Result<MetadataImage, ReplayError> {
    let mut image = MetadataImage::default();
    internal_log::read_all(log, |record| {
        let value = record.value.unwrap_or_default();
        image.replay(&MetadataRecord::decode(&value)?);
        Ok::<(), ReplayError>(())
    })?;
    Ok(image)
}

async fn append(
    log: &Arc<Partition>,
    records: &[MetadataRecord],
    now_ms: i64,
) -> Result<(), InternalAppendError> {
    let values: Vec<Vec<u8>> = records.iter().map(MetadataRecord::encode).collect();
    let new: Vec<NewRecord<'_>> = values
        .iter()
        .map(|value| NewRecord {
            timestamp_ms: now_ms,
            key: None,
            value: Some(value),
            headers: &[],
        })
        .collect();
    internal_log::append(log, &new, now_ms).await?;
    Ok(())
}
