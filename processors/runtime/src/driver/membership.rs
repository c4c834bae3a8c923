//! One membership of the group, from joining to leaving: what polls bring is applied, and between
//! two polls the driver does whatever else is due.

use std::time::Duration;

use conveyor_sdk::Consumer;
use conveyor_sdk::consumer::ConsumerRecords;

use super::batch_size::BatchSize;
use super::batching::Waiting;
use super::control::Control;
use super::error_topic::ErrorTopic;
use super::mending::Redrives;
use super::ownership::Ownership;
use super::rate::Rate;
use super::timing::Quiet;
use super::vigil::Vigil;
use super::{Driver, DriverError, Stop, parking, range};
use crate::applier::{Applied, BatchError, PartitionBatch};
use crate::backoff::Backoff;
use crate::projection::Projection;
use crate::record::{Decoder, TopicPartition};
use crate::store::StoreError;

/// The longest time between two looks at what people want.
const POLL: Duration = Duration::from_millis(500);
/// The same while records that waited are being applied.
const POLL_WHILE_REDRIVING: Duration = Duration::from_millis(10);
/// A batch that the store did not take so often is brought in smaller ones, if the store has turned
/// out slow. The first time it comes again as it was: only so a store can tell that a batch whose
/// answer was lost is written.
const ATTEMPTS_AS_IT_WAS: u32 = 2;

/// Why a membership of the group has ended.
pub(super) enum End {
    /// As asked.
    Stopped,
    /// To be tried again with a new membership.
    Rejoin(String),
    /// Somebody must look at it.
    Failed(DriverError),
}

impl From<DriverError> for End {
    fn from(error: DriverError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        if error.is_claim_lost() {
            return Self::Rejoin(error.to_string());
        }
        Self::Failed(error.into())
    }
}

impl From<BatchError> for End {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Store(error) => error.into(),
            error => Self::Failed(error.into()),
        }
    }
}

/// What the driver knows for as long as it runs, whatever membership it has.
pub(super) struct Standing<'d> {
    pub(super) control: Option<&'d Control>,
    pub(super) sink: &'d ErrorTopic,
    pub(super) backoff: Backoff,
    pub(super) size: BatchSize,
}

/// What belongs to one membership.
struct Member {
    consumer: Consumer,
    owned: Ownership,
    rate: Rate,
    quiet: Quiet,
    vigil: Vigil,
    redrives: Redrives,
}

/// What came of bringing a batch to the store.
enum Brought {
    /// It is in the store.
    Applied(Applied),
    /// The store is too slow for one of this size; here it is again.
    TooLarge(Vec<PartitionBatch>),
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// Joins the group, works, and leaves in order when asked to stop.
    pub(super) async fn membership(
        &self,
        standing: &mut Standing<'_>,
        mut stop: Stop<'_>,
    ) -> Result<(), End> {
        // Each time: meanwhile another build of the projection may have taken this one's place.
        self.prepare(&mut standing.backoff, stop.as_mut()).await?;
        let owned = Ownership::default();
        let mut member = Member {
            consumer: self
                .join(&owned)
                .map_err(|error| self.client_error(error))?,
            owned,
            rate: Rate::start(),
            quiet: Quiet::default(),
            vigil: Vigil::start(),
            redrives: Redrives::new(),
        };
        if let Some(control) = standing.control {
            control.joined(&member.owned);
        }
        let ended = self.serve(standing, &mut member, stop).await;
        if matches!(ended, Err(End::Stopped)) {
            self.leave(member.consumer).await;
        }
        ended
    }

    /// Works until the membership ends.
    async fn serve(
        &self,
        standing: &mut Standing<'_>,
        member: &mut Member,
        mut stop: Stop<'_>,
    ) -> Result<(), End> {
        let mut wait = POLL;
        loop {
            // A batch a poll: nothing that was read waits while the group wants to hear of us.
            let records_max = standing.size.records();
            member.consumer.set_max_poll_records(records_max);
            let Some(records) = self.poll(member, wait, stop.as_mut()).await? else {
                continue;
            };
            range::hear_ends(&mut member.consumer, &member.owned);
            parking::tell_group(&member.consumer, &member.owned);
            let holds = standing.control.is_some_and(Control::is_paused);
            parking::hold(&mut member.consumer, &member.owned, holds)
                .map_err(|error| self.client_error(error))?;
            let owned = &member.owned;
            self.status.turned(holds, owned.sum());
            let filling = self.config.filling.as_ref();
            let has_ended = |partition: &TopicPartition, at| {
                filling.is_some_and(|filling| filling.has_ended(partition, at))
            };
            let waiting = Waiting::new(records.into_partitions(), &member.owned, has_ended)
                .map_err(|skipped| End::Rejoin(skipped.to_string()))?;
            self.take_in(standing, member, waiting, stop.as_mut())
                .await?;
            wait = POLL;
            if !holds && self.mend(standing, member, stop.as_mut()).await? {
                wait = POLL_WHILE_REDRIVING;
            }
            if member.vigil.is_due()
                && let Some(reason) = self.superseded(&member.owned).await
            {
                return Err(End::Rejoin(reason));
            }
            if !holds {
                let (owned, quiet) = (&member.owned, &mut member.quiet);
                self.run_timers(owned, quiet, &mut standing.backoff, stop.as_mut())
                    .await?;
            }
        }
    }

    /// Waits for records; none when positions had to be mended first.
    async fn poll(
        &self,
        member: &mut Member,
        wait: Duration,
        mut stop: Stop<'_>,
    ) -> Result<Option<ConsumerRecords>, End> {
        let polled = tokio::select! {
            biased;
            () = stop.as_mut() => return Err(End::Stopped),
            polled = member.consumer.poll(wait) => polled,
        };
        if let Some(error) = member.owned.take_failure() {
            return Err(error.into());
        }
        match polled {
            Ok(records) => Ok(Some(records)),
            Err(error) if range::is_outside(&error) => {
                let (consumer, owned) = (&mut member.consumer, &member.owned);
                range::mend(&self.client, self.name(), consumer, owned).await?;
                Ok(None)
            }
            Err(error) if error.is_retriable() => Err(End::Rejoin(error.to_string())),
            Err(error) => Err(self.client_error(error).into()),
        }
    }

    /// Applies what a poll brought, in batches of the size that the store takes.
    async fn take_in(
        &self,
        standing: &mut Standing<'_>,
        member: &mut Member,
        mut waiting: Waiting,
        mut stop: Stop<'_>,
    ) -> Result<(), End> {
        while let Some(batch) = waiting.take(standing.size.records()) {
            let mut batch = parking::follow_on(batch, &member.owned);
            if let Some(filling) = &self.config.filling {
                batch = filling.cut(batch);
            }
            if batch.is_empty() {
                continue;
            }
            match self.bring(standing, batch, stop.as_mut()).await? {
                Brought::TooLarge(batch) => waiting.put_back(batch),
                Brought::Applied(applied) => {
                    member.owned.advance(&applied.ranges);
                    self.after_commit(&member.consumer, &member.owned, &applied);
                    member.quiet.heard(&applied.ranges);
                    self.stand_still(&mut member.consumer, &member.owned, &applied.full)?;
                    let records = applied.ranges.iter().map(|range| range.records).sum();
                    self.slow_down(&mut member.rate, records, stop.as_mut())
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Brings one batch to the store, however long that is away.
    async fn bring(
        &self,
        standing: &mut Standing<'_>,
        partitions: Vec<PartitionBatch>,
        mut stop: Stop<'_>,
    ) -> Result<Brought, End> {
        let records: usize = partitions.iter().map(|part| part.records.len()).sum();
        self.status
            .update(|s| s.doing = format!("applying {records} records"));
        let begun = tokio::time::Instant::now();
        let mut batch = self.applier.decode(partitions);
        for attempt in 1.. {
            let attempted = tokio::time::Instant::now();
            let committed = self.applier.commit(&mut batch, &*self.store, standing.sink);
            let committed = committed.await;
            standing.size.took(records, attempted.elapsed());
            match committed {
                Ok(applied) => {
                    standing.backoff.reset();
                    self.status.update(|s| s.batch_time += begun.elapsed());
                    return Ok(Brought::Applied(applied));
                }
                Err(error) if error.is_retriable() => {
                    self.pause(&error, &mut standing.backoff, stop.as_mut())
                        .await?;
                }
                Err(error) => return Err(error.into()),
            }
            if attempt >= ATTEMPTS_AS_IT_WAS
                && records > standing.size.records()
                && let Some(parts) = batch.take_apart()
            {
                return Ok(Brought::TooLarge(parts));
            }
        }
        unreachable!("attempts never end")
    }

    /// Takes a step of what people have asked for; whether it goes on at once.
    async fn mend(
        &self,
        standing: &mut Standing<'_>,
        member: &mut Member,
        stop: Stop<'_>,
    ) -> Result<bool, End> {
        let Some(control) = standing.control else {
            return Ok(false);
        };
        let (redrives, owned) = (&mut member.redrives, &member.owned);
        let more = match self
            .carry_out(control, redrives, owned, standing.sink)
            .await
        {
            Ok(more) => more,
            Err(error) if error.is_retriable() => {
                self.pause(&error, &mut standing.backoff, stop).await?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        self.go_on(&mut member.consumer, &member.owned)?;
        Ok(more)
    }

    /// Leaves the group in order, so that its partitions go on elsewhere at once.
    async fn leave(&self, consumer: Consumer) {
        if let Err(error) = consumer.close().await {
            tracing::warn!(projection = self.name(), %error, "could not leave the group in order");
        }
    }
}
