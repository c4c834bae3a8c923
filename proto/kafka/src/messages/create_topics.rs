//! `CreateTopics`: creates topics.

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The topics, with sizes, placements and settings.
    CreateTopicsRequest [2-7, flexible 5+] {
        topics: Vec<CreatableTopic> [0+],
        timeout_ms: i32 [0+] = 60000,
        validate_only: bool [1+],
    }
}

structure! {
    /// An element of [`CreateTopicsRequest::topics`].
    CreatableTopic {
        name: Text [0+],
        num_partitions: i32 [0+],
        replication_factor: i16 [0+],
        assignments: Vec<CreatableReplicaAssignment> [0+],
        configs: Vec<CreatableTopicConfig> [0+],
    }
}

structure! {
    /// An element of [`CreatableTopic::assignments`].
    CreatableReplicaAssignment {
        partition_index: i32 [0+],
        broker_ids: Vec<i32> [0+],
    }
}

structure! {
    /// An element of [`CreatableTopic::configs`].
    CreatableTopicConfig {
        name: Text [0+],
        value: Option<Text> [0+],
    }
}

message! {
    /// The outcome by topic, with its settings from version 5 on.
    CreateTopicsResponse [2-7, flexible 5+] {
        throttle_time_ms: i32 [2+, ignorable],
        topics: Vec<CreatableTopicResult> [0+],
    }
}

structure! {
    /// An element of [`CreateTopicsResponse::topics`].
    CreatableTopicResult {
        name: Text [0+],
        topic_id: Uuid [7+, ignorable],
        error_code: i16 [0+],
        error_message: Option<Text> [1+, ignorable],
        num_partitions: i32 [5+, ignorable] = -1,
        replication_factor: i16 [5+, ignorable] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5+, ignorable],
    } tagged {
        0 topic_config_error_code: i16 [5+, ignorable],
    }
}

structure! {
    /// An element of [`CreatableTopicResult::configs`].
    CreatableTopicConfigs {
        name: Text [5+],
        value: Option<Text> [5+],
        read_only: bool [5+],
        config_source: i8 [5+, ignorable] = -1,
        is_sensitive: bool [5+],
    }
}
