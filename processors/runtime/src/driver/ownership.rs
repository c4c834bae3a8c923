//! Which partitions this instance owns, under which claim, and how far each is.
//!
//! Written by the rebalance listener (within a poll) and by the driver (between polls), which take
//! turns; the lock is there for the compiler's sake and never held across an await.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_record::Offset;
use conveyor_sdk::TopicPartition as SdkPartition;
use conveyor_sdk::consumer::{Assigned, ListenerError, RebalanceListener, Revoked, StartOffsets};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::backoff::{Backoff, chance};
use crate::record::TopicPartition;
use crate::status::{AppliedRange, Owned, State, Status};
use crate::store::{OwnerEpoch, Position, StoreError};

/// A partition that is ours.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The epoch of the claim.
    pub owner_epoch: OwnerEpoch,
    /// Where the store stands; `None` for nothing.
    pub next_offset: Option<Offset>,
    /// Where the log ends, as last heard.
    end: Offset,
    /// Not fetched, because as much is parked in it as may be.
    stands_still: bool,
}

impl Claim {
    /// Where the log ends, if it was heard.
    pub fn end(&self) -> Option<Offset> {
        Some(self.end).filter(|end| *end != Offset::NONE)
    }

    /// Whether it is known that the store holds everything.
    fn is_at_end(&self) -> bool {
        self.end()
            .is_some_and(|end| self.next_offset.unwrap_or_default() >= end)
    }

    /// Records that the store does not hold yet, as far as is known.
    fn lag(&self) -> i64 {
        let end = self.end().unwrap_or(Offset::ZERO);
        (end - self.next_offset.unwrap_or_default()).max(0)
    }
}

/// All partitions that are ours.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    claims: BTreeMap<TopicPartition, Claim>,
    /// Why the last assignment could not be claimed.
    failure: Option<StoreError>,
    /// Some were claimed and nobody has asked since.
    is_new: bool,
}

impl Ownership {
    /// What is known of a partition, if it is ours.
    pub fn get(&self, topic_partition: &TopicPartition) -> Option<Claim> {
        self.inner.lock().claims.get(topic_partition).copied()
    }

    /// How many are ours.
    pub fn len(&self) -> usize {
        self.inner.lock().claims.len()
    }

    /// Whether none is ours.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are ours.
    pub fn names(&self) -> Vec<TopicPartition> {
        self.inner.lock().claims.keys().cloned().collect()
    }

    /// The whole of it, in short.
    pub fn sum(&self) -> Owned {
        let inner = self.inner.lock();
        Owned {
            partitions: inner.claims.len(),
            lag_records: inner.claims.values().map(Claim::lag).sum(),
            is_at_end: !inner.claims.is_empty() && inner.claims.values().all(Claim::is_at_end),
        }
    }

    /// Records that the store does not hold yet, as far as is known.
    pub fn lag(&self) -> i64 {
        self.inner.lock().claims.values().map(Claim::lag).sum()
    }

    /// The same, without partitions that stand still because they are full.
    pub fn lag_to_work_off(&self) -> i64 {
        let inner = self.inner.lock();
        let working = inner.claims.values().filter(|claim| !claim.stands_still);
        working.map(Claim::lag).sum()
    }

    /// All that is known.
    pub fn claims(&self) -> Vec<(TopicPartition, Claim)> {
        let inner = self.inner.lock();
        let claims = inner.claims.iter();
        claims.map(|(name, claim)| (name.clone(), *claim)).collect()
    }

    /// Whether partitions were claimed since this was last asked.
    pub fn take_is_new(&self) -> bool {
        std::mem::take(&mut self.inner.lock().is_new)
    }

    /// Whether the store holds everything of a partition, as far as is known.
    pub fn is_at_end(&self, topic_partition: &TopicPartition) -> bool {
        let inner = self.inner.lock();
        let claim = inner.claims.get(topic_partition);
        claim.is_some_and(Claim::is_at_end)
    }

    /// The log is known to reach so far.
    pub fn heard_end(&self, topic_partition: &TopicPartition, end: Offset) {
        if let Some(claim) = self.inner.lock().claims.get_mut(topic_partition) {
            claim.end = claim.end.max(end);
        }
    }

    /// The store has taken these in.
    pub fn advance(&self, ranges: &[AppliedRange]) {
        let mut inner = self.inner.lock();
        for range in ranges {
            if let Some(claim) = inner.claims.get_mut(&range.topic_partition) {
                claim.next_offset = Some(range.to);
            }
        }
    }

    /// A partition is full of what is parked, or no longer.
    pub fn stands_still(&self, topic_partition: &TopicPartition, stands_still: bool) {
        if let Some(claim) = self.inner.lock().claims.get_mut(topic_partition) {
            claim.stands_still = stands_still;
        }
    }

    /// Those that stand still.
    pub fn standing_still(&self) -> Vec<TopicPartition> {
        let inner = self.inner.lock();
        let still = inner.claims.iter().filter(|(_, claim)| claim.stands_still);
        still.map(|(name, _)| name.clone()).collect()
    }

    /// Why the last assignment could not be claimed.
    pub fn take_failure(&self) -> Option<StoreError> {
        self.inner.lock().failure.take()
    }

    /// These are ours now, and the store stands at `positions`.
    pub fn claimed(
        &self,
        partitions: &[TopicPartition],
        owner_epoch: OwnerEpoch,
        positions: Vec<Position>,
    ) {
        let claim = |next_offset| Claim {
            owner_epoch,
            next_offset,
            end: Offset::NONE,
            stands_still: false,
        };
        let mut inner = self.inner.lock();
        inner.is_new = true;
        for partition in partitions {
            inner.claims.insert(partition.clone(), claim(None));
        }
        for position in positions {
            let next_offset = Some(position.next_offset);
            inner
                .claims
                .insert(position.topic_partition, claim(next_offset));
        }
    }

    fn forget<'p>(&self, partitions: impl Iterator<Item = &'p SdkPartition>) {
        let mut inner = self.inner.lock();
        for partition in partitions {
            inner.claims.remove(&ours(partition));
        }
    }
}

/// Makes this instance the owner of partitions in whatever keeps the positions.
pub trait Claimer: Send + Sync + 'static {
    /// Claims them and returns where it stands in each; no entry: nothing is in there yet.
    fn claim<'a>(
        &'a self,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>>;
}

/// Claims partitions that come, forgets those that go.
#[derive(Debug)]
pub struct Rebalance<C> {
    claimer: C,
    owned: Ownership,
    status: Status,
    backoff: Backoff,
}

impl<C: Claimer> Rebalance<C> {
    /// A listener that keeps `owned` and `status` up to date.
    pub const fn new(claimer: C, owned: Ownership, status: Status, backoff: Backoff) -> Self {
        Self {
            claimer,
            owned,
            status,
            backoff,
        }
    }

    /// Claims, however long the store is away: the group waits, heartbeats go on.
    async fn claim(
        &mut self,
        partitions: &[TopicPartition],
        owner_epoch: OwnerEpoch,
    ) -> Result<Vec<Position>, StoreError> {
        let doing = format!("claiming {} partitions", partitions.len());
        self.status.update(|s| s.doing = doing);
        loop {
            match self.claimer.claim(owner_epoch, partitions).await {
                Err(error) if error.is_retriable() => {
                    self.status.update(|s| {
                        s.state = State::Paused;
                        s.last_error = Some(error.to_string());
                    });
                    tokio::time::sleep(self.backoff.after_failure(chance())).await;
                }
                settled => {
                    self.backoff.reset();
                    self.status
                        .update(|s| "waiting for records".clone_into(&mut s.doing));
                    return settled;
                }
            }
        }
    }
}

impl<C: Claimer> RebalanceListener for Rebalance<C> {
    fn on_assigned<'a>(
        &'a mut self,
        assigned: Assigned<'a>,
    ) -> BoxFuture<'a, Result<StartOffsets, ListenerError>> {
        async move {
            let partitions: Vec<_> = assigned.partitions.iter().map(ours).collect();
            let owner_epoch = OwnerEpoch(i64::from(assigned.member_epoch));
            match self.claim(&partitions, owner_epoch).await {
                Ok(positions) => self.owned.claimed(&partitions, owner_epoch, positions),
                Err(error) => {
                    let told = Box::new(error.clone());
                    self.owned.inner.lock().failure = Some(error);
                    return Err(told.into());
                }
            }
            // Never where the group has committed: a new store begins at the beginning.
            let start = |p: &TopicPartition| {
                let claim = self.owned.get(p)?;
                Some((theirs(p), claim.next_offset.unwrap_or(Offset::ZERO)))
            };
            Ok(partitions.iter().filter_map(start).collect())
        }
        .boxed()
    }

    fn on_revoked<'a>(
        &'a mut self,
        revoked: Revoked<'a>,
    ) -> BoxFuture<'a, Result<(), ListenerError>> {
        self.owned
            .forget(revoked.partitions.iter().map(|(partition, _)| partition));
        async { Ok(()) }.boxed()
    }

    fn on_lost<'a>(&'a mut self, lost: &'a [SdkPartition]) -> BoxFuture<'a, ()> {
        self.owned.forget(lost.iter());
        async {}.boxed()
    }
}

/// A partition as the runtime names it.
pub fn ours(partition: &SdkPartition) -> TopicPartition {
    TopicPartition {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
    }
}

/// A partition as the SDK names it.
pub fn theirs(partition: &TopicPartition) -> SdkPartition {
    SdkPartition {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
    }
}
