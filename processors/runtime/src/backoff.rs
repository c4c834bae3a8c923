//! How long to wait before trying again: doubling, capped, with jitter so that several instances do
//! not come back together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The waits of one run of failures. Pure: the caller brings chance and sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from `first`, doubling, to `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// The wait after one more failure: between half and the whole of the doubled time. `chance` is
    /// any number.
    pub fn after_failure(&mut self, chance: u64) -> Duration {
        let whole = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + half.mul_f64((chance % 1000) as f64 / 1000.0)
    }

    /// It worked: the next failure waits the shortest time again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last worked.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// Some number that differs between instances, for jitter only.
pub fn chance() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(now.subsec_nanos()) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..40)
            .map(|_| backoff.after_failure(999).as_millis())
            .collect();
        assert_eq!(waits[..5], [99, 199, 399, 799, 999]);
        assert!(waits[5..].iter().all(|wait| *wait == 999));
        backoff.reset();
        assert_eq!(backoff.after_failure(0).as_millis(), 50);
    }
}
