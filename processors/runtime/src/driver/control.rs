//! A driver's end of the control topic: a task that reads what people want, and tells how the
//! projection, the sink or the rebuild is doing ([`About`]).
//!
//! It is an aid: when the topic cannot be read or written the projection goes on, and the link is
//! tried again. It works beside the driver's loop, so that it can also tell when that one hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conveyor_record::Offset;
use conveyor_sdk::admin::{AdminClient, NewTopic, PartitionLag};
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
    Answer, Board, Command, Key, Kind, Observation, Outcome, PartitionReport, Report, TOPIC,
    TOPIC_CONFIGS, Verdict, Watchdog,
};
use crate::record::TopicPartition;
use crate::status::{State, Status};

/// How often the watchdog looks, and a report is written if something has changed.
const TICK: Duration = Duration::from_secs(1);
/// Ticks without a turn of the driver's loop after which it is taken to hang.
const HANGS_AFTER: u32 = 3;
/// How often a report is written though nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Reports of instances that have not reported for so long are removed.
const FORGET_AFTER_MS: i64 = 3_600_000;
/// How long a projection that starts waits to learn whether it shall pause.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long the last report may take when the driver stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who takes part.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its name in the topic: what is asked of this name is asked of it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its consumer group, which knows its lag.
    pub group: String,
    /// Its version; 0 for a sink.
    pub version: u32,
    /// Where it writes, for people.
    pub store: String,
    /// Where it ends, in those partitions in which it does before the log.
    pub until: BTreeMap<TopicPartition, Offset>,
}

/// What the task and the driver share.
#[derive(Debug)]
struct Shared {
    about: About,
    instance: String,
    client: Client,
    status: Status,
    board: Mutex<Board>,
    /// Of the present membership.
    owned: Mutex<Ownership>,
    /// Commands that were carried out here and may still stand in the topic.
    done: Mutex<BTreeSet<String>>,
    producer: Mutex<Option<Arc<Producer>>>,
}

/// The driver's end of the control topic.
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Control {
    /// Starts to read, to report and to watch.
    ///
    /// `status` is what is reported. Who makes no progress for `patience` while there is lag is FAULTED.
    pub fn start(
        client: &Client,
        about: About,
        instance: Option<&str>,
        status: &Status,
        patience: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            about,
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
    pub async fn is_known(&self) {
        let mut ready = self.ready.clone();
        let known = ready.wait_for(|ready| *ready);
        drop(tokio::time::timeout(KNOWN_WITHIN, known).await);
    }

    /// A new membership of the group has begun.
    pub fn joined(&self, owned: &Ownership) {
        *self.shared.owned.lock() = owned.clone();
    }

    /// Whether a person wants the projection to pause.
    pub fn is_paused(&self) -> bool {
        self.shared.board.lock().is_paused(&self.shared.about.name)
    }

    /// What is to be done, oldest first.
    pub fn commands(&self) -> Vec<(String, Command)> {
        let board = self.shared.board.lock();
        let commands = board.commands(&self.shared.about.name);
        let done = self.shared.done.lock();
        commands
            .into_iter()
            .filter(|(id, _)| !done.contains(*id))
            .map(|(id, command)| (id.to_owned(), command.clone()))
            .collect()
    }

    /// Tells what came of a command and, unless others have to answer it too, removes it.
    pub async fn answer(&self, id: &str, outcome: Outcome, remove: bool) {
        self.shared.done.lock().insert(id.to_owned());
        if let Err(error) = self.shared.answer(id, outcome, remove).await {
            // It is carried out and answered once more: that does nothing more.
            self.shared.done.lock().remove(id);
            let name = &self.shared.about.name;
            tracing::warn!(name, id, %error, "could not answer a command");
        }
    }

    /// Tells how a command is getting on that is not done yet.
    pub async fn tell(&self, id: &str, outcome: Outcome) {
        if let Err(error) = self.shared.answer(id, outcome, false).await {
            tracing::debug!(id, %error, "could not tell of a command");
        }
    }

    /// Tells that all has stopped, and how.
    pub async fn close(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.ok();
        }
        let last = async {
            if self.shared.is_over() {
                self.shared.forget().await?;
            } else {
                self.shared.report(&self.shared.measure(&[])).await?;
            }
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
                let name = &self.about.name;
                tracing::warn!(name, %error, "cannot use the topic {TOPIC}");
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
        let (mut turns, mut still) = (0, 0);
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
            let turned = std::mem::replace(&mut turns, self.status.snapshot().turns);
            still = if turned == turns { still + 1 } else { 0 };
            let report = self.measure(&self.ends(still >= HANGS_AFTER).await);
            self.status.update(|s| {
                s.lag_ms = report.lag_ms;
                s.lag_records = report.lag_records;
            });
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
            let concerns = |key: &Key| key.projection() == self.about.name;
            if Key::parse(key).as_ref().is_some_and(concerns) {
                board.take(key, record.value.as_deref());
            }
        }
    }

    /// Commands that no longer stand in the topic need not be remembered.
    fn forget_done(&self) {
        let board = self.board.lock();
        let standing = board.commands(&self.about.name);
        let stands = |id: &String| standing.iter().any(|(standing, _)| standing == id);
        self.done.lock().retain(stands);
    }

    /// Removes reports of instances that are long gone.
    async fn prune(&self) -> Result<(), SdkError> {
        let now_ms = now_ms();
        self.remove_reports(|report| now_ms - report.at_ms > FORGET_AFTER_MS)
            .await
    }

    async fn remove_reports(&self, is_old: impl Fn(&Report) -> bool) -> Result<(), SdkError> {
        let old: Vec<_> = {
            let board = self.board.lock();
            let reports = board.reports(&self.about.name).into_iter();
            let old = reports.filter(|(_, report)| is_old(report));
            old.map(|(instance, _)| self.report_key(instance)).collect()
        };
        for key in old {
            self.send(&key, None).await?;
        }
        Ok(())
    }

    /// Whether this was a rebuild that has come to its end: its name means nothing any more.
    fn is_over(&self) -> bool {
        let snapshot = self.status.snapshot();
        let is_reached = snapshot.rebuild.is_some_and(|rebuild| rebuild.is_reached);
        is_reached && snapshot.state == State::Stopped
    }

    /// Removes what stands in the topic under this name.
    async fn forget(&self) -> Result<(), SdkError> {
        self.remove_reports(|_| true).await?;
        self.send(&self.report_key(&self.instance), None).await?;
        let projection = self.about.name.clone();
        self.send(&Key::Desired { projection }, None).await
    }

    /// Where the log ends and how old the oldest record is that was not applied, by the node. Asked
    /// only when something lags, or when nothing is fetched that would tell: a driver that hangs learns
    /// of nothing by itself, and the watchdog would take it for one that has nothing to do.
    async fn ends(&self, hangs: bool) -> Vec<PartitionLag> {
        let snapshot = self.status.snapshot();
        if snapshot.state == State::Running && snapshot.lag_records == 0 && !hangs {
            return Vec::new();
        }
        let admin = AdminClient::new(&self.client);
        match admin.describe_group(&self.about.group).await {
            Ok(group) => {
                let owned = self.owned.lock().clone();
                for lag in &group.lag {
                    owned.heard_end(&ours(&lag.partition), lag.end_offset);
                }
                group.lag
            }
            Err(error) => {
                tracing::debug!(name = self.about.name, %error, "no lag is known");
                Vec::new()
            }
        }
    }

    fn measure(&self, lags: &[PartitionLag]) -> Report {
        let snapshot = self.status.snapshot();
        let owned = self.owned.lock().clone();
        let partitions: Vec<_> = owned
            .claims()
            .into_iter()
            .map(|(name, claim)| {
                let told = lags.iter().find(|lag| ours(&lag.partition) == name);
                let end = [claim.end(), told.map(|told| told.end_offset)];
                let end = end.into_iter().flatten().max();
                let until = self.about.until.get(&name).copied();
                let end = end.map(|end| until.map_or(end, |until| end.min(until)));
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
            kind: self.about.kind,
            version: self.about.version,
            store: self.about.store.clone(),
            state: snapshot.state.to_string(),
            asked_to_pause: self.board.lock().is_paused(&self.about.name),
            lag_records: partitions.iter().map(PartitionReport::lag_records).sum(),
            lag_ms: oldest.filter(|_| is_known),
            partitions,
            records_applied: snapshot.records_applied,
            records_rejected: snapshot.records_rejected,
            parked_keys: snapshot.parked_keys,
            parked_records: snapshot.parked_records,
            last_error: snapshot.last_error,
            rebuild: snapshot.rebuild,
        }
    }

    fn report_key(&self, instance: &str) -> Key {
        Key::Report {
            projection: self.about.name.clone(),
            instance: instance.to_owned(),
        }
    }

    async fn report(&self, report: &Report) -> Result<(), SdkError> {
        let key = self.report_key(&self.instance);
        self.send(&key, serde_json::to_vec(report).ok()).await
    }

    async fn answer(&self, id: &str, outcome: Outcome, remove: bool) -> Result<(), SdkError> {
        let projection = self.about.name.clone();
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
            self.about.store,
        );
        if snapshot.state != State::Faulted {
            let name = &self.about.name;
            tracing::error!(name, reason, "no progress");
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
