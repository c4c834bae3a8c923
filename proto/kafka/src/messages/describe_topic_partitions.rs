//! `DescribeTopicPartitions`: topics and partitions, page by page.

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The topics, how many partitions at once, and where to go on.
    DescribeTopicPartitionsRequest [0-0, flexible 0+] {
        topics: Vec<TopicRequest> [0+],
        response_partition_limit: i32 [0+] = 2000,
        cursor: Option<Cursor> [0+],
    }
}

structure! {
    /// An element of [`DescribeTopicPartitionsRequest::topics`].
    TopicRequest {
        name: Text [0+],
    }
}

structure! {
    /// The value of [`DescribeTopicPartitionsRequest::cursor`].
    Cursor {
        topic_name: Text [0+],
        partition_index: i32 [0+],
    }
}

message! {
    /// Topics and partitions, and where the next page begins.
    DescribeTopicPartitionsResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+, ignorable],
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0+],
        next_cursor: Option<Cursor> [0+],
    }
}

structure! {
    /// An element of [`DescribeTopicPartitionsResponse::topics`].
    DescribeTopicPartitionsResponseTopic {
        error_code: i16 [0+],
        name: Option<Text> [0+],
        topic_id: Uuid [0+, ignorable],
        is_internal: bool [0+, ignorable],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0+],
        topic_authorized_operations: i32 [0+] = i32::MIN,
    }
}

structure! {
    /// An element of [`DescribeTopicPartitionsResponseTopic::partitions`].
    DescribeTopicPartitionsResponsePartition {
        error_code: i16 [0+],
        partition_index: i32 [0+],
        leader_id: i32 [0+],
        leader_epoch: i32 [0+, ignorable] = -1,
        replica_nodes: Vec<i32> [0+],
        isr_nodes: Vec<i32> [0+],
        eligible_leader_replicas: Option<Vec<i32>> [0+],
        last_known_elr: Option<Vec<i32>> [0+],
        offline_replicas: Vec<i32> [0+, ignorable],
    }
}
