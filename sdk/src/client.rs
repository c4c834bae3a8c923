//! The connection to a cluster that producers, consumers and admin clients share.
//!
//! Owns one channel a node (opened on first use, reconnected by itself, windows raised so that bulk
//! streams are not held up by flow control) and the metadata cache. It does not retry writes: who
//! knows whether a call may be repeated is its caller.
//!
//! Locks are held for a look or a swap, never across an await.

mod backoff;
mod config;
mod metadata;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{LeaderEpoch, NodeId};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub use self::backoff::Backoff;
pub use self::config::ClientConfig;
pub use self::metadata::{ClusterMetadata, NodeAddress, PartitionInfo, TopicInfo};
use crate::error::{Error, Result};

/// HTTP/2 flow-control window of a stream and of a connection: with the default of 64 KiB a stream
/// of batches waits for window updates most of the time.
const WINDOW_BYTES: u32 = 8 << 20;
/// Largest DATA frame taken from a node.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Largest answer taken from a node; a fetch answer is at most the sum of a few batches.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// How often a silent connection is probed, and how long the answer may take: a node that is frozen
/// or cut off is noticed within twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// When a node has not told of the cluster within this time, the next one is asked as well.
const ASK_ANOTHER_AFTER: Duration = Duration::from_millis(500);
/// How long a topic may be unknown to a node after its creation.
const UNKNOWN_TOPIC_GRACE: Duration = Duration::from_secs(2);
/// Where committed offsets live: the leader of a group's partition coordinates the group.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Where transactional ids live, likewise.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// A channel that names the client in every call.
pub(crate) type NodeChannel = InterceptedService<Channel, ClientIdHeader>;

/// A handle to a cluster; clones are cheap and share connections and metadata.
///
/// ```no_run
/// use conveyor_sdk::{Client, ClientConfig};
///
/// # async fn run() -> conveyor_sdk::Result<()> {
/// let client = Client::connect(ClientConfig::new("localhost:9192")).await?;
/// println!("{} nodes", client.metadata().nodes().len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    header: ClientIdHeader,
    cluster: RwLock<Arc<ClusterMetadata>>,
    /// By address.
    channels: Mutex<HashMap<String, NodeChannel>>,
    /// Which address to ask first when any will do; moved on when one fails.
    preferred: AtomicUsize,
}

/// The leader of a partition and how to reach it.
#[derive(Clone)]
pub(crate) struct Leader {
    pub(crate) node: NodeId,
    pub(crate) leader_epoch: LeaderEpoch,
}

/// Adds `x-conveyor-client-id` to each call.
#[derive(Clone)]
pub(crate) struct ClientIdHeader(MetadataValue<Ascii>);

impl Interceptor for ClientIdHeader {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        request
            .metadata_mut()
            .insert("x-conveyor-client-id", self.0.clone());
        Ok(request)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Checks the settings and asks the bootstrap servers for the cluster's nodes.
    ///
    /// Tries again with back-off for `connect_timeout_ms`, so that a client may be started together
    /// with its node.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        let client = Self::new(config)?;
        let limit = Duration::from_millis(client.shared.config.connect_timeout_ms);
        client
            .retry_within(limit, || client.refresh_metadata(&[]))
            .await?;
        Ok(client)
    }

    /// Checks the settings without talking to anybody; connections are made on first use. Must be
    /// called within a Tokio runtime.
    pub fn new(config: ClientConfig) -> Result<Self> {
        config.validate()?;
        let header = config.client_id.parse().map_err(|_| Error::Config {
            setting: "client_id",
            reason: "cannot be sent as a header".to_owned(),
        })?;
        let shared = Shared {
            header: ClientIdHeader(header),
            config,
            cluster: RwLock::default(),
            channels: Mutex::default(),
            preferred: AtomicUsize::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The settings given.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// The present picture of the cluster.
    pub fn metadata(&self) -> Arc<ClusterMetadata> {
        Arc::clone(&self.shared.cluster.read())
    }

    /// Asks any node for the nodes and these topics, once at each address.
    pub async fn refresh_metadata(&self, topics: &[&str]) -> Result<Arc<ClusterMetadata>> {
        self.fetch_metadata(topics, false)
            .await
            .map(|(_, metadata)| metadata)
    }

    /// Asks for every topic of the cluster.
    pub async fn refresh_all_topics(&self) -> Result<Arc<ClusterMetadata>> {
        self.fetch_metadata(&[], true)
            .await
            .map(|(_, metadata)| metadata)
    }

    /// A topic, from the cache while it is fresh.
    ///
    /// A node that cannot answer is asked again until `api_timeout_ms` is over; one that does not
    /// know the topic only for two seconds, in case it has just been created.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicInfo>> {
        let max_age = Duration::from_millis(self.shared.config.metadata_max_age_ms);
        if let Some(known) = self.metadata().topic(name)
            && known.fetched_at.elapsed() < max_age
        {
            return Ok(Arc::clone(known));
        }
        self.find_topic(name).await
    }

    /// As [`Client::topic`], whatever is cached.
    pub(crate) async fn find_topic(&self, name: &str) -> Result<Arc<TopicInfo>> {
        let grace_ends = Instant::now() + UNKNOWN_TOPIC_GRACE;
        let attempt = || async {
            match self.fetch_topic(name).await {
                // Handed through as a success of the loop, so that it ends.
                Err(error) if is_unknown_topic(&error) && Instant::now() >= grace_ends => {
                    Ok(Err(error))
                }
                Err(error) => Err(error),
                Ok(topic) => Ok(Ok(topic)),
            }
        };
        self.retry(attempt).await?
    }

    /// Asks for one topic once, whatever is cached.
    pub(crate) async fn fetch_topic(&self, name: &str) -> Result<Arc<TopicInfo>> {
        let (answer, metadata) = self.fetch_metadata(&[name], false).await?;
        if let Some(topic) = answer.topics.iter().find(|topic| topic.name == name) {
            Error::check(
                "describe topic",
                || name.to_owned(),
                topic.error_code,
                &topic.error_message,
            )?;
        }
        metadata.topic(name).cloned().ok_or_else(|| Error::Broker {
            operation: "describe topic",
            place: name.to_owned(),
            code: ErrorCode::UnknownTopicOrPartition,
            message: "the node does not know it".to_owned(),
        })
    }

    /// Asks for every topic and answers with what the node said.
    pub(crate) async fn fetch_all_topics(&self) -> Result<v1::GetMetadataResponse> {
        self.fetch_metadata(&[], true)
            .await
            .map(|(answer, _)| answer)
    }

    /// Asks for some topics and answers with what the node said.
    pub(crate) async fn fetch_topics(&self, topics: &[&str]) -> Result<v1::GetMetadataResponse> {
        self.fetch_metadata(topics, false)
            .await
            .map(|(answer, _)| answer)
    }

    /// Who leads a partition, as far as is known now; never asks a node.
    pub(crate) fn cached_leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        let metadata = self.metadata();
        let index = usize::try_from(partition).ok()?;
        let info = metadata.topic(topic)?.partitions.get(index)?;
        let known = info.leader.is_some() && metadata.nodes().contains_key(&info.leader);
        known.then_some(Leader {
            node: info.leader,
            leader_epoch: info.leader_epoch,
        })
    }

    /// Who leads a partition; asks when it is not known.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<Leader> {
        self.topic(topic).await?;
        if let Some(leader) = self.cached_leader(topic, partition) {
            return Ok(leader);
        }
        let info = self.fetch_topic(topic).await?;
        let count = info.partitions.len();
        if usize::try_from(partition).map_or(true, |index| index >= count) {
            return Err(Error::UnknownPartition {
                topic: topic.to_owned(),
                partition,
                count,
            });
        }
        self.cached_leader(topic, partition)
            .ok_or_else(|| Error::LeaderNotAvailable {
                topic: topic.to_owned(),
                partition,
            })
    }

    /// The channel to a node of the cluster.
    pub(crate) fn channel(&self, node: NodeId) -> Result<NodeChannel> {
        let metadata = self.metadata();
        let address = metadata
            .nodes()
            .get(&node)
            .ok_or_else(|| Error::Unreachable {
                operation: "connect",
                addresses: format!("node {node}"),
                reason: "the cluster's metadata do not name it".to_owned(),
            })?;
        self.channel_to(&address.to_string())
    }

    /// The node that coordinates a group: the leader of the group's partition of the offsets topic,
    /// or any node while that topic does not exist. The address is for messages.
    pub(crate) async fn coordinator(&self, group_id: &str) -> Result<(String, NodeChannel)> {
        self.coordinator_in(OFFSETS_TOPIC, group_id).await
    }

    /// The node that coordinates a transactional id, likewise.
    pub(crate) async fn transaction_coordinator(
        &self,
        transactional_id: &str,
    ) -> Result<(String, NodeChannel)> {
        self.coordinator_in(TRANSACTIONS_TOPIC, transactional_id)
            .await
    }

    /// Looks for the leaders of the coordinators' topics anew, as after a call to one has failed.
    pub(crate) async fn refresh_coordinators(&self) {
        let topics = [OFFSETS_TOPIC, TRANSACTIONS_TOPIC];
        if let Err(error) = self.refresh_metadata(&topics).await {
            tracing::debug!(%error, "cannot look for coordinators");
        }
    }

    async fn coordinator_in(&self, log: &str, name: &str) -> Result<(String, NodeChannel)> {
        // Before the first group or transaction there is no such topic; then every node will do.
        let known = self.metadata().topic(log).cloned();
        let topic = match known {
            Some(topic) => Some(topic),
            None => self.fetch_topic(log).await.ok(),
        };
        if let Some(topic) = topic {
            let partition = coordinator_partition(name, topic.partitions.len());
            if let Some(leader) = self.cached_leader(log, partition) {
                return Ok((leader.node.to_string(), self.channel(leader.node)?));
            }
        }
        self.any_channel()
    }

    /// The channel to a node that is likely to answer, with its address for messages.
    pub(crate) fn any_channel(&self) -> Result<(String, NodeChannel)> {
        let addresses = self.addresses();
        let address = addresses.into_iter().next().unwrap_or_default();
        let channel = self.channel_to(&address)?;
        Ok((address, channel))
    }

    /// Makes [`Client::any_channel`] try another node next time.
    pub(crate) fn avoid(&self, address: &str) {
        if self
            .addresses()
            .first()
            .is_some_and(|first| first == address)
        {
            self.shared.preferred.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes [`Client::any_channel`] go on with a node that has answered, if those before it have not.
    fn prefer(&self, address: &str) {
        let addresses = self.addresses();
        let steps = addresses.iter().position(|known| known == address);
        let steps = steps.unwrap_or_default();
        self.shared.preferred.fetch_add(steps, Ordering::Relaxed);
    }

    /// Runs `attempt` until it succeeds, fails for good, or `api_timeout_ms` is over.
    pub(crate) async fn retry<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.retry_within(
            Duration::from_millis(self.shared.config.api_timeout_ms),
            attempt,
        )
        .await
    }

    async fn retry_within<T, F>(&self, limit: Duration, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = Instant::now() + limit;
        let mut backoff = self.backoff();
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let wait = backoff.next_wait();
            if !error.is_retriable() || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, attempt = backoff.failures(), "retrying");
            tokio::time::sleep(wait).await;
        }
    }

    /// One unary call at `node`, within `request_timeout_ms`.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        node: &str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T> {
        let after_ms = self.shared.config.request_timeout_ms;
        match tokio::time::timeout(Duration::from_millis(after_ms), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Error::rpc(operation, &node, &status)),
            Err(_) => Err(Error::Timeout {
                operation,
                place: format!("at {node}"),
                after_ms,
                reason: "no answer".to_owned(),
            }),
        }
    }

    /// A fresh count of failures with the configured waits.
    pub(crate) fn backoff(&self) -> Backoff {
        let config = &self.shared.config;
        Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms)
    }

    async fn fetch_metadata(
        &self,
        topics: &[&str],
        all_topics: bool,
    ) -> Result<(v1::GetMetadataResponse, Arc<ClusterMetadata>)> {
        let addresses = self.addresses();
        let mut unasked = addresses.iter();
        let mut asked = FuturesUnordered::new();
        let mut last = None;
        loop {
            if let Some(address) = unasked.next() {
                asked.push(async move {
                    let answer = self.fetch_metadata_from(address, topics, all_topics).await;
                    (address, answer)
                });
            } else if asked.is_empty() {
                break;
            }
            // One that is frozen keeps its connections and says nothing: do not wait for it alone.
            let wait = if unasked.len() == 0 {
                Duration::MAX
            } else {
                ASK_ANOTHER_AFTER
            };
            let Ok(Some((address, answer))) = tokio::time::timeout(wait, asked.next()).await else {
                continue;
            };
            match answer {
                Ok(answer) => {
                    self.prefer(address);
                    let merged = self.install(&answer, all_topics);
                    return Ok((answer, merged));
                }
                Err(error) if error.is_retriable() => {
                    self.avoid(address);
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unreachable {
            operation: "fetch metadata",
            addresses: addresses.join(", "),
            reason: last.map_or_else(|| "none known".to_owned(), |error| error.to_string()),
        })
    }

    async fn fetch_metadata_from(
        &self,
        address: &str,
        topics: &[&str],
        all_topics: bool,
    ) -> Result<v1::GetMetadataResponse> {
        let request = v1::GetMetadataRequest {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            all_topics,
            allow_auto_topic_creation: self.shared.config.allow_auto_create_topics,
        };
        let channel = self.channel_to(address)?;
        let mut metadata = v1::metadata_service_client::MetadataServiceClient::new(channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        self.call("fetch metadata", address, metadata.get_metadata(request))
            .await
    }

    fn install(&self, answer: &v1::GetMetadataResponse, is_full: bool) -> Arc<ClusterMetadata> {
        let mut cluster = self.shared.cluster.write();
        let now = Instant::now();
        let next = if is_full {
            cluster.merge_all(answer, now)
        } else {
            cluster.merge(answer, now)
        };
        *cluster = Arc::new(next);
        Arc::clone(&cluster)
    }

    /// The addresses to try, the preferred one first: known nodes, then the bootstrap servers that
    /// are not among them.
    fn addresses(&self) -> Vec<String> {
        let metadata = self.metadata();
        let mut addresses: Vec<String> =
            metadata.nodes().values().map(ToString::to_string).collect();
        for server in &self.shared.config.bootstrap_servers {
            if !addresses.contains(server) {
                addresses.push(server.clone());
            }
        }
        let first = self.shared.preferred.load(Ordering::Relaxed) % addresses.len().max(1);
        addresses.rotate_left(first);
        addresses
    }

    fn channel_to(&self, address: &str) -> Result<NodeChannel> {
        let mut channels = self.shared.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = self.endpoint(address)?;
        let channel = InterceptedService::new(endpoint.connect_lazy(), self.shared.header.clone());
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| Error::Config {
                setting: "bootstrap_servers",
                reason: format!("`{address}` is not an address: {error}"),
            })?;
        Ok(endpoint
            .connect_timeout(Duration::from_millis(self.shared.config.connect_timeout_ms))
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 2)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true))
    }
}

/// The typed clients of each service, with the limits this crate uses.
pub(crate) mod services {
    use conveyor_grpc::v1;

    use super::{ANSWER_BYTES_MAX, NodeChannel};

    pub(crate) type Produce = v1::produce_service_client::ProduceServiceClient<NodeChannel>;
    pub(crate) type Fetch = v1::fetch_service_client::FetchServiceClient<NodeChannel>;
    pub(crate) type Admin = v1::admin_service_client::AdminServiceClient<NodeChannel>;
    pub(crate) type Group = v1::group_service_client::GroupServiceClient<NodeChannel>;
    pub(crate) type Transaction =
        v1::transaction_service_client::TransactionServiceClient<NodeChannel>;

    pub(crate) fn produce(channel: NodeChannel) -> Produce {
        Produce::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn fetch(channel: NodeChannel) -> Fetch {
        Fetch::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn admin(channel: NodeChannel) -> Admin {
        Admin::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn group(channel: NodeChannel) -> Group {
        Group::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn transaction(channel: NodeChannel) -> Transaction {
        Transaction::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

fn is_unknown_topic(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
    )
}

/// Kafka's rule for the partition of a coordinators' topic that holds a group or id: Java's
/// `String.hashCode`, made positive, modulo the number of partitions.
fn coordinator_partition(name: &str, partitions: usize) -> i32 {
    let hash = name.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // `Utils.abs` of Kafka: the one value without a positive counterpart becomes 0.
    let positive = hash.checked_abs().unwrap_or(0);
    positive % i32::try_from(partitions.max(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_map_to_partitions_as_in_kafka() {
        // "polygenelubricants" is the well-known string whose hash is Integer.MIN_VALUE.
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
        assert_eq!(coordinator_partition("a", 50), 97 % 50);
        assert_eq!(coordinator_partition("ab", 50), (97 * 31 + 98) % 50);
        assert_eq!(coordinator_partition("", 16), 0);
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_reached_is_a_retriable_error() {
        let mut config = ClientConfig::new("127.0.0.1:1");
        config.connect_timeout_ms = 200;
        let error = Client::connect(config).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.is_retriable());
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }

    #[tokio::test]
    async fn another_address_is_preferred_after_a_failure() {
        let client = Client::new(ClientConfig::new("a:1,b:2")).unwrap();
        assert_eq!(client.any_channel().unwrap().0, "a:1");
        client.avoid("b:2");
        assert_eq!(client.any_channel().unwrap().0, "a:1");
        client.avoid("a:1");
        assert_eq!(client.any_channel().unwrap().0, "b:2");
    }
}
