//! `Fetch`: reads record batches of partitions, within a fetch session or without.

use bytes::Bytes;
use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// From which offset to read each partition, and how long to wait for how much.
    FetchRequest [4-18, flexible 12+] {
        replica_id: i32 [0-14] = -1,
        max_wait_ms: i32 [0+],
        min_bytes: i32 [0+],
        max_bytes: i32 [3+, ignorable] = i32::MAX,
        isolation_level: i8 [4+, ignorable],
        session_id: i32 [7+, ignorable],
        session_epoch: i32 [7+, ignorable] = -1,
        topics: Vec<FetchTopic> [0+],
        forgotten_topics_data: Vec<ForgottenTopic> [7+],
        rack_id: Text [11+, ignorable],
    } tagged {
        0 cluster_id: Option<Text> [12+, ignorable],
        1 replica_state: ReplicaState [15+],
    }
}

structure! {
    /// The value of [`FetchRequest::replica_state`].
    ReplicaState {
        replica_id: i32 [15+] = -1,
        replica_epoch: i64 [15+] = -1,
    }
}

structure! {
    /// An element of [`FetchRequest::topics`].
    FetchTopic {
        topic: Text [0-12, ignorable],
        topic_id: Uuid [13+, ignorable],
        partitions: Vec<FetchPartition> [0+],
    }
}

structure! {
    /// An element of [`FetchTopic::partitions`].
    FetchPartition {
        partition: i32 [0+],
        current_leader_epoch: i32 [9+, ignorable] = -1,
        fetch_offset: i64 [0+],
        last_fetched_epoch: i32 [12+] = -1,
        log_start_offset: i64 [5+, ignorable] = -1,
        partition_max_bytes: i32 [0+],
    } tagged {
        0 replica_directory_id: Uuid [17+, ignorable],
        1 high_watermark: i64 [18+, ignorable] = i64::MAX,
    }
}

structure! {
    /// An element of [`FetchRequest::forgotten_topics_data`].
    ForgottenTopic {
        topic: Text [7-12, ignorable],
        topic_id: Uuid [13+, ignorable],
        partitions: Vec<i32> [7+],
    }
}

message! {
    /// Record batches as stored, and the ends of each partition.
    FetchResponse [4-18, flexible 12+] {
        throttle_time_ms: i32 [1+, ignorable],
        error_code: i16 [7+, ignorable],
        session_id: i32 [7+],
        responses: Vec<FetchableTopicResponse> [0+],
    } tagged {
        0 node_endpoints: Vec<NodeEndpoint> [16+],
    }
}

structure! {
    /// An element of [`FetchResponse::responses`].
    FetchableTopicResponse {
        topic: Text [0-12, ignorable],
        topic_id: Uuid [13+, ignorable],
        partitions: Vec<PartitionData> [0+],
    }
}

structure! {
    /// An element of [`FetchableTopicResponse::partitions`].
    PartitionData {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        high_watermark: i64 [0+],
        last_stable_offset: i64 [4+, ignorable] = -1,
        log_start_offset: i64 [5+, ignorable] = -1,
        aborted_transactions: Option<Vec<AbortedTransaction>> [4+, ignorable],
        preferred_read_replica: i32 [11+] = -1,
        records: Option<Bytes> [0+],
    } tagged {
        0 diverging_epoch: EpochEndOffset [12+],
        1 current_leader: LeaderIdAndEpoch [12+],
        2 snapshot_id: SnapshotId [12+],
    }
}

structure! {
    /// The value of [`PartitionData::diverging_epoch`].
    EpochEndOffset {
        epoch: i32 [12+] = -1,
        end_offset: i64 [12+] = -1,
    }
}

structure! {
    /// The value of [`PartitionData::current_leader`].
    LeaderIdAndEpoch {
        leader_id: i32 [12+] = -1,
        leader_epoch: i32 [12+] = -1,
    }
}

structure! {
    /// The value of [`PartitionData::snapshot_id`].
    SnapshotId {
        end_offset: i64 [0+] = -1,
        epoch: i32 [0+] = -1,
    }
}

structure! {
    /// An element of [`PartitionData::aborted_transactions`].
    AbortedTransaction {
        producer_id: i64 [4+],
        first_offset: i64 [4+],
    }
}

structure! {
    /// An element of [`FetchResponse::node_endpoints`].
    NodeEndpoint {
        node_id: i32 [16+],
        host: Text [16+],
        port: i32 [16+],
        rack: Option<Text> [16+],
    }
}
