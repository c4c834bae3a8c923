//! Claims partitions in the store of a projection.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::ownership::Claimer;
use crate::parked::ParkedKeys;
use crate::projection::Declaration;
use crate::record::TopicPartition;
use crate::store::{OwnerEpoch, Position, Store, StoreError};
use crate::timers::KnownTimers;

/// Claims partitions in the store of a projection.
pub(super) struct StoreClaimer {
    pub(super) store: Arc<dyn Store>,
    pub(super) declaration: Arc<Declaration>,
    pub(super) parked: ParkedKeys,
    pub(super) timers: Option<KnownTimers>,
    pub(super) take_over: bool,
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
