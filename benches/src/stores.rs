//! Projections applied to a store, beside the store's own client that is given the same rows in the
//! same transactions and nothing else to do: no positions, no fences, no reading before writing.

pub mod bare;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use conveyor_paklog::workload::{OrderLines, Settings, Workload, WorkloadEvent};
use conveyor_processors::applier::{Applier, PartitionBatch};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{
    Change, Declaration, Decoder, Header, Projection, Row, Source, SourceRecord, Table,
    TopicPartition,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;

/// Records of one transaction, as the driver takes them.
pub const BATCH_RECORDS: usize = 2_048;

const ORDERS: &[u8] = include_bytes!("../../processors/paklog/fixtures/orders-store-367.csv.gz");

/// The events of some real orders as they stand in the log's partitions.
#[derive(Debug)]
pub struct Corpus {
    records: Vec<SourceRecord>,
}

impl Corpus {
    /// What follows from the first `orders` orders of the built-in year.
    pub fn of_orders(orders: usize) -> Result<Self> {
        let lines = OrderLines::new(ORDERS)?.take(orders);
        let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let mut records = Vec::new();
        for event in Workload::new(lines, Settings::default()) {
            let event = event?;
            let topic = event.topic();
            let place = event.key.bytes().fold(0u32, |hash, byte| {
                hash.wrapping_mul(31).wrapping_add(u32::from(byte))
            });
            let partition = (place % topic.partitions()) as i32;
            let partition = TopicPartition::new(topic.name(), partition);
            let end = ends.entry(partition.clone()).or_default();
            records.push(record(&partition, *end, event));
            *end += 1;
        }
        Ok(Self { records })
    }

    /// The records that a projection reads, cut into transactions.
    fn batches(&self, declaration: &Declaration) -> Vec<Vec<PartitionBatch>> {
        let mine = |record: &&SourceRecord| {
            let sources = declaration.sources();
            sources
                .iter()
                .any(|source| **source == *record.source.topic)
        };
        let mine: Vec<_> = self.records.iter().filter(mine).collect();
        let mut from: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        mine.chunks(BATCH_RECORDS)
            .map(|chunk| {
                let mut parts: BTreeMap<TopicPartition, Vec<SourceRecord>> = BTreeMap::new();
                for record in chunk {
                    let part = parts.entry(record.topic_partition()).or_default();
                    part.push((*record).clone());
                }
                let part = |(topic_partition, records): (TopicPartition, Vec<_>)| {
                    let before = from.get(&topic_partition).copied();
                    let to = before.unwrap_or(0) + records.len() as i64;
                    from.insert(topic_partition.clone(), to);
                    PartitionBatch {
                        topic_partition,
                        from: before.map(Into::into),
                        to: to.into(),
                        owner_epoch: OwnerEpoch(1),
                        records,
                    }
                };
                parts.into_iter().map(part).collect()
            })
            .collect()
    }
}

fn record(at: &TopicPartition, offset: i64, event: WorkloadEvent) -> SourceRecord {
    let header = |(key, value): (&str, &'static str)| Header {
        key: key.to_owned(),
        value: Some(Bytes::from_static(value.as_bytes())),
    };
    SourceRecord {
        source: Source {
            topic: Arc::clone(&at.topic),
            partition: at.partition,
            offset: offset.into(),
            timestamp_ms: event.event_time_ms,
        },
        key: Some(event.key.into()),
        value: Some(event.value.into()),
        headers: WorkloadEvent::HEADERS.into_iter().map(header).collect(),
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Applied {
    /// Events that were applied.
    pub events: u64,
    /// The rows of each transaction.
    pub written: Vec<Vec<Row>>,
    /// Decoding, loading, folding, writing, committing.
    pub took: Duration,
}

/// Applies everything that a projection reads.
pub async fn apply<P, D>(
    projection: P,
    decoder: Arc<D>,
    corpus: &Corpus,
    store: Arc<dyn Store>,
) -> Result<Applied>
where
    P: Projection,
    D: Decoder<Event = P::Event>,
{
    let applier = Applier::new(Arc::new(projection), decoder);
    let declaration = applier.declaration();
    store.prepare(declaration).await?;
    let batches = corpus.batches(declaration);
    let mut partitions: Vec<_> = batches
        .iter()
        .flatten()
        .map(|p| p.topic_partition.clone())
        .collect();
    partitions.sort();
    partitions.dedup();
    store
        .claim(declaration, OwnerEpoch(1), &partitions, false)
        .await?;
    let store = Recording {
        store,
        written: Arc::default(),
    };
    let mut events = 0;
    let begun = Instant::now();
    for batch in batches {
        let mut batch = applier.decode(batch);
        events += applier
            .commit(&mut batch, &store, &Nowhere)
            .await?
            .records_applied;
    }
    let took = begun.elapsed();
    let written = std::mem::take(&mut *store.written.lock());
    Ok(Applied {
        events,
        written,
        took,
    })
}

/// No record of the workload is rejected.
struct Nowhere;

impl RejectedSink for Nowhere {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        let error = PublishError {
            count: rejected.len(),
            topic: "error-events".to_owned(),
            reason: "the workload should have no such record".to_owned(),
            retriable: false,
        };
        Box::pin(async { Err(error) })
    }
}

/// Remembers the rows of each transaction.
struct Recording {
    store: Arc<dyn Store>,
    written: Arc<Mutex<Vec<Vec<Row>>>>,
}

impl Store for Recording {
    fn transact(&self, mut unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (written, mut fold) = (Arc::clone(&self.written), unit.fold);
        unit.fold = Box::new(move |rows| {
            let outcome = fold(rows);
            if let Outcome::Commit(changes) = &outcome {
                let row = |change: &Change| match change {
                    Change::Put(row) => Some(row.clone()),
                    Change::Delete(_) => None,
                };
                written
                    .lock()
                    .push(changes.iter().filter_map(row).collect());
            }
            outcome
        });
        self.store.transact(unit)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }

    fn prepare<'a>(&'a self, of: &'a Declaration) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.prepare(of)
    }

    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        self.store
            .claim(declaration, owner_epoch, partitions, take_over)
    }

    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        self.store.positions(declaration)
    }

    fn read_table<'a>(
        &'a self,
        declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.store.read_table(declaration, table)
    }
}
