//! The projections in a real store: batches of several partitions, restarts in between, records that
//! nobody can read, and in the end tables that reconcile to the last unit.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use conveyor_paklog::projection::{
    Atp, InventoryMovement, OrderTracking, PaklogDecoder, WaveProgress,
};
use conveyor_paklog::reconcile::{ReadModel, reconcile};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::WorkloadEvent;
use conveyor_processors::applier::{Applier, PartitionBatch};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::{
    Header, OwnerEpoch, Projection, Source, SourceRecord, Store, TopicPartition,
};
use conveyor_stores::SqliteStore;
use futures::future::BoxFuture;
use support::{Fingerprint, run};

/// Records of one partition that a batch takes.
const BATCH_RECORDS: usize = 100;
/// Batches after which the store is closed and opened again.
const RESTART_EVERY: usize = 5;

type Log = BTreeMap<TopicPartition, Vec<SourceRecord>>;

/// Keeps what was rejected.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Rejected>>);

impl RejectedSink for Kept {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        self.0.lock().expect("a lock").extend_from_slice(rejected);
        Box::pin(async { Ok(()) })
    }
}

/// The records as they stand in the log; every `poison_every`-th is followed by one that nobody can
/// read.
fn log(events: &[WorkloadEvent], poison_every: usize) -> (Log, usize) {
    let (mut log, mut poisoned) = (Log::new(), 0);
    for (number, event) in events.iter().enumerate() {
        let mut hash = Fingerprint::new();
        hash.add(event.key.as_bytes());
        let topic = event.topic();
        let partition = (hash.0 % u64::from(topic.partitions())) as i32;
        let partition = TopicPartition::new(topic.name(), partition);
        let records = log.entry(partition.clone()).or_default();
        records.push(record(
            &partition,
            records.len(),
            event,
            event.value.clone(),
        ));
        if number % poison_every == 0 && topic != Topic::Error {
            records.push(record(
                &partition,
                records.len(),
                event,
                b"{\"type\":\"?\"}".to_vec(),
            ));
            poisoned += 1;
        }
    }
    (log, poisoned)
}

fn record(
    at: &TopicPartition,
    offset: usize,
    event: &WorkloadEvent,
    value: Vec<u8>,
) -> SourceRecord {
    let header = |(key, value): (&str, &'static str)| Header {
        key: key.to_owned(),
        value: Some(Bytes::from_static(value.as_bytes())),
    };
    let headers = if value.starts_with(b"{\"spec") {
        WorkloadEvent::HEADERS.into_iter().map(header).collect()
    } else {
        Vec::new()
    };
    SourceRecord {
        source: Source {
            topic: Arc::clone(&at.topic),
            partition: at.partition,
            offset: (offset as i64).into(),
            timestamp_ms: event.event_time_ms,
        },
        key: Some(event.key.clone().into()),
        value: Some(value.into()),
        headers,
    }
}

/// Applies the whole log, a few partitions in each transaction, starting again now and then.
/// Returns what was rejected, by topic.
async fn apply<P: Projection<Event = conveyor_paklog::event::Event>>(
    projection: P,
    log: &Log,
    path: &Path,
    model: &mut ReadModel,
) -> usize {
    let applier = Applier::new(Arc::new(projection), Arc::new(PaklogDecoder::new()));
    let declaration = Arc::clone(applier.declaration());
    let sources = declaration.sources();
    let mine: Log = log
        .iter()
        .filter(|(partition, _)| sources.contains(&partition.topic.as_ref()))
        .map(|(partition, records)| (partition.clone(), records.clone()))
        .collect();
    let partitions: Vec<TopicPartition> = mine.keys().cloned().collect();
    let sink = Kept::default();
    for life in 1.. {
        let store = SqliteStore::open(path).expect("a store");
        store.prepare(&declaration).await.expect("tables");
        let epoch = OwnerEpoch(life);
        let known = store
            .claim(&declaration, epoch, &partitions, false)
            .await
            .expect("a claim");
        let mut positions: BTreeMap<TopicPartition, i64> = known
            .into_iter()
            .map(|position| (position.topic_partition, position.next_offset.value()))
            .collect();
        let mut ended = true;
        for batch in 0..RESTART_EVERY {
            let parts: Vec<PartitionBatch> = mine
                .iter()
                .skip(batch % 3)
                .step_by(3)
                .filter_map(|(partition, records)| next_part(partition, records, &positions, epoch))
                .collect();
            for part in &parts {
                positions.insert(part.topic_partition.clone(), part.to.value());
            }
            if !parts.is_empty() {
                ended = false;
                let mut batch = applier.decode(parts);
                applier
                    .commit(&mut batch, &store, &sink)
                    .await
                    .expect("a transaction");
            }
        }
        if ended {
            assert!(life > 3, "the store was opened {life} times only");
            for table in declaration.tables() {
                model.add_rows(&store.read_table(&declaration, table).await.expect("rows"));
            }
            break;
        }
    }
    sink.0.into_inner().expect("a lock").len()
}

fn next_part(
    partition: &TopicPartition,
    records: &[SourceRecord],
    positions: &BTreeMap<TopicPartition, i64>,
    owner_epoch: OwnerEpoch,
) -> Option<PartitionBatch> {
    let from = positions.get(partition).copied();
    let start = from.unwrap_or(0) as usize;
    let end = records.len().min(start + BATCH_RECORDS);
    (start < end).then(|| PartitionBatch {
        topic_partition: partition.clone(),
        from: from.map(Into::into),
        to: (end as i64).into(),
        owner_epoch,
        records: records[start..end].to_vec(),
    })
}

#[tokio::test]
async fn stored_read_models_reconcile_through_restarts_and_poison() {
    let (events, ledger) = run(6, 300);
    let (log, poisoned) = log(&events, 40);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("read-models.sqlite");
    let mut model = ReadModel::default();
    let by_tracking = apply(OrderTracking, &log, &path, &mut model).await;
    apply(Atp, &log, &path, &mut model).await;
    apply(InventoryMovement, &log, &path, &mut model).await;
    apply(WaveProgress, &log, &path, &mut model).await;
    let of_other_topics = poisoned - by_tracking;
    assert!(
        by_tracking > 100 && of_other_topics > 100,
        "{by_tracking} of {poisoned} rejected"
    );
    let report = reconcile(&ledger, &model);
    assert!(report.is_reconciled(), "{report}");
    assert!(report.orders == 300 && report.records > 15_000, "{report}");
}
