//! The state that the metadata records add up to.
//!
//! [`MetadataImage::replay`] is the only way to change it. It takes every record as it comes: the
//! handlers have checked it, and a replay that argued with the log would differ from its peers'. A
//! record about a topic that is gone is therefore no error; it changes nothing.
//!
//! Topics are shared between images (`Arc`), so that cloning one for the next change is cheap.
//!
//! An image knows how many records it is made of ([`MetadataImage::offset`]). Nodes tell the active
//! controller how far they are by this number, and the broker epoch of a registration is the offset of
//! its record; wherever the records are stored, the number is the same on every node.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_record::{BrokerEpoch, NodeId};
use uuid::Uuid;

use crate::quotas::ClientQuotas;
use crate::settings::{Durability, topic_setting};
use crate::{MetadataRecord, MetadataVersion, TopicConfig};

mod broker;
mod partition;

pub use broker::{BrokerRegistration, Endpoint};
pub(crate) use partition::without;
pub use partition::{PartitionChange, PartitionImage};

/// How many replicas must be in sync for an acknowledgement.
pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// What an acknowledgement promises.
pub(crate) const DURABILITY: &str = "conveyor.durability";
/// Topic settings whose default is the cluster's, never a node's own.
pub const CLUSTER_WIDE: [&str; 2] = [DURABILITY, MIN_INSYNC_REPLICAS];

/// All metadata at one point of its log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataImage {
    offset: i64,
    cluster_id: Option<String>,
    metadata_version: MetadataVersion,
    cluster_configs: Arc<BTreeMap<String, String>>,
    brokers: BTreeMap<NodeId, BrokerRegistration>,
    topics: BTreeMap<String, Arc<TopicImage>>,
    topic_names: BTreeMap<Uuid, String>,
    partition_count: usize,
    next_producer_id: i64,
    client_quotas: Arc<ClientQuotas>,
}

/// A topic with its partitions and the settings that differ from the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: String,
    /// Its id; a topic of the same name made later has another.
    pub id: Uuid,
    /// By partition number.
    pub partitions: Vec<PartitionImage>,
    /// What was set on the topic, in normal form (sizes in bytes, times in ms).
    pub configs: BTreeMap<String, String>,
}

impl MetadataImage {
    /// The cluster's id; `None` before the first record.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// How many records it is made of: the metadata offset of the next one.
    pub const fn offset(&self) -> i64 {
        self.offset
    }

    /// Which records its log may hold.
    pub const fn metadata_version(&self) -> MetadataVersion {
        self.metadata_version
    }

    /// Defaults of topic settings that hold on every node, in normal form.
    pub fn cluster_configs(&self) -> &BTreeMap<String, String> {
        &self.cluster_configs
    }

    /// The nodes by number.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &BrokerRegistration> {
        self.brokers.values()
    }

    /// A node.
    pub fn broker(&self, node_id: NodeId) -> Option<&BrokerRegistration> {
        self.brokers.get(&node_id)
    }

    /// Whether a node is registered and neither fenced nor about to stop.
    pub fn is_active(&self, node_id: NodeId) -> bool {
        self.broker(node_id)
            .is_some_and(BrokerRegistration::is_active)
    }

    /// The topics by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// A partition by its topic's id and its number.
    pub fn partition(&self, topic_id: Uuid, partition: i32) -> Option<&PartitionImage> {
        let index = usize::try_from(partition).ok()?;
        self.topic_by_id(topic_id)?.partitions.get(index)
    }

    /// All partitions with their topics and numbers, by topic name and number.
    pub fn partitions(&self) -> impl Iterator<Item = (&Arc<TopicImage>, i32, &PartitionImage)> {
        self.topics.values().flat_map(|topic| {
            let numbered = (0..).zip(&topic.partitions);
            numbered.map(move |(index, partition)| (topic, index, partition))
        })
    }

    /// The settings in force for a topic: its own, else the cluster's, else the node's, else Kafka's.
    ///
    /// `min.insync.replicas` and `conveyor.durability` are what acknowledgements and elections are
    /// counted with; all nodes must count alike, so the node's own defaults do not matter to them.
    pub fn topic_config(
        &self,
        topic: &TopicImage,
        node_defaults: &BTreeMap<String, String>,
    ) -> TopicConfig {
        if self.metadata_version == MetadataVersion::LONE_NODE {
            return TopicConfig::resolve(&topic.configs, node_defaults);
        }
        let mut defaults = node_defaults.clone();
        defaults.retain(|name, _| !CLUSTER_WIDE.contains(&name.as_str()));
        let cluster = self.cluster_configs.iter();
        defaults.extend(cluster.map(|(name, value)| (name.clone(), value.clone())));
        TopicConfig::resolve(&topic.configs, &defaults)
    }

    /// How many replicas must be in sync for a record of this partition to be acknowledged:
    /// `min.insync.replicas`, or all of its replicas if it has fewer (KIP-966).
    ///
    /// The active controller lists a replica as eligible to lead by this number, so a leader must not
    /// count with a smaller one.
    pub fn min_insync_replicas(&self, topic: &TopicImage, partition: &PartitionImage) -> usize {
        let wanted = self.cluster_wide(topic, MIN_INSYNC_REPLICAS);
        let wanted = wanted.parse().unwrap_or(1);
        partition.replication_factor().min(wanted)
    }

    /// What an acknowledgement of a topic's records promises.
    pub fn durability(&self, topic: &TopicImage) -> Durability {
        if self.cluster_wide(topic, DURABILITY) == Durability::Replicated.as_str() {
            Durability::Replicated
        } else {
            Durability::Fsync
        }
    }

    fn cluster_wide<'a>(&'a self, topic: &'a TopicImage, name: &str) -> &'a str {
        let set = topic
            .configs
            .get(name)
            .or_else(|| self.cluster_configs.get(name));
        let built_in = topic_setting(name).map_or("", |setting| setting.default);
        set.map_or(built_in, String::as_str)
    }

    /// Partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The first producer id that no node has been given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The limits of users and client ids.
    pub fn client_quotas(&self) -> &Arc<ClientQuotas> {
        &self.client_quotas
    }

    /// Replays records in order.
    pub fn replay_all(&mut self, records: &[MetadataRecord]) {
        for record in records {
            self.replay(record);
        }
    }

    /// Applies one record.
    pub fn replay(&mut self, record: &MetadataRecord) {
        self.offset += 1;
        match record {
            MetadataRecord::Cluster { cluster_id } => {
                self.cluster_id = Some(cluster_id.clone());
            }
            MetadataRecord::MetadataVersion { metadata_version } => {
                self.metadata_version = *metadata_version;
            }
            MetadataRecord::ClusterConfig { name, value } => {
                set_or_remove(
                    Arc::make_mut(&mut self.cluster_configs),
                    name,
                    value.as_ref(),
                );
            }
            MetadataRecord::RegisterBroker(registration) => {
                self.brokers
                    .insert(registration.node_id, registration.clone());
            }
            MetadataRecord::BrokerChange {
                node_id,
                broker_epoch,
                fenced,
                in_controlled_shutdown,
                draining,
            } => {
                if let Some(broker) = self.broker_mut(*node_id, *broker_epoch) {
                    broker.fenced = fenced.unwrap_or(broker.fenced);
                    broker.in_controlled_shutdown =
                        in_controlled_shutdown.unwrap_or(broker.in_controlled_shutdown);
                    broker.draining = draining.unwrap_or(broker.draining);
                    if *fenced == Some(false) {
                        // It asked for this with its new epoch, which it had put on its disk first.
                        broker.disk_epoch = broker.epoch;
                    }
                }
            }
            MetadataRecord::UnregisterBroker {
                node_id,
                broker_epoch,
            } => {
                if self.broker_mut(*node_id, *broker_epoch).is_some() {
                    self.brokers.remove(node_id);
                }
            }
            MetadataRecord::Topic { name, topic_id } => self.add_topic(name, *topic_id),
            MetadataRecord::Partition {
                topic_id,
                partition,
                state,
            } => self.set_partition(*topic_id, *partition, state.clone()),
            MetadataRecord::PartitionChange(change) => self.change_partition(change),
            MetadataRecord::Config {
                topic_id,
                name,
                value,
            } => {
                if let Some(topic) = self.topic_mut(*topic_id) {
                    set_or_remove(&mut topic.configs, name, value.as_ref());
                }
            }
            MetadataRecord::RemoveTopic { topic_id } => self.remove_topic(*topic_id),
            MetadataRecord::ProducerIds { next_producer_id } => {
                self.next_producer_id = *next_producer_id;
            }
            MetadataRecord::ClientQuota { entity, key, rate } => {
                Arc::make_mut(&mut self.client_quotas).set(entity, *key, *rate);
            }
        }
    }

    fn broker_mut(
        &mut self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Option<&mut BrokerRegistration> {
        let broker = self.brokers.get_mut(&node_id);
        broker.filter(|broker| broker.epoch == epoch)
    }

    fn add_topic(&mut self, name: &str, id: Uuid) {
        if let Some(former) = self.topics.get(name).map(|topic| topic.id) {
            self.remove_topic(former);
        }
        self.topic_names.insert(id, name.to_owned());
        let topic = TopicImage {
            name: name.to_owned(),
            id,
            partitions: Vec::new(),
            configs: BTreeMap::new(),
        };
        self.topics.insert(name.to_owned(), Arc::new(topic));
    }

    fn set_partition(&mut self, topic_id: Uuid, partition: i32, image: PartitionImage) {
        let Ok(index) = usize::try_from(partition) else {
            return;
        };
        let Some(topic) = self.topic_mut(topic_id) else {
            return;
        };
        if let Some(present) = topic.partitions.get_mut(index) {
            *present = image;
        } else if index == topic.partitions.len() {
            topic.partitions.push(image);
            self.partition_count += 1;
        }
    }

    fn change_partition(&mut self, change: &PartitionChange) {
        let Some(topic) = self.topic_mut(change.topic_id) else {
            return;
        };
        let index = usize::try_from(change.partition).ok();
        if let Some(present) = index.and_then(|index| topic.partitions.get_mut(index)) {
            change.apply(present);
        }
    }

    fn remove_topic(&mut self, topic_id: Uuid) {
        let Some(name) = self.topic_names.remove(&topic_id) else {
            return;
        };
        if let Some(topic) = self.topics.remove(&name) {
            self.partition_count -= topic.partitions.len();
        }
    }

    fn topic_mut(&mut self, id: Uuid) -> Option<&mut TopicImage> {
        let name = self.topic_names.get(&id)?;
        self.topics.get_mut(name).map(Arc::make_mut)
    }
}

fn set_or_remove(configs: &mut BTreeMap<String, String>, name: &str, value: Option<&String>) {
    match value {
        Some(value) => configs.insert(name.to_owned(), value.clone()),
        None => configs.remove(name),
    };
}
