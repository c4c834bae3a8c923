//! A read model in memory: the plain folds of the four projections, and how they are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_paklog::event::Event;
use conveyor_paklog::projection::{Atp, InventoryMovement, OrderTracking, WaveProgress};
use conveyor_paklog::reconcile::{MovementSum, ReadModel, StockRow, TrackedOrder, WaveRow};
use conveyor_paklog::topics::Topic;
use conveyor_processors::table::Row;
use conveyor_processors::{Fold, Projection, Source};

use super::support::read;
use conveyor_paklog::workload::WorkloadEvent;

/// An event as it was read from its partition.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) topic: Topic,
    pub(crate) source: Source,
    pub(crate) event: Arc<Event>,
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
            Record {
                topic,
                source,
                event: Arc::new(read(event)),
            }
        })
        .collect()
}

/// The rows of a projection after these records, those of its topics only.
pub(crate) fn fold<P: Projection<Event = Event>>(
    projection: &P,
    records: &[Record],
) -> (Vec<Row>, BTreeMap<(String, Topic), u64>) {
    let mut fold = Fold::new(projection);
    let declaration = projection.declaration();
    let mut applied = BTreeMap::new();
    for record in records {
        if declaration.sources().contains(&record.topic.name()) {
            fold.apply(&record.event, &record.source)
                .expect("the workload's events can be applied");
            *applied
                .entry((declaration.name().to_owned(), record.topic))
                .or_default() += 1;
        }
    }
    let rows = fold
        .rows()
        .into_iter()
        .map(|(_, row)| row.clone())
        .collect();
    (rows, applied)
}

/// All rows of all projections, to compare two read models as a whole.
pub(crate) fn all_rows(records: &[Record]) -> [Vec<Row>; 4] {
    [
        fold(&OrderTracking, records).0,
        fold(&Atp, records).0,
        fold(&InventoryMovement, records).0,
        fold(&WaveProgress, records).0,
    ]
}

/// The read model as a reconciliation sees it.
pub(crate) fn read_model(records: &[Record]) -> ReadModel {
    let (orders, mut applied) = fold(&OrderTracking, records);
    let (stock, by_atp) = fold(&Atp, records);
    let (movements, by_movement) = fold(&InventoryMovement, records);
    let (waves, by_wave) = fold(&WaveProgress, records);
    for more in [by_atp, by_movement, by_wave] {
        applied.extend(more);
    }
    let mut model = ReadModel {
        applied,
        ..ReadModel::default()
    };
    for row in &orders {
        model.orders.insert(text(row, "order_id"), tracked(row));
    }
    for row in &stock {
        model.stock.insert(text(row, "sku"), stock_row(row));
    }
    for row in &movements {
        let sum: &mut MovementSum = model.movements.entry(text(row, "sku")).or_default();
        sum.movements += 1;
        sum.on_hand += row.integer("on_hand_delta");
        sum.allocated += row.integer("allocated_delta");
    }
    for row in waves
        .iter()
        .filter(|row| row.table().name() == "wave_progress")
    {
        model.waves.insert(text(row, "wave_id"), wave_row(row));
    }
    model
}

fn text(row: &Row, column: &str) -> String {
    row.text(column).unwrap_or_default().to_owned()
}

fn tracked(row: &Row) -> TrackedOrder {
    TrackedOrder {
        stage: text(row, "stage"),
        wave_id: row.text("wave_id").map(str::to_owned),
        total_lines: row.integer("total_lines"),
        total_units: row.integer("total_units"),
        allocated_lines: row.integer("allocated_lines"),
        picked_lines: row.integer("picked_lines"),
        short_lines: row.integer("short_lines"),
        picked_units: row.integer("picked_units"),
        open_tasks: row.integer("open_tasks"),
    }
}

fn stock_row(row: &Row) -> StockRow {
    StockRow {
        on_hand: row.integer("on_hand"),
        allocated: row.integer("allocated"),
        atp: row.integer("atp"),
        gaps: row.integer("gaps"),
    }
}

fn wave_row(row: &Row) -> WaveRow {
    WaveRow {
        status: text(row, "status"),
        total_orders: row.integer("total_orders"),
        completed_orders: row.integer("completed_orders"),
        open_orders: row.integer("pending_orders") + row.integer("in_progress_orders"),
        total_lines: row.integer("total_lines"),
        picked_lines: row.integer("picked_lines"),
        short_lines: row.integer("short_lines"),
        open_tasks: row.integer("open_pick_tasks") + row.integer("open_pack_tasks"),
    }
}
