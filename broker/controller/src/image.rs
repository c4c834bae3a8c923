//! The state that the metadata records add up to.
//!
//! [`MetadataImage::replay`] is the only way to change it. It takes every record as it comes: the
//! handlers have checked it, and a replay that argued with the log would differ from its peers'. A
//! record about a topic that is gone is therefore no error; it changes nothing.
//!
//! Topics are shared between images (`Arc`), so that cloning one for the next change is cheap.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_record::{LeaderEpoch, NodeId};
use uuid::Uuid;

use crate::MetadataRecord;
use crate::quotas::ClientQuotas;

/// All metadata at one point of its log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataImage {
    cluster_id: Option<String>,
    brokers: BTreeMap<NodeId, BrokerRegistration>,
    topics: BTreeMap<String, Arc<TopicImage>>,
    topic_names: BTreeMap<Uuid, String>,
    partition_count: usize,
    next_producer_id: i64,
    client_quotas: Arc<ClientQuotas>,
}

/// A node as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Its number in the cluster.
    pub node_id: NodeId,
    /// Host name or address told to clients.
    pub host: String,
    /// Port told to clients.
    pub port: u16,
    /// Where it stands; empty when not told.
    pub rack: String,
}

impl BrokerRegistration {
    /// A node without a rack.
    pub fn new(node_id: NodeId, host: impl Into<String>, port: u16) -> Self {
        Self {
            node_id,
            host: host.into(),
            port,
            rack: String::new(),
        }
    }
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

/// A partition's placement and leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// The nodes that hold it, preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The replicas that have every acknowledged record.
    pub isr: Vec<NodeId>,
    /// The leader, [`NodeId::NONE`] while there is none.
    pub leader: NodeId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
}

impl MetadataImage {
    /// The cluster's id; `None` before the first record.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The nodes by number.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &BrokerRegistration> {
        self.brokers.values()
    }

    /// A node.
    pub fn broker(&self, node_id: NodeId) -> Option<&BrokerRegistration> {
        self.brokers.get(&node_id)
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
        match record {
            MetadataRecord::Cluster { cluster_id } => {
                self.cluster_id = Some(cluster_id.clone());
            }
            MetadataRecord::RegisterBroker {
                node_id,
                host,
                port,
                rack,
            } => {
                let registration = BrokerRegistration {
                    node_id: *node_id,
                    host: host.clone(),
                    port: *port,
                    rack: rack.clone(),
                };
                self.brokers.insert(*node_id, registration);
            }
            MetadataRecord::Topic { name, topic_id } => self.add_topic(name, *topic_id),
            MetadataRecord::Partition {
                topic_id,
                partition,
                replicas,
                isr,
                leader,
                leader_epoch,
            } => self.set_partition(
                *topic_id,
                *partition,
                PartitionImage {
                    replicas: replicas.clone(),
                    isr: isr.clone(),
                    leader: *leader,
                    leader_epoch: *leader_epoch,
                },
            ),
            MetadataRecord::PartitionChange {
                topic_id,
                partition,
                isr,
                leader,
                leader_epoch,
            } => self.change_partition(*topic_id, *partition, isr, *leader, *leader_epoch),
            MetadataRecord::Config {
                topic_id,
                name,
                value,
            } => self.set_config(*topic_id, name, value.as_ref()),
            MetadataRecord::RemoveTopic { topic_id } => self.remove_topic(*topic_id),
            MetadataRecord::ProducerIds { next_producer_id } => {
                self.next_producer_id = *next_producer_id;
            }
            MetadataRecord::ClientQuota { entity, key, rate } => {
                Arc::make_mut(&mut self.client_quotas).set(entity, *key, *rate);
            }
        }
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

    fn change_partition(
        &mut self,
        topic_id: Uuid,
        partition: i32,
        isr: &[NodeId],
        leader: NodeId,
        leader_epoch: LeaderEpoch,
    ) {
        let Some(topic) = self.topic_mut(topic_id) else {
            return;
        };
        let index = usize::try_from(partition).ok();
        if let Some(present) = index.and_then(|index| topic.partitions.get_mut(index)) {
            isr.clone_into(&mut present.isr);
            present.leader = leader;
            present.leader_epoch = leader_epoch;
        }
    }

    fn set_config(&mut self, topic_id: Uuid, name: &str, value: Option<&String>) {
        let Some(topic) = self.topic_mut(topic_id) else {
            return;
        };
        match value {
            Some(value) => topic.configs.insert(name.to_owned(), value.clone()),
            None => topic.configs.remove(name),
        };
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
