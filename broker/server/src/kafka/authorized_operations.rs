//! The operations that a principal may do, as the bit field in which Kafka tells it (KIP-430).

use super::KafkaCall;
use crate::request::{Operation, Resource};

/// What stands in a response when nobody has asked.
pub(super) const NOT_ASKED: i32 = i32::MIN;

/// Kafka's numbers of operations (`AclOperation`), those that there are for topics.
const OF_TOPICS: [(Operation, u32); 8] = [
    (Operation::Read, 3),
    (Operation::Write, 4),
    (Operation::Create, 5),
    (Operation::Delete, 6),
    (Operation::Alter, 7),
    (Operation::Describe, 8),
    (Operation::DescribeConfigs, 10),
    (Operation::AlterConfigs, 11),
];

/// Those that there are for groups.
const OF_GROUPS: [(Operation, u32); 5] = [
    (Operation::Read, 3),
    (Operation::Delete, 6),
    (Operation::Describe, 8),
    (Operation::DescribeConfigs, 10),
    (Operation::AlterConfigs, 11),
];

/// Those that there are for the cluster.
const OF_CLUSTER: [(Operation, u32); 7] = [
    (Operation::Create, 5),
    (Operation::Alter, 7),
    (Operation::Describe, 8),
    (Operation::ClusterAction, 9),
    (Operation::DescribeConfigs, 10),
    (Operation::AlterConfigs, 11),
    (Operation::IdempotentWrite, 12),
];

/// What the principal may do to a topic.
pub(super) fn of_topic(call: &KafkaCall, topic: &str) -> i32 {
    bits(call, &OF_TOPICS, Resource::Topic(topic))
}

/// What the principal may do to a group.
pub(super) fn of_group(call: &KafkaCall, group_id: &str) -> i32 {
    bits(call, &OF_GROUPS, Resource::Group(group_id))
}

/// What the principal may do to the cluster.
pub(super) fn of_cluster(call: &KafkaCall) -> i32 {
    bits(call, &OF_CLUSTER, Resource::Cluster)
}

fn bits(call: &KafkaCall, operations: &[(Operation, u32)], resource: Resource<'_>) -> i32 {
    let allowed = operations
        .iter()
        .filter(|(operation, _)| call.may(*operation, resource));
    allowed.fold(0, |bits, (_, number)| bits | 1 << number)
}
