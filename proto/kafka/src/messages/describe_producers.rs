//! `DescribeProducers`: producers that a partition remembers.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The partitions.
    DescribeProducersRequest [0-0, flexible 0+] {
        topics: Vec<TopicRequest> [0+],
    }
}

structure! {
    /// An element of [`DescribeProducersRequest::topics`].
    TopicRequest {
        name: Text [0+],
        partition_indexes: Vec<i32> [0+],
    }
}

message! {
    /// The producers by partition.
    DescribeProducersResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+],
        topics: Vec<TopicResponse> [0+],
    }
}

structure! {
    /// An element of [`DescribeProducersResponse::topics`].
    TopicResponse {
        name: Text [0+],
        partitions: Vec<PartitionResponse> [0+],
    }
}

structure! {
    /// An element of [`TopicResponse::partitions`].
    PartitionResponse {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        active_producers: Vec<ProducerState> [0+],
    }
}

structure! {
    /// An element of [`PartitionResponse::active_producers`].
    ProducerState {
        producer_id: i64 [0+],
        producer_epoch: i32 [0+],
        last_sequence: i32 [0+] = -1,
        last_timestamp: i64 [0+] = -1,
        coordinator_epoch: i32 [0+],
        current_txn_start_offset: i64 [0+] = -1,
    }
}
