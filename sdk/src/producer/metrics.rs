//! What a producer counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Latencies are kept in microseconds up to ten minutes, with two digits.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A picture of a producer's counters since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProducerMetrics {
    /// Records acknowledged.
    pub records_delivered: u64,
    /// Records reported as failed.
    pub records_failed: u64,
    /// Batches acknowledged.
    pub batches_delivered: u64,
    /// Bytes of the acknowledged batches as sent, that is, compressed.
    pub batch_bytes: u64,
    /// Bytes of the acknowledged batches before compression.
    pub record_bytes: u64,
    /// Batches sent again after a failure.
    pub retries: u64,
    /// Connections that broke or could not be made.
    pub connection_failures: u64,
    /// Bytes of `buffer_memory` in use now.
    pub queue_bytes: u64,
    /// Time from opening a batch to its acknowledgement: the median.
    pub latency_p50: Duration,
    /// The same: 99 of 100 batches took at most this long.
    pub latency_p99: Duration,
    /// The same: the slowest batch.
    pub latency_max: Duration,
}

/// The counters behind [`ProducerMetrics`].
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) records_delivered: AtomicU64,
    pub(crate) records_failed: AtomicU64,
    pub(crate) batches_delivered: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) connection_failures: AtomicU64,
    latency_us: Mutex<Option<Histogram<u64>>>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            records_delivered: AtomicU64::new(0),
            records_failed: AtomicU64::new(0),
            batches_delivered: AtomicU64::new(0),
            batch_bytes: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            connection_failures: AtomicU64::new(0),
            latency_us: Mutex::new(Histogram::new_with_max(LATENCY_US_MAX, 2).ok()),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn record_latency(&self, latency: Duration) {
        if let Some(histogram) = &mut *self.latency_us.lock() {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(crate) fn snapshot(&self, queue_bytes: usize) -> ProducerMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let latency = self.latency_us.lock();
        let quantile = |quantile: f64| {
            let value = latency
                .as_ref()
                .map_or(0, |all| all.value_at_quantile(quantile));
            Duration::from_micros(value)
        };
        ProducerMetrics {
            records_delivered: read(&self.records_delivered),
            records_failed: read(&self.records_failed),
            batches_delivered: read(&self.batches_delivered),
            batch_bytes: read(&self.batch_bytes),
            record_bytes: read(&self.record_bytes),
            retries: read(&self.retries),
            connection_failures: read(&self.connection_failures),
            queue_bytes: queue_bytes as u64,
            latency_p50: quantile(0.5),
            latency_p99: quantile(0.99),
            latency_max: quantile(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_was_counted() {
        let counters = Counters::new();
        Counters::add(&counters.records_delivered, 3);
        for milliseconds in 1..=100 {
            counters.record_latency(Duration::from_millis(milliseconds));
        }
        let metrics = counters.snapshot(42);
        assert_eq!((metrics.records_delivered, metrics.queue_bytes), (3, 42));
        assert!(
            (49..=51).contains(&metrics.latency_p50.as_millis()),
            "{metrics:?}"
        );
        assert!(
            (98..=101).contains(&metrics.latency_max.as_millis()),
            "{metrics:?}"
        );
    }
}
