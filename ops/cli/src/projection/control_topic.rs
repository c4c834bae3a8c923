//! The control topic as commands use it: read to its end, ask, wait for answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conveyor_processors::control::{Action, Answer, Board, Command, Key, Outcome, TOPIC};
use conveyor_sdk::{
    Client, Consumer, ConsumerConfig, ErrorCode, OffsetReset, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};
use tokio::time::Instant;

use crate::connect::ConnectArgs;

/// The topic, read up to now.
pub(super) struct ControlTopic {
    board: Board,
    client: Client,
    consumer: Consumer,
    producer: Option<Producer>,
}

impl ControlTopic {
    /// Reads the topic to its end.
    pub(super) async fn open(connect: &ConnectArgs) -> anyhow::Result<Self> {
        let client = connect.connect().await?;
        let mut config = ConsumerConfig::standalone();
        config.auto_offset_reset = OffsetReset::Earliest;
        let mut consumer = Consumer::new(&client, config)?;
        let partition: TopicPartition = (TOPIC, 0).into();
        let wanted = std::slice::from_ref(&partition);
        let ends = match consumer.end_offsets(wanted).await {
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                anyhow::bail!(
                    "no projection has run on this cluster yet; start some with \
                     `conveyor processors run`"
                );
            }
            ends => ends?,
        };
        let begins = consumer.beginning_offsets(wanted).await?;
        let at = |offsets: &std::collections::BTreeMap<_, _>| {
            offsets.get(&partition).copied().unwrap_or_default()
        };
        let (begin, end) = (at(&begins), at(&ends));
        consumer.assign([partition.clone()])?;
        consumer.seek(&partition, begin)?;
        let mut topic = Self {
            board: Board::default(),
            client,
            consumer,
            producer: None,
        };
        while topic.consumer.position(&partition).unwrap_or(begin) < end {
            topic.read(Duration::from_secs(1)).await?;
        }
        Ok(topic)
    }

    /// What stands there.
    pub(super) const fn board(&self) -> &Board {
        &self.board
    }

    /// The instances of a projection that are at work; an error if there is none.
    pub(super) fn live(&self, projection: &str) -> anyhow::Result<Vec<String>> {
        let live = self.board.live(projection, now_ms());
        if live.is_empty() {
            anyhow::bail!(
                "no instance of {projection} is at work: start one with `conveyor processors run \
                 --projection {projection}`; `conveyor projection list` shows what there is"
            );
        }
        Ok(live.into_iter().map(str::to_owned).collect())
    }

    /// Reads on until `done`, at most so long; whether it is.
    pub(super) async fn read_until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&Board) -> bool,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            if done(&self.board) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.read(left.min(Duration::from_millis(250))).await?;
        }
    }

    async fn read(&mut self, wait: Duration) -> anyhow::Result<()> {
        for record in self.consumer.poll(wait).await? {
            if let Some(key) = record.key.as_deref() {
                self.board.take(key, record.value.as_deref());
            }
        }
        Ok(())
    }

    /// Writes one record.
    pub(super) async fn write<T: serde::Serialize>(
        &mut self,
        key: &Key,
        value: Option<&T>,
    ) -> anyhow::Result<()> {
        if self.producer.is_none() {
            let config = ProducerConfig {
                linger_ms: 0,
                ..ProducerConfig::default()
            };
            self.producer = Some(Producer::new(&self.client, config)?);
        }
        let mut record = ProducerRecord::new(TOPIC);
        record.partition = Some(0);
        record.key = Some(key.to_string().into());
        record.value = match value {
            Some(value) => Some(serde_json::to_vec(value)?.into()),
            None => None,
        };
        if let Some(producer) = &self.producer {
            producer.send(record).await?.await?;
        }
        Ok(())
    }

    /// Asks for something; returns the id to look for.
    pub(super) async fn ask(
        &mut self,
        projection: &str,
        number: usize,
        action: Action,
    ) -> anyhow::Result<String> {
        let id = format!("{}-{}-{number}", now_ms(), std::process::id());
        let key = command_key(projection, &id);
        let asked_at_ms = now_ms();
        let command = Command {
            asked_at_ms,
            action,
        };
        self.write(&key, Some(&command)).await?;
        Ok(id)
    }

    /// The answers to a command, once `wanted` instances have answered or the time is over.
    pub(super) async fn answers(
        &mut self,
        projection: &str,
        id: &str,
        wanted: usize,
        within: Duration,
    ) -> anyhow::Result<Vec<Outcome>> {
        let finished = |board: &Board| {
            let answers = board.answers(projection, id).into_iter();
            answers
                .filter(|(_, answer)| answer.outcome.is_final())
                .count()
                >= wanted
        };
        self.read_until(within, finished).await?;
        let answers = self.board.answers(projection, id).into_iter();
        let answers = answers.filter(|(_, answer)| answer.outcome.is_final());
        let answers: Vec<_> = answers.map(|(_, answer)| answer.outcome.clone()).collect();
        self.remove_answers(projection, id).await?;
        Ok(answers)
    }

    /// The last answer of an owner, who tells of its progress first: as long as it gets on, it is
    /// waited for. `heard` is called with what is new.
    pub(super) async fn answer_of_owner(
        &mut self,
        projection: &str,
        id: &str,
        within: Duration,
        mut heard: impl FnMut(&Outcome),
    ) -> anyhow::Result<Option<Outcome>> {
        // What an owner has told that is gone since counts less than any end.
        let weight = |answer: &Answer| (answer.outcome.is_final(), answer.at_ms);
        let newest = |board: &Board| {
            let answers = board.answers(projection, id).into_iter();
            let answers = answers.map(|(_, answer)| answer.clone());
            answers.max_by_key(weight)
        };
        let mut known = None;
        loop {
            let is_news = |board: &Board| newest(board).as_ref().map(weight) > known;
            if !self.read_until(within, is_news).await? {
                return Ok(None);
            }
            let Some(answer) = newest(&self.board) else {
                return Ok(None);
            };
            if answer.outcome.is_final() {
                self.remove_answers(projection, id).await?;
                return Ok(Some(answer.outcome));
            }
            known = Some(weight(&answer));
            heard(&answer.outcome);
        }
    }

    /// Takes all answers to a command out of the topic.
    async fn remove_answers(&mut self, projection: &str, id: &str) -> anyhow::Result<()> {
        let answers = self.board.answers(projection, id).into_iter();
        let instances: Vec<_> = answers.map(|(instance, _)| instance.to_owned()).collect();
        for instance in instances {
            let key = Key::Answer {
                projection: projection.to_owned(),
                id: id.to_owned(),
                instance,
            };
            self.write::<()>(&key, None).await?;
        }
        Ok(())
    }

    /// Takes a command back that everybody has had time to answer.
    pub(super) async fn withdraw(&mut self, projection: &str, id: &str) -> anyhow::Result<()> {
        self.write::<()>(&command_key(projection, id), None).await
    }
}

fn command_key(projection: &str, id: &str) -> Key {
    Key::Command {
        projection: projection.to_owned(),
        id: id.to_owned(),
    }
}

/// Now, ms since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.as_millis() as i64
}
