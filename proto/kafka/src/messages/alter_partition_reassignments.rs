//! `AlterPartitionReassignments`: starts or cancels moves of replicas.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The wanted replicas by partition; none cancels.
    AlterPartitionReassignmentsRequest [0-1, flexible 0+] {
        timeout_ms: i32 [0+] = 60000,
        allow_replication_factor_change: bool [1+] = true,
        topics: Vec<ReassignableTopic> [0+],
    }
}

structure! {
    /// An element of [`AlterPartitionReassignmentsRequest::topics`].
    ReassignableTopic {
        name: Text [0+],
        partitions: Vec<ReassignablePartition> [0+],
    }
}

structure! {
    /// An element of [`ReassignableTopic::partitions`].
    ReassignablePartition {
        partition_index: i32 [0+],
        replicas: Option<Vec<i32>> [0+],
    }
}

message! {
    /// The outcome by partition.
    AlterPartitionReassignmentsResponse [0-1, flexible 0+] {
        throttle_time_ms: i32 [0+],
        allow_replication_factor_change: bool [1+, ignorable] = true,
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        responses: Vec<ReassignableTopicResponse> [0+],
    }
}

structure! {
    /// An element of [`AlterPartitionReassignmentsResponse::responses`].
    ReassignableTopicResponse {
        name: Text [0+],
        partitions: Vec<ReassignablePartitionResponse> [0+],
    }
}

structure! {
    /// An element of [`ReassignableTopicResponse::partitions`].
    ReassignablePartitionResponse {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
