//! One instance at work: polls, writes, commits; aborts and goes back when that fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use conveyor_paklog::normalise::{Normaliser, Outcome};
use conveyor_paklog::topics;
use conveyor_processors::SourceRecord;
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{
    AdminClient, Client, Consumer, ConsumerConfig, ConsumerGroupMetadata, Error, ErrorCode,
    IsolationLevel, Offset, OffsetAndMetadata, OffsetReset, Producer, ProducerConfig,
    TopicPartition, TransactionFault,
};
use tokio::sync::watch;

use super::figures::Figures;
use super::records::{canonical_record, rejected_record, source_record};

/// Records of one transaction at most: a commit costs some syncs, whatever is in it.
const RECORDS_MAX: usize = 10_000;
const POLL: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(500);
/// How long everything must have been read before that is the end: partitions come one by one.
const QUIET: Duration = Duration::from_secs(2);
const CLOSE: Duration = Duration::from_secs(10);
/// Error name of a record that its canonical topic refuses.
const REFUSED: &str = "conveyor.normalise.Refused";
/// Room for canonical events that are larger than the records they are made from.
const REQUEST_BYTES_MAX: usize = 8 << 20;

type Offsets = Vec<(TopicPartition, OffsetAndMetadata)>;

/// Why an instance does not go on.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It was asked to.
    Asked,
    /// Nothing that it could do would help.
    Failed(anyhow::Error),
}

/// Why a transaction was not committed.
enum Undone {
    /// One of its records is refused by the topic that it goes to.
    Refused(Error),
    /// It may go well another time.
    Again(Error),
    Stopped(Stopped),
}

/// One instance.
pub(super) struct Engine {
    client: Client,
    normaliser: Normaliser,
    transactional_id: String,
    producer: Producer,
    consumer: Consumer,
    group: ConsumerGroupMetadata,
    figures: Figures,
    /// Time spent on polls that found something, and on what they found.
    busy: Duration,
    stopped: watch::Receiver<bool>,
    /// Where the log ended when the end was first asked for.
    ends: Option<BTreeMap<TopicPartition, Offset>>,
    quiet_since: Option<Instant>,
}

impl Engine {
    /// Creates the canonical topics that are missing, takes the transactional id over, and joins the
    /// group.
    pub(super) async fn start(
        client: Client,
        normaliser: Normaliser,
        group_id: &str,
        transactional_id: String,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        create_targets(&client, &normaliser).await?;
        let producer = start_producer(&client, &transactional_id).await?;
        let config = ConsumerConfig {
            isolation_level: IsolationLevel::ReadCommitted,
            auto_offset_reset: OffsetReset::Earliest,
            enable_auto_commit: false,
            max_poll_records: RECORDS_MAX,
            ..ConsumerConfig::for_group(group_id)
        };
        let mut consumer = Consumer::new(&client, config)?;
        let sources = normaliser.routes().sources();
        consumer.subscribe(sources.map(|source| source.topic.as_str()))?;
        let group = consumer.group_metadata().context("a group was given")?;
        Ok(Self {
            client,
            normaliser,
            transactional_id,
            producer,
            consumer,
            group,
            figures: Figures::default(),
            busy: Duration::ZERO,
            stopped,
            ends: None,
            quiet_since: None,
        })
    }

    /// Takes what there is to read, for a moment, and writes what becomes of it.
    pub(super) async fn step(&mut self) -> Result<(), Stopped> {
        if *self.stopped.borrow() {
            return Err(Stopped::Asked);
        }
        let started = Instant::now();
        let polled = tokio::select! {
            polled = self.consumer.poll(POLL) => polled,
            _ = self.stopped.changed() => return Err(Stopped::Asked),
        };
        let records = match polled {
            Ok(records) => records,
            Err(error) if error.is_retriable() => {
                self.figures.last_error = Some(error.to_string());
                return self.pause().await;
            }
            Err(error) => return Err(Stopped::Failed(error.into())),
        };
        if records.is_empty() {
            return Ok(());
        }
        let offsets = records.next_offsets();
        let records: Vec<SourceRecord> = records
            .iter()
            .map(|(place, record)| source_record(place, record))
            .collect();
        let mut outcome = self.transact(&records, offsets.clone()).await;
        if let Err(Undone::Refused(error)) = &outcome {
            self.abort(error).await?;
            outcome = self.one_by_one(&records, offsets).await;
        }
        self.busy += started.elapsed();
        match outcome {
            Ok(()) => Ok(()),
            Err(Undone::Stopped(stopped)) => Err(stopped),
            Err(Undone::Refused(error) | Undone::Again(error)) => {
                self.abort(&error).await?;
                self.consumer.seek_to_committed();
                self.pause().await
            }
        }
    }

    /// Finds the records that are refused: each in a transaction of its own, those refused to the
    /// error topic.
    async fn one_by_one(&mut self, records: &[SourceRecord], last: Offsets) -> Result<(), Undone> {
        for record in records {
            let source = &record.source;
            let place = TopicPartition::new(Arc::clone(&source.topic), source.partition);
            let offsets = vec![(place, OffsetAndMetadata::new(source.offset + 1))];
            let one = std::slice::from_ref(record);
            match self.transact(one, offsets.clone()).await {
                Err(Undone::Refused(error)) => self.give_up(record, &error, offsets).await?,
                outcome => outcome?,
            }
        }
        // The whole poll may end behind markers that follow its last record.
        self.write(Vec::new(), last).await
    }

    /// Writes a record that its topic refuses to the error topic.
    async fn give_up(
        &mut self,
        record: &SourceRecord,
        error: &Error,
        offsets: Offsets,
    ) -> Result<(), Undone> {
        self.abort(error).await.map_err(Undone::Stopped)?;
        let rejected = self.normaliser.reject(record, REFUSED, error.to_string());
        match self.write(vec![rejected], offsets).await {
            // There is nowhere left to put it.
            Err(Undone::Refused(error)) => {
                let error = anyhow::Error::from(error).context(format!(
                    "{} fits neither its canonical topic nor the error topic: raise \
                     max.message.bytes there",
                    record.source
                ));
                Err(Undone::Stopped(Stopped::Failed(error)))
            }
            outcome => outcome,
        }
    }

    async fn transact(&mut self, records: &[SourceRecord], offsets: Offsets) -> Result<(), Undone> {
        let outcomes = records.iter();
        let outcomes = outcomes.map(|record| self.normaliser.normalise(record));
        let outcomes = outcomes.collect();
        self.write(outcomes, offsets).await
    }

    /// One transaction: what becomes of some records, and where to go on behind them.
    async fn write(&mut self, outcomes: Vec<Outcome>, offsets: Offsets) -> Result<(), Undone> {
        let mut done = Figures {
            records: outcomes.len() as u64,
            ..Figures::default()
        };
        self.producer.begin_transaction().map_err(undone)?;
        for outcome in outcomes {
            let record = match outcome {
                Outcome::Write(canonical) => {
                    let count = done.normalised.entry(canonical.topic.to_string());
                    *count.or_default() += 1;
                    canonical_record(canonical)
                }
                Outcome::Reject(rejected) => {
                    done.rejected += 1;
                    rejected_record(Arc::clone(self.normaliser.error_topic()), rejected)
                }
                Outcome::LeaveAlone => {
                    done.left_alone += 1;
                    continue;
                }
                Outcome::Skip => {
                    done.skipped += 1;
                    continue;
                }
            };
            // The commit says whether it arrived.
            drop(self.producer.send(record).await.map_err(undone)?);
        }
        let sent = self
            .producer
            .send_offsets_to_transaction(offsets, &self.group);
        sent.await.map_err(undone)?;
        self.commit().await?;
        self.figures.add(&done);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Undone> {
        loop {
            match self.producer.commit_transaction().await {
                Ok(()) => return Ok(()),
                // Whether it is committed is not known: only the same question tells.
                Err(error) if error.is_retriable() => {
                    self.figures.last_error = Some(error.to_string());
                    self.pause().await.map_err(Undone::Stopped)?;
                }
                Err(error) => return Err(undone(error)),
            }
        }
    }

    /// Aborts the transaction; a producer that was too slow for its coordinator is replaced.
    async fn abort(&mut self, reason: &Error) -> Result<(), Stopped> {
        tracing::warn!(%reason, "transaction is aborted, its records are read again");
        self.figures.aborted += 1;
        self.figures.last_error = Some(reason.to_string());
        let mut is_too_slow = reason.transaction_fault() == Some(TransactionFault::TimedOut);
        loop {
            let outcome = if is_too_slow {
                let fresh = start_producer(&self.client, &self.transactional_id).await;
                fresh.map(|producer| self.producer = producer)
            } else {
                self.producer.abort_transaction().await
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) => match error.transaction_fault() {
                    // None had been begun.
                    Some(TransactionFault::Misuse) => return Ok(()),
                    Some(TransactionFault::TimedOut) => is_too_slow = true,
                    None if error.is_retriable() => {
                        self.figures.last_error = Some(error.to_string());
                        self.pause().await?;
                    }
                    _ => return Err(Stopped::Failed(fatal(error))),
                },
            }
        }
    }

    async fn pause(&mut self) -> Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            _ = self.stopped.changed() => Err(Stopped::Asked),
        }
    }

    /// Whether everything is consumed that was there when this was first asked, in the partitions
    /// that are this instance's.
    pub(super) async fn is_at_end(&mut self) -> anyhow::Result<bool> {
        if self.ends.is_none() {
            self.ends = Some(self.find_ends().await?);
        }
        let ends = self.ends.as_ref().context("they were just found")?;
        let assigned = self.consumer.assignment();
        let is_read = |place: &TopicPartition| {
            let end = ends.get(place).map_or(0, |end| end.value());
            let position = self.consumer.position(place);
            end == 0 || position.is_some_and(|position| position.value() >= end)
        };
        let is_done = (!assigned.is_empty() || ends.is_empty()) && assigned.iter().all(is_read);
        if !is_done {
            self.quiet_since = None;
            return Ok(false);
        }
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        Ok(since.elapsed() >= QUIET)
    }

    async fn find_ends(&self) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        let metadata = self.client.refresh_all_topics().await?;
        let mut partitions = Vec::new();
        for source in self.normaliser.routes().sources() {
            let Some(topic) = metadata.topic(&source.topic) else {
                continue;
            };
            let numbers = 0..topic.partitions.len() as i32;
            partitions.extend(numbers.map(|n| TopicPartition::new(source.topic.as_str(), n)));
        }
        Ok(self.consumer.end_offsets(&partitions).await?)
    }

    /// The counts, and where things stand now.
    pub(super) fn figures(&mut self) -> Figures {
        let assigned = self.consumer.assignment();
        let lags = assigned.iter().map(|place| self.consumer.lag(place));
        let seconds = self.busy.as_secs_f64();
        let records_per_second = if seconds > 0.0 {
            self.figures.records as f64 / seconds
        } else {
            0.0
        };
        Figures {
            lag_records: lags.sum(),
            partitions: assigned.len(),
            records_per_second,
            ..self.figures.clone()
        }
    }

    /// Leaves the group; what has not been committed is aborted.
    pub(super) async fn close(mut self) -> Figures {
        let figures = self.figures();
        if let Err(error) = self.producer.close(CLOSE).await {
            tracing::warn!(%error, "the producer was not closed in order");
        }
        if let Err(error) = self.consumer.close().await {
            tracing::warn!(%error, "the group was not left in order");
        }
        figures
    }
}

async fn start_producer(client: &Client, transactional_id: &str) -> Result<Producer, Error> {
    let config = ProducerConfig {
        transactional_id: Some(transactional_id.to_owned()),
        // A little, so that batches fill up: the commit waits for the last of them anyway.
        linger_ms: 5,
        max_request_size: REQUEST_BYTES_MAX,
        delivery_timeout_ms: 30_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client, config)?;
    producer.init_transactions().await?;
    Ok(producer)
}

async fn create_targets(client: &Client, normaliser: &Normaliser) -> anyhow::Result<()> {
    let nodes = u16::try_from(client.metadata().nodes().len()).unwrap_or(u16::MAX);
    let new_topics = topics::plans(nodes).into_iter().map(|plan| {
        let name = normaliser.routes().target(plan.topic);
        let topic = NewTopic::new(&**name)
            .partitions(plan.partitions as i32)
            .replication_factor(i32::from(plan.replication_factor));
        let settings = plan.settings.into_iter();
        settings.fold(topic, |topic, (name, value)| topic.config(name, value))
    });
    let new_topics: Vec<NewTopic> = new_topics.collect();
    let admin = AdminClient::new(client);
    for (topic, created) in admin.create_topics(&new_topics, false).await? {
        match created {
            Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => {
                return Err(error).with_context(|| format!("cannot create topic {topic}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What an error means for the transaction in which it came.
fn undone(error: Error) -> Undone {
    match error.transaction_fault() {
        Some(TransactionFault::Fenced | TransactionFault::Fatal | TransactionFault::Misuse) => {
            Undone::Stopped(Stopped::Failed(fatal(error)))
        }
        _ if is_about_a_record(&error) => Undone::Refused(error),
        _ => Undone::Again(error),
    }
}

/// Whether a topic will never take one of the records.
fn is_about_a_record(error: &Error) -> bool {
    let codes = [
        ErrorCode::MessageTooLarge,
        ErrorCode::RecordListTooLarge,
        ErrorCode::InvalidRecord,
        ErrorCode::InvalidTimestamp,
    ];
    matches!(error, Error::RecordTooLarge { .. })
        || error.code().is_some_and(|code| codes.contains(&code))
}

fn fatal(error: Error) -> anyhow::Error {
    let is_fenced = error.transaction_fault() == Some(TransactionFault::Fenced);
    let error = anyhow::Error::from(error);
    if is_fenced {
        return error.context("another instance has started under this name, see --instance");
    }
    error
}
