//! What a user may do when partitions come and go.

use std::collections::BTreeMap;

use conveyor_record::Offset;
use futures::future::BoxFuture;

use super::committer::OffsetCommitter;
use super::topic_partition::TopicPartition;

/// Where to begin in partitions just assigned; those that are left out begin where the group has
/// committed, or as `auto_offset_reset` says.
pub type StartOffsets = BTreeMap<TopicPartition, Offset>;

/// Why a listener cannot go on.
pub type ListenerError = Box<dyn std::error::Error + Send + Sync>;

/// Told of partitions that come and go, from within a poll or a close: never while the caller
/// processes records. The group waits for the answers, at most `rebalance_timeout_ms`; heartbeats go
/// on meanwhile. Dropping a poll half-way makes the next one call again from the start, so calls
/// must bear repetition.
///
/// ```
/// use conveyor_sdk::consumer::{Assigned, ListenerError, RebalanceListener, StartOffsets};
/// use conveyor_sdk::{Offset, TopicPartition};
/// use futures::future::BoxFuture;
///
/// /// Goes on where a database says.
/// struct OwnPositions;
///
/// impl RebalanceListener for OwnPositions {
///     fn on_assigned<'a>(
///         &'a mut self,
///         assigned: Assigned<'a>,
///     ) -> BoxFuture<'a, Result<StartOffsets, ListenerError>> {
///         Box::pin(async move {
///             let stored = |_: &TopicPartition| Offset(42); // read it from the database
///             Ok(assigned.partitions.iter().map(|p| (p.clone(), stored(p))).collect())
///         })
///     }
/// }
/// ```
pub trait RebalanceListener: Send + Sync {
    /// These partitions are ours now; nothing of them has been read yet. May say where to begin.
    /// An error fails the poll, and the next one asks again.
    fn on_assigned<'a>(
        &'a mut self,
        _assigned: Assigned<'a>,
    ) -> BoxFuture<'a, Result<StartOffsets, ListenerError>> {
        Box::pin(async { Ok(StartOffsets::new()) })
    }

    /// These partitions go to somebody else as soon as this returns: the last chance to commit. With
    /// auto commit that has been done already. An error is logged, the partitions go all the same.
    fn on_revoked<'a>(
        &'a mut self,
        _revoked: Revoked<'a>,
    ) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async { Ok(()) })
    }

    /// These partitions may belong to somebody else already, because the group has fenced this
    /// member: forget what was in progress, commit nothing.
    fn on_lost<'a>(&'a mut self, _lost: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// What has been assigned.
#[derive(Debug)]
#[non_exhaustive]
pub struct Assigned<'a> {
    /// The partitions, sorted.
    pub partitions: &'a [TopicPartition],
    /// This member's epoch in the group. Whoever owned one of the partitions before had a lower one:
    /// a store that keeps it can refuse a member that has lost its partitions and does not know it.
    pub member_epoch: i32,
}

/// What is about to be given up.
#[derive(Debug)]
#[non_exhaustive]
pub struct Revoked<'a> {
    /// The partitions, sorted, each with the offset after the last record handed out; `None` when
    /// none was.
    pub partitions: &'a [(TopicPartition, Option<Offset>)],
    /// Commits while the partitions are still ours.
    pub committer: &'a OffsetCommitter,
}

/// Does nothing.
#[derive(Debug)]
pub(super) struct NoListener;

impl RebalanceListener for NoListener {}
