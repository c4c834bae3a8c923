//! `DescribeLogDirs`: data directories and how much of them partitions take.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The partitions of interest; none given means all.
    DescribeLogDirsRequest [1-5, flexible 2+] {
        topics: Option<Vec<DescribableLogDirTopic>> [0+],
    }
}

structure! {
    /// An element of [`DescribeLogDirsRequest::topics`].
    DescribableLogDirTopic {
        topic: Text [0+],
        partitions: Vec<i32> [0+],
    }
}

message! {
    /// The directories with their partitions.
    DescribeLogDirsResponse [1-5, flexible 2+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [3+, ignorable],
        results: Vec<DescribeLogDirsResult> [0+],
    }
}

structure! {
    /// An element of [`DescribeLogDirsResponse::results`].
    DescribeLogDirsResult {
        error_code: i16 [0+],
        log_dir: Text [0+],
        topics: Vec<DescribeLogDirsTopic> [0+],
        total_bytes: i64 [4+, ignorable] = -1,
        usable_bytes: i64 [4+, ignorable] = -1,
        is_cordoned: bool [5+, ignorable],
    }
}

structure! {
    /// An element of [`DescribeLogDirsResult::topics`].
    DescribeLogDirsTopic {
        name: Text [0+],
        partitions: Vec<DescribeLogDirsPartition> [0+],
    }
}

structure! {
    /// An element of [`DescribeLogDirsTopic::partitions`].
    DescribeLogDirsPartition {
        partition_index: i32 [0+],
        partition_size: i64 [0+],
        offset_lag: i64 [0+],
        is_future_key: bool [0+],
    }
}
