//! Balances, a decoder that can be mended, a log, and an owner that applies it to a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use conveyor_processors::applier::mend::Claimed;
use conveyor_processors::applier::{Applied, Applier, BatchError, PartitionBatch};
use conveyor_processors::parked::{Limits, ParkedTables};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::store::{OwnerEpoch, Store};
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, DecodeError, Decoder, ParkingFold, Projection, RowKey,
    Rows, Source, SourceRecord, Table, TopicPartition,
};
use conveyor_record::Offset;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::memory_store::MemoryStore;

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// Adds to a key's balance, and to the sum of all keys of its partition; refused below zero.
    Add { key: u8, amount: i64 },
    /// Cannot be read until the decoder is mended; adds 1 then.
    Poison { key: u8 },
    /// Cannot be read, and has no key.
    Lost,
    /// Says nothing.
    Tombstone { key: u8 },
}

pub(crate) struct Balances;

impl Projection for Balances {
    type Event = (String, i64);

    fn declaration(&self) -> Declaration {
        let table = Table::new("balance", &[("key", ColumnType::Text)])
            .column("balance", ColumnType::Integer)
            .column("records", ColumnType::Text);
        Declaration::new("balances", 1).source("t").table(table)
    }

    fn touches(&self, (key, _): &Self::Event, source: &Source) -> Vec<RowKey> {
        vec![RowKey::new("balance", key), sum_key(source)]
    }

    fn apply(
        &self,
        (key, amount): &Self::Event,
        source: &Source,
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        let row = rows.edit(&RowKey::new("balance", key))?;
        row.increment("balance", *amount);
        let records = format!("{} {}", row.text("records").unwrap_or_default(), source);
        row.set("records", records);
        if row.integer("balance") < 0 {
            return Err(ApplyError::record(format!("{key} below zero")));
        }
        // Keys meet in this row, so that what a parked key leaves out shows elsewhere.
        let sum = rows.edit(&sum_key(source))?;
        sum.increment("balance", *amount);
        if sum.integer("balance") > 60 {
            return Err(ApplyError::record("too much in all"));
        }
        Ok(())
    }
}

fn sum_key(source: &Source) -> RowKey {
    RowKey::new("balance", format!("sum of {}", source.partition))
}

#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) mended: AtomicBool,
}

impl Decoder for Reader {
    type Event = (String, i64);

    fn decode(&self, record: &SourceRecord) -> Result<Option<Self::Event>, DecodeError> {
        let Some(value) = &record.value else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(value);
        let (key, amount) = text.split_once(' ').unwrap_or(("lost", "?"));
        let amount = match amount.parse() {
            Ok(amount) => amount,
            Err(_) if self.mended.load(Relaxed) && key != "lost" => 1,
            Err(_) => return Err(DecodeError::new("test.NoAmount", "no amount")),
        };
        Ok(Some((key.to_owned(), amount)))
    }
}

/// A log that lies in memory.
pub(crate) struct Log(Vec<Vec<SourceRecord>>);

impl Log {
    pub(crate) fn new(partitions: &[Vec<Entry>]) -> Self {
        let record = |partition: usize, offset: usize, entry: &Entry| {
            let (key, value) = match entry {
                Entry::Add { key, amount } => {
                    (Some(*key), Some(format!("{partition}/{key} {amount}")))
                }
                Entry::Poison { key } => (Some(*key), Some(format!("{partition}/{key} ?"))),
                Entry::Lost => (None, Some("?".to_owned())),
                Entry::Tombstone { key } => (Some(*key), None),
            };
            SourceRecord {
                source: Source {
                    topic: "t".into(),
                    partition: partition as i32,
                    offset: Offset(offset as i64),
                    timestamp_ms: offset as i64,
                },
                key: key.map(|key| vec![key, 0xff].into()),
                value: value.map(Into::into),
                headers: Vec::new(),
            }
        };
        let records = |(partition, entries): (usize, &Vec<Entry>)| {
            let entries = entries.iter().enumerate();
            entries
                .map(|(offset, entry)| record(partition, offset, entry))
                .collect()
        };
        Self(partitions.iter().enumerate().map(records).collect())
    }

    pub(crate) fn partition(number: usize) -> TopicPartition {
        TopicPartition::new("t", number as i32)
    }

    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        (0..self.0.len()).map(Self::partition).collect()
    }

    pub(crate) fn records(&self, partition: &TopicPartition) -> &[SourceRecord] {
        &self.0[partition.partition as usize]
    }
}

/// Remembers what was published, with its attempts; can be told to fail.
#[derive(Default)]
pub(crate) struct ErrorTopic {
    pub(crate) records: Mutex<Vec<(TopicPartition, Offset)>>,
    pub(crate) failures_left: AtomicU32,
}

impl RejectedSink for ErrorTopic {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        let counted = self
            .failures_left
            .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        async move {
            if counted.is_ok() {
                return Err(PublishError {
                    count: rejected.len(),
                    topic: "error-events".to_owned(),
                    reason: "down".to_owned(),
                    retriable: true,
                });
            }
            let place = |r: &Rejected| (r.record.topic_partition(), r.record.source.offset);
            self.records.lock().extend(rejected.iter().map(place));
            Ok(())
        }
        .boxed()
    }
}

/// An instance at work on all partitions, and the reference beside it.
pub(crate) struct World<'w> {
    pub(crate) log: &'w Log,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) errors: ErrorTopic,
    pub(crate) reader: Arc<Reader>,
    pub(crate) applier: Applier<Balances, Reader>,
    pub(crate) epoch: OwnerEpoch,
    limits: Limits,
}

impl<'w> World<'w> {
    pub(crate) fn new(log: &'w Log, limits: Limits) -> Self {
        let reader = Arc::new(Reader::default());
        let mut world = Self {
            log,
            store: Arc::default(),
            errors: ErrorTopic::default(),
            applier: Applier::new(Arc::new(Balances), Arc::clone(&reader)),
            reader,
            epoch: OwnerEpoch(0),
            limits,
        };
        world.restart();
        world
    }

    /// Another instance: it knows only what the store holds.
    pub(crate) fn restart(&mut self) {
        let applier = Applier::new(Arc::new(Balances), Arc::clone(&self.reader));
        self.applier = applier.with_limits(self.limits);
        self.epoch.0 += 1;
        let partitions = self.log.partitions();
        let declaration = self.applier.declaration();
        now(self
            .store
            .claim(declaration, self.epoch, &partitions, false))
        .unwrap();
    }

    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let positions = now(self.store.positions(self.applier.declaration())).unwrap();
        let found = positions
            .into_iter()
            .find(|p| p.topic_partition == *partition);
        found.map(|p| p.next_offset)
    }

    pub(crate) fn claimed(&self, partition: &TopicPartition) -> Claimed {
        Claimed {
            topic_partition: partition.clone(),
            position: self.position(partition).unwrap(),
            owner_epoch: self.epoch,
        }
    }

    /// One batch of at most that many records of each partition.
    pub(crate) fn apply(&self, records_max: usize) -> Result<Applied, BatchError> {
        let batches = self
            .log
            .partitions()
            .into_iter()
            .filter_map(|topic_partition| {
                let from = self.position(&topic_partition);
                let start = from.map_or(0, |from| from.value() as usize);
                let records = self.log.records(&topic_partition).get(start..)?;
                let records: Vec<_> = records.iter().take(records_max).cloned().collect();
                Some(PartitionBatch {
                    to: records.last()?.source.offset.next(),
                    topic_partition,
                    from,
                    owner_epoch: self.epoch,
                    records,
                })
            });
        let batches: Vec<_> = batches.collect();
        if batches.is_empty() {
            return Ok(Applied::default());
        }
        let mut batch = self.applier.decode(batches);
        loop {
            match now(self.applier.commit(&mut batch, &*self.store, &self.errors)) {
                Err(BatchError::Publish(_)) => {}
                settled => return settled,
            }
        }
    }

    /// Heads of the parked keys, in order: where each was parked, and where its head stands.
    pub(crate) fn parked(&self) -> Vec<(TopicPartition, Offset, Offset)> {
        let tables = ParkedTables::of("balances");
        let rows = self.store.table(tables.keys_table());
        let key = |row| {
            let (partition, key) = tables.read_key(row).unwrap();
            (partition, key.parked_at, key.head())
        };
        rows.iter().map(key).collect()
    }

    /// The store holds what the reference holds, and the instance knows what the store holds.
    pub(crate) fn assert_is(&self, reference: &ParkingFold<'_, Balances, Reader>) {
        let tables = ParkedTables::of("balances");
        let rows = self.store.table("balance");
        let expected = reference.fold().rows();
        assert_eq!(
            rows,
            expected
                .into_iter()
                .map(|(_, row)| row.clone())
                .collect::<Vec<_>>()
        );

        let waiting = self.store.table(tables.records_table());
        let waiting: Vec<_> = waiting
            .iter()
            .map(|row| tables.read_record(row).unwrap().0)
            .collect();
        let mut expected: Vec<_> = reference.parked().values().flatten().cloned().collect();
        expected.sort_by(|left, right| left.source.cmp(&right.source));
        assert_eq!(waiting, expected);

        for row in &self.store.table(tables.keys_table()) {
            let (partition, key) = tables.read_key(row).unwrap();
            let name = (partition, key.name.clone());
            let queue = reference.parked()[&name].iter().map(|r| r.source.offset);
            assert_eq!(key.queue, queue.collect::<Vec<_>>(), "{name:?}");
            let known = self.applier.parked().of(&name.0);
            if let Some(known) = known {
                assert_eq!(known.get(&name.1).map(|known| &**known), Some(&key));
            }
        }
        for record in reference
            .parked()
            .values()
            .filter_map(|queue| queue.first())
        {
            let place = (record.topic_partition(), record.source.offset);
            let is_head_again = self
                .parked()
                .iter()
                .any(|(p, _, head)| (p, head) == (&place.0, &place.1));
            assert!(is_head_again);
        }
    }
}

/// Nothing here ever waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for something")
}
