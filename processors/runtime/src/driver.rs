//! The loop between the log and a store.
//!
//! The driver is one member of the projection's consumer group. Between two polls it applies what
//! the last one brought, in transactions of a bounded size, and tells the group how far it is; the
//! group's offset is for people and tools, the store's position decides. As partitions change hands
//! only within a poll, a transaction is never cut by a rebalance: it is done, or not begun.
//!
//! | what happens | what the driver does |
//! |---|---|
//! | partitions come | claims them in the store, starts where the store stands |
//! | partitions go | forgets them; nothing of them is open |
//! | the store, the log or `error-events` is away | keeps the batch, tries again with capped back-off, state PAUSED |
//! | the store says that somebody else owns a partition | leaves the group and joins anew |
//! | a record cannot be decoded or applied | parks its key; other keys go on |
//! | as much is parked in a partition as may be | that partition stands still, the others go on |
//! | the log has lost what the store needs next, or the tables do not fit | stops, state FAULTED, with a message that names the mend |
//!
//! Memory: what the consumer fetches ahead (its own bound) and one batch.

mod batching;
mod control;
pub mod error_topic;
mod mending;
pub mod ownership;
mod parking;
pub mod range;
mod timing;
mod vigil;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_record::Offset;
use conveyor_sdk::{
    Client, Consumer, ConsumerConfig, Error as SdkError, OffsetAndMetadata, OffsetReset,
};
use futures::future::BoxFuture;

use self::control::Control;
use self::error_topic::ErrorTopic;
use self::mending::Redrives;
use self::ownership::{Claimer, Ownership, Rebalance, theirs};
use self::timing::Quiet;
use self::vigil::Vigil;
use crate::applier::{Applied, Applier, BatchError, PartitionBatch};
use crate::backoff::{Backoff, chance};
use crate::parked::{Limits, ParkedKeys};
use crate::projection::{Declaration, Projection};
use crate::rebuild::Filling;
use crate::rebuild::range::begin_at;
use crate::record::{Decoder, TopicPartition};
use crate::status::{NoObserver, Observer, State, Status};
use crate::store::{OwnerEpoch, Position, Store, StoreError};
use crate::timers::{IdleRule, KnownTimers};

/// How a driver works. The defaults are right for most.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Makes this a static member of the group: within the session time-out its partitions wait for
    /// it to come back.
    pub group_instance_id: Option<String>,
    /// Records of one transaction at most. Default 2,048.
    pub batch_records_max: usize,
    /// Where records go that cannot be applied. Default `error-events`.
    pub error_topic: String,
    /// How much may wait in each partition behind such records.
    pub parked: Limits,
    /// When the clocks of timers go on by themselves. Default: after 10 s without records, two minutes
    /// behind wall time.
    pub idle: IdleRule,
    /// The first wait after a failure; doubles. Default 100 ms.
    pub backoff_first: Duration,
    /// The longest wait. Default 10 s.
    pub backoff_cap: Duration,
    /// Take part in the control topic ([`crate::control`]): report, obey, carry out. Default yes.
    pub control: bool,
    /// Names this instance in reports. Default: host, process and a number.
    pub instance: Option<String>,
    /// A projection that makes no progress for so long while there is lag is FAULTED. Default 30 s.
    pub stall_after: Duration,
    /// Own partitions even if the store knows a higher owner epoch. For a group that was deleted
    /// and made anew; never with other instances running. Default no.
    pub take_over: bool,
    /// Set for a driver that fills a build which is not live ([`crate::rebuild`]).
    pub filling: Option<Filling>,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            group_instance_id: None,
            batch_records_max: 2_048,
            error_topic: "error-events".to_owned(),
            parked: Limits::default(),
            idle: IdleRule::default(),
            backoff_first: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(10),
            control: true,
            instance: None,
            stall_after: Duration::from_secs(30),
            take_over: false,
            filling: None,
        }
    }
}

/// Why a projection has stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DriverError {
    /// The store, or the projection itself, is at fault.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The store refuses the projection.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client refuses to go on.
    #[error("projection {projection}: {error}")]
    Client {
        /// Which projection.
        projection: String,
        /// What the client said.
        error: SdkError,
    },
    /// The log no longer has the records that come next.
    #[error(
        "{projection} needs {topic_partition} from offset {needed} and the log begins at {begins}: \
         records were deleted before they were applied; build the projection anew in another store \
         to accept that"
    )]
    Gap {
        /// Which projection.
        projection: String,
        /// Where.
        topic_partition: TopicPartition,
        /// What comes next.
        needed: Offset,
        /// The first record there is.
        begins: Offset,
    },
    /// The store has applied more than the log holds: it belongs to another log.
    #[error(
        "{projection} stands at offset {needed} of {topic_partition} and the log ends at {ends}: \
         this is not the log that the store was built from; use another store, or the right node"
    )]
    Ahead {
        /// Which projection.
        projection: String,
        /// Where.
        topic_partition: TopicPartition,
        /// Where the store stands.
        needed: Offset,
        /// Where the log ends.
        ends: Offset,
    },
}

/// Runs one projection into one store.
pub struct Driver<P: Projection, D: Decoder<Event = P::Event>> {
    client: Client,
    applier: Applier<P, D>,
    store: Arc<dyn Store>,
    observer: Arc<dyn Observer>,
    config: DriverConfig,
    status: Status,
}

impl<P: Projection, D: Decoder<Event = P::Event>> std::fmt::Debug for Driver<P, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("projection", &self.applier.declaration().name())
            .finish_non_exhaustive()
    }
}

/// The longest time between two looks at what people want.
const POLL: Duration = Duration::from_millis(500);
/// The same while records that waited are being applied.
const POLL_WHILE_REDRIVING: Duration = Duration::from_millis(10);

/// Why a membership of the group has ended.
enum End {
    /// As asked.
    Stopped,
    /// To be tried again with a new membership.
    Rejoin(String),
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// A driver that has not begun.
    pub fn new(
        client: Client,
        projection: P,
        decoder: Arc<D>,
        store: Arc<dyn Store>,
        config: DriverConfig,
    ) -> Self {
        Self {
            client,
            applier: Applier::new(Arc::new(projection), decoder).with_limits(config.parked),
            store,
            observer: Arc::new(NoObserver),
            config,
            status: Status::default(),
        }
    }

    /// Tells somebody of every transaction.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// The projection's declaration.
    pub const fn declaration(&self) -> &Arc<Declaration> {
        self.applier.declaration()
    }

    /// Its state and figures, to be read while it runs.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Runs until `stop` is ready, or until something happens that needs somebody.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), DriverError> {
        let mut stop = pin!(stop);
        // What is filled beside the live build is looked after by whoever fills it.
        let takes_part = self.config.control && self.config.filling.is_none();
        let control = takes_part.then(|| self.control());
        let result = self.run_until(control.as_ref(), stop.as_mut()).await;
        self.status.update(|s| match &result {
            Ok(()) => s.state = State::Stopped,
            Err(error) => {
                s.state = State::Faulted;
                s.last_error = Some(error.to_string());
            }
        });
        if let Err(error) = &result {
            tracing::error!(projection = self.name(), %error, "projection has stopped");
        }
        if let Some(control) = control {
            control.close().await;
        }
        result
    }

    fn control(&self) -> Control {
        Control::start(
            &self.client,
            self.applier.declaration(),
            self.store.describe(),
            self.config.instance.as_deref(),
            &self.status,
            self.config.stall_after,
        )
    }

    fn name(&self) -> &'static str {
        self.applier.declaration().name()
    }

    async fn run_until(
        &self,
        control: Option<&Control>,
        mut stop: Stop<'_>,
    ) -> Result<(), DriverError> {
        let mut backoff = self.backoff();
        if let Some(control) = control {
            control.is_known().await;
        }
        let sink = match self.config.filling {
            // Whoever keeps the live build up has published it, or will.
            Some(_) => ErrorTopic::silent(),
            None => ErrorTopic::new(&self.client, &self.config.error_topic)
                .map_err(|error| self.client_error(error))?,
        };
        loop {
            let ended = self
                .membership(control, &sink, &mut backoff, stop.as_mut())
                .await;
            match ended? {
                End::Stopped => break,
                End::Rejoin(reason) => {
                    if self.pause(&reason, &mut backoff, stop.as_mut()).await {
                        break;
                    }
                }
            }
        }
        sink.close().await;
        Ok(())
    }

    /// One membership of the group, from joining to leaving.
    async fn membership(
        &self,
        control: Option<&Control>,
        sink: &ErrorTopic,
        backoff: &mut Backoff,
        mut stop: Stop<'_>,
    ) -> Result<End, DriverError> {
        // Each time: meanwhile another build of the projection may have taken this one's place.
        if !self.prepare(backoff, stop.as_mut()).await? {
            return Ok(End::Stopped);
        }
        let owned = Ownership::default();
        let mut pace = Pace::start();
        let mut quiet = Quiet::default();
        let mut vigil = Vigil::start();
        let mut consumer = self
            .join(&owned)
            .map_err(|error| self.client_error(error))?;
        if let Some(control) = control {
            control.joined(&owned);
        }
        let mut redrives = Redrives::new();
        let mut wait = POLL;
        loop {
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
                Ok(records) => records,
                Err(error) if range::is_outside(&error) => {
                    range::mend(&self.client, self.name(), &mut consumer, &owned).await?;
                    continue;
                }
                Err(error) if error.is_retriable() => {
                    return Ok(End::Rejoin(error.to_string()));
                }
                Err(error) => return Err(self.client_error(error)),
            };
            range::hear_ends(&mut consumer, &owned);
            parking::tell_group(&consumer, &owned);
            let holds = control.is_some_and(Control::is_paused);
            self.hold(&mut consumer, &owned, holds)?;
            self.status.update(|s| {
                s.state = match s.state {
                    _ if holds => State::Paused,
                    // The watchdog's word stands until something was applied.
                    State::Faulted => State::Faulted,
                    _ => State::Running,
                };
                s.partitions = owned.len();
                s.lag_records = owned.lag();
            });
            let batches_max = self.config.batch_records_max;
            let batches = batching::split(records.into_partitions(), &owned, batches_max);
            for batch in batches {
                let mut batch = parking::follow_on(batch, &owned);
                if let Some(filling) = &self.config.filling {
                    batch = filling.cut(batch);
                }
                if batch.is_empty() {
                    continue;
                }
                match self
                    .apply(batch, sink, &owned, backoff, stop.as_mut())
                    .await
                {
                    Ok(Some(applied)) => {
                        self.after_commit(&consumer, &owned, &applied);
                        quiet.heard(&applied.ranges);
                        self.stand_still(&mut consumer, &owned, &applied.full)?;
                        let records = applied.ranges.iter().map(|range| range.records).sum();
                        if self.slow_down(&mut pace, records, stop.as_mut()).await {
                            self.leave(consumer).await;
                            return Ok(End::Stopped);
                        }
                    }
                    Ok(None) => {
                        self.leave(consumer).await;
                        return Ok(End::Stopped);
                    }
                    Err(BatchError::Store(error)) => return self.after_store_error(error),
                    Err(error) => return Err(error.into()),
                }
            }
            wait = POLL;
            if let Some(control) = control.filter(|_| !holds) {
                match self.carry_out(control, &mut redrives, &owned, sink).await {
                    Ok(true) => wait = POLL_WHILE_REDRIVING,
                    Ok(false) => {}
                    Err(error) if error.is_retriable() => {
                        if self.pause(&error, backoff, stop.as_mut()).await {
                            self.leave(consumer).await;
                            return Ok(End::Stopped);
                        }
                    }
                    Err(BatchError::Store(error)) => return self.after_store_error(error),
                    Err(error) => return Err(error.into()),
                }
                self.go_on(&mut consumer, &owned)?;
            }
            if vigil.is_due()
                && let Some(reason) = self.superseded(&owned).await
            {
                tracing::warn!(projection = self.name(), reason, "joining the group anew");
                return Ok(End::Rejoin(reason));
            }
            if holds {
                continue;
            }
            let timed = self.run_timers(&owned, &mut quiet, backoff, stop.as_mut());
            match timed.await {
                Ok(true) => {}
                Ok(false) => {
                    self.leave(consumer).await;
                    return Ok(End::Stopped);
                }
                Err(BatchError::Store(error)) => return self.after_store_error(error),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits as long as the rate asks for; whether it was asked to stop meanwhile.
    async fn slow_down(&self, pace: &mut Pace, records: u64, stop: Stop<'_>) -> bool {
        let Some(filling) = &self.config.filling else {
            return false;
        };
        let wait = pace.after(filling, records);
        !wait.is_zero() && tokio::time::timeout(wait, stop).await.is_ok()
    }

    /// Makes the store ready, however long it is away; whether it is, or the driver shall stop.
    async fn prepare(
        &self,
        backoff: &mut Backoff,
        mut stop: Stop<'_>,
    ) -> Result<bool, DriverError> {
        loop {
            match self.make_ready().await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_retriable() => {
                    if self.pause(&error, backoff, stop.as_mut()).await {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn make_ready(&self) -> Result<(), StoreError> {
        let declaration = self.applier.declaration();
        self.store.prepare(declaration).await?;
        match &self.config.filling {
            Some(filling) => begin_at(&*self.store, declaration, &filling.from).await,
            None => Ok(()),
        }
    }

    fn join(&self, owned: &Ownership) -> Result<Consumer, SdkError> {
        let declaration = self.applier.declaration();
        let mut config = ConsumerConfig::for_group(declaration.group_id());
        config
            .group_instance_id
            .clone_from(&self.config.group_instance_id);
        config.enable_auto_commit = false;
        config.auto_offset_reset = OffsetReset::None;
        config.max_poll_records = self.config.batch_records_max;
        let mut consumer = Consumer::new(&self.client, config)?;
        let claimer = StoreClaimer {
            store: Arc::clone(&self.store),
            declaration: Arc::clone(declaration),
            parked: self.applier.parked().clone(),
            timers: self.applier.timers().cloned(),
            take_over: self.config.take_over,
        };
        let (status, backoff) = (self.status.clone(), self.backoff());
        consumer.set_rebalance_listener(Rebalance::new(claimer, owned.clone(), status, backoff));
        consumer.subscribe(declaration.sources().iter().copied())?;
        Ok(consumer)
    }

    /// Leaves the group in order, so that its partitions go on elsewhere at once.
    async fn leave(&self, consumer: Consumer) {
        if let Err(error) = consumer.close().await {
            tracing::warn!(projection = self.name(), %error, "could not leave the group in order");
        }
    }

    /// Applies one batch, however long the store is away. `None`: asked to stop meanwhile.
    async fn apply(
        &self,
        partitions: Vec<PartitionBatch>,
        sink: &ErrorTopic,
        owned: &Ownership,
        backoff: &mut Backoff,
        mut stop: Stop<'_>,
    ) -> Result<Option<Applied>, BatchError> {
        let records: usize = partitions.iter().map(|part| part.records.len()).sum();
        let doing = format!("applying {records} records");
        self.status.update(|s| s.doing = doing);
        let begun = tokio::time::Instant::now();
        let mut batch = self.applier.decode(partitions);
        loop {
            match self.applier.commit(&mut batch, &*self.store, sink).await {
                Ok(applied) => {
                    backoff.reset();
                    owned.advance(&applied.ranges);
                    self.status.update(|s| s.batch_time += begun.elapsed());
                    return Ok(Some(applied));
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

    /// Tells everybody of a transaction. The group hears of it in the background: its offset is
    /// information only.
    fn after_commit(&self, consumer: &Consumer, owned: &Ownership, applied: &Applied) {
        self.observer.applied(&applied.ranges);
        let offset = |range: &crate::status::AppliedRange| {
            (
                theirs(&range.topic_partition),
                OffsetAndMetadata::new(range.to),
            )
        };
        drop(consumer.commit_offsets_async(applied.ranges.iter().map(offset)));
        self.status.update(|s| {
            s.state = State::Running;
            if s.full.is_empty() {
                s.last_error = None;
            }
            s.records_applied += applied.records_applied;
            s.records_rejected += applied.records_rejected;
            s.records_queued += applied.records_queued;
            s.batches += 1;
            "waiting for records".clone_into(&mut s.doing);
            (s.parked_keys, s.parked_records) = self.applier.parked().counts();
            s.lag_records = owned.lag();
        });
    }

    /// A store's error that does not go away by waiting.
    fn after_store_error(&self, error: StoreError) -> Result<End, DriverError> {
        match error {
            StoreError::Fenced { .. } | StoreError::NotAtPosition { .. } => {
                tracing::warn!(projection = self.name(), %error, "joining the group anew");
                Ok(End::Rejoin(error.to_string()))
            }
            error => Err(error.into()),
        }
    }

    fn client_error(&self, error: SdkError) -> DriverError {
        DriverError::Client {
            projection: self.name().to_owned(),
            error,
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.config.backoff_first, self.config.backoff_cap)
    }

    /// Shows PAUSED and waits; whether it was asked to stop meanwhile.
    async fn pause(&self, reason: &impl ToString, backoff: &mut Backoff, stop: Stop<'_>) -> bool {
        let (reason, wait) = (reason.to_string(), backoff.after_failure(chance()));
        tracing::warn!(projection = self.name(), reason, ?wait, "projection pauses");
        self.status.update(|s| {
            s.state = State::Paused;
            s.last_error = Some(reason);
        });
        tokio::time::timeout(wait, stop).await.is_ok()
    }
}

/// How much was taken in since when.
struct Pace {
    since: Instant,
    records: u64,
}

impl Pace {
    fn start() -> Self {
        Self {
            since: Instant::now(),
            records: 0,
        }
    }

    /// How long to wait after some more records.
    fn after(&mut self, filling: &Filling, records: u64) -> Duration {
        self.records += records;
        let wait = filling.wait(self.records, self.since.elapsed());
        if wait.is_zero() {
            // What was not used of the rate is not made up for.
            *self = Self::start();
        }
        wait
    }
}

/// Ready when the driver is to stop.
type Stop<'s> = Pin<&'s mut (dyn Future<Output = ()> + Send + 's)>;

/// Claims partitions in the store of a projection.
struct StoreClaimer {
    store: Arc<dyn Store>,
    declaration: Arc<Declaration>,
    parked: ParkedKeys,
    timers: Option<KnownTimers>,
    take_over: bool,
}

impl Claimer for StoreClaimer {
    fn claim<'a>(
        &'a self,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        // Somebody else may have parked or redriven something meanwhile, or fired timers.
        self.parked.forget(partitions);
        if let Some(timers) = &self.timers {
            timers.forget(partitions);
        }
        self.store
            .claim(&self.declaration, owner_epoch, partitions, self.take_over)
    }
}
