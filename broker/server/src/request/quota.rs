//! How many bytes a second a client may produce and fetch.
//!
//! The limit is the most specific client quota that fits the principal and the client id, else the
//! node's default for every principal. A token bucket for each limit and direction holds one second's
//! worth. Who takes more than is there goes into debt and is told to pause until the debt is paid; the
//! handler makes the pause real by answering late or reading no further. Without a limit nothing is
//! counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use conveyor_controller::{ClientQuotas, QuotaKey, QuotaScope};
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

impl Quota {
    const fn key(self) -> QuotaKey {
        match self {
            Self::Produce => QuotaKey::ProducerByteRate,
            Self::Fetch => QuotaKey::ConsumerByteRate,
        }
    }
}

/// Longest pause asked for at a time; more debt than that is paid in steps.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Buckets kept; the ones with full buckets are forgotten first.
const BUCKETS_MAX: usize = 10_000;

/// Limits and what has been used of them.
#[derive(Debug)]
pub(crate) struct Quotas {
    produce_rate: f64,
    fetch_rate: f64,
    clients: ArcSwap<ClientQuotas>,
    buckets: Mutex<HashMap<BucketKey, Bucket>>,
}

/// What is counted together; what does not matter for the limit is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct BucketKey {
    user: Arc<str>,
    client_id: Arc<str>,
    quota: Quota,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Quotas {
    /// Limits of every principal in bytes a second; 0 for none.
    pub(crate) fn new(produce_rate: i64, fetch_rate: i64) -> Self {
        Self {
            produce_rate: produce_rate as f64,
            fetch_rate: fetch_rate as f64,
            clients: ArcSwap::default(),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Puts other client quotas in force: those that `newest` gives while nobody else does so, so that
    /// older ones never replace newer ones.
    pub(crate) fn set_clients(&self, newest: impl FnOnce() -> Arc<ClientQuotas>) {
        let buckets = self.buckets.lock();
        self.clients.store(newest());
        drop(buckets);
    }

    /// Takes `bytes`; how long the client has to pause.
    pub(crate) fn charge(
        &self,
        principal: &Principal,
        client_id: &Arc<str>,
        quota: Quota,
        bytes: usize,
        now: Instant,
    ) -> Duration {
        let Some((rate, key)) = self.limit(principal, client_id, quota) else {
            return Duration::ZERO;
        };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, bucket| now.duration_since(bucket.filled) < Duration::from_secs(1));
        }
        let bucket = buckets.entry(key).or_insert_with(|| Bucket {
            tokens: rate,
            filled: now,
        });
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.tokens = (bucket.tokens + gained).min(rate) - bytes as f64;
        bucket.filled = now;
        if bucket.tokens >= 0.0 {
            return Duration::ZERO;
        }
        // A tiny limit makes a debt of more seconds than a duration holds.
        let debt = (-bucket.tokens / rate).min(PAUSE_MAX.as_secs_f64());
        Duration::from_secs_f64(debt)
    }

    /// The limit in bytes a second, and what is counted towards it together.
    fn limit(
        &self,
        principal: &Principal,
        client_id: &Arc<str>,
        quota: Quota,
    ) -> Option<(f64, BucketKey)> {
        let clients = self.clients.load();
        let key = |user: Arc<str>, client_id: Arc<str>| BucketKey {
            user,
            client_id,
            quota,
        };
        let nobody = Arc::<str>::default;
        let found = clients.applicable(quota.key(), principal.name(), client_id);
        if let Some((rate, scope)) = found {
            let user = || Arc::from(principal.name());
            let key = match scope {
                QuotaScope::User => key(user(), nobody()),
                QuotaScope::ClientId => key(nobody(), Arc::clone(client_id)),
                QuotaScope::UserAndClientId => key(user(), Arc::clone(client_id)),
            };
            return Some((rate.value(), key));
        }
        let rate = match quota {
            Quota::Produce => self.produce_rate,
            Quota::Fetch => self.fetch_rate,
        };
        (rate > 0.0).then(|| (rate, key(principal.name().into(), nobody())))
    }
}

#[cfg(test)]
mod tests {
    use conveyor_controller::{
        MetadataImage, QuotaEntity, QuotaKey, QuotaName, QuotaRate, alter_client_quotas,
    };

    use super::*;

    fn charge(quotas: &Quotas, who: &str, client: &str, bytes: usize, now: Instant) -> Duration {
        let who = Principal::user(who);
        quotas.charge(&who, &client.into(), Quota::Produce, bytes, now)
    }

    #[test]
    fn without_a_limit_nobody_pauses() {
        let quotas = Quotas::new(0, 0);
        let pause = charge(&quotas, "a", "", usize::MAX, Instant::now());
        assert_eq!(pause, Duration::ZERO);
    }

    #[test]
    fn debt_is_paid_by_pausing() {
        let quotas = Quotas::new(1_000, 0);
        let start = Instant::now();
        assert_eq!(charge(&quotas, "a", "x", 1_000, start), Duration::ZERO);
        let pause = charge(&quotas, "a", "y", 500, start);
        assert_eq!(pause, Duration::from_millis(500));
        let later = start + Duration::from_secs(1);
        assert_eq!(charge(&quotas, "a", "x", 500, later), Duration::ZERO);
        let other = charge(&quotas, "b", "x", 1_000, start);
        assert_eq!(other, Duration::ZERO, "each principal has its own");
    }

    #[test]
    fn a_client_quota_wins_over_the_nodes_default() {
        let quotas = Quotas::new(1_000_000, 0);
        let slow = QuotaEntity {
            user: None,
            client_id: Some(QuotaName::Named("slow".to_owned())),
        };
        let mut image = MetadataImage::default();
        let change = [(QuotaKey::ProducerByteRate, QuotaRate::new(100.0))];
        image.replay_all(&alter_client_quotas(&image, &slow, &change).unwrap().records);
        quotas.set_clients(|| Arc::clone(image.client_quotas()));
        let start = Instant::now();
        assert_eq!(charge(&quotas, "a", "slow", 100, start), Duration::ZERO);
        let pause = charge(&quotas, "b", "slow", 100, start);
        assert_eq!(
            pause,
            Duration::from_secs(1),
            "all of that name count together"
        );
        assert_eq!(charge(&quotas, "a", "fast", 100, start), Duration::ZERO);
    }

    #[test]
    fn a_tiny_limit_pauses_for_the_longest_time() {
        let quotas = Quotas::new(1, 0);
        let pause = charge(&quotas, "a", "", usize::MAX, Instant::now());
        assert_eq!(pause, PAUSE_MAX);
    }
}
