//! Sends records on time, from a thread of its own.
//!
//! A thread and not a task: the runtime's timer knows whole milliseconds only, and a busy runtime
//! would make the load depend on what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conveyor_sdk::{DeliveryFuture, Error, Producer, ProducerRecord};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::report::Latencies;

/// Reports waiting to be looked at.
const REPORTS_MAX: usize = 1 << 16;
/// Latency of at most this many records a second is taken.
const SAMPLES_PER_SECOND: u64 = 25_000;

/// How one producer is to send.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topic: Arc<str>,
    /// Records a second; 0 for as fast as possible.
    pub(super) rate: u64,
    /// Distinct keys; 0 for none.
    pub(super) keys: u64,
    pub(super) start: Instant,
    /// Latencies count from here on.
    pub(super) measure_from: Instant,
    pub(super) end: Instant,
    /// Latency of one record in so many is taken.
    pub(super) sample_every: u64,
}

impl Plan {
    /// One record in how many to look at, with `rate` records a second.
    pub(super) fn sampling(rate: u64) -> u64 {
        match rate {
            0 => 32,
            rate => rate.div_ceil(SAMPLES_PER_SECOND),
        }
    }

    /// When record `number` is due.
    fn intended(&self, number: u64) -> Instant {
        if self.rate == 0 {
            return Instant::now();
        }
        // Whole seconds and the rest apart: exact at any rate for years.
        let (seconds, rest) = (number / self.rate, number % self.rate);
        self.start
            + Duration::from_secs(seconds)
            + Duration::from_nanos(rest * 1_000_000_000 / self.rate)
    }
}

/// A sample under way.
struct Sample {
    intended: Instant,
    report: DeliveryFuture,
}

/// What one producer came to.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) latencies: Latencies,
    pub(super) first_error: Option<Error>,
}

/// Sends by `plan` until its end or until `stop`; returns when every sampled record is settled.
/// `value` makes the value of a record from its intended time.
pub(super) async fn send(
    producer: Producer,
    plan: Plan,
    stop: Arc<AtomicBool>,
    value: impl FnMut(Instant) -> Bytes + Send + 'static,
) -> anyhow::Result<Sent> {
    let (samples, received) = mpsc::channel(REPORTS_MAX);
    let collector = tokio::spawn(collect(received, plan.measure_from));
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new()
        .name("bench-load".to_owned())
        .spawn({
            let producer = producer.clone();
            move || pace(&runtime, &producer, &plan, &stop, value, &samples)
        })?;
    let paced = tokio::task::spawn_blocking(move || thread.join()).await?;
    paced.map_err(|_| anyhow::anyhow!("the load thread failed"))??;
    producer.flush().await;
    collector.await?
}

fn pace(
    runtime: &tokio::runtime::Handle,
    producer: &Producer,
    plan: &Plan,
    stop: &AtomicBool,
    mut value: impl FnMut(Instant) -> Bytes,
    samples: &mpsc::Sender<Sample>,
) -> anyhow::Result<()> {
    for number in 0.. {
        let intended = plan.intended(number);
        if intended >= plan.end || stop.load(Ordering::Relaxed) {
            break;
        }
        wait_until(intended);
        let mut record = ProducerRecord::new(Arc::clone(&plan.topic)).value(value(intended));
        if plan.keys > 0 {
            record = record.key((number % plan.keys).to_be_bytes().to_vec());
        }
        let report = match producer.try_send(record) {
            Ok(report) => report,
            // No memory, or the topic is not known yet: wait. Open loop means that the records
            // behind this one get late, and their latency shows it.
            Err(refused) if refused.error.is_retriable() => {
                runtime.block_on(producer.send(*refused.record))?
            }
            Err(refused) => return Err(refused.error.into()),
        };
        if number % plan.sample_every == 0 {
            let sample = Sample { intended, report };
            if samples.blocking_send(sample).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Sleeps as precisely as the system allows, some 50 µs.
fn wait_until(time: Instant) {
    let wait = time.saturating_duration_since(Instant::now());
    if !wait.is_zero() {
        std::thread::sleep(wait);
    }
}

/// Takes the latency of each sample when it is acknowledged.
async fn collect(
    mut samples: mpsc::Receiver<Sample>,
    measure_from: Instant,
) -> anyhow::Result<Sent> {
    let mut latencies = Latencies::new()?;
    let mut first_error = None;
    let mut waiting = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !waiting.is_empty() {
        tokio::select! {
            biased;
            Some((intended, latency, result)) = waiting.next(), if !waiting.is_empty() => match result {
                Ok(_) if intended >= measure_from => latencies.record(latency),
                Ok(_) => {}
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            },
            sample = samples.recv(), if is_open => match sample {
                Some(Sample { intended, report }) => waiting.push(async move {
                    let result = report.await;
                    (intended, intended.elapsed(), result)
                }),
                None => is_open = false,
            },
        }
    }
    Ok(Sent {
        latencies,
        first_error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intended_times_do_not_drift() {
        let start = Instant::now();
        let plan = Plan {
            topic: "t".into(),
            rate: 3,
            keys: 0,
            start,
            measure_from: start,
            end: start,
            sample_every: 1,
        };
        assert_eq!(plan.intended(0), start);
        assert_eq!(plan.intended(1), start + Duration::from_nanos(333_333_333));
        assert_eq!(
            plan.intended(3_000_000),
            start + Duration::from_secs(1_000_000)
        );
    }

    #[test]
    fn few_records_are_all_looked_at() {
        assert_eq!(Plan::sampling(1_000), 1);
        assert_eq!(Plan::sampling(100_000), 4);
    }
}
