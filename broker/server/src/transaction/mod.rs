//! The host of the transaction coordinators: routes each transactional id to the shard that keeps it.
//!
//! A shard is a partition of `__transaction_state` with one task that owns its pure coordinator. The
//! topic is created with the first request that needs it; where it exists, all shards load at start,
//! side by side. What transactions mean is decided in `conveyor-transaction`; here are their log,
//! their time and their clients. [`markers`] carries out what was decided, [`admission`] lets records
//! and offsets into a transaction.

mod admission;
mod hanging;
mod hosted;
mod markers;
mod refusal;
mod service;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use conveyor_controller::{NewTopic, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use conveyor_grpc::ErrorCode;
use conveyor_transaction::{
    EndTxn, InitProducerId, Initialised, ListedTransaction, Producer, TopicPartition,
    TransactionConfig, TransactionCoordinator, TransactionError, TransactionMetadata,
    TransactionVersion, Transition, WriteMarkers, partition_for_transactional_id,
};
use tokio::sync::OnceCell;

use self::hosted::{Found, HostedConfig, HostedTransactions, decided, told};
use self::markers::Carried;
use crate::coordinator::shard::ShardHandle;
use crate::coordinator::{Decision, GroupHost};
use crate::node::{Node, Refusal};

pub(crate) use self::admission::Asked;
pub(crate) use self::hanging::OpenTransaction;
pub(crate) use self::markers::Marker;
pub(crate) use self::refusal::authorize_transactional_id;
pub(crate) use self::service::add_routes;

/// Small segments keep what compaction has to look at small; Kafka's value.
const SEGMENT_BYTES: &str = "104857600";

type TransactionShard = ShardHandle<HostedTransactions>;

/// The transaction coordinators of this node.
#[derive(Debug)]
pub(crate) struct TransactionHost {
    node: Arc<Node>,
    groups: Arc<GroupHost>,
    shards: OnceCell<Vec<TransactionShard>>,
    carried: Carried,
    own: Weak<Self>,
}

impl TransactionHost {
    /// Starts the coordinators: all that have a log load at once, and what was decided before the
    /// last stop is carried out.
    pub(crate) fn start(node: Arc<Node>, groups: Arc<GroupHost>) -> Arc<Self> {
        let host = Arc::new_cyclic(|own| Self {
            node,
            groups,
            shards: OnceCell::new(),
            carried: Carried::default(),
            own: Weak::clone(own),
        });
        // Only now is there a host to which shards can tell what they find.
        if let Some(shards) = spawn_shards(&host.node, &host.own) {
            let set = host.shards.set(shards);
            assert!(set.is_ok(), "nobody else has the host yet");
        }
        host
    }

    /// Does something to its end, even if the caller goes away meanwhile: what was decided has to be
    /// carried out, whoever asked for it.
    async fn to_its_end<R, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<R, Refusal>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Refusal>> + Send + 'static,
    {
        let stopping = || Refusal::new(ErrorCode::CoordinatorNotAvailable, "the node is stopping");
        let own = self.own.upgrade().ok_or_else(stopping)?;
        tokio::spawn(work(own))
            .await
            .unwrap_or_else(|_| Err(stopping()))
    }

    /// Gives a transactional producer its id and epoch. What it left open is aborted first; then it
    /// has to ask again (`CONCURRENT_TRANSACTIONS`).
    pub(crate) async fn init_producer_id(
        &self,
        request: InitProducerId,
    ) -> Result<Producer, Refusal> {
        self.to_its_end(async move |host| {
            let id = request.transactional_id.clone();
            let initialised = host
                .with_fresh_id(&id, move |coordinator, now_ms, fresh| {
                    coordinator.init_producer_id(now_ms, &request, fresh)
                })
                .await?;
            match initialised {
                Initialised::Ready(producer) => Ok(producer),
                Initialised::Aborting(markers) => {
                    markers::carry_out(host, markers);
                    let message = format!("the transaction that `{id}` left open is being aborted");
                    Err(Refusal::new(ErrorCode::ConcurrentTransactions, message))
                }
            }
        })
        .await
    }

    /// Adds partitions to a producer's transaction.
    pub(crate) async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        version: TransactionVersion,
    ) -> Result<(), Refusal> {
        let id = transactional_id.to_owned();
        let outcome = self.change(transactional_id, move |coordinator, now_ms| {
            coordinator.add_partitions(now_ms, &id, producer, &partitions, version)
        });
        told(outcome.await?)
    }

    /// Whether each partition is part of a producer's open transaction.
    pub(crate) async fn verify_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let id = transactional_id.to_owned();
        let outcome = self
            .read(transactional_id, move |coordinator| {
                coordinator.verify_partitions(&id, producer, &partitions)
            })
            .await?;
        let unknown = || TransactionError::InvalidProducerIdMapping {
            transactional_id: transactional_id.to_owned(),
            producer,
        };
        let results = told(outcome.unwrap_or_else(|| Err(unknown())))?;
        Ok(results.into_iter().map(told).collect())
    }

    /// Ends a producer's transaction: decided and durable when this returns, carried out soon after.
    /// Returns who the producer is from now on.
    pub(crate) async fn end_txn(&self, request: EndTxn) -> Result<Producer, Refusal> {
        self.to_its_end(async move |host| {
            let id = request.transactional_id.clone();
            let ended = host
                .with_fresh_id(&id, move |coordinator, now_ms, fresh| {
                    coordinator.end_txn(now_ms, &request, fresh)
                })
                .await?;
            if let Some(markers) = ended.markers {
                markers::carry_out(host, markers);
            }
            Ok(ended.producer)
        })
        .await
    }

    /// Aborts the open transaction of an id, whoever holds it.
    pub(crate) async fn abort_by_force(&self, transactional_id: &str) -> Result<(), Refusal> {
        let id = transactional_id.to_owned();
        self.to_its_end(async move |host| {
            let asked = id.clone();
            let outcome = host.change(&id, move |coordinator, now_ms| {
                coordinator.abort_by_force(now_ms, &asked)
            });
            let markers = told(outcome.await?)?;
            markers::carry_out(host, markers);
            Ok(())
        })
        .await
    }

    /// All that is known of a transactional id.
    pub(crate) async fn describe(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionMetadata, Refusal> {
        let id = transactional_id.to_owned();
        let found = self
            .read(transactional_id, move |coordinator| {
                coordinator.describe(&id).cloned()
            })
            .await?;
        let unknown = || TransactionError::TransactionalIdNotFound {
            transactional_id: transactional_id.to_owned(),
        };
        told(found.unwrap_or_else(|| Err(unknown())))
    }

    /// All transactional ids, in no particular order; fails if a shard cannot be read now.
    pub(crate) async fn list(&self) -> Result<Vec<ListedTransaction>, Refusal> {
        let mut listed = Vec::new();
        for shard in self.shards.get().map_or(&[][..], Vec::as_slice) {
            let found = shard.change(|hosted, (), _| {
                Decision::nothing(hosted.coordinator.list().collect::<Vec<_>>())
            });
            listed.extend(found.await?);
        }
        Ok(listed)
    }

    /// Where the offsets of a group lie.
    pub(crate) async fn offsets_of(&self, group_id: &str) -> Result<TopicPartition, Refusal> {
        let partition = self.groups.partition_for(group_id).await?;
        Ok(TopicPartition::new(OFFSETS_TOPIC, partition))
    }

    /// Takes note that all markers of a transaction are written.
    async fn complete(&self, markers: &WriteMarkers) -> Result<bool, Refusal> {
        let written = markers.clone();
        let outcome = self.change(&markers.transactional_id, move |coordinator, now_ms| {
            Ok(coordinator.complete(now_ms, &written))
        });
        told(outcome.await?)
    }

    /// The partition of `__transaction_state` that keeps an id; 0 before there are any.
    fn coordinator_partition(&self, transactional_id: &str) -> i32 {
        let count = self.shards.get().map_or(0, Vec::len);
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        partition_for_transactional_id(transactional_id, count)
    }

    /// The term of the coordinator of an id.
    fn coordinator_epoch(&self, transactional_id: &str) -> i32 {
        let index = self.coordinator_partition(transactional_id);
        let partition = self.node.partitions().get(TRANSACTIONS_TOPIC, index);
        partition.map_or(0, |partition| partition.leader_epoch().value())
    }

    /// Lets the id's coordinator decide, once more with a fresh producer id if it needs one.
    async fn with_fresh_id<R, F>(&self, transactional_id: &str, decide: F) -> Result<R, Refusal>
    where
        R: Send + 'static,
        F: Fn(
                &TransactionCoordinator,
                i64,
                Option<conveyor_record::ProducerId>,
            ) -> Result<Transition<R>, TransactionError>
            + Send
            + Sync
            + 'static,
    {
        let decide = Arc::new(decide);
        let first = Arc::clone(&decide);
        let outcome = self
            .change(transactional_id, move |coordinator, now_ms| {
                first(coordinator, now_ms, None)
            })
            .await?;
        if !matches!(outcome, Err(TransactionError::NeedsProducerId)) {
            return told(outcome);
        }
        let fresh = self.node.producer_ids.next(&self.node.metadata).await?;
        let outcome = self.change(transactional_id, move |coordinator, now_ms| {
            decide(coordinator, now_ms, Some(fresh))
        });
        told(outcome.await?)
    }

    /// Lets the id's coordinator decide, and returns its answer once everything it depends on is
    /// durable. Creates `__transaction_state` if it is not there.
    async fn change<R, F>(
        &self,
        transactional_id: &str,
        decide: F,
    ) -> Result<Result<R, TransactionError>, Refusal>
    where
        R: Send + 'static,
        F: FnOnce(&TransactionCoordinator, i64) -> Result<Transition<R>, TransactionError>
            + Send
            + 'static,
    {
        let shards = self.shards.get_or_try_init(|| self.create_shards()).await?;
        let shard = route(shards, transactional_id)?;
        shard
            .change(|hosted, (), now_ms| decided(decide(&hosted.coordinator, now_ms)))
            .await
    }

    /// Reads from the id's coordinator; `None` while there is none, as no transaction ever was.
    async fn read<R, F>(&self, transactional_id: &str, look: F) -> Result<Option<R>, Refusal>
    where
        R: Send + 'static,
        F: FnOnce(&TransactionCoordinator) -> R + Send + 'static,
    {
        let Some(shards) = self.shards.get() else {
            return Ok(None);
        };
        let shard = route(shards, transactional_id)?;
        shard
            .change(|hosted, (), _| Decision::nothing(look(&hosted.coordinator)))
            .await
            .map(Some)
    }

    async fn create_shards(&self) -> Result<Vec<TransactionShard>, Refusal> {
        let config = &self.node.config;
        if self
            .node
            .metadata
            .image()
            .topic(TRANSACTIONS_TOPIC)
            .is_none()
        {
            let configs = [
                ("cleanup.policy", "compact"),
                ("segment.bytes", SEGMENT_BYTES),
            ];
            let topic = NewTopic {
                name: TRANSACTIONS_TOPIC.to_owned(),
                partitions: Some(config.transaction_topic_partitions),
                replication_factor: Some(config.transaction_topic_replication_factor),
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
                    let message =
                        format!("cannot create {TRANSACTIONS_TOPIC}: {}", refusal.message);
                    Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
                })?;
        }
        spawn_shards(&self.node, &self.own).ok_or_else(|| {
            let message = format!("{TRANSACTIONS_TOPIC} has no partitions on this node");
            Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
        })
    }

    /// Takes what a look at the time has found, once it is durable.
    fn found(&self, found: Found) {
        match found {
            Found::Decided(transactions) => {
                for markers in transactions {
                    tracing::info!(
                        transactional_id = markers.transactional_id,
                        producer = %markers.producer,
                        commit = markers.commit,
                        "transaction was left to the coordinator"
                    );
                    self.carry_out(markers);
                }
            }
            Found::ExpiredIds(count) => tracing::info!(count, "transactional ids have expired"),
        }
    }

    /// Has the markers of a decided transaction written, in the background.
    fn carry_out(&self, markers: WriteMarkers) {
        if let Some(own) = self.own.upgrade() {
            markers::carry_out(own, markers);
        }
    }
}

fn route<'a>(
    shards: &'a [TransactionShard],
    transactional_id: &str,
) -> Result<&'a TransactionShard, Refusal> {
    let count = i32::try_from(shards.len()).unwrap_or(i32::MAX);
    let index = partition_for_transactional_id(transactional_id, count);
    usize::try_from(index)
        .ok()
        .and_then(|index| shards.get(index))
        .ok_or_else(|| {
            let message = format!("`{transactional_id}` has no coordinator on this node");
            Refusal::new(ErrorCode::NotCoordinator, message)
        })
}

/// One shard for each partition of the topic, if it exists.
fn spawn_shards(node: &Arc<Node>, host: &Weak<TransactionHost>) -> Option<Vec<TransactionShard>> {
    let topic = node.partitions().topic(TRANSACTIONS_TOPIC).ok()?;
    let config = hosted_config(node);
    let shards = topic.slots().iter().map(|slot| {
        let host = Weak::clone(host);
        let on_found = Arc::new(move |found| {
            if let Some(host) = host.upgrade() {
                host.found(found);
            }
        });
        ShardHandle::spawn(node, slot, config.clone(), on_found)
    });
    Some(shards.collect())
}

fn hosted_config(node: &Node) -> HostedConfig {
    let config = &node.config;
    HostedConfig {
        transactions: TransactionConfig {
            max_timeout_ms: config.transaction_max_timeout_ms,
            expiration_ms: config.transactional_id_expiration_ms,
        },
        abort_interval_ms: config.transaction_abort_interval_ms,
        expiry_interval_ms: config.transaction_expiry_interval_ms,
    }
}
