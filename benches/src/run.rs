//! One run of one side, and pairs of runs in turn.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Serialize;

/// What one run did and took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Run {
    /// Bytes of payload moved.
    pub bytes: u64,
    /// Operations: batches, reads, look-ups.
    pub operations: u64,
    /// Wall time in seconds.
    pub seconds: f64,
    /// CPU time of the whole process in seconds, user and system.
    pub cpu_seconds: f64,
}

impl Run {
    /// Bytes per second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// Operations per second.
    pub fn operations_per_second(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// CPU seconds for each 10^9 bytes.
    pub fn cpu_seconds_per_gb(&self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 / 1e9)
    }
}

/// Runs `work`, which says how many bytes and operations it did, and takes both clocks.
///
/// # Errors
/// Those of `work`.
pub fn measure(work: impl FnOnce() -> Result<(u64, u64)>) -> Result<Run> {
    let cpu_before = process_cpu_time();
    let before = Instant::now();
    let (bytes, operations) = work()?;
    let seconds = before.elapsed().as_secs_f64();
    let cpu = process_cpu_time().saturating_sub(cpu_before);
    Ok(Run {
        bytes,
        operations,
        seconds,
        cpu_seconds: cpu.as_secs_f64(),
    })
}

fn process_cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(tv_sec.unsigned_abs(), tv_nsec as u32)
}

/// The runs of both sides, pair by pair.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pairs {
    /// The engine's runs.
    pub engine: Vec<Run>,
    /// The raw runs; each was a neighbour of the engine's run at the same place.
    pub raw: Vec<Run>,
}

impl Pairs {
    /// Takes `count` pairs in the order A B B A A B …, so that neither side always comes first.
    ///
    /// # Errors
    /// The first of either side.
    pub fn take(
        count: usize,
        mut engine: impl FnMut() -> Result<Run>,
        mut raw: impl FnMut() -> Result<Run>,
    ) -> Result<Self> {
        let mut pairs = Self::default();
        for pair in 0..count {
            if pair % 2 == 0 {
                pairs.engine.push(engine()?);
                pairs.raw.push(raw()?);
            } else {
                pairs.raw.push(raw()?);
                pairs.engine.push(engine()?);
            }
        }
        Ok(pairs)
    }

    /// Speed of the engine by speed of raw, pair by pair.
    pub fn ratios(&self) -> Vec<f64> {
        let pairs = self.engine.iter().zip(&self.raw);
        pairs
            .map(|(engine, raw)| engine.operations_per_second() / raw.operations_per_second())
            .collect()
    }

    /// CPU time of raw by CPU time of the engine for the same bytes, pair by pair.
    pub fn cpu_ratios(&self) -> Vec<f64> {
        let pairs = self.engine.iter().zip(&self.raw);
        pairs
            .map(|(engine, raw)| raw.cpu_seconds_per_gb() / engine.cpu_seconds_per_gb())
            .collect()
    }
}

/// The middle value; the mean of the two in the middle if there are two. 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: f64) -> Run {
        Run {
            bytes: 2_000_000_000,
            operations: 1000,
            seconds,
            cpu_seconds: 1.0,
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn pairs_change_who_comes_first() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: char, seconds| {
            order.borrow_mut().push(name);
            Ok(run(seconds))
        };
        let pairs = Pairs::take(4, || side('a', 2.0), || side('b', 1.0)).unwrap();
        assert_eq!(*order.borrow(), "abbaabba");
        assert!(
            pairs
                .ratios()
                .iter()
                .all(|ratio| (ratio - 0.5).abs() < f64::EPSILON)
        );
        assert!((pairs.engine[0].cpu_seconds_per_gb() - 0.5).abs() < f64::EPSILON);
    }
}
