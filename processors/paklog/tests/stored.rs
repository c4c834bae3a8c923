//! The projections in a real store: batches of several partitions, restarts in between, records that
//! nobody can read, and in the end tables that reconcile to the last unit.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use conveyor_paklog::projection::{
    Atp, InventoryMovement, KpiMinute, ObservedDecoder, OrderSla, OrderTracking, PackThroughput,
    PaklogDecoder, PickSession, TaskQueue, WaveProgress, WorkerHourly,
};
use conveyor_paklog::reconcile::{ReadModel, reconcile};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::WorkloadEvent;
use conveyor_processors::applier::{Applier, PartitionBatch};
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::{
    Decoder, Fold, Header, OwnerEpoch, Projection, Row, Source, SourceRecord, Store, TopicPartition,
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

/// The records as they stand in the log; every `poison_every`-th, if any, is followed by one that
/// nobody can read.
fn log(events: &[WorkloadEvent], poison_every: Option<usize>) -> (Log, usize) {
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
        let poison = poison_every.is_some_and(|every| number % every == 0);
        if poison && topic != Topic::Error {
            let mut unreadable = record(
                &partition,
                records.len(),
                event,
                b"{\"type\":\"?\"}".to_vec(),
            );
            // A key of its own: what comes after a record of the same key would wait behind it.
            unreadable.key = Some(format!("poison {number}").into());
            records.push(unreadable);
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
/// Returns how many were rejected, and the rows in the end.
async fn apply<P: Projection, D: Decoder<Event = P::Event>>(
    projection: P,
    decoder: D,
    log: &Log,
    path: &Path,
) -> (usize, Vec<Row>) {
    let applier = Applier::new(Arc::new(projection), Arc::new(decoder));
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
            let mut rows = Vec::new();
            for table in declaration.tables() {
                rows.extend(store.read_table(&declaration, table).await.expect("rows"));
            }
            return (sink.0.into_inner().expect("a lock").len(), rows);
        }
    }
    unreachable!("lives end when everything is applied")
}

/// The rows of the plain fold of the same records, one partition after the other.
fn folded<P: Projection, D: Decoder<Event = P::Event>>(
    projection: &P,
    decoder: &D,
    log: &Log,
) -> BTreeMap<String, Row> {
    let mut fold = Fold::new(projection);
    let sources = fold.declaration().sources().to_vec();
    let mine = log
        .iter()
        .filter(|(partition, _)| sources.contains(&partition.topic.as_ref()));
    for record in mine.flat_map(|(_, records)| records) {
        if let Ok(Some(event)) = decoder.decode(record) {
            fold.apply(&event, &record.source).expect("an event");
        }
    }
    by_key(fold.rows().into_iter().map(|(_, row)| row.clone()))
}

/// Rows by table and key.
fn by_key(rows: impl IntoIterator<Item = Row>) -> BTreeMap<String, Row> {
    let rows = rows.into_iter().map(|row| {
        let key = row.table().key_columns().len();
        let name = format!("{} {:?}", row.table().name(), &row.values()[..key]);
        (name, row)
    });
    // Clocks are kept by the applier and not by the fold.
    rows.filter(|(name, _)| !name.starts_with("order_sla_clock"))
        .collect()
}

/// Applies the log to a store, and compares with the plain fold.
async fn same_as_folded<P: Projection + Copy, D: Decoder<Event = P::Event> + Clone>(
    projection: P,
    decoder: D,
    log: &Log,
    path: &Path,
) {
    let expected = folded(&projection, &decoder, log);
    let (_, rows) = apply(projection, decoder, log, path).await;
    let found = by_key(rows);
    assert!(found.len() > 4, "{} rows only", found.len());
    for (key, row) in &expected {
        assert_eq!(found.get(key), Some(row), "{key}");
    }
    assert_eq!(found.len(), expected.len());
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
    let (log, poisoned) = log(&events, Some(40));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("read-models.sqlite");
    let mut model = ReadModel::default();
    let events = PaklogDecoder::new;
    let (by_tracking, rows) = apply(OrderTracking, events(), &log, &path).await;
    model.add_rows(&rows);
    for (_, rows) in [
        apply(Atp, events(), &log, &path).await,
        apply(InventoryMovement, events(), &log, &path).await,
        apply(WaveProgress, events(), &log, &path).await,
    ] {
        model.add_rows(&rows);
    }
    let of_other_topics = poisoned - by_tracking;
    assert!(
        by_tracking > 100 && of_other_topics > 100,
        "{by_tracking} of {poisoned} rejected"
    );
    let report = reconcile(&ledger, &model);
    assert!(report.is_reconciled(), "{report}");
    assert!(report.orders == 300 && report.records > 15_000, "{report}");
}

#[tokio::test]
async fn stored_rows_are_those_of_the_fold_through_restarts() {
    let (events, _) = run(7, 300);
    let (log, _) = log(&events, None);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("read-models.sqlite");
    let events = PaklogDecoder::new;
    same_as_folded(TaskQueue, events(), &log, &path).await;
    same_as_folded(WorkerHourly, events(), &log, &path).await;
    same_as_folded(PickSession, events(), &log, &path).await;
    same_as_folded(PackThroughput, events(), &log, &path).await;
    same_as_folded(OrderSla, events(), &log, &path).await;
    same_as_folded(KpiMinute, ObservedDecoder::new(events()), &log, &path).await;
}
