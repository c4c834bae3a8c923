//! A read model in memory: the plain folds of all projections, and how they are read.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_paklog::event::Event;
use conveyor_paklog::projection::{
    Atp, DeadLetter, DeadLetters, InventoryMovement, KpiMinute, Observed, OrderSla, OrderTracking,
    PackThroughput, PickSession, SlaDue, TaskQueue, WaveProgress, WorkerHourly,
};
use conveyor_paklog::reconcile::ReadModel;
use conveyor_paklog::topics::Topic;
use conveyor_processors::table::Row;
use conveyor_processors::{Fold, Projection, Source, SourceRecord};

use super::support::read;
use conveyor_paklog::workload::WorkloadEvent;

/// An event as it was read from its partition.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) topic: Topic,
    pub(crate) source: Source,
    pub(crate) event: Arc<Event>,
    pub(crate) raw: Arc<SourceRecord>,
}

/// Spreads events over partitions as a producer would (any hash that is the same for a key will do)
/// and reads them back, in the order in which they were made.
pub(crate) fn records(events: &[WorkloadEvent]) -> Vec<Record> {
    let mut next_offsets = BTreeMap::<(Topic, i32), i64>::new();
    events
        .iter()
        .map(|event| {
            let mut hash = super::support::Fingerprint::new();
            hash.add(event.key.as_bytes());
            let topic = event.topic();
            let partition = (hash.0 % u64::from(topic.partitions())) as i32;
            let next = next_offsets.entry((topic, partition)).or_default();
            let source = Source {
                topic: topic.name().into(),
                partition,
                offset: (*next).into(),
                timestamp_ms: event.event_time_ms,
            };
            *next += 1;
            let raw = SourceRecord {
                source: source.clone(),
                key: Some(event.key.clone().into()),
                value: Some(event.value.clone().into()),
                headers: Vec::new(),
            };
            Record {
                topic,
                source,
                event: Arc::new(read(event)),
                raw: Arc::new(raw),
            }
        })
        .collect()
}

/// The rows of a projection after these records, those of its topics only.
pub(crate) fn fold<P: Projection<Event = Event>>(
    projection: &P,
    records: &[Record],
) -> (Vec<Row>, BTreeMap<(String, Topic), u64>) {
    fold_of(projection, records, |record| Arc::clone(&record.event))
}

/// [`fold`] for a projection that reads records in its own way.
pub(crate) fn fold_of<P: Projection, E: Borrow<P::Event>>(
    projection: &P,
    records: &[Record],
    read: impl Fn(&Record) -> E,
) -> (Vec<Row>, BTreeMap<(String, Topic), u64>) {
    let mut fold = Fold::new(projection);
    let declaration = projection.declaration();
    let mut applied = BTreeMap::new();
    for record in records {
        if declaration.sources().contains(&record.topic.name()) {
            fold.apply(read(record).borrow(), &record.source)
                .expect("the workload's events can be applied");
            *applied
                .entry((declaration.name().to_owned(), record.topic))
                .or_default() += 1;
        }
    }
    (rows_of(&fold), applied)
}

/// All rows of a fold.
pub(crate) fn rows_of<P: Projection>(fold: &Fold<'_, P>) -> Vec<Row> {
    let rows = fold.rows().into_iter();
    rows.map(|(_, row)| row.clone()).collect()
}

/// A record as `kpi_minute` reads it.
pub(crate) fn observed(record: &Record) -> Observed {
    if record.topic == Topic::Error {
        Observed::Failure(Box::new(DeadLetter::of(&record.raw)))
    } else {
        Observed::Event(Box::new((*record.event).clone()))
    }
}

/// A record as `dead_letters` reads it.
pub(crate) fn dead_letter(record: &Record) -> DeadLetter {
    DeadLetter::of(&record.raw)
}

/// All rows of all projections, to compare two read models as a whole.
pub(crate) fn all_rows(records: &[Record]) -> [Vec<Row>; 12] {
    [
        fold(&OrderTracking, records).0,
        fold(&Atp, records).0,
        fold(&InventoryMovement, records).0,
        fold(&WaveProgress, records).0,
        fold(&TaskQueue, records).0,
        fold(&WorkerHourly, records).0,
        fold(&PickSession, records).0,
        fold(&PackThroughput, records).0,
        fold(&OrderSla, records).0,
        fold(&SlaDue, records).0,
        fold_of(&DeadLetters, records, dead_letter).0,
        fold_of(&KpiMinute, records, observed).0,
    ]
}

/// The read model as a reconciliation sees it.
pub(crate) fn read_model(records: &[Record]) -> ReadModel {
    let mut model = ReadModel::default();
    let folds = [
        fold(&OrderTracking, records),
        fold(&Atp, records),
        fold(&InventoryMovement, records),
        fold(&WaveProgress, records),
    ];
    for (rows, applied) in folds {
        model.add_rows(&rows);
        model.applied.extend(applied);
    }
    model
}
