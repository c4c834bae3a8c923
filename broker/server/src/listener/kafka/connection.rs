//! One connection: requests in, replies out, in the same order.
//!
//! The task does one thing at a time: it handles the request at hand and writes the replies that have
//! become ready meanwhile. Replies to requests that arrived together leave together. It does not read
//! while the client leaves its replies unread, while it is muted for a quota, or while too many of its
//! batches wait for the disk.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conveyor_kafka::{FrameError, Gather};
use futures::FutureExt;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::bound::ListenerInfo;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::pace::Pace;
use crate::kafka::{Answer, KafkaService, PendingProduce, RequestError, Session};
use crate::listener::connections::Connection;

/// Requests of one connection whose batches may wait for the disk; the next is not read meanwhile.
pub(super) const PENDING_MAX: usize = 256;
/// Bytes of replies that may wait for each other to be written together.
const COALESCED_BYTES_MAX: usize = 64 * 1024;
/// How often a connection that waits for its client looks whether others need what it holds, and
/// one whose request waits whether its client is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request under way may still take when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Why a connection is closed that its client did not close.
#[derive(Debug, Error)]
enum Closing {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("nothing came or went for connections.max.idle.ms")]
    Idle,
    #[error("the client has gone while its request waited")]
    Gone,
    #[error("the client sends a request too slowly, and others wait for the memory")]
    SlowRequest,
    #[error("the client reads its replies too slowly, and others wait for the memory")]
    SlowReply,
    #[error("the node is stopping")]
    Stopping,
}

impl Closing {
    /// Whether somebody should look at it: not what happens on any working day.
    fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Frame(_) | Self::Request(_) | Self::SlowRequest | Self::SlowReply
        )
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    service: &Arc<KafkaService>,
    listener: Arc<ListenerInfo>,
    connection: Connection,
) {
    let peer = connection.peer();
    let name = Arc::clone(&listener.name);
    let local = connection.stream().local_addr().unwrap_or(listener.address);
    let node = service.node();
    let served = Served {
        // One of its own: waiting for it takes no lock that other connections take.
        stopping: node.stopping.child_token(),
        inbound: Inbound::new(node.config.socket_request_max_bytes),
        replies: Replies::default(),
        session: Session::new(listener, local, peer),
        idle: crate::background::duration(node.config.connections_max_idle_ms),
        service,
        stream: connection.stream(),
    };
    if let Err(closing) = served.run().await {
        report(peer, &name, &closing);
    }
}

/// One line for what should not happen, none for what does every day.
fn report(peer: SocketAddr, listener: &str, closing: &Closing) {
    if closing.is_fault() {
        tracing::warn!(%peer, listener, reason = %closing, "connection closed");
    } else {
        tracing::debug!(%peer, listener, reason = %closing, "connection closed");
    }
}

struct Served<'a> {
    service: &'a Arc<KafkaService>,
    stream: &'a TcpStream,
    inbound: Inbound,
    replies: Replies,
    session: Session,
    stopping: CancellationToken,
    idle: Duration,
}

impl Served<'_> {
    async fn run(mut self) -> Result<(), Closing> {
        let node = self.service.node();
        let mut muted_until = None;
        let mut active = Instant::now();
        let mut look = pin!(sleep_until(active + self.idle));
        loop {
            let may_take = muted_until.is_none() && self.replies.has_place();
            if may_take
                && !self.stopping.is_cancelled()
                && let Some(frame) = self.inbound.next_frame()?
            {
                let mute = self.handle(frame).await?;
                active = Instant::now();
                muted_until = (!mute.is_zero()).then(|| active + mute);
                // Others on this thread get their turn, however much has arrived.
                tokio::task::consume_budget().await;
                // What came together is answered together.
                if self.replies.out.len() < COALESCED_BYTES_MAX {
                    continue;
                }
            }
            self.replies.collect()?;
            self.write_out().await?;
            if self.stopping.is_cancelled() {
                return self.finish().await;
            }
            let may_read = muted_until.is_none() && self.replies.has_place();
            // Nothing more need come for a request that has arrived while others were waited for.
            if may_read && self.inbound.holds_frame()? {
                continue;
            }
            let soon = Instant::now() + LOOK_INTERVAL;
            if self.inbound.is_within_large_frame() && look.deadline() > soon {
                look.as_mut().reset(soon);
            }
            tokio::select! {
                biased;
                () = self.replies.next() => {}
                open = self.inbound.fill(self.stream, &node.request_memory), if may_read => {
                    if !open? {
                        return Ok(());
                    }
                    active = Instant::now();
                }
                () = until(muted_until) => muted_until = None,
                () = self.stopping.cancelled() => {}
                () = &mut look => look.as_mut().reset(self.next_look(active)?),
            }
        }
    }

    /// Handles one request while replies that become ready are written; how long to read nothing more.
    /// A request that waits is given up when its client has gone, or after `connections.max.idle.ms`.
    async fn handle(&mut self, frame: Bytes) -> Result<Duration, Closing> {
        let begun = Instant::now();
        let mut answer = pin!(self.service.handle(&mut self.session, frame));
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer?,
                written = self.replies.drive(self.stream) => written?,
                () = grace(&self.stopping) => return Err(Closing::Stopping),
                () = sleep(LOOK_INTERVAL) => {
                    if begun.elapsed() >= self.idle {
                        return Err(Closing::Idle);
                    }
                    // What it sent before it went is handled first.
                    if has_hung_up(self.stream) && !self.inbound.holds_frame()? {
                        return Err(Closing::Gone);
                    }
                }
            }
        };
        match answer {
            Answer::Reply { reply, mute } => {
                self.replies.pending.push_back(Pending::Ready(reply));
                self.replies.collect()?;
                Ok(mute)
            }
            Answer::Produce { pending, mute } => {
                self.replies.pending.push_back(Pending::Produce(pending));
                Ok(mute)
            }
        }
    }

    /// Writes all replies that are ready; the client is waited for as long as nobody else waits for
    /// the memory that they hold.
    async fn write_out(&mut self) -> Result<(), Closing> {
        let node = self.service.node();
        let mut active = Instant::now();
        let mut pace = Pace::begin(self.replies.out.len(), active);
        while !self.replies.out.is_empty() {
            match timeout(LOOK_INTERVAL, self.replies.out.write_some(self.stream)).await {
                Ok(written) => {
                    written?;
                    active = Instant::now();
                }
                Err(_) if self.stopping.is_cancelled() => return Err(Closing::Stopping),
                Err(_) if active.elapsed() >= self.idle => return Err(Closing::Idle),
                Err(_) => {}
            }
            let missing = self.replies.out.len();
            if pace.is_slow(missing, Instant::now()) && node.fetch_memory.is_short() {
                return Err(Closing::SlowReply);
            }
            if self.inbound.is_in_the_way() {
                return Err(Closing::SlowRequest);
            }
        }
        Ok(())
    }

    /// Whether a silent connection may stay, and when to look again.
    fn next_look(&mut self, active: Instant) -> Result<Instant, Closing> {
        let now = Instant::now();
        if now.duration_since(active) >= self.idle && self.replies.pending.is_empty() {
            return Err(Closing::Idle);
        }
        if !self.inbound.is_within_large_frame() {
            return Ok((active + self.idle).max(now + LOOK_INTERVAL));
        }
        if self.inbound.is_in_the_way() {
            return Err(Closing::SlowRequest);
        }
        Ok(now + LOOK_INTERVAL)
    }

    /// Sends the replies that are still to come: what was appended is told before the node is gone.
    async fn finish(mut self) -> Result<(), Closing> {
        while !self.replies.pending.is_empty() {
            self.replies.next().await;
            self.replies.collect()?;
            self.write_out().await?;
        }
        Err(Closing::Stopping)
    }
}

/// A reply in its place.
#[derive(Debug)]
enum Pending {
    Ready(Gather),
    Produce(PendingProduce),
}

/// Replies in the order of their requests.
#[derive(Debug, Default)]
struct Replies {
    pending: VecDeque<Pending>,
    /// Those that may be written.
    out: Outbound,
}

impl Replies {
    /// Whether one more request may be taken.
    fn has_place(&self) -> bool {
        self.pending.len() < PENDING_MAX
    }

    /// Moves replies that are ready, up to the first that is not.
    fn collect(&mut self) -> Result<(), RequestError> {
        while let Some(front) = self.pending.pop_front() {
            match front {
                Pending::Ready(reply) => self.out.push(reply),
                Pending::Produce(produce) if produce.is_done() => {
                    if let Some(reply) = produce.finish()? {
                        self.out.push(reply);
                    }
                }
                waiting @ Pending::Produce(_) => {
                    self.pending.push_front(waiting);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns once the first reply is ready; never if there is none to wait for. Cancel-safe.
    async fn next(&mut self) {
        match self.pending.front_mut() {
            Some(Pending::Produce(produce)) => produce.done().await,
            Some(Pending::Ready(_)) => {}
            None => pending().await,
        }
    }

    /// Gets on with writing by a step; waits as long as there is nothing to write. Cancel-safe.
    async fn drive(&mut self, stream: &TcpStream) -> Result<(), Closing> {
        self.collect()?;
        if self.out.is_empty() {
            self.next().await;
            return Ok(());
        }
        Ok(self.out.write_some(stream).await?)
    }
}

/// Whether the client has closed the connection and everything that it sent is read.
fn has_hung_up(stream: &TcpStream) -> bool {
    let next = stream.peek(&mut [0]).now_or_never();
    next.is_some_and(|read| !matches!(read, Ok(1..)))
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Returns some time after the node has begun to stop.
async fn grace(stopping: &CancellationToken) {
    stopping.cancelled().await;
    sleep(STOP_GRACE).await;
}
