//! Topics and their partitions.

use std::collections::{BTreeMap, HashMap};

use conveyor_grpc::v1;
use conveyor_record::{LeaderEpoch, NodeId};
use uuid::Uuid;

use super::{AdminClient, Answers, only};
use crate::error::{Error, Result};

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// The node's `num.partitions` if none.
    pub partitions: Option<i32>,
    /// The node's `default.replication.factor` if none.
    pub replication_factor: Option<i32>,
    /// Kafka's topic settings, and those that start with `conveyor.`.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the node's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            configs: BTreeMap::new(),
        }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// Sets the number of replicas.
    #[must_use]
    pub fn replication_factor(mut self, count: i32) -> Self {
        self.replication_factor = Some(count);
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    fn to_wire(&self) -> v1::NewTopic {
        v1::NewTopic {
            name: self.name.clone(),
            partitions: self.partitions.unwrap_or(-1),
            replication_factor: self.replication_factor.unwrap_or(-1),
            configs: self.configs.clone().into_iter().collect::<HashMap<_, _>>(),
        }
    }
}

/// A topic that has been created, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i32,
}

/// A topic as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: Uuid,
    /// Whether it belongs to the cluster itself.
    pub is_internal: bool,
    /// In order of their numbers.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// [`NodeId::NONE`] while there is none.
    pub leader: NodeId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// The nodes that keep it.
    pub replicas: Vec<NodeId>,
    /// Those that have everything that is acknowledged.
    pub in_sync_replicas: Vec<NodeId>,
}

impl AdminClient {
    /// Creates a topic.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic> {
        only("create topic", self.create_topics(&[topic], false).await?)
    }

    /// Creates topics, or with `validate_only` checks whether they could be created.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Answers<String, CreatedTopic>> {
        let request = v1::CreateTopicsRequest {
            topics: topics.iter().map(NewTopic::to_wire).collect(),
            validate_only,
            timeout_ms: self.timeout_ms(),
        };
        let answer = self
            .ask_any("create topics", |mut admin| {
                let request = request.clone();
                async move { admin.create_topics(request).await }
            })
            .await?;
        let read = |topic: v1::CreatedTopic| {
            let created = Error::check(
                "create topic",
                || topic.name.clone(),
                topic.error_code,
                &topic.error_message,
            )
            .map(|()| CreatedTopic {
                name: topic.name.clone(),
                topic_id: Uuid::from_slice(&topic.topic_id).unwrap_or_default(),
                partitions: topic.partitions,
                replication_factor: topic.replication_factor,
            });
            (topic.name, created)
        };
        Ok(answer.topics.into_iter().map(read).collect())
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        only("delete topic", self.delete_topics(&[topic]).await?)
    }

    /// Deletes topics with all their records.
    pub async fn delete_topics(&self, topics: &[&str]) -> Result<Answers<String, ()>> {
        let request = v1::DeleteTopicsRequest {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            timeout_ms: self.timeout_ms(),
        };
        let answer = self
            .ask_any("delete topics", |mut admin| {
                let request = request.clone();
                async move { admin.delete_topics(request).await }
            })
            .await?;
        let read = |topic: v1::TopicResult| {
            let place = || topic.name.clone();
            let result = Error::check(
                "delete topic",
                place,
                topic.error_code,
                &topic.error_message,
            );
            (topic.name, result)
        };
        Ok(answer.topics.into_iter().map(read).collect())
    }

    /// All topics by name; the cluster's own ones with `include_internal`.
    pub async fn list_topics(&self, include_internal: bool) -> Result<Vec<TopicDescription>> {
        let answer = self.client.retry(|| self.client.fetch_all_topics()).await?;
        let topics = answer
            .topics
            .into_iter()
            .filter(|topic| topic.error_code == 0);
        let mut topics: Vec<TopicDescription> = topics.map(describe).collect();
        topics.retain(|topic| include_internal || !topic.is_internal);
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic.
    pub async fn describe_topic(&self, topic: &str) -> Result<TopicDescription> {
        only("describe topic", self.describe_topics(&[topic]).await?)
    }

    /// Some topics, in the order asked for.
    pub async fn describe_topics(
        &self,
        topics: &[&str],
    ) -> Result<Answers<String, TopicDescription>> {
        let answer = self
            .client
            .retry(|| self.client.fetch_topics(topics))
            .await?;
        let read = |topic: v1::TopicMetadata| {
            let name = topic.name.clone();
            let result = Error::check(
                "describe topic",
                || name.clone(),
                topic.error_code,
                &topic.error_message,
            )
            .map(|()| describe(topic));
            (name, result)
        };
        Ok(answer.topics.into_iter().map(read).collect())
    }

    /// Raises the number of partitions to `total_count`. Keys go to other partitions afterwards, so
    /// this is refused for a topic that holds records unless `force` is set. With `validate_only`
    /// nothing is changed.
    pub async fn create_partitions(
        &self,
        topic: &str,
        total_count: i32,
        force: bool,
        validate_only: bool,
    ) -> Result<()> {
        let request = v1::CreatePartitionsRequest {
            topic: topic.to_owned(),
            total_count,
            validate_only,
            force,
        };
        let answer = self
            .ask_any("create partitions", |mut admin| {
                let request = request.clone();
                async move { admin.create_partitions(request).await }
            })
            .await?;
        let error = answer.error.unwrap_or_default();
        let place = || format!("of {topic}");
        Error::check(
            "create partitions",
            place,
            error.error_code,
            &error.error_message,
        )
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout_ms).unwrap_or(i32::MAX)
    }
}

fn describe(topic: v1::TopicMetadata) -> TopicDescription {
    let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
    let read = |partition: v1::PartitionMetadata| PartitionDescription {
        partition: partition.partition,
        leader: NodeId(partition.leader_id),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        replicas: nodes(partition.replicas),
        in_sync_replicas: nodes(partition.in_sync_replicas),
    };
    let mut partitions: Vec<PartitionDescription> =
        topic.partitions.into_iter().map(read).collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicDescription {
        topic_id: Uuid::from_slice(&topic.topic_id).unwrap_or_default(),
        name: topic.name,
        is_internal: topic.is_internal,
        partitions,
    }
}
