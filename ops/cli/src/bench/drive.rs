//! Runs the producers of a measurement together and adds up what they came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conveyor_sdk::{Error, Producer, ProducerMetrics};
use indicatif::ProgressBar;

use super::load::{Plan, Sent, send};
use super::report::{BenchReport, Latencies};
use super::{BenchTopic, LoadArgs};
use crate::output::{count_text, note};
use crate::shutdown;

/// Time between the decision to start and the first record, so that all threads are there.
const LEAD: Duration = Duration::from_millis(50);

/// When a measurement starts, counts and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) measure_from: Instant,
    pub(super) end: Instant,
}

impl Schedule {
    pub(super) fn new(args: &LoadArgs) -> Self {
        let start = Instant::now() + LEAD;
        let measure_from = start + Duration::from_secs_f64(args.warmup);
        Self {
            start,
            measure_from,
            end: measure_from + Duration::from_secs_f64(args.duration),
        }
    }
}

/// What the producers came to, from `measure_from` on.
#[derive(Debug)]
pub(super) struct Measured {
    counts: ProducerMetrics,
    /// Over the whole run, warm-up included.
    pub(super) records_in_all: u64,
    seconds: f64,
    pub(super) latencies: Latencies,
    pub(super) first_error: Option<Error>,
}

/// Sends until the schedule's end or until the user asks to stop. `value` makes, for each producer,
/// the function that makes its values.
pub(super) async fn drive<V, F>(
    args: &LoadArgs,
    topic: &str,
    schedule: Schedule,
    value: V,
) -> anyhow::Result<Measured>
where
    V: Fn(u64) -> F,
    F: FnMut(Instant) -> Bytes + Send + 'static,
{
    let mut producers = Vec::with_capacity(args.producers);
    for _ in 0..args.producers {
        let client = args.connect.connect().await?;
        // Known before the clock starts.
        client.topic(topic).await?;
        producers.push(Producer::new(&client, args.producer_config())?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::with_capacity(producers.len());
    for (index, producer) in producers.iter().enumerate() {
        let plan = Plan {
            topic: topic.into(),
            rate: share(args.rate, producers.len() as u64, index as u64),
            keys: args.keys,
            start: schedule.start,
            measure_from: schedule.measure_from,
            end: schedule.end,
            sample_every: Plan::sampling(args.rate),
        };
        if args.rate > 0 && plan.rate == 0 {
            continue;
        }
        let value = value(index as u64);
        tasks.push(tokio::spawn(send(
            producer.clone(),
            plan,
            Arc::clone(&stop),
            value,
        )));
    }

    let ticker = tokio::spawn(show_progress(producers.clone(), schedule));
    let stopper = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            if shutdown::requested().await.is_ok() {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    tokio::time::sleep_until(schedule.measure_from.into()).await;
    let (before, since) = (sum(&producers), Instant::now());
    let mut latencies = Latencies::new()?;
    let mut first_error = None;
    for task in tasks {
        let Sent {
            latencies: more,
            first_error: error,
        } = task.await??;
        latencies.add(&more)?;
        first_error = first_error.or(error);
    }
    let (after, seconds) = (sum(&producers), since.elapsed().as_secs_f64());
    ticker.abort();
    stopper.abort();
    for producer in &producers {
        producer.close(Duration::from_secs(10)).await?;
    }
    Ok(Measured {
        counts: difference(&after, &before),
        records_in_all: after.records_delivered,
        seconds,
        latencies,
        first_error,
    })
}

impl Measured {
    /// The row, with the latencies given.
    pub(super) fn report(
        &self,
        bench: &'static str,
        latency: &'static str,
        args: &LoadArgs,
        topic: &BenchTopic,
        latencies: &Latencies,
    ) -> BenchReport {
        let counts = &self.counts;
        let records = counts.records_delivered;
        BenchReport {
            bench,
            latency,
            open_loop: args.rate > 0,
            topic: topic.name.clone(),
            partitions: topic.partitions,
            durability: topic.durability.clone(),
            acks: format!("{:?}", args.acks).to_lowercase(),
            codec: args.codec.to_string(),
            producers: args.producers,
            record_bytes: args.size,
            compressibility: args.compressibility,
            compression_ratio: ratio(counts.record_bytes, counts.batch_bytes),
            records_per_batch: ratio(records, counts.batches_delivered),
            rate_target: args.rate,
            records,
            failed: counts.records_failed,
            seconds: self.seconds,
            records_per_second: records as f64 / self.seconds,
            megabytes_per_second: (records * args.size as u64) as f64 / 1e6 / self.seconds,
            sampled_every: Plan::sampling(args.rate),
            latency_us: latencies.quantiles(),
        }
    }

    /// Says what went wrong, if anything did.
    pub(super) fn note_errors(&self) {
        if let Some(error) = &self.first_error {
            note(format!(
                "{} records failed, first: {error}",
                self.counts.records_failed
            ));
        }
        if self.counts.connection_failures > 0 || self.counts.retries > 0 {
            note(format!(
                "{} batches sent again, {} connections lost",
                self.counts.retries, self.counts.connection_failures
            ));
        }
    }

    pub(super) fn is_fine(&self) -> bool {
        self.counts.records_failed == 0 && self.counts.records_delivered > 0
    }
}

/// Part `index` of `total` over `parts`; the parts add up to the whole.
fn share(total: u64, parts: u64, index: u64) -> u64 {
    total / parts + u64::from(index < total % parts)
}

fn ratio(dividend: u64, divisor: u64) -> f64 {
    if divisor == 0 {
        0.0
    } else {
        dividend as f64 / divisor as f64
    }
}

fn sum(producers: &[Producer]) -> ProducerMetrics {
    let mut total = ProducerMetrics::default();
    for producer in producers {
        let one = producer.metrics();
        total.records_delivered += one.records_delivered;
        total.records_failed += one.records_failed;
        total.batches_delivered += one.batches_delivered;
        total.batch_bytes += one.batch_bytes;
        total.record_bytes += one.record_bytes;
        total.retries += one.retries;
        total.connection_failures += one.connection_failures;
        total.queue_bytes += one.queue_bytes;
        total.latency_p99 = total.latency_p99.max(one.latency_p99);
    }
    total
}

fn difference(after: &ProducerMetrics, before: &ProducerMetrics) -> ProducerMetrics {
    ProducerMetrics {
        records_delivered: after.records_delivered - before.records_delivered,
        records_failed: after.records_failed - before.records_failed,
        batches_delivered: after.batches_delivered - before.batches_delivered,
        batch_bytes: after.batch_bytes - before.batch_bytes,
        record_bytes: after.record_bytes - before.record_bytes,
        retries: after.retries - before.retries,
        connection_failures: after.connection_failures - before.connection_failures,
        ..*after
    }
}

/// One line on standard error, kept up to date; nothing without a terminal.
async fn show_progress(producers: Vec<Producer>, schedule: Schedule) {
    let bar = ProgressBar::new_spinner();
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let mut before = (0, Instant::now());
    loop {
        ticks.tick().await;
        let (counts, now) = (sum(&producers), Instant::now());
        let elapsed = (now - before.1).as_secs_f64().max(1e-3);
        let rate = (counts.records_delivered - before.0) as f64 / elapsed;
        before = (counts.records_delivered, now);
        let stage = if now < schedule.measure_from {
            "warming up"
        } else {
            "measuring"
        };
        let left = schedule.end.saturating_duration_since(now).as_secs();
        bar.set_message(format!(
            "{stage}, {left} s left: {} records/s, batch p99 {:.1} ms, {} KiB waiting, {} failed",
            count_text(rate as u64),
            counts.latency_p99.as_secs_f64() * 1_000.0,
            counts.queue_bytes / 1_024,
            counts.records_failed
        ));
        bar.tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (total, parts) in [(10, 3), (2, 5), (0, 4), (1_000_000, 7)] {
            let sum: u64 = (0..parts).map(|index| share(total, parts, index)).sum();
            assert_eq!(sum, total);
        }
    }
}
