//! What a client knows of the cluster: nodes, topics, partitions and their leaders.
//!
//! A value is an immutable picture; [`ClusterMetadata::merge`] makes the next one from an answer.
//! It never goes back to an older leader: nodes learn of changes one after the other, and one that
//! is behind must not undo what a client knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{LeaderEpoch, NodeId};
use uuid::Uuid;

/// A picture of the cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterMetadata {
    cluster_id: String,
    nodes: BTreeMap<NodeId, NodeAddress>,
    topics: HashMap<String, Arc<TopicInfo>>,
}

/// Where clients reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Host name or address.
    pub host: String,
    /// Port of its gRPC listener.
    pub port: u16,
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') && !self.host.starts_with('[') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One topic and its partitions.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id: another one means that the topic was deleted and created again.
    pub topic_id: Uuid,
    /// Whether it belongs to the cluster itself.
    pub is_internal: bool,
    /// Partition `n` at index `n`.
    pub partitions: Vec<PartitionInfo>,
    /// When this was fetched.
    pub fetched_at: Instant,
}

/// One partition and who leads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    /// [`NodeId::NONE`] while there is none.
    pub leader: NodeId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
}

impl ClusterMetadata {
    /// The cluster's id, empty before the first answer.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The nodes by id.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeAddress> {
        &self.nodes
    }

    /// What is known of a topic.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicInfo>> {
        self.topics.get(name)
    }

    /// The topics known, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicInfo>> {
        self.topics.values()
    }

    /// The picture after an answer. Topics that the answer does not name stay as they were; those
    /// that it says are gone are forgotten.
    #[must_use]
    pub fn merge(&self, answer: &v1::GetMetadataResponse, now: Instant) -> Self {
        let mut next = self.clone();
        if !answer.cluster_id.is_empty() {
            next.cluster_id.clone_from(&answer.cluster_id);
        }
        if !answer.nodes.is_empty() {
            next.nodes = answer.nodes.iter().filter_map(read_node).collect();
        }
        for topic in &answer.topics {
            match ErrorCode::from_code(topic.error_code) {
                ErrorCode::None => {
                    let known = self.topics.get(&topic.name);
                    let info = read_topic(topic, known.map(Arc::as_ref), now);
                    next.topics.insert(topic.name.clone(), Arc::new(info));
                }
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
                    next.topics.remove(&topic.name);
                }
                // The node cannot say just now: what was known may still hold.
                _ => {}
            }
        }
        next
    }

    /// As [`ClusterMetadata::merge`], for an answer that names every topic: the others are gone.
    #[must_use]
    pub fn merge_all(&self, answer: &v1::GetMetadataResponse, now: Instant) -> Self {
        let mut next = self.merge(answer, now);
        let named: BTreeSet<&str> = answer
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect();
        next.topics.retain(|name, _| named.contains(name.as_str()));
        next
    }
}

fn read_node(node: &v1::Node) -> Option<(NodeId, NodeAddress)> {
    let port = u16::try_from(node.port).ok()?;
    Some((
        NodeId(node.node_id),
        NodeAddress {
            host: node.host.clone(),
            port,
        },
    ))
}

fn read_topic(topic: &v1::TopicMetadata, known: Option<&TopicInfo>, now: Instant) -> TopicInfo {
    let topic_id = Uuid::from_slice(&topic.topic_id).unwrap_or_default();
    let known = known.filter(|known| known.topic_id == topic_id);
    let mut partitions: Vec<PartitionInfo> = topic
        .partitions
        .iter()
        .map(|_| PartitionInfo {
            leader: NodeId::NONE,
            leader_epoch: LeaderEpoch::NONE,
        })
        .collect();
    for partition in &topic.partitions {
        let index = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        // Partitions are numbered without gaps; an index beyond their count is a broken answer,
        // and that partition stays without a leader.
        let Some(slot) = partitions.get_mut(index) else {
            continue;
        };
        let told = PartitionInfo {
            leader: NodeId(partition.leader_id),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
        };
        let before = known.and_then(|known| known.partitions.get(index)).copied();
        *slot = match before {
            Some(before) if before.leader_epoch > told.leader_epoch => before,
            _ => told,
        };
    }
    TopicInfo {
        name: topic.name.clone(),
        topic_id,
        is_internal: topic.is_internal,
        partitions,
        fetched_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(topic: v1::TopicMetadata) -> v1::GetMetadataResponse {
        v1::GetMetadataResponse {
            cluster_id: "c".to_owned(),
            nodes: vec![v1::Node {
                node_id: 1,
                host: "h".to_owned(),
                port: 9192,
                ..v1::Node::default()
            }],
            topics: vec![topic],
            ..v1::GetMetadataResponse::default()
        }
    }

    fn orders(id: u8, leader_id: i32, leader_epoch: i32) -> v1::TopicMetadata {
        v1::TopicMetadata {
            name: "orders".to_owned(),
            topic_id: vec![id; 16].into(),
            partitions: vec![v1::PartitionMetadata {
                leader_id,
                leader_epoch,
                ..v1::PartitionMetadata::default()
            }],
            ..v1::TopicMetadata::default()
        }
    }

    fn leader(metadata: &ClusterMetadata) -> i32 {
        metadata.topic("orders").unwrap().partitions[0]
            .leader
            .value()
    }

    #[test]
    fn an_older_leader_epoch_never_wins_within_one_topic_id() {
        let now = Instant::now();
        let metadata = ClusterMetadata::default().merge(&answer(orders(7, 2, 5)), now);
        let stale = metadata.merge(&answer(orders(7, 1, 4)), now);
        assert_eq!(leader(&stale), 2);
        let newer = stale.merge(&answer(orders(7, 3, 6)), now);
        assert_eq!(leader(&newer), 3);
        let created_again = newer.merge(&answer(orders(8, 1, 0)), now);
        assert_eq!(leader(&created_again), 1);
    }

    #[test]
    fn a_deleted_topic_is_forgotten_and_a_silent_one_kept() {
        let now = Instant::now();
        let metadata = ClusterMetadata::default().merge(&answer(orders(7, 2, 5)), now);
        let mut gone = orders(0, -1, -1);
        gone.error_code = ErrorCode::LeaderNotAvailable.code();
        assert!(
            metadata
                .merge(&answer(gone.clone()), now)
                .topic("orders")
                .is_some()
        );
        gone.error_code = ErrorCode::UnknownTopicOrPartition.code();
        assert!(metadata.merge(&answer(gone), now).topic("orders").is_none());
    }

    #[test]
    fn a_full_answer_forgets_what_it_does_not_name() {
        let now = Instant::now();
        let metadata = ClusterMetadata::default().merge(&answer(orders(7, 2, 5)), now);
        let mut other = orders(9, 1, 0);
        other.name = "waves".to_owned();
        assert!(
            metadata
                .merge(&answer(other.clone()), now)
                .topic("orders")
                .is_some()
        );
        let full = metadata.merge_all(&answer(other), now);
        assert!(full.topic("orders").is_none() && full.topic("waves").is_some());
    }

    #[test]
    fn partition_numbers_beyond_the_count_are_ignored() {
        let mut topic = orders(7, 2, 5);
        topic.partitions[0].partition = 900_000_000;
        let metadata = ClusterMetadata::default().merge(&answer(topic), Instant::now());
        let partitions = &metadata.topic("orders").unwrap().partitions;
        assert_eq!(partitions.len(), 1);
        assert_eq!(partitions[0].leader, NodeId::NONE);
    }

    #[test]
    fn ipv6_hosts_are_bracketed() {
        let address = |host: &str| {
            NodeAddress {
                host: host.to_owned(),
                port: 1,
            }
            .to_string()
        };
        assert_eq!(address("::1"), "[::1]:1");
        assert_eq!(address("node-1"), "node-1:1");
    }
}
