//! `ListOffsets`: finds offsets by timestamp, or by the special timestamps below zero.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The timestamps to look for, by partition.
    ListOffsetsRequest [1-11, flexible 6+] {
        replica_id: i32 [0+],
        isolation_level: i8 [2+],
        topics: Vec<ListOffsetsTopic> [0+],
        timeout_ms: i32 [10+, ignorable],
    }
}

structure! {
    /// An element of [`ListOffsetsRequest::topics`].
    ListOffsetsTopic {
        name: Text [0+],
        partitions: Vec<ListOffsetsPartition> [0+],
    }
}

structure! {
    /// An element of [`ListOffsetsTopic::partitions`].
    ListOffsetsPartition {
        partition_index: i32 [0+],
        current_leader_epoch: i32 [4+, ignorable] = -1,
        timestamp: i64 [0+],
    }
}

message! {
    /// The offset found for each partition.
    ListOffsetsResponse [1-11, flexible 6+] {
        throttle_time_ms: i32 [2+, ignorable],
        topics: Vec<ListOffsetsTopicResponse> [0+],
    }
}

structure! {
    /// An element of [`ListOffsetsResponse::topics`].
    ListOffsetsTopicResponse {
        name: Text [0+],
        partitions: Vec<ListOffsetsPartitionResponse> [0+],
    }
}

structure! {
    /// An element of [`ListOffsetsTopicResponse::partitions`].
    ListOffsetsPartitionResponse {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        timestamp: i64 [1+] = -1,
        offset: i64 [1+] = -1,
        leader_epoch: i32 [4+] = -1,
    }
}
