//! Topics, settings, logs, groups: what an operator or a deployment asks of a cluster.
//!
//! ```no_run
//! use conveyor_sdk::admin::{AdminClient, NewTopic};
//! use conveyor_sdk::{Client, ClientConfig};
//!
//! # async fn run() -> conveyor_sdk::Result<()> {
//! let client = Client::connect(ClientConfig::new("localhost:9192")).await?;
//! let admin = AdminClient::new(&client);
//! let topic = NewTopic::new("order-events").partitions(6).config("cleanup.policy", "compact");
//! let created = admin.create_topic(topic).await?;
//! println!("{} has {} partitions", created.name, created.partitions);
//!
//! for group in admin.describe_groups(&["wave-progress"]).await? {
//!     let (name, description) = group;
//!     println!("{name} is {} records behind", description?.lag_records());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A call about several things answers for each of them by itself: the outer `Result` says whether
//! the node could be asked, the inner one what it said about the item. Calls go to the node that can
//! answer (any node, the partition's leader, the group's coordinator) and are repeated with back-off
//! until [`api_timeout_ms`](crate::ClientConfig::api_timeout_ms) while errors are retriable. A
//! repeated creation may therefore meet what its first attempt has created.

mod configs;
mod groups;
mod logs;
mod topics;
mod transactions;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use conveyor_record::NodeId;
use tonic::{Response, Status};

pub use self::configs::{ConfigAlteration, ConfigEntry, ConfigResource, ConfigSource};
pub use self::groups::{GroupDescription, GroupListing, MemberDescription, PartitionLag};
pub use self::logs::{
    ClusterDescription, DataDirDescription, ListedOffset, LogDescription, NodeDescription,
    OffsetSpec,
};
pub use self::topics::{CreatedTopic, NewTopic, PartitionDescription, TopicDescription};
pub use self::transactions::{
    HangingTransaction, TransactionDescription, TransactionFilter, TransactionListing,
};
use crate::client::{Client, NodeChannel, services};
use crate::consumer::TopicPartition;
use crate::error::{Error, Result};

/// Answers by item: topic, partition or group.
pub type Answers<K, T> = Vec<(K, Result<T>)>;

/// Administers a cluster; clones are cheap.
#[derive(Debug, Clone)]
pub struct AdminClient {
    client: Client,
}

impl AdminClient {
    /// Uses the connections of `client`.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
        }
    }

    /// Asks a node that is likely to answer, another one after a failure.
    async fn ask_any<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn(services::Admin) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let attempt = || async {
            let (address, channel) = self.client.any_channel()?;
            let answer = self
                .client
                .call(operation, &address, call(services::admin(channel)))
                .await;
            self.avoid_if_failed(&address, answer)
        };
        self.client.retry(attempt).await
    }

    /// Asks the coordinator of a group; answers that say to try again are errors here, so that the
    /// call is repeated.
    async fn ask_coordinator<T, F>(
        &self,
        operation: &'static str,
        group_id: &str,
        call: impl Fn(services::Group) -> F,
        check: impl Fn(&T) -> Result<()>,
    ) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let attempt = || async {
            let (address, channel) = self.client.coordinator(group_id).await?;
            let answer = self
                .client
                .call(operation, &address, call(services::group(channel)))
                .await;
            let answer = self.avoid_if_failed(&address, answer)?;
            check(&answer)?;
            Ok(answer)
        };
        self.client.retry(attempt).await
    }

    /// Asks every node.
    async fn ask_all<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn(NodeChannel) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let metadata = self
            .client
            .retry(|| self.client.refresh_metadata(&[]))
            .await?;
        let mut answers = Vec::with_capacity(metadata.nodes().len());
        for &node in metadata.nodes().keys() {
            let attempt = || async {
                let channel = self.client.channel(node)?;
                self.client
                    .call(operation, &format!("node {node}"), call(channel))
                    .await
            };
            answers.push(self.client.retry(attempt).await?);
        }
        Ok(answers)
    }

    /// Asks the leader of each partition about it. `call` asks one node about its partitions and
    /// answers for each; partitions whose answer is retriable are asked for again.
    async fn ask_leaders<I, T, F>(
        &self,
        items: Vec<(TopicPartition, I)>,
        call: impl Fn(NodeId, NodeChannel, Vec<(TopicPartition, I)>) -> F,
    ) -> Result<Answers<TopicPartition, T>>
    where
        I: Clone,
        F: Future<Output = Result<Answers<TopicPartition, T>>>,
    {
        let deadline = Instant::now() + Duration::from_millis(self.client.config().api_timeout_ms);
        let mut backoff = self.client.backoff();
        let mut done = Vec::with_capacity(items.len());
        let mut left = items;
        loop {
            let answers = self.ask_leaders_once(&left, &call).await?;
            let wait = backoff.next_wait();
            let is_last = Instant::now() + wait >= deadline;
            let mut again = Vec::new();
            for (partition, answer) in answers {
                let retry = answer.as_ref().err().is_some_and(Error::is_retriable) && !is_last;
                let item = left.iter().find(|(asked, _)| *asked == partition);
                match item {
                    Some(item) if retry => again.push(item.clone()),
                    _ => done.push((partition, answer)),
                }
            }
            if again.is_empty() {
                return Ok(done);
            }
            left = again;
            tokio::time::sleep(wait).await;
            let mut topics: Vec<&str> = left
                .iter()
                .map(|(partition, _)| &*partition.topic)
                .collect();
            topics.dedup();
            if let Err(error) = self.client.refresh_metadata(&topics).await {
                tracing::debug!(%error, "metadata could not be refreshed");
            }
        }
    }

    async fn ask_leaders_once<I, T, F>(
        &self,
        items: &[(TopicPartition, I)],
        call: &impl Fn(NodeId, NodeChannel, Vec<(TopicPartition, I)>) -> F,
    ) -> Result<Answers<TopicPartition, T>>
    where
        I: Clone,
        F: Future<Output = Result<Answers<TopicPartition, T>>>,
    {
        let mut answers = Vec::new();
        let mut by_node: BTreeMap<NodeId, Vec<(TopicPartition, I)>> = BTreeMap::new();
        for (partition, item) in items {
            match self
                .client
                .leader(&partition.topic, partition.partition)
                .await
            {
                Ok(leader) => {
                    by_node
                        .entry(leader.node)
                        .or_default()
                        .push((partition.clone(), item.clone()));
                }
                Err(error) => answers.push((partition.clone(), Err(error))),
            }
        }
        for (node, items) in by_node {
            let partitions: Vec<TopicPartition> = items
                .iter()
                .map(|(partition, _)| partition.clone())
                .collect();
            match call(node, self.client.channel(node)?, items).await {
                Ok(answered) => answers.extend(answered),
                Err(error) => answers.extend(
                    partitions
                        .into_iter()
                        .map(|partition| (partition, Err(error.clone()))),
                ),
            }
        }
        Ok(answers)
    }

    fn avoid_if_failed<T>(&self, address: &str, answer: Result<T>) -> Result<T> {
        if answer.as_ref().err().is_some_and(Error::is_retriable) {
            self.client.avoid(address);
        }
        answer
    }
}

/// The one answer to a question about one item.
fn only<K, T>(operation: &'static str, answers: Answers<K, T>) -> Result<T> {
    let mut answers = answers.into_iter();
    match (answers.next(), answers.next()) {
        (Some((_, answer)), None) => answer,
        _ => Err(Error::Protocol {
            operation,
            reason: "expected one answer for one item".to_owned(),
        }),
    }
}
