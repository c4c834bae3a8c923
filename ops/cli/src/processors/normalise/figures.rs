//! What a normaliser has done so far.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::TextTable;

/// Counts since the start, of committed transactions alone.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Source records consumed.
    pub(super) records: u64,
    /// Canonical events written, by topic.
    pub(super) normalised: BTreeMap<String, u64>,
    /// Records written to the error topic.
    pub(super) rejected: u64,
    /// Events that lay on their canonical topic already.
    pub(super) left_alone: u64,
    /// Records that have no canonical form.
    pub(super) skipped: u64,
    /// Transactions committed.
    pub(super) committed: u64,
    /// Transactions aborted; what was in them is read again.
    pub(super) aborted: u64,
    /// Records not consumed yet in the partitions read; `None` until it is known.
    pub(super) lag_records: Option<i64>,
    /// Partitions read now.
    pub(super) partitions: usize,
    /// Records per second while there were any.
    pub(super) records_per_second: f64,
    /// Why the last transaction was aborted, or a poll failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
}

impl Figures {
    /// Adds what a committed transaction held.
    pub(super) fn add(&mut self, of: &Self) {
        self.committed += 1;
        self.records += of.records;
        for (topic, count) in &of.normalised {
            *self.normalised.entry(topic.clone()).or_default() += count;
        }
        self.rejected += of.rejected;
        self.left_alone += of.left_alone;
        self.skipped += of.skipped;
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = TextTable::new([
            "RECORDS",
            "NORMALISED",
            "REJECTED",
            "LEFT ALONE",
            "SKIPPED",
            "COMMITS",
            "ABORTS",
            "LAG",
            "PARTITIONS",
            "RECORDS/S",
            "LAST ERROR",
        ]);
        table.row([
            self.records.to_string(),
            self.normalised.values().sum::<u64>().to_string(),
            self.rejected.to_string(),
            self.left_alone.to_string(),
            self.skipped.to_string(),
            self.committed.to_string(),
            self.aborted.to_string(),
            self.lag_records
                .map_or_else(|| "?".to_owned(), |lag| lag.to_string()),
            self.partitions.to_string(),
            format!("{:.0}", self.records_per_second),
            self.last_error.clone().unwrap_or_default(),
        ]);
        table.render()
    }
}
