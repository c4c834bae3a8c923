//! The fetch stream to one node: a task that keeps it open and delivers what it brings.
//!
//! What the consumer wants is a small shared state (sessions with their offsets, credit to give
//! back), not a queue: commands coalesce, and after a broken connection everything wanted is simply
//! asked for again, from where the stream had got to. The task never waits for the node to read
//! while the node may wait for it to read.
//!
//! Invariant: credit granted on a connection less bytes received on it is never more than the
//! window less what the consumer still holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{LeaderEpoch, NodeId, Offset};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::config::ConsumerConfig;
use super::decode::Chunk;
use super::inbox::{Delivery, FetchSession, Fetched, Inbox, Watermarks};
use super::topic_partition::TopicPartition;
use crate::client::{Client, services};
use crate::error::{Error, Result};

/// Requests built but not yet taken by the connection.
const REQUESTS_UNDER_WAY: usize = 2;
/// Credit is given back in portions of this part of the window.
const CREDIT_PORTION: i64 = 4;

/// What every stream of a consumer asks for.
#[derive(Debug, Clone)]
pub(super) struct StreamOptions {
    open: v1::FetchStreamOpen,
    window_bytes: i64,
}

impl StreamOptions {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        // `validate` has seen to it that these fit.
        let open = v1::FetchStreamOpen {
            isolation_level: config.isolation_level.to_wire().into(),
            response_bytes_max: config.fetch_response_bytes_max as i32,
            min_bytes: config.fetch_min_bytes as i32,
            max_wait_ms: config.fetch_max_wait_ms as i32,
        };
        Self {
            open,
            window_bytes: config.fetch_memory_bytes as i64,
        }
    }
}

/// The stream to one node; dropping it ends it.
#[derive(Debug)]
pub(super) struct NodeStream {
    wanted: Arc<Wanted>,
    task: JoinHandle<()>,
}

impl NodeStream {
    pub(super) fn start(
        client: Client,
        node: NodeId,
        options: StreamOptions,
        inbox: Arc<Inbox>,
    ) -> Self {
        let wanted = Arc::new(Wanted::new(options.window_bytes));
        let worker = Worker {
            client,
            node,
            options,
            inbox,
            wanted: Arc::clone(&wanted),
        };
        Self {
            wanted,
            task: tokio::spawn(worker.run()),
        }
    }

    /// Starts a session; an earlier one of the same partition ends.
    pub(super) fn assign(
        &self,
        session: FetchSession,
        partition: TopicPartition,
        offset: Offset,
        leader_epoch: LeaderEpoch,
    ) {
        self.wanted.change(|state| {
            state
                .sessions
                .retain(|_, other| other.partition != partition);
            state.to_remove.remove(&partition);
            state.to_assign.insert(session);
            state.sessions.insert(
                session,
                Session {
                    partition,
                    offset,
                    leader_epoch,
                },
            );
        });
    }

    /// Ends the session of a partition; what is under way will be dropped.
    pub(super) fn remove(&self, partition: &TopicPartition) {
        self.wanted.change(|state| {
            state
                .sessions
                .retain(|_, other| other.partition != *partition);
            state.to_remove.insert(partition.clone());
        });
    }

    /// Whether nothing is wanted from this node.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.state.lock().sessions.is_empty()
    }
}

impl Drop for NodeStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the consumer wants of a node; see the module's comment.
#[derive(Debug)]
struct Wanted {
    state: Mutex<State>,
    changed: Notify,
    window_bytes: i64,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<FetchSession, Session>,
    /// Sessions that the node has not been told of on this connection.
    to_assign: BTreeSet<FetchSession>,
    to_remove: BTreeSet<TopicPartition>,
    /// Bytes delivered and not yet given back.
    held_bytes: i64,
    /// Bytes given back that the node has not been told of.
    credit_due: i64,
}

#[derive(Debug, Clone)]
struct Session {
    partition: TopicPartition,
    /// The next offset to come.
    offset: Offset,
    leader_epoch: LeaderEpoch,
}

impl Session {
    fn to_wire(&self, session: FetchSession) -> v1::FetchStreamPartition {
        v1::FetchStreamPartition {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            fetch_offset: self.offset.value(),
            current_leader_epoch: self.leader_epoch.value(),
            session,
        }
    }
}

impl Wanted {
    fn new(window_bytes: i64) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            window_bytes,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_one();
    }

    /// What a new connection has to be told: everything.
    fn opening_request(&self, open: v1::FetchStreamOpen) -> v1::FetchStreamRequest {
        let mut state = self.state.lock();
        state.to_assign.clear();
        state.to_remove.clear();
        state.credit_due = 0;
        v1::FetchStreamRequest {
            open: Some(open),
            assign: state
                .sessions
                .iter()
                .map(|(id, session)| session.to_wire(*id))
                .collect(),
            remove: Vec::new(),
            credit_bytes: (self.window_bytes - state.held_bytes).max(0),
        }
    }

    /// Whether there is something to tell.
    fn has_request(&self) -> bool {
        let state = self.state.lock();
        !state.to_assign.is_empty() || !state.to_remove.is_empty() || self.credit_is_due(&state)
    }

    /// A portion, or all there is once the consumer holds nothing any more.
    fn credit_is_due(&self, state: &State) -> bool {
        state.credit_due > 0
            && (state.held_bytes <= 0 || state.credit_due >= self.window_bytes / CREDIT_PORTION)
    }

    fn next_request(&self) -> v1::FetchStreamRequest {
        let mut state = self.state.lock();
        let to_assign = std::mem::take(&mut state.to_assign);
        v1::FetchStreamRequest {
            open: None,
            assign: to_assign
                .into_iter()
                .filter_map(|id| state.sessions.get(&id).map(|session| session.to_wire(id)))
                .collect(),
            remove: std::mem::take(&mut state.to_remove)
                .iter()
                .map(TopicPartition::to_wire)
                .collect(),
            credit_bytes: std::mem::take(&mut state.credit_due),
        }
    }

    /// Notes `bytes` received for a session and where it goes on; `false` when nobody wants them.
    fn receive(&self, session: FetchSession, bytes: usize, next_offset: i64) -> bool {
        let mut state = self.state.lock();
        state.held_bytes += bytes as i64;
        match state.sessions.get_mut(&session) {
            Some(session) => {
                session.offset = session.offset.max(Offset(next_offset));
                true
            }
            None => false,
        }
    }

    fn end_session(&self, session: FetchSession) -> bool {
        let mut state = self.state.lock();
        state.to_assign.remove(&session);
        state.sessions.remove(&session).is_some()
    }

    fn give_back(&self, bytes: i64) {
        let mut state = self.state.lock();
        state.held_bytes -= bytes;
        state.credit_due += bytes;
        let due = self.credit_is_due(&state);
        drop(state);
        if due {
            self.changed.notify_one();
        }
    }
}

/// Bytes that the consumer holds; dropping it lets the node send as many again.
#[derive(Debug)]
pub(super) struct CreditGuard {
    wanted: Arc<Wanted>,
    bytes: usize,
}

impl Drop for CreditGuard {
    fn drop(&mut self) {
        self.wanted.give_back(self.bytes as i64);
    }
}

/// The task.
struct Worker {
    client: Client,
    node: NodeId,
    options: StreamOptions,
    inbox: Arc<Inbox>,
    wanted: Arc<Wanted>,
}

impl Worker {
    async fn run(self) {
        let mut backoff = self.client.backoff();
        loop {
            let mut received = false;
            let error = match self.stream_once(&mut received).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            // The first break of a stream that worked may be a hiccup: try once in silence.
            if received {
                backoff.reset();
            }
            if !received || !error.is_retriable() {
                self.inbox.push_trouble(self.node, error.clone());
            }
            tracing::debug!(node = %self.node, %error, "fetch stream ended, reconnecting");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Opens the stream and serves it until it breaks.
    async fn stream_once(&self, received: &mut bool) -> Result<std::convert::Infallible> {
        let mut fetch = services::fetch(self.client.channel(self.node)?);
        let (requests, outgoing) = mpsc::channel(REQUESTS_UNDER_WAY);
        // There is room: the channel is new.
        let opening = self.wanted.opening_request(self.options.open);
        requests
            .try_send(opening)
            .map_err(|_| self.ended("request queue is full"))?;
        let limit = Duration::from_millis(self.client.config().request_timeout_ms);
        let call = fetch.fetch_stream(ReceiverStream::new(outgoing));
        let mut responses = match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(Error::rpc("open fetch stream", &self.node, &status)),
            Err(_) => return Err(self.ended("the node did not open the stream in time")),
        };
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        *received = true;
                        self.deliver(response);
                    }
                    Ok(None) => return Err(self.ended("the node closed the stream")),
                    Err(status) => return Err(Error::rpc("fetch", &self.node, &status)),
                },
                permit = requests.reserve(), if self.wanted.has_request() => match permit {
                    Ok(permit) => permit.send(self.wanted.next_request()),
                    Err(_) => return Err(self.ended("the connection takes no more requests")),
                },
                () = self.wanted.changed.notified() => {}
            }
        }
    }

    fn ended(&self, reason: &str) -> Error {
        Error::Rpc {
            operation: "fetch",
            node: self.node.to_string(),
            code: tonic::Code::Unavailable,
            message: reason.to_owned(),
        }
    }

    fn deliver(&self, response: v1::FetchStreamResponse) {
        for partition in response.partitions {
            self.deliver_partition(partition);
        }
    }

    fn deliver_partition(&self, partition: v1::PartitionRecords) {
        let session = partition.session;
        let watermarks = Watermarks {
            high_watermark: partition.high_watermark,
            last_stable_offset: partition.last_stable_offset,
            log_start_offset: partition.log_start_offset,
        };
        if !partition.records.is_empty() {
            let bytes = partition.records.len();
            let wanted = self.wanted.receive(session, bytes, partition.next_offset);
            let credit = CreditGuard {
                wanted: Arc::clone(&self.wanted),
                bytes,
            };
            if wanted {
                let end = Offset(partition.next_offset);
                let chunk = Chunk::new(partition.records, end, partition.aborted_transactions);
                let fetched = Fetched {
                    session,
                    chunk,
                    watermarks,
                    _credit: credit,
                };
                self.inbox.push(Delivery::Records(Box::new(fetched)));
            }
        } else if partition.error_code == 0 {
            self.inbox.set_watermarks(session, watermarks);
        }
        if partition.error_code != 0 && self.wanted.end_session(session) {
            self.inbox.push(Delivery::Fault {
                session,
                code: ErrorCode::from_code(partition.error_code),
                message: partition.error_message,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(window_bytes: i64) -> (Arc<Wanted>, NodeStream) {
        let wanted = Arc::new(Wanted::new(window_bytes));
        let task = tokio::spawn(std::future::pending());
        (Arc::clone(&wanted), NodeStream { wanted, task })
    }

    fn hold(wanted: &Arc<Wanted>, session: FetchSession, bytes: usize, next: i64) -> CreditGuard {
        wanted.receive(session, bytes, next);
        CreditGuard {
            wanted: Arc::clone(wanted),
            bytes,
        }
    }

    #[tokio::test]
    async fn credit_goes_back_in_portions_and_in_full_when_nothing_is_held() {
        let (wanted, stream) = wanted(1_000);
        stream.assign(1, TopicPartition::new("t", 0), Offset(0), LeaderEpoch(0));
        assert_eq!(
            wanted
                .opening_request(v1::FetchStreamOpen::default())
                .credit_bytes,
            1_000
        );
        let first = hold(&wanted, 1, 100, 1);
        let second = hold(&wanted, 1, 400, 2);
        drop(first);
        assert!(
            !wanted.has_request(),
            "a tenth of the window is not worth a message"
        );
        drop(second);
        assert_eq!(wanted.next_request().credit_bytes, 500);
        drop(hold(&wanted, 1, 10, 3));
        assert_eq!(
            wanted.next_request().credit_bytes,
            10,
            "nothing is held any more"
        );
    }

    #[tokio::test]
    async fn a_new_connection_gets_the_window_less_what_is_held_and_goes_on_where_it_was() {
        let (wanted, stream) = wanted(1_000);
        stream.assign(1, TopicPartition::new("t", 0), Offset(5), LeaderEpoch(3));
        let held = hold(&wanted, 1, 300, 17);
        let request = wanted.opening_request(v1::FetchStreamOpen::default());
        assert_eq!(request.credit_bytes, 700);
        assert_eq!(
            (request.assign[0].fetch_offset, request.assign[0].session),
            (17, 1)
        );
        drop(held);
        assert_eq!(wanted.next_request().credit_bytes, 300);
    }

    #[tokio::test]
    async fn a_seek_replaces_the_session_and_a_removal_takes_back_an_assignment() {
        let (wanted, stream) = wanted(1_000);
        let partition = TopicPartition::new("t", 0);
        stream.assign(1, partition.clone(), Offset(5), LeaderEpoch(0));
        stream.assign(2, partition.clone(), Offset(9), LeaderEpoch(0));
        assert!(
            !wanted.receive(1, 10, 6),
            "bytes of the old session are stale"
        );
        let request = wanted.next_request();
        assert_eq!(request.assign.len(), 1);
        assert_eq!(
            (request.assign[0].session, request.assign[0].fetch_offset),
            (2, 9)
        );
        stream.remove(&partition);
        assert!(stream.is_idle());
        let request = wanted.next_request();
        assert_eq!((request.assign.len(), request.remove.len()), (0, 1));
    }
}
