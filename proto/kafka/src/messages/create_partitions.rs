//! `CreatePartitions`: adds partitions to topics.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The topics and their new partition counts.
    CreatePartitionsRequest [0-3, flexible 2+] {
        topics: Vec<CreatePartitionsTopic> [0+],
        timeout_ms: i32 [0+],
        validate_only: bool [0+],
    }
}

structure! {
    /// An element of [`CreatePartitionsRequest::topics`].
    CreatePartitionsTopic {
        name: Text [0+],
        count: i32 [0+],
        assignments: Option<Vec<CreatePartitionsAssignment>> [0+],
    }
}

structure! {
    /// An element of [`CreatePartitionsTopic::assignments`].
    CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0+],
    }
}

message! {
    /// The outcome by topic.
    CreatePartitionsResponse [0-3, flexible 2+] {
        throttle_time_ms: i32 [0+],
        results: Vec<CreatePartitionsTopicResult> [0+],
    }
}

structure! {
    /// An element of [`CreatePartitionsResponse::results`].
    CreatePartitionsTopicResult {
        name: Text [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
