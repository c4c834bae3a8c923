//! Partitions that are not fetched: those that stand still because as much is parked in them as may
//! be, and all while a person wants the projection to pause.

use conveyor_record::Offset;
use conveyor_sdk::{Consumer, Error as SdkError, OffsetAndMetadata};

use super::ownership::{Claim, Ownership, theirs};
use super::{Driver, DriverError};
use crate::applier::{FullPartition, PartitionBatch};
use crate::projection::Projection;
use crate::record::{Decoder, TopicPartition};

/// Those parts of a batch that begin where the store stands. The others follow on a part that was
/// not taken in whole.
pub(super) fn follow_on(batch: Vec<PartitionBatch>, owned: &Ownership) -> Vec<PartitionBatch> {
    let follows = |part: &PartitionBatch| {
        let claim = owned.get(&part.topic_partition);
        claim.is_some_and(|claim| claim.next_offset == part.from)
    };
    batch.into_iter().filter(follows).collect()
}

/// Tells the group where the projection stands in partitions that have just come, so that the
/// node knows its lag before the first batch.
pub(super) fn tell_group(consumer: &Consumer, owned: &Ownership) {
    if owned.take_is_new() {
        let offset = |(name, claim): (TopicPartition, Claim)| {
            let at = claim.next_offset.unwrap_or(Offset::ZERO);
            (theirs(&name), OffsetAndMetadata::new(at))
        };
        let offsets = owned.claims().into_iter().map(offset);
        drop(consumer.commit_offsets_async(offsets));
    }
}

/// Fetches nothing while a person wants a pause, and else all but what stands still by itself. The
/// partitions stay ours; those that come meanwhile are not fetched either.
pub fn hold(consumer: &mut Consumer, owned: &Ownership, holds: bool) -> Result<(), SdkError> {
    let still: Vec<_> = owned.standing_still().iter().map(theirs).collect();
    let paused = consumer.paused();
    let mine: Vec<_> = owned.names().iter().map(theirs).collect();
    if holds {
        let fetched: Vec<_> = mine.into_iter().filter(|p| !paused.contains(p)).collect();
        consumer.pause(&fetched)
    } else if paused.len() > still.len() {
        let held: Vec<_> = paused.into_iter().filter(|p| !still.contains(p)).collect();
        consumer.resume(&held)
    } else {
        Ok(())
    }
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// Stops fetching partitions that are full; what comes next is read again once there is room.
    pub(super) fn stand_still(
        &self,
        consumer: &mut Consumer,
        owned: &Ownership,
        full: &[FullPartition],
    ) -> Result<(), DriverError> {
        for FullPartition {
            topic_partition,
            at,
        } in full
        {
            let partition = theirs(topic_partition);
            let error = |error| self.client_error(error);
            consumer
                .pause(std::slice::from_ref(&partition))
                .map_err(error)?;
            consumer.seek(&partition, *at).map_err(error)?;
            let parked = self.applier.parked().of(topic_partition);
            let parked = parked.unwrap_or_default();
            let name = self.name();
            let reason = format!(
                "{topic_partition} stands still at offset {at}: {} keys and {} records of it are \
                 parked, as much as may be; see `conveyor projection parked list {name}` and \
                 redrive or discard some, or raise parked_keys_max and parked_records_max",
                parked.keys(),
                parked.records(),
            );
            tracing::error!(projection = name, reason, "a partition is full");
            owned.stands_still(topic_partition, true);
            self.status.update(|s| {
                s.full = owned.standing_still();
                s.last_error = Some(reason);
            });
        }
        Ok(())
    }

    /// Goes on with partitions in which there is room again.
    pub(super) fn go_on(
        &self,
        consumer: &mut Consumer,
        owned: &Ownership,
    ) -> Result<(), DriverError> {
        for topic_partition in owned.standing_still() {
            let parked = self.applier.parked().of(&topic_partition);
            let limits = self.config.parked;
            let has_room = parked.is_none_or(|parked| {
                parked.records() < limits.records_max && parked.keys() < limits.keys_max
            });
            if has_room {
                let partition = theirs(&topic_partition);
                consumer
                    .resume(&[partition])
                    .map_err(|error| self.client_error(error))?;
                owned.stands_still(&topic_partition, false);
                self.status.update(|s| s.full = owned.standing_still());
            }
        }
        Ok(())
    }
}
