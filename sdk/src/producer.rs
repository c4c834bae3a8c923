//! Sends records: batched, compressed, in order, each exactly once.
//!
//! ```no_run
//! use conveyor_sdk::{Client, ClientConfig, Producer, ProducerConfig, ProducerRecord};
//!
//! # async fn run() -> conveyor_sdk::Result<()> {
//! let client = Client::connect(ClientConfig::new("localhost:9192")).await?;
//! let producer = Producer::new(&client, ProducerConfig::default())?;
//!
//! // `send` waits for memory only; the report tells when and where the record arrived.
//! let record = ProducerRecord::new("order-events").key("order-4711").value("released");
//! let report = producer.send(record).await?;
//! let delivery = report.await?;
//! println!("{}-{} offset {}", delivery.topic, delivery.partition, delivery.offset);
//!
//! producer.close(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **What is promised.** Records of one partition are appended in the order in which `send` took
//! them, and once, however often a batch is sent again: every producer has an id, every batch a
//! sequence, and the broker knows a repeated one. A report of success means durable as
//! [`Acks`] says. A report of failure means that the record is in the log at most once; after a
//! timeout or a broken connection it may be there. Records that follow a failed one are still sent.
//!
//! **What happens when.** The network fails, a leader moves, a node restarts: batches are sent again
//! with back-off until `delivery_timeout_ms`. The cluster is slower than the callers: `send` waits
//! once `buffer_memory` is used up. The last handle is dropped: what was sent goes out in the
//! background; [`Producer::close`] waits for it.

mod accumulator;
mod config;
mod delivery;
mod metrics;
mod partitioner;
mod record;
mod sender;
mod sequencer;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use self::accumulator::{Accumulator, AppendError};
pub use self::config::{Acks, ProducerConfig};
pub use self::delivery::{Delivery, DeliveryFuture};
use self::metrics::Counters;
pub use self::metrics::ProducerMetrics;
pub use self::partitioner::{Partitioner, murmur2, partition_for_key};
pub use self::record::{Header, ProducerRecord};
use self::sender::Sender;
use crate::client::Client;
use crate::error::{Error, Result};

/// Sends records to topics; clones are cheap and share batches, memory and order.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    config: Arc<ProducerConfig>,
    accumulator: Arc<Accumulator>,
    counters: Arc<Counters>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A record that [`Producer::try_send`] did not take, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TrySendError {
    /// Why; [`Error::is_retriable`] tells whether to try again later.
    pub error: Error,
    /// The record, to be sent later.
    pub record: Box<ProducerRecord>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// Starts a producer. Must be called within a Tokio runtime; talks to nobody before the first
    /// record.
    pub fn new(client: &Client, config: ProducerConfig) -> Result<Self> {
        config.validate()?;
        let config = Arc::new(config);
        let accumulator = Arc::new(Accumulator::new(Arc::clone(&config)));
        let counters = Arc::new(Counters::new());
        let sender = Sender::new(
            client.clone(),
            Arc::clone(&config),
            Arc::clone(&accumulator),
            Arc::clone(&counters),
        );
        let task = tokio::spawn(sender.run());
        let shared = Shared {
            client: client.clone(),
            config,
            accumulator,
            counters,
            task: Mutex::new(Some(task)),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Takes a record for sending. Waits, at most `max_block_ms`, while the producer's memory is
    /// used up or the topic is not known yet; the report is for the record's arrival.
    ///
    /// Dropping the future before it is ready means that the record was not taken.
    pub async fn send(&self, record: ProducerRecord) -> Result<DeliveryFuture> {
        let size = self.check_size(&record)?;
        let reservation = match self.shared.accumulator.try_reserve(size) {
            Some(reservation) => reservation,
            None => {
                self.within_max_block("memory", self.shared.accumulator.reserve(size))
                    .await?
            }
        };
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let accumulator = &self.shared.accumulator;
        match accumulator.append(&record, timestamp_ms, reservation) {
            Ok(report) => Ok(report),
            Err(AppendError::Failed(error)) => Err(error),
            Err(AppendError::UnknownTopic | AppendError::UnknownPartition { .. }) => {
                self.learn_topic(&record).await?;
                let reserve = accumulator.reserve(size);
                let reservation = self.within_max_block("memory", reserve).await?;
                accumulator
                    .append(&record, timestamp_ms, reservation)
                    .map_err(|refused| into_error(refused, &record))
            }
        }
    }

    /// Takes a record if that is possible at once.
    ///
    /// # Errors
    /// The record comes back with [`Error::BufferFull`] when memory is used up, and with a retriable
    /// [`Error::Timeout`] when the topic is not known yet; it is then being asked for.
    pub fn try_send(&self, record: ProducerRecord) -> Result<DeliveryFuture, TrySendError> {
        self.append_now(&record).map_err(|error| TrySendError {
            error,
            record: Box::new(record),
        })
    }

    /// Waits until every record taken before is acknowledged or has failed; their reports tell
    /// which. Batches that linger go at once.
    pub async fn flush(&self) {
        for completion in self.shared.accumulator.flush() {
            delivery::settled(completion).await;
        }
    }

    /// Takes no more records, waits for those taken before, and ends. Whatever is not acknowledged
    /// after `timeout` is reported as failed.
    ///
    /// # Errors
    /// [`Error::Timeout`] when records had to be given up.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        self.shared.accumulator.close();
        let is_flushed = tokio::time::timeout(timeout, self.flush()).await.is_ok();
        if !is_flushed {
            self.shared.accumulator.abort();
        }
        let task = self.shared.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "producer task failed");
        }
        if is_flushed {
            return Ok(());
        }
        Err(Error::Timeout {
            operation: "close producer",
            place: "with records not acknowledged".to_owned(),
            after_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            reason: "their reports say which".to_owned(),
        })
    }

    /// The counters at this moment.
    pub fn metrics(&self) -> ProducerMetrics {
        self.shared
            .counters
            .snapshot(self.shared.accumulator.memory_used())
    }

    /// The settings given.
    pub fn config(&self) -> &ProducerConfig {
        &self.shared.config
    }

    fn append_now(&self, record: &ProducerRecord) -> Result<DeliveryFuture> {
        let size = self.check_size(record)?;
        let accumulator = &self.shared.accumulator;
        let reservation = accumulator.try_reserve(size).ok_or(Error::BufferFull {
            limit: self.shared.config.buffer_memory,
        })?;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        accumulator
            .append(record, timestamp_ms, reservation)
            .map_err(|refused| {
                if matches!(refused, AppendError::UnknownTopic) {
                    accumulator.want_topic(&record.topic);
                }
                into_error(refused, record)
            })
    }

    fn check_size(&self, record: &ProducerRecord) -> Result<usize> {
        let (size, limit) = (record.memory_size(), self.shared.config.max_request_size);
        if size <= limit {
            return Ok(size);
        }
        let topic = record.topic.to_string();
        Err(Error::RecordTooLarge {
            topic,
            size,
            setting: "max_request_size",
            limit,
        })
    }

    /// Asks for a topic that is not known, or that seems to have too few partitions.
    async fn learn_topic(&self, record: &ProducerRecord) -> Result<()> {
        let client = &self.shared.client;
        let fetch = client.find_topic(&record.topic);
        let topic = self.within_max_block("the topic's metadata", fetch).await?;
        sender::register(&self.shared.accumulator, &topic);
        Ok(())
    }

    async fn within_max_block<T>(
        &self,
        what: &str,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let after_ms = self.shared.config.max_block_ms;
        let limit = Duration::from_millis(after_ms);
        tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                operation: "send",
                place: "with max_block_ms".to_owned(),
                after_ms,
                reason: format!("waited for {what}"),
            })
        })
    }
}

impl Drop for Shared {
    /// The task goes on until everything is settled, then ends.
    fn drop(&mut self) {
        self.accumulator.close();
    }
}

fn into_error(refused: AppendError, record: &ProducerRecord) -> Error {
    match refused {
        AppendError::Failed(error) => error,
        AppendError::UnknownPartition { partition, count } => Error::UnknownPartition {
            topic: record.topic.to_string(),
            partition,
            count,
        },
        AppendError::UnknownTopic => Error::Timeout {
            operation: "send to",
            place: record.topic.to_string(),
            after_ms: 0,
            reason: "the topic's metadata are being fetched".to_owned(),
        },
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
