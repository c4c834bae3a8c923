//! The produce stream to one node: opened, limited by the node's window, closed when it breaks.
//!
//! Knows bytes and times, not partitions. A link is replaced as a whole after a failure, so an
//! answer of an old stream can never be taken for one of the new.

use std::pin::Pin;
use std::time::{Duration, Instant};

use conveyor_grpc::v1;
use conveyor_grpc::v1::produce_stream_request::Message;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::client::{Backoff, NodeChannel, services};

/// Messages handed to the transport and not taken by it yet. Bytes are bounded by the node's
/// window; this only bounds the number of small batches.
const OUTGOING_MAX: usize = 256;

/// What the stream brings.
pub(super) enum LinkEvent {
    Response(v1::ProduceStreamResponse),
    Broken(Status),
}

pub(super) type LinkStream = Pin<Box<dyn Stream<Item = LinkEvent> + Send>>;

/// The way to one node.
pub(super) enum Link {
    /// There is none; one may be opened from then on.
    Down {
        retry_at: Instant,
    },
    Up(OpenLink),
}

/// A stream that has not failed yet.
pub(super) struct OpenLink {
    outgoing: mpsc::Sender<v1::ProduceStreamRequest>,
    /// Unset until the node's first answer; nothing is sent before that.
    window_bytes: Option<usize>,
    unacknowledged_bytes: usize,
    throttled_until: Option<Instant>,
}

/// Whether a link takes a batch now.
pub(super) enum Room {
    Yes,
    /// Not before an event on the link.
    No,
    /// Not before this time.
    NotBefore(Instant),
}

impl OpenLink {
    /// Opens the stream; the first event tells whether that worked.
    pub(super) fn open(channel: NodeChannel, open: v1::ProduceStreamOpen) -> (Self, LinkStream) {
        let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
        let first = v1::ProduceStreamRequest {
            message: Some(Message::Open(open)),
        };
        let requests =
            futures::stream::once(std::future::ready(first)).chain(ReceiverStream::new(requests));
        let answers = async move {
            let response = services::produce(channel).produce_stream(requests).await?;
            Ok::<_, Status>(response.into_inner())
        };
        let events = futures::stream::once(answers)
            .try_flatten()
            .map(|answer| match answer {
                Ok(response) => LinkEvent::Response(response),
                Err(status) => LinkEvent::Broken(status),
            })
            .chain(futures::stream::once(std::future::ready(
                LinkEvent::Broken(Status::unavailable("the node ended the stream")),
            )));
        let link = Self {
            outgoing,
            window_bytes: None,
            unacknowledged_bytes: 0,
            throttled_until: None,
        };
        (link, Box::pin(events))
    }

    /// Takes the node's limits.
    pub(super) fn set_window(&mut self, window_bytes: i64) {
        self.window_bytes = Some(usize::try_from(window_bytes).unwrap_or(0));
    }

    /// The node asks to wait.
    pub(super) fn throttle(&mut self, now: Instant, throttle_time_ms: i32) {
        let wait = u64::try_from(throttle_time_ms).unwrap_or(0);
        if wait > 0 {
            self.throttled_until = Some(now + Duration::from_millis(wait));
        }
    }

    /// Whether a batch of `bytes` may be sent. One alone may always, however small the window.
    pub(super) fn room(&self, bytes: usize, now: Instant) -> Room {
        if let Some(until) = self.throttled_until
            && until > now
        {
            return Room::NotBefore(until);
        }
        let Some(window) = self.window_bytes else {
            return Room::No;
        };
        let fits = self.unacknowledged_bytes == 0 || self.unacknowledged_bytes + bytes <= window;
        if fits && self.outgoing.capacity() > 0 {
            Room::Yes
        } else {
            Room::No
        }
    }

    /// Hands a batch to the transport; says whether it took it.
    pub(super) fn send(&mut self, batch: v1::ProduceStreamBatch) -> bool {
        let bytes = batch.batch.len();
        let request = v1::ProduceStreamRequest {
            message: Some(Message::Batch(batch)),
        };
        if self.outgoing.try_send(request).is_err() {
            return false;
        }
        self.unacknowledged_bytes += bytes;
        true
    }

    /// A batch of `bytes` has been answered.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_sub(bytes);
    }

    /// Whether the node has answered at least once.
    pub(super) fn is_established(&self) -> bool {
        self.window_bytes.is_some()
    }
}

/// The failures of the way to one node, which outlive its streams.
pub(super) struct LinkState {
    pub(super) link: Link,
    pub(super) backoff: Backoff,
}
