//! `DescribeQuorum`: the state of the metadata quorum.

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The partitions of the metadata log.
    DescribeQuorumRequest [0-2, flexible 0+] {
        topics: Vec<TopicData> [0+],
    }
}

structure! {
    /// An element of [`DescribeQuorumRequest::topics`].
    TopicData {
        topic_name: Text [0+],
        partitions: Vec<PartitionData> [0+],
    }
}

structure! {
    /// An element of [`TopicData::partitions`].
    PartitionData {
        partition_index: i32 [0+],
    }
}

message! {
    /// Leader, voters and observers.
    DescribeQuorumResponse [0-2, flexible 0+] {
        error_code: i16 [0+],
        error_message: Option<Text> [2+, ignorable],
        topics: Vec<TopicDataResult> [0+],
        nodes: Vec<Node> [2+],
    }
}

structure! {
    /// An element of [`DescribeQuorumResponse::topics`].
    TopicDataResult {
        topic_name: Text [0+],
        partitions: Vec<PartitionDataResult> [0+],
    }
}

structure! {
    /// An element of [`TopicDataResult::partitions`].
    PartitionDataResult {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [2+, ignorable],
        leader_id: i32 [0+],
        leader_epoch: i32 [0+],
        high_watermark: i64 [0+],
        current_voters: Vec<ReplicaState> [0+],
        observers: Vec<ReplicaState> [0+],
    }
}

structure! {
    /// An element of [`PartitionDataResult::current_voters`].
    ReplicaState {
        replica_id: i32 [0+],
        replica_directory_id: Uuid [2+],
        log_end_offset: i64 [0+],
        last_fetch_timestamp: i64 [1+, ignorable] = -1,
        last_caught_up_timestamp: i64 [1+, ignorable] = -1,
    }
}

structure! {
    /// An element of [`DescribeQuorumResponse::nodes`].
    Node {
        node_id: i32 [2+],
        listeners: Vec<Listener> [2+],
    }
}

structure! {
    /// An element of [`Node::listeners`].
    Listener {
        name: Text [2+],
        host: Text [2+],
        port: u16 [2+],
    }
}
