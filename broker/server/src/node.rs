//! What every handler works with: one value for the node, made at start and shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_controller::TopicConfig;
use conveyor_grpc::ErrorCode;
use conveyor_log::Clock;
use conveyor_record::NodeId;
use tokio_util::sync::CancellationToken;

use crate::BrokerConfig;
use crate::fetch_memory::FetchMemory;
use crate::listener::kafka::ListenerInfo;
use crate::metadata_host::MetadataHost;
use crate::metrics::Metrics;
use crate::partition::{Partition, Partitions, Slot};
use crate::producer_ids::ProducerIds;
use crate::request::{Call, Gate, Operation, Resource};
use crate::request_memory::RequestMemory;
use crate::storage::Storage;

/// The running node, as handlers see it.
#[allow(clippy::struct_field_names, reason = "node.id is the setting's name")]
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: BrokerConfig,
    pub(crate) node_id: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) metadata: MetadataHost,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) producer_ids: ProducerIds,
    /// Bounds the records that wait for consumers' connections.
    pub(crate) fetch_memory: FetchMemory,
    /// Bounds the large requests of Kafka clients.
    pub(crate) request_memory: RequestMemory,
    /// The Kafka listeners, as they are bound.
    pub(crate) kafka_listeners: Vec<Arc<ListenerInfo>>,
    pub(crate) started_ms: i64,
    /// Cancelled when the node begins to stop: streams end, long polls return.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when it has stopped: the admin listener ends.
    pub(crate) stopped: CancellationToken,
}

/// An item of a request that is refused: the code and what to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl Node {
    /// The partitions of this node.
    pub(crate) fn partitions(&self) -> &Partitions {
        self.storage.partitions()
    }

    /// The largest batch that a topic without a setting of its own takes (`message.max.bytes`).
    pub(crate) fn message_bytes_max(&self) -> usize {
        let defaults = self.config.topic_config_defaults();
        TopicConfig::resolve(&BTreeMap::new(), defaults).max_message_bytes
    }

    /// The largest batch that any topic takes now, or would take if it were created now.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let topics = self.partitions().all();
        let topics = topics.iter().filter_map(|topic| topic.online().next());
        topics
            .map(|partition| partition.config().max_message_bytes)
            .fold(self.message_bytes_max(), usize::max)
    }

    /// Partitions whose log cannot be opened.
    pub(crate) fn offline_partitions(&self) -> usize {
        let topics = self.partitions().all();
        let offline = topics.iter().flat_map(|topic| topic.slots());
        offline
            .filter(|slot| matches!(slot, Slot::Offline(_)))
            .count()
    }

    /// Partitions that want more replicas in sync than there are nodes.
    pub(crate) fn under_min_isr(&self) -> usize {
        let partitions = self.partitions().online();
        partitions
            .iter()
            .filter(|partition| partition.config().min_insync_replicas > 1)
            .count()
    }

    /// The time, in ms since the epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A partition that the caller may use for this.
    pub(crate) fn partition_for(
        &self,
        call: &Call,
        operation: Operation,
        topic: &str,
        partition: i32,
    ) -> Result<Arc<Partition>, Refusal> {
        authorize_topic(call, operation, topic)?;
        self.partitions()
            .get(topic, partition)
            .map_err(Refusal::from)
    }
}

/// Refuses what the authorizer does not allow.
pub(crate) fn authorize_topic(
    call: &Call,
    operation: Operation,
    topic: &str,
) -> Result<(), Refusal> {
    if call.may(operation, Resource::Topic(topic)) {
        return Ok(());
    }
    let message = format!("{} may not {operation:?} topic {topic}", call.principal());
    Err(Refusal::new(ErrorCode::TopicAuthorizationFailed, message))
}

/// Refuses what the authorizer does not allow upon the cluster.
pub(crate) fn authorize_cluster(call: &Call, operation: Operation) -> Result<(), Refusal> {
    if call.may(operation, Resource::Cluster) {
        return Ok(());
    }
    let message = format!("{} may not {operation:?} the cluster", call.principal());
    Err(Refusal::new(ErrorCode::ClusterAuthorizationFailed, message))
}
