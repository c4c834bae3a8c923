//! Projections against the workload's books, and against every order in which records may be read.

#[path = "support/read_model.rs"]
mod read_model;
mod support;

use std::collections::{BTreeMap, VecDeque};

use conveyor_paklog::event::Payload;
use conveyor_paklog::reconcile::reconcile;
use conveyor_paklog::state::OrderStage;
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::{Ledger, Rates, Settings, WorkloadEvent};
use proptest::prelude::*;
use read_model::{Record, all_rows, fold, read_model, records};
use support::{read, run, run_with};

/// Nearly everything goes wrong.
fn bad_days() -> Rates {
    Rates {
        cancelled_early: 150_000,
        cancelled_late: 300_000,
        invalid: 50_000,
        short_picks: 250_000,
        qc_failed: 300_000,
        carton_failed: 200_000,
        shrinkage: 300_000,
    }
}

fn bad_run(seed: u64, orders: usize) -> (Vec<WorkloadEvent>, Ledger) {
    run_with(
        Settings {
            seed,
            rates: bad_days(),
            ..Settings::default()
        },
        orders,
    )
}

/// A consumer that reads the partitions in any order, each of them in its own: `choices` says which
/// partition is read next, and how much of it.
fn interleaved(records: &[Record], choices: &[(usize, usize)]) -> Vec<Record> {
    let mut partitions = BTreeMap::<(Topic, i32), VecDeque<Record>>::new();
    for record in records {
        let partition = (record.topic, record.source.partition);
        partitions
            .entry(partition)
            .or_default()
            .push_back(record.clone());
    }
    let mut partitions: Vec<_> = partitions.into_values().collect();
    let mut read = Vec::with_capacity(records.len());
    let mut choices = choices.iter().cycle();
    while !partitions.is_empty() {
        let (which, count) = *choices.next().expect("some choices");
        let which = which % partitions.len();
        let partition = &mut partitions[which];
        let count = count.min(partition.len());
        read.extend(partition.drain(..count));
        if partition.is_empty() {
            partitions.remove(which);
        }
    }
    read
}

#[test]
fn a_year_of_orders_reconciles_to_the_last_unit() {
    let (events, ledger) = run(1, usize::MAX);
    let model = read_model(&records(&events));
    let report = reconcile(&ledger, &model);
    assert!(report.is_reconciled(), "{report}");
    assert_eq!(report.orders, 3556);
    assert!(
        report.records > 250_000 && report.movements > 80_000,
        "{report}"
    );
}

#[test]
fn bad_days_reconcile_too_and_everything_that_can_go_wrong_does() {
    let (events, ledger) = bad_run(5, 400);
    let report = reconcile(&ledger, &read_model(&records(&events)));
    assert!(report.is_reconciled(), "{report}");
    for name in [
        "fulfillment.order.cancelled",
        "fulfillment.order.invalidated",
        "fulfillment.order.partially-accepted",
        "fulfillment.order.stock-unavailable",
        "task-execution.task.cancelled",
        "pick-execution.pick-session.cancelled",
        "pick-execution.pick.short",
        "cartonization.cartonization.failed",
    ] {
        let mut types = ledger.events_by_type().keys();
        assert!(
            types.any(|event_type| event_type.name().contains(name)),
            "{name} never happened"
        );
    }
}

#[test]
fn a_lost_a_doubled_and_a_changed_record_are_each_noticed() {
    let (events, ledger) = run(3, 60);
    let records = records(&events);
    let is_reconciled =
        |records: &[Record]| reconcile(&ledger, &read_model(records)).is_reconciled();
    assert!(is_reconciled(&records));
    let topics = Topic::ALL
        .into_iter()
        .filter(|topic| *topic != Topic::Error);
    for topic in topics {
        let at = records
            .iter()
            .rposition(|record| record.topic == topic)
            .expect("a record");
        let mut lost = records.clone();
        lost.remove(at);
        assert!(!is_reconciled(&lost), "a record of {topic} was lost");
        let mut doubled = records.clone();
        doubled.insert(at, records[at].clone());
        assert!(!is_reconciled(&doubled), "a record of {topic} came twice");
    }
    let mut changed = records;
    let picked = changed.iter_mut().find_map(|record| {
        let event = std::sync::Arc::make_mut(&mut record.event);
        match &mut event.payload {
            Payload::PickConfirmed(pick) => Some(pick),
            _ => None,
        }
    });
    picked.expect("a pick").quantity += 1;
    assert!(!is_reconciled(&changed), "a unit too many");
}

#[test]
fn a_stage_never_goes_back_whatever_comes_late() {
    let (events, _) = run(4, 40);
    let records = records(&events);
    // All topics backwards, topic by topic: every wave is read after its picks, every order last.
    let mut late = Vec::new();
    for topic in Topic::ALL.into_iter().rev() {
        late.extend(
            records
                .iter()
                .filter(|record| record.topic == topic)
                .cloned(),
        );
    }
    let mut ranks = BTreeMap::<String, i64>::new();
    for end in (0..late.len()).step_by(251) {
        for row in fold(&conveyor_paklog::projection::OrderTracking, &late[..end]).0 {
            let order_id = row.text("order_id").expect("an id").to_owned();
            let rank = row.integer("stage_rank");
            let before = ranks.insert(order_id.clone(), rank).unwrap_or(0);
            assert!(
                rank >= before,
                "order {order_id} went from {before} back to {rank}"
            );
        }
    }
    assert_eq!(all_rows(&late), all_rows(&records));
}

#[test]
fn picked_is_concluded_from_the_lines_even_when_the_allocation_comes_last() {
    let (events, _) = run(1, 1);
    let up_to = events
        .iter()
        .position(|event| matches!(read(event).payload, Payload::PickSessionCompleted(_)));
    let records = records(&events[..=up_to.expect("a session")]);
    let (mut late, rest): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|record| record.topic != Topic::Order);
    late.extend(rest);
    let rows = fold(&conveyor_paklog::projection::OrderTracking, &late).0;
    let stages = [OrderStage::Picked.name(), OrderStage::Picking.name()];
    assert!(
        stages.contains(&rows[0].text("stage").expect("a stage")),
        "{:?}",
        rows[0]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any interleaving of the partitions' streams gives the same rows, and they reconcile.
    #[test]
    fn any_interleaving_of_partitions_gives_the_same_read_model(
        seed in 0_u64..1000,
        choices in proptest::collection::vec((0_usize..60, 1_usize..200), 1..200),
    ) {
        let (events, ledger) = bad_run(seed, 20);
        let in_order = records(&events);
        let shuffled = interleaved(&in_order, &choices);
        prop_assert_eq!(shuffled.len(), in_order.len());
        let expected = all_rows(&in_order);
        let found = all_rows(&shuffled);
        for (expected, found) in expected.iter().flatten().zip(found.iter().flatten()) {
            prop_assert_eq!(expected, found);
        }
        prop_assert_eq!(expected.map(|rows| rows.len()), found.map(|rows| rows.len()));
        let report = reconcile(&ledger, &read_model(&shuffled));
        prop_assert!(report.is_reconciled(), "{}", report);
    }
}
