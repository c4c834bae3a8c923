//! `ElectLeaders`: has partitions elect leaders.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The partitions and the kind of election.
    ElectLeadersRequest [0-2, flexible 2+] {
        election_type: i8 [1+],
        topic_partitions: Option<Vec<TopicPartitions>> [0+],
        timeout_ms: i32 [0+] = 60000,
    }
}

structure! {
    /// An element of [`ElectLeadersRequest::topic_partitions`].
    TopicPartitions {
        topic: Text [0+],
        partitions: Vec<i32> [0+],
    }
}

message! {
    /// The outcome by partition.
    ElectLeadersResponse [0-2, flexible 2+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [1+],
        replica_election_results: Vec<ReplicaElectionResult> [0+],
    }
}

structure! {
    /// An element of [`ElectLeadersResponse::replica_election_results`].
    ReplicaElectionResult {
        topic: Text [0+],
        partition_result: Vec<PartitionResult> [0+],
    }
}

structure! {
    /// An element of [`ReplicaElectionResult::partition_result`].
    PartitionResult {
        partition_id: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
