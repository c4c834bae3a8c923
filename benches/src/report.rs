//! The outcome of the cases, as a table for people and JSON for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::run::{Pairs, Run, median};

/// One case, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// What was done, such as `append 64 KiB, no sync`.
    pub name: String,
    /// What it is compared with, such as `pwritev`.
    pub raw: &'static str,
    /// The least share of the raw speed that is aimed at, if there is such a goal.
    pub goal: Option<f64>,
    /// The runs.
    pub pairs: Pairs,
}

/// The figures of a case that a reader wants first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Median of the pairs' ratios, engine by raw.
    pub ratio: f64,
    /// The worst pair.
    pub ratio_min: f64,
    /// The best pair.
    pub ratio_max: f64,
    /// Median speed of the engine in 10^6 bytes a second.
    pub engine_mb_per_second: f64,
    /// The same of raw.
    pub raw_mb_per_second: f64,
    /// Median operations of the engine a second.
    pub engine_per_second: f64,
    /// The same of raw.
    pub raw_per_second: f64,
    /// Median of the pairs' CPU seconds for the same bytes, raw by engine: how much of the CPU's work
    /// is the raw work. Steadier than the ratio of speeds.
    pub cpu_ratio: f64,
    /// Median CPU seconds of the engine for 10^9 bytes.
    pub engine_cpu_seconds_per_gb: f64,
    /// The same of raw.
    pub raw_cpu_seconds_per_gb: f64,
}

impl Case {
    /// The medians.
    pub fn summary(&self) -> Summary {
        let ratios = self.pairs.ratios();
        let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure));
        let Pairs { engine, raw } = &self.pairs;
        Summary {
            ratio: median(ratios.iter().copied()),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(0.0, f64::max),
            engine_mb_per_second: of(engine, Run::bytes_per_second) / 1e6,
            raw_mb_per_second: of(raw, Run::bytes_per_second) / 1e6,
            engine_per_second: of(engine, Run::operations_per_second),
            raw_per_second: of(raw, Run::operations_per_second),
            cpu_ratio: median(self.pairs.cpu_ratios()),
            engine_cpu_seconds_per_gb: of(engine, Run::cpu_seconds_per_gb),
            raw_cpu_seconds_per_gb: of(raw, Run::cpu_seconds_per_gb),
        }
    }

    /// Whether the median ratio reaches the goal; true without one.
    pub fn meets_its_goal(&self) -> bool {
        self.goal.is_none_or(|goal| self.summary().ratio >= goal)
    }

    fn verdict(&self, ratio: f64) -> String {
        match self.goal {
            None => String::new(),
            Some(goal) if ratio >= goal => format!("{goal:.2} met"),
            Some(goal) => format!("{goal:.2} MISSED"),
        }
    }
}

/// The cases as a table: one line each, engine beside raw.
pub fn table(cases: &[Case]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "case",
        "raw",
        "MB/s",
        "raw MB/s",
        "op/s",
        "raw op/s",
        "ratio",
        "min-max",
        "s/GB",
        "raw s/GB",
        "CPU ratio",
        "goal",
    ]);
    for case in cases {
        let summary = case.summary();
        table.add_row([
            case.name.clone(),
            case.raw.to_owned(),
            format!("{:.0}", summary.engine_mb_per_second),
            format!("{:.0}", summary.raw_mb_per_second),
            format!("{:.0}", summary.engine_per_second),
            format!("{:.0}", summary.raw_per_second),
            format!("{:.2}", summary.ratio),
            format!("{:.2}-{:.2}", summary.ratio_min, summary.ratio_max),
            format!("{:.3}", summary.engine_cpu_seconds_per_gb),
            format!("{:.3}", summary.raw_cpu_seconds_per_gb),
            format!("{:.2}", summary.cpu_ratio),
            case.verdict(summary.ratio),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// The cases with their medians and every single run, as JSON.
///
/// # Errors
/// None that these types can cause.
pub fn json(cases: &[Case]) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(flatten)]
        case: &'a Case,
        summary: Summary,
    }
    let entries: Vec<_> = cases
        .iter()
        .map(|case| Entry {
            case,
            summary: case.summary(),
        })
        .collect();
    serde_json::to_string_pretty(&entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_said() {
        let run = |seconds| Run {
            bytes: 1_000_000,
            operations: 10,
            seconds,
            cpu_seconds: 0.1,
        };
        let case = Case {
            name: "append".to_owned(),
            raw: "pwritev",
            goal: Some(0.7),
            pairs: Pairs {
                engine: vec![run(2.0)],
                raw: vec![run(1.0)],
            },
        };
        let text = table(std::slice::from_ref(&case));
        assert!(text.contains("0.70 MISSED"), "{text}");
        assert!(text.contains("0.50"), "{text}");
        assert!(json(&[case]).unwrap().contains("\"ratio\": 0.5"));
    }
}
