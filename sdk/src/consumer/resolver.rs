//! Finds out where a partition is to be read from: its leader, and an offset where there is none.
//!
//! One attempt a call; whoever asks decides whether and when to ask again. Runs as a task of its
//! own, so that a poll that is given up half-way loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{LeaderEpoch, NodeId, Offset};

use super::config::{ConsumerConfig, IsolationLevel, OffsetReset};
use super::inbox::FetchSession;
use super::records::OffsetAndMetadata;
use super::topic_partition::TopicPartition;
use crate::client::{Client, Leader, services};
use crate::error::{Error, Result};

/// `ListOffsets`: where the log ends for readers.
pub(super) const LATEST_TIMESTAMP: i64 = -1;
/// `ListOffsets`: where the log begins.
pub(super) const EARLIEST_TIMESTAMP: i64 = -2;

/// How to find an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartFrom {
    /// What the group has committed, else the reset policy.
    Committed,
    /// The reset policy.
    Reset,
}

/// What is to be found out about a partition.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) session: FetchSession,
    pub(super) partition: TopicPartition,
    /// `None` when the offset is known already.
    pub(super) start: Option<StartFrom>,
    /// Something said that the cached leader is wrong.
    pub(super) refresh_leader: bool,
}

/// What was found out.
#[derive(Debug)]
pub(super) struct Resolution {
    pub(super) session: FetchSession,
    pub(super) result: Result<Answer>,
}

/// Where to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) node: NodeId,
    pub(super) leader_epoch: LeaderEpoch,
    /// `None` when it was not asked for.
    pub(super) offset: Option<Offset>,
}

/// The result of one `ListOffsets` of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedOffset {
    /// `None` when no record is that young.
    pub(super) offset: Option<Offset>,
}

/// Answers questions by the consumer's settings.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    client: Client,
    group_id: Option<String>,
    reset: OffsetReset,
    isolation_level: IsolationLevel,
}

impl Resolver {
    pub(super) fn new(client: Client, config: &ConsumerConfig) -> Self {
        Self {
            client,
            group_id: config.group_id.clone(),
            reset: config.auto_offset_reset,
            isolation_level: config.isolation_level,
        }
    }

    /// One answer for each question.
    pub(super) async fn resolve(&self, questions: Vec<Question>) -> Vec<Resolution> {
        self.refresh_leaders(&questions).await;
        let mut offsets = self.start_offsets(&questions).await;
        let mut resolutions = Vec::with_capacity(questions.len());
        for question in questions {
            let offset = match question.start {
                None => Ok(None),
                Some(_) => offsets
                    .remove(&question.partition)
                    .unwrap_or_else(|| Err(missing_answer("find offset", &question.partition)))
                    .map(Some),
            };
            let result = match offset {
                Ok(offset) => self.leader(&question.partition).map(|leader| Answer {
                    node: leader.node,
                    leader_epoch: leader.leader_epoch,
                    offset,
                }),
                Err(error) => Err(error),
            };
            resolutions.push(Resolution {
                session: question.session,
                result,
            });
        }
        resolutions
    }

    /// Asks for the topics whose leaders are unknown or doubtful, each once.
    async fn refresh_leaders(&self, questions: &[Question]) {
        let doubtful: BTreeSet<&str> = questions
            .iter()
            .filter(|question| {
                question.refresh_leader || self.cached(&question.partition).is_none()
            })
            .map(|question| &*question.partition.topic)
            .collect();
        if doubtful.is_empty() {
            return;
        }
        let topics: Vec<&str> = doubtful.into_iter().collect();
        if let Err(error) = self.client.refresh_metadata(&topics).await {
            // The cache may still do; if not, the leader's absence says so below.
            tracing::debug!(%error, "cannot refresh metadata");
        }
    }

    fn cached(&self, partition: &TopicPartition) -> Option<Leader> {
        self.client
            .cached_leader(&partition.topic, partition.partition)
    }

    fn leader(&self, partition: &TopicPartition) -> Result<Leader> {
        if let Some(leader) = self.cached(partition) {
            return Ok(leader);
        }
        let topic = partition.topic.to_string();
        let number = partition.partition;
        match self.client.metadata().topic(&topic) {
            None => Err(Error::Broker {
                operation: "find leader of",
                place: partition.to_string(),
                code: ErrorCode::UnknownTopicOrPartition,
                message: "the cluster does not know the topic, or cannot be reached".to_owned(),
            }),
            Some(info) if usize::try_from(number).map_or(true, |n| n >= info.partitions.len()) => {
                let count = info.partitions.len();
                Err(Error::UnknownPartition {
                    topic,
                    partition: number,
                    count,
                })
            }
            Some(_) => Err(Error::LeaderNotAvailable {
                topic,
                partition: number,
            }),
        }
    }

    /// Committed offsets where they are asked for and exist, the reset policy elsewhere.
    async fn start_offsets(
        &self,
        questions: &[Question],
    ) -> BTreeMap<TopicPartition, Result<Offset>> {
        let mut found = BTreeMap::new();
        let mut to_reset: Vec<TopicPartition> = Vec::new();
        let mut to_look_up: Vec<TopicPartition> = Vec::new();
        for question in questions {
            match question.start {
                None => {}
                Some(StartFrom::Committed) if self.group_id.is_some() => {
                    to_look_up.push(question.partition.clone());
                }
                Some(_) => to_reset.push(question.partition.clone()),
            }
        }
        if let (Some(group_id), false) = (&self.group_id, to_look_up.is_empty()) {
            match fetch_committed(&self.client, group_id, &to_look_up, self.isolation_level).await {
                Err(error) => {
                    found.extend(to_look_up.into_iter().map(|p| (p, Err(error.clone()))));
                }
                Ok(mut committed) => {
                    for partition in to_look_up {
                        match committed.remove(&partition) {
                            Some(offset) => _ = found.insert(partition, Ok(offset.offset)),
                            None => to_reset.push(partition),
                        }
                    }
                }
            }
        }
        found.extend(self.reset_offsets(to_reset).await);
        found
    }

    async fn reset_offsets(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Vec<(TopicPartition, Result<Offset>)> {
        let timestamp_ms = match self.reset {
            OffsetReset::Earliest => EARLIEST_TIMESTAMP,
            OffsetReset::Latest => LATEST_TIMESTAMP,
            OffsetReset::ByDuration(age) => before_now(age),
            OffsetReset::None => {
                let refuse = |p| {
                    let error = no_offset(&p);
                    (p, Err(error))
                };
                return partitions.into_iter().map(refuse).collect();
            }
        };
        self.offsets_at(partitions, timestamp_ms).await
    }

    /// The first offset at or after a time, the end where no record is that young; `timestamp_ms`
    /// may be one of the constants above.
    pub(super) async fn offsets_at(
        &self,
        partitions: Vec<TopicPartition>,
        timestamp_ms: i64,
    ) -> Vec<(TopicPartition, Result<Offset>)> {
        let mut found = Vec::with_capacity(partitions.len());
        let mut too_old = Vec::new();
        for (partition, result) in self.list_offsets(partitions, timestamp_ms).await {
            match result {
                Ok(ListedOffset {
                    offset: Some(offset),
                }) => found.push((partition, Ok(offset))),
                Ok(ListedOffset { offset: None }) => too_old.push(partition),
                Err(error) => found.push((partition, Err(error))),
            }
        }
        if !too_old.is_empty() {
            for (partition, result) in self.list_offsets(too_old, LATEST_TIMESTAMP).await {
                let result = result.and_then(|listed| {
                    listed
                        .offset
                        .ok_or_else(|| missing_answer("list offsets of", &partition))
                });
                found.push((partition, result));
            }
        }
        found
    }

    /// `ListOffsets` at each leader, one attempt.
    async fn list_offsets(
        &self,
        partitions: Vec<TopicPartition>,
        timestamp_ms: i64,
    ) -> Vec<(TopicPartition, Result<ListedOffset>)> {
        let mut results = Vec::with_capacity(partitions.len());
        let mut by_node: BTreeMap<NodeId, Vec<(TopicPartition, LeaderEpoch)>> = BTreeMap::new();
        for partition in partitions {
            match self.leader(&partition) {
                Ok(leader) => by_node
                    .entry(leader.node)
                    .or_default()
                    .push((partition, leader.leader_epoch)),
                Err(error) => results.push((partition, Err(error))),
            }
        }
        for (node, partitions) in by_node {
            match self.list_offsets_at(node, &partitions, timestamp_ms).await {
                Err(error) => {
                    let failed = partitions.into_iter().map(|(p, _)| (p, Err(error.clone())));
                    results.extend(failed);
                }
                Ok(mut listed) => results.extend(partitions.into_iter().map(|(partition, _)| {
                    let result = listed
                        .remove(&partition)
                        .unwrap_or_else(|| Err(missing_answer("list offsets of", &partition)));
                    (partition, result)
                })),
            }
        }
        results
    }

    async fn list_offsets_at(
        &self,
        node: NodeId,
        partitions: &[(TopicPartition, LeaderEpoch)],
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Result<ListedOffset>>> {
        const OPERATION: &str = "list offsets of";
        let request = v1::ListOffsetsRequest {
            partitions: partitions
                .iter()
                .map(|(partition, leader_epoch)| v1::ListOffsetsPartition {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    timestamp_ms,
                    current_leader_epoch: leader_epoch.value(),
                })
                .collect(),
            isolation_level: self.isolation_level.to_wire().into(),
        };
        let mut fetch = services::fetch(self.client.channel(node)?);
        let name = node.to_string();
        let call = fetch.list_offsets(request);
        let response = self.client.call("list offsets", &name, call).await?;
        let read = |result: v1::ListOffsetsResult| {
            let partition = TopicPartition::new(result.topic, result.partition);
            let place = || partition.to_string();
            let listed = Error::check(OPERATION, place, result.error_code, &result.error_message)
                .map(|()| {
                    let offset = Offset(result.offset);
                    ListedOffset {
                        offset: offset.is_some().then_some(offset),
                    }
                });
            (partition, listed)
        };
        Ok(response.partitions.into_iter().map(read).collect())
    }

    /// Asks once, refreshing leaders that are not known: for calls that the user awaits.
    pub(super) async fn offsets_at_refreshed(
        &self,
        partitions: Vec<TopicPartition>,
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let topics: BTreeSet<Arc<str>> = partitions
            .iter()
            .map(|partition| Arc::clone(&partition.topic))
            .collect();
        for topic in topics {
            self.client.topic(&topic).await?;
        }
        self.client
            .retry(|| async {
                let found = self.offsets_at(partitions.clone(), timestamp_ms).await;
                let failed = found.iter().find_map(|(partition, result)| {
                    result
                        .as_ref()
                        .err()
                        .map(|error| (partition, error.clone()))
                });
                if let Some((partition, error)) = failed {
                    if error.is_retriable() {
                        self.client.refresh_metadata(&[&*partition.topic]).await?;
                    }
                    return Err(error);
                }
                found
                    .into_iter()
                    .map(|(partition, result)| Ok((partition, result?)))
                    .collect()
            })
            .await
    }
}

/// What a group has committed; partitions without a committed offset are left out. One attempt.
pub(super) async fn fetch_committed(
    client: &Client,
    group_id: &str,
    partitions: &[TopicPartition],
    isolation_level: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>> {
    const OPERATION: &str = "fetch offsets of";
    let (node, channel) = client.coordinator(group_id).await?;
    let request = v1::FetchOffsetsRequest {
        group_id: group_id.to_owned(),
        member_id: String::new(),
        member_epoch: -1,
        partitions: partitions.iter().map(TopicPartition::to_wire).collect(),
        // Offsets that a transaction is about to move are not waited for by who reads its records too.
        require_stable: isolation_level == IsolationLevel::ReadCommitted,
    };
    let mut group = services::group(channel);
    let response = client
        .call("fetch offsets", &node, group.fetch_offsets(request))
        .await?;
    let place = || format!("group {group_id}");
    Error::check(
        OPERATION,
        place,
        response.error_code,
        &response.error_message,
    )?;
    let mut committed = BTreeMap::new();
    for offset in response.offsets {
        let partition = TopicPartition::new(offset.topic, offset.partition);
        let place = || format!("group {group_id} in {partition}");
        Error::check(OPERATION, place, offset.error_code, "")?;
        if offset.offset >= 0 {
            let known = OffsetAndMetadata {
                offset: Offset(offset.offset),
                leader_epoch: LeaderEpoch(offset.leader_epoch),
                metadata: offset.metadata,
            };
            committed.insert(partition, known);
        }
    }
    Ok(committed)
}

fn no_offset(partition: &TopicPartition) -> Error {
    Error::Broker {
        operation: "find offset of",
        place: partition.to_string(),
        code: ErrorCode::OffsetOutOfRange,
        message: "there is no usable position and auto_offset_reset is none: seek".to_owned(),
    }
}

fn missing_answer(operation: &'static str, partition: &TopicPartition) -> Error {
    Error::Protocol {
        operation,
        reason: format!("{partition} is missing in it"),
    }
}

fn before_now(age: Duration) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(i64::MAX)
}
