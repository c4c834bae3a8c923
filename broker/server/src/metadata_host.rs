//! Where the metadata lives while the node runs: the log behind it, the image of it, its changes.
//!
//! One task owns all changes and takes them one after another: ask the pure controller for records,
//! append them to `__cluster_metadata-0` as one batch, wait until they are synced, replay them into a
//! new image, make the logs follow, publish. Only then does the caller get its answer, so a change
//! is visible once its call returns. If the append fails nothing has changed.
//!
//! Readers take the image without a lock and may wait for the next one.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use conveyor_controller::{MetadataImage, MetadataRecord, RecordDecodeError};
use conveyor_log::{AppendBatch, Clock, ReadError};
use conveyor_record::{
    AppendOrigin, BatchBuilder, BatchError, BatchOptions, Compressor, Decompressor, NewRecord,
    OwnedBatches, ProduceRules, validate_produce,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::partition::{AppendFailure, Partition};
use crate::storage::Storage;

/// Changes that may wait for their turn; callers wait beyond it.
const QUEUE_LENGTH: usize = 64;
/// Bytes read from the metadata log at a time.
const READ_BYTES: usize = 1 << 20;

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
    Read(#[from] ReadError),
    /// A batch cannot be read.
    #[error("cannot read a batch of the metadata log: {0}")]
    Batch(#[from] BatchError),
    /// A record cannot be understood.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
}

type Respond = Box<dyn FnOnce(Result<(), MetadataError>) + Send>;
type Decide = Box<dyn FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, Respond) + Send>;

/// The handle of the metadata; all clones mean the same.
#[derive(Clone)]
pub(crate) struct MetadataHost {
    image: Arc<ArcSwap<MetadataImage>>,
    version: watch::Sender<u64>,
    changes: mpsc::Sender<Decide>,
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
}

impl MetadataHost {
    /// Starts the task on a log that has been replayed into `image`.
    pub(crate) fn start(
        image: MetadataImage,
        log: Arc<Partition>,
        storage: Arc<Storage>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (changes, queue) = mpsc::channel(QUEUE_LENGTH);
        let host = Self {
            image: Arc::new(ArcSwap::from_pointee(image)),
            version: watch::Sender::new(0),
            changes,
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
        };
        tokio::spawn(actor.run(queue));
        host
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
            respond(self.commit(&before, records).await);
        }
    }

    async fn commit(
        &self,
        before: &Arc<MetadataImage>,
        records: Vec<MetadataRecord>,
    ) -> Result<(), MetadataError> {
        if records.is_empty() {
            return Ok(());
        }
        let not_written =
            |error: &dyn fmt::Display| MetadataError::NotWritten(error.to_string().into());
        let batch =
            encode_batch(&records, self.clock.now_ms()).map_err(|error| not_written(&error))?;
        self.log
            .append_durably(batch)
            .await
            .map_err(|error: AppendFailure| {
                tracing::error!(%error, "metadata is not changed");
                not_written(&error)
            })?;
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
    let mut decompressor = Decompressor::new();
    let reader = log.reader();
    let mut offset = reader.log_start_offset();
    let end = reader.high_watermark();
    while offset < end {
        let chunk = reader.read(offset, end, READ_BYTES, true)?;
        if chunk.bytes.is_empty() {
            break;
        }
        for batch in OwnedBatches::new(chunk.bytes) {
            for record in batch?.records(&mut decompressor, READ_BYTES)? {
                let value = record?.value.unwrap_or_default();
                image.replay(&MetadataRecord::decode(&value)?);
            }
        }
        offset = chunk.next_offset;
    }
    Ok(image)
}

/// One batch with one record each, so that a change is there whole or not at all.
pub(crate) fn encode_batch(
    records: &[MetadataRecord],
    now_ms: i64,
) -> Result<AppendBatch, BatchError> {
    let options = BatchOptions {
        size_limit: i32::MAX as usize,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let value = record.encode();
        let new = NewRecord {
            timestamp_ms: now_ms,
            key: None,
            value: Some(&value),
            headers: &[],
        };
        builder.append(&new)?;
    }
    validated(builder.build(&mut Compressor::new())?, now_ms)
}

/// A batch that the broker itself has built, ready to be appended.
pub(crate) fn validated(bytes: Bytes, now_ms: i64) -> Result<AppendBatch, BatchError> {
    let rules = ProduceRules {
        origin: AppendOrigin::Coordinator,
        max_message_bytes: i32::MAX as usize,
        timestamp_after_max_ms: i64::MAX,
        now_ms,
        ..ProduceRules::default()
    };
    let validated = validate_produce(&bytes, &rules, &mut Decompressor::new())?;
    Ok(AppendBatch { bytes, validated })
}
