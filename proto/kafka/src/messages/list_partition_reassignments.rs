//! `ListPartitionReassignments`: moves of replicas under way.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The partitions of interest; none given means all.
    ListPartitionReassignmentsRequest [0-0, flexible 0+] {
        timeout_ms: i32 [0+] = 60000,
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0+],
    }
}

structure! {
    /// An element of [`ListPartitionReassignmentsRequest::topics`].
    ListPartitionReassignmentsTopics {
        name: Text [0+],
        partition_indexes: Vec<i32> [0+],
    }
}

message! {
    /// The moves.
    ListPartitionReassignmentsResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        topics: Vec<OngoingTopicReassignment> [0+],
    }
}

structure! {
    /// An element of [`ListPartitionReassignmentsResponse::topics`].
    OngoingTopicReassignment {
        name: Text [0+],
        partitions: Vec<OngoingPartitionReassignment> [0+],
    }
}

structure! {
    /// An element of [`OngoingTopicReassignment::partitions`].
    OngoingPartitionReassignment {
        partition_index: i32 [0+],
        replicas: Vec<i32> [0+],
        adding_replicas: Vec<i32> [0+],
        removing_replicas: Vec<i32> [0+],
    }
}
