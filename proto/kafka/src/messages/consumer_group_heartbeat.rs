//! `ConsumerGroupHeartbeat`: the one call of a member of a consumer group (KIP-848).

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// What the member subscribes to and owns; what has not changed is left out.
    ConsumerGroupHeartbeatRequest [0-1, flexible 0+] {
        group_id: Text [0+],
        member_id: Text [0+],
        member_epoch: i32 [0+],
        instance_id: Option<Text> [0+],
        rack_id: Option<Text> [0+],
        rebalance_timeout_ms: i32 [0+] = -1,
        subscribed_topic_names: Option<Vec<Text>> [0+],
        subscribed_topic_regex: Option<Text> [1+],
        server_assignor: Option<Text> [0+],
        topic_partitions: Option<Vec<TopicPartitions>> [0+],
    }
}

structure! {
    /// An element of [`ConsumerGroupHeartbeatRequest::topic_partitions`].
    TopicPartitions {
        topic_id: Uuid [0+],
        partitions: Vec<i32> [0+],
    }
}

message! {
    /// The member's epoch and, when it changed, its assignment.
    ConsumerGroupHeartbeatResponse [0-1, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        member_id: Option<Text> [0+],
        member_epoch: i32 [0+],
        heartbeat_interval_ms: i32 [0+],
        assignment: Option<Assignment> [0+],
    }
}

structure! {
    /// The value of [`ConsumerGroupHeartbeatResponse::assignment`].
    Assignment {
        topic_partitions: Vec<TopicPartitions> [0+],
    }
}
