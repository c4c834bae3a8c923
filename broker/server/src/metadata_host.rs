//! Where the metadata lives while the node runs: the log behind it, the image of it, its changes.
//!
//! One task owns all changes and takes them one after another: ask the pure controller for records,
//! append them to `__cluster_metadata-0` as one batch, wait until they are synced, replay them into a
//! new image, make the logs follow, publish. Only then does the caller get its answer, so a change
//! is visible once its call returns. If the append is refused nothing has changed. If it is not known
//! whether the records survive, or the directory of the log has failed, the node stops: the next start
//! finds out, and until then nothing may be decided on an image that may be wrong.
//!
//! Readers take the image without a lock and may wait for the next one.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use conveyor_controller::{MetadataImage, MetadataRecord, RecordDecodeError};
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

type Respond = Box<dyn FnOnce(Result<(), MetadataError>) + Send>;
type Decide = Box<dyn FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, Respond) + Send>;

/// The handle of the metadata; all clones mean the same.
#[derive(Clone)]
pub(crate) struct MetadataHost {
    image: Arc<ArcSwap<MetadataImage>>,
    version: watch::Sender<u64>,
    changes: mpsc::Sender<Decide>,
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
    /// Cancelled when the log has failed.
    stopping: CancellationToken,
}

impl MetadataHost {
    /// Starts the task on a log that has been replayed into `image`. It cancels `stopping` when the log
    /// fails.
    pub(crate) fn start(
        image: MetadataImage,
        log: Arc<Partition>,
        storage: Arc<Storage>,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> Self {
        let (changes, queue) = mpsc::channel(QUEUE_LENGTH);
        let host = Self {
            image: Arc::new(ArcSwap::from_pointee(image)),
            version: watch::Sender::new(0),
            changes,
            log: Arc::clone(&log),
        };
        // The actor's own handle must not keep the queue open.
        let (closed, _) = mpsc::channel(1);
        let own = Self {
            changes: closed,
            ..host.clone()
        };
        let actor = Actor {
            host: own,
            log,
            storage,
            clock,
            stopping,
        };
        tokio::spawn(actor.run(queue));
        host
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

    /// Changes the metadata: `decide` gets the image as it is when its turn has come and returns the
    /// records to write and the answer, which is given once they are durable and in force.
    pub(crate) async fn change<R, F>(&self, decide: F) -> Result<R, MetadataError>
    where
        R: Send + 'static,
        F: FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, R) + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let boxed: Decide = Box::new(move |image| {
            let (records, response) = decide(image);
            let respond: Respond = Box::new(move |written| {
                // A caller that has gone away does not undo the change.
                drop(sender.send(written.map(|()| response)));
            });
            (records, respond)
        });
        self.changes
            .send(boxed)
            .await
            .map_err(|_| MetadataError::Stopping)?;
        receiver.await.map_err(|_| MetadataError::Stopping)?
    }
}

impl Actor {
    async fn run(self, mut queue: mpsc::Receiver<Decide>) {
        while let Some(decide) = queue.recv().await {
            let before = self.host.image();
            let (records, respond) = decide(&before);
            let committed = self.commit(&before, records).await;
            let failed = committed.is_err() && self.stopping.is_cancelled();
            respond(committed);
            if failed {
                return;
            }
        }
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
