//! `TxnOffsetCommit`: commits a group's offsets within a transaction.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The offsets, the transaction and the member.
    TxnOffsetCommitRequest [0-5, flexible 3+] {
        transactional_id: Text [0+],
        group_id: Text [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        generation_id: i32 [3+] = -1,
        member_id: Text [3+],
        group_instance_id: Option<Text> [3+],
        topics: Vec<TxnOffsetCommitRequestTopic> [0+],
    }
}

structure! {
    /// An element of [`TxnOffsetCommitRequest::topics`].
    TxnOffsetCommitRequestTopic {
        name: Text [0+],
        partitions: Vec<TxnOffsetCommitRequestPartition> [0+],
    }
}

structure! {
    /// An element of [`TxnOffsetCommitRequestTopic::partitions`].
    TxnOffsetCommitRequestPartition {
        partition_index: i32 [0+],
        committed_offset: i64 [0+],
        committed_leader_epoch: i32 [2+, ignorable] = -1,
        committed_metadata: Option<Text> [0+],
    }
}

message! {
    /// The outcome by partition.
    TxnOffsetCommitResponse [0-5, flexible 3+] {
        throttle_time_ms: i32 [0+],
        topics: Vec<TxnOffsetCommitResponseTopic> [0+],
    }
}

structure! {
    /// An element of [`TxnOffsetCommitResponse::topics`].
    TxnOffsetCommitResponseTopic {
        name: Text [0+],
        partitions: Vec<TxnOffsetCommitResponsePartition> [0+],
    }
}

structure! {
    /// An element of [`TxnOffsetCommitResponseTopic::partitions`].
    TxnOffsetCommitResponsePartition {
        partition_index: i32 [0+],
        error_code: i16 [0+],
    }
}
