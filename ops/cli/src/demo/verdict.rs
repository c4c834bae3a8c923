//! What a demo came to: the checks, the figures, and how to look further.

use std::collections::BTreeMap;

use conveyor_paklog::reconcile::{ReadModel, Report, reconcile};
use conveyor_paklog::topics::Topic;
use conveyor_paklog::workload::Ledger;
use serde::Serialize;

use super::applied::AppliedLog;
use crate::output::{TextTable, count_text};
use crate::workload::Quantiles;

/// One thing that must hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) holds: bool,
    /// What it is, with its figures.
    pub(crate) what: String,
    /// What is wrong, item by item.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<String>,
}

/// All figures of a demo.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) orders: u64,
    pub(crate) events: u64,
    pub(crate) final_stages: BTreeMap<String, u64>,
    pub(crate) killed: bool,
    /// From SIGKILL to the first acknowledgement after it; with `--crash` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered_after_ms: Option<u64>,
    pub(crate) produce_seconds: f64,
    pub(crate) produced_per_second: f64,
    pub(crate) applied_per_second: f64,
    pub(crate) total_seconds: f64,
    pub(crate) full_speed: Latencies,
    pub(crate) steady: Latencies,
    pub(crate) checks: Vec<Check>,
    pub(crate) folder: String,
}

/// Latencies of one phase.
#[derive(Debug, Serialize)]
pub(crate) struct Latencies {
    /// From send to acknowledgement.
    pub(crate) ack_ms: Quantiles,
    /// From send to the committed row, over all projections.
    pub(crate) row_ms: Quantiles,
}

impl Summary {
    /// Whether everything holds.
    pub(crate) fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

/// What the checks look at.
#[derive(Debug)]
pub(crate) struct Evidence<'e> {
    pub(crate) ledger: &'e Ledger,
    /// Records acknowledged, by topic.
    pub(crate) acknowledged: BTreeMap<Topic, u64>,
    /// Where the log ends, by topic: the sum over partitions.
    pub(crate) log_ends: BTreeMap<Topic, u64>,
    pub(crate) failed: u64,
    pub(crate) rejected: u64,
    pub(crate) applied: Vec<(&'static str, &'e AppliedLog)>,
    pub(crate) read_model: ReadModel,
}

/// Checks everything.
pub(crate) fn check(evidence: &Evidence<'_>) -> Vec<Check> {
    vec![
        produced_once(evidence),
        applied_once(evidence),
        nothing_rejected(evidence),
        reconciled(&reconcile(evidence.ledger, &evidence.read_model)),
    ]
}

/// The log holds what the workload made: acknowledged once each, none lost, none doubled.
fn produced_once(evidence: &Evidence<'_>) -> Check {
    let made = evidence.ledger.events_by_topic();
    let mut details = Vec::new();
    for topic in Topic::ALL {
        let of = |counts: &BTreeMap<Topic, u64>| counts.get(&topic).copied().unwrap_or(0);
        let (made, acknowledged, stored) = (
            of(&made),
            of(&evidence.acknowledged),
            of(&evidence.log_ends),
        );
        if made != acknowledged || made != stored {
            details.push(format!(
                "{topic}: {made} made, {acknowledged} acknowledged, {stored} in the log"
            ));
        }
    }
    if evidence.failed > 0 {
        details.push(format!(
            "{} records were given up by the producer",
            evidence.failed
        ));
    }
    Check {
        holds: details.is_empty(),
        what: format!(
            "{} records in the log, each once",
            count_text(evidence.ledger.events())
        ),
        details,
    }
}

/// Each projection has applied every record of its topics exactly once.
fn applied_once(evidence: &Evidence<'_>) -> Check {
    let mut details = Vec::new();
    let mut total = 0;
    for (projection, log) in &evidence.applied {
        for (topic, records) in log.records_by_topic() {
            total += records;
            let stored = evidence.log_ends.get(&topic).copied().unwrap_or(0);
            if records != stored {
                details.push(format!(
                    "{projection}: {records} of {stored} records of {topic}"
                ));
            }
        }
        details.extend(
            log.breaks()
                .into_iter()
                .map(|broken| format!("{projection}: {broken}")),
        );
    }
    Check {
        holds: details.is_empty(),
        what: format!(
            "{} records applied by {} projections, each once, in order",
            count_text(total),
            evidence.applied.len()
        ),
        details,
    }
}

fn nothing_rejected(evidence: &Evidence<'_>) -> Check {
    let details = match evidence.rejected {
        0 => Vec::new(),
        rejected => vec![format!(
            "{rejected} records were rejected, see topic error-events"
        )],
    };
    Check {
        holds: details.is_empty(),
        what: "every record was read and applied, none was rejected".to_owned(),
        details,
    }
}

fn reconciled(report: &Report) -> Check {
    let Report {
        orders,
        skus,
        waves,
        movements,
        mismatches,
        ..
    } = report;
    Check {
        holds: report.is_reconciled(),
        what: format!(
            "the books agree: {} orders in their final stage, atp of {} skus,\n    {} waves, {} \
             stock movements",
            count_text(*orders as u64),
            count_text(*skus as u64),
            count_text(*waves as u64),
            count_text(*movements),
        ),
        details: mismatches
            .iter()
            .take(20)
            .map(ToString::to_string)
            .collect(),
    }
}

/// The summary for people.
pub(crate) fn text(summary: &Summary) -> String {
    let mut text = format!(
        "{} real orders became {} events in {:.1} s:\n\
         {} records/s produced and synced, {}/s applied by the projections;\n\
         {:.1} s in all.\n\n",
        count_text(summary.orders),
        count_text(summary.events),
        summary.produce_seconds,
        count_text(summary.produced_per_second as u64),
        count_text(summary.applied_per_second as u64),
        summary.total_seconds,
    );
    let mut table = TextTable::new(["LATENCY, ms", "p50", "p99", "p999"]);
    for (what, quantiles) in [
        ("acknowledged, at full speed", &summary.full_speed.ack_ms),
        (
            "row committed, at full speed (with backlog)",
            &summary.full_speed.row_ms,
        ),
        ("acknowledged, at 1,000 records/s", &summary.steady.ack_ms),
        ("row committed, at 1,000 records/s", &summary.steady.row_ms),
    ] {
        let ms = |value: f64| format!("{value:.1}");
        table.row([
            what.to_owned(),
            ms(quantiles.p50),
            ms(quantiles.p99),
            ms(quantiles.p999),
        ]);
    }
    text += &table.render();
    if let Some(recovered_after_ms) = summary.recovered_after_ms {
        text += &format!(
            "\nThe node was killed with SIGKILL half-way; {recovered_after_ms} ms later the next \
             record was acknowledged.\n"
        );
    }
    text += &format!(
        "\norders  {}\n\n",
        super::live::stages_text(&summary.final_stages)
    );
    for check in &summary.checks {
        text += &format!(
            "{} {}\n",
            if check.holds { "  ok" } else { "FAIL" },
            check.what
        );
        for detail in &check.details {
            text += &format!("     {detail}\n");
        }
    }
    text += if summary.holds() {
        "\nRECONCILED: none lost, none doubled.\n"
    } else {
        "\nNOT RECONCILED: see FAIL above.\n"
    };
    text
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use conveyor_paklog::workload::{OrderLines, Settings, Workload};
    use conveyor_processors::TopicPartition;
    use conveyor_processors::status::{AppliedRange, Observer};

    use super::*;

    fn ledger() -> Ledger {
        let csv = "ordered_at,order_id,customer_id,store_id,sku,department,quantity\n\
                   2017-01-01T18:24:46Z,1,883,367,852856,DRUG GM,2\n";
        let orders = OrderLines::new(csv.as_bytes()).unwrap();
        let mut workload = Workload::new(orders, Settings::default());
        for event in workload.by_ref() {
            event.unwrap();
        }
        workload.into_ledger()
    }

    fn applied(topic: Topic, to: i64) -> AppliedLog {
        let log = AppliedLog::new(Instant::now());
        log.applied(&[AppliedRange {
            topic_partition: TopicPartition::new(topic.name(), 0),
            from: None,
            to: to.into(),
            records: to as u64,
        }]);
        log
    }

    fn evidence<'e>(ledger: &'e Ledger, log: &'e AppliedLog) -> Evidence<'e> {
        Evidence {
            ledger,
            acknowledged: ledger.events_by_topic(),
            log_ends: ledger.events_by_topic(),
            failed: 0,
            rejected: 0,
            applied: vec![("atp", log)],
            read_model: ReadModel::default(),
        }
    }

    #[test]
    fn each_kind_of_loss_fails_its_own_check() {
        let ledger = ledger();
        let stock = ledger.events_by_topic()[&Topic::Inventory];
        let log = applied(Topic::Inventory, stock as i64);
        let sound = evidence(&ledger, &log);
        assert!(produced_once(&sound).holds && applied_once(&sound).holds);
        assert!(nothing_rejected(&sound).holds);

        let mut lost = evidence(&ledger, &log);
        *lost.log_ends.get_mut(&Topic::Inventory).unwrap() -= 1;
        let check = produced_once(&lost);
        assert!(
            !check.holds && check.details[0].contains("inventory-events"),
            "{check:?}"
        );
        assert!(!applied_once(&lost).holds, "more applied than there is");

        let behind = applied(Topic::Inventory, stock as i64 - 1);
        assert!(!applied_once(&evidence(&ledger, &behind)).holds);
        let given_up = Evidence {
            failed: 1,
            ..evidence(&ledger, &log)
        };
        assert!(!produced_once(&given_up).holds);
        let rejected = Evidence {
            rejected: 1,
            ..evidence(&ledger, &log)
        };
        assert!(!nothing_rejected(&rejected).holds);
    }

    #[test]
    fn an_empty_read_model_does_not_agree_with_the_books() {
        let ledger = ledger();
        let check = reconciled(&reconcile(&ledger, &ReadModel::default()));
        assert!(!check.holds && !check.details.is_empty());
    }
}
