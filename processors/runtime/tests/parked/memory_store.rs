//! A store in memory that keeps the contract, and can fail before or after it has written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{
    Change, Declaration, KeyPart, Row, RowKey, Rows, Table, TopicPartition, Value,
};
use conveyor_record::Offset;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

/// What the next transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    None = 0,
    /// It is refused; nothing is written.
    Before = 1,
    /// It is written, and the answer is lost.
    After = 2,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<RowKey, Row>,
    held: BTreeMap<TopicPartition, (OwnerEpoch, Option<Offset>)>,
}

#[derive(Default)]
pub(crate) struct MemoryStore {
    inner: Mutex<Inner>,
    fault: AtomicU8,
}

impl MemoryStore {
    /// The next transaction that would write fails so.
    pub(crate) fn fail(&self, fault: Fault) {
        self.fault.store(fault as u8, Relaxed);
    }

    /// Rows of one table, in key order.
    pub(crate) fn table(&self, name: &str) -> Vec<Row> {
        let inner = self.inner.lock();
        let of_table = |(key, _): &(&RowKey, &Row)| key.table == name;
        let rows = inner.rows.iter().filter(of_table);
        rows.map(|(_, row)| row.clone()).collect()
    }

    fn write(&self, mut unit: Unit) -> Result<bool, StoreError> {
        let mut inner = self.inner.lock();
        let projection = unit.declaration.name().to_owned();
        for advance in &unit.advances {
            let held = inner.held.get(&advance.topic_partition);
            let (epoch, at) = held.copied().unwrap_or((advance.owner_epoch, None));
            let topic_partition = advance.topic_partition.clone();
            if epoch != advance.owner_epoch {
                return Err(StoreError::Fenced {
                    projection,
                    topic_partition,
                    stored: epoch,
                    offered: advance.owner_epoch,
                });
            }
            if at != advance.from {
                return Err(StoreError::NotAtPosition {
                    projection,
                    topic_partition,
                    found: at,
                    expected: advance.from,
                });
            }
        }
        let mut rows = Rows::new(&unit.declaration);
        for key in &unit.keys {
            rows.load(key.clone(), inner.rows.get(key).cloned());
        }
        let Outcome::Commit(changes) = (unit.fold)(rows) else {
            return Ok(false);
        };
        let fault = self.fault.swap(Fault::None as u8, Relaxed);
        if fault == Fault::Before as u8 {
            return Err(away());
        }
        for change in changes {
            let key = key_of(&change);
            assert!(
                unit.keys.contains(&key),
                "{key} is written and was not read"
            );
            match change {
                Change::Put(row) => inner.rows.insert(key, row),
                Change::Delete(key) => inner.rows.remove(&key),
            };
        }
        for advance in unit.advances {
            let at = (advance.owner_epoch, Some(advance.to));
            inner.held.insert(advance.topic_partition, at);
        }
        if fault == Fault::After as u8 {
            return Err(away());
        }
        Ok(true)
    }
}

fn away() -> StoreError {
    StoreError::Unavailable {
        store: "memory".to_owned(),
        reason: "asked to fail".to_owned(),
    }
}

fn key_of(change: &Change) -> RowKey {
    match change {
        Change::Delete(key) => key.clone(),
        Change::Put(row) => {
            let part = |value: &Value| -> KeyPart {
                match value {
                    Value::Text(text) => text.clone().into(),
                    Value::Integer(number) => (*number).into(),
                    other => panic!("{other:?} in a key"),
                }
            };
            let name = row.table().name();
            let parts = row.values()[..row.table().key_columns().len()].iter();
            RowKey::of(name, parts.map(part))
        }
    }
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn prepare<'a>(&'a self, _: &'a Declaration) -> BoxFuture<'a, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        _take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let mut inner = self.inner.lock();
        for partition in partitions {
            let held = inner.held.entry(partition.clone());
            held.or_insert((owner_epoch, None)).0 = owner_epoch;
        }
        drop(inner);
        self.positions(declaration)
    }

    fn transact(&self, unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move { self.write(unit) }.boxed()
    }

    fn positions<'a>(
        &'a self,
        _: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let inner = self.inner.lock();
        let position =
            |(partition, (epoch, at)): (&TopicPartition, &(OwnerEpoch, Option<Offset>))| {
                Some(Position {
                    topic_partition: partition.clone(),
                    next_offset: (*at)?,
                    owner_epoch: *epoch,
                })
            };
        let positions: Vec<_> = inner.held.iter().filter_map(position).collect();
        async move { Ok(positions) }.boxed()
    }

    fn read_table<'a>(
        &'a self,
        _: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let rows = self.table(table.name());
        async move { Ok(rows) }.boxed()
    }
}
