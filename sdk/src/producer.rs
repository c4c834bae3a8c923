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
//!
//! **Transactions.** With a `transactional_id` records reach readers of committed records together or
//! not at all, over all topics, and with them the offsets of a consumer that they were made from:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use conveyor_sdk::{Client, Consumer, Producer, ProducerConfig, ProducerRecord, Result, TransactionFault};
//! # async fn run(client: Client, mut consumer: Consumer) -> Result<()> {
//! let config = ProducerConfig {
//!     transactional_id: Some("order-totals-1".to_owned()),
//!     ..ProducerConfig::default()
//! };
//! let producer = Producer::new(&client, config)?;
//! // Fences whoever had the id, and has the transaction aborted that it left open.
//! producer.init_transactions().await?;
//! let group = consumer.group_metadata().expect("the consumer has a group");
//! loop {
//!     let records = consumer.poll(Duration::from_secs(1)).await?;
//!     producer.begin_transaction()?;
//!     for (_, record) in records.iter() {
//!         let total = ProducerRecord::new("order-totals").value("…");
//!         // Failures show at the commit; the reports may be dropped.
//!         drop(producer.send(total).await?);
//!     }
//!     producer.send_offsets_to_transaction(records.next_offsets(), &group).await?;
//!     match producer.commit_transaction().await {
//!         Ok(()) => {}
//!         Err(error) if error.transaction_fault() == Some(TransactionFault::Abortable) => {
//!             producer.abort_transaction().await?;
//!             consumer.seek_to_committed();
//!         }
//!         Err(error) => return Err(error),
//!     }
//! }
//! # }
//! ```
//!
//! Errors of these calls are *retriable* ([`Error::is_retriable`]: make the same call again, also a
//! commit), or they are [`Error::Transaction`], whose
//! [`TransactionFault`] says whether to abort or to close the producer.

mod accumulator;
mod config;
mod delivery;
mod metrics;
mod partitioner;
mod record;
mod sender;
mod sequencer;
mod transaction;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use self::accumulator::{Accumulator, AppendError, Reservation};
pub use self::config::{Acks, ProducerConfig};
pub use self::delivery::{Delivery, DeliveryFuture};
use self::metrics::Counters;
pub use self::metrics::ProducerMetrics;
pub use self::partitioner::{Partitioner, murmur2, partition_for_key};
pub use self::record::{Header, ProducerRecord};
use self::sender::Sender;
use self::transaction::Transactions;
use crate::client::Client;
use crate::consumer::{ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition};
use crate::error::{Error, Result, TransactionFault};

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
    transactions: Option<Arc<Transactions>>,
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
        let transactions = Transactions::of(client, &config);
        let sender = Sender::new(
            client.clone(),
            Arc::clone(&config),
            Arc::clone(&accumulator),
            Arc::clone(&counters),
            transactions.clone(),
        );
        let task = tokio::spawn(sender.run());
        let shared = Shared {
            client: client.clone(),
            config,
            accumulator,
            counters,
            transactions,
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
        if let Some(transactions) = &self.shared.transactions {
            transactions.check_open()?;
        }
        let reservation = match self.shared.accumulator.try_reserve(size) {
            Some(reservation) => reservation,
            None => {
                self.within_max_block("memory", self.shared.accumulator.reserve(size))
                    .await?
            }
        };
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let accumulator = &self.shared.accumulator;
        match self.append(&record, timestamp_ms, reservation) {
            Ok(report) => Ok(report),
            Err(AppendError::Failed(error)) => Err(error),
            Err(AppendError::UnknownTopic | AppendError::UnknownPartition { .. }) => {
                self.learn_topic(&record).await?;
                let reserve = accumulator.reserve(size);
                let reservation = self.within_max_block("memory", reserve).await?;
                self.append(&record, timestamp_ms, reservation)
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

    /// Takes the transactional id over: whoever had it before is fenced, and what it left open is
    /// aborted. Once, before the first transaction; waits at most the client's `api_timeout_ms`.
    ///
    /// # Errors
    /// [`Error::Transaction`]: `Fatal` when the id or the time-out is refused, `Misuse` without a
    /// `transactional_id` or when called twice.
    pub async fn init_transactions(&self) -> Result<()> {
        self.transactions("init transactions of")?.init().await
    }

    /// Begins a transaction; whatever is sent from now on belongs to it.
    ///
    /// # Errors
    /// [`Error::Transaction`]: `Misuse` before [`Producer::init_transactions`] or while one is open,
    /// `Fenced` and the like when this producer can do nothing any more.
    pub fn begin_transaction(&self) -> Result<()> {
        self.transactions("begin a transaction of")?.begin()
    }

    /// Commits a consumer's offsets with the open transaction: they count once it is committed. The
    /// offsets are those of the next records to read; `group` is [`Consumer::group_metadata`].
    ///
    /// # Errors
    /// A retriable error (ask again, or abort); [`Error::Transaction`]: `Abortable` when the group has
    /// given the partitions to others, `Fenced` and the like.
    ///
    /// [`Consumer::group_metadata`]: crate::Consumer::group_metadata
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
        group: &ConsumerGroupMetadata,
    ) -> Result<()> {
        let transactions = self.transactions("send offsets to the transaction of")?;
        let offsets = offsets.into_iter().collect();
        transactions.send_offsets(offsets, group).await
    }

    /// Waits for everything sent in the transaction and commits it. A future that is dropped half-way
    /// is gone on with by the next call.
    ///
    /// # Errors
    /// A retriable error when the outcome is not known yet: call it again.
    /// [`Error::Transaction`]: `Abortable` when a record of it failed, so that it was not committed;
    /// `Fenced` or `TimedOut` when this producer has lost its id.
    pub async fn commit_transaction(&self) -> Result<()> {
        let transactions = self.transactions("commit the transaction of")?;
        transactions.end(&self.shared.accumulator, true).await
    }

    /// Gives up what is on its way and aborts the transaction: readers of committed records see
    /// nothing of it.
    ///
    /// # Errors
    /// As [`Producer::commit_transaction`]; `Misuse` once the commit may have been decided.
    pub async fn abort_transaction(&self) -> Result<()> {
        let transactions = self.transactions("abort the transaction of")?;
        transactions.end(&self.shared.accumulator, false).await
    }

    /// Waits until every record taken before is acknowledged or has failed; their reports tell
    /// which. Batches that linger go at once.
    pub async fn flush(&self) {
        for completion in self.shared.accumulator.flush() {
            delivery::settled(completion).await;
        }
    }

    /// Takes no more records, waits for those taken before, and ends. Whatever is not acknowledged
    /// after `timeout` is reported as failed. A transaction that is open is aborted first.
    ///
    /// # Errors
    /// [`Error::Timeout`] when records had to be given up.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        self.shared.accumulator.close();
        let flushed = async {
            if let Err(error) = self.abort_open_transaction().await {
                tracing::warn!(%error, "the transaction is left to its coordinator");
            }
            self.flush().await;
        };
        let is_flushed = tokio::time::timeout(timeout, flushed).await.is_ok();
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

    async fn abort_open_transaction(&self) -> Result<()> {
        let transactions = self.shared.transactions.as_ref();
        match transactions.filter(|transactions| transactions.is_in_transaction()) {
            Some(transactions) => transactions.end(&self.shared.accumulator, false).await,
            None => Ok(()),
        }
    }

    fn transactions(&self, operation: &'static str) -> Result<&Transactions> {
        let transactions = self.shared.transactions.as_deref();
        transactions.ok_or_else(|| Error::Transaction {
            operation,
            transactional_id: String::new(),
            fault: TransactionFault::Misuse,
            code: None,
            reason: "the producer has no transactional_id".to_owned(),
        })
    }

    /// Puts a record into its batch, in the open transaction if there are transactions.
    fn append(
        &self,
        record: &ProducerRecord,
        timestamp_ms: i64,
        reservation: Reservation<'_>,
    ) -> Result<DeliveryFuture, AppendError> {
        let append = || {
            let accumulator = &self.shared.accumulator;
            accumulator.append(record, timestamp_ms, reservation)
        };
        match &self.shared.transactions {
            Some(transactions) => transactions.take(append),
            None => append(),
        }
    }

    fn append_now(&self, record: &ProducerRecord) -> Result<DeliveryFuture> {
        let size = self.check_size(record)?;
        let accumulator = &self.shared.accumulator;
        let reservation = accumulator.try_reserve(size).ok_or(Error::BufferFull {
            limit: self.shared.config.buffer_memory,
        })?;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        self.append(record, timestamp_ms, reservation)
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
