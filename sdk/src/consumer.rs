//! Reads records: as a member of a group, or from partitions of one's own choice.
//!
//! [`Consumer`] owns the positions and hands records out; it is driven by its user, one poll at a
//! time. What must not wait for the user runs in tasks of its own: heartbeats
//! ([`group_session`](self)), one fetch stream a node that reads ahead as far as its credit goes,
//! look-ups of leaders and offsets, commits. They leave what they have in an inbox that each poll
//! empties, so that partitions change hands, callbacks run and positions move at polls only.
//!
//! | file | owns |
//! |---|---|
//! | `poll.rs` | one poll: inbox → rebalance → look-ups → records |
//! | `partitions.rs` | where each partition stands |
//! | `node_stream.rs` | the fetch stream to one node, credit, reconnecting |
//! | `decode.rs` | batches → records, aborted transactions left out |
//! | `resolver.rs` | leaders, committed offsets, offsets by time |
//! | `committer.rs` | commits in order |
//! | `group_session.rs` | heartbeats; decisions lie in `group/membership.rs` |

mod committer;
mod config;
mod decode;
mod group_metadata;
mod group_session;
mod inbox;
mod listener;
mod node_stream;
mod partitions;
mod poll;
mod records;
mod resolver;
mod topic_partition;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_record::{NodeId, Offset};
use futures::Stream;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use self::committer::{CommitHandle, OffsetCommitter};
pub use self::config::{ConsumerConfig, IsolationLevel, OffsetReset};
pub use self::group_metadata::ConsumerGroupMetadata;
pub use self::listener::{Assigned, ListenerError, RebalanceListener, Revoked, StartOffsets};
pub use self::records::{
    ConsumerRecord, ConsumerRecords, ConsumerRecordsIter, OffsetAndMetadata, PartitionRecords,
    decode_cloud_event,
};
pub use self::topic_partition::TopicPartition;

use self::committer::MemberIdentity;
use self::decode::Decoder;
use self::group_session::{GroupNews, GroupSession};
use self::inbox::{Fetched, Inbox};
use self::listener::NoListener;
use self::node_stream::{NodeStream, StreamOptions};
use self::partitions::Partitions;
use self::resolver::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, Resolver, StartFrom};
use crate::client::Client;
use crate::error::{Error, Result};

/// How long one poll of [`Consumer::recv`] waits before it polls again.
const IDLE_POLL: Duration = Duration::from_mins(1);
/// How long [`Consumer::close`] waits for the group's farewell.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads records of topics.
///
/// Dropping a consumer stops it without a commit and makes it leave its group; [`Consumer::close`]
/// does the same in order.
///
/// ```no_run
/// use std::time::Duration;
/// use conveyor_sdk::{Client, ClientConfig, Consumer, ConsumerConfig, OffsetReset};
///
/// # async fn run() -> conveyor_sdk::Result<()> {
/// let client = Client::connect(ClientConfig::new("localhost:9192")).await?;
/// let mut config = ConsumerConfig::for_group("order-tracking");
/// config.auto_offset_reset = OffsetReset::Earliest;
/// config.enable_auto_commit = false;
///
/// let mut consumer = Consumer::new(&client, config)?;
/// consumer.subscribe(["order-events"])?;
/// for _ in 0..100 {
///     let records = consumer.poll(Duration::from_secs(1)).await?;
///     for (partition, record) in records.iter() {
///         println!("{partition} {}: {:?}", record.offset, record.value);
///     }
///     consumer.commit_sync().await?;
/// }
/// consumer.close().await
/// # }
/// ```
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    inbox: Arc<Inbox>,
    decoder: Decoder,
    resolver: Resolver,
    resolving: Option<JoinHandle<()>>,
    stream_options: StreamOptions,
    streams: BTreeMap<NodeId, NodeStream>,
    partitions: Partitions,
    /// Fetched and not yet decoded, in order of arrival.
    fetched: VecDeque<Fetched>,
    /// Polled and not yet handed out one by one.
    undelivered: VecDeque<PartitionRecords>,
    listener: Box<dyn RebalanceListener>,
    identity: Option<Arc<MemberIdentity>>,
    session: Option<GroupSession>,
    /// What the group asks for and has not been answered.
    group_news: VecDeque<GroupNews>,
    subscribed: BTreeSet<String>,
    committer: OffsetCommitter,
    next_auto_commit: Instant,
    /// To be returned by the next poll, after the records before it.
    failure: Option<Error>,
    /// The group refuses this member; every poll says so.
    refused: Option<Error>,
    has_left: bool,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group_id", &self.config.group_id)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Checks the settings. Must be called within a Tokio runtime.
    pub fn new(client: &Client, config: ConsumerConfig) -> Result<Self> {
        config.validate()?;
        let identity = config
            .group_id
            .clone()
            .map(|group_id| Arc::new(MemberIdentity::new(group_id, Uuid::new_v4().to_string())));
        let committer = match &identity {
            Some(identity) => OffsetCommitter::start(client.clone(), Arc::clone(identity)),
            None => OffsetCommitter::without_group(),
        };
        Ok(Self {
            client: client.clone(),
            inbox: Arc::default(),
            decoder: Decoder::new(&config),
            resolver: Resolver::new(client.clone(), &config),
            resolving: None,
            stream_options: StreamOptions::new(&config),
            streams: BTreeMap::new(),
            partitions: Partitions::default(),
            fetched: VecDeque::new(),
            undelivered: VecDeque::new(),
            listener: Box::new(NoListener),
            identity,
            session: None,
            group_news: VecDeque::new(),
            subscribed: BTreeSet::new(),
            committer,
            next_auto_commit: Instant::now()
                + Duration::from_millis(config.auto_commit_interval_ms),
            failure: None,
            refused: None,
            has_left: false,
            config,
        })
    }

    /// The settings given.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// Who is told of partitions that come and go. Set it before subscribing.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Box::new(listener);
    }

    /// Reads these topics as a member of the group, which decides on the partitions. Replaces an
    /// earlier subscription. Partitions come with the polls that follow.
    pub fn subscribe<S: Into<String>>(
        &mut self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        self.config.group_for("subscribe")?;
        if self.session.is_none() && !self.partitions.is_empty() {
            return Err(conflict(
                "partitions have been assigned by hand, unsubscribe first",
            ));
        }
        self.subscribed = topics.into_iter().map(Into::into).collect();
        let identity = self.identity.as_ref().map(Arc::clone);
        if let (None, Some(identity)) = (&self.session, identity) {
            let inbox = Arc::clone(&self.inbox);
            let client = self.client.clone();
            self.session = Some(GroupSession::start(client, &self.config, identity, inbox));
        }
        if let Some(session) = &self.session {
            session.subscribe(self.subscribed.clone());
        }
        Ok(())
    }

    /// Reads these partitions, whoever else does. Replaces an earlier assignment; partitions that
    /// stay keep their position.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<()> {
        if self.session.is_some() {
            return Err(conflict(
                "topics have been subscribed to, unsubscribe first",
            ));
        }
        let wanted: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let gone: Vec<_> = self
            .partitions
            .names()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        for partition in &gone {
            self.drop_partition(partition);
        }
        for partition in wanted {
            if self.partitions.get(&partition).is_none() {
                self.partitions
                    .insert(partition, StartFrom::Committed, None);
            }
        }
        Ok(())
    }

    /// Gives up all partitions and leaves the group; commits first if it commits by itself.
    pub async fn unsubscribe(&mut self) -> Result<()> {
        let result = self.give_up().await;
        self.subscribed.clear();
        result
    }

    /// The partitions read now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.names().cloned().collect()
    }

    /// The topics subscribed to.
    pub fn subscription(&self) -> impl Iterator<Item = &str> {
        self.subscribed.iter().map(String::as_str)
    }

    /// For a producer that commits this consumer's offsets with its transactions; none without a group.
    pub fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        let identity = self.identity.as_ref().map(Arc::clone);
        identity.map(ConsumerGroupMetadata::for_member)
    }

    /// This member's id in its group, if it has one.
    pub fn member_id(&self) -> Option<&str> {
        self.identity
            .as_ref()
            .map(|identity| identity.member_id.as_str())
    }

    /// The next records, as soon as there are any; nothing after `timeout`. Partitions change hands,
    /// listeners are called and auto commits happen in here: poll regularly, and see
    /// [`ConsumerConfig::rebalance_timeout_ms`]. Retries what a retry can mend; an error is for
    /// the caller to decide on, and the next poll goes on. May be dropped half-way: no record is
    /// lost.
    pub async fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        let deadline = Instant::now() + timeout;
        if self.undelivered.is_empty() {
            let records = self.next_records(deadline).await?;
            self.mark_consumed(&records);
            return Ok(records);
        }
        self.rebalance().await?;
        let partitions = std::mem::take(&mut self.undelivered)
            .into_iter()
            .map(reversed);
        let records = ConsumerRecords {
            partitions: partitions.collect(),
        };
        self.mark_consumed(&records);
        Ok(records)
    }

    /// Lets the polls from now on return more or fewer records than
    /// [`ConsumerConfig::max_poll_records`] says; 1 at least. For who finds out only at work how
    /// much fits between two polls.
    pub fn set_max_poll_records(&mut self, records: usize) {
        self.config.max_poll_records = records.max(1);
    }

    /// The next record, however long it takes. Like [`Consumer::poll`], record by record: a record
    /// counts as consumed once it has been returned.
    pub async fn recv(&mut self) -> Result<ConsumerRecord> {
        loop {
            if self.inbox.has_group_news() || !self.group_news.is_empty() {
                self.rebalance().await?;
            }
            self.auto_commit(Instant::now());
            if let Some(record) = self.next_undelivered() {
                return Ok(record);
            }
            let deadline = Instant::now() + IDLE_POLL;
            let records = self.next_records(deadline).await?;
            self.undelivered = records.partitions.into_iter().map(reversed).collect();
        }
    }

    /// The records one by one as a stream that does not end. What a dropped stream has not yielded
    /// is not lost: the next poll or stream has it.
    ///
    /// ```no_run
    /// use futures::TryStreamExt as _;
    ///
    /// # async fn run(mut consumer: conveyor_sdk::Consumer) -> conveyor_sdk::Result<()> {
    /// let mut records = std::pin::pin!(consumer.stream());
    /// while let Some(record) = records.try_next().await? {
    ///     println!("{record}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumerRecord>> + '_ {
        futures::stream::unfold(self, |consumer| async move {
            let record = consumer.recv().await;
            Some((record, consumer))
        })
    }

    /// Goes on at this offset in the partition, which must be assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: impl Into<Offset>) -> Result<()> {
        let offset = offset.into();
        if !offset.is_some() {
            return Err(Error::Config {
                setting: "offset",
                reason: format!("cannot seek to {offset} in {partition}, offsets start at 0"),
            });
        }
        self.check_assigned(partition)?;
        self.restart(partition, Some(offset));
        Ok(())
    }

    /// Goes on at the first record at or after a time (ms since the epoch) in each partition, at the
    /// end where there is none. Returns where that is.
    pub async fn seek_to_time(
        &mut self,
        partitions: &[TopicPartition],
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        if timestamp_ms < 0 {
            return Err(Error::Config {
                setting: "timestamp_ms",
                reason: format!("{timestamp_ms} lies before the epoch"),
            });
        }
        self.seek_to_timestamp(partitions, timestamp_ms).await
    }

    /// Goes on at the first record there is in each partition.
    pub async fn seek_to_beginning(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.seek_to_timestamp(partitions, EARLIEST_TIMESTAMP).await
    }

    /// Goes on after the last record there is in each partition.
    pub async fn seek_to_end(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.seek_to_timestamp(partitions, LATEST_TIMESTAMP).await
    }

    /// Goes on at what the group has committed in each partition, where the reset policy leads if that
    /// is nothing: to read again what an aborted transaction has not consumed.
    pub fn seek_to_committed(&mut self) {
        for partition in self.assignment() {
            self.forget_position(&partition);
        }
    }

    async fn seek_to_timestamp(
        &mut self,
        partitions: &[TopicPartition],
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        for partition in partitions {
            self.check_assigned(partition)?;
        }
        let wanted = partitions.to_vec();
        let offsets = self
            .resolver
            .offsets_at_refreshed(wanted, timestamp_ms)
            .await?;
        for (partition, offset) in &offsets {
            self.restart(partition, Some(*offset));
        }
        Ok(offsets)
    }

    /// The first offset at or after a time (ms since the epoch) in any partitions; the end where no
    /// record is that young.
    pub async fn offsets_for_time(
        &self,
        partitions: &[TopicPartition],
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.resolver
            .offsets_at_refreshed(partitions.to_vec(), timestamp_ms.max(0))
            .await
    }

    /// Where any partitions begin.
    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.resolver
            .offsets_at_refreshed(partitions.to_vec(), EARLIEST_TIMESTAMP)
            .await
    }

    /// Where any partitions end for this consumer's isolation level.
    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.resolver
            .offsets_at_refreshed(partitions.to_vec(), LATEST_TIMESTAMP)
            .await
    }

    /// Stops fetching these partitions, without giving them up. What has been fetched ahead is
    /// dropped; their positions stay.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            self.check_assigned(partition)?;
            self.restart(partition, None);
            if let Some(state) = self.partitions.get_mut(partition) {
                state.paused = true;
            }
        }
        Ok(())
    }

    /// Fetches these partitions again.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            self.check_assigned(partition)?;
            if let Some(state) = self.partitions.get_mut(partition) {
                state.paused = false;
            }
        }
        Ok(())
    }

    /// The partitions paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let paused = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.paused);
        paused.map(|(name, _)| name.clone()).collect()
    }

    /// The offset after the last record returned; `None` while it is being looked up, or if the
    /// partition is not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions
            .get(partition)?
            .consumed()
            .map(|(offset, _)| offset)
    }

    /// Records between the position and the end of the partition as last heard; `None` while either
    /// is unknown.
    pub fn lag(&mut self, partition: &TopicPartition) -> Option<i64> {
        self.take_watermarks();
        self.partitions
            .get(partition)?
            .lag(self.config.isolation_level)
    }

    /// What the group has committed in these partitions; those with nothing are left out.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>> {
        let group_id = self.config.group_for("have committed offsets")?;
        self.client
            .retry(|| {
                let level = self.config.isolation_level;
                resolver::fetch_committed(&self.client, group_id, partitions, level)
            })
            .await
    }

    /// Commits the positions of all partitions: every record returned so far counts as processed.
    pub async fn commit_sync(&mut self) -> Result<()> {
        self.commit_async().await
    }

    /// As [`Consumer::commit_sync`], in the background; the handle may be dropped.
    pub fn commit_async(&mut self) -> CommitHandle {
        self.committer.commit_async(self.consumed_offsets(|_| true))
    }

    /// Commits these offsets: the next record to read of each partition.
    pub async fn commit_offsets_sync(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        self.committer.commit_sync(offsets).await
    }

    /// As [`Consumer::commit_offsets_sync`], in the background; the handle may be dropped.
    pub fn commit_offsets_async(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> CommitHandle {
        self.committer.commit_async(offsets)
    }

    /// Commits from elsewhere, such as a task that processes records.
    pub fn committer(&self) -> OffsetCommitter {
        self.committer.clone()
    }

    /// Commits if it commits by itself, gives up its partitions (the listener is told), leaves the
    /// group and stops.
    pub async fn close(mut self) -> Result<()> {
        self.give_up().await
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.committer.close();
        if let Some(resolving) = self.resolving.take() {
            resolving.abort();
        }
    }
}

fn conflict(reason: &str) -> Error {
    Error::Config {
        setting: "subscription",
        reason: reason.to_owned(),
    }
}

/// Undelivered records lie in reverse, to be taken off the end one by one.
fn reversed(mut partition: PartitionRecords) -> PartitionRecords {
    partition.records.reverse();
    partition
}
