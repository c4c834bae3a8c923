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
//! Memory: what the consumer fetches ahead (its own bound) and one batch ([`batch_size`]).

mod batch_size;
mod batching;
mod claimer;
mod config;
pub mod control;
pub mod error_topic;
mod membership;
mod mending;
pub mod ownership;
pub mod parking;
pub mod range;
mod rate;
mod timing;
mod vigil;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use conveyor_sdk::{
    Client, Consumer, ConsumerConfig, Error as SdkError, OffsetAndMetadata, OffsetReset,
};

use self::batch_size::BatchSize;
use self::claimer::StoreClaimer;
pub use self::config::{DriverConfig, DriverError};
use self::control::{About, Control};
use self::error_topic::ErrorTopic;
use self::membership::{End, Standing};
use self::ownership::{Ownership, Rebalance, theirs};
use crate::applier::{Applied, Applier};
use crate::backoff::{Backoff, chance};
use crate::control::Kind;
use crate::projection::{Declaration, Projection};
use crate::rebuild::range::begin_at;
use crate::record::Decoder;
use crate::status::{NoObserver, Observer, State, Status};
use crate::store::{Store, StoreError};

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
        let control = self.config.control.then(|| self.control());
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
        let declaration = self.applier.declaration();
        let filling = self.config.filling.as_ref();
        let about = About {
            name: declaration.stored_name().to_owned(),
            kind: filling.map_or(Kind::Projection, |_| Kind::Rebuild),
            group: declaration.group_id().to_owned(),
            version: declaration.version(),
            store: self.store.describe(),
            until: filling.map_or_else(Default::default, |filling| filling.until.clone()),
        };
        Control::start(
            &self.client,
            about,
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
        if let Some(control) = control {
            control.is_known().await;
        }
        let sink = match self.config.filling {
            // Whoever keeps the live build up has published it, or will.
            Some(_) => ErrorTopic::silent(),
            None => ErrorTopic::new(&self.client, &self.config.error_topic)
                .map_err(|error| self.client_error(error))?,
        };
        let mut standing = Standing {
            control,
            sink: &sink,
            backoff: self.backoff(),
            size: BatchSize::up_to(self.config.batch_records_max),
        };
        loop {
            let mut ended = self.membership(&mut standing, stop.as_mut()).await;
            if let Err(End::Rejoin(reason)) = &ended {
                tracing::warn!(projection = self.name(), reason, "joining the group anew");
                ended = self
                    .pause(reason, &mut standing.backoff, stop.as_mut())
                    .await;
            }
            match ended {
                Ok(()) | Err(End::Rejoin(_)) => {}
                Err(End::Stopped) => break,
                Err(End::Failed(error)) => return Err(error),
            }
        }
        sink.close().await;
        Ok(())
    }

    /// Makes the store ready, however long it is away.
    async fn prepare(&self, backoff: &mut Backoff, mut stop: Stop<'_>) -> Result<(), End> {
        loop {
            match self.make_ready().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retriable() => {
                    self.pause(&error, backoff, stop.as_mut()).await?;
                }
                Err(error) => return Err(End::Failed(error.into())),
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

    fn client_error(&self, error: SdkError) -> DriverError {
        DriverError::Client {
            projection: self.name().to_owned(),
            error,
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.config.backoff_first, self.config.backoff_cap)
    }

    /// Shows PAUSED and waits.
    async fn pause(
        &self,
        reason: &impl ToString,
        backoff: &mut Backoff,
        stop: Stop<'_>,
    ) -> Result<(), End> {
        let (reason, wait) = (reason.to_string(), backoff.after_failure(chance()));
        tracing::warn!(projection = self.name(), reason, ?wait, "projection pauses");
        self.status.update(|s| {
            s.state = State::Paused;
            s.last_error = Some(reason);
        });
        match tokio::time::timeout(wait, stop).await {
            Ok(()) => Err(End::Stopped),
            Err(_) => Ok(()),
        }
    }
}

/// Ready when the driver is to stop.
type Stop<'s> = Pin<&'s mut (dyn Future<Output = ()> + Send + 's)>;
