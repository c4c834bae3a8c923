//! What a principal may do to something, as the bits that clients are told (KIP-430).

use super::KafkaCall;
use crate::request::{Operation, Resource};

/// What stands in a response when nobody has asked.
pub(super) const NOT_ASKED: i32 = i32::MIN;

const TOPIC: &[Operation] = &[
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];
const GROUP: &[Operation] = &[Operation::Read, Operation::Delete, Operation::Describe];
const CLUSTER: &[Operation] = &[
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
];

/// What the principal may do to a topic.
pub(super) fn topic(call: &KafkaCall, name: &str) -> i32 {
    bits(call, TOPIC, Resource::Topic(name))
}

/// What the principal may do to a group.
pub(super) fn group(call: &KafkaCall, group_id: &str) -> i32 {
    bits(call, GROUP, Resource::Group(group_id))
}

/// What the principal may do to the cluster.
pub(super) fn cluster(call: &KafkaCall) -> i32 {
    bits(call, CLUSTER, Resource::Cluster)
}

fn bits(call: &KafkaCall, operations: &[Operation], resource: Resource<'_>) -> i32 {
    let allowed = operations
        .iter()
        .filter(|operation| call.may(**operation, resource));
    allowed.fold(0, |bits, operation| bits | 1 << code(*operation))
}

/// Kafka's number of an operation (`AclOperation`).
const fn code(operation: Operation) -> i32 {
    match operation {
        Operation::Read => 3,
        Operation::Write => 4,
        Operation::Create => 5,
        Operation::Delete => 6,
        Operation::Alter => 7,
        Operation::Describe => 8,
        Operation::ClusterAction => 9,
        Operation::DescribeConfigs => 10,
        Operation::AlterConfigs => 11,
        Operation::IdempotentWrite => 12,
    }
}
