//! `OffsetDelete`: forgets committed offsets of a group.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The group and the partitions.
    OffsetDeleteRequest [0-0] {
        group_id: Text [0+],
        topics: Vec<OffsetDeleteRequestTopic> [0+],
    }
}

structure! {
    /// An element of [`OffsetDeleteRequest::topics`].
    OffsetDeleteRequestTopic {
        name: Text [0+],
        partitions: Vec<OffsetDeleteRequestPartition> [0+],
    }
}

structure! {
    /// An element of [`OffsetDeleteRequestTopic::partitions`].
    OffsetDeleteRequestPartition {
        partition_index: i32 [0+],
    }
}

message! {
    /// The outcome by partition.
    OffsetDeleteResponse [0-0] {
        error_code: i16 [0+],
        throttle_time_ms: i32 [0+, ignorable],
        topics: Vec<OffsetDeleteResponseTopic> [0+],
    }
}

structure! {
    /// An element of [`OffsetDeleteResponse::topics`].
    OffsetDeleteResponseTopic {
        name: Text [0+],
        partitions: Vec<OffsetDeleteResponsePartition> [0+],
    }
}

structure! {
    /// An element of [`OffsetDeleteResponseTopic::partitions`].
    OffsetDeleteResponsePartition {
        partition_index: i32 [0+],
        error_code: i16 [0+],
    }
}
