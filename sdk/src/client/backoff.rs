//! How long to wait before the next attempt: capped, exponential, with jitter (KIP-580).
//!
//! Knows nothing of what is tried. The jitter keeps many clients that failed together from coming
//! back together.

use std::time::Duration;

use rand::RngExt as _;

/// Share of the wait by which it is made longer or shorter at random.
const JITTER: f64 = 0.2;

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug, Clone)]
pub struct Backoff {
    base_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Waits about `base_ms` after the first failure, doubling up to about `max_ms`.
    pub fn new(base_ms: u64, max_ms: u64) -> Self {
        Self {
            base_ms,
            max_ms: max_ms.max(base_ms),
            failures: 0,
        }
    }

    /// Notes a failure and returns the time to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait_ms = self.wait_ms();
        self.failures = self.failures.saturating_add(1);
        let factor = 1.0 + rand::rng().random_range(-JITTER..=JITTER);
        Duration::from_secs_f64(wait_ms as f64 * factor / 1000.0)
    }

    /// Notes a success: the next failure starts from the beginning.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn wait_ms(&self) -> u64 {
        let doubled = self.base_ms.saturating_mul(1 << self.failures.min(32));
        doubled.min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(100, 1_000);
        for expected in [100.0, 200.0, 400.0, 800.0, 1_000.0, 1_000.0] {
            let wait = backoff.next_wait().as_secs_f64() * 1_000.0;
            assert!(
                (0.79..=1.21).contains(&(wait / expected)),
                "{wait} for {expected}"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(121));
    }

    #[test]
    fn any_number_of_failures_is_fine() {
        let mut backoff = Backoff::new(u64::MAX / 4, u64::MAX / 2);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.wait_ms(), u64::MAX / 2);
        assert_eq!(Backoff::new(0, 0).wait_ms(), 0);
    }
}
