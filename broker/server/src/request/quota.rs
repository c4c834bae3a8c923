//! How many bytes a second a principal may produce and fetch.
//!
//! A token bucket for each principal and direction holds one second's worth. Who takes more than is
//! there goes into debt and is told to pause until the debt is paid; the handler makes the pause real
//! by answering late or reading no further. Without a limit nothing is counted.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Principal;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Quota {
    /// Bytes of batches taken.
    Produce,
    /// Bytes of batches sent.
    Fetch,
}

/// Longest pause asked for at a time; more debt than that is paid in steps.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Principals kept; the ones with full buckets are forgotten first.
const BUCKETS_MAX: usize = 10_000;

/// Limits and what has been used of them.
#[derive(Debug)]
pub(crate) struct Quotas {
    produce_rate: f64,
    fetch_rate: f64,
    buckets: Mutex<HashMap<(Principal, Quota), Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Quotas {
    /// Limits in bytes a second; 0 for none.
    pub(crate) fn new(produce_rate: i64, fetch_rate: i64) -> Self {
        Self {
            produce_rate: produce_rate as f64,
            fetch_rate: fetch_rate as f64,
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes `bytes`; how long the principal has to pause.
    pub(crate) fn charge(
        &self,
        principal: &Principal,
        quota: Quota,
        bytes: usize,
        now: Instant,
    ) -> Duration {
        let rate = match quota {
            Quota::Produce => self.produce_rate,
            Quota::Fetch => self.fetch_rate,
        };
        if rate <= 0.0 {
            return Duration::ZERO;
        }
        let mut buckets = self.buckets.lock();
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, bucket| now.duration_since(bucket.filled) < Duration::from_secs(1));
        }
        let bucket = buckets
            .entry((principal.clone(), quota))
            .or_insert_with(|| Bucket {
                tokens: rate,
                filled: now,
            });
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.tokens = (bucket.tokens + gained).min(rate) - bytes as f64;
        bucket.filled = now;
        if bucket.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-bucket.tokens / rate).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nobody_pauses() {
        let quotas = Quotas::new(0, 0);
        let who = Principal::anonymous();
        assert_eq!(
            quotas.charge(&who, Quota::Produce, usize::MAX, Instant::now()),
            Duration::ZERO
        );
    }

    #[test]
    fn debt_is_paid_by_pausing() {
        let quotas = Quotas::new(1_000, 0);
        let who = Principal::user("a");
        let start = Instant::now();
        assert_eq!(
            quotas.charge(&who, Quota::Produce, 1_000, start),
            Duration::ZERO
        );
        assert_eq!(
            quotas.charge(&who, Quota::Produce, 500, start),
            Duration::from_millis(500)
        );
        let later = start + Duration::from_secs(1);
        assert_eq!(
            quotas.charge(&who, Quota::Produce, 500, later),
            Duration::ZERO
        );
        assert_eq!(
            quotas.charge(&Principal::user("b"), Quota::Produce, 1_000, start),
            Duration::ZERO,
            "each principal has its own"
        );
    }
}
