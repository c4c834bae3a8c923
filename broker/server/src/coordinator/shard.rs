//! One shard: a partition of `__consumer_offsets` and the task that owns its coordinator.
//!
//! The task takes requests one after another. A request is decided on the state that all earlier
//! ones have left, its records are replayed at once and queued for the log as one batch, and its
//! answer waits in line: answers leave in order, each when everything before it is durable, so that
//! nobody is told, not even by a read, of what a crash could still undo. Several batches may be on
//! their way to the disk, which is what makes them share a sync.
//!
//! If a batch cannot be made durable, the state is ahead of the log: everything in line is refused,
//! the state is dropped and read again from the log. Requests that come while a shard loads wait a
//! moment for it, outside its queue, and are then refused (`COORDINATOR_LOAD_IN_PROGRESS`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use conveyor_group::{ClusterView, DecodeError, GroupConfig, GroupCoordinator, Record};
use conveyor_grpc::ErrorCode;
use conveyor_log::Clock;
use conveyor_record::NewRecord;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::cluster::ClusterSnapshot;
use crate::internal_log::{self, InternalReadError};
use crate::node::{Node, Refusal};
use crate::partition::{Acks, AppendResult, Partition, Permits, Reply, Slot};

/// Requests that may wait for their turn; callers wait beyond it.
const QUEUE_LENGTH: usize = 256;
/// Answers that may wait for the disk; requests stay queued beyond it.
const IN_LINE_MAX: usize = 256;
/// How long a request waits for a shard that loads; most are read in a few milliseconds.
const LOAD_PATIENCE: Duration = Duration::from_millis(500);
/// How long a shard that cannot be read waits before it tries again.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);
/// How long to sleep when no timer is set.
const IDLE: Duration = Duration::from_hours(1);

type Respond = Box<dyn FnOnce(Result<(), Refusal>) + Send>;
type Decide =
    Box<dyn FnOnce(&mut GroupCoordinator, &ClusterSnapshot, i64) -> (Vec<Record>, Respond) + Send>;

/// Why the state cannot be read from the log.
#[derive(Debug, Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] InternalReadError),
    #[error("record at offset {offset} makes no sense: {source}")]
    Record { offset: i64, source: DecodeError },
    #[error("the reading was given up: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The handle of a shard.
#[derive(Debug)]
pub(super) struct ShardHandle {
    requests: Option<mpsc::Sender<Decide>>,
    is_loaded: watch::Receiver<bool>,
    name: Arc<str>,
}

impl ShardHandle {
    /// Starts the task of a partition; it loads first.
    pub(super) fn spawn(node: &Arc<Node>, slot: &Slot, config: GroupConfig) -> Self {
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
            coordinator: GroupCoordinator::new(config.clone()),
            cluster: ClusterSnapshot::take(&node.metadata),
            node: Arc::clone(node),
            partition: Arc::clone(partition),
            config,
            clock,
            is_loaded: loading,
            in_line: VecDeque::new(),
        };
        tokio::spawn(shard.run(queue));
        Self {
            requests: Some(requests),
            is_loaded,
            name: Arc::clone(partition.name()),
        }
    }

    /// Lets the coordinator decide; see [`super::GroupHost::change`].
    pub(super) async fn change<R, F>(&self, decide: F) -> Result<R, Refusal>
    where
        R: Send + 'static,
        F: FnOnce(&mut GroupCoordinator, &ClusterSnapshot, i64) -> (Vec<Record>, R)
            + Send
            + 'static,
    {
        let Some(requests) = &self.requests else {
            return Err(Refusal::new(
                ErrorCode::CoordinatorNotAvailable,
                &*self.name,
            ));
        };
        self.wait_until_loaded().await?;
        let (sender, receiver) = oneshot::channel();
        let boxed: Decide = Box::new(move |coordinator, cluster, now_ms| {
            let (records, response) = decide(coordinator, cluster, now_ms);
            let respond: Respond = Box::new(move |written| {
                // A caller that has gone away does not undo the change.
                drop(sender.send(written.map(|()| response)));
            });
            (records, respond)
        });
        requests.send(boxed).await.map_err(|_| self.stopping())?;
        receiver.await.unwrap_or_else(|_| {
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
enum Event {
    Request(Decide),
    Written(Result<(), Refusal>),
    Timer,
    MetadataChanged,
    Stop,
}

struct Shard {
    node: Arc<Node>,
    partition: Arc<Partition>,
    config: GroupConfig,
    clock: ShardClock,
    is_loaded: watch::Sender<bool>,
    coordinator: GroupCoordinator,
    cluster: ClusterSnapshot,
    in_line: VecDeque<InLine>,
}

impl Shard {
    async fn run(mut self, mut queue: mpsc::Receiver<Decide>) {
        while self.load(&mut queue).await {
            match self.serve(&mut queue).await {
                Ok(()) => return self.finish().await,
                Err(refusal) => self.give_up(refusal).await,
            }
        }
    }

    /// Handles requests until the node stops, or until something could not be made durable.
    async fn serve(&mut self, queue: &mut mpsc::Receiver<Decide>) -> Result<(), Refusal> {
        let mut versions = self.node.metadata.subscribe();
        self.cluster = ClusterSnapshot::take(&self.node.metadata);
        // Topics may have been deleted while nobody looked.
        self.forget_topics(|topic, now| now.topic(topic).is_none())
            .await?;
        loop {
            match self.next_event(queue, &mut versions).await {
                Event::Request(decide) => self.handle(decide).await?,
                Event::Written(outcome) => {
                    outcome?;
                    self.release();
                }
                Event::Timer => self.tick().await?,
                Event::MetadataChanged => self.follow_metadata().await?,
                Event::Stop => return Ok(()),
            }
        }
    }

    async fn next_event(
        &mut self,
        queue: &mut mpsc::Receiver<Decide>,
        versions: &mut watch::Receiver<u64>,
    ) -> Event {
        let has_room = self.in_line.len() < IN_LINE_MAX;
        let pause = self.coordinator.next_deadline().map_or(IDLE, |deadline| {
            let millis = deadline.saturating_sub(self.clock.now_ms());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        let stopping = self.node.stopping.clone();
        tokio::select! {
            biased;
            // Answers first, then requests: a member whose heartbeat is here is not silent.
            written = first_written(&mut self.in_line), if !self.in_line.is_empty() => {
                Event::Written(written)
            }
            () = stopping.cancelled() => Event::Stop,
            Ok(()) = versions.changed() => Event::MetadataChanged,
            request = queue.recv(), if has_room => request.map_or(Event::Stop, Event::Request),
            () = tokio::time::sleep(pause), if has_room => Event::Timer,
        }
    }

    async fn handle(&mut self, decide: Decide) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        let (records, respond) = decide(&mut self.coordinator, &self.cluster, now_ms);
        self.write(now_ms, &records, respond).await
    }

    async fn tick(&mut self) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        if let Some(transition) = self.coordinator.tick(now_ms) {
            tracing::info!(shard = %self.partition.name(), expired = ?transition.response, "timer");
            self.write(now_ms, &transition.records, Box::new(|_| {}))
                .await?;
        }
        Ok(())
    }

    async fn follow_metadata(&mut self) -> Result<(), Refusal> {
        let now = ClusterSnapshot::take(&self.node.metadata);
        let before = std::mem::replace(&mut self.cluster, now);
        self.forget_topics(|topic, now| before.is_gone(topic, now))
            .await
    }

    async fn forget_topics(
        &mut self,
        is_gone: impl Fn(&str, &ClusterSnapshot) -> bool,
    ) -> Result<(), Refusal> {
        let forgotten = self
            .coordinator
            .forget_topics(|topic| is_gone(topic, &self.cluster));
        self.write(self.clock.now_ms(), &forgotten.records, Box::new(|_| {}))
            .await
    }

    /// Replays records, queues them for the log, and puts the answer in line.
    async fn write(
        &mut self,
        now_ms: i64,
        records: &[Record],
        respond: Respond,
    ) -> Result<(), Refusal> {
        if records.is_empty() {
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
        for record in records {
            self.coordinator.replay(record, now_ms);
        }
        match submit(&self.partition, now_ms, records).await {
            Ok(written) => {
                self.in_line.push_back(InLine {
                    written: Some(written),
                    respond,
                });
                Ok(())
            }
            Err(refusal) => {
                respond(Err(refusal.clone()));
                Err(refusal)
            }
        }
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
            "group state is not durable: it is read again from the log"
        );
        for waiting in std::mem::take(&mut self.in_line) {
            if let Some(written) = waiting.written {
                drop(written.await);
            }
            (waiting.respond)(Err(refusal.clone()));
        }
    }

    /// Waits for what is on its way and answers it.
    async fn finish(&mut self) {
        while !self.in_line.is_empty() {
            match first_written(&mut self.in_line).await {
                Ok(()) => self.release(),
                Err(refusal) => return self.give_up(refusal).await,
            }
        }
    }

    /// Reads the state from the log, again and again until it can; false when the node stops.
    /// Requests that were queued meanwhile are refused.
    async fn load(&mut self, queue: &mut mpsc::Receiver<Decide>) -> bool {
        loop {
            while queue.try_recv().is_ok() {}
            if self.node.stopping.is_cancelled() || self.partition.is_closed() {
                return false;
            }
            match self.read().await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(shard = %self.partition.name(), %error, "cannot load groups");
                }
            }
            tokio::time::sleep(RELOAD_PAUSE).await;
        }
        self.coordinator.start(self.clock.now_ms());
        self.is_loaded.send_replace(true);
        true
    }

    async fn read(&mut self) -> Result<(), LoadError> {
        let (partition, config) = (Arc::clone(&self.partition), self.config.clone());
        self.coordinator =
            tokio::task::spawn_blocking(move || replay_all(&partition, config)).await??;
        Ok(())
    }
}

/// When the first answer in line can be given.
async fn first_written(in_line: &mut VecDeque<InLine>) -> Result<(), Refusal> {
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
    let message = format!("group state is not written: {reason}");
    Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, message))
}

/// Queues records for the log as one batch; its place in the log is decided when this returns.
async fn submit(
    partition: &Arc<Partition>,
    now_ms: i64,
    records: &[Record],
) -> Result<oneshot::Receiver<AppendResult>, Refusal> {
    let encoded: Vec<_> = records.iter().map(Record::encode).collect();
    let new_records: Vec<NewRecord<'_>> = encoded
        .iter()
        .map(|record| NewRecord {
            timestamp_ms: now_ms,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        })
        .collect();
    let batch = internal_log::build(&new_records, now_ms).map_err(|error| {
        let message = format!("{}: records make no batch: {error}", partition.name());
        Refusal::new(ErrorCode::UnknownServerError, message)
    })?;
    let permits = Permits::new(partition.permit(batch.bytes.len()).await, None);
    let (sender, receiver) = oneshot::channel();
    partition.append(batch, Acks::All, Reply::Once(sender), permits);
    Ok(receiver)
}

fn replay_all(partition: &Partition, config: GroupConfig) -> Result<GroupCoordinator, LoadError> {
    let mut coordinator = GroupCoordinator::new(config);
    internal_log::read_all(partition, |record| {
        let key = record.key.as_deref().unwrap_or_default();
        let decoded = Record::decode(key, record.value.as_deref());
        match decoded {
            Ok(Some(decoded)) => coordinator.replay(&decoded, record.timestamp_ms),
            Ok(None) => {}
            Err(source) => {
                return Err(LoadError::Record {
                    offset: record.offset.value(),
                    source,
                });
            }
        }
        Ok(())
    })?;
    Ok(coordinator)
}
