//! A batch on its way from a handler to the writer of its data directory, and the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use conveyor_log::{AppendBatch, AppendError, SyncError};
use conveyor_record::Offset;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Partition;
/// When a producer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// Once the batch is as durable as the topic asks.
    All,
    /// Once it is in the leader's page cache.
    Leader,
    /// Once it is queued.
    None,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Offset of its first record; the first time's, when it is a duplicate.
    pub(crate) base_offset: Offset,
    /// Offset of its last record.
    pub(crate) last_offset: Offset,
    /// First offset of the log.
    pub(crate) log_start_offset: Offset,
    /// The broker's time for topics with `LogAppendTime`, else -1.
    pub(crate) log_append_timestamp_ms: i64,
}

impl Appended {
    /// What a producer is told that does not wait (`acks=none`).
    pub(crate) const UNKNOWN: Self = Self {
        base_offset: Offset::NONE,
        last_offset: Offset::NONE,
        log_start_offset: Offset::NONE,
        log_append_timestamp_ms: -1,
    };
}

/// Why a batch that was fit to be appended is not (known to be) in the log.
#[derive(Debug, Clone, Error)]
pub(crate) enum AppendFailure {
    /// The log refused it; nothing of it is there.
    #[error(transparent)]
    Refused(#[from] AppendError),
    /// It was written, but not made durable; it may or may not survive.
    #[error(transparent)]
    NotDurable(#[from] SyncError),
    /// The partition is gone: its topic was deleted, or the node stops.
    #[error("{partition} is closed: its topic was deleted or the node is stopping")]
    Closed {
        /// The partition's name.
        partition: Arc<str>,
    },
}

/// What became of a batch.
pub(crate) type AppendResult = Result<Appended, AppendFailure>;

/// Takes the answers of several batches.
pub(crate) trait Acknowledge: fmt::Debug + Send + Sync {
    /// The answer of the batch that was queued under this number. Called once for each, by a writer
    /// or a flusher, which must not wait.
    fn acknowledge(&self, number: u64, result: AppendResult);
}

/// Who waits for it.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nobody (`acks=none`).
    Nobody,
    /// One caller.
    Once(oneshot::Sender<AppendResult>),
    /// A request or stream of several batches, which matches answers by number.
    Numbered(Arc<dyn Acknowledge>, u64),
}

impl Reply {
    /// Gives the answer. A caller that has gone away is no error.
    pub(crate) fn send(self, result: AppendResult) {
        match self {
            Self::Nobody => {}
            Self::Once(sender) => drop(sender.send(result)),
            Self::Numbered(batches, number) => batches.acknowledge(number, result),
        }
    }
}

/// One batch in the writer's queue. It holds its share of the queue's bytes until it is answered.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) partition: Arc<Partition>,
    pub(crate) batch: AppendBatch,
    pub(crate) acks: Acks,
    pub(crate) log_append_timestamp_ms: i64,
    pub(crate) reply: Reply,
    pub(crate) permits: Permits,
    /// When it was queued.
    pub(crate) queued: Instant,
}

/// A batch's shares of what bounds memory; given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    _room: Option<OwnedSemaphorePermit>,
    _window: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// The share of the directory's room and of the stream's window.
    pub(crate) fn new(
        room: Option<OwnedSemaphorePermit>,
        window: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            _room: room,
            _window: window,
        }
    }
}
