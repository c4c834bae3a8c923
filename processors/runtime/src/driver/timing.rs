//! Fires what is due, and moves the clocks of idle partitions on.

use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::membership::End;
use super::ownership::Ownership;
use super::{Driver, Stop};
use crate::applier::BatchError;
use crate::applier::mend::Claimed;
use crate::applier::timing::Firings;
use crate::backoff::Backoff;
use crate::projection::Projection;
use crate::record::{Decoder, TopicPartition};
use crate::status::AppliedRange;
use crate::timers::KnownTimers;

/// When something was last applied of each partition.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: HashMap<TopicPartition, Instant>,
}

impl Quiet {
    /// These have just brought something.
    pub(super) fn heard(&mut self, ranges: &[AppliedRange]) {
        for range in ranges {
            self.since
                .insert(range.topic_partition.clone(), Instant::now());
        }
    }

    /// For how long a partition has brought nothing, in ms; from now on if it was never looked at.
    fn quiet_ms(&mut self, partition: &TopicPartition) -> i64 {
        let since = self.since.entry(partition.clone());
        let quiet = since.or_insert_with(Instant::now).elapsed();
        i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX)
    }
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// Fires every timer that is due.
    pub(super) async fn run_timers(
        &self,
        owned: &Ownership,
        quiet: &mut Quiet,
        backoff: &mut Backoff,
        mut stop: Stop<'_>,
    ) -> Result<(), End> {
        let Some(timers) = self.applier.timers() else {
            return Ok(());
        };
        loop {
            match self.run_timers_once(timers, owned, quiet).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retriable() => {
                    self.pause(&error, backoff, stop.as_mut()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn run_timers_once(
        &self,
        timers: &KnownTimers,
        owned: &Ownership,
        quiet: &mut Quiet,
    ) -> Result<(), BatchError> {
        let store = &*self.store;
        let names = owned.names();
        self.applier.learn_timers(store, &names).await?;
        for topic_partition in names {
            let Some(claimed) = claimed(owned, &topic_partition) else {
                continue;
            };
            // A build that is being filled goes by what is in the log alone.
            if self.config.filling.is_none() && owned.is_at_end(&topic_partition) {
                let quiet_ms = quiet.quiet_ms(&topic_partition);
                let idle_ms = self.config.idle.clock_ms(quiet_ms, wall_ms());
                // A clock is worth a transaction only when it lets something fire.
                let due = |clock_ms: &i64| timers.would_be_due(&topic_partition, *clock_ms);
                let not_yet = !timers.has_due(&topic_partition);
                if let Some(clock_ms) = idle_ms.filter(|clock_ms| not_yet && due(clock_ms)) {
                    self.applier.move_clock(store, &claimed, clock_ms).await?;
                    self.applier.learn_timers(store, [&topic_partition]).await?;
                }
            }
            while timers.has_due(&topic_partition) {
                let fired = self.applier.fire_due(store, &claimed).await?;
                self.tell(&fired);
            }
        }
        Ok(())
    }

    fn tell(&self, fired: &Firings) {
        let projection = self.applier.declaration().name();
        for (timer, error) in &fired.refused {
            tracing::warn!(
                projection,
                timer = timer.name,
                of = %timer.topic_partition,
                %error,
                "a timer was refused and is gone"
            );
        }
    }
}

fn claimed(owned: &Ownership, topic_partition: &TopicPartition) -> Option<Claimed> {
    let claim = owned.get(topic_partition)?;
    Some(Claimed {
        topic_partition: topic_partition.clone(),
        position: claim.next_offset?,
        owner_epoch: claim.owner_epoch,
    })
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
