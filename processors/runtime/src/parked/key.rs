//! Parked keys in memory: what the owner of a partition must know to sort the next record.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_record::Offset;
use parking_lot::Mutex;

use crate::record::{SourceRecord, TopicPartition};

/// What parks together within a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyName {
    /// All records of this key.
    Key(Bytes),
    /// The record at this offset, which has no key.
    Alone(Offset),
}

impl KeyName {
    /// What a record would park.
    pub fn of(record: &SourceRecord) -> Self {
        match &record.key {
            Some(key) => Self::Key(key.clone()),
            None => Self::Alone(record.source.offset),
        }
    }

    /// The key of its records, if they have one.
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Key(key) => Some(key),
            Self::Alone(_) => None,
        }
    }
}

/// For people: text where the key is text.
impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(&String::from_utf8_lossy(key)),
            Self::Alone(_) => f.write_str("(no key)"),
        }
    }
}

/// Why a record could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of error, for programs: `conveyor.decode.NoType`.
    pub error_name: String,
    /// What is wrong, for people.
    pub reason: String,
}

/// A key whose records wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedKey {
    /// Which key.
    pub name: KeyName,
    /// The offset that parked it; stays the same however often it is redriven.
    pub parked_at: Offset,
    /// Why the head could not be applied.
    pub failure: Failure,
    /// How often the head was tried; 0 if not yet.
    pub attempts: u32,
    /// Timestamp of the record that parked it, ms since the Unix epoch.
    pub since_ms: i64,
    /// What waits, in order; never empty.
    pub queue: Vec<Offset>,
}

impl ParkedKey {
    /// The record that could not be applied, or is to be tried next.
    pub fn head(&self) -> Offset {
        self.queue.first().copied().unwrap_or(self.parked_at)
    }
}

/// The parked keys of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionKeys {
    keys: BTreeMap<KeyName, Arc<ParkedKey>>,
    records: usize,
}

impl PartitionKeys {
    /// How many keys are parked.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many records wait.
    pub const fn records(&self) -> usize {
        self.records
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The parked key of that name.
    pub fn get(&self, name: &KeyName) -> Option<&Arc<ParkedKey>> {
        self.keys.get(name)
    }

    /// The key that was parked at that offset.
    pub fn find(&self, parked_at: Offset) -> Option<&Arc<ParkedKey>> {
        self.keys.values().find(|key| key.parked_at == parked_at)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ParkedKey>> {
        self.keys.values()
    }

    /// A key is as given now; one with an empty queue is parked no longer.
    pub(crate) fn put(&mut self, key: ParkedKey) {
        let waits = key.queue.len();
        let before = if key.queue.is_empty() {
            self.keys.remove(&key.name)
        } else {
            self.keys.insert(key.name.clone(), Arc::new(key))
        };
        self.records = self.records + waits - before.map_or(0, |key| key.queue.len());
    }
}

/// The parked keys of all partitions that an instance has looked at. Cheap to clone: all clones are
/// the same.
#[derive(Clone, Debug, Default)]
pub struct ParkedKeys {
    partitions: Arc<Mutex<BTreeMap<TopicPartition, Arc<PartitionKeys>>>>,
}

impl ParkedKeys {
    /// What is parked in a partition; `None`: not looked at yet.
    pub fn of(&self, partition: &TopicPartition) -> Option<Arc<PartitionKeys>> {
        self.partitions.lock().get(partition).cloned()
    }

    /// Forgets partitions: somebody else may own them, or may have owned them since.
    pub fn forget<'p>(&self, partitions: impl IntoIterator<Item = &'p TopicPartition>) {
        let mut known = self.partitions.lock();
        for partition in partitions {
            known.remove(partition);
        }
    }

    /// Keys and records that wait in the partitions that were looked at.
    pub fn counts(&self) -> (usize, usize) {
        let known = self.partitions.lock();
        let sum = |(keys, records), partition: &Arc<PartitionKeys>| {
            (keys + partition.keys(), records + partition.records())
        };
        known.values().fold((0, 0), sum)
    }

    /// Tells what the store holds.
    pub(crate) fn learn(&self, partition: TopicPartition, keys: PartitionKeys) {
        self.partitions.lock().insert(partition, Arc::new(keys));
    }

    /// A transaction has written these.
    pub(crate) fn put(
        &self,
        partition: &TopicPartition,
        changed: impl IntoIterator<Item = ParkedKey>,
    ) {
        let mut known = self.partitions.lock();
        let keys = Arc::make_mut(known.entry(partition.clone()).or_default());
        changed.into_iter().for_each(|key| keys.put(key));
    }
}
