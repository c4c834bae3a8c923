//! Producers and a consumer that write down everything they do, while a test hurts the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_sdk::admin::{NewTopic, OffsetSpec};
use conveyor_sdk::{
    AdminClient, Client, ClientConfig, Consumer, ConsumerConfig, IsolationLevel, OffsetReset,
    Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use tokio::task::JoinHandle;

use crate::history::{FinalLog, History, Outcome, Sent};

/// Records that one producer has under way at a time.
const IN_FLIGHT: usize = 64;
/// How long the end of a run may take to be acknowledged or read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);

/// A load on one topic, going on until [`Load::finish`].
#[derive(Debug)]
pub struct Load {
    address: String,
    topic: String,
    partitions: i32,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    producers: Vec<JoinHandle<Result<Vec<Sent>>>>,
    consumer: JoinHandle<Result<Vec<(i32, i64, u64)>>>,
}

impl Load {
    /// Creates the topic and starts `producers` producers and one consumer on it.
    pub async fn start(
        address: &str,
        topic: &str,
        partitions: i32,
        producers: u32,
    ) -> Result<Self> {
        let client = Client::connect(ClientConfig::new(address)).await?;
        let new = NewTopic::new(topic).partitions(partitions);
        AdminClient::new(&client).create_topic(new).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let clock = Instant::now();
        let next_value = Arc::new(AtomicU64::new(1));
        let producers = (0..producers).map(|number| {
            let run = ProducerRun {
                topic: topic.to_owned(),
                number,
                partition: number as i32 % partitions,
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
                next_value: Arc::clone(&next_value),
                clock,
            };
            tokio::spawn(run.run(address.to_owned()))
        });
        let producers = producers.collect();
        let consumer = tokio::spawn(watch(
            address.to_owned(),
            topic.to_owned(),
            partitions,
            Arc::clone(&stop),
        ));
        Ok(Self {
            address: address.to_owned(),
            topic: topic.to_owned(),
            partitions,
            stop,
            acknowledged,
            producers,
            consumer,
        })
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further records are acknowledged: the node makes progress.
    pub async fn progress(&self, more: u64) -> Result<()> {
        let goal = self.acknowledged() + more;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.acknowledged() < goal {
            if Instant::now() > deadline {
                bail!(
                    "only {} of {goal} records acknowledged",
                    self.acknowledged()
                );
            }
            if let Some(ended) = self.producers.iter().find(|task| task.is_finished()) {
                bail!("a producer ended before its time: {ended:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Stops the load, waits for what is under way, and reads the log from the start.
    pub async fn finish(self) -> Result<(History, FinalLog)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for producer in self.producers {
            history.sent.extend(producer.await??);
        }
        history.seen = self.consumer.await??;
        let log = read_all(&self.address, &self.topic, self.partitions).await?;
        Ok((history, log))
    }
}

struct ProducerRun {
    topic: String,
    number: u32,
    partition: i32,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    next_value: Arc<AtomicU64>,
    clock: Instant,
}

impl ProducerRun {
    async fn run(self, address: String) -> Result<Vec<Sent>> {
        let client = Client::connect(ClientConfig::new(&address)).await?;
        let producer = Producer::new(&client, ProducerConfig::default())?;
        let mut sent: Vec<Sent> = Vec::new();
        let mut under_way = std::collections::VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            let value = self.next_value.fetch_add(1, Ordering::Relaxed);
            let record = ProducerRecord::new(self.topic.as_str())
                .partition(self.partition)
                .value(value.to_be_bytes().to_vec());
            sent.push(Sent {
                value,
                producer: self.number,
                partition: self.partition,
                sent_at: self.now(),
                outcome: Outcome::Unknown,
            });
            under_way.push_back((sent.len() - 1, producer.send(record).await?));
            if under_way.len() >= IN_FLIGHT
                && let Some((index, delivery)) = under_way.pop_front()
            {
                sent[index].outcome = self.outcome(delivery.await);
            }
        }
        for (index, delivery) in under_way {
            sent[index].outcome = self.outcome(delivery.await);
        }
        producer.close(DRAIN_TIMEOUT).await?;
        Ok(sent)
    }

    fn outcome(&self, delivery: conveyor_sdk::Result<conveyor_sdk::Delivery>) -> Outcome {
        match delivery {
            Ok(delivery) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Outcome::Acknowledged {
                    offset: delivery.offset.value(),
                    at: self.now(),
                }
            }
            Err(_) => Outcome::Unknown,
        }
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

fn partitions_of(topic: &str, count: i32) -> Vec<TopicPartition> {
    (0..count)
        .map(|partition| TopicPartition::new(topic, partition))
        .collect()
}

fn value_of(value: Option<&bytes::Bytes>) -> Result<u64> {
    let value = value.context("every record has a value")?;
    let bytes: [u8; 8] = value[..].try_into().context("values are eight bytes")?;
    Ok(u64::from_be_bytes(bytes))
}

async fn from_start(address: &str, topic: &str, partitions: i32) -> Result<Consumer> {
    let client = Client::connect(ClientConfig::new(address)).await?;
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::standalone()
    };
    let mut consumer = Consumer::new(&client, config)?;
    consumer.assign(partitions_of(topic, partitions))?;
    Ok(consumer)
}

/// Reads along until told to stop; notes what it saw.
async fn watch(
    address: String,
    topic: String,
    partitions: i32,
    stop: Arc<AtomicBool>,
) -> Result<Vec<(i32, i64, u64)>> {
    let mut consumer = from_start(&address, &topic, partitions).await?;
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let records = match consumer.poll(Duration::from_millis(100)).await {
            Ok(records) => records,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error.into()),
        };
        for (place, record) in records.iter() {
            let value = value_of(record.value.as_ref())?;
            seen.push((place.partition, record.offset.value(), value));
        }
    }
    Ok(seen)
}

/// Everything that is in the log, by a fresh client.
pub async fn read_all(address: &str, topic: &str, partitions: i32) -> Result<FinalLog> {
    let client = Client::connect(ClientConfig::new(address)).await?;
    let admin = AdminClient::new(&client);
    let mut ends = BTreeMap::new();
    for partition in partitions_of(topic, partitions) {
        let offsets = admin
            .list_offsets(
                &[(partition.clone(), OffsetSpec::Latest)],
                IsolationLevel::ReadUncommitted,
            )
            .await?;
        for (place, end) in offsets {
            ends.insert(
                place.partition,
                end?.offset.map_or(0, conveyor_sdk::Offset::value),
            );
        }
    }
    let mut consumer = from_start(address, topic, partitions).await?;
    let mut log: FinalLog = (0..partitions)
        .map(|partition| (partition, Vec::new()))
        .collect();
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    let complete = |log: &FinalLog| {
        ends.iter().all(|(partition, end)| {
            *end == 0
                || log[partition]
                    .last()
                    .is_some_and(|(offset, _)| offset + 1 >= *end)
        })
    };
    while !complete(&log) {
        if Instant::now() > deadline {
            bail!("the log cannot be read up to {ends:?}");
        }
        let records = consumer.poll(Duration::from_millis(500)).await?;
        for (place, record) in records.iter() {
            let value = value_of(record.value.as_ref())?;
            log.entry(place.partition)
                .or_default()
                .push((record.offset.value(), value));
        }
    }
    Ok(log)
}
