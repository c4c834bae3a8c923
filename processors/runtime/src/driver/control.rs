//! The driver's end of the control topic: a task that reads what people want, and tells how the
//! projection is doing.
//!
//! It is an aid: when the topic cannot be read or written the projection goes on, and the link is
//! tried again. It works beside the driver's loop, so that it can also tell when that one hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conveyor_record::Offset;
use conveyor_sdk::admin::{AdminClient, NewTopic};
use conveyor_sdk::{
    Client, Consumer, ConsumerConfig, Error as SdkError, ErrorCode, OffsetReset, Producer,
    ProducerConfig, ProducerRecord,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ownership::{Ownership, ours};
use crate::backoff::{Backoff, chance};
use crate::control::{
    Answer, Board, Command, Key, Observation, Outcome, PartitionReport, Report, TOPIC,
    TOPIC_CONFIGS, Verdict, Watchdog,
};
use crate::projection::Declaration;
use crate::status::{State, Status};

/// How often the watchdog looks, and a report is written if something has changed.
const TICK: Duration = Duration::from_secs(1);
/// How often a report is written though nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Reports of instances that have not reported for so long are removed.
const FORGET_AFTER_MS: i64 = 3_600_000;
/// How long a projection that starts waits to learn whether it shall pause.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long the last report may take when the driver stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the task and the driver share.
#[derive(Debug)]
struct Shared {
    declaration: Arc<Declaration>,
    store: String,
    instance: String,
    client: Client,
    status: Status,
    board: Mutex<Board>,
    /// Of the present membership.
    owned: Mutex<Ownership>,
    /// Commands that were carried out here and may still stand in the topic.
    done: Mutex<std::collections::BTreeSet<String>>,
    producer: Mutex<Option<Arc<Producer>>>,
}

/// The driver's end of the control topic.
#[derive(Debug)]
pub(super) struct Control {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Control {
    /// Starts to read, to report and to watch.
    pub(super) fn start(
        client: &Client,
        declaration: &Arc<Declaration>,
        store: String,
        instance: Option<&str>,
        status: &Status,
        patience: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            declaration: Arc::clone(declaration),
            store,
            instance: instance.map_or_else(instance_name, str::to_owned),
            client: client.clone(),
            status: status.clone(),
            board: Mutex::default(),
            owned: Mutex::default(),
            done: Mutex::default(),
            producer: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let (is_ready, ready) = watch::channel(false);
        let link = until(stopped.clone(), Arc::clone(&shared).run(is_ready));
        let watch = until(stopped, Arc::clone(&shared).watch(patience));
        Self {
            shared,
            stop,
            ready,
            tasks: vec![tokio::spawn(link), tokio::spawn(watch)],
        }
    }

    /// Waits until what people want is known, or for a while: without the topic the projection runs
    /// all the same.
    pub(super) async fn is_known(&self) {
        let mut ready = self.ready.clone();
        let known = ready.wait_for(|ready| *ready);
        drop(tokio::time::timeout(KNOWN_WITHIN, known).await);
    }

    /// A new membership of the group has begun.
    pub(super) fn joined(&self, owned: &Ownership) {
        *self.shared.owned.lock() = owned.clone();
    }

    /// Whether a person wants the projection to pause.
    pub(super) fn is_paused(&self) -> bool {
        let name = self.shared.declaration.name();
        self.shared.board.lock().is_paused(name)
    }

    /// What is to be done, oldest first.
    pub(super) fn commands(&self) -> Vec<(String, Command)> {
        let board = self.shared.board.lock();
        let commands = board.commands(self.shared.declaration.name());
        let done = self.shared.done.lock();
        commands
            .into_iter()
            .filter(|(id, _)| !done.contains(*id))
            .map(|(id, command)| (id.to_owned(), command.clone()))
            .collect()
    }

    /// Tells what came of a command and, unless others have to answer it too, removes it.
    pub(super) async fn answer(&self, id: &str, outcome: Outcome, remove: bool) {
        self.shared.done.lock().insert(id.to_owned());
        if let Err(error) = self.shared.answer(id, outcome, remove).await {
            // It is carried out and answered once more: that does nothing more.
            self.shared.done.lock().remove(id);
            let projection = self.shared.declaration.name();
            tracing::warn!(projection, id, %error, "could not answer a command");
        }
    }

    /// Tells that the projection has stopped, and how.
    pub(super) async fn close(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.ok();
        }
        let last = async {
            self.shared.report(&self.shared.measure(&[])).await?;
            let producer = self.shared.producer.lock().take();
            if let Some(producer) = producer {
                producer.close(CLOSE_TIMEOUT).await?;
            }
            Ok::<_, SdkError>(())
        };
        drop(tokio::time::timeout(CLOSE_TIMEOUT, last).await);
    }
}

async fn until(mut stop: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = work => {}
    }
}

impl Shared {
    /// Reads and reports, again and again after errors.
    async fn run(self: Arc<Self>, ready: watch::Sender<bool>) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            if let Err(error) = self.session(&mut backoff, &ready).await {
                let projection = self.declaration.name();
                tracing::warn!(projection, %error, "cannot use the topic {TOPIC}");
            }
            tokio::time::sleep(backoff.after_failure(chance())).await;
        }
    }

    async fn session(
        &self,
        backoff: &mut Backoff,
        ready: &watch::Sender<bool>,
    ) -> Result<(), SdkError> {
        self.create_topic().await?;
        let mut config = ConsumerConfig::standalone();
        config.auto_offset_reset = OffsetReset::Earliest;
        let mut consumer = Consumer::new(&self.client, config)?;
        let partition: conveyor_sdk::TopicPartition = (TOPIC, 0).into();
        let wanted = std::slice::from_ref(&partition);
        let begin = consumer.beginning_offsets(wanted).await?;
        let begin = begin.get(&partition).copied().unwrap_or_default();
        let end = consumer.end_offsets(wanted).await?;
        let end = end.get(&partition).copied().unwrap_or_default();
        consumer.assign([partition.clone()])?;
        consumer.seek(&partition, begin)?;
        // What was removed since must not be seen again: the old board stands until all is read.
        let mut board = Board::default();
        while consumer.position(&partition).unwrap_or(begin) < end {
            self.take(&mut board, consumer.poll(TICK).await?);
        }
        self.replace(board);
        ready.send_replace(true);
        self.prune().await?;
        let mut reports = Reports::default();
        let mut tick = Instant::now();
        loop {
            let wait = tick.saturating_duration_since(Instant::now());
            let records = consumer.poll(wait).await?;
            self.take(&mut self.board.lock(), records);
            self.forget_done();
            if Instant::now() < tick {
                continue;
            }
            backoff.reset();
            tick = Instant::now() + TICK;
            let report = self.measure(&self.ends().await);
            self.status.update(|s| s.lag_ms = report.lag_ms);
            if reports.is_due(&report) {
                self.report(&report).await?;
            }
        }
    }

    fn replace(&self, board: Board) {
        *self.board.lock() = board;
        self.forget_done();
    }

    async fn create_topic(&self) -> Result<(), SdkError> {
        let mut topic = NewTopic::new(TOPIC).partitions(1);
        let configs = TOPIC_CONFIGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        topic.configs.extend(configs);
        let created = AdminClient::new(&self.client)
            .create_topics(&[topic], false)
            .await?;
        for (_, created) in created {
            match created {
                Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes in what concerns this projection.
    fn take(&self, board: &mut Board, records: conveyor_sdk::ConsumerRecords) {
        for record in records {
            let Some(key) = record.key.as_deref() else {
                continue;
            };
            let concerns = |key: &Key| key.projection() == self.declaration.name();
            if Key::parse(key).as_ref().is_some_and(concerns) {
                board.take(key, record.value.as_deref());
            }
        }
    }

    /// Commands that no longer stand in the topic need not be remembered.
    fn forget_done(&self) {
        let board = self.board.lock();
        let standing = board.commands(self.declaration.name());
        let stands = |id: &String| standing.iter().any(|(standing, _)| standing == id);
        self.done.lock().retain(stands);
    }

    /// Removes reports of instances that are long gone.
    async fn prune(&self) -> Result<(), SdkError> {
        let projection = self.declaration.name();
        let now_ms = now_ms();
        let old: Vec<_> = {
            let board = self.board.lock();
            let reports = board.reports(projection).into_iter();
            let old = reports.filter(|(_, report)| now_ms - report.at_ms > FORGET_AFTER_MS);
            old.map(|(instance, _)| instance.to_owned()).collect()
        };
        for instance in old {
            let projection = projection.to_owned();
            let key = Key::Report {
                projection,
                instance,
            };
            self.send(&key, None).await?;
        }
        Ok(())
    }

    /// Where the log ends and how old the oldest record is that was not applied, by the node. Asked
    /// only when something lags, or when nothing is fetched that would tell.
    async fn ends(&self) -> Vec<conveyor_sdk::admin::PartitionLag> {
        let snapshot = self.status.snapshot();
        if snapshot.state == State::Running && snapshot.lag_records == 0 {
            return Vec::new();
        }
        let admin = AdminClient::new(&self.client);
        match admin.describe_group(self.declaration.group_id()).await {
            Ok(group) => group.lag,
            Err(error) => {
                tracing::debug!(projection = self.declaration.name(), %error, "no lag is known");
                Vec::new()
            }
        }
    }

    fn measure(&self, lags: &[conveyor_sdk::admin::PartitionLag]) -> Report {
        let snapshot = self.status.snapshot();
        let owned = self.owned.lock().clone();
        let partitions: Vec<_> = owned
            .claims()
            .into_iter()
            .map(|(name, claim)| {
                let told = lags.iter().find(|lag| ours(&lag.partition) == name);
                let end = [claim.end(), told.map(|told| told.end_offset)];
                let end = end.into_iter().flatten().max();
                let position = claim.next_offset;
                let lags = end.is_some_and(|end| end > position.unwrap_or_default());
                let age = told.and_then(|told| told.lag);
                PartitionReport {
                    topic: name.topic.to_string(),
                    partition: name.partition,
                    position: position.map(Offset::value),
                    end: end.map(Offset::value),
                    lag_ms: if lags {
                        age.map(|age| age.as_millis() as i64)
                    } else {
                        Some(0)
                    },
                    full: snapshot.full.contains(&name),
                }
            })
            .collect();
        let is_known = partitions.iter().all(|p| p.lag_ms.is_some());
        let oldest = partitions.iter().filter_map(|p| p.lag_ms).max();
        Report {
            at_ms: now_ms(),
            version: self.declaration.version(),
            store: self.store.clone(),
            state: snapshot.state.to_string(),
            asked_to_pause: self.board.lock().is_paused(self.declaration.name()),
            lag_records: partitions.iter().map(PartitionReport::lag_records).sum(),
            lag_ms: oldest.filter(|_| is_known),
            partitions,
            records_applied: snapshot.records_applied,
            records_rejected: snapshot.records_rejected,
            parked_keys: snapshot.parked_keys,
            parked_records: snapshot.parked_records,
            last_error: snapshot.last_error,
        }
    }

    async fn report(&self, report: &Report) -> Result<(), SdkError> {
        let key = Key::Report {
            projection: self.declaration.name().to_owned(),
            instance: self.instance.clone(),
        };
        self.send(&key, serde_json::to_vec(report).ok()).await
    }

    async fn answer(&self, id: &str, outcome: Outcome, remove: bool) -> Result<(), SdkError> {
        let projection = self.declaration.name().to_owned();
        let answer = Answer {
            at_ms: now_ms(),
            outcome,
        };
        let key = Key::Answer {
            projection: projection.clone(),
            id: id.to_owned(),
            instance: self.instance.clone(),
        };
        self.send(&key, serde_json::to_vec(&answer).ok()).await?;
        if remove {
            let id = id.to_owned();
            self.send(&Key::Command { projection, id }, None).await?;
        }
        Ok(())
    }

    async fn send(&self, key: &Key, value: Option<Vec<u8>>) -> Result<(), SdkError> {
        let producer = {
            let mut producer = self.producer.lock();
            if producer.is_none() {
                let config = ProducerConfig {
                    linger_ms: 0,
                    ..ProducerConfig::default()
                };
                *producer = Some(Arc::new(Producer::new(&self.client, config)?));
            }
            producer.clone()
        };
        let Some(producer) = producer else {
            return Ok(());
        };
        let mut record = ProducerRecord::new(TOPIC);
        record.partition = Some(0);
        record.key = Some(key.to_string().into());
        record.value = value.map(Into::into);
        producer.send(record).await?.await?;
        Ok(())
    }

    /// Marks a projection FAULTED that has something to do and does not get on, and takes the mark
    /// away when it does.
    async fn watch(self: Arc<Self>, patience: Duration) {
        let begun = Instant::now();
        let mut dog = Watchdog::new(patience, Duration::ZERO);
        let mut ticks = tokio::time::interval(TICK.min(patience));
        let mut stalled = false;
        loop {
            ticks.tick().await;
            let snapshot = self.status.snapshot();
            let seen = Observation {
                running: match snapshot.state {
                    State::Running => true,
                    // Faulted by us, and perhaps no longer.
                    State::Faulted => stalled,
                    _ => false,
                },
                lags: self.owned.lock().lag_to_work_off() > 0,
                progress: snapshot.batches,
            };
            match dog.look(begun.elapsed(), seen) {
                Verdict::Stalled(waited) => {
                    stalled = true;
                    self.bark(waited);
                }
                Verdict::Fine if stalled => {
                    stalled = false;
                    self.status.update(|s| {
                        if s.state == State::Faulted {
                            s.state = State::Running;
                            s.last_error = None;
                        }
                    });
                }
                Verdict::Fine => {}
            }
        }
    }

    fn bark(&self, waited: Duration) {
        let snapshot = self.status.snapshot();
        let reason = format!(
            "no progress for {} s while {} records wait to be applied; it was {}. Look at the store \
             ({}) and at the node; it goes on by itself once they answer",
            waited.as_secs(),
            snapshot.lag_records,
            snapshot.doing,
            self.store,
        );
        if snapshot.state != State::Faulted {
            let projection = self.declaration.name();
            tracing::error!(projection, reason, "projection does not get on");
        }
        self.status.update(|s| {
            s.state = State::Faulted;
            s.last_error = Some(reason);
        });
    }
}

/// When a report is worth a record.
#[derive(Debug, Default)]
struct Reports {
    last: Option<(Instant, Report)>,
}

impl Reports {
    fn is_due(&mut self, report: &Report) -> bool {
        let is_news = match &self.last {
            None => true,
            Some((at, last)) => {
                let same = Report {
                    at_ms: last.at_ms,
                    ..report.clone()
                };
                same != *last || at.elapsed() >= HEARTBEAT
            }
        };
        if is_news {
            self.last = Some((Instant::now(), report.clone()));
        }
        is_news
    }
}

/// Names this instance among those of its projection: host, process, number within the process.
fn instance_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.or_else(|_| std::env::var("HOSTNAME"));
    let host = host.unwrap_or_else(|_| "host".to_owned());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{number}", host.trim(), std::process::id())
}

fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.as_millis() as i64
}
