//! What a target of a sink promises.
//!
//! Writing the same records again must change nothing, for after a crash they come again; and a
//! writer that has lost its partitions and does not know it must not take anything back.

use conveyor_processors::applier::BatchError;
use conveyor_processors::rejected::{Rejected, RejectedSink};
use conveyor_processors::store::{OwnerEpoch, StoreError};
use conveyor_processors::{DecodeError, SourceRecord, TopicPartition};
use conveyor_record::Offset;
use futures::future::BoxFuture;

use crate::buffer::{Grouping, Part};

/// Where a target stands in a partition just claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// What it needs next; `None`: it has nothing of it.
    pub next_offset: Option<Offset>,
    /// It has begun to write up to there and must do so again.
    pub redo_until: Option<Offset>,
}

impl Start {
    /// At nothing, not begun.
    pub const fn nowhere(topic_partition: TopicPartition) -> Self {
        Self {
            topic_partition,
            next_offset: None,
            redo_until: None,
        }
    }
}

/// Where a sink writes.
pub trait Target: Send + Sync + 'static {
    /// What it is and where, for people, without secrets.
    fn describe(&self) -> String;

    /// How records are put together for it.
    fn grouping(&self) -> Grouping;

    /// Looks whether it is there and as it should be; creates what it needs.
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes this instance the owner of partitions. `None`: it keeps no positions, the group's
    /// committed offsets are where to begin.
    fn claim<'a>(
        &'a self,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, Result<Option<Vec<Start>>, StoreError>>;

    /// Writes the records of some parts; durable when it returns. Records that are done with, and
    /// those that were rejected, are taken out of their parts even if it fails, so that the rest can
    /// be given again.
    fn write<'a>(
        &'a self,
        parts: &'a mut [Part],
        rejects: &'a Rejects<'a>,
    ) -> BoxFuture<'a, Result<(), BatchError>>;
}

/// Where records go that can never be written.
#[derive(Clone, Copy)]
pub struct Rejects<'s> {
    topic: &'s dyn RejectedSink,
    group_id: &'s str,
}

impl std::fmt::Debug for Rejects<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rejects")
            .field("group_id", &self.group_id)
            .finish_non_exhaustive()
    }
}

impl<'s> Rejects<'s> {
    /// Those of this group.
    pub const fn new(topic: &'s dyn RejectedSink, group_id: &'s str) -> Self {
        Self { topic, group_id }
    }

    /// Takes records out of a part and publishes them: each by its index, ascending, and why.
    pub async fn publish(
        &self,
        part: &mut Part,
        rejected: Vec<(usize, DecodeError)>,
    ) -> Result<(), BatchError> {
        if rejected.is_empty() {
            return Ok(());
        }
        let reject = |(index, error): &(usize, DecodeError)| {
            Some(Rejected {
                record: SourceRecord::clone(part.records.get(*index)?),
                group_id: self.group_id.to_owned(),
                error_name: error.name.to_owned(),
                attempts: 1,
                reason: error.reason.clone(),
            })
        };
        let records: Vec<_> = rejected.iter().filter_map(reject).collect();
        self.topic.publish(&records).await?;
        part.rejected += records.len() as u64;
        take_out(&mut part.records, rejected.iter().map(|(index, _)| *index));
        Ok(())
    }
}

/// Takes the records of these indexes, ascending, out.
pub(crate) fn take_out<T>(records: &mut Vec<T>, indexes: impl Iterator<Item = usize>) {
    let mut indexes = indexes.peekable();
    let mut at = 0;
    records.retain(|_| {
        let out = indexes.next_if_eq(&at).is_some();
        at += 1;
        !out
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_out_by_index() {
        let mut letters = vec!['a', 'b', 'c', 'd'];
        take_out(&mut letters, [1, 3].into_iter());
        assert_eq!(letters, ['a', 'c']);
    }
}
