//! Durations, counted in buckets that are never more than 19 % wide.
//!
//! Four buckets a power of two of microseconds, from 1 µs to over an hour: fixed size, no lock, and
//! quantiles good enough for a dashboard.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STEPS: u32 = 4;
const POWERS: u32 = 32;
const BUCKETS: usize = (POWERS * STEPS) as usize;

/// A histogram of durations.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: array::from_fn(|_| AtomicU64::new(0)),
            sum_micros: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts a duration.
    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Their sum.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.load(Ordering::Relaxed))
    }

    /// Upper bounds of the buckets in which the quantiles lie; zero when nothing was counted.
    pub(crate) fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [Duration; N] {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        quantiles.map(|quantile| {
            if total == 0 {
                return Duration::ZERO;
            }
            let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            Duration::from_micros(upper_bound(found.unwrap_or(BUCKETS - 1)))
        })
    }
}

fn bucket(micros: u64) -> usize {
    let micros = micros.max(1);
    let power = micros.ilog2().min(POWERS - 1);
    let step = if power < 2 {
        0
    } else {
        (micros >> (power - 2)) & u64::from(STEPS - 1)
    };
    (power * STEPS) as usize + step as usize
}

/// The least number of microseconds that lies beyond the bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (power, step) = (bucket as u32 / STEPS, bucket as u64 % u64::from(STEPS));
    if power < 2 {
        return 1 << (power + 1);
    }
    (1u64 << power) + (step + 1) * (1u64 << (power - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.count(), 10_000);
        let [median, tail] = histogram.quantiles([0.5, 0.99]);
        for (found, expected) in [(median, 5_000.0), (tail, 9_900.0)] {
            let ratio = found.as_micros() as f64 / expected;
            assert!((1.0..=1.25).contains(&ratio), "{found:?} for {expected}");
        }
    }

    #[test]
    fn extremes_have_a_bucket() {
        let histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 2);
        assert!(histogram.quantiles([1.0])[0] > Duration::from_hours(1));
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for micros in 2u64..100_000 {
            let index = bucket(micros);
            assert!(micros < upper_bound(index), "{micros} in {index}");
            assert!(
                index == 0 || micros >= upper_bound(index - 1).min(micros),
                "{micros}"
            );
        }
    }
}
