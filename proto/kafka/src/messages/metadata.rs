//! `Metadata`: brokers, topics and who leads their partitions.

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// Which topics to describe; none given means all.
    MetadataRequest [0-13, flexible 9+] {
        topics: Option<Vec<MetadataRequestTopic>> [0+, nullable 1+],
        allow_auto_topic_creation: bool [4+] = true,
        include_cluster_authorized_operations: bool [8-10],
        include_topic_authorized_operations: bool [8+],
    }
}

structure! {
    /// An element of [`MetadataRequest::topics`].
    MetadataRequestTopic {
        topic_id: Uuid [10+, ignorable],
        name: Option<Text> [0+, nullable 10+],
    }
}

message! {
    /// Brokers, controller, topics and partitions.
    MetadataResponse [0-13, flexible 9+] {
        throttle_time_ms: i32 [3+, ignorable],
        brokers: Vec<MetadataResponseBroker> [0+],
        cluster_id: Option<Text> [2+, ignorable],
        controller_id: i32 [1+, ignorable] = -1,
        topics: Vec<MetadataResponseTopic> [0+],
        cluster_authorized_operations: i32 [8-10] = i32::MIN,
        error_code: i16 [13+, ignorable],
    }
}

structure! {
    /// An element of [`MetadataResponse::brokers`].
    MetadataResponseBroker {
        node_id: i32 [0+],
        host: Text [0+],
        port: i32 [0+],
        rack: Option<Text> [1+, ignorable],
    }
}

structure! {
    /// An element of [`MetadataResponse::topics`].
    MetadataResponseTopic {
        error_code: i16 [0+],
        name: Option<Text> [0+, nullable 12+],
        topic_id: Uuid [10+, ignorable],
        is_internal: bool [1+, ignorable],
        partitions: Vec<MetadataResponsePartition> [0+],
        topic_authorized_operations: i32 [8+] = i32::MIN,
    }
}

structure! {
    /// An element of [`MetadataResponseTopic::partitions`].
    MetadataResponsePartition {
        error_code: i16 [0+],
        partition_index: i32 [0+],
        leader_id: i32 [0+],
        leader_epoch: i32 [7+, ignorable] = -1,
        replica_nodes: Vec<i32> [0+],
        isr_nodes: Vec<i32> [0+],
        offline_replicas: Vec<i32> [5+, ignorable],
    }
}
