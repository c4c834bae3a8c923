//! Follows every record to its acknowledgement: counts, latencies, where it ended up.
//!
//! Acknowledgements of one partition come in order, so each partition has a task of its own that
//! waits for its records one after the other; a slow partition does not blur the times of another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use conveyor_paklog::topics::Topic;
use conveyor_sdk::DeliveryFuture;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;

/// Records of one partition that may wait for their acknowledgement; the producer's memory is the
/// real bound.
const WAITING_MAX: usize = 65_536;

/// The longest time told apart from longer ones: ten minutes, in µs.
const LATENCY_MAX_US: u64 = 600_000_000;

/// For latencies in µs, with three digits.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
        .unwrap_or_else(|error| unreachable!("these bounds are allowed: {error}"))
}

/// Live counts, shared with whoever shows them.
#[derive(Debug, Default)]
pub(crate) struct DeliveryCounts {
    by_topic: [AtomicU64; Topic::ALL.len()],
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl DeliveryCounts {
    /// Records acknowledged on a topic.
    pub(crate) fn acknowledged_on(&self, topic: Topic) -> u64 {
        self.by_topic[topic as usize].load(Ordering::Relaxed)
    }

    /// Records acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        Topic::ALL
            .into_iter()
            .map(|topic| self.acknowledged_on(topic))
            .sum()
    }

    /// Records given up.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why, for the last of them.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }
}

/// When each record of a partition was sent, by offset, in µs since the start; 0 for records that
/// are not ours.
#[derive(Debug, Default)]
pub(crate) struct SentTimes {
    by_offset: Vec<u64>,
}

impl SentTimes {
    fn note(&mut self, offset: i64, sent_us: u64) {
        let Ok(offset) = usize::try_from(offset) else {
            return;
        };
        if offset >= self.by_offset.len() {
            self.by_offset.resize(offset + 1, 0);
        }
        self.by_offset[offset] = sent_us;
    }

    /// When the record at this offset was sent, if it was ours.
    pub(crate) fn sent_us(&self, offset: i64) -> Option<u64> {
        let sent_us = *self.by_offset.get(usize::try_from(offset).ok()?)?;
        (sent_us > 0).then_some(sent_us)
    }
}

/// What became of all records.
#[derive(Debug)]
pub(crate) struct DeliveryReport {
    /// From send to acknowledgement, µs.
    pub(crate) ack_us: Histogram<u64>,
    /// The same for records sent at a steady rate.
    pub(crate) steady_ack_us: Histogram<u64>,
    /// Send times by topic and partition.
    pub(crate) sent: HashMap<(Topic, i32), SentTimes>,
}

/// Waits for acknowledgements.
#[derive(Debug)]
pub(crate) struct Deliveries {
    start: Instant,
    counts: Arc<DeliveryCounts>,
    lanes: HashMap<(Topic, i32), Lane>,
}

#[derive(Debug)]
struct Lane {
    waiting: Sender<Waiting>,
    task: JoinHandle<LaneReport>,
}

struct Waiting {
    delivery: DeliveryFuture,
    sent_us: u64,
    steady: bool,
}

#[derive(Debug)]
struct LaneReport {
    ack_us: Histogram<u64>,
    steady_ack_us: Histogram<u64>,
    sent: SentTimes,
}

impl Deliveries {
    /// Times count from `start`.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            counts: Arc::default(),
            lanes: HashMap::new(),
        }
    }

    /// The live counts.
    pub(crate) fn counts(&self) -> Arc<DeliveryCounts> {
        Arc::clone(&self.counts)
    }

    /// Follows a record that was handed to the producer at `sent`. `steady` records, sent at a fixed
    /// rate, are measured apart.
    pub(crate) async fn follow(
        &mut self,
        topic: Topic,
        delivery: DeliveryFuture,
        sent: Instant,
        steady: bool,
    ) {
        let lane = self
            .lanes
            .entry((topic, delivery.partition()))
            .or_insert_with(|| {
                let (waiting, queue) = channel(WAITING_MAX);
                let lane = follow_lane(queue, topic, self.start, Arc::clone(&self.counts));
                Lane {
                    waiting,
                    task: tokio::spawn(lane),
                }
            });
        let sent_us = sent
            .saturating_duration_since(self.start)
            .as_micros()
            .max(1) as u64;
        // A lane ends only when its sender is dropped, so this cannot fail.
        lane.waiting
            .send(Waiting {
                delivery,
                sent_us,
                steady,
            })
            .await
            .ok();
    }

    /// Waits for all of them.
    pub(crate) async fn finish(self) -> anyhow::Result<DeliveryReport> {
        let mut report = DeliveryReport {
            ack_us: latency_histogram(),
            steady_ack_us: latency_histogram(),
            sent: HashMap::new(),
        };
        for (place, lane) in self.lanes {
            drop(lane.waiting);
            let lane = lane.task.await?;
            report.ack_us.add(&lane.ack_us)?;
            report.steady_ack_us.add(&lane.steady_ack_us)?;
            report.sent.insert(place, lane.sent);
        }
        Ok(report)
    }
}

async fn follow_lane(
    mut queue: tokio::sync::mpsc::Receiver<Waiting>,
    topic: Topic,
    start: Instant,
    counts: Arc<DeliveryCounts>,
) -> LaneReport {
    let mut report = LaneReport {
        ack_us: latency_histogram(),
        steady_ack_us: latency_histogram(),
        sent: SentTimes::default(),
    };
    while let Some(Waiting {
        delivery,
        sent_us,
        steady,
    }) = queue.recv().await
    {
        match delivery.await {
            Ok(delivery) => {
                let ack_us = (start.elapsed().as_micros() as u64).saturating_sub(sent_us);
                let histogram = if steady {
                    &mut report.steady_ack_us
                } else {
                    &mut report.ack_us
                };
                histogram.saturating_record(ack_us);
                report.sent.note(delivery.offset.value(), sent_us);
                counts.by_topic[topic as usize].fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                *counts.last_error.lock() = Some(error.to_string());
            }
        }
    }
    report
}
