//! `Produce`: appends record batches to partitions.

use bytes::Bytes;
use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// Record batches to append, by topic and partition.
    ProduceRequest [3-13, flexible 9+] {
        transactional_id: Option<Text> [3+],
        acks: i16 [0+],
        timeout_ms: i32 [0+],
        topic_data: Vec<TopicProduceData> [0+],
    }
}

structure! {
    /// An element of [`ProduceRequest::topic_data`].
    TopicProduceData {
        name: Text [0-12, ignorable],
        topic_id: Uuid [13+, ignorable],
        partition_data: Vec<PartitionProduceData> [0+],
    }
}

structure! {
    /// An element of [`TopicProduceData::partition_data`].
    PartitionProduceData {
        index: i32 [0+],
        records: Option<Bytes> [0+],
    }
}

message! {
    /// Where each batch was appended, or why it was not.
    ProduceResponse [3-13, flexible 9+] {
        responses: Vec<TopicProduceResponse> [0+],
        throttle_time_ms: i32 [1+, ignorable],
    } tagged {
        0 node_endpoints: Vec<NodeEndpoint> [10+],
    }
}

structure! {
    /// An element of [`ProduceResponse::responses`].
    TopicProduceResponse {
        name: Text [0-12, ignorable],
        topic_id: Uuid [13+, ignorable],
        partition_responses: Vec<PartitionProduceResponse> [0+],
    }
}

structure! {
    /// An element of [`TopicProduceResponse::partition_responses`].
    PartitionProduceResponse {
        index: i32 [0+],
        error_code: i16 [0+],
        base_offset: i64 [0+],
        log_append_time_ms: i64 [2+, ignorable] = -1,
        log_start_offset: i64 [5+, ignorable] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8+, ignorable],
        error_message: Option<Text> [8+, ignorable],
    } tagged {
        0 current_leader: LeaderIdAndEpoch [10+],
    }
}

structure! {
    /// An element of [`PartitionProduceResponse::record_errors`].
    BatchIndexAndErrorMessage {
        batch_index: i32 [8+],
        batch_index_error_message: Option<Text> [8+],
    }
}

structure! {
    /// The value of [`PartitionProduceResponse::current_leader`].
    LeaderIdAndEpoch {
        leader_id: i32 [10+] = -1,
        leader_epoch: i32 [10+] = -1,
    }
}

structure! {
    /// An element of [`ProduceResponse::node_endpoints`].
    NodeEndpoint {
        node_id: i32 [10+],
        host: Text [10+],
        port: i32 [10+],
        rack: Option<Text> [10+],
    }
}
