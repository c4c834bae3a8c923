//! The host of the group coordinators: routes each group to the shard that keeps it.
//!
//! A shard is a partition of `__consumer_offsets` with one task that owns its pure coordinator. The
//! topic is created with the first request that needs it; where it exists, all shards load at start,
//! side by side. What groups mean is decided in `conveyor-group`; here are their log, their time,
//! their clients and their topics.

mod cluster;
mod described;
mod groups;
mod hosted;
mod lag;
mod late;
mod machine;
mod membership;
mod offsets;
mod refusal;
mod requests;
mod service;
pub(crate) mod shard;

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_controller::{NewTopic, OFFSETS_TOPIC};
use conveyor_group::{
    GroupConfig, GroupCoordinator, OffsetResult, Reply, TransactionalCommit, Transition,
    partition_for_group,
};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::group_service_server::GroupServiceServer;
use conveyor_record::{ControlRecord, ControlType};
use tokio::sync::OnceCell;
use tonic::service::Routes;

use self::cluster::ClusterSnapshot;
pub(crate) use self::hosted::decided;
use self::hosted::decision;
pub(crate) use self::machine::{Coordinator, Decision, TransactionalProducer, Write};
pub(crate) use self::refusal::authorize_group;
use self::service::GroupServices;
use self::shard::ShardHandle;
use crate::node::{Node, Refusal};
use crate::partition::Admission;

/// Largest request about groups, in bytes.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// Small segments keep what compaction has to look at small; Kafka's value.
const SEGMENT_BYTES: &str = "104857600";

type GroupShard = ShardHandle<GroupCoordinator>;

/// The coordinators of this node.
#[derive(Debug)]
pub(crate) struct GroupHost {
    node: Arc<Node>,
    shards: OnceCell<Vec<GroupShard>>,
}

/// The gRPC service of the coordinators.
pub(crate) fn routes(host: &Arc<GroupHost>) -> Routes {
    let service = GroupServiceServer::new(GroupServices::new(Arc::clone(host)))
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    Routes::new(service)
}

impl GroupHost {
    /// Starts the coordinators: all that have a log load at once.
    pub(crate) fn start(node: Arc<Node>) -> Arc<Self> {
        let shards = spawn_shards(&node)
            .map_or_else(OnceCell::new, |shards| OnceCell::new_with(Some(shards)));
        Arc::new(Self { node, shards })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Lets the group's coordinator decide, and returns its answer once everything it depends on is
    /// durable. Creates `__consumer_offsets` if it is not there.
    pub(crate) async fn change<R, F>(&self, group_id: &str, decide: F) -> Result<R, Refusal>
    where
        R: Send + 'static,
        F: FnOnce(&mut GroupCoordinator, &ClusterSnapshot, i64) -> Decision<GroupCoordinator, R>
            + Send
            + 'static,
    {
        let shards = self.shards.get_or_try_init(|| self.create_shards()).await?;
        route(shards, group_id)?.change(decide).await
    }

    /// Reads from the group's coordinator; `None` while there is none, as no group ever was.
    async fn read<R, F>(&self, group_id: &str, look: F) -> Result<Option<R>, Refusal>
    where
        R: Send + 'static,
        F: FnOnce(&GroupCoordinator) -> R + Send + 'static,
    {
        let Some(shards) = self.shards.get() else {
            return Ok(None);
        };
        let shard = route(shards, group_id)?;
        shard
            .change(|coordinator, _, _| Decision::nothing(look(coordinator)))
            .await
            .map(Some)
    }

    /// As [`Self::change`] for a request whose answer may have to wait for other members.
    pub(crate) async fn change_later<F>(&self, group_id: &str, decide: F) -> Result<Reply, Refusal>
    where
        F: FnOnce(
                &mut GroupCoordinator,
                &ClusterSnapshot,
                i64,
                conveyor_group::Ticket,
            ) -> Transition<()>
            + Send
            + 'static,
    {
        let shards = self.shards.get_or_try_init(|| self.create_shards()).await?;
        route(shards, group_id)?
            .change_later(|coordinator, cluster, now_ms, ticket| {
                decision(decide(
                    coordinator,
                    cluster,
                    now_ms,
                    conveyor_group::Ticket(ticket.0),
                ))
            })
            .await
    }

    /// The partition of `__consumer_offsets` that keeps a group. Creates the topic if it is not there.
    pub(crate) async fn partition_for(&self, group_id: &str) -> Result<i32, Refusal> {
        let shards = self.shards.get_or_try_init(|| self.create_shards()).await?;
        Ok(partition_for_group(group_id, shards.len() as i32))
    }

    /// Writes offsets as part of a producer's transaction; they count once it is committed. That the
    /// producer is who it says, and that the transaction is open, is checked by the caller; they are
    /// refused (`INVALID_TXN_STATE`) if it has ended since its admission.
    pub(crate) async fn commit_transactional(
        &self,
        request: TransactionalCommit,
        admission: Admission,
    ) -> Result<Vec<OffsetResult>, Refusal> {
        let group_id = request.group_id.clone();
        let producer = TransactionalProducer {
            id: request.producer.id,
            epoch: request.producer.epoch,
        };
        self.change(&group_id, move |coordinator, cluster, now_ms| {
            // Here and not before: its marker is decided on by the same task.
            if !admission.is_good() {
                let message = "the transaction has ended: its offsets come too late";
                let refusal = Refusal::new(ErrorCode::InvalidTxnState, message);
                return Decision::nothing(Err(refusal));
            }
            match coordinator.commit_transactional(now_ms, &request, cluster) {
                Ok(transition) => {
                    let records = transition.records;
                    let write = Write::Transactional { producer, records };
                    Decision::write(write, Ok(transition.response))
                }
                Err(error) => Decision::nothing(Err(Refusal::from(error))),
            }
        })
        .await?
    }

    /// Writes the marker that ends a producer's transaction into one partition of
    /// `__consumer_offsets`, and lets its offsets count if it was committed. Returns when the marker
    /// is durable. To be called for these partitions instead of appending a marker to them: state
    /// and log must agree. Doing it again changes nothing but the log.
    pub(crate) async fn complete_transaction(
        &self,
        partition: i32,
        producer: TransactionalProducer,
        coordinator_epoch: i32,
        commit: bool,
    ) -> Result<(), Refusal> {
        let shard = usize::try_from(partition)
            .ok()
            .and_then(|index| self.shards().get(index))
            .ok_or_else(|| {
                let message = format!("{OFFSETS_TOPIC} has no partition {partition}");
                Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
            })?;
        let marker = ControlRecord {
            control_type: if commit {
                ControlType::Commit
            } else {
                ControlType::Abort
            },
            coordinator_epoch,
        };
        shard
            .change(move |coordinator, _, _| {
                match coordinator.check_marker(producer.into(), coordinator_epoch) {
                    Ok(()) => Decision::write(Write::Marker { producer, marker }, Ok(())),
                    Err(error) => Decision::nothing(Err(Refusal::from(error))),
                }
            })
            .await?
    }

    /// All shards that there are.
    fn shards(&self) -> &[GroupShard] {
        self.shards.get().map_or(&[], Vec::as_slice)
    }

    async fn create_shards(&self) -> Result<Vec<GroupShard>, Refusal> {
        if self.node.metadata.image().topic(OFFSETS_TOPIC).is_none() {
            let configs = [
                ("cleanup.policy", "compact"),
                ("segment.bytes", SEGMENT_BYTES),
            ];
            let topic = NewTopic {
                name: OFFSETS_TOPIC.to_owned(),
                partitions: Some(self.node.config.offsets_topic_partitions),
                replication_factor: Some(self.node.config.offsets_topic_replication_factor),
                configs: configs
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect::<BTreeMap<_, _>>(),
                internal: true,
                ..NewTopic::default()
            };
            crate::admin::ensure_topic(&self.node, topic)
                .await
                .map_err(|refusal| {
                    let message = format!("cannot create {OFFSETS_TOPIC}: {}", refusal.message);
                    Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
                })?;
        }
        spawn_shards(&self.node).ok_or_else(|| {
            let message = format!("{OFFSETS_TOPIC} has no partitions on this node");
            Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
        })
    }
}

fn route<'a>(shards: &'a [GroupShard], group_id: &str) -> Result<&'a GroupShard, Refusal> {
    let index = partition_for_group(group_id, shards.len() as i32);
    usize::try_from(index)
        .ok()
        .and_then(|index| shards.get(index))
        .ok_or_else(|| {
            let message = format!("group `{group_id}` has no coordinator on this node");
            Refusal::new(ErrorCode::NotCoordinator, message)
        })
}

/// One shard for each partition of the topic, if it exists.
fn spawn_shards(node: &Arc<Node>) -> Option<Vec<GroupShard>> {
    let topic = node.partitions().topic(OFFSETS_TOPIC).ok()?;
    let config = group_config(node);
    let shards = topic.slots().iter().map(|slot| {
        ShardHandle::spawn(
            node,
            slot,
            config.clone(),
            Arc::new(|expired| hosted::tell_expired(&expired)),
        )
    });
    Some(shards.collect())
}

fn group_config(node: &Node) -> GroupConfig {
    let config = &node.config;
    GroupConfig {
        session_timeout_ms: config.group_session_timeout_ms,
        heartbeat_interval_ms: i32::try_from(config.group_heartbeat_interval_ms)
            .unwrap_or(i32::MAX),
        max_size: config.group_max_size,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        classic_max_size: config.group_classic_max_size,
        offset_metadata_max_bytes: config.offset_metadata_max_bytes,
        offsets_retention_ms: config.offsets_retention_minutes.saturating_mul(60_000),
        ..GroupConfig::default()
    }
}
