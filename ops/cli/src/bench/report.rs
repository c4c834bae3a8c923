//! What a measurement came to: one row for people, one document for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::output::TextTable;

/// Latencies up to ten minutes are told apart.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A histogram of latencies in µs with three digits.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(latency_us.max(1));
    }

    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub(super) fn quantiles(&self) -> LatencyQuantiles {
        LatencyQuantiles {
            p50: self.0.value_at_quantile(0.5),
            p90: self.0.value_at_quantile(0.9),
            p99: self.0.value_at_quantile(0.99),
            p999: self.0.value_at_quantile(0.999),
            max: self.0.max(),
        }
    }
}

/// Latencies in µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct LatencyQuantiles {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BenchReport {
    /// `produce`, `consume` or `e2e`.
    pub(super) bench: &'static str,
    /// What latency means here.
    pub(super) latency: &'static str,
    /// Records had intended times, so latencies include the time a record had to wait for its turn.
    pub(super) open_loop: bool,
    pub(super) topic: String,
    pub(super) partitions: i32,
    /// `fsync` or `replicated`.
    pub(super) durability: String,
    /// `all`, `leader` or `none`; empty for `consume`.
    pub(super) acks: String,
    pub(super) codec: String,
    pub(super) producers: usize,
    pub(super) record_bytes: usize,
    pub(super) compressibility: f64,
    /// Bytes before compression for each byte sent; 0 when unknown.
    pub(super) compression_ratio: f64,
    pub(super) records_per_batch: f64,
    /// Records a second asked for; 0 for as fast as possible.
    pub(super) rate_target: u64,
    pub(super) records: u64,
    pub(super) failed: u64,
    pub(super) seconds: f64,
    pub(super) records_per_second: f64,
    /// 10^6 bytes of values a second.
    pub(super) megabytes_per_second: f64,
    /// Latency was taken of one record in so many.
    pub(super) sampled_every: u64,
    pub(super) latency_us: LatencyQuantiles,
}

impl BenchReport {
    /// A table of one row.
    pub(super) fn text(&self) -> String {
        let mut table = TextTable::new([
            "BENCH",
            "LOOP",
            "RECORDS",
            "FAILED",
            "BYTES",
            "REC/S",
            "MB/S",
            "P50 MS",
            "P90",
            "P99",
            "P999",
            "MAX",
            "ACKS",
            "DURABILITY",
            "CODEC",
            "RATIO",
            "REC/BATCH",
            "PARTITIONS",
        ]);
        let latency = self.latency_us;
        table.row([
            self.bench.to_owned(),
            if self.open_loop { "open" } else { "closed" }.to_owned(),
            self.records.to_string(),
            self.failed.to_string(),
            self.record_bytes.to_string(),
            format!("{:.0}", self.records_per_second),
            format!("{:.1}", self.megabytes_per_second),
            milliseconds(latency.p50),
            milliseconds(latency.p90),
            milliseconds(latency.p99),
            milliseconds(latency.p999),
            milliseconds(latency.max),
            self.acks.clone(),
            self.durability.clone(),
            self.codec.clone(),
            format!("{:.1}", self.compression_ratio),
            format!("{:.1}", self.records_per_batch),
            self.partitions.to_string(),
        ]);
        format!("{}latency: {}\n", table.render(), self.latency)
    }
}

fn milliseconds(microseconds: u64) -> String {
    format!("{:.3}", microseconds as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=1_000 {
            latencies.record(Duration::from_millis(ms));
        }
        let mut all = Latencies::new().unwrap();
        all.record(Duration::ZERO);
        all.add(&latencies).unwrap();
        let quantiles = all.quantiles();
        assert_eq!(all.0.len(), 1_001);
        assert!(
            (499_000..=501_000).contains(&quantiles.p50),
            "{quantiles:?}"
        );
        assert!(
            (989_000..=992_000).contains(&quantiles.p99),
            "{quantiles:?}"
        );
        assert!(
            (999_000..=1_001_000).contains(&quantiles.max),
            "{quantiles:?}"
        );
    }
}
