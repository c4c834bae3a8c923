//! Replicas that somebody has chosen by hand: whether they make sense.
//!
//! The rules are Kafka's: every partition from 0 on, each with as many replicas as the first, no node
//! twice in one partition, only nodes that there are.

use conveyor_record::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{MetadataImage, NewTopic};

/// Why replicas chosen by hand are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum AssignmentError {
    /// The number of partitions or replicas is given as well.
    #[error(
        "with an assignment of replicas neither partitions nor replication factor may be given"
    )]
    CountGiven,
    /// A partition is assigned twice.
    #[error("partition {partition} is assigned more than once")]
    Repeated {
        /// The partition.
        partition: i32,
    },
    /// The numbers of the partitions are not 0, 1, 2, …
    #[error("partitions must be numbered from 0 without gaps, partition {missing} is missing")]
    Gap {
        /// The first number that is not there.
        missing: i32,
    },
    /// As many partitions must be assigned as are added.
    #[error("{added} partitions are added, but {assigned} are assigned")]
    WrongCount {
        /// How many are added.
        added: usize,
        /// How many are assigned.
        assigned: usize,
    },
    /// A partition without replicas.
    #[error("a partition is assigned to no node")]
    NoReplicas,
    /// A node is named twice for one partition.
    #[error("node {node} is named more than once for a partition")]
    RepeatedNode {
        /// The node.
        node: NodeId,
    },
    /// None of the nodes of a partition is running.
    #[error("none of the nodes {nodes:?} is running")]
    NoneActive {
        /// The nodes of one partition.
        nodes: Vec<NodeId>,
    },
    /// There is no such node.
    #[error("node {node} is not registered")]
    UnknownNode {
        /// The number given.
        node: NodeId,
    },
    /// Partitions of one topic have equally many replicas.
    #[error("a partition has {found} replicas, the others have {expected}")]
    UnequalReplicas {
        /// What one has.
        found: usize,
        /// What the others have.
        expected: usize,
    },
}

/// The replicas of each partition of a new topic, in order.
pub(crate) fn check_new(
    topic: &NewTopic,
    image: &MetadataImage,
) -> Result<Vec<Vec<NodeId>>, AssignmentError> {
    if topic.partitions.is_some() || topic.replication_factor.is_some() {
        return Err(AssignmentError::CountGiven);
    }
    let mut assignments = topic.assignments.clone();
    assignments.sort_by_key(|(partition, _)| *partition);
    for pair in assignments.windows(2) {
        if pair[0].0 == pair[1].0 {
            return Err(AssignmentError::Repeated {
                partition: pair[0].0,
            });
        }
    }
    for (missing, (partition, _)) in (0..).zip(&assignments) {
        if *partition != missing {
            return Err(AssignmentError::Gap { missing });
        }
    }
    let replicas: Vec<Vec<NodeId>> = assignments.into_iter().map(|(_, nodes)| nodes).collect();
    check_replicas(&replicas, replicas.first().map_or(0, Vec::len), image)?;
    Ok(replicas)
}

/// Checks the replicas of partitions that are added to a topic of so many replicas each.
pub(crate) fn check_added(
    assignments: &[Vec<NodeId>],
    added: usize,
    replication_factor: usize,
    image: &MetadataImage,
) -> Result<(), AssignmentError> {
    if assignments.len() != added {
        return Err(AssignmentError::WrongCount {
            added,
            assigned: assignments.len(),
        });
    }
    check_replicas(assignments, replication_factor, image)
}

fn check_replicas(
    assignments: &[Vec<NodeId>],
    replication_factor: usize,
    image: &MetadataImage,
) -> Result<(), AssignmentError> {
    let nodes: Vec<NodeId> = image.brokers().map(|broker| broker.node_id).collect();
    for replicas in assignments {
        check_partition(replicas, &nodes)?;
        if !replicas.iter().any(|node| image.is_active(*node)) {
            return Err(AssignmentError::NoneActive {
                nodes: replicas.clone(),
            });
        }
        if replicas.len() != replication_factor {
            return Err(AssignmentError::UnequalReplicas {
                found: replicas.len(),
                expected: replication_factor,
            });
        }
    }
    Ok(())
}

/// Checks the replicas of one partition.
pub fn check_partition(replicas: &[NodeId], nodes: &[NodeId]) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::NoReplicas);
    }
    for (index, node) in replicas.iter().enumerate() {
        if replicas[..index].contains(node) {
            return Err(AssignmentError::RepeatedNode { node: *node });
        }
        if !nodes.contains(node) {
            return Err(AssignmentError::UnknownNode { node: *node });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokerRegistration, MetadataRecord};

    const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];

    fn assigned(assignments: &[(i32, &[i32])]) -> Result<Vec<Vec<NodeId>>, AssignmentError> {
        let assignments = assignments
            .iter()
            .map(|(partition, nodes)| (*partition, nodes.iter().copied().map(NodeId).collect()));
        let topic = NewTopic {
            assignments: assignments.collect(),
            ..NewTopic::default()
        };
        let mut image = MetadataImage::default();
        for node in NODES {
            let node = BrokerRegistration::new(node, "host", 1);
            image.replay(&MetadataRecord::RegisterBroker(node));
        }
        check_new(&topic, &image)
    }

    #[test]
    fn partitions_may_come_in_any_order() {
        let replicas = assigned(&[(1, &[2, 1]), (0, &[1, 2])]).unwrap();
        assert_eq!(replicas[0], [NodeId(1), NodeId(2)]);
        assert_eq!(replicas[1], [NodeId(2), NodeId(1)]);
    }

    #[test]
    fn nonsense_is_refused_by_its_name() {
        use AssignmentError::{
            Gap, NoReplicas, Repeated, RepeatedNode, UnequalReplicas, UnknownNode,
        };
        let node = NodeId(1);
        assert_eq!(
            assigned(&[(0, &[1]), (0, &[1])]),
            Err(Repeated { partition: 0 })
        );
        assert_eq!(assigned(&[(0, &[1]), (2, &[1])]), Err(Gap { missing: 1 }));
        assert_eq!(assigned(&[(-1, &[1])]), Err(Gap { missing: 0 }));
        assert_eq!(assigned(&[(0, &[])]), Err(NoReplicas));
        assert_eq!(assigned(&[(0, &[1, 1])]), Err(RepeatedNode { node }));
        assert_eq!(assigned(&[(0, &[7])]), Err(UnknownNode { node: NodeId(7) }));
        let unequal = UnequalReplicas {
            found: 2,
            expected: 1,
        };
        assert_eq!(assigned(&[(0, &[1]), (1, &[1, 2])]), Err(unequal));
    }
}
