//! The loop between the log and a target.
//!
//! A sink is a member of its consumer group, by the same parts as a projection. It reads, lets
//! records wait for each other, writes them in order of their partitions, and then tells the group
//! how far it is. While a target is slow nothing is read: memory is bounded by the consumer's own
//! credit and one buffer.
//!
//! | what happens | what the driver does |
//! |---|---|
//! | partitions come | asks the target where it stands, else the group |
//! | partitions go | forgets what waits of them: the next owner reads it again |
//! | the target, the log or `error-events` is away | keeps the batch, tries again with capped back-off, state PAUSED |
//! | a record can never be written | it goes to `error-events`, the others go on |
//! | a person wants it to pause | reads nothing, writes what waits, keeps its partitions |
//! | the target says that somebody else owns a partition | leaves the group and joins anew |
//! | the settings are wrong, or the log has lost what comes next | stops, state FAULTED, with a message that names the mend |

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_processors::TopicPartition;
use conveyor_processors::applier::BatchError;
use conveyor_processors::backoff::{Backoff, chance};
use conveyor_processors::control::{Kind, Outcome};
use conveyor_processors::driver::control::{About, Control};
use conveyor_processors::driver::error_topic::ErrorTopic;
use conveyor_processors::driver::ownership::{Claimer, Ownership, Rebalance, ours, theirs};
use conveyor_processors::driver::{DriverError, parking, range};
use conveyor_processors::record::SourceRecord;
use conveyor_processors::status::{AppliedRange, State, Status};
use conveyor_processors::store::{OwnerEpoch, Position, StoreError};
use conveyor_sdk::consumer::PartitionRecords;
use conveyor_sdk::{
    AdminClient, Client, Consumer, ConsumerConfig, Error as SdkError, IsolationLevel,
    OffsetAndMetadata, OffsetReset,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::buffer::{Buffer, Part, Polled};
use crate::settings::BatchLimits;
use crate::target::{Rejects, Start, Target};

/// How a sink reads.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// For people and figures.
    pub name: String,
    /// The consumer group.
    pub group: String,
    /// The topics.
    pub topics: Vec<String>,
    /// Where records go that can never be written.
    pub error_topic: String,
    /// When what waits is written.
    pub limits: BatchLimits,
    /// The first wait after a failure; doubles.
    pub backoff_first: Duration,
    /// The longest wait.
    pub backoff_cap: Duration,
    /// A sink that writes nothing for so long, after records have waited as long as they may, is
    /// FAULTED.
    pub stall_after: Duration,
}

/// Runs one sink.
pub struct SinkDriver {
    client: Client,
    target: Arc<dyn Target>,
    config: SinkConfig,
    status: Status,
}

impl std::fmt::Debug for SinkDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkDriver")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Ready when the driver is to stop.
type Stop<'s> = Pin<&'s mut (dyn Future<Output = ()> + Send + 's)>;

/// Why a membership of the group has ended.
enum End {
    Stopped,
    Rejoin(String),
}

impl SinkDriver {
    /// A driver that has not begun.
    pub fn new(client: Client, target: Arc<dyn Target>, config: SinkConfig) -> Self {
        Self {
            client,
            target,
            config,
            status: Status::default(),
        }
    }

    /// Its state and figures, to be read while it runs.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Runs until `stop` is ready, or until something happens that needs somebody.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), DriverError> {
        let mut stop = pin!(stop);
        let control = self.control();
        let result = self.run_until(&control, stop.as_mut()).await;
        self.status.update(|s| match &result {
            Ok(()) => s.state = State::Stopped,
            Err(error) => {
                s.state = State::Faulted;
                s.last_error = Some(error.to_string());
            }
        });
        if let Err(error) = &result {
            tracing::error!(sink = self.config.name, %error, "sink has stopped");
        }
        control.close().await;
        result
    }

    fn control(&self) -> Control {
        let about = About {
            name: self.config.name.clone(),
            kind: Kind::Sink,
            group: self.config.group.clone(),
            store: self.target.describe(),
            ..About::default()
        };
        // Records may wait in the buffer for so long though all is well.
        let patience = self.config.stall_after + self.config.limits.wait;
        Control::start(&self.client, about, None, &self.status, patience)
    }

    async fn run_until(&self, control: &Control, mut stop: Stop<'_>) -> Result<(), DriverError> {
        let mut backoff = self.backoff();
        control.is_known().await;
        loop {
            match self.target.prepare().await {
                Ok(()) => break,
                Err(error) if error.is_retriable() => {
                    if self.pause(&error, &mut backoff, stop.as_mut()).await {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        backoff.reset();
        let errors = ErrorTopic::new(&self.client, &self.config.error_topic);
        let errors = errors.map_err(|error| self.client_error(error))?;
        loop {
            match self
                .membership(control, &errors, &mut backoff, stop.as_mut())
                .await?
            {
                End::Stopped => break,
                End::Rejoin(reason) => {
                    if self.pause(&reason, &mut backoff, stop.as_mut()).await {
                        break;
                    }
                }
            }
        }
        errors.close().await;
        Ok(())
    }

    /// One membership of the group, from joining to leaving.
    async fn membership(
        &self,
        control: &Control,
        errors: &ErrorTopic,
        backoff: &mut Backoff,
        mut stop: Stop<'_>,
    ) -> Result<End, DriverError> {
        let (owned, started) = (Ownership::default(), Started::default());
        let mut buffer = Buffer::new(self.config.limits, self.target.grouping());
        let joined = self.join(&owned, &started);
        let mut consumer = joined.map_err(|error| self.client_error(error))?;
        control.joined(&owned);
        loop {
            let wait = buffer
                .due_in(Instant::now())
                .unwrap_or(POLL_MAX)
                .min(POLL_MAX);
            let polled = tokio::select! {
                biased;
                () = stop.as_mut() => {
                    self.leave(consumer).await;
                    return Ok(End::Stopped);
                }
                polled = consumer.poll(wait) => polled,
            };
            if let Some(error) = owned.take_failure() {
                return self.after_store_error(error);
            }
            let records = match polled {
                Ok(records) => records.into_partitions(),
                Err(error) if range::is_outside(&error) => {
                    let name = &self.config.name;
                    range::mend(&self.client, name, &mut consumer, &owned).await?;
                    continue;
                }
                Err(error) if error.is_retriable() => return Ok(End::Rejoin(error.to_string())),
                Err(error) => return Err(self.client_error(error)),
            };
            range::hear_ends(&mut consumer, &owned);
            let holds = control.is_paused();
            parking::hold(&mut consumer, &owned, holds)
                .map_err(|error| self.client_error(error))?;
            take_in(&mut buffer, records, &owned, &started);
            self.status.turned(holds, owned.sum());
            refuse_commands(control).await;
            loop {
                let parts = buffer.take_due(Instant::now());
                if parts.is_empty() {
                    break;
                }
                match self.write(parts, errors, backoff, stop.as_mut()).await {
                    Ok(Some(written)) => self.after_write(&consumer, &owned, &written),
                    Ok(None) => {
                        self.leave(consumer).await;
                        return Ok(End::Stopped);
                    }
                    Err(BatchError::Store(error)) => return self.after_store_error(error),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn join(&self, owned: &Ownership, started: &Started) -> Result<Consumer, SdkError> {
        let mut config = ConsumerConfig::for_group(&self.config.group);
        config.enable_auto_commit = false;
        config.auto_offset_reset = OffsetReset::None;
        config.isolation_level = IsolationLevel::ReadCommitted;
        let mut consumer = Consumer::new(&self.client, config)?;
        let claimer = TargetClaimer {
            client: self.client.clone(),
            group: self.config.group.clone(),
            target: Arc::clone(&self.target),
            started: started.clone(),
        };
        let (status, backoff) = (self.status.clone(), self.backoff());
        consumer.set_rebalance_listener(Rebalance::new(claimer, owned.clone(), status, backoff));
        consumer.subscribe(self.config.topics.iter().map(String::as_str))?;
        Ok(consumer)
    }

    /// Commits and leaves the group in order, so that its partitions go on elsewhere at once.
    async fn leave(&self, consumer: Consumer) {
        if let Err(error) = consumer.close().await {
            tracing::warn!(sink = self.config.name, %error, "could not leave the group in order");
        }
    }

    /// Writes, however long the target is away. `None`: asked to stop meanwhile.
    async fn write(
        &self,
        mut parts: Vec<Part>,
        errors: &ErrorTopic,
        backoff: &mut Backoff,
        mut stop: Stop<'_>,
    ) -> Result<Option<Written>, BatchError> {
        let records: u64 = parts.iter().map(|part| part.records.len() as u64).sum();
        let doing = format!("writing {records} records");
        self.status.update(|s| s.doing = doing);
        let begun = Instant::now();
        let rejects = Rejects::new(errors, &self.config.group);
        loop {
            match self.target.write(&mut parts, &rejects).await {
                Ok(()) => {
                    backoff.reset();
                    self.status.update(|s| s.batch_time += begun.elapsed());
                    let rejected = parts.iter().map(|part| part.rejected).sum();
                    return Ok(Some(Written {
                        parts,
                        records,
                        rejected,
                    }));
                }
                Err(error) if error.is_retriable() => {
                    if self.pause(&error, backoff, stop.as_mut()).await {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the group, in the background: what is told too late is written again, to no effect.
    fn after_write(&self, consumer: &Consumer, owned: &Ownership, written: &Written) {
        let offset = |part: &Part| {
            let offset = OffsetAndMetadata::new(part.to);
            (theirs(&part.topic_partition), offset)
        };
        drop(consumer.commit_offsets_async(written.parts.iter().map(offset)));
        let range = |part: &Part| AppliedRange {
            topic_partition: part.topic_partition.clone(),
            from: part.from,
            to: part.to,
            records: 0,
        };
        let ranges: Vec<_> = written.parts.iter().map(range).collect();
        owned.advance(&ranges);
        self.status.update(|s| {
            s.state = State::Running;
            s.last_error = None;
            s.records_applied += written.records - written.rejected;
            s.records_rejected += written.rejected;
            s.batches += 1;
            "waiting for records".clone_into(&mut s.doing);
            s.lag_records = owned.lag();
        });
    }

    fn after_store_error(&self, error: StoreError) -> Result<End, DriverError> {
        if error.is_claim_lost() {
            tracing::warn!(sink = self.config.name, %error, "joining the group anew");
            return Ok(End::Rejoin(error.to_string()));
        }
        Err(error.into())
    }

    fn client_error(&self, error: SdkError) -> DriverError {
        DriverError::Client {
            projection: self.config.name.clone(),
            error,
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.config.backoff_first, self.config.backoff_cap)
    }

    /// Shows PAUSED and waits; whether it was asked to stop meanwhile.
    async fn pause(&self, reason: &impl ToString, backoff: &mut Backoff, stop: Stop<'_>) -> bool {
        let (reason, wait) = (reason.to_string(), backoff.after_failure(chance()));
        tracing::warn!(sink = self.config.name, reason, ?wait, "sink pauses");
        self.status.update(|s| {
            s.state = State::Paused;
            s.last_error = Some(reason);
        });
        tokio::time::timeout(wait, stop).await.is_ok()
    }
}

/// What is asked of projections about their parked keys: a sink parks nothing.
async fn refuse_commands(control: &Control) {
    for (id, command) in control.commands() {
        let (outcome, remove) = match command.action.place() {
            None => (
                Outcome::Listed {
                    keys: Vec::new(),
                    more: 0,
                },
                false,
            ),
            Some(_) => (
                Outcome::Refused {
                    reason: "a sink parks nothing: what it can never write is in its error topic"
                        .to_owned(),
                },
                true,
            ),
        };
        control.answer(&id, outcome, remove).await;
    }
}

/// The longest time between two polls while nothing waits.
const POLL_MAX: Duration = Duration::from_secs(1);

/// What was written at once.
struct Written {
    parts: Vec<Part>,
    records: u64,
    rejected: u64,
}

/// Partitions that have been claimed and not been looked at by the loop.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<Vec<(OwnerEpoch, Start)>>>);

/// Claims in the target; where that keeps no positions, begins where the group has committed.
struct TargetClaimer {
    client: Client,
    group: String,
    target: Arc<dyn Target>,
    started: Started,
}

impl TargetClaimer {
    async fn starts(
        &self,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Start>, StoreError> {
        match self.target.claim(owner_epoch, partitions).await? {
            Some(starts) => Ok(starts),
            None => self.committed(partitions).await,
        }
    }

    /// Where the group has committed. The group cannot be asked only while its node is away.
    async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Start>, StoreError> {
        let away = |error: SdkError| StoreError::Unavailable {
            store: format!("group {}", self.group),
            reason: error.to_string(),
        };
        let asked: Vec<_> = partitions.iter().map(theirs).collect();
        let admin = AdminClient::new(&self.client);
        let answers = admin
            .group_offsets(&self.group, &asked)
            .await
            .map_err(away)?;
        let mut starts: Vec<_> = partitions.iter().cloned().map(Start::nowhere).collect();
        for (partition, committed) in answers {
            let partition = ours(&partition);
            let committed = committed.map_err(away)?;
            for start in starts.iter_mut().filter(|s| s.topic_partition == partition) {
                start.next_offset = Some(committed.offset);
            }
        }
        Ok(starts)
    }
}

impl Claimer for TargetClaimer {
    fn claim<'a>(
        &'a self,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        async move {
            let starts = self.starts(owner_epoch, partitions).await?;
            let position = |start: &Start| {
                Some(Position {
                    topic_partition: start.topic_partition.clone(),
                    next_offset: start.next_offset?,
                    owner_epoch,
                })
            };
            let positions = starts.iter().filter_map(position).collect();
            let starts = starts.into_iter().map(|start| (owner_epoch, start));
            self.started.0.lock().extend(starts);
            Ok(positions)
        }
        .boxed()
    }
}

/// Lets what a poll brought wait, under the claims that hold now.
fn take_in(
    buffer: &mut Buffer,
    polled: Vec<PartitionRecords>,
    owned: &Ownership,
    started: &Started,
) {
    let now = Instant::now();
    for (owner_epoch, start) in std::mem::take(&mut *started.0.lock()) {
        let Start {
            topic_partition,
            next_offset,
            redo_until,
        } = start;
        buffer.begin(topic_partition, owner_epoch, next_offset, redo_until, now);
    }
    buffer.retain(|partition, owner_epoch| {
        owned
            .get(partition)
            .is_some_and(|claim| claim.owner_epoch == owner_epoch)
    });
    for records in polled {
        let topic_partition = ours(&records.topic_partition);
        owned.heard_end(&topic_partition, records.high_watermark);
        let Some(claim) = owned.get(&topic_partition) else {
            continue;
        };
        let source = |record| SourceRecord::new(&topic_partition, record);
        let polled = Polled {
            owner_epoch: claim.owner_epoch,
            from: claim.next_offset,
            records: records.records.into_iter().map(source).collect(),
            next_offset: records.next_offset,
            topic_partition: topic_partition.clone(),
        };
        buffer.push(polled, now);
    }
}
