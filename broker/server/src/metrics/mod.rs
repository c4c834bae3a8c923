//! What the node counts and measures.
//!
//! Plain atomics behind one `Arc`, given to whoever counts: no global, so that several nodes can run
//! in one process. Figures that are known elsewhere (sizes, offsets) are read when they are asked
//! for; [`exposition`] turns all into Prometheus text.

mod exposition;
mod histogram;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conveyor_grpc::ErrorCode;
use parking_lot::RwLock;

pub(crate) use exposition::render;
pub(crate) use histogram::Histogram;

use crate::request::Api;

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Some more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures of one API.
#[derive(Debug, Default)]
pub(crate) struct ApiMetrics {
    /// Calls.
    pub(crate) requests: Counter,
    /// From admission to the end of the answer; not for streams.
    pub(crate) latency: Histogram,
    /// Pauses that quotas asked for.
    pub(crate) throttle: Histogram,
    errors: RwLock<HashMap<ErrorCode, Counter>>,
}

impl ApiMetrics {
    /// Counts the outcome of an item; `ErrorCode::None` for success.
    pub(crate) fn count_error(&self, code: ErrorCode) {
        if let Some(counter) = self.errors.read().get(&code) {
            counter.increment();
            return;
        }
        self.errors.write().entry(code).or_default().increment();
    }

    /// Counts the outcomes of several items by their numbers.
    pub(crate) fn count_outcomes(&self, codes: impl Iterator<Item = i32>) {
        for code in codes {
            self.count_error(ErrorCode::from_code(code));
        }
    }

    /// Outcomes so far.
    pub(crate) fn errors(&self) -> Vec<(ErrorCode, u64)> {
        self.errors
            .read()
            .iter()
            .map(|(code, counter)| (*code, counter.get()))
            .collect()
    }
}

/// The figures of one topic.
#[derive(Debug, Default)]
pub(crate) struct TopicMetrics {
    /// Bytes of batches appended.
    pub(crate) bytes_in: Counter,
    /// Bytes of batches sent.
    pub(crate) bytes_out: Counter,
    /// Records appended.
    pub(crate) messages_in: Counter,
    /// Bytes of batches refused.
    pub(crate) bytes_rejected: Counter,
    /// Batches that clients wanted to append.
    pub(crate) produce_requests: Counter,
    /// Those that were refused.
    pub(crate) failed_produce_requests: Counter,
    /// Reads.
    pub(crate) fetch_requests: Counter,
    /// Those that failed.
    pub(crate) failed_fetch_requests: Counter,
}

/// All figures of the node.
#[derive(Debug)]
pub(crate) struct Metrics {
    apis: Vec<ApiMetrics>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicMetrics>>>,
    /// From the check of a batch to its acknowledgement.
    pub(crate) append: Histogram,
    /// Connections taken.
    pub(crate) connections_accepted: Counter,
    /// Connections refused because there were too many.
    pub(crate) connections_refused: Counter,
    /// Connections open now.
    pub(crate) connections_open: Arc<AtomicU64>,
    /// Segments removed by retention, in bytes.
    pub(crate) retention_bytes: Counter,
    /// Bytes that compaction has read.
    pub(crate) cleaner_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            apis: Api::ALL.iter().map(|_| ApiMetrics::default()).collect(),
            topics: RwLock::default(),
            append: Histogram::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_open: Arc::default(),
            retention_bytes: Counter::default(),
            cleaner_bytes: Counter::default(),
        }
    }
}

impl Metrics {
    /// The figures of an API.
    pub(crate) fn api(&self, api: Api) -> &ApiMetrics {
        &self.apis[api.index()]
    }

    /// The figures of a topic, which must exist: names from clients do not become series.
    pub(crate) fn topic(&self, name: &Arc<str>) -> Arc<TopicMetrics> {
        if let Some(topic) = self.topics.read().get(name) {
            return Arc::clone(topic);
        }
        Arc::clone(self.topics.write().entry(Arc::clone(name)).or_default())
    }

    /// Topics that have figures, by name.
    pub(crate) fn topics(&self) -> Vec<(Arc<str>, Arc<TopicMetrics>)> {
        let topics = self.topics.read();
        let mut list: Vec<_> = topics
            .iter()
            .map(|(name, topic)| (Arc::clone(name), Arc::clone(topic)))
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    /// Forgets a topic that was deleted.
    pub(crate) fn forget_topic(&self, name: &str) {
        self.topics.write().remove(name);
    }
}
