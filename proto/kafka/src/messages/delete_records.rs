//! `DeleteRecords`: moves the log start offset of partitions up.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The offsets below which records go.
    DeleteRecordsRequest [0-2, flexible 2+] {
        topics: Vec<DeleteRecordsTopic> [0+],
        timeout_ms: i32 [0+],
    }
}

structure! {
    /// An element of [`DeleteRecordsRequest::topics`].
    DeleteRecordsTopic {
        name: Text [0+],
        partitions: Vec<DeleteRecordsPartition> [0+],
    }
}

structure! {
    /// An element of [`DeleteRecordsTopic::partitions`].
    DeleteRecordsPartition {
        partition_index: i32 [0+],
        offset: i64 [0+],
    }
}

message! {
    /// The new low watermarks.
    DeleteRecordsResponse [0-2, flexible 2+] {
        throttle_time_ms: i32 [0+],
        topics: Vec<DeleteRecordsTopicResult> [0+],
    }
}

structure! {
    /// An element of [`DeleteRecordsResponse::topics`].
    DeleteRecordsTopicResult {
        name: Text [0+],
        partitions: Vec<DeleteRecordsPartitionResult> [0+],
    }
}

structure! {
    /// An element of [`DeleteRecordsTopicResult::partitions`].
    DeleteRecordsPartitionResult {
        partition_index: i32 [0+],
        low_watermark: i64 [0+],
        error_code: i16 [0+],
    }
}
