//! The cases, one module for each promise.

pub(crate) mod builds;
pub(crate) mod crash;
pub(crate) mod fencing;
pub(crate) mod lists;
pub(crate) mod positions;
pub(crate) mod schema;
pub(crate) mod sharing;
pub(crate) mod values;

use std::sync::Arc;

use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, Store, StoreError, Unit};
use conveyor_processors::{Change, Declaration, RowKey, Rows, TopicPartition};
use conveyor_record::Offset;

/// Writes to a store by hand: each call is one transaction that moves one partition one record on.
pub(crate) struct Hand<'s> {
    pub(crate) store: &'s dyn Store,
    pub(crate) declaration: Arc<Declaration>,
    partition: TopicPartition,
    epoch: OwnerEpoch,
    at: Option<Offset>,
}

impl<'s> Hand<'s> {
    /// Prepares the store and claims a partition.
    pub(crate) async fn new(
        store: &'s dyn Store,
        declaration: Declaration,
        partition: i32,
        epoch: i64,
    ) -> Self {
        store.prepare(&declaration).await.unwrap();
        let partition = TopicPartition::new("topic", partition);
        let epoch = OwnerEpoch(epoch);
        let claimed = store
            .claim(&declaration, epoch, std::slice::from_ref(&partition), false)
            .await
            .unwrap();
        Self {
            store,
            declaration: Arc::new(declaration),
            partition,
            epoch,
            at: claimed.first().map(|position| position.next_offset),
        }
    }

    /// Writes changes; the rows are loaded first, as the contract has it.
    pub(crate) async fn write(&mut self, changes: Vec<Change>) {
        let keys = changes.iter().map(key_of).collect();
        let wrote = self.transact(keys, move |_| Outcome::Commit(changes.clone()));
        assert!(wrote.await.unwrap());
    }

    /// One transaction. After an error the next one begins at the same place.
    pub(crate) async fn transact(
        &mut self,
        keys: Vec<RowKey>,
        fold: impl FnMut(Rows) -> Outcome + Send + Sync + 'static,
    ) -> Result<bool, StoreError> {
        let to = Offset(self.at.map_or(1, |at| at.value() + 1));
        let unit = Unit {
            declaration: Arc::clone(&self.declaration),
            advances: vec![Advance {
                topic_partition: self.partition.clone(),
                from: self.at,
                to,
                owner_epoch: self.epoch,
            }],
            keys,
            fold: Box::new(fold),
        };
        let wrote = self.store.transact(unit).await?;
        if wrote {
            self.at = Some(to);
        }
        Ok(wrote)
    }
}

fn key_of(change: &Change) -> RowKey {
    match change {
        Change::Put(row) => {
            let parts = &row.values()[..row.table().key_columns().len()];
            let part = |value: &conveyor_processors::Value| match value {
                conveyor_processors::Value::Text(text) => text.clone().into(),
                conveyor_processors::Value::Integer(number) => (*number).into(),
                other => panic!("{other:?} in a key"),
            };
            RowKey::of(row.table().name(), parts.iter().map(part))
        }
        Change::Delete(key) => key.clone(),
    }
}
