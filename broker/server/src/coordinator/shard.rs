//! One shard: a partition of an internal topic and the task that owns its coordinator, whatever kind
//! of [`Coordinator`] that is.
//!
//! The task takes requests one after another. A request is decided on the state that all earlier
//! ones have left, its records are replayed at once and queued for the log as one batch, and its
//! answer waits in line: answers leave in order, each when everything before it is durable, so that
//! nobody is told, not even by a read, of what a crash could still undo. Several batches may be on
//! their way to the disk, which is what makes them share a sync. An answer may also be given by a
//! later decision ([`ShardHandle::change_later`]); it then stands in line behind that one's records.
//!
//! If a batch cannot be made durable, the state is ahead of the log: everything in line is refused,
//! the state is dropped and read again from the log. Requests that come while a shard loads wait a
//! moment for it, outside its queue, and are then refused (`COORDINATOR_LOAD_IN_PROGRESS`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_log::{AppendBatch, Clock};
use conveyor_record::{BatchError, NewRecord};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::late::LateReplies;
use super::machine::{Coordinator, Decision, Ticket, Write};
use crate::internal_log::{self, Entry, InternalReadError};
use crate::node::{Node, Refusal};
use crate::partition::{Acks, AppendResult, Partition, Permits, Reply, Slot};

/// Requests that may wait for their turn; callers wait beyond it.
const QUEUE_LENGTH: usize = 256;
/// Answers that may wait for the disk; requests stay queued beyond it.
const IN_LINE_MAX: usize = 256;
/// How late a timer may be while requests are waiting: a member whose heartbeat is here is not silent.
const TIMER_PATIENCE_MS: i64 = 100;
/// How long a request waits for a shard that loads; most are read in a few milliseconds.
const LOAD_PATIENCE: Duration = Duration::from_millis(500);
/// How long a shard that cannot be read waits before it tries again.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);
/// How long to sleep when no timer is set.
const IDLE: Duration = Duration::from_hours(1);

type Respond = Box<dyn FnOnce(Result<(), Refusal>) + Send>;
/// What is given back by a [`Decide`]: the decision, and whoever is to be answered for it.
type Decided<C> = (Decision<C, ()>, Respond);
type Decide<C> = Box<
    dyn FnOnce(
            &mut C,
            &<C as Coordinator>::View,
            i64,
            &mut LateReplies<<C as Coordinator>::Reply>,
        ) -> Decided<C>
        + Send,
>;
/// Told what timers found, once it is durable.
pub(crate) type OnExpired<C> = Arc<dyn Fn(<C as Coordinator>::Expired) + Send + Sync>;

/// Why the state cannot be read from the log.
#[derive(Debug, Error)]
enum LoadError<E: std::error::Error + 'static> {
    #[error(transparent)]
    Read(#[from] InternalReadError),
    #[error("record at offset {offset} makes no sense: {source}")]
    Record { offset: i64, source: E },
    #[error("the reading was given up: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The handle of a shard.
pub(crate) struct ShardHandle<C: Coordinator> {
    requests: Option<mpsc::Sender<Decide<C>>>,
    is_loaded: watch::Receiver<bool>,
    name: Arc<str>,
}

impl<C: Coordinator> std::fmt::Debug for ShardHandle<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardHandle")
            .field("name", &self.name)
            .field("is_loaded", &*self.is_loaded.borrow())
            .finish_non_exhaustive()
    }
}

impl<C: Coordinator> ShardHandle<C> {
    /// Starts the task of a partition; it loads first. `on_expired` is called from that task and
    /// must not block.
    pub(crate) fn spawn(
        node: &Arc<Node>,
        slot: &Slot,
        config: C::Config,
        on_expired: OnExpired<C>,
    ) -> Self {
        let (loading, is_loaded) = watch::channel(false);
        let partition = match slot {
            Slot::Online(partition) => partition,
            Slot::Offline(reason) => {
                let name = format!("the coordinator's log is offline: {reason}").into();
                return Self {
                    requests: None,
                    is_loaded,
                    name,
                };
            }
        };
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        let clock = ShardClock::new(Arc::clone(&node.clock));
        let shard = Shard {
            coordinator: C::new(&config),
            view: C::view(&node.metadata),
            node: Arc::clone(node),
            partition: Arc::clone(partition),
            config,
            clock,
            is_loaded: loading,
            in_line: VecDeque::new(),
            late: LateReplies::default(),
            on_expired,
        };
        tokio::spawn(shard.run(queue));
        Self {
            requests: Some(requests),
            is_loaded,
            name: Arc::clone(partition.name()),
        }
    }

    /// Lets the coordinator decide, and returns its answer once everything it depends on is durable.
    pub(crate) async fn change<R, F>(&self, decide: F) -> Result<R, Refusal>
    where
        R: Send + 'static,
        F: FnOnce(&mut C, &C::View, i64) -> Decision<C, R> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let boxed: Decide<C> = Box::new(move |coordinator, view, now_ms, _| {
            let decision = decide(coordinator, view, now_ms);
            let response = decision.response;
            let respond: Respond = Box::new(move |written| {
                // A caller that has gone away does not undo the change.
                drop(sender.send(written.map(|()| response)));
            });
            let decision = Decision {
                write: decision.write,
                replies: decision.replies,
                response: (),
            };
            (decision, respond)
        });
        self.request(boxed, receiver).await
    }

    /// The same for a request whose answer may have to wait for others: it is given by the decision
    /// that names the ticket, this one or a later one.
    pub(crate) async fn change_later<F>(&self, decide: F) -> Result<C::Reply, Refusal>
    where
        F: FnOnce(&mut C, &C::View, i64, Ticket) -> Decision<C, ()> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let boxed: Decide<C> = Box::new(move |coordinator, view, now_ms, late| {
            let decision = match late.wait(sender) {
                Some(ticket) => decide(coordinator, view, now_ms, ticket),
                None => Decision::nothing(()),
            };
            (decision, Box::new(|_| {}))
        });
        self.request(boxed, receiver).await
    }

    async fn request<R>(
        &self,
        decide: Decide<C>,
        answer: oneshot::Receiver<Result<R, Refusal>>,
    ) -> Result<R, Refusal> {
        let Some(requests) = &self.requests else {
            return Err(Refusal::new(
                ErrorCode::CoordinatorNotAvailable,
                &*self.name,
            ));
        };
        self.wait_until_loaded().await?;
        requests.send(decide).await.map_err(|_| self.stopping())?;
        answer.await.unwrap_or_else(|_| {
            Err(if *self.is_loaded.borrow() {
                self.stopping()
            } else {
                self.loading()
            })
        })
    }

    async fn wait_until_loaded(&self) -> Result<(), Refusal> {
        if *self.is_loaded.borrow() {
            return Ok(());
        }
        let mut is_loaded = self.is_loaded.clone();
        let loaded = is_loaded.wait_for(|is_loaded| *is_loaded);
        match tokio::time::timeout(LOAD_PATIENCE, loaded).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.stopping()),
            Err(_) => Err(self.loading()),
        }
    }

    fn loading(&self) -> Refusal {
        let message = format!("the coordinator reads {}: try again", self.name);
        Refusal::new(ErrorCode::CoordinatorLoadInProgress, message)
    }

    fn stopping(&self) -> Refusal {
        let message = format!("the coordinator of {} is stopping", self.name);
        Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
    }
}

/// Time for sessions: starts at the wall clock's, then runs evenly whatever becomes of that.
#[derive(Debug, Clone)]
struct ShardClock {
    clock: Arc<dyn Clock>,
    started_ms: i64,
}

impl ShardClock {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let started_ms = clock.now_ms() - clock.elapsed().as_millis() as i64;
        Self { clock, started_ms }
    }

    fn now_ms(&self) -> i64 {
        self.started_ms + self.clock.elapsed().as_millis() as i64
    }
}

/// An answer in line.
struct InLine {
    /// What became of the request's batch; `None` when it wrote nothing.
    written: Option<oneshot::Receiver<AppendResult>>,
    respond: Respond,
}

/// What woke the task.
enum Event<C: Coordinator> {
    Request(Decide<C>),
    Written(Result<(), Refusal>),
    Timer,
    MetadataChanged,
    Stop,
}

struct Shard<C: Coordinator> {
    node: Arc<Node>,
    partition: Arc<Partition>,
    config: C::Config,
    clock: ShardClock,
    is_loaded: watch::Sender<bool>,
    coordinator: C,
    view: C::View,
    in_line: VecDeque<InLine>,
    late: LateReplies<C::Reply>,
    on_expired: OnExpired<C>,
}

impl<C: Coordinator> Shard<C> {
    async fn run(mut self, mut queue: mpsc::Receiver<Decide<C>>) {
        while self.load(&mut queue).await {
            match self.serve(&mut queue).await {
                Ok(()) => return self.finish().await,
                Err(refusal) => self.give_up(refusal).await,
            }
        }
    }

    /// Handles requests until the node stops, or until something could not be made durable.
    async fn serve(&mut self, queue: &mut mpsc::Receiver<Decide<C>>) -> Result<(), Refusal> {
        let mut versions = self.node.metadata.subscribe();
        // Anything may have happened while nobody looked.
        self.follow_metadata(true).await?;
        loop {
            match self.next_event(queue, &mut versions).await {
                Event::Request(decide) => self.handle(decide).await?,
                Event::Written(outcome) => {
                    outcome?;
                    self.release();
                }
                Event::Timer => self.tick().await?,
                Event::MetadataChanged => self.follow_metadata(false).await?,
                Event::Stop => return Ok(()),
            }
        }
    }

    async fn next_event(
        &mut self,
        queue: &mut mpsc::Receiver<Decide<C>>,
        versions: &mut watch::Receiver<u64>,
    ) -> Event<C> {
        let has_room = self.in_line.len() < IN_LINE_MAX;
        if has_room && self.is_timer_overdue() {
            return Event::Timer;
        }
        let pause = self.coordinator.next_deadline().map_or(IDLE, |deadline| {
            let millis = deadline.saturating_sub(self.clock.now_ms());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        let stopping = self.node.stopping.clone();
        tokio::select! {
            biased;
            // Answers first, then requests: a member whose heartbeat is here is not silent.
            written = first_written(&mut self.in_line, C::KEEPS), if !self.in_line.is_empty() => {
                Event::Written(written)
            }
            () = stopping.cancelled() => Event::Stop,
            Ok(()) = versions.changed() => Event::MetadataChanged,
            request = queue.recv(), if has_room => request.map_or(Event::Stop, Event::Request),
            () = tokio::time::sleep(pause), if has_room => Event::Timer,
        }
    }

    /// Whether requests have kept a timer waiting so long that it has to go first.
    fn is_timer_overdue(&self) -> bool {
        let deadline = self.coordinator.next_deadline();
        deadline.is_some_and(|deadline| {
            deadline.saturating_add(TIMER_PATIENCE_MS) <= self.clock.now_ms()
        })
    }

    async fn handle(&mut self, decide: Decide<C>) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        let (decision, respond) = decide(&mut self.coordinator, &self.view, now_ms, &mut self.late);
        self.write(now_ms, decision, respond).await
    }

    async fn tick(&mut self) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        let Some(decision) = self.coordinator.tick(now_ms, &self.view) else {
            return Ok(());
        };
        let (expired, on_expired) = (decision.response, Arc::clone(&self.on_expired));
        let respond: Respond = Box::new(move |written| {
            if written.is_ok() {
                on_expired(expired);
            }
        });
        let decision = Decision {
            write: decision.write,
            replies: decision.replies,
            response: (),
        };
        self.write(now_ms, decision, respond).await
    }

    async fn follow_metadata(&mut self, is_loaded_now: bool) -> Result<(), Refusal> {
        let now = C::view(&self.node.metadata);
        let before = std::mem::replace(&mut self.view, now);
        let before = (!is_loaded_now).then_some(&before);
        let records = self.coordinator.follow(before, &self.view);
        let now_ms = self.clock.now_ms();
        self.write(now_ms, Decision::new(records, ()), Box::new(|_| {}))
            .await
    }

    /// Replays what was decided, queues it for the log, and puts the answers in line.
    async fn write(
        &mut self,
        now_ms: i64,
        decision: Decision<C, ()>,
        respond: Respond,
    ) -> Result<(), Refusal> {
        let Decision { write, replies, .. } = decision;
        let respond = answer_all(self.late.take(replies), respond);
        if write.is_nothing() {
            if self.in_line.is_empty() {
                respond(Ok(()));
            } else {
                self.in_line.push_back(InLine {
                    written: None,
                    respond,
                });
            }
            return Ok(());
        }
        match self.batch_of(&write, now_ms) {
            Ok(batch) => {
                replay(&mut self.coordinator, &write, now_ms);
                let written = Some(submit(&self.partition, batch).await);
                self.in_line.push_back(InLine { written, respond });
            }
            // Nothing has been replayed: this request is refused and no other.
            Err(refusal) => respond(Err(refusal)),
        }
        Ok(())
    }

    /// The batch of what was decided, if the log will take it.
    fn batch_of(&self, write: &Write<C::Record>, now_ms: i64) -> Result<AppendBatch, Refusal> {
        let name = self.partition.name();
        let batch = build::<C>(write, now_ms).map_err(|error| {
            let message = format!("{name}: records make no batch: {error}");
            Refusal::new(ErrorCode::UnknownServerError, message)
        })?;
        let max = self.partition.config().segment_bytes;
        if batch.bytes.len() as u64 > max {
            let size = batch.bytes.len();
            let message =
                format!("{name}: the request writes {size} bytes, segment.bytes is {max}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        Ok(batch)
    }

    /// Gives the first answer in line, and those behind it that wait for nothing else.
    fn release(&mut self) {
        if let Some(first) = self.in_line.pop_front() {
            (first.respond)(Ok(()));
        }
        while self
            .in_line
            .front()
            .is_some_and(|next| next.written.is_none())
        {
            if let Some(next) = self.in_line.pop_front() {
                (next.respond)(Ok(()));
            }
        }
    }

    /// Refuses everything in line, once nothing of it is on its way to the log any more.
    async fn give_up(&mut self, refusal: Refusal) {
        self.is_loaded.send_replace(false);
        tracing::error!(
            shard = %self.partition.name(),
            reason = refusal.message,
            "{} is not durable: it is read again from the log",
            C::KEEPS
        );
        for waiting in std::mem::take(&mut self.in_line) {
            if let Some(written) = waiting.written {
                drop(written.await);
            }
            (waiting.respond)(Err(refusal.clone()));
        }
        self.late.refuse_all(&refusal);
    }

    /// Waits for what is on its way and answers it.
    async fn finish(&mut self) {
        while !self.in_line.is_empty() {
            match first_written(&mut self.in_line, C::KEEPS).await {
                Ok(()) => self.release(),
                Err(refusal) => return self.give_up(refusal).await,
            }
        }
    }

    /// Reads the state from the log, again and again until it can; false when the node stops.
    /// Requests that were queued meanwhile are refused.
    async fn load(&mut self, queue: &mut mpsc::Receiver<Decide<C>>) -> bool {
        loop {
            while queue.try_recv().is_ok() {}
            if self.node.stopping.is_cancelled() || self.partition.is_closed() {
                return false;
            }
            match self.read().await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(
                        shard = %self.partition.name(),
                        %error,
                        "cannot load {}",
                        C::KEEPS
                    );
                }
            }
            tokio::time::sleep(RELOAD_PAUSE).await;
        }
        self.coordinator.start(self.clock.now_ms());
        self.is_loaded.send_replace(true);
        true
    }

    async fn read(&mut self) -> Result<(), LoadError<C::DecodeError>> {
        let (partition, config) = (Arc::clone(&self.partition), self.config.clone());
        self.coordinator =
            tokio::task::spawn_blocking(move || replay_all(&partition, &config)).await??;
        Ok(())
    }
}

/// When the first answer in line can be given.
async fn first_written(in_line: &mut VecDeque<InLine>, keeps: &'static str) -> Result<(), Refusal> {
    let Some(first) = in_line.front_mut() else {
        return Ok(());
    };
    let Some(written) = first.written.as_mut() else {
        return Ok(());
    };
    let outcome = written.await;
    first.written = None;
    let reason = match outcome {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(failure)) => failure.to_string(),
        Err(_) => "the node is stopping".to_owned(),
    };
    let message = format!("{keeps} is not written: {reason}");
    Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, message))
}

/// Queues a batch for the log; its place in the log is decided when this returns.
async fn submit(partition: &Arc<Partition>, batch: AppendBatch) -> oneshot::Receiver<AppendResult> {
    let permits = Permits::new(partition.permit(batch.bytes.len()).await, None);
    let (sender, receiver) = oneshot::channel();
    partition.append(batch, Acks::All, Reply::Once(sender), permits);
    receiver
}

/// Answers those that waited with the one that asked.
fn answer_all<R: Send + 'static>(
    late: Vec<(oneshot::Sender<Result<R, Refusal>>, R)>,
    respond: Respond,
) -> Respond {
    if late.is_empty() {
        return respond;
    }
    Box::new(move |written| {
        for (caller, reply) in late {
            drop(caller.send(written.clone().map(|()| reply)));
        }
        respond(written);
    })
}

fn replay<C: Coordinator>(coordinator: &mut C, write: &Write<C::Record>, now_ms: i64) {
    let (records, producer) = match write {
        Write::Records(records) => (records, None),
        Write::Transactional { producer, records } => (records, Some(*producer)),
        Write::Marker { producer, marker } => {
            return coordinator.replay_marker(*producer, *marker);
        }
    };
    for record in records {
        coordinator.replay(record, now_ms, producer);
    }
}

fn build<C: Coordinator>(write: &Write<C::Record>, now_ms: i64) -> Result<AppendBatch, BatchError> {
    let (records, producer) = match write {
        Write::Records(records) => (records, None),
        Write::Transactional { producer, records } => (records, Some(*producer)),
        Write::Marker { producer, marker } => {
            return internal_log::build_marker(*producer, *marker, now_ms);
        }
    };
    let encoded: Vec<_> = records.iter().map(C::encode).collect();
    let new_records: Vec<NewRecord<'_>> = encoded
        .iter()
        .map(|(key, value)| NewRecord {
            timestamp_ms: now_ms,
            key: Some(key),
            value: value.as_deref(),
            headers: &[],
        })
        .collect();
    match producer {
        None => internal_log::build(&new_records, now_ms),
        Some(producer) => internal_log::build_transactional(producer, &new_records, now_ms),
    }
}

fn replay_all<C: Coordinator>(
    partition: &Partition,
    config: &C::Config,
) -> Result<C, LoadError<C::DecodeError>> {
    let mut coordinator = C::new(config);
    internal_log::read_entries::<LoadError<C::DecodeError>>(partition, |entry| {
        let (record, producer) = match entry {
            Entry::Record(record, producer) => (record, producer),
            Entry::Marker(producer, marker) => {
                coordinator.replay_marker(producer, marker);
                return Ok(());
            }
        };
        let key = record.key.as_deref().unwrap_or_default();
        let decoded = C::decode(key, record.value.as_deref()).map_err(|source| {
            let offset = record.offset.value();
            LoadError::Record { offset, source }
        })?;
        if let Some(decoded) = decoded {
            coordinator.replay(&decoded, record.timestamp_ms, producer);
        }
        Ok(())
    })?;
    Ok(coordinator)
}
