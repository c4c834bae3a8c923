//! `conveyor bench e2e`: from the intended time of a record to the consumer that has it.
//!
//! Producer and consumer run in this process, so one clock measures. Each value begins with the
//! number of this run and its record's intended time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conveyor_sdk::{Client, Consumer, ConsumerConfig, OffsetReset, TopicPartition};

use super::drive::{Schedule, drive};
use super::payload::Payloads;
use super::report::{BenchReport, Latencies};
use super::{BenchTopic, LoadArgs};
use crate::Verdict;
use crate::output::note;

/// Bytes of a value that name the run and the intended time.
const STAMP_BYTES: usize = 16;
/// How long the consumer may take for the last records after they were acknowledged.
const CATCH_UP: Duration = Duration::from_secs(10);

pub(super) async fn run(args: LoadArgs) -> anyhow::Result<Verdict> {
    args.check()?;
    anyhow::ensure!(
        args.size >= STAMP_BYTES,
        "--size must be at least {STAMP_BYTES} for e2e"
    );
    let client = args.connect.connect().await?;
    let topic = BenchTopic::prepare(&client, &args).await?;
    let consumer = consumer_at_the_end(&client, &topic).await?;
    let run_id: u64 = rand::random();
    let schedule = Schedule::new(&args);
    let expected = Arc::new(AtomicU64::new(u64::MAX));
    let receiving = tokio::spawn(receive(consumer, run_id, schedule, Arc::clone(&expected)));

    let (size, compressibility, seed) = (args.size, args.compressibility, args.seed);
    let start = schedule.start;
    let stamped = |index| {
        let mut payloads = Payloads::new(size, compressibility, seed.wrapping_add(index));
        move |intended| stamp(run_id, start, intended, &payloads.next())
    };
    let measured = drive(&args, &topic.name, schedule, stamped).await?;
    expected.store(measured.records_in_all, Ordering::Release);
    let received = receiving.await??;
    measured.note_errors();
    let meaning = "from a record's intended time to the consumer that has it";
    let report = measured.report("e2e", meaning, &args, &topic, &received.latencies);
    args.format.print(&report, BenchReport::text)?;
    topic.finish().await?;
    if received.records != measured.records_in_all {
        note(format!(
            "{} records were acknowledged, {} were received",
            measured.records_in_all, received.records
        ));
        return Ok(Verdict::FoundWrong);
    }
    Ok(if measured.is_fine() {
        Verdict::Fine
    } else {
        Verdict::FoundWrong
    })
}

/// What the consumer came to.
struct Received {
    records: u64,
    latencies: Latencies,
}

async fn consumer_at_the_end(client: &Client, topic: &BenchTopic) -> anyhow::Result<Consumer> {
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Latest,
        ..ConsumerConfig::standalone()
    };
    let mut consumer = Consumer::new(client, config)?;
    let partitions: Vec<TopicPartition> = (0..topic.partitions)
        .map(|n| TopicPartition::new(topic.name.as_str(), n))
        .collect();
    let ends = consumer.end_offsets(&partitions).await?;
    consumer.assign(partitions)?;
    for (partition, offset) in ends {
        consumer.seek(&partition, offset)?;
    }
    Ok(consumer)
}

/// Takes the latency of this run's records until all that were acknowledged are here.
async fn receive(
    mut consumer: Consumer,
    run_id: u64,
    schedule: Schedule,
    expected: Arc<AtomicU64>,
) -> anyhow::Result<Received> {
    let mut received = Received {
        records: 0,
        latencies: Latencies::new()?,
    };
    let mut give_up = None;
    loop {
        let records = consumer.poll(Duration::from_millis(100)).await?;
        let now = Instant::now();
        for (_, record) in records.iter() {
            let stamp = record.value.as_deref().and_then(read_stamp);
            let Some((_, since_start)) = stamp.filter(|(id, _)| *id == run_id) else {
                continue;
            };
            let intended = schedule.start + since_start;
            received.records += 1;
            if intended >= schedule.measure_from {
                received
                    .latencies
                    .record(now.saturating_duration_since(intended));
            }
        }
        let expected = expected.load(Ordering::Acquire);
        if received.records >= expected {
            return Ok(received);
        }
        if expected != u64::MAX {
            let limit = *give_up.get_or_insert(now + CATCH_UP);
            if now > limit {
                return Ok(received);
            }
        }
    }
}

fn stamp(run_id: u64, start: Instant, intended: Instant, payload: &Bytes) -> Bytes {
    let since_start = intended.saturating_duration_since(start);
    let mut value = payload.to_vec();
    value[..8].copy_from_slice(&run_id.to_be_bytes());
    let nanoseconds = u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX);
    value[8..STAMP_BYTES].copy_from_slice(&nanoseconds.to_be_bytes());
    value.into()
}

fn read_stamp(value: &[u8]) -> Option<(u64, Duration)> {
    let run_id = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    let nanoseconds = u64::from_be_bytes(value.get(8..STAMP_BYTES)?.try_into().ok()?);
    Some((run_id, Duration::from_nanos(nanoseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_back() {
        let start = Instant::now();
        let intended = start + Duration::from_micros(1_500);
        let value = stamp(7, start, intended, &Bytes::from(vec![9; 40]));
        assert_eq!(value.len(), 40);
        assert_eq!(read_stamp(&value), Some((7, Duration::from_micros(1_500))));
        assert_eq!(read_stamp(b"short"), None);
    }
}
