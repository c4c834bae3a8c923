//! `OffsetForLeaderEpoch`: where a leader epoch ends.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The epochs asked about, by partition.
    OffsetForLeaderEpochRequest [2-4, flexible 4+] {
        replica_id: i32 [3+, ignorable] = -2,
        topics: Vec<OffsetForLeaderTopic> [0+],
    }
}

structure! {
    /// An element of [`OffsetForLeaderEpochRequest::topics`].
    OffsetForLeaderTopic {
        topic: Text [0+],
        partitions: Vec<OffsetForLeaderPartition> [0+],
    }
}

structure! {
    /// An element of [`OffsetForLeaderTopic::partitions`].
    OffsetForLeaderPartition {
        partition: i32 [0+],
        current_leader_epoch: i32 [2+, ignorable] = -1,
        leader_epoch: i32 [0+],
    }
}

message! {
    /// The end offset of each epoch.
    OffsetForLeaderEpochResponse [2-4, flexible 4+] {
        throttle_time_ms: i32 [2+, ignorable],
        topics: Vec<OffsetForLeaderTopicResult> [0+],
    }
}

structure! {
    /// An element of [`OffsetForLeaderEpochResponse::topics`].
    OffsetForLeaderTopicResult {
        topic: Text [0+],
        partitions: Vec<EpochEndOffset> [0+],
    }
}

structure! {
    /// An element of [`OffsetForLeaderTopicResult::partitions`].
    EpochEndOffset {
        error_code: i16 [0+],
        partition: i32 [0+],
        leader_epoch: i32 [1+, ignorable] = -1,
        end_offset: i64 [0+] = -1,
    }
}
