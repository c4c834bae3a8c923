//! `OffsetFetch`: reads what groups have committed.

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The groups and partitions whose committed offsets are wanted.
    OffsetFetchRequest [1-10, flexible 6+] {
        group_id: Text [0-7],
        topics: Option<Vec<OffsetFetchRequestTopic>> [0-7, nullable 2-7],
        groups: Vec<OffsetFetchRequestGroup> [8+],
        require_stable: bool [7+],
    }
}

structure! {
    /// An element of [`OffsetFetchRequest::topics`].
    OffsetFetchRequestTopic {
        name: Text [0-7],
        partition_indexes: Vec<i32> [0-7],
    }
}

structure! {
    /// An element of [`OffsetFetchRequest::groups`].
    OffsetFetchRequestGroup {
        group_id: Text [8+],
        member_id: Option<Text> [9+, ignorable],
        member_epoch: i32 [9+, ignorable] = -1,
        topics: Option<Vec<OffsetFetchRequestTopics>> [8+],
    }
}

structure! {
    /// An element of [`OffsetFetchRequestGroup::topics`].
    OffsetFetchRequestTopics {
        name: Text [8-9, ignorable],
        topic_id: Uuid [10+, ignorable],
        partition_indexes: Vec<i32> [8+],
    }
}

message! {
    /// Committed offsets by group and partition; -1 where there is none.
    OffsetFetchResponse [1-10, flexible 6+] {
        throttle_time_ms: i32 [3+, ignorable],
        topics: Vec<OffsetFetchResponseTopic> [0-7],
        error_code: i16 [2-7, ignorable],
        groups: Vec<OffsetFetchResponseGroup> [8+],
    }
}

structure! {
    /// An element of [`OffsetFetchResponse::topics`].
    OffsetFetchResponseTopic {
        name: Text [0-7],
        partitions: Vec<OffsetFetchResponsePartition> [0-7],
    }
}

structure! {
    /// An element of [`OffsetFetchResponseTopic::partitions`].
    OffsetFetchResponsePartition {
        partition_index: i32 [0-7],
        committed_offset: i64 [0-7],
        committed_leader_epoch: i32 [5-7, ignorable] = -1,
        metadata: Option<Text> [0-7],
        error_code: i16 [0-7],
    }
}

structure! {
    /// An element of [`OffsetFetchResponse::groups`].
    OffsetFetchResponseGroup {
        group_id: Text [8+],
        topics: Vec<OffsetFetchResponseTopics> [8+],
        error_code: i16 [8+],
    }
}

structure! {
    /// An element of [`OffsetFetchResponseGroup::topics`].
    OffsetFetchResponseTopics {
        name: Text [8-9, ignorable],
        topic_id: Uuid [10+, ignorable],
        partitions: Vec<OffsetFetchResponsePartitions> [8+],
    }
}

structure! {
    /// An element of [`OffsetFetchResponseTopics::partitions`].
    OffsetFetchResponsePartitions {
        partition_index: i32 [8+],
        committed_offset: i64 [8+],
        committed_leader_epoch: i32 [8+, ignorable] = -1,
        metadata: Option<Text> [8+],
        error_code: i16 [8+],
    }
}
